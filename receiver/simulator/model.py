"""A simulated task: what was ordered, what became of it, and which callbacks were sent."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

import msgspec

from receiver.clock import Clock
from receiver.errors import ReceiverError
from receiver.simulator.faults import Failure, Fate, Faults, Simulate
from receiver.simulator.links import Links
from receiver.times import to_text

# What a submission or a question can be refused for; each provider has its own words for them.
NO_KEY = "No key"
NOT_BEARER = "Not a Bearer key"
WRONG_KEY = "Wrong key"
INVALID = "Invalid request"
NOT_FOUND = "No such task"
NO_PATH = "No such path"
NO_METHOD = "Method not allowed"
NO_CREDIT = "Insufficient credits"
TOO_MANY = "Rate limit exceeded"
BROKEN = "Internal error"

# What a task can be ordered to make: an image of any format, or a file with this extension.
ANY_IMAGE = "image"


class Refusal(ReceiverError):
    """A refused request: ``title`` is one of the reasons above, ``detail`` says more."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who orders and pays: a key at a provider."""

    provider: str
    key: str | None  # None: an order without one, where any will do


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the whole simulator behaves; ``simulate`` in a submission decides about one task."""

    keys: Mapping[str, str | tuple[str, ...]] = {}  # by provider; one that is not named takes any, or none
    credits: float = 1_000_000.0  # what each account begins with; see ``Dialect.price``
    submit_rate_limit: int = 0  # submissions a minute that each provider takes; 0: no limit
    out_of_credit: frozenset[str] = frozenset()  # providers that take orders, but refuse to be asked for them
    task_seconds: float = 2.0  # from submission to end
    close_idle_after: float = 5.0  # seconds without a request, after which a connection is closed
    retry_factor: float = 1.0  # multiplies the waits between callback attempts
    picture_pixels: int = 1024  # the longest edge; a small picture takes a fiftieth of a large one's time
    faults: Faults = Faults()


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that was accepted."""

    model: str
    makes: tuple[str, ...]  # ANY_IMAGE or an extension for each file, in the order of the links
    callback_url: str | None
    simulate: Simulate
    secret: str | None = None  # which it brought, to sign its callback with
    music: bool = False  # it is asked about, and told of, as music is
    price: float | None = None  # in the unit of the balance; None: ``Dialect.price`` for each file


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A status question. It finds a task only if all that is not None matches."""

    task_id: str
    model: str | None = None
    music: bool | None = None
    results: bool = False  # it is asked for these, where a provider has them apart


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A file as answers and callbacks name it."""

    url: str
    kind: str  # image, video, audio


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider repeats a callback that was not acknowledged."""

    waits_seconds: tuple[float, ...]
    timeout_seconds: float
    only_200: bool = False  # else any 2xx is an acknowledgement

    def satisfied_by(self, status: int | None) -> bool:
        """Whether an answer with this status (None: no answer) acknowledges the callback."""
        return status == 200 if self.only_200 else status is not None and 200 <= status < 300


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was made; the size in pixels is that of images and films."""

    content: bytes
    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None


