"""What follows from a delivery, decided from rows that were read: nothing here reads or writes.

A rule takes values and returns one. What is refused is refused here, before anything is written.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from receiver import payload
from receiver.errors import Unavailable
from receiver.models import CostState, EventType, Outcome, Proof, Recording, Report, ReportState, Verdict, Via
from receiver.options import StoreOptions

# What one token may pile up on one task, of each verdict for itself: so no amount of progress crowds out a
# result, or what may be one. Ends that wait are fewer: they are looked at together when their wait is over.
MOST_BODIES = 100
MOST_WAITING = 20
MOST_LARGE_ALIKE = 10  # of these bodies: each may have megabytes

TaskKey = tuple[str, str]  # provider and task
FilingKey = tuple[str, str, str]  # where a delivery is filed: provider, task and claim

# How many large bodies are kept that nobody owns, of each verdict for itself.
MOST_LARGE = 100
LARGE_BYTES = 65_536  # as the index says it

# A provider may report success before it names the files. So long they are waited for.
FILES_WAIT = timedelta(minutes=10)

# The first callback that waits makes the question due at once, and an answer on its way too old to use. The
# waits between questions start anew with it, for what it says should be true by now. Later ones, one of which
# may be the true one behind a lie, hurry it a little and a few times: whoever sends them must not decide how
# often the provider is asked.
HURRY = timedelta(seconds=2)
HURRIED = 5  # questions, from which on their own waits count

# Verdicts that nobody owns yet, and that are bounded in number.
OWNERLESS = frozenset({Verdict.EARLY, Verdict.UNRECOGNISED})

# Verdicts of what may still count: it is kept, or its sender is told to come again. Of all others one more
# says nothing new.
STILL_OPEN = frozenset({Verdict.EARLY, Verdict.UNCONFIRMED, Verdict.UNRECOGNISED})
_JUDGED_ANEW = frozenset({Verdict.UNCONFIRMED, Verdict.UNRECOGNISED, Verdict.REFUSED})

# Only a verdict that was open is replaced when the same body comes again: the others are history.
_REPLACED = _JUDGED_ANEW | {Verdict.EARLY, Verdict.UNOWNED}

_ENDS = frozenset({ReportState.COMPLETED, ReportState.FAILED})


class SubmissionRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A submission as far as it matters to a delivery, with the event of its task.

    (Rows that are read for every delivery are made of what is selected in the order of these fields.)
    """

    number: int
    id: str
    provider: str
    owner: str
    task_id: str | None
    fingerprint: str | None = None  # of the end that its task has
    has_charge: int | None = None  # 1 for an order of the gateway's
    held: int | None = None  # 1 where its provider is asked about a callback that waits for its word


