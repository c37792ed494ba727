"""What is leased, and how it ends: assets, events, outbox entries; and what retention drops.

A lease is a name on the row plus a ``due_at`` moved into the future. When it runs out the row is simply
due again, and the name, checked when the work is settled, keeps a late finisher from changing anything.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile

from receiver.models import (
    AssetWork,
    EventType,
    OutboxWork,
    Outcome,
    Route,
    Settlement,
    from_text,
    to_text,
)
from receiver.stores.sqlite.viewing import event_by_id

# After a start nobody holds a lease: the process that held them is gone.
FREE_ASSETS = "UPDATE assets SET lease = NULL, due_at = ? WHERE state = 'pending' AND lease IS NOT NULL"
FREE_OUTBOX = "UPDATE outbox SET lease = NULL, due_at = ? WHERE state = 'pending' AND lease IS NOT NULL"

# The due assets whose links die first.
DUE_ASSETS = """
SELECT a.event_id, e.provider, e.task_id, a.position, a.url, a.kind, a.attempts + 1, a.deadline_at
FROM assets a JOIN events e ON e.id = a.event_id
WHERE a.state = 'pending' AND a.due_at <= ? ORDER BY a.deadline_at LIMIT ?
"""

LEASE_ASSET = """
UPDATE assets SET lease = ?, due_at = ?, attempts = attempts + 1 WHERE event_id = ? AND position = ?
"""

# One attempt has ended; the lease must still be ours.
SETTLE_ASSET = """
UPDATE assets SET lease = NULL, state = ?, outcome = ?, due_at = ?, settled_at = ?, key = ?, media_type = ?,
    bytes = ?, width = ?, height = ?, sha256 = ?
