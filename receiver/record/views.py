"""What is read of one submission, event or task, with its history."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from receiver.models import (
    Asset,
    AssetState,
    Event,
    HistoryPage,
    LeftOut,
    Outcome,
    Poll,
    Submission,
    Task,
    TaskState,
    Verdict,
)
from receiver.options import StoreOptions, why_not_asked
from receiver.record import history
from receiver.record.costs import cost_of
from receiver.record.cursor import Cursor, snapshot
from receiver.record.rows import (
    fetch_one,
    parameters,
    read_all,
    read_one,
    to_value,
)

T = TypeVar("T", bound=msgspec.Struct)

# What is in the rows of submissions themselves.
OWN_COLUMNS = (
    "id, provider, owner, task_id, model, metadata, created_at, bound_at, withdrawn_at, traceparent, key"
)


def submission_columns(table: str) -> str:
    """All that there is of a submission, where its table goes by such a name."""
    request = f"(SELECT request FROM requests r WHERE r.number = {table}.number) AS request"  # noqa: S608
    return ", ".join([*(f"{table}.{name}" for name in OWN_COLUMNS.split(", ")), request])


SUBMISSION_COLUMNS = submission_columns("submissions")

ONE_SUBMISSION = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE id = :id"  # noqa: S608
SUBMISSION_OF_KEY = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE key = :key"  # noqa: S608
SUBMISSION_OF_TASK = f"""
SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE provider = :provider AND task_id = :task_id
"""  # noqa: S608

# Reservations that wait for a task, with the words of their index.
OLDEST_UNBOUND = f"""
SELECT {SUBMISSION_COLUMNS} FROM submissions
WHERE task_id IS NULL AND withdrawn_at IS NULL
    AND created_at >= :logged_from AND created_at < :logged_before ORDER BY created_at, number LIMIT :limit
"""  # noqa: S608
COUNT_UNBOUND = """
SELECT count(*) FROM submissions WHERE task_id IS NULL AND withdrawn_at IS NULL
    AND created_at >= :logged_from AND created_at < :logged_before
"""

# An event, its submission, which has the same number, and its files.
ONE_EVENT = """
SELECT id, via, received_at, type, ended_at, revision, error_code, error_message
FROM events WHERE number = :number
"""
SUBMISSION_OF_EVENT = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE number = :number"  # noqa: S608
ASSETS_OF_EVENT = """
SELECT position AS "index", state, kind, outcome, attempts, deadline_at, key, media_type, bytes, width,
    height, sha256, settled_at
FROM assets WHERE event = :number ORDER BY position
"""

EVENT_OF_TASK = """
SELECT number FROM submissions JOIN events USING (number) WHERE provider = :provider AND task_id = :task_id
"""

TRACE_OF_TASK = "SELECT traceparent FROM submissions WHERE provider = :provider AND task_id = :task_id"

LINKS_OF_TASK = """
SELECT coalesce(url, '') FROM assets LEFT JOIN links USING (event, position)
WHERE event = (SELECT number FROM submissions WHERE provider = :provider AND task_id = :task_id)
ORDER BY position
"""

# The plus is for SQLite: by its task it is found at once.
END_BODIES = """
SELECT body FROM deliveries
WHERE provider = :provider AND task_id = :task_id AND +verdict = 'accepted' AND body IS NOT NULL
ORDER BY number DESC
"""

PENDING_SINKS = """
SELECT sink FROM outbox WHERE event = :event AND state = 'pending' GROUP BY sink ORDER BY min(number)
"""

# What the deliveries of a task turned out to be; no row where it has ended, or nobody logged it.
VERDICTS_OF_UNENDED = """
SELECT DISTINCT d.verdict, d.via = 'callback' AND (d.claim = s.id OR d.proof = 'signature') AS is_proved
FROM submissions s LEFT JOIN deliveries d USING (provider, task_id)
WHERE s.provider = :provider AND s.task_id = :task_id
    AND NOT EXISTS (SELECT 1 FROM events e WHERE e.number = s.number)
