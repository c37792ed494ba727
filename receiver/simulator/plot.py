"""What a simulated task is: what was ordered, what became of it, and whom it told."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Protocol

import msgspec

from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.models import to_text

# What a submission or a question can be refused for; each provider has its own words for them.
NO_KEY = "No key"
NOT_BEARER = "Not a Bearer key"
WRONG_KEY = "Wrong key"
INVALID = "Invalid request"
NOT_FOUND = "No such task"


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the whole simulator behaves; ``simulate`` in a submission decides about one task."""

    keys: Mapping[str, str] = {}  # by provider; one that is not named here takes any key, or none
    task_seconds: float = 2.0  # from submission to end
    retry_factor: float = 1.0  # multiplies the waits between callback attempts


class Simulate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fate of one task, from its submission. Explained in the package's docstring."""

    outcome: Literal["completed", "failed"] = "completed"
    error: str | None = None
    error_code: str | int | None = None
    duplicate: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    delay_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    drop_callback: bool = False
    call_before_answer: bool = False


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

    copy: int  # from 1; more than one only by ``simulate.duplicate``
    attempt: int  # from 1
    sent_at: datetime
    status: int | None  # None: no answer came
    error: str | None  # why not
    answer: object | None  # decoded if it was JSON


class PlayedTask:
    """One task on the stage. The only thing here that changes."""

    def __init__(
        self, *, task_id: str, provider: str, order: Order, origin: str, created_at: datetime
    ) -> None:
        self.id = task_id
        self.provider = provider
        self.order = order
        self.origin = origin  # where its files are served from
        self.created_at = created_at
        self.seconds = 0.0  # how long it is meant to take
        self.ended_at: datetime | None = None
        self.files: tuple[MadeFile, ...] = ()
        self.calls: list[CallAttempt] = []
        self.called = asyncio.Event()  # the first callback was sent, or none will be

    @property
    def state(self) -> Literal["running", "completed", "failed"]:
        return "running" if self.ended_at is None else self.order.simulate.outcome

    @property
    def urls(self) -> list[str]:
        return [file.url for file in self.files]

    def percent(self, now: datetime) -> int:
        """How far a running task is, from 0 to 99."""
        elapsed_seconds = (now - self.created_at).total_seconds()
        return max(0, min(99, int(100 * elapsed_seconds / self.seconds))) if self.seconds else 0

    def truth(self) -> dict[str, object]:
        """All of it, for ``GET /truth``; the callback URL is left out because it holds a token."""
        return {
            "provider": self.provider,
            "task_id": self.id,
            "model": self.order.model,
            "state": self.state,
            "submitted_at": to_text(self.created_at),
            "ended_at": to_text(self.ended_at) if self.ended_at else None,
            "simulate": msgspec.to_builtins(self.order.simulate),
            "files": msgspec.to_builtins(self.files),
            "callbacks": msgspec.to_builtins(self.calls),
        }


class Dialect(Protocol):
    """How one provider speaks: its paths, and its words for what happens on the stage."""

    name: str
    submit_path: str
    status_path: str
    retries: Retries | None  # None: it never calls back

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        """What was ordered. Raises Rejected (400) with INVALID for the provider's reasons."""

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> str:
        """The task id in a status question."""

    def new_id(self, order: Order, clock: Clock) -> str: ...

    def submitted(self, task: PlayedTask) -> object: ...

    def status(self, task: PlayedTask, now: datetime) -> object: ...

    def callback(self, task: PlayedTask) -> object: ...

    def refusal(self, problem: Rejected) -> object: ...
