"""What is read: submissions, events, tasks with their history, and lists of them."""

from datetime import datetime
from typing import Any, TypeVar

import msgspec

from receiver.models import (
    Asset,
    AssetState,
    Event,
    EventType,
    HistoryPage,
    LeftOut,
    Outcome,
    Poll,
    Submission,
    Task,
    TaskState,
    Verdict,
    Via,
)
from receiver.options import StoreOptions, why_not_asked
from receiver.record import history
from receiver.record.cursor import Cursor, snapshot
from receiver.record.waiting import waiting_on
from receiver.times import from_text, from_text_if_any, to_text

T = TypeVar("T")

SUBMISSION_COLUMNS = (
    "id, provider, owner, task_id, model, request, metadata, created_at, bound_at, withdrawn_at"
)

ONE_SUBMISSION = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE id = ?"  # noqa: S608
SUBMISSION_OF_TASK = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE provider = ? AND task_id = ?"  # noqa: S608

# Reservations that wait for a task, with the words of their index.
OLDEST_UNBOUND = f"""
SELECT {SUBMISSION_COLUMNS} FROM submissions
WHERE task_id IS NULL AND withdrawn_at IS NULL
    AND created_at >= ? AND created_at < ? ORDER BY created_at, number LIMIT ?
"""  # noqa: S608
COUNT_UNBOUND = """
SELECT count(*) FROM submissions WHERE task_id IS NULL AND withdrawn_at IS NULL
    AND created_at >= ? AND created_at < ?
"""

# An event has its submission's number.
EVENT = """
SELECT id, via, received_at, type, ended_at, revision, error_code, error_message FROM events WHERE number = ?
"""
SUBMISSION_OF_EVENT = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE number = ?"  # noqa: S608
EVENT_OF_TASK = """
SELECT number FROM submissions JOIN events USING (number) WHERE provider = ? AND task_id = ?
"""

ASSETS_OF_EVENT = """
SELECT position, state, kind, outcome, attempts, deadline_at, key, media_type, bytes, width, height,
    sha256, settled_at
FROM assets WHERE event = ? ORDER BY position
"""

LINKS_OF_TASK = """
SELECT url FROM assets WHERE event = (SELECT number FROM submissions WHERE provider = ? AND task_id = ?)
ORDER BY position
"""

PENDING_SINKS = """
SELECT sink FROM outbox WHERE event = ? AND state = 'pending' GROUP BY sink ORDER BY min(number)
"""

# What the deliveries of a task turned out to be; no row where it has ended, or nobody logged it.
VERDICTS_OF_UNENDED = """
SELECT DISTINCT d.verdict, d.via = 'callback' AND (d.claim = s.id OR d.proof = 'signature')
FROM submissions s LEFT JOIN deliveries d USING (provider, task_id)
WHERE s.provider = ? AND s.task_id = ? AND s.number NOT IN (SELECT number FROM events)
"""

POLL_OF_TASK = """
SELECT asked, outcome, detail, asked_at, due_at, held FROM submissions JOIN polls USING (number)
WHERE submissions.provider = ? AND task_id = ?
"""


def get_submission(db: Cursor, submission_id: str) -> Submission | None:
    row = db.execute(ONE_SUBMISSION, (submission_id,)).fetchone()
    return submission_of_row(row) if row else None


def submission_of_task(db: Cursor, provider: str, task_id: str) -> Submission | None:
    row = db.execute(SUBMISSION_OF_TASK, (provider, task_id)).fetchone()
    return submission_of_row(row) if row else None


def list_unbound(
    db: Cursor, logged_from: datetime, logged_before: datetime, limit: int
) -> tuple[int, list[Submission]]:
    """Reservations of a time that wait for a task; see ``ports.Store.list_unbound``."""
    span = (to_text(logged_from), to_text(logged_before))
    (count,) = db.execute(COUNT_UNBOUND, span).fetchone()
    rows = db.execute(OLDEST_UNBOUND, (*span, limit)).fetchall()
    return int(count), [submission_of_row(row) for row in rows]


def submission_of_row(row: tuple[Any, ...]) -> Submission:
    """A row of SUBMISSION_COLUMNS as a value."""
    id_, provider, owner, task_id, model, request, metadata, created_at, bound_at, withdrawn_at = row
    return Submission(
        id=id_,
        provider=provider,
        owner=owner,
        task_id=task_id,
        model=model,
        request=None if request is None else msgspec.json.decode(request),
        metadata=msgspec.json.decode(metadata),
        created_at=from_text(created_at),
        bound_at=from_text_if_any(bound_at),
        withdrawn_at=from_text_if_any(withdrawn_at),
    )


