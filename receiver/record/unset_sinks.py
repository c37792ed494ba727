"""Entries of sinks that are not set any more: counted, and moved or dropped when people say so.

Nothing leases them, so nobody holds one.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from receiver.models import Moved
from receiver.record.cursor import Cursor, change_each
from receiver.record.dead_letters import HAD, MOVED
from receiver.record.filters import json_list
from receiver.record.rows import parameters

# The sinks that entries wait for, by one look at an index for each.
COUNT_PENDING = """
WITH RECURSIVE sinks (name) AS (
    SELECT min(sink) FROM outbox WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(sink) FROM outbox WHERE state = 'pending' AND sink > name)
    FROM sinks WHERE name IS NOT NULL
)
SELECT name, 'pending', (SELECT count(*) FROM outbox WHERE state = 'pending' AND sink = name)
FROM sinks WHERE name IS NOT NULL AND name NOT IN (SELECT value FROM json_each(:sinks))
"""
COUNT_DEAD = """
SELECT name, state, number FROM counts
WHERE kind = 'outbox' AND state = 'dead' AND number > 0 AND name NOT IN (SELECT value FROM json_each(:sinks))
"""

UNDELIVERED = """
SELECT number FROM outbox WHERE state = 'pending' AND sink = :sink
UNION ALL
SELECT number FROM outbox WHERE state = 'dead' AND sink = :sink
LIMIT :limit
"""

MOVE = f"""
UPDATE outbox SET {MOVED} WHERE number = :number AND sink = :sink AND state <> 'delivered' AND NOT {HAD}
"""  # noqa: S608
DROP = "DELETE FROM outbox WHERE number = :number AND sink = :sink AND state <> 'delivered'"


def count_unset(db: Cursor, sinks: Collection[str]) -> dict[str, dict[str, int]]:
    """What is undelivered at other sinks than those; see ``ports.DeadLetterStore.count_unset_sinks``."""
    counts: dict[str, dict[str, int]] = {}
    names = {"sinks": json_list(sorted(sinks))}
    for query in (COUNT_PENDING, COUNT_DEAD):
        for sink, state, number in db.execute(query, names):
            counts.setdefault(sink, {})[state] = number
    return counts


def list_undelivered(db: Cursor, sink: str, limit: int) -> list[str]:
    return [str(number) for (number,) in db.execute(UNDELIVERED, {"sink": sink, "limit": limit})]


def move(db: Cursor, entries: Sequence[str], sink: str, to: str, now: datetime) -> Moved:
    """Give entries of a sink to another one; see ``ports.DeadLetterStore.move_undelivered``."""
    values = parameters(sink=sink, to=to, now=now)
    moved = change_each(db, MOVE, [{**values, "number": number} for number in _numbers(entries)])
    return Moved(moved=moved, had=drop(db, entries, sink))


def drop(db: Cursor, entries: Sequence[str], sink: str) -> int:
    """Forget entries of a sink; see ``ports.DeadLetterStore.drop_undelivered``."""
    return change_each(db, DROP, [{"number": number, "sink": sink} for number in _numbers(entries)])


def _numbers(entries: Sequence[str]) -> list[int]:
    return [int(entry) for entry in entries]
