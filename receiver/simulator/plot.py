"""What a simulated task is: what was ordered, what became of it, and whom it told."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.simulator.faults import Failure, Fate, Faults, Simulate
from receiver.simulator.links import Links
from receiver.times import to_text

# What a submission or a question can be refused for; each provider has its own words for them.
NO_KEY = "No key"
NOT_BEARER = "Not a Bearer key"
WRONG_KEY = "Wrong key"
INVALID = "Invalid request"
NOT_FOUND = "No such task"
NO_CREDIT = "Insufficient credits"
TOO_MANY = "Rate limit exceeded"


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the whole simulator behaves; ``simulate`` in a submission decides about one task."""

    keys: Mapping[str, str] = {}  # by provider; one that is not named here takes any key, or none
    out_of_credit: frozenset[str] = frozenset()  # providers that take orders, but refuse to be asked for them
    task_seconds: float = 2.0  # from submission to end
    retry_factor: float = 1.0  # multiplies the waits between callback attempts
    picture_pixels: int = 1024  # the longest edge; a small picture takes a fiftieth of a large one's time
    faults: Faults = Faults()


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that was accepted."""

    model: str
    count: int
    callback_url: str | None
    simulate: Simulate


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider repeats a callback that was not acknowledged."""

    waits_seconds: tuple[float, ...]
    timeout_seconds: float
    only_200: bool = False  # else any 2xx is an acknowledgement

    def satisfied_by(self, status: int | None) -> bool:
        """Whether this answer (None: there was none) ends the matter."""
        return status == 200 if self.only_200 else status is not None and 200 <= status < 300


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A drawn image."""

    content: bytes
    media_type: str
    extension: str
    width: int
    height: int


class MadeFile(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a task, as it really is."""

    index: int
    url: str
    media_type: str
    bytes: int
    width: int
    height: int
    sha256: str


class CallAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One callback as it was sent, and the answer to it."""

    copy: int  # from 1; more than one only where the callback is repeated
    attempt: int  # from 1
    sent_at: datetime
    status: int | None  # None: no answer came
    error: str | None  # why not
    answer: object | None  # decoded if it was JSON


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to tell of a task at one moment."""

    task_id: str
    model: str
    state: Literal["running", "completed", "failed"]
    percent: int  # from 0 to 99, of a running one
    urls: tuple[str, ...]
    error: str | None
    error_code: str | int | None
    created_at: datetime
    ended_at: datetime | None


class PlayedTask:
    """One task on the stage. The only thing here that changes."""

    def __init__(
        self,
        *,
        number: int,
        task_id: str,
        provider: str,
        order: Order,
        fate: Fate,
        origin: str,
        created_at: datetime,
    ) -> None:
        self.number = number  # in this run, from 0
        self.id = task_id
        self.provider = provider
        self.order = order
        self.fate = fate
        self.origin = origin  # where its files are served from
        self.created_at = created_at
        self.links: Links | None = None  # None: they live for ever
        self.ended_at: datetime | None = None
        self.files: tuple[MadeFile, ...] = ()
        self.calls: list[CallAttempt] = []
        self.forgeries: list[CallAttempt] = []
        self.late_progress: list[CallAttempt] = []
        self.forged_fetches = 0
        self.called = asyncio.Event()  # the first callback was sent, or none will be

    @property
    def state(self) -> Literal["running", "completed", "failed"]:
        return "running" if self.ended_at is None else self.fate.outcome

    def snapshot(self, now: datetime) -> Snapshot:
        """The truth as of ``now``, with links that live from then on."""
        ended = self.ended_at is not None
        return Snapshot(
            task_id=self.id,
            model=self.order.model,
            state=self.state,
            percent=self._percent(now),
            urls=tuple(self.links.sign(file.url, now) if self.links else file.url for file in self.files),
            error=self.fate.error if ended else None,
            error_code=self.fate.error_code if ended else None,
            created_at=self.created_at,
            ended_at=self.ended_at,
        )

    def lie(self, now: datetime) -> Snapshot:
        """A false one: it is done, and its files are where nobody must fetch them."""
        where = f"{self.origin}/forged/{self.provider}/{self.id}"
        urls = tuple(f"{where}/{index}.png" for index in range(self.order.count))
        return msgspec.structs.replace(self.snapshot(now), state="completed", urls=urls, ended_at=now)

    def _percent(self, now: datetime) -> int:
        seconds = self.fate.delay_seconds
        elapsed_seconds = (now - self.created_at).total_seconds()
        return max(0, min(99, int(100 * elapsed_seconds / seconds))) if seconds else 0

    def truth(self) -> dict[str, object]:
        """All of it, for ``GET /truth``; the callback URL is left out because it holds a token."""
        error = Failure(code=self.fate.error_code, message=self.fate.error or "")
        return {
            "number": self.number,
            "provider": self.provider,
            "task_id": self.id,
            "model": self.order.model,
            "state": self.state,
            "error": msgspec.to_builtins(error) if self.state == "failed" else None,
            "submitted_at": to_text(self.created_at),
            "ended_at": to_text(self.ended_at) if self.ended_at else None,
            "simulate": msgspec.to_builtins(self.fate),
            "files": msgspec.to_builtins(self.files),
            "callbacks": msgspec.to_builtins(self.calls),
            "late_progress": msgspec.to_builtins(self.late_progress),
            "forged": bool(self.forgeries),
            "forgeries": msgspec.to_builtins(self.forgeries),
            "forged_fetches": self.forged_fetches,
        }


class Dialect(Protocol):
    """How one provider speaks: its paths, and its words for what happens on the stage."""

    name: str
    submit_path: str
    status_path: str
    retries: Retries | None  # None: it never calls back
    failure: Failure  # of a task that has to fail, if nobody asks for another

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        """What was ordered. Raises Rejected (400) with INVALID for the provider's reasons."""

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The task id in a status question."""

    def new_id(self, order: Order, clock: Clock) -> str: ...

    def submitted(self, task: Snapshot) -> object: ...

    def status(self, task: Snapshot) -> object: ...

    def callback(self, task: Snapshot) -> object: ...

    def refusal(self, problem: Rejected) -> object: ...
