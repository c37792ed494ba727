"""How long a task takes from its callback to the entry in Redis, and what all of it costs in processor time.

    python -m tests.bench.task [--tasks 300]

A service stores the task's one image of 14 kB, from a media host on loopback, and tells of it. First one task
at a time: from the callback's first byte to the moment at which a reader of the stream has the event. Then so
many as come, eight at a time, for the processor time of one. Redis is the one that the tests know
(``TEST_REDIS_URL``). The stream must have each task once.

Exits 1 when it has not, or when a target is missed.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import uvloop
from redis.asyncio import Redis

from tests.bench.readers import percentile
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.e2e.service import Receiver, receiver
from tests.support.media_host import MediaHost, media_host, picture, says
from tests.support.sink_hosts import SharedRedis

AT_ONCE = 8
IMAGE = picture(size=(68, 68), compress_level=0)  # about 14 kB
WAIT_SECONDS = 0.05  # between two tasks: then nothing of the one before is under way
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    chosen = parser.parse_args()
    host = SharedRedis()
    try:
        wait_for_quiet()
        with foreign() as cores, tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
            rows = uvloop.run(measure(Path(folder), host, chosen.tasks, chosen.rounds))
    finally:
        host.close()
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def measure(folder: Path, host: SharedRedis, tasks: int, rounds: int) -> list[Row]:
    settings = {"RECEIVER_SINK_QUEUE": host.url, "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8"}
    middle, late, busy = [], [], []
    async with media_host() as media, receiver(folder, settings) as service, Reader(host) as reader:
        files = Files(media, service, reader)
        await files.alone("warm", range(20))
        for number in range(rounds):
            took = sorted(await files.alone(f"alone-{number}", range(tasks)))
            middle.append(1000 * percentile(took, 50))
            late.append(1000 * percentile(took, 95))
            busy.append(1000 * await files.together(f"together-{number}", range(tasks)) / tasks)
    return [
        Row(measure="callback to Redis, p50", unit="ms", ours=middle, target=8, at_most=True),
        Row(measure="callback to Redis, p95", unit="ms", ours=late, target=15, at_most=True),
        Row(measure="processor time of a task", unit="ms", ours=busy, target=1.2, at_most=True),
    ]


class Files:
    """Tasks of one image each."""

    def __init__(self, media: MediaHost, service: Receiver, reader: "Reader") -> None:
        self._service = service
        self._reader = reader
        self._url = media.url
        media.otherwise = says(200, IMAGE)

    async def alone(self, name: str, numbers: Iterable[int]) -> list[float]:
        """The seconds until each was told of, one after the other."""
        took = []
        for number in numbers:
            task_id = f"{name}-{number}"
            await self._service.submit(task_id)
            await asyncio.sleep(WAIT_SECONDS)
            began = time.perf_counter()
            await self._service.call_back(task_id, self._url(f"/{task_id}.png"))
            took.append(await self._reader.seen_at(task_id) - began)
        return took

    async def together(self, name: str, numbers: Iterable[int]) -> float:
        """The seconds of processor time that all of them took, several at a time."""
        ids = [f"{name}-{number}" for number in numbers]
        for task_id in ids:
            await self._service.submit(task_id)
        waiting, before = iter(ids), busy_seconds(self._service)

        async def keep_on() -> None:
            for task_id in waiting:
                await self._service.call_back(task_id, self._url(f"/{task_id}.png"))
                await self._reader.seen_at(task_id)

        await asyncio.gather(*(keep_on() for _ in range(AT_ONCE)))
        return busy_seconds(self._service) - before


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
