"""More connections than there is room for: who gives way, and who does not."""

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web import connections
from receiver.web.connections import ConnectionCounts, DescriptorWatch, Patience, most_connections
from receiver.web.streams import STREAMS
from tests.support.loopback import Answer, post, serving, talk
from tests.support.waiting import until
from tests.support.web_callers import callback_path

ROOM = 8
NEVER = 3600.0
PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER_END = b'{"status":"ok"}'


@pytest.fixture
def patience() -> Patience:
    """Who waits is left alone, at first for ever, however slow the machine is."""
    return Patience(idle=NEVER, idle_when_full=NEVER, body=NEVER, stuck=NEVER)


@pytest.fixture
async def port(app: ASGIApp, patience: Patience) -> AsyncIterator[int]:
    """With room for few."""
    async with serving(app, patience=patience, most=ROOM) as free_port:
        yield free_port


@dataclass
class Guest:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self) -> None:
        self.writer.write(PROBE)
        async with asyncio.timeout(60):
            await self.reader.readuntil(ANSWER_END)

    async def is_gone(self) -> bool:
        """Whether the server is seen to have closed the connection."""
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

    async def lets_in(self) -> bool:
        """Whether one more gets a place."""
        try:
            await (await self.guest()).ask()
        except (ConnectionError, asyncio.IncompleteReadError):
            return False
        return True

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


async def test_a_full_house_makes_room_by_the_guest_who_has_waited_longest(
    house: House, patience: Patience
) -> None:
    first, second, *others = await house.full()
    await first.ask()
    patience.idle_when_full = 0.0
    await (await house.guest()).ask()
    await until(second.is_gone)
    for guest in (first, *others):
        await guest.ask()


async def test_whoever_has_not_asked_yet_waits_like_all_others(house: House, patience: Patience) -> None:
    silent = await house.guest()
    half = await house.guest()
    half.writer.write(PROBE[:20])
    for _ in range(ROOM - 2):
        await (await house.guest()).ask()
    patience.idle_when_full = 0.0
    for _ in range(2):
        await (await house.guest()).ask()
    await until(silent.is_gone)
    await until(half.is_gone)
    assert [await guest.is_gone() for guest in house.guests[2:]] == [False] * ROOM


async def test_a_house_nearly_full_keeps_its_last_places_for_newcomers(
    house: House, patience: Patience
) -> None:
    first, *others = await house.full()
    assert not any([await guest.is_gone() for guest in (first, *others)])  # nobody has waited long
    left = others.pop()
    left.writer.close()
    await left.writer.wait_closed()
    patience.idle = 0.0
    await (await house.guest()).ask()
    await until(first.is_gone)
    assert not any([await guest.is_gone() for guest in others])


async def test_whoever_has_just_come_or_just_asked_stays_and_who_comes_then_goes(house: House) -> None:
    guests = await house.full()
    await until((await house.guest()).is_gone)
    assert not any([await guest.is_gone() for guest in guests])


async def test_a_request_that_nobody_has_read_yet_is_answered(port: int, patience: Patience) -> None:
    patience.idle_when_full = 0.0
    patience.idle = 0.0
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        callers = [stack.enter_context(socket.socket()) for _ in range(ROOM)]
        for caller in callers:  # all of them before the server has a turn
            caller.connect(("127.0.0.1", port))
            caller.sendall(PROBE)
            caller.setblocking(False)
        answers = [Answer(await loop.sock_recv(caller, 65_536)) for caller in callers]
    assert [answer.status for answer in answers] == [200] * ROOM


async def test_nothing_that_was_recorded_goes_unanswered_however_many_come(patience: Patience) -> None:
    """48 come for each commit, with room for 40: more than can be answered, and each of them behaves."""
    recorded, answered = set[str](), set[str]()
    commit = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await commit.wait()  # shared by all
        recorded.add(scope["path"])
        await answer(send, b"ok")

    async def call(port: int, path: str) -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
            if (await reader.read(4096)).startswith(b"HTTP/1.1 200 "):
                answered.add(path)
            writer.close()

    async with serving(app, patience=patience, most=40) as port, asyncio.TaskGroup() as calls:
        for wave in range(100):
            for number in range(12):
                calls.create_task(call(port, f"/{wave}-{number}"))
            await asyncio.sleep(0.013)
            if wave % 4 == 3:
                commit.set()
                await asyncio.sleep(0)
                commit.clear()
        commit.set()
    assert recorded == answered
    assert 300 < len(answered) < 1200


@pytest.mark.parametrize("environment", [{"RECEIVER_BODY_TIMEOUT_SECONDS": "60"}])
async def test_who_is_being_answered_stays_and_who_comes_then_goes(
    house: House, runtime: Runtime, port: int, patience: Patience
) -> None:
    patience.idle_when_full = 0.0
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    for _ in range(ROOM):
        (await house.guest()).writer.write(request[:-9])
    assert await talk(port, PROBE) == b""
    for guest in house.guests:
        guest.writer.write(request[-9:])
    answers = [Answer(await guest.reader.read()) for guest in house.guests]
    assert {answer.status for answer in answers} == {200}


