"""Notifications: what a sink is due, how a leased one ends, and what is given up.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from operator import attrgetter

import msgspec

from receiver.models import (
    AnnouncedAsset,
    AnnouncedPage,
    Announcement,
    AssetState,
    Cost,
    EventType,
    OutboxWork,
    Outcome,
    Route,
    Settlement,
    Via,
)
from receiver.record.attempts import Try, keep_attempts
from receiver.record.costs import costs_of
from receiver.record.cursor import Cursor
from receiver.record.ids import notification_id
from receiver.record.leases import HELD
from receiver.record.lines import IS_BEHIND, PARK
from receiver.record.replays import WITHDRAWN, count_settled, is_being_withdrawn, is_cancelled
from receiver.record.revisions import as_announced
from receiver.record.rows import ByKeys, Row, fetch_all, find_rows, parameters
from receiver.record.windows import cursor_at

FREE_OUTBOX = f"UPDATE outbox SET lease = NULL, due_at = :now WHERE state = 'pending' AND {HELD}"  # noqa: S608

INSERT_OUTBOX = """
INSERT INTO outbox (event, sink, revision, due_at, created_at, line) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (event, sink, revision, replay_id) DO NOTHING
"""

# Whether a sink is told a newer revision of an event than an entry ``o`` of it. A filter may keep that from
# it: then the older one is all that it hears. What people replay is sent, whatever came of the event since.
_NEWER = """
(o.replay_id = '' AND EXISTS (SELECT 1 FROM outbox n
    WHERE n.event = o.event AND n.sink = o.sink AND n.revision > o.revision AND n.replay_id = ''))
"""

# What nobody holds, and a sink was not told yet of an event, before the newer revision that it is told now.
SUPERSEDE = f"""
DELETE FROM outbox AS o
WHERE event = ? AND state <> 'delivered' AND (lease IS NULL OR due_at <= ?) AND {_NEWER}
"""  # noqa: S608

_MESSAGES = """SELECT due.number, due.event, due.attempt, due.due_at, due.created_at, due.revision,
    due.replay_id, due.is_superseded, due.is_behind, due.content, e.id, s.provider, s.task_id, s.id, s.owner,
    s.model, s.metadata, s.created_at, e.received_at, e.via, e.type, e.ended_at, e.error_code,
    e.error_message, s.traceparent, s.has_charge
FROM due CROSS JOIN events e ON e.number = due.event CROSS JOIN submissions s ON s.number = due.event"""

# The due entries of one sink, in order of age, with what their messages say, and what their revisions said
# where that was kept. A newer one may have come while an older was held by somebody who died, or was a dead
# letter. Nothing else of a submission is read: its request may be large.
DUE_OUTBOX = f"""
WITH due AS (
    SELECT number, event, attempts + 1 AS attempt, due_at, created_at, revision,
        nullif(replay_id, '') AS replay_id, {_NEWER} AS is_superseded, {IS_BEHIND} AS is_behind,
        (SELECT content FROM revisions r WHERE r.event = o.event AND r.revision = o.revision) AS content
    FROM outbox o WHERE state = 'pending' AND sink = :sink AND due_at <= :now
    ORDER BY due_at {{order}} LIMIT :limit
)
{_MESSAGES}
"""  # noqa: S608
OLDEST_OUTBOX, NEWEST_OUTBOX = DUE_OUTBOX.format(order="ASC"), DUE_OUTBOX.format(order="DESC")

# The entries behind a number, whatever their state; of those of one message all but the first are marked.
ANNOUNCED = f"""
WITH due AS (
    SELECT number, event, attempts AS attempt, due_at, created_at, revision,
        nullif(replay_id, '') AS replay_id,
        EXISTS (SELECT 1 FROM outbox n WHERE n.event = o.event AND n.revision = o.revision
            AND n.replay_id = o.replay_id AND n.number < o.number) AS is_superseded,
        false AS is_behind,
        (SELECT content FROM revisions r WHERE r.event = o.event AND r.revision = o.revision) AS content
    FROM outbox o WHERE number > :after ORDER BY number LIMIT :limit
)
{_MESSAGES}
"""  # noqa: S608
NEWEST_NUMBER = "SELECT number FROM outbox ORDER BY number DESC LIMIT 1 OFFSET :last"

ASSETS_OF_EVENTS = """
SELECT event, position AS "index", state, outcome, key, media_type, bytes, width, height, sha256
FROM assets WHERE event IN (SELECT value FROM json_each(:numbers)) ORDER BY event, position
"""

LEASE_OUTBOX = """
UPDATE outbox SET lease = :lease, due_at = :until, attempts = attempts + 1
WHERE number IN (SELECT value FROM json_each(:numbers))
"""

LEASED_NOW = ByKeys("SELECT o.number, o.event, o.revived, o.lease", "outbox o", ["o.number"])

SETTLE_OUTBOX = """
UPDATE outbox SET lease = NULL, attempts = attempts - :uncounted, state = :state, outcome = :outcome,
    detail = :detail, due_at = :due_at, settled_at = :settled_at