WHERE event_id = ? AND position = ? AND lease = ?
"""

# How an event's assets stand: pending, stored, in all.
COUNT_ASSETS = """
SELECT coalesce(sum(state = 'pending'), 0), coalesce(sum(state = 'stored'), 0), count(*)
FROM assets WHERE event_id = ?
"""

FIRST_FAILURE = """
SELECT outcome FROM assets WHERE event_id = ? AND state = 'failed' ORDER BY position LIMIT 1
"""

SET_ERROR = "UPDATE events SET error_code = ?, error_message = ? WHERE id = ?"

END_EVENT = "UPDATE events SET type = ?, ended_at = ? WHERE id = ? AND type IS NULL"

EVENT_ADDRESS = """
SELECT e.provider, s.owner, e.revision FROM events e JOIN submissions s ON s.id = e.submission_id
WHERE e.id = ?
"""

INSERT_OUTBOX = """
INSERT INTO outbox (event_id, sink, revision, due_at, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (event_id, sink, revision, replay_id) DO NOTHING
"""

# The due entries of one sink, the oldest first.
DUE_OUTBOX = """
SELECT number, event_id, attempts + 1, created_at, revision, replay_id
FROM outbox WHERE state = 'pending' AND sink = ? AND due_at <= ? ORDER BY due_at LIMIT ?
"""

LEASE_OUTBOX = "UPDATE outbox SET lease = ?, due_at = ?, attempts = attempts + 1 WHERE number = ?"

SETTLE_OUTBOX = """
UPDATE outbox SET lease = NULL, state = ?, outcome = ?, due_at = ?, settled_at = ?
WHERE number = ? AND lease = ?
"""

INSERT_ATTEMPT = """
INSERT INTO attempts (event_id, target, attempt, outcome, started_at, seconds, detail)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

# How far retention has come: everything up to here has been dropped already.
RETENTION = "SELECT deliveries_to, submissions_to FROM retention"

# The next rows behind the mark, old enough or not: numbers and ids rise with time, so looking stops at the
# first that is young, and a round with nothing to do reads a few rows however long the history is.
NEXT_DELIVERIES = "SELECT number, received_at FROM deliveries WHERE number > ? ORDER BY number LIMIT ?"
NEXT_SUBMISSIONS = "SELECT id, created_at FROM submissions WHERE id > ? ORDER BY id LIMIT ?"
NEXT_ATTEMPTS = "SELECT number, started_at FROM attempts ORDER BY number LIMIT ?"

# The row stays, so that a very late repeat is still a repeat.
DROP_BODY = "UPDATE deliveries SET body = NULL WHERE number = ?"
DROP_REQUEST = "UPDATE submissions SET request = NULL WHERE id = ?"
DROP_ATTEMPT = "DELETE FROM attempts WHERE number = ?"
MARK_DELIVERIES = "UPDATE retention SET deliveries_to = ?"
MARK_SUBMISSIONS = "UPDATE retention SET submissions_to = ?"


def free_all_leases(db: sqlite3.Cursor, now: datetime) -> None:
    """What an earlier process was working on is due again."""
    moment = (to_text(now),)
    db.execute(FREE_ASSETS, moment)
    db.execute(FREE_OUTBOX, moment)


def lease_assets(
    db: sqlite3.Cursor, now: datetime, lease_until: datetime, lease: str, limit: int
) -> list[AssetWork]:
    """Take due assets; see ``ports.Store.lease_assets``."""
    rows = db.execute(DUE_ASSETS, (to_text(now), limit)).fetchall()
    until = to_text(lease_until)
    db.executemany(LEASE_ASSET, [(lease, until, row[0], row[3]) for row in rows])
    return [
        AssetWork(
            event_id=row[0],
            provider=row[1],
            task_id=row[2],
            index=row[3],
            url=row[4],
            kind=row[5],
            attempt=row[6],
            deadline_at=from_text(row[7]),
            lease=lease,
        )
        for row in rows
    ]


def settle_asset(
    db: sqlite3.Cursor, work: AssetWork, settlement: Settlement, routes: Sequence[Route]
) -> bool:
    """Record how a download ended, and the event with its last one; see ``ports.Store.settle_asset``."""
    file, again = settlement.file, settlement.retry_at
    state = "stored" if file else "pending" if again else "failed"
    moment = to_text(settlement.settled_at)
    facts = (
        (file.key, file.media_type, file.bytes, file.width, file.height, file.sha256) if file else (None,) * 6
    )
    values = (
        state, settlement.outcome.value, to_text(again) if again else moment,
        None if again else moment, *facts, work.event_id, work.index, work.lease,
    )  # fmt: skip
    if db.execute(SETTLE_ASSET, values).rowcount == 0:
        return False
    _insert_attempt(db, work.event_id, f"asset {work.index}", work.attempt, settlement)
    if not again:
        _end_if_last(db, work.event_id, settlement.settled_at, routes)
    return True


def _end_if_last(db: sqlite3.Cursor, event_id: str, now: datetime, routes: Sequence[Route]) -> None:
    pending, stored, total = db.execute(COUNT_ASSETS, (event_id,)).fetchone()
    if pending:
        return
    if stored == total:
        event_type = EventType.COMPLETED
    elif stored:
        event_type = EventType.PARTIAL
    else:
        event_type = EventType.FAILED
        (outcome,) = db.execute(FIRST_FAILURE, (event_id,)).fetchone()
        message = "the file could not be had" if total == 1 else f"none of {total} files could be had"
        db.execute(SET_ERROR, (outcome, message, event_id))
    end_event(db, event_id, event_type, now, routes)


def end_event(
    db: sqlite3.Cursor,
    event_id: str,
    event_type: EventType,
    now: datetime,
    routes: Sequence[Route],
) -> None:
    """Say how the event ended, and address it to every sink that wants to know."""
    moment = to_text(now)
    db.execute(END_EVENT, (event_type.value, moment, event_id))
    provider, owner, revision = db.execute(EVENT_ADDRESS, (event_id,)).fetchone()
    entries = [
        (event_id, route.sink, revision, moment, moment)
        for route in routes
        if route.wants(provider, event_type.value, owner)
    ]
    db.executemany(INSERT_OUTBOX, entries)


def lease_outbox(
    db: sqlite3.Cursor, sink: str, now: datetime, lease_until: datetime, lease: str, limit: int
) -> list[OutboxWork]:
    """Take due entries of one sink with all they carry; see ``ports.Store.lease_outbox``."""
    rows = db.execute(DUE_OUTBOX, (sink, to_text(now), limit)).fetchall()
    until = to_text(lease_until)
    db.executemany(LEASE_OUTBOX, [(lease, until, row[0]) for row in rows])
    return [
        OutboxWork(
            id=f"out_{row[0]}",
            sink=sink,
            attempt=row[2],
            created_at=from_text(row[3]),
            revision=row[4],
            replay_id=row[5] or None,
            event=event_by_id(db, row[1]),
            lease=lease,
        )
        for row in rows
    ]


def settle_outbox(db: sqlite3.Cursor, work: OutboxWork, settlement: Settlement) -> bool:
    """Record how a publish ended; see ``ports.Store.settle_outbox``."""
    again = settlement.retry_at
    delivered = settlement.outcome is Outcome.DELIVERED
    state = "delivered" if delivered else "pending" if again else "dead"
    moment = to_text(settlement.settled_at)
    values = (
        state, settlement.outcome.value, to_text(again) if again else moment,
        None if again else moment, int(work.id.removeprefix("out_")), work.lease,
    )  # fmt: skip
    if db.execute(SETTLE_OUTBOX, values).rowcount == 0:
        return False
    _insert_attempt(db, work.event.id, f"sink {work.sink}", work.attempt, settlement)
    return True


def _insert_attempt(
    db: sqlite3.Cursor, event_id: str, target: str, number: int, settlement: Settlement
) -> None:
    seconds = (settlement.settled_at - settlement.started_at).total_seconds()
    values = (
        event_id, target, number, settlement.outcome.value, to_text(settlement.started_at), seconds,
        settlement.detail,
    )  # fmt: skip
    db.execute(INSERT_ATTEMPT, values)


def purge(db: sqlite3.Cursor, before: datetime, limit: int) -> int:
    """Drop what only people debugging would miss; see ``ports.Store.purge``."""
    moment = to_text(before)
    deliveries_to, submissions_to = db.execute(RETENTION).fetchone()
    deliveries = _old(db.execute(NEXT_DELIVERIES, (deliveries_to, limit)), moment)
    submissions = _old(db.execute(NEXT_SUBMISSIONS, (submissions_to, limit)), moment)
    attempts = _old(db.execute(NEXT_ATTEMPTS, (limit,)), moment)
    db.executemany(DROP_BODY, deliveries)
    db.executemany(DROP_REQUEST, submissions)
    db.executemany(DROP_ATTEMPT, attempts)
    if deliveries:
        db.execute(MARK_DELIVERIES, deliveries[-1])
    if submissions:
        db.execute(MARK_SUBMISSIONS, submissions[-1])
    return len(deliveries) + len(submissions) + len(attempts)


def _old(rows: sqlite3.Cursor, moment: str) -> list[tuple[int | str]]:
    return [(key,) for key, _ in takewhile(lambda row: row[1] < moment, rows.fetchall())]
