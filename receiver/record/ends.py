"""How an event ends, and whom that is told: one outbox entry for each sink that wants it."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import EventType, Route
from receiver.record.cursor import Cursor
from receiver.record.outbox import INSERT_OUTBOX, SUPERSEDE
from receiver.times import to_text

# How an event's assets stand: pending, stored, in all.
COUNT_ASSETS = """
SELECT coalesce(sum(state = 'pending'), 0), coalesce(sum(state = 'stored'), 0), count(*)
FROM assets WHERE event = ?
"""

FIRST_FAILURE = """
SELECT outcome FROM assets WHERE event = ? AND state = 'failed' ORDER BY position LIMIT 1
"""

# An event that had ended has more of its files than consumers were told of: it ends anew.
REOPEN = """
UPDATE events SET type = NULL, error_code = NULL, error_message = NULL, revision = revision + 1
WHERE number = ? AND type IS NOT NULL AND announced < ?
"""

SET_ERROR = "UPDATE events SET error_code = ?, error_message = ? WHERE number = ? AND type IS NULL"

END_EVENT = "UPDATE events SET type = ?, ended_at = ?, announced = ? WHERE number = ? AND type IS NULL"

EVENT_ADDRESS = """
SELECT provider, owner, revision FROM events JOIN submissions USING (number) WHERE number = ?
"""


def end_if_last(db: Cursor, event: int, now: datetime, routes: Sequence[Route]) -> None:
    pending, stored, total = db.execute(COUNT_ASSETS, (event,)).fetchone()
    if pending:
        return
    db.execute(REOPEN, (event, stored))
    if stored == total:
        event_type = EventType.COMPLETED
    elif stored:
        event_type = EventType.PARTIAL
    else:
        event_type = EventType.FAILED
        (outcome,) = db.execute(FIRST_FAILURE, (event,)).fetchone()
        message = "the file could not be had" if total == 1 else f"none of {total} files could be had"
        db.execute(SET_ERROR, (outcome, message, event))
    end_event(db, event, event_type, now, routes, stored=stored)


def end_event(
    db: Cursor,
    event: int,
    event_type: EventType,
    now: datetime,
    routes: Sequence[Route],
    *,
    stored: int = 0,
) -> None:
    """Say how the event ended, and address it to every sink that wants to know; once for all it has."""
    moment = to_text(now)
    if db.execute(END_EVENT, (event_type.value, moment, stored, event)).rowcount == 0:
        return
    provider, owner, revision = db.execute(EVENT_ADDRESS, (event,)).fetchone()
    entries = [
        (event, route.sink, revision, moment, moment)
        for route in routes
        if route.wants(provider, event_type.value, owner)
    ]
    db.executemany(INSERT_OUTBOX, entries)
    if revision > 1:
        db.execute(SUPERSEDE, (event, moment))
