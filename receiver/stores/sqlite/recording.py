"""What a delivery or a submission does to the tables, inside one transaction.

Ownership first, then the event, whose unique key decides who came first, then the delivery that remembers
the verdict. Nothing here is checked and later written: the keys prevent doubles, the code only names them.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from receiver.clock import Clock
from receiver.errors import Rejected, Unavailable
from receiver.models import (
    EventType,
    Outcome,
    Receipt,
    Recording,
    Report,
    ReportState,
    Route,
    Submission,
    Verdict,
    to_text,
)
from receiver.stores.sqlite.settling import end_event
from receiver.stores.sqlite.viewing import SUBMISSION_COLUMNS, get_submission, submission_of_task


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the record needs to know besides the delivery."""

    routes: Sequence[Route]
    early_limit: int
    early_ttl: timedelta
    clock: Clock


# The submission a token names.
SUBMISSION_BY_ID = "SELECT id, task_id, owner FROM submissions WHERE id = ? AND provider = ?"

# The submission that a task belongs to.
SUBMISSION_BY_TASK = "SELECT id, owner FROM submissions WHERE provider = ? AND task_id = ?"

# Tie a reserved submission to its task; the unique key refuses a task that another one has.
BIND = "UPDATE OR IGNORE submissions SET task_id = ?, bound_at = ? WHERE id = ? AND task_id IS NULL"

# The first terminal state of a task wins; a later one finds the key taken.
INSERT_EVENT = """
INSERT INTO events (id, provider, task_id, submission_id, via, fingerprint, received_at,
    error_code, error_message)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (provider, task_id) DO NOTHING
"""

EVENT_BY_TASK = "SELECT id, fingerprint FROM events WHERE provider = ? AND task_id = ?"

INSERT_ASSET = """
INSERT INTO assets (event_id, position, url, kind, due_at, deadline_at) VALUES (?, ?, ?, ?, ?, ?)
"""

# A repeat raises a counter. Only a verdict that was open is replaced: the others are history.
UPSERT_DELIVERY = """
INSERT INTO deliveries (provider, task_id, claim, digest, submission_id, event_id, via, proof, verdict,
    provider_state, note, waiting, received_at, last_seen_at, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (provider, task_id, claim, digest) DO UPDATE SET
    seen = seen + 1,
    last_seen_at = excluded.last_seen_at,
    received_at = CASE WHEN verdict = 'unowned' THEN excluded.received_at ELSE received_at END,
    submission_id = coalesce(submission_id, excluded.submission_id),
    event_id = coalesce(event_id, excluded.event_id),
    waiting = excluded.waiting,
    verdict = CASE WHEN verdict IN ('early', 'unowned', 'unrecognised', 'refused')
        THEN excluded.verdict ELSE verdict END
"""

# How many deliveries came lately that nobody owns; counting stops at the limit.
COUNT_OWNERLESS = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE submission_id IS NULL AND verdict IN ('early', 'unrecognised') AND received_at > ? LIMIT ?)
"""

# What one token may pile up on one task: beyond it a new body is counted on the newest row, not kept.
MOST_BODIES = 100
COUNT_BODIES = """
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? LIMIT ?)
"""
COUNT_ON_NEWEST = """
UPDATE deliveries SET seen = seen + 1, last_seen_at = ? WHERE number =
    (SELECT max(number) FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ?)
"""

KNOWN_DELIVERY = "SELECT 1 FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? AND digest = ?"

# What came before its submission was logged, in the order it came.
EARLY_OF_TASK = """
SELECT number, waiting FROM deliveries
WHERE provider = ? AND task_id = ? AND verdict = 'early' ORDER BY number
"""

MATCH_EARLY = """
UPDATE deliveries SET verdict = ?, submission_id = ?, event_id = ?, waiting = NULL WHERE number = ?
"""

EXPIRE_EARLY = """
UPDATE deliveries SET verdict = 'unowned', waiting = NULL
WHERE submission_id IS NULL AND verdict IN ('early', 'unrecognised') -- as the index says it
    AND verdict = 'early' AND received_at < ?
