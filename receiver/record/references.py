"""The numbers of the tasks that an id leads to, whatever it is the id of."""

import re

import msgspec

from receiver.models import TaskReference
from receiver.record import ids
from receiver.record.cursor import Cursor
from receiver.record.filters import NUMBERS, json_list

# An event is named after its submission; those of releases before 0.4.0 had names of their own.
BY_EVENT = """
SELECT e.number FROM submissions s CROSS JOIN events e ON e.number = s.number
WHERE s.id = 'sub_' || substr(:event, 5) AND e.id = :event AND e.revision >= :revision
UNION SELECT e.number FROM earlier_event_ids i CROSS JOIN events e ON e.number = i.number
WHERE i.id = :event AND e.revision >= :revision
"""
BY_SUBMISSION = "SELECT number FROM submissions WHERE id = :submission_id"
BY_NOTIFICATION = """
SELECT o.event FROM submissions s CROSS JOIN outbox o ON o.event = s.number
WHERE s.id = :submission_id AND o.sink = :sink AND o.revision = :revision AND o.replay_id = :replay_id
"""
# All that came for the task of a submission, by the index of their keys alone.
DELIVERIES = """
SELECT s.number, d.claim, d.digest FROM submissions s
CROSS JOIN deliveries d ON d.provider = s.provider AND d.task_id = s.task_id
WHERE s.id = :submission_id
"""

_EVENT = re.compile(r"(evt_.+?)(?:\.([1-9][0-9]{0,8}))?")


def numbers(db: Cursor, reference: TaskReference, provider: str | None) -> list[int]:
    """Those of the tasks that every id of the reference leads to; few, for ids are one task's each."""
    given = {name: value for name, value in msgspec.structs.asdict(reference).items() if value is not None}
    found = [_numbers(db, name, value, provider) for name, value in given.items()]
    return sorted(set.intersection(*found))


def _numbers(db: Cursor, name: str, value: str, provider: str | None) -> set[int]:
    match name:
        case "event_id":
            return _of_event(db, value)
        case "delivery_id":
            return _of_delivery(db, value)
        case "notification_id":
            return _of_notification(db, value)
        case "submission_id":
            rows = db.execute(BY_SUBMISSION, {"submission_id": value})
        case _:
            rows = db.execute(NUMBERS, {"provider": provider, "task_ids": json_list([value])})
    return {number for (number,) in rows}


def _of_event(db: Cursor, id_: str) -> set[int]:
    """By its own id, or that of any revision of it."""
    named = _EVENT.fullmatch(id_)
    if named is None:
        return set()
    values = {"event": named[1], "revision": int(named[2] or 1)}
    return {number for (number,) in db.execute(BY_EVENT, values)}


def _of_delivery(db: Cursor, id_: str) -> set[int]:
    named = ids.read_delivery_id(id_)
    if named is None:
        return set()
    rows = db.execute(DELIVERIES, {"submission_id": named.submission_id})
    return {number for number, claim, digest in rows if ids.delivery_mark(claim, digest) == named.mark}


def _of_notification(db: Cursor, id_: str) -> set[int]:
    named = ids.read_notification_id(id_)
    if named is None:
        return set()
    return {number for (number,) in db.execute(BY_NOTIFICATION, msgspec.structs.asdict(named))}
