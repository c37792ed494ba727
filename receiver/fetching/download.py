"""One safe, bounded GET to a file.

Bounded in every direction: bytes, time, speed, redirects, memory. What goes wrong is a FetchFailed with
an outcome; its text says what happened and never where, since links and their hosts are secrets.
"""

import asyncio
import hashlib
import os
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin

import httpcore2
import msgspec

from receiver.backoff import retry_after_seconds
from receiver.clock import Clock
from receiver.errors import FetchFailed
from receiver.fetching.addresses import Target, tidy
from receiver.fetching.client import GuardedClient
from receiver.fetching.codings import Unpacker, coding_of
from receiver.fetching.connection import BUFFER_BYTES
from receiver.fetching.exchange import Answer
from receiver.fetching.heads import TidyStream
from receiver.models import Outcome
from receiver.threads import yielding_pool

T = TypeVar("T")

# What comes with a whole file: of the other successes, 202 says that it is not ready, 204 and 205 come with
# none, and 206 with a part, which nobody asked for.
WHOLE = frozenset({200, 201, 203})
# What object stores and CDNs say of an expired link or a missing object: 400 do Google Cloud Storage, and S3
# of a link that was signed with the credentials of a session; 401 some CDNs whose links carry a token.
DEAD_LINK = frozenset({400, 401, 403, 404, 410})
# Of the other 4xx, what has nothing to do with the link: the host's bill (402), an object that is being
# restored or is locked (409, 423), and what a request may only meet once (408, 421, 425).
PASSING = frozenset({402, 408, 409, 421, 423, 425})

FREE_PIECES = 2_000  # of a body, before their average size counts
LEAST_PIECE_BYTES = 256  # on average; pieces cost time, however small they are

WRITERS, FINISHERS = 2, 4  # threads that hash and write, and that write a file's end and look at it

_NOT_UTF_8 = re.compile(r"[\udc80-\udcff]")  # what ``surrogateescape`` makes of such bytes


class DownloadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one download may take. Limits that people may choose have their defaults in the settings."""

    max_bytes: int
    deadline_seconds: float  # redirects and all
    min_bytes_per_second: int = 10_000  # on average over any window
    window_seconds: float = 15.0
    max_redirects: int = 3


class Downloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived; ``media`` says what kind of bytes they are."""

    bytes: int
    sha256: str


Take = Callable[[int], None]


class DownloadThreads:
    """The threads that all downloads share. A bound: more would only keep the loop from its own work."""

    def __init__(self) -> None:
        self.writing = yielding_pool(WRITERS, "download-write")
        # Apart, as a file that takes long to look at must not keep others from coming in.
        self.finishing = yielding_pool(FINISHERS, "download-finish")


async def download(  # noqa: PLR0913 - by keyword, each a thing of its own
    client: GuardedClient,
    url: str,
    target: Path,
    limits: DownloadLimits,
    *,
    clock: Clock,
    take: Take,
    look: Callable[[Path], T],
    threads: DownloadThreads,
    hosts: tuple[str, ...] = (),
) -> tuple[Downloaded, T]:
    """Fetch ``url`` into the new file ``target``; on any failure or cancellation there is no file.

    The file is not fsynced: durability is the blob store's promise. ``hosts`` as in ``check_url``. ``take``
    is told of the size of each piece before it is kept, and may refuse it. ``look`` is called with the whole
    file in the thread that wrote its end, and what it returns comes back. Raises FetchFailed.
    """
    async with spooling(target, limits, threads) as spool:
        await _follow(client, url, spool, limits, clock, take, hosts)
        return await spool.finish(look)


@asynccontextmanager
async def spooling(target: Path, limits: DownloadLimits, threads: DownloadThreads) -> AsyncIterator["Spool"]:
    """The growing file ``target``, which is gone unless the block ends well, and in time.

    Raises FetchFailed where it takes too long.
    """
    spool = Spool(target, threads)
    try:
        async with asyncio.timeout(limits.deadline_seconds):
            yield spool
    except TimeoutError as exc:
        spool.discard()
        detail = f"not finished within {limits.deadline_seconds:g} s"
        raise FetchFailed(Outcome.TIMEOUT, detail) from exc
    except BaseException:
        spool.discard()
        raise


async def _follow(
    client: GuardedClient,
    url: str,
    spool: "Spool",
    limits: DownloadLimits,
    clock: Clock,
    take: Take,
    hosts: tuple[str, ...],
) -> None:
    """Get to the end of the redirects, and take in what is there."""
    place = client.check(url, hosts)
    for _ in range(limits.max_redirects + 1):
        async with client.get(place) as response:
            if response.status not in (301, 302, 303, 307, 308):
                _check_status(response, clock)
                await _receive(response, spool, limits, take, client.read_seconds)
                return
            location = _header(response, b"location")
        place = _next_place(client, place, location, hosts)
    raise FetchFailed(Outcome.BAD_REDIRECT, f"more than {limits.max_redirects} redirects")


