"""Uploads through the gateway: as large as providers take them, in little memory, ended with either side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.gateway.conftest import KEY
from tests.support.media_host import listening
from tests.support.order_host import OrderHost
from tests.support.waiting import until

PIECE = b"\0" * 65_536
PIECES = 1_600  # 100 MiB
UPLOAD = "/gateway/vidgo/api/common/upload/stream"
ANSWER = (
    b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
)
MOST_KIB = 16 * 1024


class Taker:
    """A provider that takes ``most`` bytes of an upload, and then waits, says no or hangs up."""

    def __init__(self) -> None:
        self.taken = 0
        self.most = 2**40
        self.hangs_up = False
        self.says_no = False
        self.goes_on = asyncio.Event()  # whoever waits reads nothing until then
        self.is_cut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            while self.taken < min(length, self.most):
                part = await reader.read(2**20)
                if not part:
                    self.is_cut = True
                    return
                self.taken += len(part)
            if self.taken == length:
                writer.write(ANSWER)
                await writer.drain()
            elif self.says_no:
                writer.write(ANSWER.replace(b"200", b"413"))
                await asyncio.sleep(0.1)  # and then it closes on what it has not read, which is a reset
            elif not self.hangs_up:
                await self.goes_on.wait()
                while await reader.read(2**20):
                    pass
                self.is_cut = True
        except ConnectionError:
            self.is_cut = True
        finally:
            writer.close()


@pytest.fixture
async def taker(upstream: OrderHost) -> AsyncIterator[Taker]:
    """In the place of the other modules' provider."""
    taker = Taker()
    async with listening(taker.serve) as upstream.port:
        yield taker


@pytest.fixture
def environment(upstream: OrderHost, taker: Taker) -> dict[str, str]:
    return {"RECEIVER_GATEWAY": "true", "VIDGO_BASE_URL": upstream.url, "VIDGO_API_KEY": KEY}


@asynccontextmanager
async def uploader(port: int) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {KEY}"}, trust_env=False
    ) as client:
        yield client


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(PIECES):
        yield PIECE


def headers() -> dict[str, str]:
    return {"content-length": str(PIECES * len(PIECE)), "content-type": "application/octet-stream"}


def resident_kib() -> int:
    (line,) = [
        each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS")
    ]
    return int(line.split()[1])


async def test_100_mib_pass_in_constant_memory(port: int, taker: Taker) -> None:
    before, most = resident_kib(), 0

    async def watched() -> AsyncIterator[bytes]:
        nonlocal most
        for number in range(PIECES):
            if number % 50 == 0:
                most = max(most, resident_kib())
            yield PIECE

    async with uploader(port) as client:
        answer = await client.post(UPLOAD, content=watched(), headers=headers(), timeout=60)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert taker.taken == PIECES * len(PIECE)
    assert most - before < MOST_KIB


async def test_a_provider_that_takes_no_more_holds_its_caller_up(port: int, taker: Taker) -> None:
    taker.most = 2**20
    sent = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(PIECES):
            yield PIECE
            sent += len(PIECE)

    async with uploader(port) as client:
        upload = asyncio.create_task(client.post(UPLOAD, content=counted(), headers=headers(), timeout=60))
        await until(lambda: taker.taken >= taker.most)
        seen = -1
        while seen != sent:  # until nothing moves
            seen = sent
            await asyncio.sleep(0.2)
        assert sent < PIECES * len(PIECE) // 2
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
    taker.goes_on.set()
    await until(lambda: taker.is_cut)


async def test_a_provider_that_hangs_up_ends_it_for_the_caller(port: int, taker: Taker) -> None:
    taker.most, taker.hangs_up = 2**20, True
    async with uploader(port) as client:
        try:
            answer = await client.post(UPLOAD, content=pieces(), headers=headers(), timeout=60)
            assert answer.status_code == 503
        except httpx2.TransportError:  # cut while it was still writing
            pass
    assert taker.taken < PIECES * len(PIECE)


async def test_a_provider_that_answers_early_and_hangs_up_is_understood(port: int, taker: Taker) -> None:
    taker.most, taker.says_no = 2**20, True
    async with uploader(port) as client:
        answer = await client.post(UPLOAD, content=pieces(), headers=headers(), timeout=60)
    assert (answer.status_code, answer.content) == (413, b"{}")
    assert taker.taken < PIECES * len(PIECE)