"""

INSERT_SUBMISSION = f"INSERT INTO submissions ({SUBMISSION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


def record(db: sqlite3.Cursor, recording: Recording, rules: Rules) -> Receipt:
    """Everything that follows from one delivery; see ``ports.Store.record``."""
    owner, task_id, refused = _find_owner(db, recording, rules)
    event_id: str | None = None
    if refused:
        verdict = Verdict.REFUSED
    elif recording.report.state is ReportState.UNCLEAR:
        verdict = Verdict.UNRECOGNISED
    elif owner is None:
        verdict = Verdict.EARLY
    else:
        verdict, event_id = _apply(db, recording, owner, rules, recording.received_at)
    if owner is None:
        _refuse_beyond_limit(db, recording, task_id, rules)
    if verdict is Verdict.ACCEPTED or not _is_too_much(db, recording, task_id):
        _keep(db, recording, verdict, task_id, owner, event_id)
    return Receipt(status=verdict, task_id=recording.report.task_id or task_id)


def _keep(
    db: sqlite3.Cursor,
    recording: Recording,
    verdict: Verdict,
    task_id: str | None,
    owner: str | None,
    event_id: str | None,
) -> None:
    report, moment = recording.report, to_text(recording.received_at)
    values = (
        *_place(recording, task_id), recording.digest,
        owner, event_id, recording.via.value, recording.proof.value, verdict.value,
        report.provider_state, report.note, _waiting(recording) if verdict is Verdict.EARLY else None,
        moment, moment, recording.body,
    )  # fmt: skip
    db.execute(UPSERT_DELIVERY, values)


def _place(recording: Recording, task_id: str | None) -> tuple[str, str, str]:
    """Under what a delivery is filed; with its digest, the key that makes a repeat a repeat."""
    return recording.provider, task_id or "", recording.submission_id or ""


def _is_too_much(db: sqlite3.Cursor, recording: Recording, task_id: str | None) -> bool:
    """Whether one token brought one task so many bodies that a new one is only counted."""
    place = _place(recording, task_id)
    (bodies,) = db.execute(COUNT_BODIES, (*place, MOST_BODIES)).fetchone()
    if bodies < MOST_BODIES or db.execute(KNOWN_DELIVERY, (*place, recording.digest)).fetchone():
        return False
    db.execute(COUNT_ON_NEWEST, (to_text(recording.received_at), *place))
    return True


def _find_owner(
    db: sqlite3.Cursor, recording: Recording, rules: Rules
) -> tuple[str | None, str | None, bool]:
    """The owning submission, the task to file it under, and whether a token was used for another's task."""
    task_id = recording.report.task_id
    if recording.submission_id is not None:
        row = db.execute(SUBMISSION_BY_ID, (recording.submission_id, recording.provider)).fetchone()
        if row is not None:
            return _claim(db, recording, row, rules)
    if task_id is None:
        return None, None, False
    row = db.execute(SUBMISSION_BY_TASK, (recording.provider, task_id)).fetchone()
    return (row[0] if row else None), task_id, False


def _claim(
    db: sqlite3.Cursor, recording: Recording, row: tuple[str, str | None, str], rules: Rules
) -> tuple[str | None, str | None, bool]:
    """Check the task against the submission its token names, and bind it where it is still free."""
    submission_id, bound, owner = row
    asked = recording.report.task_id
    if asked is None or asked == bound:
        return submission_id, bound, False
    if bound is None:
        moment = to_text(recording.received_at)
        if db.execute(BIND, (asked, moment, submission_id)).rowcount == 1:
            _match_early(db, submission_id, recording.provider, asked, rules)
            return submission_id, asked, False
        # Reserved, and then logged a second time instead of bound: it is the same owner's task all the same.
        other_id, other_owner = db.execute(SUBMISSION_BY_TASK, (recording.provider, asked)).fetchone()
        if other_owner == owner:
            return other_id, asked, False
    return submission_id, bound, True


def _apply(
    db: sqlite3.Cursor, recording: Recording, owner: str, rules: Rules, now: datetime
) -> tuple[Verdict, str | None]:
    """What an owned, understood delivery does to its task. ``now`` is when a task without files ends."""
    if recording.report.state is ReportState.PROGRESS:
        return Verdict.PROGRESS, None
    event_id = rules.clock.new_id("evt")
    if _insert_event(db, recording, owner, event_id):
        _insert_consequences(db, recording, event_id, rules, now)
        return Verdict.ACCEPTED, event_id
    task = (recording.provider, recording.report.task_id)
    first_id, fingerprint = db.execute(EVENT_BY_TASK, task).fetchone()
    same = fingerprint == recording.fingerprint
    return (Verdict.DUPLICATE if same else Verdict.CONFLICT), first_id