def _next_place(client: GuardedClient, place: Target, location: str, hosts: tuple[str, ...]) -> Target:
    if not location:
        raise FetchFailed(Outcome.BAD_REDIRECT, "a redirect to nowhere")
    # Some hosts write it in UTF-8, some in an encoding of their own: those bytes are escaped as they are.
    link = _NOT_UTF_8.sub(lambda byte: f"%{ord(byte[0]) & 0xFF:02X}", location)
    try:
        # Tidied before it is joined: joining drops tabs and line ends wherever they are.
        following = client.check(urljoin(place.url, tidy(link)), hosts)
    except ValueError as exc:
        raise FetchFailed(Outcome.BAD_REDIRECT, "a redirect to no valid link") from exc
    except FetchFailed as exc:
        if exc.outcome is Outcome.BAD_URL:
            raise FetchFailed(Outcome.BAD_REDIRECT, f"a redirect, and {exc}") from exc
        raise
    if (place.scheme, following.scheme) == ("https", "http"):
        raise FetchFailed(Outcome.BAD_REDIRECT, "a redirect from https to http")
    return following


def _check_status(response: Answer, clock: Clock) -> None:
    status = response.status
    if status in WHOLE:
        return
    if status in DEAD_LINK:
        outcome = Outcome.GONE
    elif status == 429:
        outcome = Outcome.RATE_LIMITED
    elif 400 <= status < 500 and status not in PASSING:
        outcome = Outcome.REFUSED  # asking again would be answered the same, by this link
    else:
        outcome = Outcome.HTTP_ERROR
    wish = _header(response, b"retry-after") if status in (202, 429, 503) else ""
    wait = retry_after_seconds(wish, clock.now())
    raise FetchFailed(outcome, f"the host answered {status}", retry_after_seconds=wait)


async def _receive(
    response: Answer, spool: "Spool", limits: DownloadLimits, take: Take, read_seconds: float
) -> None:
    coding = coding_of(",".join(_values(response, b"content-encoding")))  # several lines are one list
    declared = _declared(response)
    if declared is not None:
        check_bytes(declared, limits)
        if coding is None:
            body = _Body(response.stream, declared, limits, read_seconds)
            await _copy(body, spool, take)
            return
    pieces = _watched(response, declared, limits)
    async with aclosing(pieces if coding is None else _unpacked(pieces, Unpacker(coding))) as plain:
        async for piece in plain:
            check_bytes(spool.bytes + len(piece), limits)
            take(len(piece))
            spool.hold(piece)
            if spool.held >= BUFFER_BYTES:
                await spool.flush()


def _declared(response: Answer) -> int | None:
    text = _header(response, b"content-length")
    # RFC 9112, section 6.3: chunks override a length.
    if not text or _header(response, b"transfer-encoding"):
        return None
    return int(text.partition(",")[0])


class _Body:
    """A body of declared length, read from the connection itself: the driver would copy each byte four times.

    Nothing is lost to the driver by it, since no connection is kept for another request.
    """

    def __init__(
        self, stream: TidyStream, declared: int, limits: DownloadLimits, read_seconds: float
    ) -> None:
        self.left = declared
        self._declared = declared
        self._stream = stream
        self._read_seconds = read_seconds
        self._watch, self._pieces = _SpeedWatch(limits), PieceWatch()
        self._tick_seconds = min(limits.window_seconds, read_seconds)

    def begin(self) -> bytes:
        """What came together with the head."""
        rest = self._stream.take_rest()[: self.left]
        self.left -= len(rest)
        return rest

    async def read(self) -> memoryview:
        """The next bytes, which are good until the next call."""
        socket, waited_seconds = self._stream.socket, 0.0
        before = socket.pieces
        while not (part := await socket.fill(self.left, self._tick_seconds)):
            waited_seconds += self._tick_seconds
            if socket.is_over:
                detail = f"{self._declared - self.left} bytes came, {self._declared} were declared"
                raise FetchFailed(Outcome.INTERRUPTED, detail)
            if waited_seconds >= self._read_seconds:
                raise httpcore2.ReadTimeout
        self._pieces.count(len(part), socket.pieces - before)
        self._watch.count(len(part))
        self.left -= len(part)
        return part


async def _copy(body: _Body, spool: "Spool", take: Take) -> None:
    part: bytes | memoryview = body.begin()
    take(len(part))
    spool.hold(part)
    while body.left:
        part = await body.read()
        take(len(part))
        spool.hold(part)
        if body.left:  # the last is written by whoever finishes the file
            await spool.flush()


