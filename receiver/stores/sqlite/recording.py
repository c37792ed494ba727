"""What a delivery or a submission does to the tables, inside one transaction.

Ownership first, then the event, whose unique key decides who came first, then the delivery that remembers
the verdict. Nothing here is checked and later written: the keys prevent doubles, the code only names them.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from receiver.clock import Clock
from receiver.errors import Rejected, Unavailable
from receiver.models import Receipt, Recording, Report, Route, Submission
from receiver.stores.sqlite import polling
from receiver.stores.sqlite.settling import end_event
from receiver.stores.sqlite.viewing import SUBMISSION_COLUMNS, get_submission, submission_of_task
from receiver.times import to_text
from receiver.words import EventType, Outcome, Proof, ReportState, Verdict, Via


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery's token says about it."""

    submission: int | None  # the one it names
    task_id: str | None  # what the delivery is filed under
    proof: Proof  # what it proves about the task that the report names
    is_refused: bool = False  # it is for another task


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the record needs to know besides the delivery."""

    routes: Sequence[Route]
    first_poll_seconds: Mapping[str, float]
    link_life_seconds: Mapping[str, float]
    confirms: Callable[[str, Proof], bool]
    early_limit: int
    early_ttl: timedelta
    clock: Clock


# The submission a token names.
SUBMISSION_BY_ID = "SELECT number, task_id, owner FROM submissions WHERE id = ? AND provider = ?"

# The submission that a task belongs to, and no more: the index alone answers it.
SUBMISSION_BY_TASK = "SELECT number FROM submissions WHERE provider = ? AND task_id = ?"
OWNER_BY_TASK = "SELECT number, owner FROM submissions WHERE provider = ? AND task_id = ?"

# Tie a reserved submission to its task; the unique key refuses a task that another one has.
BIND = "UPDATE OR IGNORE submissions SET task_id = ?, bound_at = ? WHERE id = ? AND task_id IS NULL"

# The first terminal state of a task wins; a later one finds the key taken, a stranger's finds no submission.
INSERT_EVENT = """
INSERT INTO events (number, id, via, fingerprint, received_at, error_code, error_message)
SELECT number, ?, ?, ?, ?, ?, ? FROM submissions WHERE provider = ? AND task_id = ?
ON CONFLICT (number) DO NOTHING
"""

EVENT_BY_TASK = """
SELECT number, fingerprint FROM submissions JOIN events USING (number) WHERE provider = ? AND task_id = ?
"""

INSERT_ASSET = """
INSERT INTO assets (event, position, url, kind, due_at, deadline_at) VALUES (?, ?, ?, ?, ?, ?)
"""

# Verdicts of what is kept with all that it says, until it counts or does not.
WAITING = frozenset({Verdict.EARLY, Verdict.UNCONFIRMED})

# A repeat raises a counter. Only a verdict that was open is replaced: the others are history.
UPSERT_DELIVERY = """
INSERT INTO deliveries (provider, task_id, claim, digest, submission, via, proof, verdict,
    provider_state, note, waiting, received_at, last_seen_at, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (provider, task_id, claim, digest) DO UPDATE SET
    seen = seen + 1,
    last_seen_at = excluded.last_seen_at,
    received_at = CASE WHEN verdict = 'unowned' THEN excluded.received_at ELSE received_at END,
    submission = coalesce(submission, excluded.submission),
    waiting = excluded.waiting,
    verdict = CASE WHEN verdict IN ('early', 'unowned', 'unrecognised', 'unconfirmed', 'refused')
        THEN excluded.verdict ELSE verdict END
RETURNING seen
"""

# How many deliveries came lately that nobody owns; counting stops at the limit.
COUNT_OWNERLESS = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND received_at > ? LIMIT ?)
"""

# What one token may pile up on one task: beyond it a new body is counted on the newest row, not kept.
# Ends that wait are counted for themselves, so that no amount of progress crowds out a result.
MOST_BODIES = 100
COUNT_BODIES = """
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? LIMIT ?)
"""
COUNT_WAITING_ENDS = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE provider = ? AND task_id = ? AND claim = ? AND json_extract(waiting, '$.report.state') <> 'progress'
    LIMIT ?)
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
UPDATE deliveries SET verdict = ?1, submission = ?2,
    waiting = CASE WHEN ?1 = 'unconfirmed' THEN waiting END
WHERE number = ?3
"""

EXPIRE_EARLY = """
UPDATE deliveries SET verdict = 'unowned', waiting = NULL
WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') -- as the index says it
    AND verdict = 'early' AND received_at < ?
