"""Dead letters: notifications that were given up, looked at and revived by people."""

import re
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from receiver.errors import Rejected
from receiver.repairs import DeadLetter, DeadLetterPage, Requeued, WorkFilter
from receiver.stores.sqlite.matching import DEAD, clauses, count, json_list, query
from receiver.times import from_text, to_text
from receiver.words import EventType, Outcome

# With what the last attempt said, as long as retention keeps it. Those before 0.4.0 name no entry.
LETTER_COLUMNS = """
o.number, o.sink, e.id, s.provider, s.task_id, s.owner, e.type, o.revision, o.replay_id, o.attempts,
o.outcome,
(SELECT detail FROM attempts WHERE event = o.event AND (entry = o.number OR (entry IS NULL
    AND target = 'sink ' || o.sink AND attempt = o.attempts AND started_at <= o.settled_at))
    ORDER BY number DESC LIMIT 1),
o.created_at, o.settled_at
"""

OF_SINKS = "o.sink IN (SELECT value FROM json_each(:sinks))"

# It is made anew, and so are the links in it: those that it was made with may be dead by now.
REVIVE = """
UPDATE outbox SET state = 'pending', attempts = 0, lease = NULL, settled_at = NULL, revived = 1, due_at = ?1,
    created_at = ?1
WHERE number = ?2 AND state = 'dead'
"""

CURSOR = re.compile(r"out_([0-9]{1,18})")


def list_dead(
    db: sqlite3.Cursor, wanted: WorkFilter, sink: str | None, limit: int, cursor: str | None
) -> DeadLetterPage:
    """A page of dead letters, the newest first; see ``ports.Store.list_dead``."""
    conditions, values = clauses(DEAD, wanted)
    if sink is not None:
        conditions.append("o.sink = :sink")
    if cursor is not None:
        conditions.append("o.number < :before")
        values["before"] = _number(cursor)
    sql = query(LETTER_COLUMNS, DEAD, conditions, "ORDER BY o.number DESC LIMIT :limit")
    rows = db.execute(sql, values | {"sink": sink, "limit": limit + 1}).fetchall()
    letters = tuple(_letter(row) for row in rows[:limit])
    return DeadLetterPage(dead_letters=letters, next_cursor=letters[-1].id if len(rows) > limit else None)


def count_dead(db: sqlite3.Cursor, wanted: WorkFilter, sinks: Sequence[str]) -> int:
    """How many dead letters a requeue would revive; no ``sinks`` means every one."""
    if not sinks:
        return count(db, DEAD, wanted)
    return count(db, DEAD, wanted, OF_SINKS, sinks=json_list(sinks))


def find_dead(
    db: sqlite3.Cursor, wanted: WorkFilter, sinks: Sequence[str], limit: int, after: str | None
) -> list[int]:
    """The numbers of the oldest dead letters that match, behind the one that was looked at last."""
    conditions, values = clauses(DEAD, wanted)
    if after is not None:
        conditions.append("o.number > :after")
        values["after"] = _number(after)
    if sinks:
        conditions.append(OF_SINKS)
    sql = query("o.number", DEAD, conditions, "ORDER BY o.number LIMIT :limit")
    return [number for (number,) in db.execute(sql, values | {"sinks": json_list(sinks), "limit": limit})]


def revive(db: sqlite3.Cursor, numbers: Sequence[int], now: datetime) -> int:
    """Give dead letters all their attempts again; how many were still dead."""
    moment = to_text(now)
    values = [(moment, number) for number in numbers]
    return db.executemany(REVIVE, values).rowcount if values else 0


def requeued(found: Sequence[int], limit: int, revived: int) -> Requeued:
    """What a step came to, and where the next one begins, if there may be one."""
    return Requeued(count=revived, cursor=f"out_{found[-1]}" if len(found) == limit else None)


def _number(cursor: str) -> int:
    match = CURSOR.fullmatch(cursor)
    if match is None:
        raise Rejected(400, "Bad cursor", "Pass the next_cursor of the page before, or none.")
    return int(match[1])


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    return DeadLetter(
        id=f"out_{row[0]}",
        sink=row[1],
        event_id=row[2],
        provider=row[3],
        task_id=row[4],
        owner=row[5],
        type=EventType(row[6]),
        revision=row[7],
        replay_id=row[8] or None,
        attempts=row[9],
        outcome=Outcome(row[10]),
        detail=row[11],
        created_at=from_text(row[12]),
        settled_at=from_text(row[13]),
    )
