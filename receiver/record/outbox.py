"""Notifications: what a sink is due, how a leased one ends, and what is given up.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec

from receiver.models import OutboxWork, Outcome, Settlement
from receiver.record.attempts import Try, keep_attempts
from receiver.record.cursor import Cursor
from receiver.record.ids import notification_id
from receiver.record.leases import HELD
from receiver.record.replays import WITHDRAWN, count_settled, is_being_withdrawn, is_cancelled
from receiver.record.revisions import as_announced
from receiver.record.rows import ByKeys, Row, fetch_all, find_rows, parameters, to_value
from receiver.record.views import events_of

FREE_OUTBOX = f"UPDATE outbox SET lease = NULL, due_at = :now WHERE state = 'pending' AND {HELD}"  # noqa: S608

INSERT_OUTBOX = """
INSERT INTO outbox (event, sink, revision, due_at, created_at) VALUES (?, ?, ?, ?, ?)
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

# The due entries of one sink, in order of age, with what their revisions said where that was kept. A newer
# one may have come while an older was held by somebody who died, or was a dead letter.
DUE_OUTBOX = f"""
SELECT number, event, attempts + 1 AS attempt, created_at, revision,
    nullif(replay_id, '') AS replay_id, {_NEWER} AS is_superseded,
    (SELECT content FROM revisions r WHERE r.event = o.event AND r.revision = o.revision) AS content
FROM outbox o WHERE state = 'pending' AND sink = :sink AND due_at <= :now
ORDER BY due_at {{order}} LIMIT :limit
"""  # noqa: S608
OLDEST_OUTBOX, NEWEST_OUTBOX = DUE_OUTBOX.format(order="ASC"), DUE_OUTBOX.format(order="DESC")

LEASE_OUTBOX = """
UPDATE outbox SET lease = :lease, due_at = :until, attempts = attempts + 1 WHERE number = :number
"""

LEASED_NOW = ByKeys("SELECT o.number, o.event, o.revived, o.lease", "outbox o", ["o.number"])

SETTLE_OUTBOX = """
UPDATE outbox SET lease = NULL, attempts = attempts - :uncounted, state = :state, outcome = :outcome,
    detail = :detail, due_at = :due_at, settled_at = :settled_at
WHERE number = :number
"""

IS_SUPERSEDED = f"SELECT 1 FROM outbox o WHERE number = :number AND {_NEWER}"  # noqa: S608

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


def free_outbox(db: Cursor, now: datetime, holder: str) -> None:
    """Notifications that a holder who is gone was sending are due again."""
    db.execute(FREE_OUTBOX, parameters(now=now, holder=holder))


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
    values = parameters(sink=sink, now=now, limit=limit, lease=lease, until=lease_until)
    due = fetch_all(db.execute(NEWEST_OUTBOX if newest_first else OLDEST_OUTBOX, values))
    replayed = {row["replay_id"] for row in due} - {None}
    withdrawing = {replay_id for replay_id in replayed if is_being_withdrawn(db, replay_id)}
    db.executemany(DROP_OUTBOX, [row for row in due if row["is_superseded"]])
    rows = [row for row in due if not row["is_superseded"] and row["replay_id"] not in withdrawing]
    db.executemany(LEASE_OUTBOX, [{**values, "number": row["number"]} for row in rows])
    events = events_of(db, {row["event"] for row in rows}) if rows else {}
    works = []
    for row in rows:
        event = as_announced(events[row["event"]], row["revision"], row["content"])
        id_ = notification_id(event.submission.id, row["revision"], sink, row["replay_id"])
        works.append(to_value(row, OutboxWork, id=id_, sink=sink, lease=lease, event=event))
    return works


class _LeasedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    number: int
    event: int
    revived: int
    lease: str | None


_Settled = tuple[OutboxWork, Settlement, _LeasedRow]


def settle_entries(db: Cursor, ended: Sequence[tuple[OutboxWork, Settlement]]) -> list[bool]:
    """Record how notifications ended; see ``ports.Store.settle_outbox``."""
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
    db.executemany(SETTLE_OUTBOX, [_values(work, settlement) for work, settlement, _ in settled])
    keep_attempts(
        db,
        [
            Try(
                event=row.event,
                target=f"sink {work.sink}",
                entry=work.number,
                attempt=work.attempt,
                settlement=settlement,
            )
            for work, settlement, row in settled
        ],
    )
    for work, settlement, row in settled:
        # What was revived was counted when it was given up.
        _count(db, work, settlement, None if row.revived else work.replay_id)


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


def _count(db: Cursor, work: OutboxWork, settlement: Settlement, replay_id: str | None) -> None:
    """Drop what is not to be sent any more, and count for its replay what has ended."""
    state, key = _state(settlement), {"number": work.number}
    outcome = settlement.outcome.value
    if state != "delivered" and db.execute(IS_SUPERSEDED, key).fetchone():
        db.execute(DROP_OUTBOX, key)
    elif state == "pending":
        if not is_cancelled(db, replay_id):
            return
        db.execute(DROP_OUTBOX, key)
        outcome = WITHDRAWN
    if replay_id is not None:
        count_settled(db, replay_id, outcome, settlement.settled_at)


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
    given_up = fetch_all(db.execute(GIVE_UP_OUTBOX, values))
    replays = Counter(row["replay_id"] for row in given_up if row["replay_id"] and not row["revived"])
    for replay_id, pieces in replays.items():
        count_settled(db, replay_id, settlement.outcome.value, settlement.settled_at, pieces=pieces)
    return len(given_up)
