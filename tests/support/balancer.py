"""A balancer: one loopback port, and each connection to the next of several servers that takes it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from tests.support.media_host import listening

CHUNK_BYTES = 1 << 16

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def balancing(ports: Sequence[int]) -> AsyncIterator[int]:
    """The port. Where nobody listens on any of ``ports``, a connection is closed unanswered.

    ``ports`` may be filled meanwhile, by those who have to know this one first.
    """
    turns = itertools.count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns) % max(1, len(ports))
        server = await _connect([*ports[first:], *ports[:first]])
        if server is None:
            writer.close()
            return
        await _join((reader, writer), server)

    async with listening(serve) as port:
        yield port


async def _connect(ports: Sequence[int]) -> Connection | None:
    for port in ports:
        with suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
    return None


async def _join(client: Connection, server: Connection) -> None:
    """Hand on what either says, until one of them ends it or is gone."""
    ways = {
        asyncio.create_task(_pour(client[0], server[1])),
        asyncio.create_task(_pour(server[0], client[1])),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        server[1].close()
        client[1].close()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            await target.drain()
