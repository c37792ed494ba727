"""What is asked of the service, and how its answers are read: all of it without a connection.

Each call is a generator: it yields a ``Request`` and is sent the ``Answer``, or has ``Unavailable`` thrown
into it where nobody answered; it yields a ``Pause`` where it wants to wait; what it returns is the result. So
the client with ``async`` and the one without do the same by the same code.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from receiver.client.errors import NotSent, ReceiverError, Rejected, Unavailable, UnknownOutcome
from receiver.client.events import JSON, Asset, Error
from receiver.client.files import FileBeside

DEFAULT_URL = "http://127.0.0.1:8080"
WAIT_SECONDS = 30.0  # of one question for a task's end
AGAIN_SECONDS = 1.0  # after an answer that came too early, or none
BIND_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # an order was paid for, so it is told more than once
PAGE_ROWS = "200"

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Request(msgspec.Struct, frozen=True):
    """One HTTP request. ``patience`` is how many seconds longer than usual the answer may take."""

    method: str
    path: str  # behind the service's own URL, percent-encoded
    query: Mapping[str, str] = {}
    document: Any = None
    patience: float = 0.0


class Answer(msgspec.Struct, frozen=True):
    """What came back."""

    status: int
    body: bytes
    retry_after: str | None = None


class Fetch(msgspec.Struct, frozen=True):
    """A GET whose body goes to ``write``, piece by piece, where the answer is 200."""

    url: str
    headers: Mapping[str, str]
    write: Callable[[bytes], None]


class Pause(msgspec.Struct, frozen=True):
    """Nothing to ask for so many seconds."""

    seconds: float


Step: TypeAlias = Request | Fetch | Pause
Steps: TypeAlias = Generator[Step, Answer | None, T]


class Access(msgspec.Struct, frozen=True):
    """Where the service is, without a slash at the end, and the token for it."""

    url: str
    token: str

    @classmethod
    def of(cls, url: str | None, token: str | None) -> "Access":
        """What is given, else RECEIVER_URL and RECEIVER_TOKEN. Raises ValueError where there is no token."""
        found = token or os.environ.get("RECEIVER_TOKEN")
        if not found:
            raise ValueError(
                "no token: give one of the receiver's RECEIVER_API_TOKENS, or set RECEIVER_TOKEN"
            )
        return cls((url or os.environ.get("RECEIVER_URL") or DEFAULT_URL).rstrip("/"), found)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}


class Submission:
    """A task that will be ordered, or was. ``callback_url`` is for the provider.

    Inside of ``submission()`` say what became of the order, by ``bind`` or ``refused``: it is sent when you
    leave.
    """

    def __init__(self, id_: str, provider: str, callback_url: str, task_id: str | None) -> None:
        self.id = id_
        self.provider = provider
        self.callback_url = callback_url
        self.task_id = task_id
        self.is_refused = False

    def __repr__(self) -> str:
        return f"<Submission {self.id} of {self.provider}, task {self.task_id}>"  # and no URL, which is a key

    def bind(self, task_id: str) -> None:
        """The provider took the order, as this task."""
        self.task_id = task_id

    def refused(self) -> None:
        """The provider refused the order, so no task will come. A time-out or a 5xx is no refusal."""
        self.is_refused = True


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One task in a list. Times are RFC 3339."""

    provider: str
    task_id: str
    state: str
    owner: str
    model: str | None
    submission_id: str
    submitted_at: str
    ended_at: str | None
    assets_stored: int
    assets_total: int


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task as it stands. ``type`` is set once it has ended."""

    provider: str
    task_id: str
    state: str  # submitted, fetching, completed, partial, failed
    owner: str
    submission_id: str
    submitted_at: str
    waiting_on: str | None = None
    model: str | None = None
    metadata: dict[str, Any] = {}
    ended_at: str | None = None
    event_id: str | None = None
    type: str | None = None
    revision: int | None = None
    error: Error | None = None
    assets: tuple[Asset, ...] = ()

    @property
    def stored(self) -> tuple[Asset, ...]:
        """The files that can be had."""
        return tuple(asset for asset in self.assets if asset.state == "stored")


class _Shown(msgspec.Struct):
    id: str
    provider: str
    callback_url: str
    task_id: str | None


class _Page(msgspec.Struct):
    tasks: list[TaskSummary]
    next_cursor: str | None


class _Problem(msgspec.Struct):
    type: str = "about:blank"
    detail: str = ""


# --- calls ----------------------------------------------------------------------------------------


def reserve(
    provider: str, owner: str, model: str | None, metadata: Mapping[str, JSON], key: str | None
) -> Steps[Submission]:
    """Raises NotSent where no reservation was made, so nothing can have been ordered with it."""
    submission, _ = yield from _reserve(provider, owner, model, metadata, key)
    return submission


def begin(
    provider: str, owner: str, model: str | None, metadata: Mapping[str, JSON], key: str | None
) -> Steps[Submission]:
    """A reservation that is certainly a new one. Raises UnknownOutcome where its key was used before."""
    submission, is_new = yield from _reserve(provider, owner, model, metadata, key)
    if is_new:
        return submission
    if submission.task_id is not None:
        raise UnknownOutcome(submission.id, "this key was ordered before", submission.task_id)
    raise UnknownOutcome(submission.id, "an order with this key was begun before, and may have left")


def end(submission: Submission, error: BaseException | None) -> Steps[None]:
    """Tell what became of the order. An error that leaves the block goes on, with a note where that helps."""
    try:
        yield from _tell(submission, error)
    except ReceiverError as failed:
        if error is None:
            raise
        error.add_note(f"receiver: what became of submission {submission.id} could not be told ({failed})")


def _tell(submission: Submission, error: BaseException | None) -> Steps[None]:
    if submission.task_id is not None:
        yield from bind(submission.id, submission.task_id)
    elif submission.is_refused or isinstance(error, NotSent):
        yield from withdraw(submission.id)
    elif error is None:
        raise UnknownOutcome(submission.id, "it was left with neither bind() nor refused()")
    else:
        error.add_note(
            f"receiver: the order of submission {submission.id} may have left; do not send it again"
        )


def track(provider: str, task_id: str, owner: str, model: str | None) -> Steps[Submission]:
    """Log a task after it was ordered."""
    new = {"provider": provider, "task_id": task_id, "owner": owner, "model": model}
    return _submission(_good((yield _post_submission(new))))


def bind(submission_id: str, task_id: str) -> Steps[None]:
    """Raises UnknownOutcome, with the task, where it could not be told: its first callback binds it, too."""
    request = Request("PATCH", _path("submissions", submission_id), document={"task_id": task_id})
    for seconds in (*BIND_PAUSES, None):
        try:
            _good((yield request))
        except Unavailable as exc:
            if seconds is None:
                words = f"it was ordered, and could not be bound to its task ({exc})"
                raise UnknownOutcome(submission_id, words, task_id) from exc
            yield Pause(seconds)
        else:
            return


def withdraw(submission_id: str) -> Steps[None]:
    """Wait for no task of a reservation: its order did not happen."""
    _good((yield Request("DELETE", _path("submissions", submission_id))))


def task(provider: str, task_id: str) -> Steps[Task]:
    """The task as it stands."""
    return _read(_good((yield Request("GET", _path("tasks", provider, task_id)))), Task)


def wait(
    provider: str, task_id: str, timeout: float, now: Callable[[], float] = time.monotonic
) -> Steps[Task]:
    """The task once it has ended. Raises TimeoutError after ``timeout`` seconds."""
    until = now() + timeout
    while True:
        asked_at = now()
        seconds = max(0.0, min(until - asked_at, WAIT_SECONDS))
        pause = AGAIN_SECONDS
        try:
            answer = yield Request(
                "GET", _path("tasks", provider, task_id), {"wait": f"{seconds:.3f}"}, patience=seconds
            )
            found = _read(_good(answer), Task)
        except Unavailable as exc:
            pause = exc.retry_after_seconds or pause
        else:
            if found.type is not None:
                return found
        if now() >= until:
            raise TimeoutError(f"task {task_id} of {provider} has not ended within {timeout:g} seconds")
        if now() - asked_at < seconds:  # it stops, is away, or has too many waiting
            yield Pause(min(pause, until - now()))


def page(filter_: Mapping[str, str], cursor: str | None) -> Steps[tuple[list[TaskSummary], str | None]]:
    """Some of the tasks of a list, and where the next ones begin."""
    query = {"limit": PAGE_ROWS, **filter_} | ({"cursor": cursor} if cursor else {})
    found = _read(_good((yield Request("GET", "/tasks", query))), _Page)
    return found.tasks, found.next_cursor


def download(asset: Asset, path: Path, access: Access) -> Steps[None]:
    """Write a file beside ``path``, and give it its name when it is the one that was stored."""
    failed: ReceiverError | None = None
    for url, headers in _sources(asset, access):
        with FileBeside(path, asset) as file:
            try:
                answer = yield Fetch(url, headers, file.write)
                _good(answer)
            except (Unavailable, Rejected) as exc:
                failed = exc
            else:
                return file.keep()
    assert failed is not None, "there is a source"  # noqa: S101
    raise failed


def refusal(answer: Answer) -> ReceiverError:
    """The error that an answer which is not 2xx stands for."""
    try:
        problem = msgspec.json.decode(answer.body, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem(detail=f"HTTP {answer.status}, and no problem document: is this a receiver?")
    if answer.status in {408, 429} or answer.status >= 500:
        return Unavailable(f"{answer.status}: {problem.detail}", _seconds(answer.retry_after))
    return Rejected(answer.status, problem.type, problem.detail)


# --- requests and answers -------------------------------------------------------------------------


def _reserve(
    provider: str, owner: str, model: str | None, metadata: Mapping[str, JSON], key: str | None
) -> Steps[tuple[Submission, bool]]:
    new = {"provider": provider, "owner": owner, "model": model, "metadata": dict(metadata), "key": key}
    try:
        answer = _good((yield _post_submission(new)))
    except Unavailable as exc:
        raise NotSent(f"no submission could be reserved ({exc})") from exc
    return _submission(answer), answer.status == 201


def _post_submission(new: Mapping[str, object]) -> Request:
    given = {name: value for name, value in new.items() if value is not None}
    return Request("POST", "/submissions", document=given)


def _sources(asset: Asset, access: Access) -> list[tuple[str, Mapping[str, str]]]:
    """The URLs of a file, with headers: its own link, and with our token the door behind it.

    The token goes to our own service alone. Raises ValueError for a file that there is not.
    """
    if asset.url is None:
        raise ValueError(f"file {asset.index} could not be had ({asset.outcome}), so there is no link to it")
    _, found, below = urlsplit(asset.url).path.partition("/assets/")
    if not found:
        return [(asset.url, {})]  # presigned, or public
    return [(asset.url, {}), (f"{access.url}/assets/{below}", access.headers)]


def _path(*parts: str) -> str:
    return "".join(f"/{_part(part)}" for part in parts)


def _part(text: str) -> str:
    """One segment of a path: slashes are encoded, and dots alone cannot climb."""
    encoded = quote(text, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")


def _good(answer: Answer | None) -> Answer:
    assert answer is not None, "a request is answered"  # noqa: S101
    if 200 <= answer.status < 300:
        return answer
    raise refusal(answer)


def _read(answer: Answer, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except ValueError as exc:
        raise Unavailable(f"the answer is none of a receiver ({exc})") from exc


def _submission(answer: Answer) -> Submission:
    shown = _read(answer, _Shown)
    return Submission(shown.id, shown.provider, shown.callback_url, shown.task_id)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None