class MadeFile(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a task, as it really is."""

    index: int
    url: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
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
    """A task as it is at one moment."""

    task_id: str
    model: str
    state: Literal["running", "completed", "failed"]
    percent: int  # from 0 to 99, of a running one
    order: Order
    links: tuple[Link, ...]  # of a completed one
    turn: int  # how many tasks its provider had before; for what a provider does by turns
    credits: float  # what it costs; failures cost nothing
    error: str | None
    error_code: str | int | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(link.url for link in self.links)


class PlayedTask:
    """One task on the stage; all other values here are frozen."""

    def __init__(  # noqa: PLR0913 - by keyword, each a thing of its own
        self,
        *,
        number: int,
        task_id: str,
        provider: str,
        order: Order,
        fate: Fate,
        origin: str,
        created_at: datetime,
        account: Account,
        request_id: str | None = None,
    ) -> None:
        self.number = number  # in this run, from 0
        self.id = task_id
        self.provider = provider
        self.order = order
        self.fate = fate
        self.origin = origin  # where its files are served from
        self.created_at = created_at
        self.account = account
        self.request_id = request_id  # as its order had it
        self.turn = 0  # how many tasks its provider had before
        self.price = 0.0
        self.unit_micros: int | None = None  # what a unit of the price is worth, where that is known
        self.links: Links | None = None  # None: they live for ever
        self.ended_at: datetime | None = None
        self.files: tuple[MadeFile, ...] = ()
        self.calls: list[CallAttempt] = []
        self.forgeries: list[CallAttempt] = []
        self.late_progress: list[CallAttempt] = []
        self.forged_fetches = 0
        self.asked = 0  # status questions that were answered
        self.called = asyncio.Event()  # the first callback was sent, or none will be

    @property
    def state(self) -> Literal["running", "completed", "failed"]:
        return "running" if self.ended_at is None else self.fate.outcome

    @property
    def billed(self) -> float:
        """What it costs: nothing if it failed."""
        return 0.0 if self.state == "failed" else self.price

    def snapshot(self, now: datetime) -> Snapshot:
        """The task as it is at ``now``, with links whose life begins then."""
        ended = self.ended_at is not None
        elapsed_seconds, seconds = (now - self.created_at).total_seconds(), self.fate.delay_seconds
        urls = [self.links.sign(file.url, now) if self.links else file.url for file in self.files]
        return Snapshot(
            task_id=self.id,
            model=self.order.model,
            state=self.state,
            percent=max(0, min(99, int(100 * elapsed_seconds / seconds))) if seconds else 0,
            order=self.order,
            links=tuple(
                Link(url=url, kind=kind_of(file.url.rpartition(".")[2]))
                for url, file in zip(urls, self.files, strict=True)
            ),
            turn=self.turn,
            credits=self.price,
            error=self.fate.error if ended else None,
            error_code=self.fate.error_code if ended else None,
            created_at=self.created_at,
            ended_at=self.ended_at,
        )

    def lie(self, now: datetime) -> Snapshot:
        """A forged snapshot: the task is done, and its files are where nobody must fetch them."""
        where = f"{self.origin}/forged/{self.provider}/{self.id}"
        links = tuple(
            Link(url=f"{where}/{index}.png", kind=kind_of(extension))
            for index, extension in enumerate(self.order.makes)
        )
        return msgspec.structs.replace(self.snapshot(now), state="completed", links=links, ended_at=now)

    def truth(self) -> dict[str, object]:
        """What ``GET /truth`` tells; callback URL and key are not shown, as each opens a door."""
        error = Failure(code=self.fate.error_code, message=self.fate.error or "")
        return {
            "number": self.number,
            "provider": self.provider,
            "task_id": self.id,
            "model": self.order.model,
            "callback_sha256": _sha256(self.order.callback_url),
            "state": self.state,
            "error": msgspec.to_builtins(error) if self.state == "failed" else None,
            "submitted_at": to_text(self.created_at),
            "ended_at": to_text(self.ended_at) if self.ended_at else None,
            "request_id": self.request_id,
            "key_sha256": _sha256(self.account.key),
            "credits": self.billed,
            "billed_micros": None if self.unit_micros is None else round(self.billed * self.unit_micros),
            "simulate": msgspec.to_builtins(self.fate),
            "files": msgspec.to_builtins(self.files),
            "callbacks": msgspec.to_builtins(self.calls),
            "late_progress": msgspec.to_builtins(self.late_progress),
            "forged": bool(self.forgeries),
            "forgeries": msgspec.to_builtins(self.forgeries),
            "forged_fetches": self.forged_fetches,
        }


def _sha256(text: str | None) -> str | None:
    return hashlib.sha256(text.encode()).hexdigest() if text else None


def kind_of(extension: str) -> str:
    """The word for what a file with this extension is."""
    return {"mp4": "video", "mp3": "audio", "wav": "audio", "mid": "audio"}.get(extension, "image")


class Dialect(Protocol):
    """How one provider speaks: its paths, and its words for what happens on the stage."""

    name: str
    submit_path: str
    status_paths: tuple[str, ...]  # with the query that one wants
    balance_path: str | None
    uploads: str | None  # the path that its uploads hang below
    retries: Retries | None  # None: it never calls back
    failure: Failure  # of a task that has to fail, if nobody asks for another
    price: float  # of a file without a price of its own, in the unit of the balance: credits or US dollars

    def path_words(self) -> Mapping[str, Iterable[str]]:
        """The words that a part of the submit path may be, where they are few."""

    def read_order(self, body: Mapping[str, object], path: Mapping[str, str]) -> Order:
        """The order in a submission; ``path`` has what stands in the path, and behind it in the query.

        Raises Refusal (400, INVALID) where the provider would refuse it.
        """

    def asked_for(self, path: Mapping[str, str], query: Mapping[str, str]) -> Question:
        """Read what a status question asks about."""

    def new_id(self, order: Order, clock: Clock) -> str: ...

    def submitted(self, task: Snapshot) -> object: ...

    def status(self, task: Snapshot) -> object: ...

    def balance(self, left: float) -> object: ...

    def callback(self, task: Snapshot) -> object: ...

    def refusal(self, problem: Refusal) -> object: ...


@runtime_checkable
class KeyedDialect(Dialect, Protocol):
    """What a provider has besides that signs by a private key and tells its results apart from the status."""

    keys_path: str  # of its public keys
    key_word: str  # what stands before a caller's key in place of ``Bearer``

    def results(self, task: Snapshot) -> tuple[int, object]:
        """The status and the body of the answer about what a task made."""
