"""Which due files are fetched next: a fair share for every provider, and in it for every host.

Whoever has the fewest files under way comes first, so a host that hangs holds the places it has got and no
more; among equals, whoever's last turn was longest ago. Of one host it is a file that was tried less, and of
these the one whose link dies first.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from receiver.links import HASHES
from receiver.models import AssetWork, FetchLoad, FetchShare, Outcome
from receiver.record.cursor import Cursor
from receiver.times import from_text, from_text_if_any, to_text

# Of one provider, so many hosts are looked at, beginning anywhere: with more of them, each has its turn.
MOST_HOSTS = 32

NEXT_PROVIDER = """
SELECT provider FROM assets WHERE state = 'pending' AND provider > ? ORDER BY provider LIMIT 1
"""

# Hosts with files that nobody tried, all of which are due, and hosts with others.
NEXT_UNTRIED_HOST = """
SELECT host_hash FROM assets
WHERE state = 'pending' AND provider = ? AND (attempts = 0 AND outcome IS NULL) = 1 AND host_hash > ?
ORDER BY host_hash LIMIT 1
"""
NEXT_TRIED_HOST = """
SELECT host_hash FROM assets
WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL) AND provider = ? AND host_hash > ?
ORDER BY host_hash LIMIT 1
"""

# Of one host, the due files that nobody tried, those whose links die first.
UNTRIED = """
SELECT deadline_at, event, position FROM assets
WHERE state = 'pending' AND provider = ?1 AND (attempts = 0 AND outcome IS NULL) = 1 AND host_hash = ?2
    AND due_at <= ?3
ORDER BY deadline_at LIMIT ?4
"""
# The same of those that were tried so often. Most of them wait for their time, so looking begins with those
# that are due; where they are a great many, it is the first of those that waited longest.
TRIED = """
SELECT deadline_at, event, position FROM
    (SELECT deadline_at, event, position FROM assets
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL) AND provider = ?1
        AND host_hash = ?2 AND min(attempts, 3) = ?5 AND due_at <= ?3
    ORDER BY due_at LIMIT 500)
ORDER BY deadline_at LIMIT ?4
"""
TIMES_TRIED = (0, 1, 2, 3)  # times that count; 3 is three or more, as the index says it

UNTRIED_DUE_AT = """
SELECT due_at FROM assets
WHERE state = 'pending' AND provider = ? AND (attempts = 0 AND outcome IS NULL) = 1 AND host_hash = ?
ORDER BY deadline_at LIMIT 1
"""
TRIED_DUE_AT = """
SELECT min((SELECT min(due_at) FROM assets
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL) AND provider = ?1
        AND host_hash = ?2 AND min(attempts, 3) = tried.value))
FROM json_each('[0, 1, 2, 3]') tried
"""

LEASE_ASSET = """
UPDATE assets SET lease = ?, due_at = ?, attempts = attempts + 1 WHERE event = ? AND position = ?
"""

LEASED = """
SELECT e.id, s.provider, s.task_id, a.position, a.url, a.kind, a.host_hash, a.attempts, a.outcome, a.alike,
    a.deadline_at, s.model, a.renewed, a.replay_id,
    (SELECT coalesce(sum(bytes), 0) FROM assets WHERE event = a.event AND state = 'stored')
