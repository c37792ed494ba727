"""What a delivery or a submission does to the tables, inside one transaction.

Ownership first, then the event, whose unique key decides who came first, then the delivery that remembers
the verdict. Nothing here is checked and later written: the keys prevent doubles, the code only names them.
"""

import sqlite3
from datetime import datetime, timedelta

import msgspec

from receiver.errors import Rejected, Unavailable
from receiver.models import Receipt, Recording, Report, Submission
from receiver.options import StoreOptions
from receiver.stores.sqlite import polling
from receiver.stores.sqlite.settling import end_event
from receiver.stores.sqlite.viewing import SUBMISSION_COLUMNS, get_submission, submission_of_task
from receiver.times import to_text
from receiver.words import EventType, Outcome, Proof, ReportState, Verdict, Via

Place = tuple[str, str, str]  # provider, task and claim: see ``_place``


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a delivery's token says about it."""

    submission: int | None  # the one it names
    task_id: str | None  # what the delivery is filed under
    proof: Proof  # what it proves about the task that the report names
    is_refused: bool = False  # it is for another task


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

# A repeat raises a counter. Only a verdict that was open is replaced: the others are history.
UPSERT_DELIVERY = """
INSERT INTO deliveries (provider, task_id, claim, digest, submission, via, proof, verdict,
    provider_state, note, waiting, received_at, last_seen_at, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (provider, task_id, claim, digest) DO UPDATE SET
    seen = seen + 1,
    last_seen_at = excluded.last_seen_at,
    submission = coalesce(submission, excluded.submission),
    waiting = excluded.waiting,
    verdict = CASE WHEN verdict IN ('early', 'unowned', 'unrecognised', 'unconfirmed', 'refused')
        THEN excluded.verdict ELSE verdict END
RETURNING seen
"""

# What a body that came before turned out to be, and whether it is still kept.
KNOWN_DELIVERY = """
SELECT verdict, typeof(body) FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? AND digest = ?
"""

# Only its key was left, and now it counts again: retention, which goes by numbers, must come to it once more.
RENEW_DELIVERY = """
UPDATE deliveries SET number = (SELECT max(number) + 1 FROM deliveries), received_at = ?, body = ?
WHERE provider = ? AND task_id = ? AND claim = ? AND digest = ?
    AND (verdict = 'unowned' OR typeof(body) = 'null')
"""

# How many deliveries came lately that nobody owns; counting stops at the limit.
COUNT_OWNERLESS = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND received_at > ? LIMIT ?)
"""

# How many of those that are kept are large, whenever they came. Left to itself SQLite would look at them all.
MOST_LARGE = 100
LARGE_BYTES = 65_536  # as the index says it
COUNT_LARGE = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries INDEXED BY deliveries_large
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND length(body) > {LARGE_BYTES}
    LIMIT ?)
"""  # noqa: S608

# What one token may pile up on one task, of each verdict for itself: so no amount of progress crowds out a
# result, or what may be one. Ends that wait are fewer: they are looked at together when their wait is over.
MOST_BODIES = 100
MOST_WAITING = 20

# How many there are; counting stops at the limit. The plus is for SQLite: it has indexes for some verdicts,
# and would plan anew for each.
COUNT_ALIKE = """
SELECT count(*) FROM (SELECT 1 FROM deliveries
    WHERE provider = ? AND task_id = ? AND claim = ? AND +verdict = ? AND (typeof(waiting) = 'text') = ?
    LIMIT ?)
"""
COUNT_ON_NEWEST = """
UPDATE deliveries SET seen = seen + 1, last_seen_at = ? WHERE number =
    (SELECT max(number) FROM deliveries WHERE provider = ? AND task_id = ? AND claim = ? AND +verdict = ?)
"""

# Verdicts of what may still count: it is kept, or its sender is told to come again. Of all others one more
# says nothing new.
STILL_OPEN = frozenset({Verdict.EARLY, Verdict.UNCONFIRMED, Verdict.UNRECOGNISED})
_JUDGED_ANEW = frozenset({Verdict.UNCONFIRMED, Verdict.UNRECOGNISED, Verdict.REFUSED})

# What came before its submission was logged, in the order it came.
EARLY_OF_TASK = """
SELECT number, waiting FROM deliveries
WHERE provider = ? AND task_id = ? AND verdict = 'early' ORDER BY number
"""

MATCH_EARLY = "UPDATE deliveries SET verdict = ?, submission = ?, waiting = ? WHERE number = ?"

# The key and the times stay, and no more: nobody asked for the task.
EXPIRE_EARLY = """
UPDATE deliveries SET verdict = 'unowned', waiting = NULL, body = NULL WHERE number IN
    (SELECT number FROM deliveries
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') -- as the index says it
        AND verdict = 'early' AND received_at < ? LIMIT ?)
"""

