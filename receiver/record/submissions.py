"""A submission is logged, bound to its task or withdrawn, and what came before it finds its owner."""

from datetime import datetime

import msgspec

from receiver.errors import Rejected
from receiver.models import AuditEntry, CostState, Submission
from receiver.options import StoreOptions
from receiver.problem_types import ProblemType
from receiver.record import costs
from receiver.record.audit import note
from receiver.record.cursor import Cursor
from receiver.record.recording import Batch
from receiver.record.rows import parameters, parameters_of
from receiver.record.rules import SubmissionRow
from receiver.record.views import (
    OWN_COLUMNS,
    get_submission,
    submission_of_key,
    submission_of_task,
)

INSERT_SUBMISSION = f"""
INSERT INTO submissions ({OWN_COLUMNS}, has_charge)
VALUES (:id, :provider, :owner, :task_id, :model, :metadata, :created_at, :bound_at, :withdrawn_at,
    :traceparent, :key, :has_charge)
RETURNING number
"""  # noqa: S608
INSERT_REQUEST = "INSERT INTO requests (number, request) VALUES (:number, :request)"

# A person knows by then that the gateway's order never came to its provider.
NOT_SENT = """
UPDATE orders SET state = 'unsent', outcome = 'resolved', guard = NULL, settled_at = :now
WHERE number = (SELECT number FROM submissions WHERE id = :id) AND state IN ('unknown', 'unresolved')
"""

NUMBER_OF = "SELECT number FROM submissions WHERE id = :id"
WITHDRAW = "UPDATE submissions SET withdrawn_at = :now WHERE id = :id AND withdrawn_at IS NULL"
RESERVE_AGAIN = "UPDATE submissions SET withdrawn_at = NULL WHERE id = :id"


def log_submission(db: Cursor, submission: Submission, options: StoreOptions) -> tuple[Submission, bool]:
    """Keep a submission unless its task has one; see ``ports.Store.log_submission``."""
    if submission.task_id is not None:
        known = submission_of_task(db, submission.provider, submission.task_id)
        if known is not None:
            return known, False
    if submission.key is not None:
        reserved = submission_of_key(db, submission.key)
        if reserved is not None:
            return _reserve_again(db, reserved, submission)
    number = insert_submission(db, submission)
    if submission.task_id is not None:
        batch = Batch(db, options)
        batch.submissions.put(
            SubmissionRow(
                number=number,
                id=submission.id,
                provider=submission.provider,
                owner=submission.owner,
                task_id=submission.task_id,
            )
        )
        batch.match_early(submission.provider, submission.task_id)
        batch.schedule(submission.provider, submission.task_id, submission.created_at)
        batch.write()
    return submission, True


def _reserve_again(db: Cursor, known: Submission, wanted: Submission) -> tuple[Submission, bool]:
    """The reservation that has the key; one that was withdrawn waits for its task once more, as a new one."""
    if _order_of(known) != _order_of(wanted):
        raise Rejected(ProblemType.KEY_REUSED, "This `key` was given with another order: give each its own.")
    if known.withdrawn_at is None or known.task_id is not None:
        return known, False
    db.execute(RESERVE_AGAIN, {"id": known.id})
    return msgspec.structs.replace(known, withdrawn_at=None), True


def _order_of(submission: Submission) -> tuple[object, ...]:
    given = (submission.provider, submission.owner, submission.model)
    return *given, submission.request, dict(submission.metadata)


def insert_submission(db: Cursor, submission: Submission, *, has_charge: bool = False) -> int:
    """Keep a submission that is new, with its request if it has one; its number."""
    values = parameters_of(submission, has_charge=1 if has_charge else None)
    (number,) = db.execute(INSERT_SUBMISSION, values).fetchone()
    if values["request"] is not None:
        db.execute(INSERT_REQUEST, {"number": number, "request": values["request"]})
    return int(number)


def bind_submission(
    db: Cursor,
    submission_id: str,
    task_id: str,
    now: datetime,
    options: StoreOptions,
    audit: AuditEntry | None = None,
) -> Submission:
    """Tie a reserved submission to its task; see ``ports.Store.bind_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    if submission.task_id is not None:
        return submission
    batch = Batch(db, options)
    if batch.submissions.of_task(submission.provider, task_id) is not None:
        raise Rejected(ProblemType.TASK_TAKEN, "Another submission is bound to this task.")
    row = batch.submissions.by_id(submission_id)
    assert row is not None, "the one just read"  # noqa: S101
    batch.submissions.bind(row, task_id, now)
    batch.match_early(submission.provider, task_id)
    batch.schedule(submission.provider, task_id, now)
    batch.write()
    if audit is not None:
        note(db, audit)
    return msgspec.structs.replace(submission, task_id=task_id, bound_at=now)


def withdraw_submission(
    db: Cursor, submission_id: str, now: datetime, audit: AuditEntry | None = None
) -> Submission:
    """Wait for no task of a reservation any more; see ``ports.Store.withdraw_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    if submission.task_id is not None:
        raise Rejected(ProblemType.SUBMISSION_BOUND, "A task is bound to this submission, so it stays.")
    db.execute(WITHDRAW, parameters(now=now, id=submission_id))
    if audit is not None and submission.withdrawn_at is None:
        note(db, audit)
    if db.execute(NOT_SENT, parameters(now=now, id=submission_id)).rowcount == 1:
        (number,) = db.execute(NUMBER_OF, {"id": submission_id}).fetchone()
        costs.settle(db, [(number, CostState.RELEASED, now)])
    return msgspec.structs.replace(submission, withdrawn_at=submission.withdrawn_at or now)
