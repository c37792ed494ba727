"""From a reserved task to its image, its event and its end: as the manual has it, and what it leaves out."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.cli.demo.service import service_environment
from receiver.config.credentials import read_credentials
from tests.e2e.reader import agrees, reading, steps
from tests.support.media_host import picture
from tests.support.messages import cloud_event
from tests.support.places import SAMPLES
from tests.support.sink_hosts import free_port
from tests.support.waiting import wait_until

RECEIVER = (sys.executable, "-m", "receiver")
START_SECONDS = 60.0
STOP_SECONDS = 10.0  # what is promised
REPEATS = 100
READING_SECONDS = 240.0

WALKS = (
    "## A callback by hand, with curl",
    "## A callback that never comes",
    "## A replay",
    "## Dead letters",
)

SAMPLE = SAMPLES / "vidgo-callback-finished-image.json"
TASK_ID = "task-unified-1757165031-uyujaw3d"
IMAGE = picture("JPEG", (320, 200))
KEY = f"vidgo/{TASK_ID}/0.jpg"


class ImageServer(ThreadingHTTPServer):
    """Answers every GET with the image, once ``open`` is set; counts how often it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ImageHandler)
        self.open = threading.Event()
        self.asked = 0

    @property
    def link(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/image-abc123.jpg"

    def handle_error(self, request: object, client_address: object) -> None:
        """A receiver that was killed in the middle of a download is no error of ours."""


class ImageHandler(BaseHTTPRequestHandler):
    server: ImageServer

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.open.wait(START_SECONDS)
        self.send_response(200)
        self.send_header("content-length", str(len(IMAGE)))
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_message(self, *_: object) -> None:
        """Silent."""


class Walk:
    """One data folder, the service that is started on it, and a backend with curl in its hand."""

    def __init__(self, folder: Path, images: ImageServer) -> None:
        self.data = folder / "data"
        self.images = images
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = service_environment(os.environ, self.data, port)
        self._log = folder / "serve.log"

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        with (
            self._log.open("ab") as log,
            subprocess.Popen([*RECEIVER, "serve"], env=self.environment, stdout=log, stderr=log) as process,
        ):
            try:
                wait_until(self._is_ready, START_SECONDS)
                yield process
            finally:
                process.kill()

    def _is_ready(self) -> bool:
        try:
            return (
                httpx2.get(f"{self.url}/readyz", trust_env=False, verify=False, timeout=60.0).status_code
                == 200
            )
        except httpx2.TransportError:
            return False

    def backend(self) -> httpx2.Client:
        made = read_credentials(self.data)
        assert made is not None
        headers = {"authorization": f"Bearer {made.api_token}"}
        return httpx2.Client(base_url=self.url, headers=headers, trust_env=False, verify=False, timeout=60.0)

    def reserve(self) -> str:
        """Log first, submit later: the callback URL to hand to the provider."""
        order = {"provider": "vidgo", "owner": "user-17", "model": "gpt-image-2"}
        with self.backend() as backend:
            answer = backend.post("/submissions", json=order)
        assert answer.status_code == 201
        url: str = answer.json()["callback_url"]
        return url

    def callback(self) -> bytes:
        """The documented one, its link led to the image server of this test."""
        document = json.loads(SAMPLE.read_text())
        document["data"]["files"][0]["file_url"] = self.images.link
        return json.dumps(document).encode()

    def task(self) -> dict[str, Any]:
        with self.backend() as backend:
            answer = backend.get(f"/tasks/vidgo/{TASK_ID}")
        assert answer.status_code == 200
        document: dict[str, Any] = answer.json()
        return document

    def image(self) -> bytes | None:
        path = self.data / "assets" / KEY
        return path.read_bytes() if path.exists() else None

    def lines(self) -> list[bytes]:
        path = self.data / "events.jsonl"
        return path.read_bytes().splitlines() if path.exists() else []

    def holdings(self) -> dict[str, object]:
        """All that is kept, without what a repeat raises, links signed anew, and when it was counted."""
        task = self.task()
        for delivery in task["deliveries"]:
            del delivery["seen"], delivery["last_seen_at"]
        for asset in task["assets"]:
            del asset["url"]
        files = {
            path.relative_to(self.data): path.read_bytes() for path in (self.data / "assets").rglob("*.*")
        }
        stats = self.command_json("stats")
        del stats["counted_at"], stats["wal_bytes"]
        return {"task": task, "stats": stats, "files": files, "lines": self.lines()}

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RECEIVER, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    def command_json(self, *words: str) -> Any:
        done = self.command(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def images() -> Iterator[ImageServer]:
    with ImageServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.open.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def walk(tmp_path: Path, images: ImageServer) -> Walk:
    return Walk(tmp_path, images)


@pytest.fixture
def walked(walk: Walk) -> Iterator[Walk]:
    """The service still runs; one callback was taken, its image stored, its event written."""
    walk.images.open.set()
    with walk.serving():
        httpx2.post(
            walk.reserve(), content=walk.callback(), trust_env=False, verify=False, timeout=60.0
        ).raise_for_status()
        wait_until(walk.lines, START_SECONDS)
        wait_until(lambda: walk.task()["notifications"][0]["state"] == "delivered", START_SECONDS)
        yield walk


def test_what_the_manual_shows_of_the_demo_is_what_a_reader_sees(tmp_path: Path) -> None:
    (front_page, _), (chapter,) = steps("README", "## Sixty seconds"), steps("walks", "## The demo")
    install, _, demonstrate = front_page.commands.rpartition(" && ")
    assert install == "python3 -m venv .venv && .venv/bin/pip install '.[demo]'"  # what is here already
    assert front_page.shown
    assert chapter.shown
    assert agrees(front_page.shown, chapter.shown)  # which is the same, in whole
    with reading(tmp_path, READING_SECONDS) as reader:
        reader.follow(chapter._replace(commands=demonstrate))


def test_what_the_manual_shows_of_the_walks_is_what_a_reader_sees(tmp_path: Path) -> None:
    made_by_the_demo = tmp_path / "receiver-demo/run-1/data/assets/vidgo/task-1/0.jpg"
    made_by_the_demo.parent.mkdir(parents=True)
    made_by_the_demo.write_bytes(IMAGE)
    with reading(tmp_path, READING_SECONDS) as reader:
        for step in steps("walks", *WALKS):
            reader.follow(step)


SHOWN = """\
state          completed

2026-11-21T11:45:09.976Z  +0.0 s  callback received  accepted, seen 101 times, last +1.4 s
2026-11-21T11:45:10.018Z  +0.1 s  ended              completed
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("101 times", "102 times"),
        ("last +1.4 s", "last 2026-11-21T11:45:11.998Z"),
        ("state          completed", "state          failed"),
        ("accepted, seen", "accepted, proof submission, seen"),
        ("2026-11-21T11:45:10.018Z  +0.1 s  ended              completed\n", ""),
        ("ended              completed\n", "ended              completed\nsink\n"),
    ],
)
def test_what_the_manual_shows_and_is_not_so_is_told(right: str, wrong: str) -> None:
    assert right in SHOWN
    assert not agrees(SHOWN.replace(right, wrong), SHOWN)
    assert agrees(SHOWN.replace("10.018Z  +0.1 s", "12.345Z  +12.3 s"), SHOWN)
    assert agrees(SHOWN.replace("\n\n", "\n...\n"), SHOWN)


def test_from_a_reserved_task_to_its_image_its_timeline_and_one_event(walk: Walk) -> None:
    walk.images.open.set()
    with walk.serving():
        url = walk.reserve()
        answer = httpx2.post(url, content=walk.callback(), trust_env=False, verify=False, timeout=60.0)
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted", "task_id": TASK_ID})
        assert wait_until(walk.image) == IMAGE
        wait_until(walk.lines)
        task = wait_until(lambda: _delivered(walk.task()))
    assert (task["state"], task["type"], task["owner"]) == ("completed", "task.completed", "user-17")
    assert [delivery["verdict"] for delivery in task["deliveries"]] == ["accepted"]
    steps = [(attempt["target"], attempt["outcome"]) for attempt in task["attempts"]]
    assert steps == [("asset 0", "stored"), ("sink jsonl", "delivered")]
    times = [task["submitted_at"], task["bound_at"], task["attempts"][0]["started_at"], task["ended_at"]]
    assert times == sorted(times)
    (line,) = walk.lines()
    event = cloud_event(line)
    assert (event.get_id(), event.get_type()) == (task["event_id"], "task.completed")
    assert [asset["key"] for asset in event.get_data()["assets"]] == [KEY]
    assert walk.images.asked == 1


def _delivered(task: dict[str, Any]) -> dict[str, Any] | None:
    return task if [entry["state"] for entry in task["notifications"]] == ["delivered"] else None


async def test_the_same_callback_a_hundred_times_at_once_adds_nothing_but_a_count(walked: Walk) -> None:
    before = walked.holdings()
    submission = walked.command_json("submissions", "show", walked.task()["submission_id"])
    limits = httpx2.Limits(max_connections=REPEATS)
    async with httpx2.AsyncClient(
        trust_env=False, verify=False, limits=limits, timeout=START_SECONDS
    ) as provider:
        answers = await asyncio.gather(
            *(provider.post(submission["callback_url"], content=walked.callback()) for _ in range(REPEATS))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} == {"duplicate"}
    assert walked.holdings() == before
    assert walked.task()["deliveries"][0]["seen"] == 1 + REPEATS
    assert walked.images.asked == 1


def test_the_commands_show_the_same_to_people_and_to_scripts(walked: Walk) -> None:
    (row,) = walked.command_json("submissions", "list")["submissions"]
    assert walked.command_json("submissions", "show", row["id"])["task_id"] == TASK_ID
    (task,) = walked.command_json("tasks", "list", "--state", "completed")["tasks"]
    assert (task["task_id"], task["assets_stored"]) == (TASK_ID, 1)
    assert walked.command_json("tasks", "show", "vidgo", TASK_ID)["event_id"]
    assert walked.command_json("stats")["tasks"] == {"completed": 1}
    assert walked.command_json("doctor")["healthy"] is True

    assert TASK_ID in walked.command("tasks", "list").stdout
    timeline = walked.command("tasks", "show", "vidgo", TASK_ID).stdout
    steps = ("submitted", "bound", "callback received", "asset 0", "ended", "sink jsonl")
    places = [re.search(rf"Z +[+-]\d+\.\d s  {step}", timeline) for step in steps]
    assert all(places), timeline
    assert [place.start() for place in places if place] == sorted(place.start() for place in places if place)
    shown = walked.command("callback-url", "vidgo")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"{walked.url}/callbacks/vidgo/p.")
    assert "it is not https" in shown.stderr


def test_a_command_that_finds_nothing_exits_with_3(walked: Walk) -> None:
    for words in (
        ("tasks", "show", "vidgo", "no-such-task"),
        ("tasks", "list", "--owner", "nobody"),
        ("submissions", "show", "sub_none"),
        ("submissions", "list", "--owner", "nobody"),
    ):
        assert walked.command(*words).returncode == 3


def test_a_second_process_is_kept_off_the_same_data_folder(walked: Walk) -> None:
    refused = walked.command("migrate")
    assert refused.returncode == 1
    assert "in use by another receiver" in refused.stderr


def test_sigterm_ends_it_within_ten_seconds_though_a_download_hangs(walk: Walk) -> None:
    with walk.serving() as process:
        httpx2.post(
            walk.reserve(), content=walk.callback(), trust_env=False, verify=False, timeout=60.0
        ).raise_for_status()
        wait_until(lambda: walk.images.asked, START_SECONDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) in {0, -signal.SIGTERM}


@pytest.mark.parametrize("while_downloading", [False, True])
def test_killed_right_after_the_200_it_still_gets_the_image_and_sends_one_event(
    walk: Walk, *, while_downloading: bool
) -> None:
    with walk.serving() as process:
        url = walk.reserve()
        assert (
            httpx2.post(url, content=walk.callback(), trust_env=False, verify=False, timeout=60.0).status_code
            == 200
        )
        if while_downloading:
            wait_until(lambda: walk.images.asked, START_SECONDS)
        process.send_signal(signal.SIGKILL)
        process.wait(STOP_SECONDS)
    assert walk.image() is None
    assert walk.lines() == []
    walk.images.open.set()
    with walk.serving():
        assert wait_until(walk.image) == IMAGE
        wait_until(walk.lines)
        task = wait_until(lambda: _delivered(walk.task()))
        again = httpx2.post(url, content=walk.callback(), trust_env=False, verify=False, timeout=60.0)
    assert again.json()["status"] == "duplicate"
    assert task["state"] == "completed"
    (line,) = walk.lines()
    assert cloud_event(line).get_id() == task["event_id"]
