"""What an understood delivery does to its task: the event, whose key decides who came first, and the rest.

Nothing here is checked and later written: the keys prevent doubles, the code only names them.
"""

from datetime import datetime, timedelta

import msgspec

from receiver import payload
from receiver.links import host_hash
from receiver.models import EventType, Outcome, Proof, Recording, Report, ReportState, Verdict, Via
from receiver.options import StoreOptions
from receiver.record import polls
from receiver.record.cursor import Cursor
from receiver.record.ends import end_event
from receiver.times import from_text, to_text

# The submission that a task belongs to, and no more: the index alone answers it.
SUBMISSION_BY_TASK = "SELECT number FROM submissions WHERE provider = ? AND task_id = ?"

# The first terminal state of a task wins; a later one finds the key taken, a stranger's finds no submission.
# The event is named after its submission: when an end comes again that a restored backup knows nothing of,
# consumers see that it is the same.
INSERT_EVENT = """
INSERT INTO events (number, id, via, fingerprint, received_at, error_code, error_message)
SELECT number, 'evt_' || substr(id, 5), ?, ?, ?, ?, ? FROM submissions WHERE provider = ? AND task_id = ?
ON CONFLICT (number) DO NOTHING
"""

EVENT_BY_TASK = """
SELECT number, fingerprint FROM submissions JOIN events USING (number) WHERE provider = ? AND task_id = ?
"""

# Since when a success without files is said. (What is early has said nothing yet.)
SAID_WITHOUT_FILES = """
SELECT received_at, via, proof FROM deliveries
WHERE provider = ? AND task_id = ? AND +verdict = 'unconfirmed' AND json_extract(waiting, '$.fingerprint') = ?
"""

# A provider may report success before it names the files. So long they are waited for.
FILES_WAIT = timedelta(minutes=10)

INSERT_ASSET = """
INSERT INTO assets (event, position, provider, url, host_hash, kind, due_at, deadline_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def apply(
    db: Cursor, recording: Recording, proof: Proof, options: StoreOptions, now: datetime
) -> tuple[Verdict, int | None]:
    """What an understood delivery does to its task, and the submission that owns it; EARLY without one.

    ``proof`` is what it proves about that task (see ``find_claimed``), which may be less than what it was
    received on. ``now`` is when a task without files ends. Only an ACCEPTED one has written anything: polls
    are told by ``tell_polls``, once it is kept.
    """
    task = recording.provider, recording.report.task_id
    if recording.report.state is ReportState.PROGRESS:
        owner = owner_of(db, *task)
        return (Verdict.EARLY if owner is None else Verdict.PROGRESS), owner
    is_open = must_confirm(recording, proof, options) or _awaits_files(db, recording, options, now)
    if is_open and db.execute(EVENT_BY_TASK, task).fetchone() is None:
        owner = owner_of(db, *task)
        return (Verdict.EARLY if owner is None else Verdict.UNCONFIRMED), owner
    if _insert_event(db, recording):
        event = db.lastrowid
        assert event is not None, "the row just inserted; its number is its submission's"  # noqa: S101
        _insert_consequences(db, recording, event, options, now)
        return Verdict.ACCEPTED, event
    known = db.execute(EVENT_BY_TASK, task).fetchone()
    if known is None:
        return Verdict.EARLY, None
    owner, fingerprint = known
    return (Verdict.DUPLICATE if fingerprint == recording.fingerprint else Verdict.CONFLICT), owner


def owner_of(db: Cursor, provider: str, task_id: str | None) -> int | None:
    row = db.execute(SUBMISSION_BY_TASK, (provider, task_id)).fetchone()
    return row[0] if row else None


def must_confirm(recording: Recording, proof: Proof, options: StoreOptions) -> bool:
    """Whether the provider has to say so itself; what it does say itself is confirmed by that."""
    return recording.via is not Via.POLL and options.confirms(recording.provider, proof)


def _awaits_files(db: Cursor, recording: Recording, options: StoreOptions, now: datetime) -> bool:
    """Whether a success without files is no end yet.

    A provider that can be asked says so itself, and for a while it may still think better of it.
    """
    if not payload.names_no_files(recording.report):
        return False
    if recording.via is not Via.POLL and recording.provider not in options.unpolled:
        return True
    task = recording.provider, recording.report.task_id, recording.fingerprint
    since = min(
        (
            from_text(received_at)
            for received_at, via, proof in db.execute(SAID_WITHOUT_FILES, task)
            if via == Via.POLL or not options.confirms(recording.provider, Proof(proof))
        ),
        default=now,
    )
    return now < since + FILES_WAIT


def _insert_event(db: Cursor, recording: Recording) -> bool:
    report = recording.report
    code, message = _error(report)
    values = (
        recording.via.value, recording.fingerprint, to_text(recording.received_at), code, message,
        recording.provider, report.task_id,
    )  # fmt: skip
    return db.execute(INSERT_EVENT, values).rowcount == 1


def _error(report: Report) -> tuple[str | None, str | None]:
    if report.state is ReportState.FAILED:
        said = f": its word is {report.provider_state}" if report.provider_state else ""
        return report.error_code, report.error_message or f"the provider gave no reason{said}"
    if payload.names_no_files(report):
        return Outcome.NO_FILES.value, "the provider reported success but named no file"
    return None, None


def _insert_consequences(
    db: Cursor, recording: Recording, event: int, options: StoreOptions, now: datetime
) -> None:
    report = recording.report
    if report.state is ReportState.FAILED or not report.files:
        told = EventType.COMPLETED if report.is_fileless else EventType.FAILED
        end_event(db, event, told, now, options.routes)
        return
    due, deadline = to_text(recording.received_at), to_text(recording.links_die_at)
    for position, file in enumerate(report.files):
        place = event, position, recording.provider
        db.execute(INSERT_ASSET, (*place, file.url, host_hash(file.url), file.kind, due, deadline))


def tell_polls(
    db: Cursor, verdict: Verdict, owner: int | None, provider: str, task_id: str | None, now: datetime
) -> None:
    """Have a task asked about whose end a callback holds open, and no more about one that has ended."""
    if owner is None or task_id is None:
        return
    if verdict is Verdict.UNCONFIRMED:
        polls.hold(db, owner, provider, now)
    elif verdict is Verdict.ACCEPTED:
        polls.drop(db, owner, provider, task_id, now)


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
