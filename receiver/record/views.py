"""What is read of one submission, event or task, with its history."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

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
from receiver.record.rows import (
    Row,
    fetch_one,
    find_rows,
    from_json,
    parameters,
    read_all,
    read_one,
    to_value,
)

T = TypeVar("T", bound=msgspec.Struct)

SUBMISSION_COLUMNS = (
    "id, provider, owner, task_id, model, request, metadata, created_at, bound_at, withdrawn_at, traceparent"
)

ONE_SUBMISSION = f"SELECT {SUBMISSION_COLUMNS} FROM submissions WHERE id = :id"  # noqa: S608
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

# Events with their submissions, whose numbers they have, and their files; of one or of some.
EVENTS = f"""
SELECT e.number, e.id, e.via, e.received_at, e.type, e.ended_at, e.revision, e.error_code, e.error_message,
    {", ".join(f"s.{column}" for column in SUBMISSION_COLUMNS.split(", "))}
FROM events e JOIN submissions s USING (number) WHERE e.number {{which}}
"""  # noqa: S608
ASSETS_OF_EVENTS = """
SELECT event, position AS "index", state, kind, outcome, attempts, deadline_at, key, media_type, bytes,
    width, height, sha256, settled_at
FROM assets WHERE event {which} ORDER BY event, position
"""
_ONE, SOME = "= :number", "IN (SELECT value FROM json_each(:numbers))"
_OF_ONE, _OF_SOME = (
    tuple(query.format(which=which) for query in (EVENTS, ASSETS_OF_EVENTS)) for which in (_ONE, SOME)
)

EVENT_OF_TASK = """
SELECT number FROM submissions JOIN events USING (number) WHERE provider = :provider AND task_id = :task_id
"""

TRACE_OF_TASK = "SELECT traceparent FROM submissions WHERE provider = :provider AND task_id = :task_id"

LINKS_OF_TASK = """
SELECT url FROM assets
WHERE event = (SELECT number FROM submissions WHERE provider = :provider AND task_id = :task_id)
ORDER BY position
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


def list_unbound(
    db: Cursor, logged_from: datetime, logged_before: datetime, limit: int
) -> tuple[int, list[Submission]]:
    """Reservations of a time that wait for a task; see ``ports.Store.list_unbound``."""
    span = parameters(logged_from=logged_from, logged_before=logged_before, limit=limit)
    (count,) = db.execute(COUNT_UNBOUND, span).fetchone()
    return int(count), read_all(db.execute(OLDEST_UNBOUND, span), Submission)


def event_of(db: Cursor, number: int) -> Event:
    """One event with its submission and assets. It must exist."""
    return _events(db, _OF_ONE, {"number": number})[number]


def events_of(db: Cursor, numbers: Collection[int]) -> Mapping[int, Event]:
    """Events with their submissions and assets, by their numbers. They must exist."""
    if len(numbers) <= 1:
        return {number: event_of(db, number) for number in numbers}
    return _events(db, _OF_SOME, parameters(numbers=numbers))


class _EventRow(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """An event and its submission; made into values one by one, as hundreds are sent in one go."""

    number: int
    id: str
    via: Via
    received_at: datetime
    type: EventType | None
    ended_at: datetime | None
    revision: int
    error_code: str | None
    error_message: str | None
    submission_id: str
    provider: str
    owner: str
    task_id: str
    model: str | None
    request: str | None
    metadata: str
    created_at: datetime
    bound_at: datetime | None
    withdrawn_at: datetime | None
    traceparent: str | None

    def event(self, assets: Sequence[Asset]) -> Event:
        submission = Submission(
            id=self.submission_id,
            provider=self.provider,
            owner=self.owner,
            task_id=self.task_id,
            model=self.model,
            request=None if self.request is None else from_json(self.request),
            metadata=from_json(self.metadata),
            created_at=self.created_at,
            bound_at=self.bound_at,
            withdrawn_at=self.withdrawn_at,
            traceparent=self.traceparent,
        )
        return Event(
            id=self.id,
            provider=self.provider,
            task_id=self.task_id,
            submission=submission,
            via=self.via,
            received_at=self.received_at,
            type=self.type,
            ended_at=self.ended_at,
            revision=self.revision,
            error_code=self.error_code,
            error_message=self.error_message,
            assets=tuple(assets),
        )


class _AssetRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    event: int
    index: int
    state: AssetState
    kind: str
    outcome: Outcome | None
    attempts: int
    deadline_at: datetime
    key: str | None
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None
    settled_at: datetime | None

    def asset(self) -> Asset:
        return Asset(
            index=self.index,
            state=self.state,
            kind=self.kind,
            outcome=self.outcome,
            attempts=self.attempts,
            deadline_at=self.deadline_at,
            key=self.key,
            media_type=self.media_type,
            bytes=self.bytes,
            width=self.width,
            height=self.height,
            sha256=self.sha256,
            settled_at=self.settled_at,
        )


def _events(db: Cursor, queries: Sequence[str], given: Row) -> Mapping[int, Event]:
    events, assets = queries
    files: defaultdict[int, list[Asset]] = defaultdict(list)
    for row in find_rows(db.execute(assets, given), _AssetRow):
        files[row.event].append(row.asset())
    return {
        row.number: row.event(files[row.number]) for row in find_rows(db.execute(events, given), _EventRow)
    }


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