@pytest.mark.parametrize("environment", [{"RECEIVER_BODY_TIMEOUT_SECONDS": "60"}])
async def test_a_body_that_does_not_come_gives_way(
    house: House, runtime: Runtime, patience: Patience
) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    for _ in range(ROOM):
        (await house.guest()).writer.write(request[:-9])
    assert not await house.lets_in()
    patience.body = 0.2
    for _ in range(ROOM // 2):
        await until(house.lets_in)


async def test_a_reader_that_takes_nothing_gives_way(house: House, port: int, patience: Patience) -> None:
    many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300
    readers = [socket.socket() for _ in range(ROOM)]
    loop = asyncio.get_running_loop()
    for reader in readers:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        await loop.sock_connect(reader, ("127.0.0.1", port))
        await loop.sock_sendall(reader, many)
    assert not await house.lets_in()
    patience.stuck = 0.2
    for _ in range(ROOM):
        await until(house.lets_in)
    async with asyncio.timeout(60):
        for reader in readers:
            with suppress(ConnectionResetError):
                while await loop.sock_recv(reader, 65_536):
                    pass
            reader.close()


async def test_a_reader_slower_than_the_writer_gets_all_however_many_come(patience: Patience) -> None:
    patience.stuck = 1.5
    whole = 120 * 65_536

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, *[b"x" * 65_536] * 120)

    async def read(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PROBE)
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while got < whole and (piece := await reader.read(65_536)):
            got += len(piece)
            await asyncio.sleep(0.02)  # 3 MB a second: longer than that in all, and never idle
        writer.close()
        return got

    async with serving(app, patience=patience, most=ROOM) as port, asyncio.TaskGroup() as reads:
        reading = [reads.create_task(read(port)) for _ in range(ROOM)]
        await asyncio.sleep(0.3)
        refused = 0
        while not any(each.done() for each in reading):
            refused += await talk(port, PROBE) == b""
            await asyncio.sleep(0.02)
    assert refused > 5
    assert [each.result() for each in reading] == [whole] * ROOM


async def answer(send: Callable[[dict[str, object]], Awaitable[None]], *pieces: bytes) -> None:
    length = str(sum(map(len, pieces))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for number, piece in enumerate(pieces, 1):
        await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})


async def test_a_storm_of_newcomers_is_told_of_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(connections, "log", structlog.get_logger())
    crowd = ConnectionCounts(every_seconds=0.1)
    with capture_logs() as lines:
        began = time.monotonic()
        for number in range(25):
            crowd.count(asyncio.get_running_loop(), closed=2, refused=number % 2)
            await asyncio.sleep(0.01)
        await until(lambda: sum(line["closed"] for line in lines) == 50)
        seconds = time.monotonic() - began
    assert {line["event"] for line in lines} == {"connections.crowded"}
    assert len(lines) <= 1 + seconds / 0.1
    assert (sum(line["closed"] for line in lines), sum(line["refused"] for line in lines)) == (50, 12)


async def test_what_a_late_line_has_told_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(connections, "log", structlog.get_logger())
    crowd, loop = ConnectionCounts(every_seconds=0.05), asyncio.get_running_loop()
    with capture_logs() as lines:
        crowd.count(loop, closed=1, refused=0)
        time.sleep(0.06)  # the loop is late
        crowd.count(loop, closed=1, refused=0)
        await asyncio.sleep(0.15)
    assert [(line["closed"], line["refused"]) for line in lines] == [(2, 0)]


async def test_a_file_that_is_sent_takes_a_place_like_a_connection(house: House, patience: Patience) -> None:
    held = [STREAMS.open("a", most=100, leave=None) for _ in range(4)]
    first, *others = [await house.guest() for _ in range(ROOM - 4)]
    for guest in (first, *others):
        await guest.ask()
    patience.idle_when_full = 0.0
    await (await house.guest()).ask()
    for each in held:
        each.close()
    await until(first.is_gone)
    assert not any([await guest.is_gone() for guest in others])


async def test_that_nobody_can_be_accepted_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    structlog.reset_defaults()
    monkeypatch.setattr(connections, "log", structlog.get_logger())
    watch = DescriptorWatch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with capture_logs() as lines:
        watch.look()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            watch.look()
            watch.look()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        watch.look()
        watch.look()
    assert [(line["event"], line.get("reason")) for line in lines] == [
        ("connections.not_accepted", "Too many open files"),
        ("connections.accepted_again", None),
    ]


@pytest.mark.parametrize(("limit", "room"), [(64, 16), (1024, 768), (10_000, 8000)])
def test_the_limit_of_descriptors_leaves_some_for_the_work(limit: int, room: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < limit:
        pytest.skip(f"this system allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        assert most_connections() == room
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
