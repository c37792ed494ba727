"""Leases of files: which due ones are fetched next, in fair shares for every provider and its hosts.

Whoever has the fewest files under way comes first, so a host that hangs holds the places it has got and no
more; among equals, whoever's last turn was longest ago. Hosts that sent nothing lately leave a place to those
that did, however many they are. Of one host it is a file that was tried less, and of these the one whose link
dies first.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby

import msgspec

from receiver.links import HASHES
from receiver.models import AssetWork, FetchLoad, FetchShare
from receiver.record.cursor import Cursor
from receiver.record.rows import ByKeys, fetch_all, read_all, to_values
from receiver.times import from_text, from_text_if_any, to_text

# Of one provider, so many hosts are looked at, beginning anywhere: with more of them, each has its turn.
MOST_HOSTS = 32

NEXT_PROVIDER = """
SELECT provider FROM assets WHERE state = 'pending' AND provider > :provider ORDER BY provider LIMIT 1
"""

# Hosts with files that nobody tried, all of which are due, and hosts with others.
NEXT_UNTRIED_HOST = """
SELECT host_hash FROM assets
WHERE state = 'pending' AND provider = :provider AND (attempts = 0 AND outcome IS NULL) = 1
    AND host_hash > :host
ORDER BY host_hash LIMIT 1
"""
NEXT_TRIED_HOST = """
SELECT host_hash FROM assets
WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL) AND provider = :provider
    AND host_hash > :host
ORDER BY host_hash LIMIT 1
"""

# Of one host, the due files that nobody tried, those whose links die first.
UNTRIED = """
SELECT -1 AS tried, deadline_at, event, position FROM assets
WHERE state = 'pending' AND provider = :provider AND (attempts = 0 AND outcome IS NULL) = 1
    AND host_hash = :host AND due_at <= :now
ORDER BY deadline_at LIMIT :limit
"""
# The same of those that were tried so often. Most of them wait for their time, so looking begins with those
# that are due; where they are a great many, it is the first of those that waited longest.
TRIED = """
SELECT :tried AS tried, deadline_at, event, position FROM
    (SELECT deadline_at, event, position FROM assets
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL) AND provider = :provider
        AND host_hash = :host AND min(attempts, 3) = :tried AND due_at <= :now
    ORDER BY due_at LIMIT 500) longest
ORDER BY deadline_at LIMIT :limit
"""
TIMES_TRIED = (0, 1, 2, 3)  # times that count; 3 is three or more, as the index says it

UNTRIED_DUE_AT = """
SELECT due_at FROM assets
WHERE state = 'pending' AND provider = :provider AND (attempts = 0 AND outcome IS NULL) = 1
    AND host_hash = :host
ORDER BY deadline_at LIMIT 1
"""
TRIED_DUE_AT = """
SELECT min((SELECT min(due_at) FROM assets
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL) AND provider = :provider
        AND host_hash = :host AND min(attempts, 3) = tried.value))
FROM (SELECT 0 AS value UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) tried
"""

LEASE_ASSET = """
UPDATE assets SET lease = :lease, due_at = :until, attempts = attempts + 1
WHERE event = :event AND position = :position
"""

_LEASED = """
SELECT a.event AS event, e.id AS event_id, s.provider, s.task_id, s.owner, a.position AS "index", l.url,
    a.kind,
    a.host_hash, a.attempts AS attempt, a.outcome AS last, a.alike, a.deadline_at, s.model, a.renewed,
    a.replay_id, e.received_at,
    (SELECT coalesce(sum(bytes), 0) FROM assets WHERE event = a.event AND state = 'stored') AS stored_bytes
