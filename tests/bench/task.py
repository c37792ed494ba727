"""How long a task takes from its callback to the entry in Redis, and what all of it costs in processor time.

    python -m tests.bench.task [--tasks 300] [--against COMMIT]

A service stores the task's one image of 14 kB, from a media host on loopback, and tells of it. First one task
at a time: from the callback's first byte to the moment at which a reader of the stream has the event. Then so
many as come, eight at a time, for the processor time of one. Redis is the one that the tests know
(``TEST_REDIS_URL``). The stream must have each task once. With ``--against`` the service of another commit
has as many by turns, as the yardstick of the processor time: a ratio that holds on a busy machine, too.

Exits 1 when it has not, or when a target is missed.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import uvloop
from PIL.PngImagePlugin import PngInfo
from redis.asyncio import Redis

from tests.bench.ingest import ROOT, work_tree
from tests.bench.readers import percentile
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.e2e.service import Receiver
from tests.support.media_host import MediaHost, media_host, picture, says
from tests.support.sink_hosts import SharedRedis

AT_ONCE = 8
WAIT_SECONDS = 0.05  # between two tasks: then nothing of the one before is under way
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", metavar="COMMIT", help="a service of this commit, too")
    add_json(parser)
    chosen = parser.parse_args()
    host = SharedRedis()
    try:
        wait_for_quiet()
        with foreign() as cores, ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
            commit = chosen.against
            tree = stack.enter_context(work_tree(commit, folder / "tree")) if commit else None
            rows = uvloop.run(measure(folder, host, chosen.tasks, chosen.rounds, tree))
    finally:
        host.close()
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def measure(folder: Path, host: SharedRedis, tasks: int, rounds: int, other: Path | None) -> list[Row]:
    settings = {"RECEIVER_SINK_QUEUE": host.url, "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8"}
    middle, late, busy, other_busy = list[float](), list[float](), list[float](), list[float]()
    async with AsyncExitStack() as stack:
        media = await stack.enter_async_context(media_host())
        reader = await stack.enter_async_context(Reader(host))
        service = await stack.enter_async_context(receiver_of(ROOT, folder / "ours", settings))
        ours = Files(media, service, reader)
        await ours.alone("warm", range(20))
        theirs = None
        if other is not None:
            service = await stack.enter_async_context(receiver_of(other, folder / "theirs", settings))
            theirs = Files(media, service, reader)
            await theirs.alone("warm-theirs", range(20))
        for number in range(rounds):
            took = sorted(await ours.alone(f"alone-{number}", range(tasks)))
            middle.append(1000 * percentile(took, 50))
            late.append(1000 * percentile(took, 95))
            busy.append(1000 * await ours.together(f"together-{number}", range(tasks)) / tasks)
            if theirs is not None:
                spent = await theirs.together(f"theirs-{number}", range(tasks))
                other_busy.append(1000 * spent / tasks)
    rows = [
        Row(measure="callback to Redis, p50", unit="ms", ours=middle, target=8, at_most=True),
        Row(measure="callback to Redis, p95", unit="ms", ours=late, target=15, at_most=True),
        Row(measure="processor time of a task", unit="ms", ours=busy, target=1.2, at_most=True),
    ]
    if other_busy:
        beside = Row(
            measure="  beside the other commit", unit="ms", ours=busy, yardstick="it", theirs=other_busy
        )
        rows.append(beside)
    return rows


@asynccontextmanager
async def receiver_of(tree: Path, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Receiver]:
    """A service of a work tree, in an interpreter of its own: one that was forked pays for what it shares."""
    folder.mkdir()
    # Safe: else the folder that it is started in comes before all others.
    service = Receiver(folder, {**settings, "PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1"})
    try:
        async with service.http:
            await service.start()
            yield service
    finally:
        service.discard()


class Files:
    """Tasks of one image each."""

    def __init__(self, media: MediaHost, service: Receiver, reader: "Reader") -> None:
        self._service = service
        self._reader = reader
        self._media = media

    async def alone(self, name: str, numbers: Iterable[int]) -> list[float]:
        """The seconds until each was told of, one after the other."""
        took = []
        for number in numbers:
            task_id = f"{name}-{number}"
            await self._submit(task_id)
            await asyncio.sleep(WAIT_SECONDS)
            began = time.perf_counter()
            await self._service.call_back(task_id, self._media.url(f"/{task_id}.png"))
            took.append(await self._reader.seen_at(task_id) - began)
        return took

    async def together(self, name: str, numbers: Iterable[int]) -> float:
        """The seconds of processor time that all of them took, several at a time."""
        ids = [f"{name}-{number}" for number in numbers]
        for task_id in ids:
            await self._submit(task_id)
        waiting, before = iter(ids), busy_seconds(self._service)

        async def keep_on() -> None:
            for task_id in waiting:
                await self._service.call_back(task_id, self._media.url(f"/{task_id}.png"))
                await self._reader.seen_at(task_id)

        await asyncio.gather(*(keep_on() for _ in range(AT_ONCE)))
        return busy_seconds(self._service) - before

    async def _submit(self, task_id: str) -> None:
        self._media.put(f"/{task_id}.png", says(200, image_of(task_id)))
        await self._service.submit(task_id)


def image_of(task_id: str) -> bytes:
    """About 14 kB, of this task alone: of equal ones all but the first would be linked, one by one."""
    info = PngInfo()
    info.add_text("task", task_id)
    return picture(size=(68, 68), compress_level=0, pnginfo=info)


class Reader:
    """Reads the stream, and knows when it had the event of a task."""

    def __init__(self, host: SharedRedis) -> None:
        self._client = Redis.from_url(host.url.partition("?")[0], protocol=2)
        self._stream = host.stream
        self._seen: dict[str, asyncio.Future[float]] = {}

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await self._client.aclose()

    async def seen_at(self, task_id: str) -> float:
        return await self._of(task_id)

    def _of(self, task_id: str) -> "asyncio.Future[float]":
        return self._seen.setdefault(task_id, asyncio.get_running_loop().create_future())

    async def _read(self) -> None:
        last = b"0"
        while True:
            told: Any = await self._client.xread({self._stream: last}, block=1000)
            now = time.perf_counter()
            for _, entries in told:
                for _, fields in entries:
                    self._of(json.loads(fields[b"event"])["data"]["task_id"]).set_result(now)  # once
                last = entries[-1][0]


def busy_seconds(service: Receiver) -> float:
    """The processor time that the service has used."""
    fields = Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    sys.exit(main())