class DeliveryRow(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A delivery as far as it matters to a later one. Its first four fields make a repeat a repeat."""

    provider: str
    task_id: str  # "" where the body names none
    claim: str  # the submission that its token names, "poll" for an answer, or ""
    digest: str
    number: int | None  # None: it is not written yet
    submission: int | None
    via: Via
    proof: Proof
    verdict: Verdict
    waiting: str | None
    received_at: datetime
    body_bytes: int | None  # None: only its key is kept


class PollRow(msgspec.Struct, frozen=True, kw_only=True):
    """A question to a provider about one task."""

    number: int
    provider: str
    due_at: datetime
    lease: str | None = None
    asked: int = 0
    outcome: Outcome | None = None  # of the last question
    detail: str | None = None
    asked_at: datetime | None = None
    held: bool = False
    replay_id: str | None = None


# --- whose it is ----------------------------------------------------------------------------------


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a delivery's token says about it."""

    submission: int | None  # the one it names
    task_id: str | None  # what the delivery is filed under
    proof: Proof  # what it proves about the task that the report names
    is_binding: bool = False  # the submission is still free, and gets the task
    is_refused: bool = False  # it is for another task


def claim_of(recording: Recording, named: SubmissionRow | None, of_task: SubmissionRow | None) -> Claim:
    """Check the task that a report names against the submission that its token names.

    ``named`` is that submission, None where there is none; ``of_task`` is the one that has the task. It
    matters only where ``named`` has none.
    """
    asked = recording.report.task_id
    of_another = proof_about(recording.proof, recording.submission_id)
    if named is None:
        return Claim(submission=None, task_id=asked, proof=of_another)
    if asked is None or asked == named.task_id:
        return Claim(submission=named.number, task_id=named.task_id, proof=recording.proof)
    if named.task_id is None and of_task is None:
        return Claim(submission=named.number, task_id=asked, proof=recording.proof, is_binding=True)
    if named.task_id is None and of_task is not None and of_task.owner == named.owner:
        # Reserved, and then logged a second time instead of bound: it is the same owner's task all the same.
        return Claim(submission=of_task.number, task_id=asked, proof=of_another)
    return Claim(submission=named.number, task_id=named.task_id, proof=recording.proof, is_refused=True)


def proof_about(proof: Proof, token_of: str | None, submission_id: str | None = None) -> Proof:
    """What a delivery proves about the task of a submission; of one that is not its token's without its id.

    ``token_of`` is the submission that its token names, if it names one. About another's task such a token
    is worth no more than its provider's: whoever was given it once knows it, whatever task a body names.
    """
    return proof if not token_of or token_of == submission_id else Proof.PROVIDER


def filing_key_of(recording: Recording, task_id: str | None) -> FilingKey:
    """Under what a delivery is filed."""
    claim = "poll" if recording.via is Via.POLL else recording.submission_id or ""
    return recording.provider, task_id or "", claim


# --- what it is -----------------------------------------------------------------------------------


def verdict_of(recording: Recording, owner: SubmissionRow | None, *, is_open: bool) -> Verdict:
    """What an understood delivery is to its task; EARLY where nobody owns that.

    ``is_open`` says that it must be confirmed first, or that its files are still waited for.
    """
    if owner is None:
        return Verdict.EARLY
    if recording.report.state is ReportState.PROGRESS:
        return Verdict.PROGRESS
    if owner.fingerprint is None:
        return Verdict.UNCONFIRMED if is_open else Verdict.ACCEPTED
    return Verdict.DUPLICATE if owner.fingerprint == recording.fingerprint else Verdict.CONFLICT


def must_confirm(recording: Recording, proof: Proof, options: StoreOptions) -> bool:
    """Whether the provider has to say so itself; what it does say itself is confirmed by that."""
    return recording.via is not Via.POLL and options.confirms(recording.provider, proof)


def ends_alone(recording: Recording, options: StoreOptions) -> bool:
    """Whether this delivery alone would end the task of its token."""
    return recording.report.state in _ENDS and not must_confirm(recording, recording.proof, options)


def awaits_files(
    recording: Recording,
    owner: SubmissionRow,
    said: Sequence[DeliveryRow],
    now: datetime,
    options: StoreOptions,
) -> bool:
    """Whether a success without files is no end yet; ``said`` are those of its task that say it and wait.

    A provider that can be asked says so itself, and for a while it may still think better of it: since it
    was first said by somebody who is believed about this task.
    """
    if recording.via is not Via.POLL and recording.provider not in options.unpolled:
        return True
    since = min(
        (
            row.received_at
            for row in said
            if row.via is Via.POLL
            or not options.confirms(recording.provider, proof_about(row.proof, row.claim, owner.id))
        ),
        default=now,
    )
    return now < since + FILES_WAIT


def told_to_sender(*, is_repeat: bool, must_confirm: bool) -> Verdict:
    """What the sender of a callback that is held is told: that it has to be confirmed is not his business."""
    return Verdict.DUPLICATE if is_repeat and not must_confirm else Verdict.ACCEPTED


# --- what is kept of it ---------------------------------------------------------------------------


def is_spent(known: DeliveryRow) -> bool:
    """Whether nothing but the key is left of a delivery that is judged anew. Early ones keep their place."""
    # (Before there was a rule for it, unowned ones kept their bodies.)
    return known.verdict is Verdict.UNOWNED or (known.body_bytes is None and known.verdict in _JUDGED_ANEW)


def is_one_more(known: DeliveryRow | None, place: FilingKey, owner: int | None) -> bool:
    """Whether it takes a place among its like.

    Only an unowned one has lost its place. What names no task lies in one place, whoever sent it, and is
    bounded already.
    """
    is_new = known is None or known.verdict is Verdict.UNOWNED
    _, task_id, _ = place
    return is_new and (owner is not None or bool(task_id))


def refuse_ownerless(verdict: Verdict, kept: int, limit: int) -> None:
    """Raise Unavailable where so many deliveries that nobody owns are kept already.

    Each verdict for itself: what nobody understands stays until retention, and must not keep out what is only
    early.
    """
    if kept >= limit:
        raise Unavailable(
            f"{limit} {verdict} deliveries have no submission already", retry_after_seconds=60.0
        )


def refuse_large(verdict: Verdict, kept: int) -> None:
    """Raise Unavailable where so many large deliveries that nobody owns are kept already."""
    if kept >= MOST_LARGE:
        raise Unavailable(
            f"{MOST_LARGE} large {verdict} deliveries have no submission already", retry_after_seconds=60.0
        )


def most_alike(*, waits: bool) -> int:
    """How many bodies of one kind one token may bring one task; of one more, see ``refuse_alike``."""
    return MOST_WAITING if waits else MOST_BODIES


def is_large(body_bytes: int | None) -> bool:
    """Whether a body is one of those of which fewer are kept."""
    return body_bytes is not None and body_bytes > LARGE_BYTES


def refuse_alike(recording: Recording, verdict: Verdict, most: int) -> None:
    """Raise Unavailable for one more of its kind that may still count; any other is only counted.

    An answer to a question of ours is not owed an answer, and the question will be asked again.
    """
    if verdict in STILL_OPEN and recording.via is not Via.POLL:
        raise Unavailable(
            f"{most} other callbacks of this kind about the task wait already", retry_after_seconds=60.0
        )


def waiting(recording: Recording, verdict: Verdict) -> str | None:
    """All that will be asked of a delivery that waits; its body stays where it is.

    Of an early one, what it says, unless it is progress, which says no more; of one that is held, whether the
    provider says the same.
    """
    if not waits(recording, verdict):
        return None
    if verdict is Verdict.UNCONFIRMED:
        return msgspec.json.encode({"fingerprint": recording.fingerprint}).decode()
    return msgspec.json.encode(msgspec.structs.replace(recording, body=b"")).decode()


def waits(recording: Recording, verdict: Verdict) -> bool:
    """Whether there is something to be asked of it."""
    is_early_end = verdict is Verdict.EARLY and recording.report.state is not ReportState.PROGRESS
    return verdict is Verdict.UNCONFIRMED or is_early_end


def filed_anew(recording: Recording, verdict: Verdict, place: FilingKey, owner: int | None) -> DeliveryRow:
    """The row of a delivery that came for the first time."""
    provider, task_id, claim = place
    return DeliveryRow(
        number=None,
        provider=provider,
        task_id=task_id,
        claim=claim,
        digest=recording.digest,
        submission=owner,
        via=recording.via,
        proof=recording.proof,
        verdict=verdict,
        waiting=waiting(recording, verdict),
        received_at=recording.received_at,
        body_bytes=len(recording.body),
    )


def come_again(known: DeliveryRow, recording: Recording, verdict: Verdict, owner: int | None) -> DeliveryRow:
    """The row of a delivery whose body came again."""
    return msgspec.structs.replace(
        known,
        submission=owner if known.submission is None else known.submission,
        waiting=waiting(recording, verdict),
        verdict=verdict if known.verdict in _REPLACED else known.verdict,
    )


# --- what was early, and what was held ------------------------------------------------------------


def said_early(row: DeliveryRow) -> Recording | None:
    """What an early delivery says; None for progress, and for what is not understood: it ends nothing."""
    return None if row.waiting is None else msgspec.json.decode(row.waiting, type=Recording)


def no_longer_early(verdict: Verdict) -> Verdict:
    """What a delivery that ends nothing is once its task has an owner."""
    return Verdict.PROGRESS if verdict is Verdict.EARLY else verdict


def says(row: DeliveryRow, fingerprint: str | None) -> bool:
    """Whether a delivery that is held says this end."""
    return row.waiting is not None and msgspec.json.decode(row.waiting, type=_Held).fingerprint == fingerprint


class _Held(msgspec.Struct, frozen=True):
    fingerprint: str | None = None


def settled(row: DeliveryRow, fingerprint: str) -> DeliveryRow:
    """A delivery that was held, now that its task has ended: it said the same, or something else."""
    verdict = Verdict.ACCEPTED if says(row, fingerprint) else Verdict.CONFLICT
    return msgspec.structs.replace(row, verdict=verdict, waiting=None)


def held_poll(poll: PollRow | None, number: int, provider: str, now: datetime) -> PollRow:
    """The question about a task whose end a callback holds open."""
    if poll is None:
        return PollRow(number=number, provider=provider, due_at=now, held=True)
    if not poll.held:
        return PollRow(number=number, provider=provider, due_at=now, held=True, replay_id=poll.replay_id)
    if poll.asked < HURRIED and poll.lease is None:
        return msgspec.structs.replace(poll, due_at=min(poll.due_at, now + HURRY))
    return poll


# --- how its task ends ----------------------------------------------------------------------------


def end_of(report: Report) -> EventType | None:
    """How a task ends at once; None where files are to be fetched first."""
    if report.state is ReportState.COMPLETED and report.files:
        return None
    return EventType.COMPLETED if report.is_fileless else EventType.FAILED


def cost_of(recording: Recording) -> CostState:
    """What a task without files to fetch, by how it ends, makes of the money that its order holds."""
    report = recording.report
    if report.state is not ReportState.FAILED:
        return CostState.CHARGED
    is_lost = recording.via is Via.POLL and report.error_code == Outcome.LOST
    return CostState.UNCERTAIN if is_lost else CostState.RELEASED


def error_of(report: Report) -> tuple[str | None, str | None]:
    """The code and the message of a failure, in the provider's words where it has any."""
    if report.state is ReportState.FAILED:
        said = f": its word is {report.provider_state}" if report.provider_state else ""
        return report.error_code, report.error_message or f"the provider gave no reason{said}"
    if payload.names_no_files(report):
        return Outcome.NO_FILES.value, "the provider reported success but named no file"
    return None, None


def end_of_files(stored: int, total: int) -> EventType:
    """How a task ends whose last file has settled."""
    if stored == total:
        return EventType.COMPLETED
    return EventType.PARTIAL if stored else EventType.FAILED


def error_of_files(total: int) -> str:
    """What is said of a task of which no file could be had."""
    return "the file could not be had" if total == 1 else f"none of {total} files could be had"