"""
LEASED = ByKeys(
    _LEASED,
    "assets a CROSS JOIN events e ON e.number = a.event CROSS JOIN submissions s ON s.number = a.event"
    " CROSS JOIN links l ON l.event = a.event AND l.position = a.position",
    ["a.event", "a.position"],
)


class _Head(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """The next file of a share; the least is the first: by how much it was tried, and when its link dies."""

    tried: int  # times; -1: nobody did
    deadline_at: str
    event: int
    position: int


class _FetchSlots:
    """How many files of each provider and host are under way, and whose turn it is."""

    def __init__(self, load: FetchLoad) -> None:
        self._load = load
        self._running: Counter[str | FetchShare] = Counter()
        self._unproven: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._turns: dict[str | FetchShare, int] = {}
        for share, count in load.running.items():
            self._count(share, count)
        for share in load.recent:
            self._turn(share)

    def take(self, share: FetchShare) -> None:
        self._count(share, 1)
        self._turn(share)

    def has_room(self, share: FetchShare) -> bool:
        load, provider = self._load, share[0]
        of_provider, of_host = self._running[provider], self._running[share]
        if of_provider >= load.most_of_provider or of_host >= load.most_of_host:
            return False
        return share in load.proven or (
            of_host < load.most_of_unproven_host and self._unproven[provider] < load.most_of_unproven
        )

    def turn(self, share: FetchShare) -> tuple[int, ...]:
        """The least is the next."""
        return tuple(
            number
            for sharer in (share[0], share)
            for number in (self._running[sharer], self._turns.get(sharer, 0))
        )

    def _turn(self, share: FetchShare) -> None:
        self._turns[share] = self._turns[share[0]] = next(self._numbers)

    def _count(self, share: FetchShare, count: int) -> None:
        self._running[share] += count
        self._running[share[0]] += count
        if share not in self._load.proven:
            self._unproven[share[0]] += count


class _Waiting:
    """Whose files wait, as far as was looked: who is known to have none of a kind is not asked for them."""

    def __init__(self, db: Cursor, load: FetchLoad, chance: float) -> None:
        providers, start = list(_providers(db)), int(chance * HASHES)
        self._untried = {each: _hosts(db, NEXT_UNTRIED_HOST, each, start) for each in providers}
        self._tried = {each: _hosts(db, NEXT_TRIED_HOST, each, start) for each in providers}
        found = [
            (provider, host)
            for hosts_of in (self._untried, self._tried)
            for provider, hosts in hosts_of.items()
            for host in hosts
        ]
        # Before all come the proven hosts: among very many others few looks would see them.
        shares = dict.fromkeys([*load.proven, *found])
        self.shares = [share for share in shares if self.may_be_untried(share) or self.may_be_tried(share)]

    def may_be_untried(self, share: FetchShare) -> bool:
        return _may_be_among(self._untried, share)

    def may_be_tried(self, share: FetchShare) -> bool:
        return _may_be_among(self._tried, share)


def _may_be_among(hosts_of: Mapping[str, Sequence[int]], share: FetchShare) -> bool:
    provider, host = share
    hosts = hosts_of.get(provider, ())
    return host in hosts or len(hosts) == MOST_HOSTS  # then there may be others


def lease_assets(  # noqa: PLR0913 - by keyword, each a thing of its own
    db: Cursor,
    now: datetime,
    lease_until: datetime,
    lease: str,
    *,
    limit: int,
    retries_first: bool,
    load: FetchLoad,
    chance: float,
) -> list[AssetWork]:
    """Take due files; see ``ports.Store.lease_assets``. ``chance`` is in [0, 1)."""
    places, moment = _FetchSlots(load), to_text(now)
    waiting = _Waiting(db, load, chance)
    taken: list[_Head] = []
    if retries_first:  # one place is for what was tried before, if there is any
        tried = {
            share: _tried(db, share, moment, 1) for share in waiting.shares if waiting.may_be_tried(share)
        }
        taken = _take(tried, places, min(limit, 1))
    due = {share: _due(db, waiting, share, moment, limit) for share in waiting.shares}
    taken += _take(due, places, limit - len(taken), without=taken)
    if not taken:
        return []
    until = to_text(lease_until)
    keys = [(head.event, head.position) for head in taken]
    leased = [{"lease": lease, "until": until, "event": event, "position": at} for event, at in keys]
    db.executemany(LEASE_ASSET, leased)
    rows = {(row["event"], row["index"]): row for row in fetch_all(db.execute(*LEASED.of(keys)))}
    return to_values([rows[key] for key in keys], AssetWork, lease=lease)


def _take(
    lines: Mapping[FetchShare, Iterator[_Head]],
    places: _FetchSlots,
    most: int,
    *,
    without: Sequence[_Head] = (),
) -> list[_Head]:
    """The first files of these lines, whosever turn it is; each line is followed no further than needed."""
    heads: dict[FetchShare, _Head | None] = {}
    taken: list[_Head] = []
    while len(taken) < most and (share := _next_share(lines, heads, places)):
        head = heads.pop(share)
        assert head is not None, "it is the next for the file that it has"  # noqa: S101
        if head not in without:
            taken.append(head)
            places.take(share)
    return taken


def _next_share(
    lines: Mapping[FetchShare, Iterator[_Head]], heads: dict[FetchShare, _Head | None], places: _FetchSlots
) -> FetchShare | None:
    waiting = sorted(filter(places.has_room, lines), key=places.turn)
    for _, equals in groupby(waiting, key=places.turn):
        found = []
        for share in equals:
            if share not in heads:
                heads[share] = next(lines[share], None)
            if head := heads[share]:
                found.append((head, share))
        if found:
            _, share = min(found)
            return share
    return None


def next_due_at(db: Cursor, load: FetchLoad, chance: float) -> datetime | None:
    """When the next file is due of those that there is room for; see ``ports.Store.next_due_at``."""
    places, waiting = _FetchSlots(load), _Waiting(db, load, chance)
    moments: list[str | None] = []
    for share in filter(places.has_room, waiting.shares):
        if waiting.may_be_untried(share):
            for (due_at,) in db.execute(UNTRIED_DUE_AT, _of(share)).fetchall():
                return from_text(due_at)
        if waiting.may_be_tried(share):
            moments += db.execute(TRIED_DUE_AT, _of(share)).fetchone()
    return from_text_if_any(min(filter(None, moments), default=None))


def _providers(db: Cursor) -> Iterator[str]:
    provider = ""
    while row := db.execute(NEXT_PROVIDER, {"provider": provider}).fetchone():
        (provider,) = row
        yield provider


def _hosts(db: Cursor, step: str, provider: str, start: int) -> list[int]:
    """The first hosts from ``start`` on, and round again from the beginning."""
    hosts: list[int] = []
    for first, end in ((start, HASHES), (0, start)):
        place = first - 1
        while len(hosts) < MOST_HOSTS:
            row = db.execute(step, {"provider": provider, "host": place}).fetchone()
            (place,) = row or (HASHES,)
            if place >= end:
                break
            hosts.append(place)
    return hosts


def _due(db: Cursor, waiting: _Waiting, share: FetchShare, moment: str, limit: int) -> Iterator[_Head]:
    if waiting.may_be_untried(share):
        yield from read_all(db.execute(UNTRIED, {**_of(share), "now": moment, "limit": limit}), _Head)
    if waiting.may_be_tried(share):
        yield from _tried(db, share, moment, limit)


def _tried(db: Cursor, share: FetchShare, moment: str, limit: int) -> Iterator[_Head]:
    values = {**_of(share), "now": moment, "limit": limit}
    for tried in TIMES_TRIED:
        values["tried"] = tried
        yield from read_all(db.execute(TRIED, values), _Head)


def _of(share: FetchShare) -> dict[str, object]:
    provider, host = share
    return {"provider": provider, "host": host}
