"""`receiver consume` as people run it: a function of theirs, a real Redis server, signals and mistakes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.testing import sample_notification
from tests.support.sink_hosts import RedisServer
from tests.support.waiting import wait_until

SECONDS = 60.0
HANDLERS = """
def on_event(event):
    print(event.type, event.subject, event.owner, flush=True)

nothing = None
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def command(url: str, place: str = "handlers:on_event") -> list[str]:
    options = ["--group", "app", "--exec", place, "--seen", "seen.db"]
    return [sys.executable, "-m", "receiver", "consume", url, *options]


def test_a_function_without_any_other_code_handles_each_event_once(redis: RedisServer, folder: Path) -> None:
    with redis.client() as client:
        for _ in range(2):  # a repeat
            client.xadd("events", {"event": sample_notification("evt_1").body})
    process = subprocess.Popen(command(redis.url), cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "task.completed vidgo/t1 user-17\n"
        wait_until(lambda: redis.received() == [], SECONDS)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(SECONDS), process.stdout.read()) == (0, "")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("url", "place", "words"),
    [
        ("redis://127.0.0.1:1", "no_such_module:on_event", "no_such_module"),
        ("redis://127.0.0.1:1", "handlers:on_evnt", "on_evnt"),
        ("redis://127.0.0.1:1", "handlers:nothing", "MODULE:FUNCTION"),
        ("redis://127.0.0.1:1", "handlers", "MODULE:FUNCTION"),
        ("amqp://127.0.0.1:1", "handlers:on_event", "redis://"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_ends_with_2(
    folder: Path, url: str, place: str, words: str
) -> None:
    done = subprocess.run(
        command(url, place), cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
