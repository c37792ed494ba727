"""How fast files come in, what memory they take, and how soon callbacks are acknowledged beside them.

    python -m tests.bench.files

Three parts. Speed: files that the service's own fetcher takes to its folder (address guard, limits, hash,
checks, fsync, rename, fsync of the folder), beside a bare loop of the same HTTP client that hashes, writes
and fsyncs each file; by turns in one process, from a media host in another, with fresh connections in both.
Memory: the most that downloads at once add to an idle process. Acks: the time to a callback's 200 at a whole
service that is idle, and at one that downloads at full speed. Exits 1 when a target is missed.
"""

import argparse
import asyncio
import hashlib
import http.client
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from ipaddress import ip_network
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpcore2
import msgspec
import uvloop

from receiver.blobs.local import LocalBlobs
from receiver.clock import Clock
from receiver.fetching import media
from receiver.fetching.client import GuardedClient
from receiver.fetching.download import DownloadLimits
from receiver.fetching.fetcher import AssetLimits, Fetcher
from receiver.models import Outcome
from receiver.testing import sample_callback
from tests.bench.readers import percentile
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.e2e.service import Receiver, receiver
from tests.support.factories import asset_work, no_bodies
from tests.support.media_host import picture

MIB = 2**20
SIZES = {"14 kB": 68, "1 MiB": 591, "8 MiB": 1672, "20 MiB": 2643}  # pictures by their edges in pixels
AIMS = {"14 kB": 0.80, "1 MiB": 0.90, "8 MiB": 0.95}
FILES = {"14 kB": 320, "1 MiB": 96, "8 MiB": 32}  # of one turn
MEMORY_AIM_MIB = 40
ACK_AIMS = {8: 2.0, 16: 3.0}  # times as long as idle
ACK_AIM_MS = 20.0

LIMITS = AssetLimits(
    download=DownloadLimits(max_bytes=100 * MIB, deadline_seconds=300),
    max_task_bytes=1000 * MIB,
    max_pixels=100_000_000,
    kinds=frozenset({media.IMAGE}),
)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one way: files a second, and processor time of each, in milliseconds."""

    rate: float
    cpu_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=["speed", "memory", "acks"], help="one of them alone")
    parser.add_argument("--sizes", nargs="*", choices=list(AIMS), default=list(AIMS))
    parser.add_argument("--at-once", nargs="*", type=int, default=[8, 32])
    parser.add_argument("--callbacks", type=int, default=500, help="of each turn")
    add_json(parser)
    chosen = parser.parse_args()
    rows: list[Row] = []
    wait_for_quiet()
    with (
        media_process() as port,
        tempfile.TemporaryDirectory(prefix="receiver-bench-") as name,
        foreign() as cores,
    ):
        folder = Path(name)
        if chosen.part in {None, "speed"}:
            for size, at_once in product(chosen.sizes, chosen.at_once):
                rows += uvloop.run(compare(port, folder, size, at_once, chosen.rounds))
        if chosen.part in {None, "memory"}:
            rows.append(memory(port, folder))
        if chosen.part in {None, "acks"}:
            for at_once in ACK_AIMS:
                rows += uvloop.run(compare_acks(port, folder, at_once, chosen.rounds, chosen.callbacks))
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


# --- the media host -----------------------------------------------------------------------------------


class _Serving(asyncio.Protocol):
    """Answers ``GET /SIZE...`` by a whole picture from memory, and closes."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            name = self._head.split(b" ", 2)[1].decode().split("/")[1]
            self._transport.write(self._answers[name])
            self._transport.close()


@cache
def content(size: str) -> bytes:
    edge = SIZES[size]
    return picture(size=(edge, edge), compress_level=0)


def name_of(size: str) -> str:
    return size.replace(" ", "")


def serve_media(told: Connection) -> None:
    async def serve() -> None:
        answers = {}
        for size in SIZES:
            body = content(size)
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            answers[name_of(size)] = head + body
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Serving(answers), "127.0.0.1", 0, backlog=512)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