WHERE number = :number
"""

# Most are delivered, and many at the same moment. No try before it ended so.
DELIVER_OUTBOX = """
UPDATE outbox SET lease = NULL, state = 'delivered', outcome = :outcome, detail = :detail,
    due_at = :settled_at, settled_at = :settled_at
WHERE number IN (SELECT value FROM json_each(:numbers))
"""
KEEP_DELIVERED = """
INSERT INTO attempts (event, target, entry, attempt, outcome, started_at, seconds, detail)
SELECT event, :target, number, attempts, :outcome, :started_at, :seconds, :detail FROM outbox
WHERE number IN (SELECT value FROM json_each(:numbers))
"""

SUPERSEDED = f"""
SELECT number FROM outbox o WHERE number IN (SELECT value FROM json_each(:numbers)) AND {_NEWER}
"""  # noqa: S608

# What has waited too long at a sink that is down, among those that waited longest.
GIVE_UP_OUTBOX = """
UPDATE outbox SET state = 'dead', lease = NULL, outcome = :outcome, detail = :detail, due_at = :settled_at,
    settled_at = :settled_at
WHERE number IN (SELECT number FROM
    (SELECT number, created_at FROM outbox WHERE state = 'pending' AND sink = :sink AND due_at <= :settled_at
    ORDER BY due_at LIMIT :limit) longest
    WHERE created_at <= :created_before)
