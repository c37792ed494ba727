"""Valid objects with defaults, so that a test names only what it is about."""

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec

from receiver.clock import Clock
from receiver.ingest import fingerprint
from receiver.links import host_hash, inline_link
from receiver.models import (
    AssetWork,
    Outcome,
    Proof,
    Recording,
    RemoteFile,
    Report,
    ReportState,
    Settlement,
    Stats,
    StoredFile,
    Submission,
    Via,
)
from receiver.testing import TurnableClock

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)

# What is counted where nothing has been recorded yet.
EMPTY_RECORD = Stats(
    submissions=0,
    tasks={},
    deliveries={},
    assets={},
    linked=0,
    outbox={},
    oldest_undelivered_at=None,
    oldest_undownloaded_at=None,
    next_deadline_at=None,
    unbound={},
    polls={},
    wal_bytes=0,
)


def submission(
    task_id: str | None = "t1", *, provider: str = "vidgo", owner: str = "user-17", id_: str | None = None
) -> Submission:
    return Submission(
        id=id_ or Clock().new_id("sub"),
        provider=provider,
        owner=owner,
        task_id=task_id,
        model="gpt-image-2",
        request={"prompt": "a lighthouse"},
        metadata={"order": 7},
        created_at=NOW,
        bound_at=NOW if task_id else None,
    )


def completed(task_id: str | None = "t1", *, files: int = 1) -> Report:
    links = tuple(RemoteFile(url=f"https://cdn.test/{task_id}/{n}.png", kind="image") for n in range(files))
    return Report(task_id=task_id, state=ReportState.COMPLETED, files=links, provider_state="finished")


def inline(task_id: str, *texts: str) -> Report:
    """A success whose files stand in the body as these texts."""
    links = tuple(RemoteFile(url=inline_link(text), kind="image") for text in texts)
    return Report(task_id=task_id, state=ReportState.COMPLETED, files=links)


def failed(task_id: str = "t1") -> Report:
    return Report(task_id=task_id, state=ReportState.FAILED, error_code="nsfw", error_message="refused")


def progress(task_id: str = "t1") -> Report:
    return Report(task_id=task_id, state=ReportState.PROGRESS, provider_state="running")


def unclear(task_id: str | None = "t1") -> Report:
    return Report(task_id=task_id, state=ReportState.UNCLEAR, note="state 'odd' is not known")


def recording(
    report: Report,
    *,
    body: bytes | None = None,
    submission_id: str | None = None,
    provider: str = "vidgo",
    received_at: datetime = NOW,
    links_die_at: datetime | None = None,
    weak: bool = False,
) -> Recording:
    """What a callback brings: by a submission's token, by its provider's (``weak``), or else signed."""
    body = body_of(report) if body is None else body
    return Recording(
        provider=provider,
        via=Via.CALLBACK,
        proof=Proof.SUBMISSION if submission_id else Proof.PROVIDER if weak else Proof.SIGNATURE,
        submission_id=submission_id,
        body=body,
        digest=hashlib.sha256(body).hexdigest()[:32],
        fingerprint=fingerprint(report),
        report=report,
        received_at=received_at,
        links_die_at=links_die_at or received_at + timedelta(days=1),
    )


def body_of(report: Report) -> bytes:
    """A body that says it; the same as in the records that earlier releases made."""
    return repr(report).replace(", is_fileless=False", "").encode()


def confirms_weak(provider: str, proof: Proof) -> bool:
    """What a store is told that believes no provider's token."""
    return proof is Proof.PROVIDER


def answer(report: Report, *, body: bytes | None = None, received_at: datetime = NOW) -> Recording:
    """What the provider says when it is asked."""
    callback = recording(report, body=body, received_at=received_at)
    return msgspec.structs.replace(callback, via=Via.POLL, proof=Proof.POLL)


def asset_work(
    url: str,
    *,
    attempt: int = 1,
    last: Outcome | None = None,
    alike: int = 0,
    kind: str = "image",
    deadline_seconds: float = 86_400,
    provider: str = "vidgo",
    task_id: str = "t/1",
    stored_bytes: int = 0,
    owner: str = "user-17",
) -> AssetWork:
    """A leased file, whose deadline is told from the first moment of a turnable clock."""
    return AssetWork(
        event_id="evt_1",
        provider=provider,
        task_id=task_id,
        owner=owner,
        index=0,
        url=url,
        kind=kind,
        host_hash=host_hash(url),
        attempt=attempt,
        last=last,
        alike=alike,
        deadline_at=TurnableClock().now() + timedelta(seconds=deadline_seconds),
        model=None,
        renewed=False,
        replay_id=None,
        lease="lease",
        stored_bytes=stored_bytes,
    )


def stored(work: AssetWork, *, at: datetime = NOW) -> Settlement:
    file = StoredFile(
        key=f"{work.provider}/{work.task_id}/{work.index}.png",
        media_type="image/png",
        bytes=100,
        width=64,
        height=64,
        sha256="ab" * 32,
    )
    return Settlement(outcome=Outcome.STORED, started_at=at, settled_at=at, file=file)


def settlement(outcome: Outcome, *, at: datetime = NOW, retry_at: datetime | None = None) -> Settlement:
    return Settlement(outcome=outcome, started_at=at, settled_at=at, retry_at=retry_at)


def renewed(*links: str, at: datetime = NOW, retry_at: datetime | None = None) -> Settlement:
    """A dead link, and what the first files are called now; a new link lives for a day."""
    gone = settlement(Outcome.GONE, at=at, retry_at=retry_at or at)
    return msgspec.structs.replace(gone, links=dict(enumerate(links)), links_die_at=at + timedelta(days=1))


async def no_bodies(_provider: str, _task_id: str) -> list[bytes]:
    """What is kept for files without links, where all have links."""
    return []


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def indexes(works: list[AssetWork]) -> list[int]:
    return [work.index for work in works]