def event_of(db: Cursor, number: int) -> Event:
    """One event with its submission and assets. It must exist."""
    id_, via, received_at, type_, ended_at, revision, code, message = db.execute(EVENT, (number,)).fetchone()
    submission = submission_of_row(db.execute(SUBMISSION_OF_EVENT, (number,)).fetchone())
    assert submission.task_id is not None, "a submission without a task has no event"  # noqa: S101
    return Event(
        id=id_,
        provider=submission.provider,
        task_id=submission.task_id,
        submission=submission,
        via=Via(via),
        received_at=from_text(received_at),
        type=EventType(type_) if type_ else None,
        ended_at=from_text_if_any(ended_at),
        revision=revision,
        error_code=code,
        error_message=message,
        assets=tuple(_asset(row) for row in db.execute(ASSETS_OF_EVENT, (number,))),
    )


def get_event(db: Cursor, provider: str, task_id: str) -> Event | None:
    row = db.execute(EVENT_OF_TASK, (provider, task_id)).fetchone()
    return event_of(db, row[0]) if row else None


def list_links(db: Cursor, provider: str, task_id: str) -> list[str]:
    return [url for (url,) in db.execute(LINKS_OF_TASK, (provider, task_id))]


def get_verdicts(db: Cursor, provider: str, task_id: str) -> frozenset[Verdict] | None:
    """What came for a task that has not ended; see ``ports.Store.get_verdicts``."""
    rows = db.execute(VERDICTS_OF_UNENDED, (provider, task_id)).fetchall()
    if not rows:
        return None
    counting = [verdict for verdict, is_proved in rows if verdict != Verdict.UNRECOGNISED or is_proved]
    return frozenset(Verdict(verdict) for verdict in counting if verdict)


def get_task(db: Cursor, provider: str, task_id: str, options: StoreOptions) -> Task | None:
    """One owned task with its whole history, read in one snapshot."""
    with snapshot(db):
        return _task(db, provider, task_id, options)


def _task(db: Cursor, provider: str, task_id: str, options: StoreOptions) -> Task | None:
    submission = submission_of_task(db, provider, task_id)
    if submission is None:
        return None
    (number,) = db.execute(EVENT_OF_TASK, (provider, task_id)).fetchone() or (None,)
    event = None if number is None else event_of(db, number)
    poll, held = (None, False) if event else _poll(db, provider, task_id)
    task = {"provider": provider, "task_id": task_id}
    deliveries, more_deliveries = history.show(db, history.DELIVERIES, task)
    notifications, more_notifications = history.show(db, history.NOTIFICATIONS, {"event": number})
    attempts, more_attempts = history.show(db, history.ATTEMPTS, {"event": number})
    return Task(
        provider=provider,
        task_id=task_id,
        state=_state(event),
        waiting_on=waiting_on(
            event,
            poll,
            get_verdicts(db, provider, task_id) or frozenset(),
            [_named(sink, options) for (sink,) in db.execute(PENDING_SINKS, (number,))],
            is_held=held,
            not_asked=why_not_asked(options, provider),
        ),
        submission=submission,
        event=event,
        poll=poll,
        deliveries=deliveries,
        notifications=notifications,
        attempts=attempts,
        left_out=LeftOut(
            deliveries=more_deliveries, notifications=more_notifications, attempts=more_attempts
        ),
    )


def list_history(
    db: Cursor, kind: history.Kind[T], task: tuple[str, str], limit: int, cursor: str | None
) -> HistoryPage[T] | None:
    """A page of one kind of what happened to a task; None for an unknown one."""
    if submission_of_task(db, *task) is None:
        return None
    (event,) = db.execute(EVENT_OF_TASK, task).fetchone() or (None,)
    values = {"provider": task[0], "task_id": task[1], "event": event}
    return history.list_page(db, kind, values, limit, cursor)


def _named(sink: str, options: StoreOptions) -> str:
    """A sink that waits for an event; whoever opens the record for a look around knows of none."""
    is_set = not options.routes or any(route.sink == sink for route in options.routes)
    return sink if is_set else f"{sink} (not set)"


def _state(event: Event | None) -> TaskState:
    if event is None:
        return TaskState.SUBMITTED
    if event.type is None:
        return TaskState.FETCHING
    return TaskState(event.type.value.removeprefix("task."))


def _poll(db: Cursor, provider: str, task_id: str) -> tuple[Poll | None, bool]:
    """How far asking has come, and whether a callback waits for the answer."""
    row = db.execute(POLL_OF_TASK, (provider, task_id)).fetchone()
    if row is None:
        return None, False
    poll = Poll(
        asked=row[0],
        outcome=Outcome(row[1]) if row[1] else None,
        detail=row[2],
        asked_at=from_text_if_any(row[3]),
        due_at=from_text(row[4]),
    )
    return poll, bool(row[5])


def _asset(row: tuple[Any, ...]) -> Asset:
    return Asset(
        index=row[0],
        state=AssetState(row[1]),
        kind=row[2],
        outcome=Outcome(row[3]) if row[3] else None,
        attempts=row[4],
        deadline_at=from_text(row[5]),
        key=row[6],
        media_type=row[7],
        bytes=row[8],
        width=row[9],
        height=row[10],
        sha256=row[11],
        settled_at=from_text_if_any(row[12]),
    )