RETURNING replay_id, revived
"""

DROP_OUTBOX = "DELETE FROM outbox WHERE number = :number"

# Where all that is due is behind others of its line, more is looked at, so often and so much at once.
MOST_LOOKS = 8
LEAST_LOOKED_AT, MOST_LOOKED_AT = 64, 512


def free_outbox(db: Cursor, now: datetime, holder: str) -> None:
    """Notifications that a holder who is gone was sending are due again."""
    db.execute(FREE_OUTBOX, parameters(now=now, holder=holder))


class _DueRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    number: int
    event: int
    attempt: int
    due_at: str
    created_at: datetime
    revision: int
    replay_id: str | None
    is_superseded: bool | int  # as the engine has truths
    is_behind: bool | int
    content: str | None
    id: str
    provider: str
    task_id: str
    submission_id: str
    owner: str
    model: str | None
    metadata: str
    submitted_at: str
    received_at: str
    via: Via
    type: EventType | None
    ended_at: str | None
    error_code: str | None
    error_message: str | None
    traceparent: str | None
    has_charge: int | None

    def announcement(self, assets: Sequence[AnnouncedAsset], cost: Cost | None) -> Announcement:
        event = Announcement(
            id=self.id,
            provider=self.provider,
            task_id=self.task_id,
            submission_id=self.submission_id,
            owner=self.owner,
            model=self.model,
            metadata=self.metadata,
            submitted_at=self.submitted_at,
            received_at=self.received_at,
            via=self.via,
            type=self.type,
            ended_at=self.ended_at,
            error_code=self.error_code,
            error_message=self.error_message,
            traceparent=self.traceparent,
            assets=tuple(assets),
            cost=cost,
        )
        return as_announced(event, self.content)


class _AssetRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    event: int
    index: int
    state: AssetState
    outcome: Outcome | None
    key: str | None
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None

    def asset(self) -> AnnouncedAsset:
        return AnnouncedAsset(
            index=self.index,
            state=self.state,
            outcome=self.outcome,
            key=self.key,
            media_type=self.media_type,
            bytes=self.bytes,
            width=self.width,
            height=self.height,
            sha256=self.sha256,
        )


def lease_outbox(
    db: Cursor,
    sink: str,
    now: datetime,
    lease_until: datetime,
    lease: str,
    *,
    limit: int,
    newest_first: bool,
) -> list[OutboxWork]:
    """Take due entries of one sink with all they carry; see ``ports.Store.lease_outbox``."""
    rows: list[_DueRow] = []
    at_once = limit
    for _ in range(MOST_LOOKS):
        values = parameters(sink=sink, now=now, limit=at_once)
        due = find_rows(db.execute(NEWEST_OUTBOX if newest_first else OLDEST_OUTBOX, values), _DueRow)
        db.executemany(DROP_OUTBOX, [{"number": row.number} for row in due if row.is_superseded])
        behind = [row.number for row in due if row.is_behind and not row.is_superseded]
        if behind:
            db.execute(PARK, parameters(numbers=behind))
        replayed = {row.replay_id for row in due if row.replay_id}
        withdrawing = {replay_id for replay_id in replayed if is_being_withdrawn(db, replay_id)}
        rows = [
            row
            for row in due
            if not (row.is_superseded or row.is_behind) and row.replay_id not in withdrawing
        ]
        if rows or not behind:
            break
        at_once = min(max(4 * at_once, LEAST_LOOKED_AT), MOST_LOOKED_AT)
    if not rows:
        return []
    rows.sort(key=attrgetter("due_at"), reverse=newest_first)  # a join keeps no order
    del rows[limit:]
    numbers = [row.number for row in rows]
    db.execute(LEASE_OUTBOX, parameters(lease=lease, until=lease_until, numbers=numbers))
    assets = _assets_of(db, {row.event for row in rows})
    costs = _costs_of(db, rows)
    return [
        _leased(row, row.announcement(assets[row.event], costs.get(row.event)), sink, lease) for row in rows
    ]


def _costs_of(db: Cursor, rows: Sequence[_DueRow]) -> Mapping[int, Cost]:
    """What those of the tasks cost that were ordered through the gateway."""
    charged = [row.event for row in rows if row.has_charge]
    return costs_of(db, charged) if charged else {}


def _assets_of(db: Cursor, events: Collection[int]) -> Mapping[int, Sequence[AnnouncedAsset]]:
    assets: defaultdict[int, list[AnnouncedAsset]] = defaultdict(list)
    for row in find_rows(db.execute(ASSETS_OF_EVENTS, parameters(numbers=events)), _AssetRow):
        assets[row.event].append(row.asset())
    return assets


def _leased(row: _DueRow, event: Announcement, sink: str, lease: str) -> OutboxWork:
    return OutboxWork(
        id=notification_id(row.submission_id, row.revision, sink, row.replay_id),
        number=row.number,
        sink=sink,
        attempt=row.attempt,
        created_at=row.created_at,
        revision=row.revision,
        replay_id=row.replay_id,
        event=event,
        lease=lease,
    )


class _LeasedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    number: int
    event: int
    revived: int
    lease: str | None


_Settled = tuple[OutboxWork, Settlement, _LeasedRow]


def settle_entries(db: Cursor, ended: Sequence[tuple[OutboxWork, Settlement]]) -> list[bool]:
    """Record how notifications ended; see ``ports.Store.settle_outbox_batch``."""
    keys = [(work.number,) for work, _ in ended]
    leased = {row.number: row for row in find_rows(db.execute(*LEASED_NOW.of(keys)), _LeasedRow)}
    ours: list[bool] = []
    settled: list[_Settled] = []
    for work, settlement in ended:
        row = leased.get(work.number)
        ours.append(row is not None and row.lease == work.lease)
        if row is not None and ours[-1]:
            del leased[work.number]  # whoever says so again has it no more
            settled.append((work, settlement, row))
    if settled:
        _settle(db, settled)
    return ours


def _settle(db: Cursor, settled: Sequence[_Settled]) -> None:
    others = _deliver_alike(db, settled)
    db.executemany(SETTLE_OUTBOX, [_values(work, settlement) for work, settlement, _ in others])
    keep_attempts(
        db,
        [
            Try(
                event=row.event,
                target=_target(work),
                entry=work.number,
                attempt=work.attempt,
                settlement=settlement,
            )
            for work, settlement, row in others
        ],
    )
    withdrawn = _drop_unwanted(db, others)
    ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for work, settlement, row in settled:
        if work.replay_id is None or row.revived:  # what was revived was counted when it was given up
            continue
        if work.number in withdrawn:
            ended[work.replay_id][WITHDRAWN] += 1
        elif settlement.retry_at is None:
            ended[work.replay_id][settlement.outcome.value] += 1
    last_at = max(settlement.settled_at for _, settlement, _ in settled)
    for replay_id, results in ended.items():
        for outcome, pieces in results.items():
            count_settled(db, replay_id, outcome, last_at, pieces=pieces)


def _deliver_alike(db: Cursor, settled: Sequence[_Settled]) -> list[_Settled]:
    """Settle what was delivered, those together that were so at the same moment; the others."""
    together: defaultdict[tuple[object, ...], list[_Settled]] = defaultdict(list)
    others = []
    for each in settled:
        work, settlement, _ = each
        if settlement.outcome is Outcome.DELIVERED:
            together[work.sink, settlement.started_at, settlement.settled_at, settlement.detail].append(each)
        else:
            others.append(each)
    for alike in together.values():
        work, settlement, _ = alike[0]
        values = parameters(
            numbers=[each.number for each, _, _ in alike],
            target=_target(work),
            outcome=settlement.outcome,
            started_at=settlement.started_at,
            settled_at=settlement.settled_at,
            seconds=(settlement.settled_at - settlement.started_at).total_seconds(),
            detail=settlement.detail,
        )
        db.execute(DELIVER_OUTBOX, values)
        db.execute(KEEP_DELIVERED, values)
    return others


def _target(work: OutboxWork) -> str:
    return f"sink {work.sink}"


def _values(work: OutboxWork, settlement: Settlement) -> Row:
    again = settlement.retry_at
    return parameters(
        number=work.number,
        uncounted=not settlement.uses_attempt,
        state=_state(settlement),
        outcome=settlement.outcome,
        detail=settlement.detail,
        due_at=again or settlement.settled_at,
        settled_at=None if again else settlement.settled_at,
    )


def _state(settlement: Settlement) -> str:
    if settlement.outcome is Outcome.DELIVERED:
        return "delivered"
    return "pending" if settlement.retry_at else "dead"


def _drop_unwanted(db: Cursor, settled: Sequence[_Settled]) -> set[int]:
    """Drop what is not to be sent any more; which of it was for replays that were cancelled, by number."""
    if not settled:
        return set()
    given = parameters(numbers=[work.number for work, _, _ in settled])
    superseded = {number for (number,) in db.execute(SUPERSEDED, given).fetchall()}
    replays = {
        work.number: work.replay_id
        for work, settlement, row in settled
        if settlement.retry_at and work.replay_id and not row.revived
    }
    cancelled = {replay_id for replay_id in set(replays.values()) if is_cancelled(db, replay_id)}
    withdrawn = {number for number, replay_id in replays.items() if replay_id in cancelled}
    db.executemany(DROP_OUTBOX, [{"number": number} for number in superseded | withdrawn])
    return withdrawn


def give_up_outbox(
    db: Cursor, sink: str, created_before: datetime, settlement: Settlement, limit: int
) -> int:
    """Make dead letters of what has waited too long; see ``ports.Store.give_up_outbox``."""
    values = parameters(
        sink=sink,
        created_before=created_before,
        outcome=settlement.outcome,
        detail=settlement.detail,
        settled_at=settlement.settled_at,
        limit=limit,
    )
    given_up: list[Row] = []
    # The next one of a line falls due when the one before it is given up.
    while len(given_up) < limit and (rows := fetch_all(db.execute(GIVE_UP_OUTBOX, values))):
        given_up += rows
    replays = Counter(row["replay_id"] for row in given_up if row["replay_id"] and not row["revived"])
    for replay_id, pieces in replays.items():
        count_settled(db, replay_id, settlement.outcome.value, settlement.settled_at, pieces=pieces)
    return len(given_up)


def list_announced(db: Cursor, after: int | None, last: int, limit: int, wanted: Route) -> AnnouncedPage:
    """Messages in the order in which they were queued; see ``ports.Store.list_announced``."""
    if after is None:
        row = db.execute(NEWEST_NUMBER, {"last": last}).fetchone()
        after = row[0] if row else 0
    rows = find_rows(db.execute(ANNOUNCED, {"after": after, "limit": limit}), _DueRow)
    rows.sort(key=attrgetter("number"))
    shown = [
        row
        for row in rows
        if row.type is not None and not row.is_superseded and wanted.wants(row.provider, row.type, row.owner)
    ]
    assets = _assets_of(db, {row.event for row in shown}) if shown else {}
    costs = _costs_of(db, shown)
    works = tuple(
        _leased(row, row.announcement(assets.get(row.event, ()), costs.get(row.event)), "", "")
        for row in shown
    )
    return AnnouncedPage(works=works, cursor=cursor_at(rows[-1].number if rows else after) or "")
