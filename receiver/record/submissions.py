"""A submission is logged, bound to its task or withdrawn, and what came before it finds its owner."""

from datetime import datetime

import msgspec

from receiver.errors import Rejected
from receiver.models import Submission
from receiver.options import StoreOptions
from receiver.problem_types import ProblemType
from receiver.record.cursor import Cursor
from receiver.record.recording import Batch
from receiver.record.rows import parameters, parameters_of
from receiver.record.rules import SubmissionRow
from receiver.record.views import SUBMISSION_COLUMNS, get_submission, submission_of_task

INSERT_SUBMISSION = f"""
INSERT INTO submissions ({SUBMISSION_COLUMNS})
VALUES (:id, :provider, :owner, :task_id, :model, :request, :metadata, :created_at, :bound_at, :withdrawn_at,
    :traceparent)
RETURNING number
"""  # noqa: S608

WITHDRAW = "UPDATE submissions SET withdrawn_at = :now WHERE id = :id AND withdrawn_at IS NULL"


def log_submission(db: Cursor, submission: Submission, options: StoreOptions) -> tuple[Submission, bool]:
    """Keep a submission unless its task has one; see ``ports.Store.log_submission``."""
    if submission.task_id is not None:
        known = submission_of_task(db, submission.provider, submission.task_id)
        if known is not None:
            return known, False
    (number,) = db.execute(INSERT_SUBMISSION, parameters_of(submission)).fetchone()
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


def bind_submission(
    db: Cursor, submission_id: str, task_id: str, now: datetime, options: StoreOptions
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
    return msgspec.structs.replace(submission, task_id=task_id, bound_at=now)


def withdraw_submission(db: Cursor, submission_id: str, now: datetime) -> Submission:
    """Wait for no task of a reservation any more; see ``ports.Store.withdraw_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    if submission.task_id is not None:
        raise Rejected(ProblemType.SUBMISSION_BOUND, "A task is bound to this submission, so it stays.")
    db.execute(WITHDRAW, parameters(now=now, id=submission_id))
    return msgspec.structs.replace(submission, withdrawn_at=submission.withdrawn_at or now)
