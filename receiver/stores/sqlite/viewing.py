"""What is read: submissions, tasks with their history, lists and counts."""

import re
import sqlite3
from datetime import datetime
from typing import Any

import msgspec

from receiver.errors import Rejected
from receiver.models import (
    Asset,
    AssetState,
    Attempt,
    Delivery,
    Event,
    EventType,
    OutboxEntry,
    OutboxState,
    Outcome,
    Page,
    Proof,
    Stats,
    Submission,
    Task,
    TaskFilter,
    TaskState,
    TaskSummary,
    Verdict,
    Via,
    from_text,
    to_text,
)

SUBMISSION_COLUMNS = "id, provider, owner, task_id, model, request, metadata, created_at, bound_at"

ONE_SUBMISSION = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE id = ?"  # noqa: S608
SUBMISSION_OF_TASK = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE provider = ? AND task_id = ?"  # noqa: S608
NEWEST_SUBMISSIONS = f"""
SELECT {SUBMISSION_COLUMNS} FROM submissions
WHERE (?1 IS NULL OR provider = ?1) AND (?2 IS NULL OR owner = ?2) ORDER BY id DESC LIMIT ?3
"""  # noqa: S608

# One event with its submission's columns behind its own.
EVENT_COLUMNS = "id, provider, task_id, via, received_at, type, ended_at, revision, error_code, error_message"
EVENT_BY_ID = f"SELECT {EVENT_COLUMNS}, submission_id FROM events WHERE id = ?"  # noqa: S608
EVENT_ID_OF_TASK = "SELECT id FROM events WHERE provider = ? AND task_id = ?"

ASSETS_OF_EVENT = """
SELECT position, state, kind, outcome, attempts, deadline_at, key, media_type, bytes, width, height,
    sha256, settled_at
FROM assets WHERE event_id = ? ORDER BY position
"""

DELIVERIES_OF_TASK = """
SELECT number, via, proof, verdict, provider_state, note, coalesce(length(body), 0), seen,
    received_at, last_seen_at
FROM deliveries WHERE provider = ? AND task_id = ? ORDER BY number LIMIT 500
"""

OUTBOX_OF_EVENT = """
SELECT number, sink, state, revision, replay_id, attempts, outcome, due_at, settled_at
FROM outbox WHERE event_id = ? ORDER BY number
"""

ATTEMPTS_OF_EVENT = """
SELECT target, attempt, outcome, started_at, seconds, detail
FROM attempts WHERE event_id = ? ORDER BY number LIMIT 500
"""

# A page of tasks, newest first; ids sort by age, so the last one shown is the cursor.
TASKS = """
SELECT provider, task_id, state, owner, model, submission_id, submitted_at, ended_at,
    (SELECT count(*) FROM assets a WHERE a.event_id = t.event_id AND a.state = 'stored'),
    (SELECT count(*) FROM assets a WHERE a.event_id = t.event_id)
FROM tasks t
WHERE (?1 IS NULL OR provider = ?1) AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR owner = ?3)
    AND (?4 IS NULL OR submitted_at >= ?4) AND (?5 IS NULL OR submitted_at < ?5)
    AND (?6 IS NULL OR submission_id < ?6)
ORDER BY submission_id DESC LIMIT ?7
"""

# When the next one falls due; a leased one does so when its lease runs out.
NEXT_ASSET = "SELECT min(due_at) FROM assets WHERE state = 'pending'"
NEXT_OUTBOX = "SELECT min(due_at) FROM outbox WHERE state = 'pending' AND sink = ?"

COUNTS = {
    "tasks": "SELECT state, count(*) FROM tasks GROUP BY state",
    "deliveries": "SELECT verdict, count(*) FROM deliveries GROUP BY verdict",
    "assets": "SELECT state, count(*) FROM assets GROUP BY state",
}
COUNT_OUTBOX = "SELECT sink, state, count(*) FROM outbox GROUP BY sink, state"
OLDEST_UNDELIVERED = "SELECT min(created_at) FROM outbox WHERE state = 'pending'"
OLDEST_UNDOWNLOADED = """
SELECT min(e.received_at) FROM events e WHERE e.id IN (SELECT event_id FROM assets WHERE state = 'pending')
"""
NEXT_DEADLINE = "SELECT min(deadline_at) FROM assets WHERE state = 'pending'"

