"""The numbers of the tasks that an id leads to, whatever it is the id of."""

import re

import msgspec

from receiver.models import TaskReference
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
BY_DELIVERY = """
SELECT s.number FROM deliveries d CROSS JOIN submissions s
    ON s.provider = d.provider AND s.task_id = d.task_id
WHERE d.number = :number
"""
BY_NOTIFICATION = "SELECT event FROM outbox WHERE number = :number"

_EVENT = re.compile(r"(evt_.+?)(?:\.([1-9][0-9]{0,8}))?")
_NUMBERED = re.compile(r"(?:dlv|out)_([0-9]{1,18})")


def numbers(db: Cursor, reference: TaskReference, provider: str | None) -> list[int]:
    """Those of the tasks that every id of the reference leads to; few, for ids are one task's each."""
    given = {name: value for name, value in msgspec.structs.asdict(reference).items() if value is not None}
    found = [_numbers(db, name, value, provider) for name, value in given.items()]
    return sorted(set.intersection(*found))


def _numbers(db: Cursor, name: str, value: str, provider: str | None) -> set[int]:
    match name:
        case "event_id":
            return _of_event(db, value)
        case "submission_id":
            rows = db.execute(BY_SUBMISSION, {"submission_id": value})
        case "task_id":
            rows = db.execute(NUMBERS, {"provider": provider, "task_ids": json_list([value])})
        case _:
            numbered = _NUMBERED.fullmatch(value)
            query = BY_DELIVERY if name == "delivery_id" else BY_NOTIFICATION
            rows = db.execute(query, {"number": int(numbered[1]) if numbered else -1})
    return {number for (number,) in rows}


def _of_event(db: Cursor, id_: str) -> set[int]:
    """By its own id, or that of any revision of it."""
    named = _EVENT.fullmatch(id_)
    if named is None:
        return set()
    values = {"event": named[1], "revision": int(named[2] or 1)}
    return {number for (number,) in db.execute(BY_EVENT, values)}
