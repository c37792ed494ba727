"""A provider's API on loopback that remembers every order byte for byte, and answers as the test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.support.media_host import Answer, listening, says


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class OrderHost:
    """Answers ``answers`` one after the other, then ``otherwise``, each once ``gate`` is open."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answers: list[Answer] = []
        self.otherwise: Answer = says(404)
        self.gate = asyncio.Event()
        self.gate.set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def orders(self) -> list[Sent]:
        return [each for each in self.sent if each.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *lines = head.strip().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await _body(reader, headers)
            method, target, _ = request.split(" ")
            self.sent.append(Sent(method=method, target=target, headers=headers, body=body))
            answer = self.answers.pop(0) if self.answers else self.otherwise
            await self.gate.wait()
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" not in headers:
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body


@asynccontextmanager
async def order_host() -> AsyncIterator[OrderHost]:
    host = OrderHost()
    async with listening(host.serve) as host.port:
        yield host


def tells(document: object, status: int = 200, *lines: str) -> Answer:
    """A JSON answer, after which the connection is closed."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return says(status, body, "content-type: application/json", "connection: close", *lines)


async def hangs_up(_writer: asyncio.StreamWriter) -> None:
    """No answer at all: the order is taken, and the connection closed."""