CURSOR = re.compile(r"sub_[0-9a-z]{1,40}")


def get_submission(db: sqlite3.Cursor, submission_id: str) -> Submission | None:
    row = db.execute(ONE_SUBMISSION, (submission_id,)).fetchone()
    return _submission(row) if row else None


def submission_of_task(db: sqlite3.Cursor, provider: str, task_id: str) -> Submission | None:
    row = db.execute(SUBMISSION_OF_TASK, (provider, task_id)).fetchone()
    return _submission(row) if row else None


def list_submissions(
    db: sqlite3.Cursor, provider: str | None, owner: str | None, limit: int
) -> list[Submission]:
    rows = db.execute(NEWEST_SUBMISSIONS, (provider, owner, limit)).fetchall()
    return [_submission(row) for row in rows]


def _submission(row: tuple[Any, ...]) -> Submission:
    """A row of SUBMISSION_COLUMNS as a value."""
    id_, provider, owner, task_id, model, request, metadata, created_at, bound_at = row
    return Submission(
        id=id_,
        provider=provider,
        owner=owner,
        task_id=task_id,
        model=model,
        request=None if request is None else msgspec.json.decode(request),
        metadata=msgspec.json.decode(metadata),
        created_at=from_text(created_at),
        bound_at=_moment(bound_at),
    )


def event_by_id(db: sqlite3.Cursor, event_id: str) -> Event:
    """One event with its submission and assets. It must exist."""
    *own, submission_id = db.execute(EVENT_BY_ID, (event_id,)).fetchone()
    id_, provider, task_id, via, received_at, type_, ended_at, revision, code, message = own
    submission = get_submission(db, submission_id)
    assert submission is not None, "a foreign key keeps it"  # noqa: S101
    return Event(
        id=id_,
        provider=provider,
        task_id=task_id,
        submission=submission,
        via=Via(via),
        received_at=from_text(received_at),
        type=EventType(type_) if type_ else None,
        ended_at=_moment(ended_at),
        revision=revision,
        error_code=code,
        error_message=message,
        assets=tuple(_asset(row) for row in db.execute(ASSETS_OF_EVENT, (event_id,))),
    )


def get_event(db: sqlite3.Cursor, provider: str, task_id: str) -> Event | None:
    row = db.execute(EVENT_ID_OF_TASK, (provider, task_id)).fetchone()
    return event_by_id(db, row[0]) if row else None


def get_task(db: sqlite3.Cursor, provider: str, task_id: str) -> Task | None:
    """One owned task with its whole history, read in one snapshot."""
    db.execute("BEGIN")
    try:
        return _task(db, provider, task_id)
    finally:
        db.execute("COMMIT")


def _task(db: sqlite3.Cursor, provider: str, task_id: str) -> Task | None:
    submission = submission_of_task(db, provider, task_id)
    if submission is None:
        return None
    event = get_event(db, provider, task_id)
    notifications = _notifications(db, event)
    return Task(
        provider=provider,
        task_id=task_id,
        state=_state(event),
        waiting_on=_waiting_on(event, notifications),
        submission=submission,
        event=event,
        deliveries=tuple(_delivery(row) for row in db.execute(DELIVERIES_OF_TASK, (provider, task_id))),
        notifications=notifications,
        attempts=_attempts(db, event),
    )


def _state(event: Event | None) -> TaskState:
    if event is None:
        return TaskState.SUBMITTED
    if event.type is None:
        return TaskState.FETCHING
    return TaskState(event.type.value.removeprefix("task."))


def _waiting_on(event: Event | None, notifications: tuple[OutboxEntry, ...]) -> str | None:
    if event is None:
        return "the provider's callback"
    pending = [asset for asset in event.assets if asset.state is AssetState.PENDING]
    if pending:
        last = next((f", last try: {asset.outcome}" for asset in pending if asset.outcome), "")
        return f"{len(pending)} of {len(event.assets)} files{last}"
    sinks = [entry.sink for entry in notifications if entry.state is OutboxState.PENDING]
    return f"sink {', '.join(sinks)}" if sinks else None


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
        settled_at=_moment(row[12]),
    )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    return Delivery(
        id=f"dlv_{row[0]}",
        via=Via(row[1]),
        proof=Proof(row[2]),
        verdict=Verdict(row[3]),
        provider_state=row[4],
        note=row[5],
        bytes=row[6],
        seen=row[7],
        received_at=from_text(row[8]),
        last_seen_at=from_text(row[9]),
    )


