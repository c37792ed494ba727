"""What kept connections promise over TLS too, on both event loops that the service may run on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import h11
import httpx2
import pytest
import uvloop

from receiver.fetching import kept
from receiver.fetching.kept import KeptConnections
from tests.support.fake_world import Trust, make_trust
from tests.support.media_host import listening

Run = Callable[[Coroutine[Any, Any, None]], None]

PIECE = b"\0" * 100_000
PIECES = 40


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    given: Run = request.param
    return given


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trust:
    trust = make_trust(tmp_path, ["DNS:localhost"])
    monkeypatch.setattr(kept, "authorities", lambda *, strict: trust.client)
    return trust


class Host:
    """Takes requests with a body of known length, and says how many connections they came by."""

    def __init__(self) -> None:
        self.connections = 0
        self.taken = 0
        self.says_more = b""  # behind each answer
        self.closes = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.taken += left
                await reader.readexactly(left)
                writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(self.says_more)
                if self.closes:
                    break
        writer.close()


async def upload(connections: KeptConnections) -> bytes:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(PIECES):
            yield PIECE

    headers = [("host", "localhost"), ("content-length", str(PIECES * len(PIECE)))]
    request = h11.Request(method="POST", target="/", headers=headers)
    async with connections.ask(request, pieces(), lambda: None) as answer:
        return b"".join([part async for part in answer.parts()])


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize(("says_more", "closes"), [(b"", False), (b"unasked", False), (b"", True)])
def test_a_connection_serves_again_while_its_host_keeps_it_and_keeps_silent(
    run: Run, trust: Trust, is_secure: bool, says_more: bytes, closes: bool
) -> None:
    async def check() -> None:
        host = Host()
        host.says_more, host.closes = says_more, closes
        async with listening(host.serve, trust.server if is_secure else None) as port:
            url = httpx2.URL(f"http{'s' if is_secure else ''}://localhost:{port}")
            connections = KeptConnections(url, most=4, idle_seconds=5, connect_seconds=5)
            for _ in range(3):
                assert await upload(connections) == b"{}"
                await asyncio.sleep(0.1)
            await connections.aclose()
        assert host.taken == 3 * PIECES * len(PIECE)
        assert host.connections == (3 if says_more or closes else 1)

    run(check())