INSERT_SUBMISSION = f"INSERT INTO submissions ({SUBMISSION_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


def record(db: sqlite3.Cursor, recording: Recording, options: StoreOptions) -> Receipt:
    """Everything that follows from one delivery; see ``ports.Store.record``."""
    claim = find_claimed(db, recording, options)
    owner, task_id = claim.submission, claim.task_id
    if claim.is_refused:
        verdict = Verdict.REFUSED
    elif recording.report.state is not ReportState.UNCLEAR:
        verdict, owner = apply(db, recording, claim.proof, options, recording.received_at)
    else:
        verdict = Verdict.UNRECOGNISED
        owner = owner or _owner_of(db, recording.provider, task_id)
    place = _place(recording, task_id)
    if verdict is Verdict.ACCEPTED:
        _keep_accepted(db, recording, place, owner)
    elif _is_kept(db, recording, verdict, place, owner, options):
        _keep(db, recording, verdict, place, owner)
    if verdict is Verdict.UNCONFIRMED:
        tell_polls(db, verdict, owner, recording.provider, task_id, recording.received_at)
    if recording.via is Via.POLL and task_id is not None:
        polling.settle_held(db, recording.provider, task_id)
    # That it has to be confirmed is not the sender's business.
    answer = Verdict.ACCEPTED if verdict is Verdict.UNCONFIRMED else verdict
    return Receipt(status=answer, task_id=recording.report.task_id or task_id)


def _place(recording: Recording, task_id: str | None) -> Place:
    """Under what a delivery is filed; with its digest, the key that makes a repeat a repeat."""
    claim = "poll" if recording.via is Via.POLL else recording.submission_id or ""
    return recording.provider, task_id or "", claim


def _keep_accepted(db: sqlite3.Cursor, recording: Recording, place: Place, owner: int | None) -> None:
    """File the delivery that ended its task. Usually it is new, and there is nothing more to do."""
    if _keep(db, recording, Verdict.ACCEPTED, place, owner) > 1:
        _renew(db, recording, place)
        # Its row is an old one: upkeep, which follows new ones to the polls they end, may be past it.
        provider, task_id, _ = place
        tell_polls(db, Verdict.ACCEPTED, owner, provider, task_id, recording.received_at)


def _keep(db: sqlite3.Cursor, recording: Recording, verdict: Verdict, place: Place, owner: int | None) -> int:
    """File a delivery; how often this body has come."""
    report, moment = recording.report, to_text(recording.received_at)
    values = (
        *place, recording.digest,
        owner, recording.via.value, recording.proof.value, verdict.value,
        report.provider_state, report.note, waiting(recording, verdict),
        moment, moment, recording.body,
    )  # fmt: skip
    (seen,) = db.execute(UPSERT_DELIVERY, values).fetchone()
    return int(seen)


def _renew(db: sqlite3.Cursor, recording: Recording, place: Place) -> None:
    values = (to_text(recording.received_at), recording.body, *place, recording.digest)
    db.execute(RENEW_DELIVERY, values)


def _is_kept(
    db: sqlite3.Cursor,
    recording: Recording,
    verdict: Verdict,
    place: Place,
    owner: int | None,
    options: StoreOptions,
) -> bool:
    """Whether a delivery that ended nothing has a row or gets one; else it is counted on another one's.

    Raises Unavailable where it would have to be kept and is too much. Nothing was written then: if its token
    has just bound a submission, it is the first that the token brings about that task.
    """
    known = db.execute(KNOWN_DELIVERY, (*place, recording.digest)).fetchone()
    if known is not None:
        if _is_spent(*known):
            _renew(db, recording, place)
        return True
    if owner is None:
        _refuse_beyond_limits(db, recording, options)
    _, task_id, _ = place
    if owner is None and not task_id:  # those of all senders lie in this one place, and are bounded already
        return True
    return not _is_too_much(db, recording, verdict, place)


def _is_spent(verdict: str, body: str) -> bool:
    """Whether nothing but the key is left of a delivery that is judged anew. Early ones keep their place."""
    # (Before there was a rule for it, unowned ones kept their bodies.)
    return verdict == Verdict.UNOWNED or (body == "null" and verdict in _JUDGED_ANEW)