def _insert_event(db: sqlite3.Cursor, recording: Recording, owner: str, event_id: str) -> bool:
    report = recording.report
    code, message = _error(report)
    values = (
        event_id, recording.provider, report.task_id, owner, recording.via.value,
        recording.fingerprint, to_text(recording.received_at), code, message,
    )  # fmt: skip
    return db.execute(INSERT_EVENT, values).rowcount == 1


def _error(report: Report) -> tuple[str | None, str | None]:
    if report.state is ReportState.FAILED:
        return report.error_code, report.error_message or "the provider gave no reason"
    if not report.files:
        return Outcome.NO_FILES.value, "the provider reported success but named no file"
    return None, None


def _insert_consequences(
    db: sqlite3.Cursor, recording: Recording, event_id: str, rules: Rules, now: datetime
) -> None:
    report = recording.report
    if report.state is ReportState.FAILED or not report.files:
        end_event(db, event_id, EventType.FAILED, now, rules.routes)
        return
    due, deadline = to_text(recording.received_at), to_text(recording.links_die_at)
    for position, file in enumerate(report.files):
        db.execute(INSERT_ASSET, (event_id, position, file.url, file.kind, due, deadline))


def _refuse_beyond_limit(db: sqlite3.Cursor, recording: Recording, task_id: str | None, rules: Rules) -> None:
    since = to_text(recording.received_at - rules.early_ttl)
    (waiting,) = db.execute(COUNT_OWNERLESS, (since, rules.early_limit)).fetchone()
    if waiting < rules.early_limit:
        return
    key = (*_place(recording, task_id), recording.digest)
    if db.execute(KNOWN_DELIVERY, key).fetchone() is None:
        raise Unavailable(
            f"{rules.early_limit} deliveries wait for a submission already", retry_after_seconds=60.0
        )


def log_submission(db: sqlite3.Cursor, submission: Submission, rules: Rules) -> tuple[Submission, bool]:
    """Keep a submission unless its task has one; see ``ports.Store.log_submission``."""
    if submission.task_id is not None:
        known = submission_of_task(db, submission.provider, submission.task_id)
        if known is not None:
            return known, False
    db.execute(INSERT_SUBMISSION, _values(submission))
    if submission.task_id is not None:
        _match_early(db, submission.id, submission.provider, submission.task_id, rules)
    return submission, True


def bind_submission(
    db: sqlite3.Cursor, submission_id: str, task_id: str, now: datetime, rules: Rules
) -> Submission:
    """Tie a reserved submission to its task; see ``ports.Store.bind_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(404, "No such submission", "There is no submission with this id.")
    if submission.task_id is not None:
        return submission
    if db.execute(BIND, (task_id, to_text(now), submission_id)).rowcount == 0:
        raise Rejected(409, "Task has another submission", "Another submission is bound to this task.")
    _match_early(db, submission_id, submission.provider, task_id, rules)
    return msgspec.structs.replace(submission, task_id=task_id, bound_at=now)


def _match_early(db: sqlite3.Cursor, owner: str, provider: str, task_id: str, rules: Rules) -> None:
    """Give early deliveries their owner now; whoever reads the log next sees both or neither."""
    for number, waiting in db.execute(EARLY_OF_TASK, (provider, task_id)).fetchall():
        recording = msgspec.json.decode(waiting, type=Recording)
        verdict, event_id = _apply(db, recording, owner, rules, rules.clock.now())
        db.execute(MATCH_EARLY, (verdict.value, owner, event_id, number))


def _waiting(recording: Recording) -> str:
    """All that will be asked of an early delivery; its body stays where it is."""
    return msgspec.json.encode(msgspec.structs.replace(recording, body=b"")).decode()


def expire_early(db: sqlite3.Cursor, received_before: datetime) -> int:
    """Early deliveries that waited long enough become unowned; how many."""
    return db.execute(EXPIRE_EARLY, (to_text(received_before),)).rowcount


def _values(submission: Submission) -> tuple[str | None, ...]:
    request = None if submission.request is None else msgspec.json.encode(submission.request).decode()
    return (
        submission.id,
        submission.provider,
        submission.owner,
        submission.task_id,
        submission.model,
        request,
        msgspec.json.encode(submission.metadata).decode(),
        to_text(submission.created_at),
        to_text(submission.bound_at) if submission.bound_at else None,
    )