"""

INSERT_SUBMISSION = f"INSERT INTO submissions ({SUBMISSION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


def record(db: sqlite3.Cursor, recording: Recording, rules: Rules) -> Receipt:
    """Everything that follows from one delivery; see ``ports.Store.record``."""
    claim = find_claimed(db, recording, rules)
    owner, task_id = claim.submission, claim.task_id
    if claim.is_refused:
        verdict = Verdict.REFUSED
    elif recording.report.state is not ReportState.UNCLEAR:
        verdict, owner = apply(db, recording, claim.proof, rules, recording.received_at)
    else:
        verdict = Verdict.UNRECOGNISED
        owner = owner or _owner_of(db, recording.provider, task_id)
    if owner is None:
        _refuse_beyond_limit(db, recording, task_id, rules)
    if verdict is Verdict.ACCEPTED or not _is_too_much(db, recording, verdict, task_id):
        seen = _keep(db, recording, verdict, task_id, owner)
        if seen > 1 and verdict is Verdict.ACCEPTED and owner is not None and task_id is not None:
            # Its row is an old one: upkeep, which follows new ones to the polls they end, may be past it.
            polling.drop(db, owner, recording.provider, task_id, recording.received_at)
    if recording.via is Via.POLL and task_id is not None:
        polling.settle_held(db, recording.provider, task_id)
    # That it has to be confirmed is not the sender's business.
    answer = Verdict.ACCEPTED if verdict is Verdict.UNCONFIRMED else verdict
    return Receipt(status=answer, task_id=recording.report.task_id or task_id)


def _keep(
    db: sqlite3.Cursor, recording: Recording, verdict: Verdict, task_id: str | None, owner: int | None
) -> int:
    """File a delivery; how often this body has come."""
    report, moment = recording.report, to_text(recording.received_at)
    values = (
        *_place(recording, task_id), recording.digest,
        owner, recording.via.value, recording.proof.value, verdict.value,
        report.provider_state, report.note, waiting(recording) if verdict in WAITING else None,
        moment, moment, recording.body,
    )  # fmt: skip
    (seen,) = db.execute(UPSERT_DELIVERY, values).fetchone()
    return int(seen)


def _place(recording: Recording, task_id: str | None) -> tuple[str, str, str]:
    """Under what a delivery is filed; with its digest, the key that makes a repeat a repeat."""
    claim = "poll" if recording.via is Via.POLL else recording.submission_id or ""
    return recording.provider, task_id or "", claim


def _is_too_much(db: sqlite3.Cursor, recording: Recording, verdict: Verdict, task_id: str | None) -> bool:
    """Whether one token brought one task so many bodies that a new one is only counted."""
    place = _place(recording, task_id)
    is_waiting_end = verdict in WAITING and recording.report.state is not ReportState.PROGRESS
    count = COUNT_WAITING_ENDS if is_waiting_end else COUNT_BODIES
    (bodies,) = db.execute(count, (*place, MOST_BODIES)).fetchone()
    if bodies < MOST_BODIES or db.execute(KNOWN_DELIVERY, (*place, recording.digest)).fetchone():
        return False
    db.execute(COUNT_ON_NEWEST, (to_text(recording.received_at), *place))
    return True


def find_claimed(db: sqlite3.Cursor, recording: Recording, rules: Rules) -> Claim:
    """What the delivery's token names and proves; a submission still free is bound to its task."""
    if recording.submission_id is not None:
        row = db.execute(SUBMISSION_BY_ID, (recording.submission_id, recording.provider)).fetchone()
        if row is not None:
            return _claim(db, recording, row, rules)
    return Claim(submission=None, task_id=recording.report.task_id, proof=_proof_beyond_token(recording))


def _proof_beyond_token(recording: Recording) -> Proof:
    """What a delivery proves about a task that is not its token's own.

    A submission's token is then worth no more than its provider's: whoever was given it once knows it,
    whatever task a body names.
    """
    return recording.proof if recording.submission_id is None else Proof.PROVIDER


def _claim(db: sqlite3.Cursor, recording: Recording, row: tuple[int, str | None, str], rules: Rules) -> Claim:
    """Check the task against the submission its token names, and bind it where it is still free."""
    number, bound, owner = row
    asked = recording.report.task_id
    if asked is None or asked == bound:
        return Claim(submission=number, task_id=bound, proof=recording.proof)
    if bound is None:
        moment = to_text(recording.received_at)
        if db.execute(BIND, (asked, moment, recording.submission_id)).rowcount == 1:
            _match_early(db, recording.provider, asked, rules)
            if not _ends(recording, rules):
                since = recording.received_at
                polling.schedule(db, recording.provider, asked, since, rules.first_poll_seconds)
            return Claim(submission=number, task_id=asked, proof=recording.proof)
        # Reserved, and then logged a second time instead of bound: it is the same owner's task all the same.
        other, other_owner = db.execute(OWNER_BY_TASK, (recording.provider, asked)).fetchone()
        if other_owner == owner:
            return Claim(submission=other, task_id=asked, proof=_proof_beyond_token(recording))
    return Claim(submission=number, task_id=bound, proof=recording.proof, is_refused=True)


def _ends(recording: Recording, rules: Rules) -> bool:
    """Whether this delivery alone would end the task of its token."""
    is_end = recording.report.state in {ReportState.COMPLETED, ReportState.FAILED}
    return is_end and not _must_confirm(recording, recording.proof, rules)


