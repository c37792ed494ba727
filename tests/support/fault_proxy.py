"""A TCP proxy on loopback that does to answers what bad networks do, until it is told to stop."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from tests.support.waiting import everyone_in

CHUNK_BYTES = 64 * 1024

# How the answers of one connection fare: they come from the server, and go to the client.
Fault = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FaultProxy:
    """Stands before one port, and passes on all that clients send.

    ``fault`` is how the answers on new connections fare; None lets all pass.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.fault: Fault | None = None
        self.connections = 0
        self.most_at_once = 0
        self._target_port = target_port
        self._open: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def cure(self) -> None:
        """Let all pass from now on, and end the connections that suffer."""
        self.fault = None
        for task in list(self._answering):
            task.cancel()

    async def aclose(self) -> None:
        self.cure()
        await asyncio.gather(*self._open)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        self.most_at_once = max(self.most_at_once, len(self._open))
        try:
            with suppress(OSError):
                await self._connect(reader, writer)
            await _end(writer)
        finally:
            self._open.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection("127.0.0.1", self._target_port)
        asking = asyncio.create_task(_pass_on(reader, to_them))
        answering = asyncio.create_task(self._answer(theirs, writer))
        self._answering.add(answering)
        await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
        self._answering.discard(answering)
        for way in (asking, answering):
            way.cancel()
        await asyncio.gather(asking, answering, return_exceptions=True)
        await _end(to_them)

    async def _answer(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await (self.fault or _pass_on)(theirs, writer)


@asynccontextmanager
async def fault_proxy(target_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy before ``target_port``, healthy at first."""
    proxy = FaultProxy(target_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await everyone_in()
        await proxy.aclose()


def delayed(seconds: float) -> Fault:
    """Every piece of an answer comes so much later."""

    async def fault(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await theirs.read(CHUNK_BYTES):
            await asyncio.sleep(seconds)
            await _send(writer, piece)

    return fault


def half_open() -> Fault:
    """The connection is taken, and nothing ever comes back."""

    async def fault(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    return fault


def trickling(bytes_per_second: float) -> Fault:
    """The answer comes byte by byte."""

    async def fault(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await theirs.read(1):
            await _send(writer, piece)
            await asyncio.sleep(1 / bytes_per_second)

    return fault


def cut_after(count: int) -> Fault:
    """The connection ends in good order after so many bytes of answers."""

    async def fault(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pass_on(theirs, writer, count)

    return fault


def reset_after(count: int) -> Fault:
    """The connection is reset after so many bytes of answers have arrived."""

    async def fault(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _pass_on(theirs, writer, count)
        await asyncio.sleep(0.2)  # a reset throws away what is still on its way
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return fault


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: float = float("inf")
) -> None:
    with suppress(OSError):
        while count > 0 and (piece := await reader.read(int(min(count, CHUNK_BYTES)))):
            await _send(writer, piece)
            count -= len(piece)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):  # what nobody reads keeps it open
            await writer.wait_closed()
    writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, piece: bytes) -> None:
    writer.write(piece)
    await writer.drain()
