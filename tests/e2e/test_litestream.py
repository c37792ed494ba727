"""Litestream beside the service: what a machine that is lost under load takes along, and what comes back."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.replicated import Replicated, lost_after, replicated
from tests.support.s3 import S3Server, seaweedfs
from tests.support.waiting import until

LOAD_SECONDS = 4
# A second, and what a busy machine of two cores adds to it.
MOST_LOST_SECONDS = 5


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


async def test_a_machine_that_is_lost_under_load_comes_back_without_its_last_second(
    bucket: S3Server, tmp_path: Path
) -> None:
    async with replicated(tmp_path, bucket) as service:
        loss = await lost_after(service, LOAD_SECONDS)
        assert loss.answered > 50
        assert loss.lost < loss.answered / 2
        assert loss.seconds < MOST_LOST_SECONDS
        assert loss.log_bytes < 64 * 2**20

        # Stopped in good order it loses nothing, and another machine goes on from there.
        await service.finish("last")
        assert "Litestream runs" in await doctor(service)
        await service.stop()
        service.lose_the_disk()
        await service.start()
        assert (await service.task("last"))["state"] == "failed"

        # Where its bucket is away, or it does not run, doctor says so; the hours are made up.
        took = await until(lambda: changes(service) if len(changes(service)) > 1 else None)
        made_old(took[:1])
        assert "Litestream cannot put away what it took 120 min ago" in await doctor(service)
        service.signal(signal.SIGKILL)  # it alone: the service goes on
        await service.finish("uncopied")
        made_old(changes(service))
        assert "Litestream does not run: the record's last change is 120 min younger" in await doctor(service)


def changes(service: Replicated) -> list[Path]:
    """What Litestream took of the log and still has, the oldest first."""
    return sorted(service.data.glob(".receiver.db-litestream/ltx/0/*.ltx"))


def made_old(files: list[Path]) -> None:
    for file in files:
        os.utime(file, (time.time() - 7200, time.time() - 7200))


async def doctor(service: Replicated) -> str:
    """What it says, on lines as wide as they want."""
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", "doctor"),
        env=service.environment | {"COLUMNS": "1000"},
        cwd=service.data,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return (await ran.communicate())[0].decode()
