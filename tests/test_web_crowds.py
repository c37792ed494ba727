"""More connections than there is room for: who gives way, and who does not."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import structlog
from structlog.testing import capture_logs

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web import connections
from receiver.web.connections import Crowd, most_connections
from tests.loopback import Answer, post, talk
from tests.web_callers import callback_path

pytest_plugins = ["tests.web_fixtures"]

ROOM = 6
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER_END = b'{"status":"ok"}'


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", ROOM)


@dataclass
class Guest:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self) -> None:
        self.writer.write(PROBE)
        async with asyncio.timeout(5):
            await self.reader.readuntil(ANSWER_END)

    async def is_gone(self) -> bool:
        """Whether the server has closed the connection."""
        try:
            async with asyncio.timeout(0.05):
                return await self.reader.read() == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


class House:
    """The guests of one server, in the order in which they came."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.guests: list[Guest] = []

    async def guest(self) -> Guest:
        guest = Guest(*await asyncio.open_connection("127.0.0.1", self._port))
        self.guests.append(guest)
        return guest

    async def full(self) -> list[Guest]:
        """As many idle guests as there is room for."""
        for _ in range(ROOM):
            await (await self.guest()).ask()
        return list(self.guests)


@pytest.fixture
async def house(port: int) -> AsyncIterator[House]:
    house = House(port)
    yield house
    for guest in house.guests:
        guest.writer.transport.abort()


async def test_a_full_house_makes_room_by_the_guest_who_has_waited_longest(house: House) -> None:
    first, second, *others = await house.full()
    await first.ask()
    await (await house.guest()).ask()
    assert await second.is_gone()
    for guest in (first, *others):
        await guest.ask()


async def test_whoever_has_not_asked_yet_waits_like_all_others(house: House) -> None:
    silent = await house.guest()
    half = await house.guest()
    half.writer.write(PROBE[:20])
    for _ in range(ROOM - 2):
        await (await house.guest()).ask()
    for _ in range(2):
        await (await house.guest()).ask()
    assert await silent.is_gone()
    assert await half.is_gone()
    assert [await guest.is_gone() for guest in house.guests[2:]] == [False] * ROOM


async def test_who_is_being_answered_stays_and_who_comes_then_goes(
    house: House, runtime: Runtime, port: int
) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    for _ in range(ROOM):
        (await house.guest()).writer.write(request[:-9])
    await asyncio.sleep(0.2)
    assert await talk(port, PROBE) == b""
    for guest in house.guests:
        guest.writer.write(request[-9:])
    answers = [Answer(await guest.reader.read()) for guest in house.guests]
    assert {answer.status for answer in answers} == {200}


async def test_a_reader_that_takes_nothing_gives_way(house: House, port: int) -> None:
    many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300
    readers = [socket.socket() for _ in range(ROOM)]
    loop = asyncio.get_running_loop()
    for reader in readers:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        await loop.sock_connect(reader, ("127.0.0.1", port))
        await loop.sock_sendall(reader, many)
    await asyncio.sleep(0.5)
    for _ in range(ROOM):
        await (await house.guest()).ask()
    for reader in readers:
        with suppress(ConnectionResetError):
            while await loop.sock_recv(reader, 65_536):
                pass
        reader.close()


async def test_a_storm_of_newcomers_is_told_of_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TELL_SECONDS", 0.1)
    structlog.reset_defaults()
    monkeypatch.setattr(connections, "log", structlog.get_logger())
    crowd = Crowd()
    with capture_logs() as lines:
        for number in range(25):
            crowd.count(asyncio.get_running_loop(), closed=2, refused=number % 2)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.15)
    assert {line["event"] for line in lines} == {"connections.crowded"}
    assert 1 <= len(lines) <= 4
    assert (sum(line["closed"] for line in lines), sum(line["refused"] for line in lines)) == (50, 12)


@pytest.mark.parametrize(("limit", "room"), [(64, 16), (1024, 768), (10_000, 8000)])
def test_the_limit_of_descriptors_leaves_some_for_the_work(
    monkeypatch: pytest.MonkeyPatch, limit: int, room: int
) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < limit:
        pytest.skip(f"this system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        assert most_connections() == room
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
