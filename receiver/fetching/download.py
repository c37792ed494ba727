"""One safe, bounded GET to a file.

Bounded in every direction: bytes, time, speed, redirects, memory. What goes wrong is a FetchFailed with
an outcome; its text says what happened and never where, since links and their hosts are secrets.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urljoin

import httpcore2
import msgspec

from receiver.backoff import retry_after_seconds
from receiver.clock import Clock
from receiver.errors import FetchFailed
from receiver.fetching.addresses import Target, tidy
from receiver.fetching.client import GuardedClient
from receiver.fetching.codings import Unpacker, coding_of
from receiver.models import Outcome

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
FLUSH_BYTES = 1 << 20  # large enough that handing it to a thread costs nothing, small enough to hold

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


async def download(
    client: GuardedClient,
    url: str,
    target: Path,
    limits: DownloadLimits,
    *,
    clock: Clock,
    take: Take,
    hosts: tuple[str, ...] = (),
) -> Downloaded:
    """Fetch ``url`` into the new file ``target``; on any failure or cancellation there is no file.

    The file is not fsynced: durability is the blob store's promise. ``hosts`` as in ``check_url``. ``take``
    is told of the size of each piece before it is kept, and may refuse it. Raises FetchFailed.
    """
    try:
        async with asyncio.timeout(limits.deadline_seconds):
            place = client.check(url, hosts)
            for _ in range(limits.max_redirects + 1):
                async with client.get(place) as response:
                    if response.status not in (301, 302, 303, 307, 308):
                        _check_status(response, clock)
                        return await _save(response, target, limits, take)
                    location = _header(response, b"location")
                place = _next_place(client, place, location, hosts)
    except TimeoutError as exc:
        detail = f"not finished within {limits.deadline_seconds:g} s"
        raise FetchFailed(Outcome.TIMEOUT, detail) from exc
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


def _check_status(response: httpcore2.Response, clock: Clock) -> None:
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


async def _save(response: httpcore2.Response, target: Path, limits: DownloadLimits, take: Take) -> Downloaded:
    coding = coding_of(",".join(_values(response, b"content-encoding")))  # several lines are one list
    spool = _Spool(target)
    try:
        body = _watched(response, limits)
        async with aclosing(body if coding is None else _unpacked(body, Unpacker(coding))) as pieces:
            async for piece in pieces:
                _check_bytes(spool.bytes + len(piece), limits)
                take(len(piece))
                await spool.add(piece)
        await spool.flush()
    except BaseException:
        spool.discard()
        raise
    return Downloaded(bytes=spool.bytes, sha256=spool.digest.hexdigest())


async def _watched(response: httpcore2.Response, limits: DownloadLimits) -> AsyncGenerator[bytes]:
    """The body as it comes over the wire, held to its limits and to the length it declared."""
    declared = None
    text = _header(response, b"content-length")
    if text and not _header(
        response, b"transfer-encoding"
    ):  # RFC 9112, section 6.3: chunks override a length
        declared = int(text.partition(",")[0])
        _check_bytes(declared, limits)
    watch, pieces = _SpeedWatch(limits), PieceWatch()
    received = 0
    async with aclosing(response.aiter_stream()) as chunks:
        async for chunk in chunks:
            pieces.count(len(chunk))
            watch.count(len(chunk))
            received += len(chunk)
            _check_bytes(received, limits)
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


def _check_bytes(count: int, limits: DownloadLimits) -> None:
    if count > limits.max_bytes:
        raise FetchFailed(Outcome.TOO_LARGE, f"more than {limits.max_bytes} bytes")


def _header(response: httpcore2.Response, wanted: bytes) -> str:
    return next(_values(response, wanted), "")


def _values(response: httpcore2.Response, wanted: bytes) -> Iterator[str]:
    for name, value in response.headers:
        if name.lower() == wanted:
            yield value.decode("utf-8", "surrogateescape").strip()


class PieceWatch:
    """Watches the average size of the pieces over a whole body.

    A host that sends one byte per chunk may be fast enough, and still cost a hundred times the work.
    """

    def __init__(self) -> None:
        self._spare = float(FREE_PIECES)

    def count(self, size: int) -> None:
        """Raises FetchFailed where there are too many."""
        self._spare += size / LEAST_PIECE_BYTES - 1
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


class _Spool:
    """The growing file: collects bytes, then hashes and writes them in a thread.

    No handle stays open between writes. A cancelled download leaves its thread writing for a moment; if the
    handle were closed meanwhile, its number could belong to another file. A removed file harms nobody.
    """

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self.digest = hashlib.sha256()
        self._path = path
        self._waiting = bytearray()
        try:
            path.open("xb").close()
        except OSError as exc:
            raise _storage_failed(exc) from exc

    async def add(self, chunk: bytes) -> None:
        self.bytes += len(chunk)
        self._waiting += chunk
        if len(self._waiting) >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        part, self._waiting = self._waiting, bytearray()
        try:
            await asyncio.to_thread(self._append, part)
        except OSError as exc:
            raise _storage_failed(exc) from exc

    def _append(self, part: bytearray) -> None:
        self.digest.update(part)
        with self._path.open("r+b") as file:  # never creates: the file may have been discarded
            file.seek(0, 2)
            file.write(part)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)


def _storage_failed(error: OSError) -> FetchFailed:
    return FetchFailed(Outcome.STORAGE_FAILED, f"the download cannot be written: {error.strerror}")
