"""Whose a delivery is: what its token claims, submissions logged or bound, and what waited for them."""

from datetime import datetime

import msgspec

from receiver.errors import Rejected
from receiver.models import Proof, Recording, ReportState, Submission, Verdict
from receiver.options import StoreOptions
from receiver.problem_types import ProblemType
from receiver.record import events, polls
from receiver.record.cursor import Cursor
from receiver.record.views import SUBMISSION_COLUMNS, get_submission, submission_of_task
from receiver.times import to_text


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery's token says about it."""

    submission: int | None  # the one it names
    task_id: str | None  # what the delivery is filed under
    proof: Proof  # what it proves about the task that the report names
    is_refused: bool = False  # it is for another task


# The submission a token names.
SUBMISSION_BY_ID = "SELECT number, task_id, owner FROM submissions WHERE id = ? AND provider = ?"
OWNER_BY_TASK = "SELECT number, owner FROM submissions WHERE provider = ? AND task_id = ?"

# Tie a reserved submission to its task; the unique key refuses a task that another one has.
BIND = "UPDATE OR IGNORE submissions SET task_id = ?, bound_at = ? WHERE id = ? AND task_id IS NULL"

WITHDRAW = "UPDATE submissions SET withdrawn_at = ? WHERE id = ? AND withdrawn_at IS NULL"

# What came before its submission was logged, in the order it came. The plus is for SQLite: by its task it is
# found sooner than among all that nobody owns.
EARLY_OF_TASK = """
SELECT number, verdict, waiting FROM deliveries
WHERE provider = ? AND task_id = ? AND submission IS NULL AND +verdict IN ('early', 'unrecognised')
ORDER BY number
"""
MATCH_EARLY = "UPDATE deliveries SET verdict = ?, submission = ?, waiting = ? WHERE number = ?"

# The key and the times stay, and no more: nobody asked for the task.
EXPIRE_EARLY = """
UPDATE deliveries SET verdict = 'unowned', waiting = NULL, body = NULL WHERE number IN
    (SELECT number FROM deliveries
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') -- as the index says it
        AND verdict = 'early' AND received_at < ? LIMIT ?)
"""
INSERT_SUBMISSION = f"INSERT INTO submissions ({SUBMISSION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


def find_claimed(db: Cursor, recording: Recording, options: StoreOptions) -> Claim:
    """What the delivery's token names and proves; a submission still free is bound to its task."""
    if recording.submission_id is not None:
        row = db.execute(SUBMISSION_BY_ID, (recording.submission_id, recording.provider)).fetchone()
        if row is not None:
            return _claim(db, recording, row, options)
    return Claim(submission=None, task_id=recording.report.task_id, proof=_proof_beyond_token(recording))


def _claim(
    db: Cursor, recording: Recording, row: tuple[int, str | None, str], options: StoreOptions
) -> Claim:
    """Check the task against the submission its token names, and bind it where it is still free."""
    number, bound, owner = row
    asked = recording.report.task_id
    if asked is None or asked == bound:
        return Claim(submission=number, task_id=bound, proof=recording.proof)
    if bound is None:
        moment = to_text(recording.received_at)
        if db.execute(BIND, (asked, moment, recording.submission_id)).rowcount == 1:
            _match_early(db, recording.provider, asked, options)
            if not _ends(recording, options):
                since = recording.received_at
                polls.schedule(db, recording.provider, asked, since, options.first_poll_seconds)
            return Claim(submission=number, task_id=asked, proof=recording.proof)
        # Reserved, and then logged a second time instead of bound: it is the same owner's task all the same.
        other, other_owner = db.execute(OWNER_BY_TASK, (recording.provider, asked)).fetchone()
        if other_owner == owner:
            return Claim(submission=other, task_id=asked, proof=_proof_beyond_token(recording))
    return Claim(submission=number, task_id=bound, proof=recording.proof, is_refused=True)


def _proof_beyond_token(recording: Recording) -> Proof:
    """What a delivery proves about a task that is not its token's own.

    A submission's token is then worth no more than its provider's: whoever was given it once knows it,
    whatever task a body names.
    """
    return recording.proof if recording.submission_id is None else Proof.PROVIDER


def _ends(recording: Recording, options: StoreOptions) -> bool:
    """Whether this delivery alone would end the task of its token."""
    is_end = recording.report.state in {ReportState.COMPLETED, ReportState.FAILED}
    return is_end and not events.must_confirm(recording, recording.proof, options)


def log_submission(db: Cursor, submission: Submission, options: StoreOptions) -> tuple[Submission, bool]:
    """Keep a submission unless its task has one; see ``ports.Store.log_submission``."""
    if submission.task_id is not None:
        known = submission_of_task(db, submission.provider, submission.task_id)
        if known is not None:
            return known, False
    db.execute(INSERT_SUBMISSION, _values(submission))
    if submission.task_id is not None:
        _match_early(db, submission.provider, submission.task_id, options)
        since = submission.created_at
        polls.schedule(db, submission.provider, submission.task_id, since, options.first_poll_seconds)
    return submission, True


def bind_submission(
    db: Cursor, submission_id: str, task_id: str, now: datetime, options: StoreOptions
) -> Submission:
    """Tie a reserved submission to its task; see ``ports.Store.bind_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    if submission.task_id is not None:
        return submission
    if db.execute(BIND, (task_id, to_text(now), submission_id)).rowcount == 0:
        raise Rejected(ProblemType.TASK_TAKEN, "Another submission is bound to this task.")
    _match_early(db, submission.provider, task_id, options)
    polls.schedule(db, submission.provider, task_id, now, options.first_poll_seconds)
    return msgspec.structs.replace(submission, task_id=task_id, bound_at=now)


def withdraw_submission(db: Cursor, submission_id: str, now: datetime) -> Submission:
    """Wait for no task of a reservation any more; see ``ports.Store.withdraw_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    if submission.task_id is not None:
        raise Rejected(ProblemType.SUBMISSION_BOUND, "A task is bound to this submission, so it stays.")
    db.execute(WITHDRAW, (to_text(now), submission_id))
    return msgspec.structs.replace(submission, withdrawn_at=submission.withdrawn_at or now)


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
        to_text(submission.withdrawn_at) if submission.withdrawn_at else None,
    )


def _match_early(db: Cursor, provider: str, task_id: str, options: StoreOptions) -> None:
    """Give early deliveries their owner now; whoever reads the log next sees both or neither.

    What has to be confirmed is decided now, too: a key may have been set since they came.
    """
    now = options.clock.now()
    for number, filed, kept in db.execute(EARLY_OF_TASK, (provider, task_id)).fetchall():
        if kept is None:  # progress, or not understood: it ends nothing
            known = Verdict.PROGRESS.value if filed == Verdict.EARLY else filed
            owner = events.owner_of(db, provider, task_id)
            db.execute(MATCH_EARLY, (known, owner, None, number))
            continue
        recording = msgspec.json.decode(kept, type=Recording)
        # A token whose submission was in the log would not have left it early.
        verdict, owner = events.apply(db, recording, _proof_beyond_token(recording), options, now)
        db.execute(MATCH_EARLY, (verdict.value, owner, events.waiting(recording, verdict), number))
        events.tell_polls(db, verdict, owner, provider, task_id, now)  # one before it may have been held


def expire_early(db: Cursor, received_before: datetime, limit: int) -> int:
    """Early deliveries that waited long enough become unowned, up to ``limit`` of them; how many."""
    return db.execute(EXPIRE_EARLY, (to_text(received_before), limit)).rowcount
