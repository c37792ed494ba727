"""Gather what the demo is judged by: what was submitted, what really happened, and what the service says."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from receiver.cli.demo.backend import Backend, Handed
from receiver.cli.demo.folder import RunFolder
from receiver.cli.demo.plan import SIGNED, SILENT
from receiver.models import CostState
from receiver.usd import from_usd

ImageKey = tuple[str, int]  # "provider/task_id" and the image's index


# --- what really happened, as the simulator tells it ------------------------------------------------


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator was asked to do with the task."""

    error: str | None = None
    duplicate: int = 1
    drop_callback: bool = False
    bad_signature: bool = False


class TrueImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as the provider made it."""

    index: int
    media_type: str
    bytes: int
    width: int
    height: int
    sha256: str


class TrueCall(msgspec.Struct, frozen=True, kw_only=True):
    """One callback as it was sent, and its answer."""

    status: int | None
    answer: Any

    @property
    def verdict(self) -> str | None:
        return self.answer.get("status") if isinstance(self.answer, dict) else None


class TrueTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the provider knows it."""

    provider: str
    task_id: str
    state: str
    simulate: Fate
    files: tuple[TrueImage, ...]
    callbacks: tuple[TrueCall, ...]
    forgeries: tuple[TrueCall, ...] = ()
    forged_fetches: int = 0
    billed_micros: int | None = None  # millionths of a dollar, where its provider's credits are known as such

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.task_id}"

    @property
    def calls(self) -> int:
        """How many callbacks its provider means to send and to see acknowledged."""
        silent = self.provider == SILENT or self.simulate.drop_callback or self.is_signed_wrongly
        return 0 if silent else self.simulate.duplicate

    @property
    def is_signed_wrongly(self) -> bool:
        return self.provider in SIGNED and self.simulate.bad_signature


# --- what the service says: its API, and its events -------------------------------------------------


class SeenDelivery(msgspec.Struct, frozen=True, kw_only=True):
    via: str
    verdict: str
    proof: str
    seen: int
    received_at: str

    @property
    def is_true_callback(self) -> bool:
        """Whether it tells the real end: what contradicts it is a lie here, and progress is no end."""
        return self.via == "callback" and self.verdict not in {"conflict", "progress"}

    @property
    def ended_by_poll(self) -> bool:
        return (self.via, self.verdict) == ("poll", "accepted")


class SeenAsset(msgspec.Struct, frozen=True, kw_only=True):
    state: str
    bytes: int | None


class SeenCost(msgspec.Struct, frozen=True, kw_only=True):
    usd: str | None  # None: its model has no price
    state: str


class SeenTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as ``GET /tasks`` shows it."""

    provider: str
    task_id: str
    state: str
    submitted_at: str
    event_id: str | None
    assets: tuple[SeenAsset, ...]
    deliveries: tuple[SeenDelivery, ...]
    cost: SeenCost | None = None  # of an order through the gateway

    @property
    def name(self) -> str:
        return f"{self.provider}/{self.task_id}"

    @property
    def booked_micros(self) -> int | None:
        """What is booked for it; None where it has no price."""
        if self.cost is None or self.cost.usd is None:
            return None
        return 0 if self.cost.state == CostState.RELEASED else from_usd(self.cost.usd)


class ToldImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image as an event describes it; only a stored one has more than an index."""

    index: int
    state: str
    key: str | None = None
    url: str | None = None
    media_type: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    sha256: str | None = None


class ToldError(msgspec.Struct, frozen=True, kw_only=True):
    message: str | None


class ToldTask(msgspec.Struct, frozen=True, kw_only=True):
    """The ``data`` of an event."""

    provider: str
    task_id: str
    submission_id: str
    owner: str
    metadata: Mapping[str, Any]
    assets: tuple[ToldImage, ...]
    error: ToldError | None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One CloudEvent, as a consumer reads it."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    data: ToldTask


# --- the bytes, wherever they are -------------------------------------------------------------------


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What was behind a link, or in a file."""

    bytes: int
    sha256: str
    status: int = 200
    media_type: str | None = None  # files have none


class Forgery(msgspec.Struct, frozen=True, kw_only=True):
    """A forged callback: its answer's status, and how many deliveries were on record in all at the end."""

    victim: str
    answer: int
    deliveries: int


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that the promises are held against."""

    handed: tuple[Handed, ...]
    truth: tuple[TrueTask, ...]
    seen: tuple[SeenTask, ...]
    told: tuple[Told, ...]
    linked: Mapping[ImageKey, Copy]
    files: Mapping[str, Copy]  # by key
    forgery: Forgery
    outage: bool = False  # the service was down for a while


async def gather(
    backend: Backend,
    folder: RunFolder,
    handed: Sequence[Handed],
    victim: Handed,
    forgery_answer: int,
    *,
    outage: bool,
) -> Evidence:
    """Ask the service and the simulator, and read the folder. Nothing may be under way any more.

    After an outage a provider may still try a callback again: what both say of it is then asked anew.
    """
    told = await asyncio.to_thread(_read_events, folder.events)
    truth = None
    while truth != (before := await ask_truth(backend)):
        truth = before
        stats = await backend.stats()
        tasks = await asyncio.gather(*(backend.task(each) for each in handed))
    links = {(event.subject, image.index): image.url for event in told for image in event.data.assets}
    wanted = {key: url for key, url in links.items() if url}
    copies = await asyncio.gather(*(_follow(backend, url) for url in wanted.values()))
    return Evidence(
        handed=tuple(handed),
        truth=before,
        seen=tuple(msgspec.convert(task, SeenTask) for task in tasks),
        told=told,
        linked=dict(zip(wanted, copies, strict=True)),
        files=await asyncio.to_thread(_read_files, folder.images),
        forgery=Forgery(
            victim=victim.name, answer=forgery_answer, deliveries=sum(stats["deliveries"].values())
        ),
        outage=outage,
    )


def _read_events(path: Path) -> tuple[Told, ...]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return tuple(msgspec.json.decode(line, type=Told) for line in lines)


async def ask_truth(backend: Backend) -> tuple[TrueTask, ...]:
    """The simulator's own account."""
    return msgspec.json.decode(await backend.truth(), type=tuple[TrueTask, ...])


async def _follow(backend: Backend, url: str) -> Copy:
    answer = await backend.open_link(url)
    return Copy(
        status=answer.status_code,
        media_type=answer.headers.get("content-type"),
        bytes=len(answer.content),
        sha256=hashlib.sha256(answer.content).hexdigest(),
    )


def _read_files(folder: Path) -> dict[str, Copy]:
    copies = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            copies[path.relative_to(folder).as_posix()] = Copy(
                bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
            )
    return copies