def _is_too_much(db: sqlite3.Cursor, recording: Recording, verdict: Verdict, place: Place) -> bool:
    """Whether one token brought one task so many such bodies that a new one is only counted."""
    waits = waiting(recording, verdict) is not None
    most = MOST_WAITING if waits else MOST_BODIES
    (bodies,) = db.execute(COUNT_ALIKE, (*place, verdict.value, waits, most)).fetchone()
    if bodies < most:
        return False
    # An answer to a question of ours is not owed an answer, and the question will be asked again.
    if verdict in STILL_OPEN and recording.via is not Via.POLL:
        raise Unavailable(
            f"{most} other callbacks of this kind about the task wait already", retry_after_seconds=60.0
        )
    db.execute(COUNT_ON_NEWEST, (to_text(recording.received_at), *place, verdict.value))
    return True


def _refuse_beyond_limits(db: sqlite3.Cursor, recording: Recording, options: StoreOptions) -> None:
    since = to_text(recording.received_at - timedelta(seconds=options.early_ttl_seconds))
    (ownerless,) = db.execute(COUNT_OWNERLESS, (since, options.early_limit)).fetchone()
    if ownerless >= options.early_limit:
        raise Unavailable(
            f"{options.early_limit} deliveries wait for a submission already", retry_after_seconds=60.0
        )
    if len(recording.body) <= LARGE_BYTES:
        return
    (large,) = db.execute(COUNT_LARGE, (MOST_LARGE,)).fetchone()
    if large >= MOST_LARGE:
        raise Unavailable(
            f"{MOST_LARGE} large deliveries wait for a submission already", retry_after_seconds=60.0
        )


def find_claimed(db: sqlite3.Cursor, recording: Recording, options: StoreOptions) -> Claim:
    """What the delivery's token names and proves; a submission still free is bound to its task."""
    if recording.submission_id is not None:
        row = db.execute(SUBMISSION_BY_ID, (recording.submission_id, recording.provider)).fetchone()
        if row is not None:
            return _claim(db, recording, row, options)
    return Claim(submission=None, task_id=recording.report.task_id, proof=_proof_beyond_token(recording))


def _proof_beyond_token(recording: Recording) -> Proof:
    """What a delivery proves about a task that is not its token's own.

    A submission's token is then worth no more than its provider's: whoever was given it once knows it,
    whatever task a body names.
    """
    return recording.proof if recording.submission_id is None else Proof.PROVIDER