FROM assets a JOIN events e ON e.number = a.event JOIN submissions s ON s.number = a.event
WHERE a.event = ? AND a.position = ?
"""

# A file is known by its event and its place there. Of the next of a share, how much it was tried and when its
# link dies come first.
Key = tuple[int, int]
Head = tuple[int, str, int, int]


class _Places:
    """How many files of each provider and host are under way, and whose turn it is."""

    def __init__(self, load: FetchLoad) -> None:
        self._load = load
        self._running: Counter[str | FetchShare] = Counter(load.running)
        for (provider, _), count in load.running.items():
            self._running[provider] += count
        self._numbers = itertools.count(1)
        self._turns: dict[str | FetchShare, int] = {}
        for share in load.recent:
            self._turn(share)

    def take(self, share: FetchShare) -> None:
        self._running[share] += 1
        self._running[share[0]] += 1
        self._turn(share)

    def has_room(self, share: FetchShare) -> bool:
        of_provider, of_host = self._running[share[0]], self._running[share]
        return of_provider < self._load.most_of_provider and of_host < self._load.most_of_host

    def turn(self, share: FetchShare) -> tuple[int, ...]:
        """The least is the next."""
        return tuple(
            number
            for sharer in (share[0], share)
            for number in (self._running[sharer], self._turns.get(sharer, 0))
        )

    def _turn(self, share: FetchShare) -> None:
        self._turns[share] = self._turns[share[0]] = next(self._numbers)


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
    places, moment = _Places(load), to_text(now)
    shares = list(dict.fromkeys(_shares(db, chance)))
    taken: list[Key] = []
    if retries_first:  # one place is for what was tried before, if there is any
        tried = {share: _tried(db, share, moment, 1) for share in shares}
        taken = _take(tried, places, min(limit, 1))
    due = {share: _due(db, share, moment, limit) for share in shares}
    taken += _take(due, places, limit - len(taken), without=taken)
    until = to_text(lease_until)
    db.executemany(LEASE_ASSET, [(lease, until, *key) for key in taken])
    return [_work(db.execute(LEASED, key).fetchone(), lease) for key in taken]


def _take(
    lines: Mapping[FetchShare, Iterator[Head]], places: _Places, most: int, *, without: Sequence[Key] = ()
) -> list[Key]:
    """The first files of these lines, whosever turn it is; each line is followed no further than needed."""
    heads: dict[FetchShare, Head | None] = {}
    taken: list[Key] = []
    while len(taken) < most and (share := _next_share(lines, heads, places)):
        head = heads.pop(share)
        assert head is not None, "it is the next for the file that it has"  # noqa: S101
        if head[2:] not in without:
            taken.append(head[2:])
            places.take(share)
    return taken


def _next_share(
    lines: Mapping[FetchShare, Iterator[Head]], heads: dict[FetchShare, Head | None], places: _Places
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
            return min(found)[1]
    return None


def next_due_at(db: Cursor, load: FetchLoad, chance: float) -> datetime | None:
    """When the next file is due of those that there is room for; see ``ports.Store.next_due_at``."""
    places = _Places(load)
    moments: list[str | None] = []
    for share in _shares(db, chance):
        if places.has_room(share):
            untried = db.execute(UNTRIED_DUE_AT, share).fetchone()
            if untried:
                return from_text(untried[0])
            moments += db.execute(TRIED_DUE_AT, share).fetchone()
    return from_text_if_any(min(filter(None, moments), default=None))


def _shares(db: Cursor, chance: float) -> Iterator[FetchShare]:
    """Whose files wait: first those that have some that nobody tried, and then, perhaps again, the others."""
    providers = list(_providers(db))
    start = int(chance * HASHES)
    for step in (NEXT_UNTRIED_HOST, NEXT_TRIED_HOST):
        for provider in providers:
            for host in _hosts(db, step, provider, start):
                yield provider, host


def _providers(db: Cursor) -> Iterator[str]:
    provider = ""
    while row := db.execute(NEXT_PROVIDER, (provider,)).fetchone():
        (provider,) = row
        yield provider


def _hosts(db: Cursor, step: str, provider: str, start: int) -> list[int]:
    """The first hosts from ``start`` on, and round again from the beginning."""
    hosts: list[int] = []
    for first, end in ((start, HASHES), (0, start)):
        place = first - 1
        while len(hosts) < MOST_HOSTS and (row := db.execute(step, (provider, place)).fetchone()):
            (place,) = row
            if place >= end:
                break
            hosts.append(place)
    return hosts


def _due(db: Cursor, share: FetchShare, moment: str, limit: int) -> Iterator[Head]:
    for key in db.execute(UNTRIED, (*share, moment, limit)).fetchall():
        yield (-1, *key)
    yield from _tried(db, share, moment, limit)


def _tried(db: Cursor, share: FetchShare, moment: str, limit: int) -> Iterator[Head]:
    for tried in TIMES_TRIED:
        for key in db.execute(TRIED, (*share, moment, limit, tried)).fetchall():
            yield (tried, *key)


def _work(row: tuple[Any, ...], lease: str) -> AssetWork:
    return AssetWork(
        event_id=row[0],
        provider=row[1],
        task_id=row[2],
        index=row[3],
        url=row[4],
        kind=row[5],
        host_hash=row[6],
        attempt=row[7],
        last=Outcome(row[8]) if row[8] else None,
        alike=row[9],
        deadline_at=from_text(row[10]),
        model=row[11],
        renewed=bool(row[12]),
        replay_id=row[13],
        lease=lease,
        stored_bytes=row[14],
    )
