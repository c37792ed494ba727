"""One real service that lacks what it lives on: a clear answer meanwhile, and back without a restart."""

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx2
import pytest

from receiver.config.settings import load_settings
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock, sample_callback
from receiver.web.app import build_app
from tests.e2e.service import (
    ADMIN_TOKEN,
    API_TOKEN,
    READY_SECONDS,
    SECRET,
    STOP_SECONDS,
    Receiver,
    bearer,
    consumer,
    receiver,
)
from tests.support.image_bytes import animated
from tests.support.media_host import media_host, picture, says
from tests.support.missing import missing
from tests.support.waiting import until
from tests.support.web_callers import callback_path, caller, log_task

PICTURE = picture()

# Where mounts are seen by a program alone; who is not root becomes it there, if the system lets them.
OWN_WORLD = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]

# Mounts an empty disk of $1 bytes on $0, which nobody else sees, and becomes what follows.
ON_OWN_DISK = 'mount -t tmpfs -o size="$1" none "$0" && shift && exec "$@"'


# The same with a copy of the folder $2 as its data, and no room beside it.
ON_FULL_DISK = (
    'mount -t tmpfs -o size="$1" none "$0" && cp -r "$2" "$0/data" && shift 2'
    ' && { cat /dev/zero > "$0/balloon" 2> /dev/null; exec "$@"; }'
)


