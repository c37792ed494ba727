"""Asks a server on loopback over kept connections, for little processor time of its own.

An HTTP library's client takes several times as long for a request as the gateway does for a status question:
on the same cores, with 32 at once, it would be the one that is measured.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class LeanClient:
    """As many connections as there are requests at once; whatever is not 200 is raised."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self._port = urlsplit(base_url).port or 80
        self._lines = "".join(
            f"{name}: {value}\r\n" for name, value in {"host": urlsplit(base_url).netloc, **headers}.items()
        )
        self._idle: list[_Connection] = []

    async def get(self, path: str) -> None:
        await self._ask(f"GET {path} HTTP/1.1\r\n{self._lines}\r\n".encode())

    async def post(self, path: str, body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\n{self._lines}content-type: application/json\r\n"
        await self._ask(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def close(self) -> None:
        for connection in self._idle:
            connection.transport.close()

    async def _ask(self, request: bytes) -> None:
        self._idle = [each for each in self._idle if not each.transport.is_closing()]
        if self._idle:
            connection = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        answer = await connection.ask(request)
        self._idle.append(connection)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(answer[:2000])


@asynccontextmanager
async def lean_client(base_url: str, headers: Mapping[str, str]) -> AsyncIterator[LeanClient]:
    client = LeanClient(base_url, headers)
    try:
        yield client
    finally:
        client.close()


class _Connection(asyncio.Protocol):
    """One request at a time, and its answer, whose length it must tell."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._held = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    async def ask(self, request: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if end and length is not None and len(body) >= int(length[1]) and self._answer is not None:
            self._answer.set_result(self._held)
            self._held, self._answer = b"", None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(exc or ConnectionError("closed without an answer"))