def _must_confirm(recording: Recording, proof: Proof, rules: Rules) -> bool:
    """Whether the provider has to say so itself; what it does say itself is confirmed by that."""
    return recording.via is not Via.POLL and rules.confirms(recording.provider, proof)


def _owner_of(db: sqlite3.Cursor, provider: str, task_id: str | None) -> int | None:
    row = db.execute(SUBMISSION_BY_TASK, (provider, task_id)).fetchone()
    return row[0] if row else None


def apply(
    db: sqlite3.Cursor, recording: Recording, proof: Proof, rules: Rules, now: datetime
) -> tuple[Verdict, int | None]:
    """What an understood delivery does to its task, and the submission that owns it; EARLY without one.

    ``proof`` is what it proves about that task (see ``find_claimed``), which may be less than what it was
    received on. ``now`` is when a task without files ends.
    """
    task = recording.provider, recording.report.task_id
    if recording.report.state is ReportState.PROGRESS:
        owner = _owner_of(db, *task)
        return (Verdict.EARLY if owner is None else Verdict.PROGRESS), owner
    if _must_confirm(recording, proof, rules) and db.execute(EVENT_BY_TASK, task).fetchone() is None:
        return _hold(db, recording, now)
    if _insert_event(db, recording, rules):
        event = db.lastrowid
        assert event is not None, "the row just inserted; its number is its submission's"  # noqa: S101
        _insert_consequences(db, recording, event, rules, now)
        return Verdict.ACCEPTED, event
    known = db.execute(EVENT_BY_TASK, task).fetchone()
    if known is None:
        return Verdict.EARLY, None
    owner, fingerprint = known
    return (Verdict.DUPLICATE if fingerprint == recording.fingerprint else Verdict.CONFLICT), owner


def _hold(db: sqlite3.Cursor, recording: Recording, now: datetime) -> tuple[Verdict, int | None]:
    owner = _owner_of(db, recording.provider, recording.report.task_id)
    if owner is None:
        return Verdict.EARLY, None
    polling.hold(db, owner, recording.provider, now)
    return Verdict.UNCONFIRMED, owner


def _insert_event(db: sqlite3.Cursor, recording: Recording, rules: Rules) -> bool:
    report = recording.report
    code, message = _error(report)
    values = (
        rules.clock.new_id("evt"), recording.via.value, recording.fingerprint,
        to_text(recording.received_at), code, message, recording.provider, report.task_id,
    )  # fmt: skip
    return db.execute(INSERT_EVENT, values).rowcount == 1


def _error(report: Report) -> tuple[str | None, str | None]:
    if report.state is ReportState.FAILED:
        return report.error_code, report.error_message or "the provider gave no reason"
    if not report.files:
        return Outcome.NO_FILES.value, "the provider reported success but named no file"
    return None, None


def _insert_consequences(
    db: sqlite3.Cursor, recording: Recording, event: int, rules: Rules, now: datetime
) -> None:
    report = recording.report
    if report.state is ReportState.FAILED or not report.files:
        end_event(db, event, EventType.FAILED, now, rules.routes)
        return
    due, deadline = to_text(recording.received_at), to_text(recording.links_die_at)
    for position, file in enumerate(report.files):
        db.execute(INSERT_ASSET, (event, position, file.url, file.kind, due, deadline))


def _refuse_beyond_limit(db: sqlite3.Cursor, recording: Recording, task_id: str | None, rules: Rules) -> None:
    since = to_text(recording.received_at - rules.early_ttl)
    (ownerless,) = db.execute(COUNT_OWNERLESS, (since, rules.early_limit)).fetchone()
    if ownerless < rules.early_limit:
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
        _match_early(db, submission.provider, submission.task_id, rules)
        since = submission.created_at
        polling.schedule(db, submission.provider, submission.task_id, since, rules.first_poll_seconds)
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
    _match_early(db, submission.provider, task_id, rules)
    polling.schedule(db, submission.provider, task_id, now, rules.first_poll_seconds)
    return msgspec.structs.replace(submission, task_id=task_id, bound_at=now)


def _match_early(db: sqlite3.Cursor, provider: str, task_id: str, rules: Rules) -> None:
    """Give early deliveries their owner now; whoever reads the log next sees both or neither.

    What has to be confirmed is decided now, too: a key may have been set since they came.
    """
    now = rules.clock.now()
    for number, kept in db.execute(EARLY_OF_TASK, (provider, task_id)).fetchall():
        recording = msgspec.json.decode(kept, type=Recording)
        # A token whose submission was in the log would not have left it early.
        verdict, owner = apply(db, recording, _proof_beyond_token(recording), rules, now)
        db.execute(MATCH_EARLY, (verdict.value, owner, number))
        if verdict is Verdict.ACCEPTED and owner is not None:
            polling.drop(db, owner, provider, task_id, now)  # one before it may have been held


def waiting(recording: Recording) -> str:
    """All that will be asked of an early or a held delivery; its body stays where it is."""
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
