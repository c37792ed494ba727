"""A media host on loopback whose every answer is told byte for byte, faults and all."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

from PIL import Image

from tests.support.waiting import everyone_in

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class MediaHost:
    """Answers by path; remembers what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.otherwise = says(404)
        self.requests: list[str] = []  # whole heads
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def put(self, path: str, answer: Answer) -> str:
        """Have ``answer`` at ``path``; its URL."""
        self.answers[path] = answer
        return self.url(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.requests.append(head)
            await self.answers.get(head.split(" ")[1], self.otherwise)(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve connections on a port of loopback until the block is left; then those that run are cut."""
    running: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            running.discard(task)

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await everyone_in()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@asynccontextmanager
async def media_host(tls: ssl.SSLContext | None = None) -> AsyncIterator[MediaHost]:
    host = MediaHost()
    async with listening(host.serve, tls) as host.port:
        yield host


def says(status: int, body: bytes = b"", *lines: str, length: int | None = None) -> Answer:
    """An ordinary answer; ``length`` is what it claims, if that is not the truth."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        size = len(body) if length is None else length
        extra = "".join(f"{line}\r\n" for line in lines)
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n{extra}\r\n".encode("latin-1") + body)

    return answer


def redirects(location: str, status: int = 302) -> Answer:
    return says(status, b"", f"location: {location}")


def writes(*pieces: bytes, pause_seconds: float = 0.0) -> Answer:
    """Raw bytes, piece by piece, then the connection is closed."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return answer


def repeats(piece: bytes, *, pause_seconds: float = 0.0, times: int | None = None) -> Answer:
    """A 200 without a length and a body that goes on, for ever unless ``times`` is given."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        count = 0
        while times is None or count < times:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
            count += 1

    return answer


def picture(format_name: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """A real image, noisy enough to have a body worth cutting; the same at every call."""
    width, height = size
    file = BytesIO()
    noise = random.Random(7).randbytes(width * height * 3)
    Image.frombytes("RGB", size, noise).save(file, format_name, **options)
    return file.getvalue()