def _claim(
    db: sqlite3.Cursor, recording: Recording, row: tuple[int, str | None, str], options: StoreOptions
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
                polling.schedule(db, recording.provider, asked, since, options.first_poll_seconds)
            return Claim(submission=number, task_id=asked, proof=recording.proof)
        # Reserved, and then logged a second time instead of bound: it is the same owner's task all the same.
        other, other_owner = db.execute(OWNER_BY_TASK, (recording.provider, asked)).fetchone()
        if other_owner == owner:
            return Claim(submission=other, task_id=asked, proof=_proof_beyond_token(recording))
    return Claim(submission=number, task_id=bound, proof=recording.proof, is_refused=True)


def _ends(recording: Recording, options: StoreOptions) -> bool:
    """Whether this delivery alone would end the task of its token."""
    is_end = recording.report.state in {ReportState.COMPLETED, ReportState.FAILED}
    return is_end and not _must_confirm(recording, recording.proof, options)


def _must_confirm(recording: Recording, proof: Proof, options: StoreOptions) -> bool:
    """Whether the provider has to say so itself; what it does say itself is confirmed by that."""
    return recording.via is not Via.POLL and options.confirms(recording.provider, proof)


def _owner_of(db: sqlite3.Cursor, provider: str, task_id: str | None) -> int | None:
    row = db.execute(SUBMISSION_BY_TASK, (provider, task_id)).fetchone()
    return row[0] if row else None


def apply(
    db: sqlite3.Cursor, recording: Recording, proof: Proof, options: StoreOptions, now: datetime
) -> tuple[Verdict, int | None]:
    """What an understood delivery does to its task, and the submission that owns it; EARLY without one.

    ``proof`` is what it proves about that task (see ``find_claimed``), which may be less than what it was
    received on. ``now`` is when a task without files ends. Only an ACCEPTED one has written anything: polls
    are told by ``tell_polls``, once it is kept.
    """
    task = recording.provider, recording.report.task_id
    if recording.report.state is ReportState.PROGRESS:
        owner = _owner_of(db, *task)
        return (Verdict.EARLY if owner is None else Verdict.PROGRESS), owner
    if _must_confirm(recording, proof, options) and db.execute(EVENT_BY_TASK, task).fetchone() is None:
        owner = _owner_of(db, *task)
        return (Verdict.EARLY if owner is None else Verdict.UNCONFIRMED), owner
    if _insert_event(db, recording, options):
        event = db.lastrowid
        assert event is not None, "the row just inserted; its number is its submission's"  # noqa: S101
        _insert_consequences(db, recording, event, options, now)
        return Verdict.ACCEPTED, event
    known = db.execute(EVENT_BY_TASK, task).fetchone()
    if known is None:
        return Verdict.EARLY, None
    owner, fingerprint = known
    return (Verdict.DUPLICATE if fingerprint == recording.fingerprint else Verdict.CONFLICT), owner


def _insert_event(db: sqlite3.Cursor, recording: Recording, options: StoreOptions) -> bool:
    report = recording.report
    code, message = _error(report)
    values = (
        options.clock.new_id("evt"), recording.via.value, recording.fingerprint,
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
    db: sqlite3.Cursor, recording: Recording, event: int, options: StoreOptions, now: datetime
) -> None:
    report = recording.report
    if report.state is ReportState.FAILED or not report.files:
        end_event(db, event, EventType.FAILED, now, options.routes)
        return
    due, deadline = to_text(recording.received_at), to_text(recording.links_die_at)
    for position, file in enumerate(report.files):
        db.execute(INSERT_ASSET, (event, position, file.url, file.kind, due, deadline))


def log_submission(
    db: sqlite3.Cursor, submission: Submission, options: StoreOptions
) -> tuple[Submission, bool]:
    """Keep a submission unless its task has one; see ``ports.Store.log_submission``."""
    if submission.task_id is not None:
        known = submission_of_task(db, submission.provider, submission.task_id)
        if known is not None:
            return known, False
    db.execute(INSERT_SUBMISSION, _values(submission))
    if submission.task_id is not None:
        _match_early(db, submission.provider, submission.task_id, options)
        since = submission.created_at
        polling.schedule(db, submission.provider, submission.task_id, since, options.first_poll_seconds)
    return submission, True


def bind_submission(
    db: sqlite3.Cursor, submission_id: str, task_id: str, now: datetime, options: StoreOptions
) -> Submission:
    """Tie a reserved submission to its task; see ``ports.Store.bind_submission``."""
    submission = get_submission(db, submission_id)
    if submission is None:
        raise Rejected(404, "No such submission", "There is no submission with this id.")
    if submission.task_id is not None:
        return submission
    if db.execute(BIND, (task_id, to_text(now), submission_id)).rowcount == 0:
        raise Rejected(409, "Task has another submission", "Another submission is bound to this task.")
    _match_early(db, submission.provider, task_id, options)
    polling.schedule(db, submission.provider, task_id, now, options.first_poll_seconds)
    return msgspec.structs.replace(submission, task_id=task_id, bound_at=now)


def _match_early(db: sqlite3.Cursor, provider: str, task_id: str, options: StoreOptions) -> None:
    """Give early deliveries their owner now; whoever reads the log next sees both or neither.

    What has to be confirmed is decided now, too: a key may have been set since they came.
    """
    now = options.clock.now()
    for number, kept in db.execute(EARLY_OF_TASK, (provider, task_id)).fetchall():
        if kept is None:  # progress, which ends nothing
            db.execute(MATCH_EARLY, (Verdict.PROGRESS.value, _owner_of(db, provider, task_id), None, number))
            continue
        recording = msgspec.json.decode(kept, type=Recording)
        # A token whose submission was in the log would not have left it early.
        verdict, owner = apply(db, recording, _proof_beyond_token(recording), options, now)
        db.execute(MATCH_EARLY, (verdict.value, owner, waiting(recording, verdict), number))
        tell_polls(db, verdict, owner, provider, task_id, now)  # one before it may have been held


def tell_polls(
    db: sqlite3.Cursor, verdict: Verdict, owner: int | None, provider: str, task_id: str | None, now: datetime
) -> None:
    """Have a task asked about whose end must be confirmed, and no more about one that has ended."""
    if owner is None or task_id is None:
        return
    if verdict is Verdict.UNCONFIRMED:
        polling.hold(db, owner, provider, now)
    elif verdict is Verdict.ACCEPTED:
        polling.drop(db, owner, provider, task_id, now)


def waiting(recording: Recording, verdict: Verdict) -> str | None:
    """All that will be asked of a delivery that waits; its body stays where it is.

    Of an early one, what it says, unless it is progress, which says no more; of one that is held, whether the
    provider says the same.
    """
    if verdict is Verdict.UNCONFIRMED:
        return msgspec.json.encode({"fingerprint": recording.fingerprint}).decode()
    if verdict is Verdict.EARLY and recording.report.state is not ReportState.PROGRESS:
        return msgspec.json.encode(msgspec.structs.replace(recording, body=b"")).decode()
    return None


def expire_early(db: sqlite3.Cursor, received_before: datetime, limit: int) -> int:
    """Early deliveries that waited long enough become unowned, up to ``limit`` of them; how many."""
    return db.execute(EXPIRE_EARLY, (to_text(received_before), limit)).rowcount


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
