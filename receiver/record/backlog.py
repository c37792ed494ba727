"""What waits and what was given up, counted as far as people read on, by keys of an index."""

from collections.abc import Collection
from datetime import datetime, timedelta

import msgspec

from receiver.models import Backlog, Counted, Outcome
from receiver.models.health import MOST_COUNTED
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters, read_all, read_one
from receiver.times import from_text_if_any

DYING = timedelta(hours=1)
OF_LATE = timedelta(days=1)
STALLED = timedelta(minutes=10)  # ten times what a step may take
NEWEST_REPLAYS = 200
MOST_WALKED = 2000  # of what was given up, which is kept for ever: each row costs its look-up

# The sinks that events wait for, by one look at an index for each.
SINKS = """
WITH RECURSIVE sinks (name) AS (
    SELECT min(sink) FROM outbox WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(sink) FROM outbox WHERE state = 'pending' AND sink > name)
    FROM sinks WHERE name IS NOT NULL
)
SELECT name FROM sinks WHERE name IS NOT NULL
"""
# Of more than are counted, those that are due first.
UNSENT = """
SELECT count(*) AS count, min(created_at) AS first_at FROM (
    SELECT created_at FROM outbox WHERE state = 'pending' AND sink = :sink ORDER BY due_at LIMIT :most
) w
"""
DEAD = """
SELECT sink, count(*) AS count, min(settled_at) AS first_at FROM (
    SELECT sink, settled_at FROM outbox WHERE state = 'dead' ORDER BY number DESC LIMIT :walked
) w WHERE settled_at >= :day_ago GROUP BY sink
"""
UNFETCHED = """
SELECT count(*) AS count, min(e.received_at) AS first_at
FROM (SELECT event FROM assets WHERE state = 'pending' LIMIT :most) w
CROSS JOIN events e ON e.number = w.event
"""
# In the words of its own index, which nothing else is searched by; see the migration "deadlines".
DYING_LINKS = """
SELECT count(*) AS count, min(deadline_at) AS first_at FROM (
    SELECT deadline_at FROM assets WHERE state = 'pending' AND deadline_at || '' < :soon LIMIT :most
) w
"""
# Failed tasks are walked back from the newest one that is old enough to be lost.
LOST = """
SELECT count(*) AS count, min(ended_at) AS first_at FROM (
    SELECT error_code, ended_at FROM events WHERE type = 'task.failed' AND number <= (
        SELECT number FROM submissions WHERE created_at <= :lost_before ORDER BY created_at DESC LIMIT 1
    ) ORDER BY number DESC LIMIT :walked
) w WHERE error_code = :lost AND ended_at >= :day_ago
"""
UNBOUND = """
SELECT count(*) AS count, min(created_at) AS first_at FROM (
    SELECT created_at FROM submissions
    WHERE task_id IS NULL AND withdrawn_at IS NULL AND created_at < :lost_before
    ORDER BY created_at LIMIT :most
) w
"""
OPEN_TASKS = """
SELECT count(*) AS count, min(due_at) AS first_at FROM (
    SELECT due_at FROM polls WHERE provider = :provider ORDER BY due_at LIMIT :most
) w
"""
UNRECOGNISED = """
SELECT count(*) AS count, min(received_at) AS first_at FROM (
    SELECT received_at FROM deliveries WHERE verdict = 'unrecognised' ORDER BY number LIMIT :most
) w
"""
EARLY = "SELECT kept FROM ownerless WHERE verdict = 'early'"
PAUSED = f"""
SELECT count(*) AS count, min(created_at) AS first_at
FROM (SELECT state, created_at FROM replays ORDER BY id DESC LIMIT {NEWEST_REPLAYS}) w
WHERE state = 'paused'
"""  # noqa: S608 - a number of ours
STALLED_REPLAYS = f"""
SELECT count(*) AS count, min(due_at) AS first_at
FROM (SELECT state, due_at FROM replays ORDER BY id DESC LIMIT {NEWEST_REPLAYS}) w
WHERE state = 'running' AND due_at < :stalled_before
"""  # noqa: S608
OLDEST_BODY = """
SELECT received_at FROM deliveries WHERE number > (SELECT deliveries_to FROM retention)
ORDER BY number LIMIT 1
"""
NEWEST_DELIVERY = "SELECT received_at FROM deliveries ORDER BY number DESC LIMIT 1"


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class _Dead(msgspec.Struct, frozen=True, kw_only=True):
    sink: str
    count: int
    first_at: datetime


def count_backlog(db: Cursor, now: datetime, lost_before: datetime, providers: Collection[str]) -> Backlog:
    """Count what waits; see ``ports.Store.count_backlog``. The counts need not be of one moment."""
    values = parameters(
        soon=now + DYING,
        day_ago=now - OF_LATE,
        lost_before=lost_before,
        stalled_before=now - STALLED,
        lost=Outcome.LOST,
        most=MOST_COUNTED + 1,
        walked=MOST_WALKED,
    )

    def count(sql: str, **more: str) -> Counted:
        return read_one(db.execute(sql, {**values, **more}), Counted) or Counted()

    sinks = [row.name for row in read_all(db.execute(SINKS), _Named)]
    return Backlog(
        unsent={sink: count(UNSENT, sink=sink) for sink in sinks},
        dead={
            row.sink: Counted(count=row.count, first_at=row.first_at)
            for row in read_all(db.execute(DEAD, values), _Dead)
        },
        unfetched=count(UNFETCHED),
        dying=count(DYING_LINKS),
        lost=count(LOST),
        unbound=count(UNBOUND),
        open_tasks={name: count(OPEN_TASKS, provider=name) for name in providers},
        unrecognised=count(UNRECOGNISED),
        early=db.execute(EARLY).fetchone()[0],
        paused=count(PAUSED),
        stalled=count(STALLED_REPLAYS),
        oldest_body_at=_moment(db, OLDEST_BODY),
        newest_delivery_at=_moment(db, NEWEST_DELIVERY),
    )


def _moment(db: Cursor, sql: str) -> datetime | None:
    row = db.execute(sql).fetchone()
    return from_text_if_any(row[0]) if row else None
