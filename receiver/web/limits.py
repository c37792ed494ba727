"""What a request body may cost: its size, its time, and how many may wait at once."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from receiver.errors import Rejected, Unavailable
from receiver.problem_types import ProblemType


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The first is of one request, the others of all that wait at the same time, or of those with one token.

    A token's share is half, since all callbacks of a provider may have the same one and come at once. A body
    has an eighth at most.
    """

    body_timeout_seconds: float
    max_requests: int = 4096
    max_token_requests: int = 2048
    max_waiting_bytes: int = 64 * 2**20
    max_token_bytes: int = 32 * 2**20


class BodyLimiter:
    """Reads bodies, and counts the requests being read or recorded and their bytes.

    Bytes are counted as they arrive and not as they are announced: otherwise a few idle connections
    that announce much would keep everybody else out. Where room is short, of all or in a token's share, the
    body that has been awaited longest gives way: whoever sends at once what he has to say is never that one.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deadlines = Deadlines(limits.body_timeout_seconds)
        self._whole = Room(limits.max_requests, limits.max_waiting_bytes)
        self.shares: dict[str, Room] = {}  # of the tokens that have a request here

    def check(self, headers: Mapping[str, str], max_bytes: int) -> None:
        """Look at what is announced of a body, before a place is taken for it.

        ``headers`` have lower-case names. Raises Rejected: 400 for a length that is none, 413 for more
        bytes than allowed, 415 when they are compressed.
        """
        coding = headers.get("content-encoding")
        if coding is not None and coding.strip().lower() not in {"identity", ""}:
            raise Rejected(ProblemType.COMPRESSED_BODY, "Send the body without Content-Encoding.")
        # The server undoes the chunks, and nothing that was done before them.
        if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            raise Rejected(ProblemType.COMPRESSED_BODY, "The only Transfer-Encoding is chunked.")
        length = headers.get("content-length")
        if length is None:
            return
        # Not int() alone: it takes signs, blanks, underscores and other scripts' digits.
        if not (length.isascii() and length.isdigit()):
            raise Rejected(ProblemType.BAD_CONTENT_LENGTH, "Content-Length must be one decimal number.")
        if len(length) > 18 or int(length) > max_bytes:
            raise _too_large(max_bytes)

    def reserve(self, token: str, max_bytes: int) -> "BodyReader":
        """A place for one request, to be used at once as a context manager. Raises Unavailable.

        Whoever asks has been found good enough to be read: a stranger must not hold a place. ``token`` tells
        in whose share it is.
        """
        share = self.shares.get(token)
        if share is None:
            share = Room(self.limits.max_token_requests, self.limits.max_token_bytes)
        for room in (share, self._whole):
            if room.requests_left <= 0:
                room.make_place()
        self.shares[token] = share
        return BodyReader(self, token, (share, self._whole), max_bytes)


class Room:
    """How many requests and bytes may still come, and whose bodies do, from the longest-awaited on."""

    __slots__ = ("bytes_left", "coming", "half_here", "requests_left")

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.requests_left = max_requests
        self.bytes_left = max_bytes
        self.coming: dict[BodyReader, None] = {}
        self.half_here: dict[BodyReader, None] = {}  # of these, those that hold bytes

    def make_place(self) -> None:
        """One more, where none is left. Raises Unavailable where nobody who has a place can give way."""
        longest = next(iter(self.coming), None)
        if longest is None:
            raise Unavailable("too many requests wait", retry_after_seconds=1)
        longest.give_way()

    def make_room(self, size: int, asking: "BodyReader") -> None:
        """Raises Unavailable where none but the asking one can give way, or it has been awaited longest."""
        while size > self.bytes_left:
            longest = next(iter(self.half_here), asking)
            if longest is asking:
                raise _too_much()
            longest.give_way()


class BodyReader:
    """The place of one request at the intake; gives back all it held when left."""

    __slots__ = ("_deadline", "_held", "_intake", "_is_out", "_max_bytes", "_rooms", "_token")

    def __init__(self, intake: BodyLimiter, token: str, rooms: tuple[Room, Room], max_bytes: int) -> None:
        self._intake = intake
        self._token = token
        self._rooms = rooms  # its token's share, and the whole
        self._max_bytes = max_bytes
        self._held = 0
        self._is_out = True

    def __enter__(self) -> Self:
        self._is_out = False
        share, whole = self._rooms
        share.requests_left -= 1
        whole.requests_left -= 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def read(self, receive: Receive) -> bytes:
        """The whole body, as it came.

        Raises Rejected: 413 for more bytes than allowed, 408 when they have not come in time. Raises
        Unavailable when it gave way or too much waits already, and ClientDisconnect when the sender left in
        the middle.
        """
        share, whole = self._rooms
        self._deadline = self._intake.deadlines.start()
        share.coming[self] = whole.coming[self] = None
        try:
            with self._deadline:
                chunks: list[bytes] = []
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk: bytes = message.get("body", b"")
                    self.hold(len(chunk))
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
                    if self._held:
                        share.half_here[self] = whole.half_here[self] = None
        except TimeoutError as exc:
            if self._is_out:
                raise _too_much() from None
            detail = f"The body did not arrive within {self._intake.limits.body_timeout_seconds:g} seconds."
            raise Rejected(ProblemType.BODY_TOO_SLOW, detail) from exc
        finally:
            self._come_to_an_end()

    def hold(self, size: int) -> None:
        """Count so many bytes that came, of a body that ``read`` reads or that is here whole.

        Raises Rejected for more than allowed, and Unavailable when too much waits already.
        """
        share, whole = self._rooms
        if self._held + size > self._max_bytes:
            raise _too_large(self._max_bytes)
        if size > share.bytes_left:
            share.make_room(size, self)
        if size > whole.bytes_left:
            whole.make_room(size, self)
        share.bytes_left -= size
        whole.bytes_left -= size
        self._held += size

    def give_way(self) -> None:
        """Leave at once all that it held to somebody else, and be told so."""
        self._leave()
        self._come_to_an_end()
        self._deadline.expire()

    def _leave(self) -> None:
        if self._is_out:
            return
        self._is_out = True
        share, whole = self._rooms
        share.requests_left += 1
        share.bytes_left += self._held
        whole.requests_left += 1
        whole.bytes_left += self._held
        if share.requests_left == self._intake.limits.max_token_requests:
            self._intake.shares.pop(self._token, None)

    def _come_to_an_end(self) -> None:
        share, whole = self._rooms
        share.coming.pop(self, None)
        whole.coming.pop(self, None)
        if whole.half_here:
            share.half_here.pop(self, None)
            whole.half_here.pop(self, None)


class Deadlines:
    """Hands out deadlines of ``timeout_seconds``, up to a twentieth of it late.

    A timer of its own for every request, made and cancelled, costs more than all else that a request
    asks of us; nearly always the body is there before the deadline would be looked at once.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._running: dict[Deadline, float] = {}  # from the earliest to the latest: all last as long
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> "Deadline":
        """A context manager that raises TimeoutError out of whatever its task awaits in it."""
        return Deadline(self)

    def add(self, deadline: "Deadline") -> None:
        loop = asyncio.get_running_loop()
        self._running[deadline] = loop.time() + self.timeout_seconds
        if self._timer is None:
            self._timer = loop.call_later(self.timeout_seconds / 20, self._tick, loop)

    def remove(self, deadline: "Deadline") -> None:
        self._running.pop(deadline, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for deadline in [each for each, ends_at in self._running.items() if ends_at <= now]:
            deadline.expire()
        again = bool(self._running)
        self._timer = loop.call_later(self.timeout_seconds / 20, self._tick, loop) if again else None


class Deadline:
    """One task's deadline; as ``asyncio.timeout`` does, it tells its own cancellation from others'."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task that it can interrupt")
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if not self._expired:
            return
        # Somebody else's cancellation, at shutdown, wins over ours.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Raise TimeoutError now, out of whatever is awaited."""
        if self._expired:  # once is enough: two cancellations would not be told from others'
            return
        self._deadlines.remove(self)
        self._expired = True
        self._task.cancel()


def announces_body(headers: Mapping[str, str]) -> bool:
    """Whether a body comes after these headers, as HTTP/1 tells it."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _too_much() -> Unavailable:
    return Unavailable("too much request body waits", retry_after_seconds=1)


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(ProblemType.BODY_TOO_LARGE, f"The body may have at most {max_bytes} bytes.")
