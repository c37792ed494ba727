"""What a request body may cost: its size, its time, and how many may wait at once."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from receiver.errors import Rejected, Unavailable
from receiver.web.deadlines import Deadlines


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The first is of one request, the others of all that wait at the same time."""

    body_timeout_seconds: float
    max_requests: int = 4096
    max_waiting_bytes: int = 64 * 2**20


class Intake:
    """Reads bodies, and counts the requests being read or recorded and their bytes.

    Bytes are counted as they arrive and not as they are announced: otherwise a few idle connections
    that announce much would keep everybody else out.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deadlines = Deadlines(limits.body_timeout_seconds)
        self._requests_left = limits.max_requests
        self._bytes_left = limits.max_waiting_bytes

    def check(self, headers: Mapping[str, str], max_bytes: int) -> None:
        """Look at what is announced of a body, before a place is taken for it.

        ``headers`` have lower-case names. Raises Rejected: 400 for a length that is none, 413 for more
        bytes than allowed, 415 when they are compressed.
        """
        coding = headers.get("content-encoding")
        if coding is not None and coding.strip().lower() not in {"identity", ""}:
            raise Rejected(415, "Compressed body", "Send the body without Content-Encoding.")
        # The server undoes the chunks, and nothing that was done before them.
        if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            raise Rejected(415, "Compressed body", "The only Transfer-Encoding is chunked.")
        length = headers.get("content-length")
        if length is None:
            return
        # Not int() alone: it takes signs, blanks, underscores and other scripts' digits.
        if not (length.isascii() and length.isdigit()):
            raise Rejected(400, "Bad Content-Length", "Content-Length must be one decimal number.")
        if len(length) > 18 or int(length) > max_bytes:
            raise _too_large(max_bytes)

    def admit(self, max_bytes: int) -> "Waiting":
        """A place for one request, to be used at once as a context manager. Raises Unavailable.

        Whoever asks has been found good enough to be read: a stranger must not hold a place.
        """
        if self._requests_left <= 0:
            raise Unavailable("too many requests wait", retry_after_seconds=1)
        return Waiting(self, max_bytes)

    def take(self, requests: int, size: int) -> None:
        """Raises Unavailable, having taken nothing, when the bytes in flight would be too many."""
        if size > self._bytes_left:
            raise Unavailable("too much request body waits", retry_after_seconds=1)
        self._requests_left -= requests
        self._bytes_left -= size

    def give_back(self, requests: int, size: int) -> None:
        self._requests_left += requests
        self._bytes_left += size


class Waiting:
    """The place of one request at the intake; gives back all it held when left."""

    __slots__ = ("_held", "_intake", "_max_bytes")

    def __init__(self, intake: Intake, max_bytes: int) -> None:
        self._intake = intake
        self._max_bytes = max_bytes
        self._held = 0

    def __enter__(self) -> Self:
        self._intake.take(1, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._intake.give_back(1, self._held)

    async def read(self, receive: Receive) -> bytes:
        """The whole body, as it came.

        Raises Rejected: 413 for more bytes than allowed, 408 when they have not come in time. Raises
        Unavailable when too much waits already, and ClientDisconnect when the sender left in the middle.
        """
        try:
            with self._intake.deadlines.start():
                return await self._collect(receive)
        except TimeoutError as exc:
            detail = f"The body did not arrive within {self._intake.limits.body_timeout_seconds:g} seconds."
            raise Rejected(408, "Body too slow", detail) from exc

    async def _collect(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            if self._held + len(chunk) > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._intake.take(0, len(chunk))
            self._held += len(chunk)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def announces_body(headers: Mapping[str, str]) -> bool:
    """Whether a body comes after these headers, as HTTP/1 tells it."""
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(413, "Body too large", f"The body may have at most {max_bytes} bytes.")
