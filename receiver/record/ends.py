"""How an event ends, and whom that is told: one outbox entry for each sink that wants it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from receiver.models import EventType, Route
from receiver.record import rules
from receiver.record.cursor import Cursor
from receiver.record.outbox import INSERT_OUTBOX, SUPERSEDE
from receiver.record.rows import fetch_one, parameters
from receiver.times import to_text

# How an event's assets stand.
COUNT_ASSETS = """
SELECT count(CASE state WHEN 'pending' THEN 1 END) AS pending,
    count(CASE state WHEN 'stored' THEN 1 END) AS stored, count(*) AS total
FROM assets WHERE event = :event
"""

FIRST_FAILURE = """
SELECT outcome FROM assets WHERE event = :event AND state = 'failed' ORDER BY position LIMIT 1
"""

# An event that had ended has more of its files than consumers were told of: it ends anew.
REOPEN = """
UPDATE events SET type = NULL, error_code = NULL, error_message = NULL, revision = revision + 1
WHERE number = :event AND type IS NOT NULL AND announced < :stored
"""

SET_ERROR = """
UPDATE events SET error_code = :code, error_message = :message WHERE number = :event AND type IS NULL
"""

END_EVENT = """
UPDATE events SET type = :type, ended_at = :ended_at, announced = :stored
WHERE number = :event AND type IS NULL
"""

EVENT_ADDRESS = """
SELECT s.provider AS provider, s.owner AS owner, e.revision AS revision
FROM events e JOIN submissions s USING (number) WHERE number = :event
"""


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an event ends, and what says who wants to know."""

    event: int
    type: EventType
    ended_at: datetime
    stored: int = 0  # of its files
    provider: str
    owner: str
    revision: int = 1


def end_all(db: Cursor, ends: Sequence[End], routes: Sequence[Route]) -> None:
    """Say how new events ended, and address each to every sink that wants to know."""
    db.executemany(
        END_EVENT,
        [
            parameters(event=end.event, type=end.type, ended_at=end.ended_at, stored=end.stored)
            for end in ends
        ],
    )
    _address(db, ends, routes)


def end_if_last(db: Cursor, event: int, now: datetime, routes: Sequence[Route]) -> None:
    """End an event of which no file is pending any more."""
    files = fetch_one(db.execute(COUNT_ASSETS, {"event": event}))
    assert files is not None, "counting always comes to something"  # noqa: S101
    pending, stored, total = files["pending"], files["stored"], files["total"]
    if pending:
        return
    db.execute(REOPEN, {"event": event, "stored": stored})
    event_type = rules.end_of_files(stored, total)
    if event_type is EventType.FAILED:
        (outcome,) = db.execute(FIRST_FAILURE, {"event": event}).fetchone()
        message = rules.error_of_files(total)
        db.execute(SET_ERROR, {"event": event, "code": outcome, "message": message})
    end_event(db, event, event_type, now, routes, stored=stored)


def end_event(
    db: Cursor,
    event: int,
    event_type: EventType,
    now: datetime,
    routes: Sequence[Route],
    *,
    stored: int,
) -> None:
    """Say how the event ended, and address it to every sink that wants to know; once for all it has."""
    ended = parameters(event=event, type=event_type, ended_at=now, stored=stored)
    if db.execute(END_EVENT, ended).rowcount == 0:
        return
    address = fetch_one(db.execute(EVENT_ADDRESS, {"event": event}))
    assert address is not None, "the event that has just ended"  # noqa: S101
    end = End(event=event, type=event_type, ended_at=now, stored=stored, **address)
    _address(db, [end], routes)
    if end.revision > 1:
        db.execute(SUPERSEDE, (event, to_text(now)))


def _address(db: Cursor, ends: Sequence[End], routes: Sequence[Route]) -> None:
    entries = [
        (end.event, route.sink, end.revision, moment, moment)
        for end in ends
        for moment in (to_text(end.ended_at),)
        for route in routes
        if route.wants(end.provider, end.type.value, end.owner)
    ]
    if entries:
        db.executemany(INSERT_OUTBOX, entries)
