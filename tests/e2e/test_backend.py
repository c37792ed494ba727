"""The code by which the manual connects a backend, run beside a real service and a played provider."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver.cli.demo.service import asking
from receiver.simulator import SECRETS
from tests.e2e.reader import reading, steps
from tests.e2e.service import API_TOKEN, Receiver, receiver
from tests.e2e.test_simulate import simulator
from tests.support.manual import README, printing
from tests.support.sink_hosts import RedisServer, accepts, free_port
from tests.support.waiting import until, wait_until

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
ORDER, HOOKS, STREAM = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SECONDS = 60.0
READING_SECONDS = 240.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@contextmanager
def consumer(folder: Path, port: int, secret: str = SECRET) -> Iterator[Path]:
    """The manual's webhook, once it listens on this port."""
    assert "9000" in HOOKS
    (folder / "hooks.py").write_text(HOOKS.replace("9000", str(port)))
    with printing(folder, "hooks.py", RECEIVER_WEBHOOK_SECRET=secret) as printed:
        wait_until(lambda: accepts(port), SECONDS)
        yield printed


def order(folder: Path, service: Receiver, providers: str) -> subprocess.CompletedProcess[str]:
    """The manual's order, as a backend with these settings runs it."""
    (folder / "order.py").write_text(ORDER)
    own = {
        "RECEIVER_URL": service.url,
        "RECEIVER_TOKEN": API_TOKEN,
        "VIDGO_API_KEY": "any-key-will-do",
        "VIDGO_BASE_URL": f"{providers}/vidgo",
    }
    command = [sys.executable, "order.py"]
    environ = {**os.environ, **own, "NO_PROXY": "*"}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )


async def test_a_backend_that_does_as_the_manual_says_is_told_of_its_task(tmp_path: Path) -> None:
    port = free_port()
    hook = {"RECEIVER_SINK_APP": f"http://127.0.0.1:{port}", "RECEIVER_SINK_APP_SECRET": SECRET}
    with simulator("--port", "0", "--own-ports", "0") as (_, providers), consumer(tmp_path, port) as printed:
        async with receiver(tmp_path, hook | asking(providers, SECRETS)) as service:
            ordered = order(tmp_path, service, providers)
            assert ordered.returncode == 0, ordered.stderr
            task_id = ordered.stdout.strip()
            assert await until(printed.read_text, SECONDS) == f"task.completed vidgo/{task_id} user-17\n"
            assert (await service.task(task_id))["state"] == "completed"


def test_what_the_manual_shows_of_a_backend_is_what_a_reader_sees(tmp_path: Path) -> None:
    with reading(tmp_path, READING_SECONDS) as reader:
        reader.save("order.py", ORDER)
        reader.save("hooks.py", HOOKS)
        for step in steps("backend", "## Try it on this machine"):
            reader.follow(step)


async def test_a_refused_order_leaves_no_reservation_that_waits(tmp_path: Path) -> None:
    with simulator("--port", "0", "--own-ports", "0", "--credits", "0") as (_, providers):
        async with receiver(tmp_path) as service:
            ordered = order(tmp_path, service, providers)
            assert ordered.returncode == 1
            assert "402" in ordered.stderr
            headers = {"authorization": f"Bearer {API_TOKEN}"}
            listed = (await service.http.get("/submissions", headers=headers)).json()["submissions"]
            assert [bool(row["withdrawn_at"]) for row in listed] == [True]


async def test_a_reader_of_the_stream_is_told_once_and_leaves_nothing_in_it(
    tmp_path: Path, redis: RedisServer
) -> None:
    assert "127.0.0.1:6379/0" in STREAM
    (tmp_path / "stream.py").write_text(STREAM.replace("6379", str(redis.port)))
    queue = {"RECEIVER_SINK_QUEUE": f"redis://127.0.0.1:{redis.port}/0?stream=images"}
    async with receiver(tmp_path, queue) as service:
        await service.finish("before")
        with printing(tmp_path, "stream.py") as printed:
            await service.finish("after")
            told = ["task.failed vidgo/after user-17", "task.failed vidgo/before user-17"]  # in any order
            await until(lambda: sorted(printed.read_text().splitlines()) == told, SECONDS)
            with redis.client(decode_responses=True) as client:
                await until(lambda: client.xlen("images") == 0, SECONDS)


async def test_the_consumer_takes_nothing_that_is_signed_with_another_secret(tmp_path: Path) -> None:
    port = free_port()
    hook = {"RECEIVER_SINK_APP": f"http://127.0.0.1:{port}", "RECEIVER_SINK_APP_SECRET": SECRET}
    other = SECRET[:-4] + "AAA="
    with consumer(tmp_path, port, other) as printed:
        async with receiver(tmp_path, hook) as service:
            await service.finish("t1")
            task = await until(lambda: refused(service), SECONDS)
            assert task["notifications"][0]["outcome"] == "refused"
            assert printed.read_text() == ""


async def refused(service: Receiver) -> dict[str, list[dict[str, str]]] | None:
    task = await service.task("t1")
    return task if task["notifications"][0]["outcome"] else None