def _notifications(db: sqlite3.Cursor, event: Event | None) -> tuple[OutboxEntry, ...]:
    if event is None:
        return ()
    return tuple(
        OutboxEntry(
            id=f"out_{row[0]}",
            sink=row[1],
            state=OutboxState(row[2]),
            revision=row[3],
            replay_id=row[4] or None,
            attempts=row[5],
            outcome=Outcome(row[6]) if row[6] else None,
            due_at=from_text(row[7]),
            settled_at=_moment(row[8]),
        )
        for row in db.execute(OUTBOX_OF_EVENT, (event.id,))
    )


def _attempts(db: sqlite3.Cursor, event: Event | None) -> tuple[Attempt, ...]:
    if event is None:
        return ()
    return tuple(
        Attempt(
            target=row[0],
            number=row[1],
            outcome=Outcome(row[2]),
            started_at=from_text(row[3]),
            seconds=row[4],
            detail=row[5],
        )
        for row in db.execute(ATTEMPTS_OF_EVENT, (event.id,))
    )


def list_tasks(db: sqlite3.Cursor, wanted: TaskFilter, limit: int, cursor: str | None) -> Page:
    """A page of tasks; see ``ports.Store.list_tasks``."""
    if cursor is not None and not CURSOR.fullmatch(cursor):
        raise Rejected(400, "Bad cursor", "Pass the next_cursor of the page before, or none.")
    values = (
        wanted.provider,
        wanted.state.value if wanted.state else None,
        wanted.owner,
        to_text(wanted.since) if wanted.since else None,
        to_text(wanted.until) if wanted.until else None,
        cursor,
        limit + 1,
    )
    rows = db.execute(TASKS, values).fetchall()
    tasks = tuple(_summary(row) for row in rows[:limit])
    return Page(tasks=tasks, next_cursor=tasks[-1].submission_id if len(rows) > limit else None)


def _summary(row: tuple[Any, ...]) -> TaskSummary:
    return TaskSummary(
        provider=row[0],
        task_id=row[1],
        state=TaskState(row[2]),
        owner=row[3],
        model=row[4],
        submission_id=row[5],
        submitted_at=from_text(row[6]),
        ended_at=_moment(row[7]),
        assets_stored=row[8],
        assets_total=row[9],
    )


def next_due_at(db: sqlite3.Cursor, sink: str | None) -> datetime | None:
    """When the next asset (or entry of a sink) falls due; see ``ports.Store.next_due_at``."""
    if sink is None:
        (moment,) = db.execute(NEXT_ASSET).fetchone()
    else:
        (moment,) = db.execute(NEXT_OUTBOX, (sink,)).fetchone()
    return _moment(moment)


def count_stats(db: sqlite3.Cursor) -> Stats:
    """How much there is of everything, and how old the oldest is."""
    counts = {name: dict(db.execute(sql).fetchall()) for name, sql in COUNTS.items()}
    outbox: dict[str, dict[str, int]] = {}
    for sink, state, count in db.execute(COUNT_OUTBOX):
        outbox.setdefault(sink, {})[state] = count
    return Stats(
        submissions=db.execute("SELECT count(*) FROM submissions").fetchone()[0],
        outbox=outbox,
        oldest_undelivered_at=_only_moment(db, OLDEST_UNDELIVERED),
        oldest_undownloaded_at=_only_moment(db, OLDEST_UNDOWNLOADED),
        next_deadline_at=_only_moment(db, NEXT_DEADLINE),
        **counts,
    )


def _only_moment(db: sqlite3.Cursor, query: str) -> datetime | None:
    return _moment(db.execute(query).fetchone()[0])


def _moment(text: str | None) -> datetime | None:
    return from_text(text) if text else None