async def _watched(response: Answer, declared: int | None, limits: DownloadLimits) -> AsyncGenerator[bytes]:
    """The body as the driver makes it out, held to its limits and to the length it declared."""
    watch, pieces = _SpeedWatch(limits), PieceWatch()
    received = 0
    async with aclosing(response.parts()) as chunks:
        async for chunk in chunks:
            pieces.count(len(chunk))
            watch.count(len(chunk))
            received += len(chunk)
            check_bytes(received, limits)
            yield chunk
    # The driver holds hosts to what they declared; should that ever change, nothing torn gets in.
    if declared is not None and received != declared:
        raise FetchFailed(Outcome.INTERRUPTED, f"{received} bytes came, {declared} were declared")


async def _unpacked(body: AsyncGenerator[bytes], unpacker: Unpacker) -> AsyncGenerator[bytes]:
    """Unpack in threads: a few bytes can be much to unpack."""
    async with aclosing(body):
        async for chunk in body:
            pieces = unpacker.feed(chunk)
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield piece
    yield unpacker.finish()


def check_bytes(count: int, limits: DownloadLimits) -> None:
    if count > limits.max_bytes:
        raise FetchFailed(Outcome.TOO_LARGE, f"more than {limits.max_bytes} bytes")


def _header(response: Answer, wanted: bytes) -> str:
    return next(_values(response, wanted), "")


def _values(response: Answer, wanted: bytes) -> Iterator[str]:
    for name, value in response.headers:
        if name.lower() == wanted:
            yield value.decode("utf-8", "surrogateescape").strip()


class PieceWatch:
    """Watches the average size of the pieces over a whole body.

    A host that sends one byte per chunk may be fast enough, and still cost a hundred times the work.
    """

    def __init__(self) -> None:
        self._spare = float(FREE_PIECES)

    def count(self, size: int, pieces: int = 1) -> None:
        """Raises FetchFailed where there are too many."""
        self._spare += size / LEAST_PIECE_BYTES - pieces
        if self._spare < 0:
            raise FetchFailed(Outcome.TOO_SLOW, "the body comes in too many pieces, a few bytes each")


class _SpeedWatch:
    """Watches the average speed over each window; the read timeout ends a stall."""

    def __init__(self, limits: DownloadLimits) -> None:
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._bytes = 0

    def count(self, size: int) -> None:
        self._bytes += size
        seconds = self._now() - self._began
        if seconds < self._limits.window_seconds:
            return
        if self._bytes < self._limits.min_bytes_per_second * seconds:
            raise FetchFailed(Outcome.TOO_SLOW, f"{self._bytes} bytes in {seconds:.0f} s")
        self._began, self._bytes = self._now(), 0


class Spool:
    """The growing file: what is held for it is hashed and written in a thread, and so is all else about it.

    A cancelled download leaves its thread at work for a moment. Whoever of the two is the last removes the
    file and closes its handle, which until then can belong to nobody else.
    """

    def __init__(self, path: Path, threads: DownloadThreads) -> None:
        self.bytes = 0
        self.held = 0
        self._threads = threads
        self._digest = hashlib.sha256()
        self._path = path
        self._waiting: list[bytes | memoryview] = []
        self._handle: int | None = None
        self._is_made = False
        self._lock = threading.Lock()  # of the two below; never held for long
        self._is_busy = False
        self._is_discarded = False

    def hold(self, part: bytes | memoryview) -> None:
        """Keep the part, which must stay as it is, until the next flush."""
        self.bytes += len(part)
        self.held += len(part)
        self._waiting.append(part)

    async def flush(self) -> None:
        parts, self._waiting, self.held = self._waiting, [], 0
        await self._run(self._threads.writing, lambda: self._write(parts))

    async def finish(self, look: Callable[[Path], T]) -> tuple[Downloaded, T]:
        """Write the rest and look at the whole, in one go."""
        return await self._run(self._threads.finishing, lambda: self._finish(look))

    async def _run(self, pool: Executor, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, self._guarded, job)

    def _guarded(self, job: Callable[[], T]) -> T:
        with self._lock:
            self._is_busy = True
        try:
            return job()
        finally:
            with self._lock:
                self._is_busy = False
                if self._is_discarded:
                    self._remove()

    def _finish(self, look: Callable[[Path], T]) -> tuple[Downloaded, T]:
        self._write(self._waiting)
        self._close()
        return Downloaded(bytes=self.bytes, sha256=self._digest.hexdigest()), look(self._path)

    def _write(self, parts: list[bytes | memoryview]) -> None:
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                self._is_made = True
            for part in parts:
                self._append(self._handle, part)
        except OSError as exc:
            raise _storage_failed(exc) from exc

    def _append(self, handle: int, part: bytes | memoryview) -> None:
        self._digest.update(part)
        left = memoryview(part)
        while left:
            left = left[os.write(handle, left) :]

    def discard(self) -> None:
        with self._lock:
            self._is_discarded = True
            if not self._is_busy:
                self._remove()

    def _remove(self) -> None:
        if self._is_made:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _storage_failed(error: OSError) -> FetchFailed:
    return FetchFailed(Outcome.STORAGE_FAILED, f"the download cannot be written: {error.strerror}")
