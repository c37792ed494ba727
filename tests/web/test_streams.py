"""Files that are being sent, to readers who take nothing and to others."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from receiver.blobs.local import PART_BYTES
from receiver.errors import Unavailable
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.streams import STREAMS, Streams
from tests.support.loopback import Answer, post, talk
from tests.support.media_host import media_host, picture, says
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, callback_path, log_task

MOST_STREAMS = 8
IMAGE = picture(size=(1100, 1100), compress_level=0)  # more than the system takes of it for a silent reader


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
def few_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STREAMS, "most", MOST_STREAMS)  # of the process, so of all tests
    monkeypatch.setattr(STREAMS, "stuck_seconds", 0.2)


@pytest.fixture
async def links(backend: httpx2.AsyncClient, runtime: Runtime) -> list[str]:
    """The signed links of a task's two files, as paths."""
    return await stored(backend, runtime, "t1")


async def stored(backend: httpx2.AsyncClient, runtime: Runtime, task_id: str, **fields: str) -> list[str]:
    async with media_host() as host:
        files = [host.put(f"/{number}.png", says(200, IMAGE)) for number in range(2)]
        await log_task(backend, task_id, **fields)
        body = sample_callback("vidgo", task_id, files=files)
        (await backend.post(callback_path(runtime), content=body)).raise_for_status()

        async def completed() -> dict[str, Any] | None:
            task: dict[str, Any] = (await backend.get(f"/tasks/vidgo/{task_id}")).json()
            return task if task["state"] == "completed" else None

        task = await until(completed)
    return [urlsplit(asset["url"])._replace(scheme="", netloc="").geturl() for asset in task["assets"]]


@pytest.fixture
async def silent(port: int) -> AsyncIterator["Silent"]:
    readers = Silent(port)
    yield readers
    readers.leave()


class Silent:
    """Readers that ask for a file and take nothing of it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []

    async def come(self, link: str) -> None:
        reader = socket.socket()
        self._sockets.append(reader)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, ("127.0.0.1", self._port))
        with suppress(OSError):
            await loop.sock_sendall(reader, asks(link, "keep-alive"))

    def leave(self) -> None:
        for reader in self._sockets:
            reader.close()


def asks(link: str, connection: str = "close") -> bytes:
    return f"GET {link} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n".encode()


def files_open(runtime: Runtime) -> int:
    """How many descriptors of this process are of stored files."""
    folder = str(runtime.settings.data_dir / "assets")
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(descriptor.readlink()).startswith(folder)
    return count


@pytest.mark.usefixtures("few_streams")
async def test_silent_readers_of_one_link_hold_few_files_and_keep_nobody_out(
    port: int, runtime: Runtime, links: list[str], silent: Silent
) -> None:
    for number in range(5 * MOST_STREAMS):
        await silent.come(links[0])
        if number % 5 == 4:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    await until(lambda: files_open(runtime))
    assert files_open(runtime) <= MOST_STREAMS // 2
    for link in reversed(links):
        answer = Answer(await talk(port, asks(link)))
        assert (answer.status, answer.body) == (200, IMAGE)
    sent = post(callback_path(runtime), sample_callback("vidgo", "t2"))
    assert Answer(await talk(port, sent)).status == 200
    silent.leave()
    await until(lambda: files_open(runtime) == len(STREAMS) == 0)


@pytest.mark.usefixtures("few_streams")
async def test_readers_who_have_just_taken_something_give_way_to_nobody(
    port: int, links: list[str], silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(STREAMS, "stuck_seconds", 60.0)
    await silent.come(links[0])
    await until(lambda: len(STREAMS) == 1)
    others = [STREAMS.open("another file", most=100, leave=None) for _ in range(MOST_STREAMS - 1)]
    answer = Answer(await talk(port, asks(links[1])))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    for each in others:
        each.close()
    assert len(STREAMS) == 1
    assert Answer(await talk(port, asks(links[1]))).status == 200


def test_the_longest_stuck_reader_leaves_and_one_file_has_half_of_the_places() -> None:
    left: list[str] = []
    sent = Streams(stuck_seconds=0.0)
    first = sent.open("a", most=4, leave=lambda: left.append("first"))
    sent.open("a", most=4, leave=lambda: left.append("second"))
    first.moved()
    sent.open("a", most=4, leave=lambda: left.append("third"))
    assert left == ["second"]
    sent.open("b", most=4, leave=lambda: left.append("fourth"))
    sent.open("c", most=4, leave=lambda: left.append("fifth"))
    sent.open("d", most=4, leave=None)
    assert left == ["second", "first"]
    assert len(sent) == 4


def test_where_a_server_cannot_close_a_connection_the_newcomer_is_refused() -> None:
    sent = Streams(stuck_seconds=0.0)
    sent.open("a", most=1, leave=None)
    with pytest.raises(Unavailable):
        sent.open("b", most=1, leave=None)


async def test_a_file_is_sent_in_small_parts(runtime: Runtime, links: list[str]) -> None:
    assert len(links) == 2
    parts = [part async for part in runtime.blobs.open("vidgo/t1/0.png", 5, len(IMAGE))]
    assert b"".join(parts) == IMAGE[5:]
    assert max(map(len, parts)) <= PART_BYTES <= 65_536


def test_one_token_and_one_owner_have_half_of_the_places() -> None:
    sent = Streams()
    for file in "ab":
        sent.open(file, "token", most=4, leave=None)
    with pytest.raises(Unavailable):
        sent.open("c", "token", most=4, leave=None)
    for file in "de":
        sent.open(file, most=4, leave=None).join("owner", 4)
    with pytest.raises(Unavailable):
        sent.open("f", most=5, leave=None).join("owner", 4)


@pytest.mark.usefixtures("few_streams")
async def test_whoever_reads_an_owners_files_without_pause_keeps_out_no_other_owners(
    port: int,
    runtime: Runtime,
    backend: httpx2.AsyncClient,
    links: list[str],
    silent: Silent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(STREAMS, "stuck_seconds", 60.0)
    others = await stored(backend, runtime, "t2", owner="user-18")
    for number in range(2 * MOST_STREAMS):
        await silent.come(links[number % 2])
    await until(lambda: len(STREAMS) == MOST_STREAMS // 2)
    assert Answer(await talk(port, asks(links[0]))).status == 503
    assert Answer(await talk(port, asks(others[0]))).status == 200


@pytest.mark.usefixtures("few_streams")
async def test_a_token_that_reads_without_pause_keeps_out_no_other_reader(
    port: int, links: list[str], backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    others = await stored(backend, runtime, "t2", owner="user-18")
    caller = f"backend {hashlib.sha256(API_TOKEN.encode()).hexdigest()[:8]}"  # as the log calls it
    held = [
        STREAMS.open(f"file {number}", f"token {caller}", most=MOST_STREAMS, leave=None)
        for number in range(MOST_STREAMS // 2)
    ]
    path = urlsplit(others[0]).path
    assert (await backend.get(path)).status_code == 503
    assert Answer(await talk(port, asks(others[0]))).status == 200
    for each in held:
        each.close()
    assert (await backend.get(path)).status_code == 200
