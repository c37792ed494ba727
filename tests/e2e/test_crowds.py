"""A service whose connections strangers take up and hold: others are answered all the same."""

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest

from tests.e2e.service import Receiver
from tests.e2e.test_resources import confined, logged, send
from tests.support.media_host import media_host, picture, says
from tests.support.waiting import until

LIMIT = 160  # descriptors; the usual 1024 would take longer

WAYS = {
    "nothing": b"",
    "half a head": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: ",
    "a request, and then nothing": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "no body after its head": b"POST /submissions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
}


@asynccontextmanager
async def strangers(service: Receiver, first: bytes) -> AsyncIterator[None]:
    """They come all the time, and none of them leaves by himself."""

    async def come() -> None:
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", service.port)
                here.append(writer)
                writer.write(first)
            await asyncio.sleep(0.002)

    here: list[asyncio.StreamWriter] = []
    coming = [asyncio.create_task(come()) for _ in range(4)]
    try:
        await until(lambda: len(here) > 4 * LIMIT)
        yield
    finally:
        for task in coming:
            task.cancel()
        for writer in here:
            writer.transport.abort()


@pytest.mark.parametrize("first", WAYS.values(), ids=WAYS)
async def test_strangers_who_hold_all_connections_keep_no_callback_and_no_file_out(
    tmp_path: Path, first: bytes
) -> None:
    before = ["prlimit", f"--nofile={LIMIT}:{LIMIT}"]
    async with media_host() as host, confined(tmp_path, before=before) as service:
        async with strangers(service, first):
            for number in range(5):
                async with asyncio.timeout(60):
                    await one_task(service, f"t{number}", host.put("/t.png", says(200, picture())))
            await until(lambda: len(service.told()) == 5)
            assert {event["type"] for event in service.events()} == {"task.completed"}
            await asyncio.sleep(1.1)  # it is told once a second
        crowded = logged(service, "connections.crowded")
        assert sum(line["closed"] for line in crowded) > LIMIT
        moments = [datetime.fromisoformat(line["timestamp"]) for line in crowded]
        assert all((late - early).total_seconds() > 0.9 for early, late in pairwise(moments))
        assert "Traceback" not in service.output()


async def one_task(service: Receiver, task_id: str, link: str) -> None:
    """From its submission to its callback, tried again as backends and providers do."""
    await again(lambda: service.submit(task_id))
    await again(lambda: callback(service, task_id, link))


async def callback(service: Receiver, task_id: str, link: str) -> None:
    (await send(service, task_id, link)).raise_for_status()


async def again(request: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await request()
        except httpx2.HTTPError:
            await asyncio.sleep(0.1)
        else:
            return


async def test_the_service_takes_all_the_descriptors_that_it_may_have(tmp_path: Path) -> None:
    async with confined(tmp_path, before=["prlimit", "--nofile=256:4096"]) as service:
        assert resource.prlimit(service.pid, resource.RLIMIT_NOFILE) == (4096, 4096)


def unread_bytes(port: int) -> int:
    """What the system keeps for readers of a port's connections, by its own count."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(f":{port:04X}"))


async def test_the_system_keeps_no_megabytes_for_a_reader_that_takes_nothing(tmp_path: Path) -> None:
    """They are this machine's memory, and a container's, though no process has them."""
    loop, readers = asyncio.get_running_loop(), [socket.socket() for _ in range(20)]
    async with confined(tmp_path) as service:
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, ("127.0.0.1", service.port))
            await loop.sock_sendall(reader, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        await until(lambda: unread_bytes(service.port) > 20 * 60_000)
        await asyncio.sleep(2)
        assert unread_bytes(service.port) < 20 * 300_000  # 0.3.0: 20 times 2.8 million
        for reader in readers:
            reader.close()


async def test_a_newcomer_is_not_kept_waiting_one_round_for_each_who_came_before(tmp_path: Path) -> None:
    """Each round of the loop answers every connection once, and took in one connection alone."""
    async with confined(tmp_path) as service:
        service.signal(signal.SIGSTOP)  # all of them come at one moment
        busy = await asyncio.open_connection("127.0.0.1", service.port)
        busy[1].write(b"GET /tasks HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        await busy[1].drain()
        idle = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(300)]
        last = await asyncio.open_connection("127.0.0.1", service.port)
        last[1].write(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
        service.signal(signal.SIGCONT)
        assert (await last[0].readline()).startswith(b"HTTP/1.1 401")
        await until(lambda: len(logged(service, "request.answered")) >= 401)
        for _, writer in (busy, *idle, last):
            writer.close()
        order = [line["route"] for line in logged(service, "request.answered")]
        assert order.index("/stats") < 150
