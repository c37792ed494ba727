"""The service with Litestream above it, as deploy/litestream.sh starts it, on a machine that may be lost."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import msgspec

from tests.e2e.service import API_TOKEN, Receiver, bearer
from tests.support.missing import missing
from tests.support.places import ROOT
from tests.support.s3 import BUCKET, S3Server

DEPLOY = ROOT / "deploy"
CALLERS = 4


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """What a lost machine cost: how much was answered, and what of it is not there any more."""

    answered: int
    lost: int
    seconds: float  # from the first answer that is lost to the end of the machine
    restored_in: float  # seconds from the next start to readiness
    log_bytes: int  # the longest that the write-ahead log was


class Replicated(Receiver):
    def __init__(self, folder: Path, bucket: S3Server, **settings: str) -> None:
        programs = folder / "programs"
        programs.mkdir()
        litestream = shutil.which("litestream", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if litestream is None:
            missing("litestream is not installed (the test extra has it)")
        (programs / "litestream").symlink_to(litestream)
        script = programs / "receiver"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m receiver "$@"\n')
        script.chmod(0o755)
        given = {
            **bucket.environment,
            "BUCKET_NAME": BUCKET,
            "RECEIVER_ASSETS_URL": "s3:",
            "LITESTREAM_CONFIG": str(DEPLOY / "litestream.yml"),
            "PATH": f"{programs}:/usr/bin:/bin",
        }
        super().__init__(folder, given | settings)
        self.environment.pop("AWS_CA_BUNDLE", None)  # Litestream 0.5.17 does not start with one
        self.data.mkdir(mode=0o700)

    def launch(self) -> None:
        """What its user runs; root's part of the script is for volumes."""
        line = (DEPLOY / "litestream.sh").read_text().rpartition("\nfi\n")[2]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                ["sh", "-euc", line],
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill_all(self) -> None:
        """Everything that runs ends at one instant."""
        os.killpg(self.pid, signal.SIGKILL)

    def lose_the_disk(self) -> None:
        shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)

    def discard(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.kill_all()
        super().discard()


@asynccontextmanager
async def replicated(folder: Path, bucket: S3Server) -> AsyncIterator[Replicated]:
    """One that is ready; nothing of it runs on afterwards."""
    service = Replicated(folder, bucket)
    try:
        async with service.http:
            await service.start()
            yield service
    finally:
        service.discard()


async def lost_after(service: Replicated, seconds: float) -> Loss:
    """Lose the machine in the middle of a load, start another one, and look for all that was answered."""
    answered: dict[str, float] = {}
    longest = 0

    async def call() -> None:
        nonlocal longest
        while True:
            task_id = f"t{len(answered)}-{time.monotonic_ns()}"
            await service.finish(task_id)
            answered[task_id] = time.monotonic()
            with suppress(OSError):
                longest = max(longest, (service.data / "receiver.db-wal").stat().st_size)

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    await asyncio.sleep(seconds)
    ended = time.monotonic()
    service.kill_all()
    for each in callers:
        each.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await service.ended()
    service.lose_the_disk()
    began = time.monotonic()
    await service.start()
    restored_in = time.monotonic() - began
    lost = [at for task_id, at in answered.items() if not await is_ended(service.http, task_id)]
    return Loss(
        answered=len(answered),
        lost=len(lost),
        seconds=ended - min(lost, default=ended),
        restored_in=restored_in,
        log_bytes=longest,
    )


async def is_ended(http: httpx2.AsyncClient, task_id: str) -> bool:
    """Whether the record has the end of a task."""
    answer = await http.get(f"/tasks/vidgo/{task_id}", headers=bearer(API_TOKEN))
    return answer.status_code == 200 and answer.json()["state"] == "failed"