@contextmanager
def media_process() -> Iterator[int]:
    """A media host in a process of its own; its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_media, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


# --- speed --------------------------------------------------------------------------------------------

Get = Callable[[int], Awaitable[None]]  # one file, by its number


async def compare(port: int, folder: Path, size: str, at_once: int, rounds: int) -> list[Row]:
    ours: list[Turn] = []
    theirs: list[Turn] = []
    async with our_way(port, folder, size) as get, bare_way(port, folder, size) as get_bare:
        for number in range(rounds + 1):  # the first warms up
            ours.append(await timed(get, size, at_once, number))
            theirs.append(await timed(get_bare, size, at_once, number))
            for place in ("assets", "bare"):
                shutil.rmtree(folder / place)
    what = f"files of {size}, {at_once} at once"
    return [
        Row(
            measure=what,
            unit="files/s",
            ours=[turn.rate for turn in ours[1:]],
            yardstick="a bare loop of the same client that hashes, writes and fsyncs",
            theirs=[turn.rate for turn in theirs[1:]],
            target=AIMS[size],
        ),
        Row(
            measure=f"  processor time of {what}",
            unit="ms",
            ours=[turn.cpu_ms for turn in ours[1:]],
            yardstick="the same loop",
            theirs=[turn.cpu_ms for turn in theirs[1:]],
        ),
    ]


async def timed(get: Get, size: str, at_once: int, number: int) -> Turn:
    count = FILES[size]
    names = iter(range(number * count, (number + 1) * count))

    async def keep_on() -> None:
        for name in names:
            await get(name)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(keep_on() for _ in range(at_once)))
    return Turn(rate=count / (time.perf_counter() - began), cpu_ms=1000 * (time.process_time() - cpu) / count)


@asynccontextmanager
async def our_way(port: int, folder: Path, size: str) -> Any:
    blobs = LocalBlobs(folder / "assets")
    client = GuardedClient(opened=[ip_network("127.0.0.0/8")])
    fetcher = Fetcher(
        client=client,
        blobs=blobs,
        clock=Clock(),
        staging=folder / "incoming",
        limits=LIMITS,
        bodies=no_bodies,
    )

    async def get(number: int) -> None:
        link = f"http://127.0.0.1:{port}/{name_of(size)}/{number}.png"
        settlement = await fetcher.fetch(asset_work(link, task_id=f"{name_of(size)}-{number}"))
        assert settlement.outcome is Outcome.STORED, settlement

    yield get
    await client.aclose()
    await blobs.aclose()


@asynccontextmanager
async def bare_way(port: int, folder: Path, size: str) -> Any:
    pool = httpcore2.AsyncConnectionPool(max_connections=None, max_keepalive_connections=0)

    async def get(number: int) -> None:
        path = folder / "bare" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        url = f"http://127.0.0.1:{port}/{name_of(size)}/{number}.png"
        digest = hashlib.sha256()
        async with pool.stream("GET", url, headers={"Connection": "close"}) as response:
            with path.open("wb") as file:
                async for chunk in response.aiter_stream():
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())

    yield get
    await pool.aclose()


# --- memory -------------------------------------------------------------------------------------------


def memory(port: int, folder: Path) -> Row:
    growth = in_its_own_process(measure_growth, port, folder) / MIB
    return Row(
        measure="memory for 32 files of 20 MiB at once",
        unit="MiB",
        ours=[growth],
        target=MEMORY_AIM_MIB,
        at_most=True,
    )


def in_its_own_process(measure: Callable[[int, Path, Connection], None], port: int, folder: Path) -> int:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(port, folder, theirs))
    process.start()
    measured: int = ours.recv()
    process.join()
    return measured


def measure_growth(port: int, folder: Path, told: Connection) -> None:
    """From after one small file to the most that the process ever had."""

    async def measure() -> int:
        async with our_way(port, folder, "14 kB") as get:
            await get(0)
        before = _status("VmRSS")
        async with our_way(port, folder, "20 MiB") as get:
            await asyncio.gather(*map(get, range(32)))
        return _status("VmHWM") - before

    told.send(uvloop.run(measure()))


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


# --- acks ---------------------------------------------------------------------------------------------


async def compare_acks(port: int, folder: Path, at_once: int, rounds: int, callbacks: int) -> list[Row]:
    """By turns at one service: callbacks alone, and beside downloads."""
    settings = {
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "RECEIVER_EARLY_LIMIT": "100000",
        "RECEIVER_ASSET_CONCURRENCY": str(at_once),
        "RECEIVER_ASSET_LINK_COPIES": "false",  # all are equal, and would be linked one after the other
    }
    place = folder / f"acks-{at_once}"
    place.mkdir()
    idle: list[Sequence[float]] = []
    beside: list[Sequence[float]] = []
    rates: list[float] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as caller:
        async with receiver(place, settings) as service:
            await acknowledged(caller, service, "warm", callbacks // 4)
            for number in range(rounds):
                idle.append(await acknowledged(caller, service, f"idle-{number}", callbacks))
                load = Load(service, port, at_once, f"load-{number}", place / "data" / "assets")
                loading = asyncio.create_task(load.keep_on())
                await load.running.wait()
                began, before = time.perf_counter(), load.stored
                beside.append(await acknowledged(caller, service, f"beside-{number}", callbacks))
                rates.append((load.stored - before) * 8.4 / (time.perf_counter() - began))
                load.is_over = True
                await loading
    idle_p99, beside_p99 = ([percentile(each, 99) for each in turns] for turns in (idle, beside))
    what = f"beside {at_once} downloads of 8 MiB"
    return [
        Row(
            measure=f"ack p99 {what}",
            unit="ms",
            ours=beside_p99,
            yardstick="the same service, idle",
            theirs=idle_p99,
            target=ACK_AIMS[at_once],
            at_most=True,
        ),
        Row(measure="  the same in itself", unit="ms", ours=beside_p99, target=ACK_AIM_MS, at_most=True),
        Row(
            measure=f"  ack p50 {what}",
            unit="ms",
            ours=[percentile(each, 50) for each in beside],
            yardstick="the same service, idle",
            theirs=[percentile(each, 50) for each in idle],
        ),
        Row(measure="  what came in meanwhile", unit="MB/s", ours=rates),
    ]


async def acknowledged(caller: Executor, service: Receiver, name: str, count: int) -> Sequence[float]:
    """Milliseconds that each of so many callbacks took, in order of size."""
    path = service.callback_path()
    return await asyncio.get_running_loop().run_in_executor(
        caller, call_back, service.port, path, name, count
    )


def call_back(port: int, path: str, name: str, count: int) -> Sequence[float]:
    """In a process that does nothing else: one callback after the other, on one connection."""
    took = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(count):
        body = sample_callback("vidgo", f"{name}-{number}", error="nsfw")
        began = time.perf_counter()
        connection.request("POST", path, body)
        answer = connection.getresponse()
        answer.read()
        took.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, answer.status
    connection.close()
    return sorted(took)


class Load:
    """Tasks of some files each, logged ahead, so that the service has as many downloads as it takes."""

    def __init__(self, service: Receiver, port: int, at_once: int, name: str, assets: Path) -> None:
        self._service = service
        self._link = f"http://127.0.0.1:{port}/8MiB"
        self._at_once = at_once
        self._name = name
        self._assets = assets
        self.running = asyncio.Event()
        self.stored = 0
        self.is_over = False
        self._made = 0

    async def keep_on(self) -> None:
        """Keep two files waiting for each that is under way, and take away what is stored."""
        while not self.is_over:
            while self._made - self.stored < 3 * self._at_once:
                await self._add()
            await self._take_away()
            await asyncio.sleep(0.1)
            if self.stored >= self._at_once:
                self.running.set()
        while self.stored < self._made:
            await self._take_away()
            await asyncio.sleep(0.1)

    async def _add(self) -> None:
        task, files = f"{self._name}-{self._made}", 4
        links = [f"{self._link}/{task}-{index}.png" for index in range(files)]
        await self._service.submit(task)
        await self._service.call_back(task, *links)
        self._made += files

    async def _take_away(self) -> None:
        self.stored += await asyncio.to_thread(remove_all, self._assets / "vidgo")


def remove_all(folder: Path) -> int:
    paths = list(folder.glob("*/*.png"))
    for path in paths:
        path.unlink()
    return len(paths)


if __name__ == "__main__":
    sys.exit(main())