class Confined(Receiver):
    """A service that another program starts: on a disk of its own, or with other numbers inside."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], *, before: Sequence[str] = (), code: str = ""
    ) -> None:
        super().__init__(folder, settings)
        self._before = before
        self._code = code

    def launch(self) -> None:
        main = (
            ["-c", f"{self._code}\nfrom receiver.cli import main; main()"]
            if self._code
            else ["-m", "receiver"]
        )
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._before, sys.executable, *main, "serve"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


@asynccontextmanager
async def confined(
    folder: Path, settings: Mapping[str, str] | None = None, *, before: Sequence[str] = (), code: str = ""
) -> AsyncIterator[Confined]:
    service = Confined(folder, settings or {}, before=before, code=code)
    try:
        async with service.http:
            await service.start()
            yield service
    finally:
        service.discard()


class Disk:
    """A folder that is a small disk to one service alone; others reach it through that process."""

    def __init__(self, folder: Path, *, size: str, holds: Path | None = None) -> None:
        """``holds``: what lies on it as ``data``, with no room beside it."""
        folder.mkdir()
        self._folder = folder
        script = ON_FULL_DISK if holds else ON_OWN_DISK
        self.before = [*OWN_WORLD, "sh", "-c", script, str(folder), size, *([str(holds)] if holds else [])]
        require_mounts()

    def seen_by(self, service: Receiver) -> Path:
        return Path(f"/proc/{service.pid}/root{self._folder}")

    def fill(self, service: Receiver, *, leave: int = 0) -> None:
        """Fill it but for ``leave`` bytes."""
        place = self.seen_by(service)
        with (place / "balloon").open("wb", buffering=0) as balloon, suppress(OSError):
            while not leave or shutil.disk_usage(place).free > leave:
                balloon.write(bytes(4096))

    def empty(self, service: Receiver) -> None:
        (self.seen_by(service) / "balloon").unlink()


@cache
def require_mounts() -> None:
    try:
        subprocess.run([*OWN_WORLD, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except OSError as exc:
        missing(f"no small disk can be made here: {exc}")
    except subprocess.CalledProcessError as exc:  # a sandbox, which no script of ours can open
        pytest.skip(f"nobody may mount a disk here: {exc.stderr.decode().strip()}")


@contextmanager
def failing(service: Receiver, calls: str, error: str, *, path: Path | None = None) -> Iterator[None]:
    """Some system calls of the service fail, on one file or on all."""
    program = shutil.which("strace") or missing("strace is not installed")
    only = ["-P", str(path)] if path else []
    command = [program, "-f", "-p", str(service.pid), *only, "-e", f"inject={calls}:error={error}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        first = strace.stderr.readline()
        if "attached" not in first:
            strace.kill()
            pytest.skip(f"nobody may trace a process here: {first.strip()}")
        reading = subprocess.Popen(["cat"], stdin=strace.stderr, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            strace.terminate()
            strace.wait(10)
            reading.wait(10)


async def send(service: Receiver, task_id: str, *files: str) -> httpx2.Response:
    """A callback, whatever comes of it."""
    body = sample_callback("vidgo", task_id, files=files, error=None if files else "nsfw")
    return await service.http.post(service.callback_path(), content=body)


def assert_refused_for_now(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"


async def is_up(service: Receiver) -> bool:
    """The same of one that has perhaps not begun to listen."""
    with suppress(httpx2.TransportError):
        return await is_ready(service)
    return False


async def is_ready(service: Receiver) -> bool:
    return (await service.parts())[""] == "200"


async def problem(service: Receiver) -> str:
    """What readiness says of the store, which is not ready, or will not be once a second has passed."""
    await until(lambda: not_ready(service))
    return (await service.parts())["store"]


async def not_ready(service: Receiver) -> bool:
    return not await is_ready(service)


def logged(service: Receiver, event: str) -> list[dict[str, Any]]:
    """The lines of the log about one kind of event."""
    lines = (line for line in service.output().splitlines() if line.startswith("{"))
    return [line for line in map(json.loads, lines) if line["event"] == event]


# --- disks --------------------------------------------------------------------------------------------


async def test_a_full_disk_is_a_503_until_there_is_room_again_and_nothing_answered_is_lost(
    tmp_path: Path,
) -> None:
    disk = Disk(tmp_path / "data", size="8m")
    async with confined(tmp_path, before=disk.before) as service:
        service.data = disk.seen_by(service)
        await service.finish("before")
        await until(lambda: service.told() == ["before"])
        disk.fill(service)
        taken, refused = {"before"}, set()
        for number in range(40):
            answer = await send(service, f"task-{number}")
            if answer.status_code == 200:
                taken.add(f"task-{number}")  # in the last page of a file there may be room
            else:
                assert_refused_for_now(answer)
                refused.add(f"task-{number}")
        assert refused
        assert "SQLITE_FULL" in await problem(service)
        assert (await service.http.get("/healthz")).status_code == 200
        assert (await service.task("before"))["state"] == "failed"  # what is there can be read
        assert [line["reason"] for line in logged(service, "store.failed")] == ["SQLITE_FULL"]

        disk.empty(service)
        await until(lambda: is_ready(service))
        for task_id in refused:
            assert (await send(service, task_id)).status_code == 200
        for task_id in (taken | refused) - {"before"}:
            await service.submit(task_id)
        await until(lambda: set(service.told()) == taken | refused)
        assert logged(service, "store.recovered")
        assert "Traceback" not in service.output()


async def test_a_start_on_a_full_disk_says_what_to_do_and_ends_with_1(tmp_path: Path) -> None:
    async with receiver(tmp_path) as before:
        await before.finish("t1")
        await before.stop()
    disk = Disk(tmp_path / "full", size="2m", holds=before.data)
    service = Confined(tmp_path, {"RECEIVER_DATA_DIR": str(tmp_path / "full/data")}, before=disk.before)
    service.launch()
    try:
        assert await service.ended() == 1  # what systemd tries again
    finally:
        service.discard()
        await service.http.aclose()
    (said,) = (line for line in service.output().splitlines() if line.startswith("receiver: "))
    assert "cannot be opened now" in said
    assert "has room" in said
    assert "backup" not in said
    assert "Traceback" not in service.output()


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_a_log_on_a_full_disk_stops_nothing(tmp_path: Path, log_format: str) -> None:
    service = Receiver(tmp_path, {"RECEIVER_LOG_FORMAT": log_format})
    service._output = Path("/dev/full")
    tasks = sorted(f"t{number}" for number in range(60))  # more lines than a buffer holds
    try:
        async with service.http:
            await service.start()
            for task_id in tasks:
                await service.finish(task_id)
            assert (await service.http.post("/callbacks/vidgo/wrong")).status_code == 401
            await until(lambda: service.told() == tasks)
            assert await is_ready(service)
            await service.stop()
    finally:
        service.discard()


async def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    service = Receiver(tmp_path, {})
    service._output = Path(f"/proc/self/fd/{writing}")
    tasks = sorted(f"t{number}" for number in range(400))  # some thousand lines; a pipe holds some hundred
    try:
        async with service.http:
            service.launch()
            os.close(writing)
            await until(lambda: is_up(service), READY_SECONDS)
            for task_id in tasks:
                await service.finish(task_id)
            await until(lambda: service.told() == tasks)
            assert await is_ready(service)
            assert await service.stop() < STOP_SECONDS
    finally:
        service.discard()
        os.close(reading)


async def test_a_full_disk_of_files_alone_lets_callbacks_in_and_downloads_wait(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "files", size="1m")
    settings = {"RECEIVER_ASSETS_URL": f"file://{tmp_path}/files"}
    short = "import receiver.fetching.fetcher; receiver.fetching.fetcher.STORAGE_WAIT_SECONDS = 1.0"
    async with (
        media_host() as host,
        confined(tmp_path, settings, before=disk.before, code=short) as service,
    ):
        disk.fill(service)
        await service.finish("with-file", host.put("/t.png", says(200, PICTURE)))
        await service.finish("without")
        await until(lambda: service.told() == ["without"])
        await until(lambda: logged(service, "asset.settled"))
        (first, *_) = logged(service, "asset.settled")
        assert (first["outcome"], first["detail"]) == (
            "storage_failed",
            "the disk refused: No space left on device",
        )
        assert await is_ready(service)
        numbers = (await service.http.get("/metrics")).text
        assert 'receiver_assets_total{outcome="storage_failed",provider="vidgo"}' in numbers
        assert (await service.task("with-file"))["state"] == "fetching"

        disk.empty(service)
        await until(lambda: service.told() == ["with-file", "without"])
        (stored,) = disk.seen_by(service).rglob("*.png")
        assert stored.read_bytes() == PICTURE
        assert [path for path in disk.seen_by(service).glob(".incoming/*") if path.is_file()] == []


async def test_files_leave_the_last_of_the_disk_to_the_record(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "data", size="64m")  # a twentieth of it is kept
    short = "import receiver.fetching.fetcher; receiver.fetching.fetcher.STORAGE_WAIT_SECONDS = 1.0"
    async with media_host() as host, confined(tmp_path, before=disk.before, code=short) as service:
        service.data = disk.seen_by(service)
        disk.fill(service, leave=2 << 20)
        await service.finish("with-file", host.put("/t.png", says(200, PICTURE)))
        await until(lambda: logged(service, "asset.settled"))
        (first, *_) = logged(service, "asset.settled")
        assert first["outcome"] == "storage_failed"
        assert "kept for the record" in first["detail"]
        assert host.requests == []  # not even asked for
        await service.finish("without")
        await until(lambda: service.told() == ["without"])
        assert "kept for the record" in (await service.http.get("/readyz", headers=bearer(ADMIN_TOKEN))).text

        disk.empty(service)
        await until(lambda: service.told() == ["with-file", "without"])


@pytest.mark.parametrize(
    ("calls", "error", "name"),
    [("fdatasync,fsync", "EIO", "SQLITE_IOERR_FSYNC"), ("pwrite64", "EROFS", "SQLITE_")],
    ids=["fsync", "read-only"],
)
async def test_a_disk_that_refuses_is_a_503_until_a_commit_is_seen_to_work(
    tmp_path: Path, calls: str, error: str, name: str
) -> None:
    async with receiver(tmp_path) as service:
        await service.finish("before")
        await until(lambda: service.told() == ["before"])
        with failing(service, calls, error):
            answers = await asyncio.gather(*(send(service, f"task-{number}") for number in range(5)))
            for answer in answers:
                assert_refused_for_now(answer)
            assert name in await problem(service)
        await until(lambda: is_ready(service))
        for number in range(5):
            await service.finish(f"task-{number}")
        await until(lambda: len(service.told()) == 6)
        assert "Traceback" not in service.output()
        await service.kill()
        await service.start()
        for number in range(5):
            assert (await service.task(f"task-{number}"))["state"] == "failed"


async def test_a_data_folder_that_is_read_only_ends_the_start_with_2(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "data", size="1m")
    read_only = [part.replace(" && shift", ' && mount -o remount,ro "$0" && shift') for part in disk.before]
    service = Confined(tmp_path, {}, before=read_only)
    service.launch()
    try:
        assert await service.ended() == 2
    finally:
        service.discard()
        await service.http.aclose()
    assert "Read-only file system" in service.output()
    assert "Traceback" not in service.output()


async def test_a_database_that_another_program_locks_is_a_503_in_time_and_used_again(tmp_path: Path) -> None:
    async with receiver(tmp_path) as service:
        await service.submit("t1")
        with closing(sqlite3.connect(service.data / "receiver.db", isolation_level=None)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            asked = asyncio.create_task(problem(service))
            answers = await asyncio.gather(*(send(service, "t1") for _ in range(20)))
            assert time.monotonic() - began < 9  # the providers wait for 10 s at least
            for answer in answers:
                assert_refused_for_now(answer)
            await asked
            assert (await service.task("t1"))["state"] == "submitted"  # readers are not kept waiting
            intruder.execute("ROLLBACK")
        assert (await send(service, "t1")).status_code == 200
        await until(lambda: service.told() == ["t1"])
        await until(lambda: is_ready(service))


# --- descriptors and memory ---------------------------------------------------------------------------


async def test_without_descriptors_the_service_lives_and_is_back_once_there_are_some(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (64, 64))
        crowd = []
        for _ in range(150):
            with suppress(OSError):
                crowd.append(await asyncio.open_connection("127.0.0.1", service.port))
        await asyncio.sleep(1)
        for _, writer in crowd:
            writer.close()
        for _, writer in crowd:
            with suppress(OSError):
                await writer.wait_closed()

        async def answers() -> bool:
            try:
                return (await service.http.get("/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(answers)
        await service.finish("t1", host.put("/t1.png", says(200, PICTURE)))
        await until(lambda: service.told() == ["t1"])
        assert (await service.task("t1"))["state"] == "completed"


async def test_files_larger_than_the_memory_that_is_left_pass_through_it(tmp_path: Path) -> None:
    large = picture(size=(3000, 2700), compress_level=0)
    left = 2 * len(large)
    async with media_host() as host, receiver(tmp_path) as service:
        warm = [f"warm-{number}" for number in range(8)]  # every thread is started and has its stack
        for task_id in warm:
            await service.finish(task_id, host.put("/warm.png", says(200, PICTURE)))
        await until(lambda: service.told() == warm)
        resident, space = memory_bytes(service, "VmRSS"), memory_bytes(service, "VmSize")
        resource.prlimit(service.pid, resource.RLIMIT_AS, (space + left, space + left))
        tasks = [f"large-{number}" for number in range(4)]
        for task_id in tasks:
            await service.finish(task_id, host.put("/large.png", says(200, large)))
        await until(lambda: service.told() == sorted([*warm, *tasks]))
        assert {event["type"] for event in service.events()} == {"task.completed"}
        assert memory_bytes(service, "VmHWM") - resident < left  # of twice as much that passed
        assert await is_ready(service)


def memory_bytes(service: Receiver, name: str) -> int:
    """How much the system says that the process has: VmSize reserved, VmRSS in use, VmHWM at most so far."""
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


# --- time ---------------------------------------------------------------------------------------------


async def test_frozen_for_longer_than_its_leases_it_does_everything_once_more_at_most(tmp_path: Path) -> None:
    short = "import receiver.loops; receiver.loops.LEASE_GRACE_SECONDS = 0.5"
    settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl", "RECEIVER_SINK_HOOK_TIMEOUT_SECONDS": "1"}
    async with consumer() as host:
        await host.start()
        host.silent = True
        settings["RECEIVER_SINK_HOOK"] = host.url
        async with confined(tmp_path, settings, code=short) as service:
            await service.finish("t1")
            await until(lambda: len(host.bodies) == 1)
            service.signal(signal.SIGSTOP)
            await asyncio.sleep(2.5)  # the lease of 1.5 s is over
            host.silent = False
            service.signal(signal.SIGCONT)

            async def settled() -> bool:
                return {each["state"] for each in (await service.task("t1"))["notifications"]} == {
                    "delivered"
                }

            await until(settled)
            await asyncio.sleep(0.5)
            assert len(set(host.bodies)) == 1
            assert len(host.bodies) <= 3
            assert service.told() == ["t1"]
            assert await is_ready(service)


async def test_large_files_being_looked_into_do_not_hold_up_callbacks(tmp_path: Path) -> None:
    hard = animated("GIF", frames=1500)
    async with media_host() as host, receiver(tmp_path) as service:
        url = host.put("/hard.gif", says(200, hard))
        for number in range(40):
            await service.finish(f"file-{number}", url)
        waits: list[float] = []
        while len(waits) < 100:
            began = time.monotonic()
            assert (await send(service, f"callback-{len(waits)}")).status_code == 200
            waits.append(time.monotonic() - began)
        assert median(waits) < 0.5
        assert max(waits) < 10  # the shortest patience of a provider
        await until(lambda: len(service.told()) == 40)


class Here(NamedTuple):
    runtime: Runtime
    backend: httpx2.AsyncClient
    stranger: httpx2.AsyncClient

    async def fail(self, task_id: str) -> None:
        """One owned task from its submission to its only callback."""
        await log_task(self.backend, task_id)
        answer = await self.stranger.post(
            callback_path(self.runtime), content=sample_callback("vidgo", task_id, error="nsfw")
        )
        assert answer.json()["status"] == "accepted", answer.text

    async def pass_by(self, clock: TurnableClock, seconds: int) -> None:
        """Time goes on; the loops look at every second of it."""
        for _ in range(seconds):
            clock.turn(1)
            self.runtime.worker.wake()
            await asyncio.sleep(0.03)


@asynccontextmanager
async def running(folder: Path, clock: TurnableClock, settings: Mapping[str, str]) -> AsyncIterator[Here]:
    """The service in this process, by a clock whose hands can be moved."""
    environment = {
        "RECEIVER_DATA_DIR": str(folder / "data"),
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_API_TOKENS": API_TOKEN,
        "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
        **settings,
    }
    async with open_runtime(load_settings(environment), clock=clock) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, caller(app) as stranger:
            yield Here(runtime, backend, stranger)


DAY_SECONDS = 86_400.0


@pytest.mark.parametrize("jump_seconds", [DAY_SECONDS, -DAY_SECONDS], ids=["forward", "back"])
async def test_retries_are_neither_lost_nor_fired_in_a_storm_when_the_clock_jumps_by_a_day(
    tmp_path: Path, jump_seconds: float
) -> None:
    clock = TurnableClock(datetime.now(UTC))
    async with consumer() as host:
        await host.start()
        host.head = b"HTTP/1.1 500 X"
        settings = {"RECEIVER_SINK_HOOK": host.url}
        async with running(tmp_path, clock, settings) as here:
            tasks = [f"t{number}" for number in range(20)]
            for task_id in tasks:
                await here.fail(task_id)
            # It is taken for down, so that few are tried, one at a time; the others wait for it.
            await until(lambda: here.runtime.worker.status()["sink hook"].startswith("running, but "))
            await asyncio.sleep(0.2)
            before = len(host.bodies)
            clock.leap(jump_seconds)
            here.runtime.worker.wake()
            await asyncio.sleep(0.5)
            assert len(host.bodies) - before <= len(tasks)  # each once more at most
            host.head = b"HTTP/1.1 200 X"
            await here.pass_by(clock, 40)  # the longest that it is not tried, and some more

            async def all_delivered() -> bool:
                await here.pass_by(clock, 1)
                stats = await here.runtime.store.count_stats()
                return stats.outbox == {"hook": {"delivered": len(tasks)}}

            await until(all_delivered)
            await here.fail("afterwards")
            await until(lambda: "afterwards" in host.told())


async def test_a_loop_that_is_killed_from_inside_is_seen_counted_and_started_again(tmp_path: Path) -> None:
    async with running(tmp_path, TurnableClock(datetime.now(UTC)), {}) as here:
        here.runtime.worker._restart_seconds = 5.0
        (loop,) = (task for task in asyncio.all_tasks() if task.get_name() == "sink jsonl")
        loop.cancel()
        await asyncio.sleep(0.05)
        answer = await here.stranger.get("/readyz", headers=bearer(ADMIN_TOKEN))
        assert answer.status_code == 503
        assert answer.json()["parts"]["sink jsonl"] == "restarting after CancelledError"
        await here.fail("t1")  # callbacks are taken meanwhile

        async def is_back() -> bool:
            return (await here.stranger.get("/readyz")).status_code == 200

        await until(is_back)
        events = tmp_path / "data/events.jsonl"
        await until(lambda: events.exists() and b'"t1"' in events.read_bytes())
        numbers = (await here.stranger.get("/metrics")).text
        assert 'receiver_loop_restarts_total{loop="sink jsonl"} 1.0' in numbers


async def test_a_sink_whose_name_nobody_resolves_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.53\noptions timeout:5 attempts:2\n")
    there = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'  # seen by the service alone
    before = [*OWN_WORLD, "sh", "-c", there, str(tmp_path / "resolv.conf")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:  # takes questions, answers none
        try:
            silent.bind(("127.0.0.53", 53))
            require_mounts()
        except PermissionError as exc:
            pytest.skip(f"nobody may play a name server here: {exc}")
        async with consumer() as well:
            await well.start()
            settings = {
                "RECEIVER_SINK_FILE": "jsonl:events.jsonl",
                "RECEIVER_SINK_DEAD": "http://hooks.example.com/hook",
                "RECEIVER_SINK_DEAD_TIMEOUT_SECONDS": "1",
                "RECEIVER_SINK_WELL": well.url.replace("127.0.0.1", "localhost"),
            }
            async with confined(tmp_path, settings, before=before) as service:
                tasks = sorted(f"t{number}" for number in range(20))
                for task_id in tasks:
                    await service.finish(task_id)
                await until(lambda: service.told() == well.told() == tasks)
                await asyncio.sleep(1.5)  # by now the dead one has asked for all it can
                await service.finish("u")
                await until(lambda: well.told() == [*tasks, "u"])
                outcomes = [each["outcome"] for each in (await service.task("t0"))["attempts"]]
                assert set(outcomes) == {"delivered", "timeout"}