"""

POLL_OF_TASK = """
SELECT asked, outcome, detail, asked_at, due_at, held FROM submissions JOIN polls USING (number)
WHERE submissions.provider = :provider AND task_id = :task_id
"""


def get_submission(db: Cursor, submission_id: str) -> Submission | None:
    return read_one(db.execute(ONE_SUBMISSION, {"id": submission_id}), Submission)


def submission_of_task(db: Cursor, provider: str, task_id: str) -> Submission | None:
    task = {"provider": provider, "task_id": task_id}
    return read_one(db.execute(SUBMISSION_OF_TASK, task), Submission)


def submission_of_key(db: Cursor, key: str) -> Submission | None:
    return read_one(db.execute(SUBMISSION_OF_KEY, {"key": key}), Submission)


def list_unbound(
    db: Cursor, logged_from: datetime, logged_before: datetime, limit: int
) -> tuple[int, list[Submission]]:
    """Reservations of a time that wait for a task; see ``ports.Store.list_unbound``."""
    span = parameters(logged_from=logged_from, logged_before=logged_before, limit=limit)
    (count,) = db.execute(COUNT_UNBOUND, span).fetchone()
    return int(count), read_all(db.execute(OLDEST_UNBOUND, span), Submission)


def event_of(db: Cursor, number: int) -> Event:
    """One event with its submission and assets. It must exist."""
    given = {"number": number}
    submission = read_one(db.execute(SUBMISSION_OF_EVENT, given), Submission)
    assert submission is not None, "an event has its submission's number"  # noqa: S101
    assets = read_all(db.execute(ASSETS_OF_EVENT, given), Asset)
    event = read_one(
        db.execute(ONE_EVENT, given),
        Event,
        provider=submission.provider,
        task_id=submission.task_id,
        submission=submission,
        assets=tuple(assets),
    )
    assert event is not None, "its number was read from it"  # noqa: S101
    return event


def get_event(db: Cursor, provider: str, task_id: str) -> Event | None:
    number = _number_of_event(db, provider, task_id)
    return None if number is None else event_of(db, number)


def _number_of_event(db: Cursor, provider: str, task_id: str) -> int | None:
    (number,) = db.execute(EVENT_OF_TASK, {"provider": provider, "task_id": task_id}).fetchone() or (None,)
    return number


def get_traceparent(db: Cursor, provider: str, task_id: str) -> str | None:
    found = db.execute(TRACE_OF_TASK, {"provider": provider, "task_id": task_id}).fetchone()
    return found[0] if found else None


def list_links(db: Cursor, provider: str, task_id: str) -> list[str]:
    return [url for (url,) in db.execute(LINKS_OF_TASK, {"provider": provider, "task_id": task_id})]


def list_end_bodies(db: Cursor, provider: str, task_id: str) -> list[bytes]:
    """What ended a task; see ``ports.Store.list_end_bodies``."""
    values = {"provider": provider, "task_id": task_id}
    return [bytes(body) for (body,) in db.execute(END_BODIES, values)]


def get_verdicts(db: Cursor, provider: str, task_id: str) -> frozenset[Verdict] | None:
    """What came for a task that has not ended; see ``ports.Store.get_verdicts``."""
    rows = db.execute(VERDICTS_OF_UNENDED, {"provider": provider, "task_id": task_id}).fetchall()
    if not rows:
        return None
    counting = [verdict for verdict, is_proved in rows if verdict != Verdict.UNRECOGNISED or is_proved]
    return frozenset(Verdict(verdict) for verdict in counting if verdict)


def get_task(db: Cursor, provider: str, task_id: str, options: StoreOptions) -> Task | None:
    """One owned task with its whole history, read in one snapshot."""
    with snapshot(db):
        submission = submission_of_task(db, provider, task_id)
        if submission is None:
            return None
        number = _number_of_event(db, provider, task_id)
        event = None if number is None else event_of(db, number)
        task = {"provider": provider, "task_id": task_id, "submission_id": submission.id, "event": number}
        found = None if event else fetch_one(db.execute(POLL_OF_TASK, task))
        poll = to_value(found, Poll) if found else None
        deliveries, more_deliveries = history.show(db, history.DELIVERIES, task)
        notifications, more_notifications = history.show(db, history.NOTIFICATIONS, task)
        attempts, more_attempts = history.show(db, history.ATTEMPTS, task)
        return Task(
            provider=provider,
            task_id=task_id,
            state=_state(event),
            waiting_on=_waiting_on(
                event,
                poll,
                get_verdicts(db, provider, task_id) or frozenset(),
                [_named(sink, options) for (sink,) in db.execute(PENDING_SINKS, {"event": number})],
                is_held=bool(found and found["held"]),
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
            cost=cost_of(db, submission.id),
        )


def _waiting_on(
    event: Event | None,
    poll: Poll | None,
    verdicts: Collection[Verdict],
    sinks: Sequence[str],
    *,
    is_held: bool,
    not_asked: str | None,
) -> str | None:
    """What a task waits for, in words for people; None where it waits for nothing.

    ``verdicts`` are those of its deliveries while it has no end, ``sinks`` those that are still to be told.
    ``is_held`` says that a callback waits for the provider's confirmation, ``not_asked`` why the provider is
    not asked, where it is not.
    """
    if event is None:
        return _for_an_end(poll, is_held, not_asked) + _unread(poll, verdicts)
    pending = [asset for asset in event.assets if asset.state is AssetState.PENDING]
    if pending:
        last = next((f", last try: {asset.outcome}" for asset in pending if asset.outcome), "")
        return f"{len(pending)} of {len(event.assets)} files{last}"
    return f"sink {', '.join(sinks)}" if sinks else None


def _for_an_end(poll: Poll | None, is_held: bool, not_asked: str | None) -> str:
    what = "the provider's confirmation" if is_held else "the provider's callback"
    if poll is not None and poll.outcome is Outcome.NO_FILES:
        what = "the files: the provider reported success and named none"
    if not_asked:
        return f"{what}; it cannot be asked: {not_asked}"
    if poll is None or poll.outcome is None:
        return what
    times = "once" if poll.asked == 1 else f"{poll.asked} times"
    return f"{what if is_held else 'the provider'}, asked {times}, last: {poll.outcome}"


def _unread(poll: Poll | None, verdicts: Collection[Verdict]) -> str:
    """What a release that understands more could end the task with, if there is anything."""
    is_unread = poll is not None and poll.outcome is Outcome.UNREADABLE
    if is_unread or Verdict.UNRECOGNISED in verdicts:
        return "; it gave an answer that is not understood"
    return ""


def list_history(
    db: Cursor, kind: history.Kind[T], task: tuple[str, str], limit: int, cursor: str | None
) -> HistoryPage[T] | None:
    """A page of one kind of what happened to a task; None for an unknown one."""
    submission = submission_of_task(db, *task)
    if submission is None:
        return None
    provider, task_id = task
    values = {
        "provider": provider,
        "task_id": task_id,
        "submission_id": submission.id,
        "event": _number_of_event(db, provider, task_id),
    }
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
