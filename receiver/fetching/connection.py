"""A connection that is read into one buffer of its own, and written to no faster than the other side takes.

The driver's own streams queue whatever the system has for them, eight megabytes at a time, and hand it on in
small copies. Here the system writes into a buffer that stays, the connection rests while that is being used,
and the loop has one step to do for each buffer and not for each packet.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpcore2

FIRST_BYTES = 16 * 1024  # of the buffer: enough for a head, and for a small file behind it
BUFFER_BYTES = 256 * 1024  # that it may grow to; also the most that one thread job hashes and writes
HEAD_START_SECONDS = 0.25  # of one address before the next is tried beside it
TLS_BUFFER_BYTES = 64 * 1024  # of packed bytes, beyond which a resting connection takes no more


class _Inbox(asyncio.BufferedProtocol):
    """The end of a transport: fills the buffer, and wakes who waits for enough of it."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(FIRST_BYTES))
        self.start = 0  # from here to ``end`` nobody has taken it yet
        self.end = 0
        self.room = FIRST_BYTES  # where filling stops
        self.enough = 1
        self.pieces = 0  # that came, whatever their sizes
        self.is_over = False
        self.error: Exception | None = None
        self.transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None  # while much of what was written waits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's signature
        return self.view[self.end : self.room]

    def buffer_updated(self, nbytes: int) -> None:
        self.end += nbytes
        self.pieces += 1
        if self.end == self.room:
            self.transport.pause_reading()
        if self.end >= self.enough:
            self._wake()

    def eof_received(self) -> None:
        self.is_over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = self.error or exc
        self.is_over = True
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._taken = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)

    async def drain(self) -> None:
        """Until the other side has taken enough of what was written, or is gone."""
        if self._taken is not None:
            await self._taken

    def make_room(self, size: int) -> None:
        """Begin again, now that all is taken."""
        self.start, self.end, self.room = 0, 0, size
        if size > len(self.view):
            self.view = memoryview(bytearray(size))

    async def wait(self, seconds: float | None) -> None:
        """Until there is enough, nothing more will come, or the time is up."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, self._wake)
        self.transport.resume_reading()
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            if not self.is_over:
                self.transport.pause_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SocketStream(httpcore2.AsyncNetworkStream):
    """One connection, for one reader, who is done with what was handed out when asking for more."""

    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox
        inbox.transport.pause_reading()

    @property
    def pieces(self) -> int:
        """How many pieces have come over the wire."""
        return self._inbox.pieces

    @property
    def is_over(self) -> bool:
        """Whether the other side has ended it and all that it sent is taken."""
        return self._inbox.is_over and self._inbox.start == self._inbox.end

    def watch(self) -> None:
        """Read on while nobody waits, so that an early answer is kept, and what nobody asked for is seen."""
        if self._inbox.start == self._inbox.end:
            self._inbox.make_room(FIRST_BYTES)
            self._inbox.transport.resume_reading()

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> bytes:
        part = await self._take(max_bytes, 1, timeout)
        if not part and not self.is_over:
            raise httpcore2.ReadTimeout
        return bytes(part)

    async def fill(self, most: int, seconds: float) -> memoryview:
        """Collect until the buffer is full or has ``most`` bytes, or the time is up; empty where none came.

        What is returned is the buffer itself: it stays as it is until the next call.
        """
        return await self._take(most, most, seconds)

    async def _take(self, most: int, enough: int, seconds: float | None) -> memoryview:
        inbox = self._inbox
        if inbox.start == inbox.end:
            inbox.make_room(min(most, BUFFER_BYTES))
            inbox.enough = min(enough, inbox.room)
            if not inbox.is_over:
                await inbox.wait(seconds)
        if inbox.start == inbox.end and inbox.error is not None:
            # What TLS says of itself is told apart from a connection that broke.
            if isinstance(inbox.error, ssl.SSLError):
                raise inbox.error
            raise httpcore2.ReadError(inbox.error) from inbox.error
        start = inbox.start
        inbox.start = min(start + most, inbox.end)
        return inbox.view[start : inbox.start]

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - who asks says how long all of it may take
    ) -> None:
        if self._inbox.is_over:
            raise httpcore2.WriteError(self._inbox.error)
        self._inbox.transport.write(buffer)
        await self._inbox.drain()

    async def aclose(self) -> None:
        # Nothing is left to be sent, and no farewell is waited for.
        self._inbox.transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> "SocketStream":
        inbox = self._inbox
        try:
            async with _connecting(timeout):
                transport = await asyncio.get_running_loop().start_tls(
                    inbox.transport, inbox, ssl_context, server_hostname=server_hostname
                )
        except BaseException:
            inbox.transport.abort()
            raise
        if transport is None:
            raise httpcore2.ConnectError("the connection was closed")
        transport.set_read_buffer_limits(high=TLS_BUFFER_BYTES)  # type: ignore[attr-defined]
        inbox.transport = transport
        return SocketStream(inbox)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # the driver's word for bytes or an end that nobody has waited for
            inbox = self._inbox
            return inbox.is_over or inbox.start != inbox.end or _is_readable(self)
        return self._inbox.transport.get_extra_info(info)


def _is_readable(stream: SocketStream) -> bool:
    """Whether the system has something that the loop has not seen yet."""
    unseen = select.poll()
    unseen.register(stream.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(unseen.poll(0))


@asynccontextmanager
async def _connecting(seconds: float | None) -> AsyncIterator[None]:
    """One step of it, in the driver's errors: ConnectTimeout, or ConnectError of what the system says."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise httpcore2.ConnectTimeout from exc
    except OSError as exc:  # an error of TLS is one, too
        raise httpcore2.ConnectError(exc) from exc


async def dial_directly(address: str, port: int, timeout_seconds: float) -> SocketStream:
    """A TCP connection to a literal address. Raises httpcore2's ConnectError or ConnectTimeout."""
    async with _connecting(timeout_seconds):
        _, inbox = await asyncio.get_running_loop().create_connection(_Inbox, address, port)
    return SocketStream(inbox)


async def dial_by_name(host: str, port: int, timeout_seconds: float) -> SocketStream:
    """A TCP connection to a host by name, whatever its addresses are. Raises as ``dial_directly`` does."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + timeout_seconds
    async with _connecting(timeout_seconds):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
    return await dial_first(addresses, port, give_up_at - loop.time())


async def dial_first(addresses: Sequence[str], port: int, timeout_seconds: float) -> SocketStream:
    """A connection to the first of some literal addresses that takes one; each has a head start (RFC 8305).

    An address whose packets are lost, as one of IPv6 may be, then costs no more than that. Raises as
    ``dial_directly`` does, by the last that failed.
    """
    left, dials = list(addresses), set[asyncio.Task[SocketStream]]()
    first: asyncio.Task[SocketStream] | None = None
    error: BaseException = httpcore2.ConnectError("the host has no address")
    try:
        while first is None and (left or dials):
            if left:
                dials.add(asyncio.create_task(dial_directly(left.pop(0), port, timeout_seconds)))
            head_start = HEAD_START_SECONDS if left else None
            done, _ = await asyncio.wait(dials, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                if (failed := each.exception()) is None:
                    first = each
                else:
                    dials.discard(each)
                    error = failed
    finally:
        if first is not None:
            dials.discard(first)
        for each in dials:
            each.cancel()
        for late in await asyncio.gather(*dials, return_exceptions=True):
            if isinstance(late, SocketStream):
                await late.aclose()
    if first is None:
        raise error
    return first.result()
