"""`receiver simulate` as a user runs it: from an order to an image, and its end by a signal."""

import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from PIL import Image

SIMULATE = (sys.executable, "-m", "receiver", "simulate")
TIMEOUT_SECONDS = 30


@contextmanager
def simulator(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the URL that it says it plays at."""
    with subprocess.Popen([*SIMULATE, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None
            yield process, found[0]
        finally:
            process.kill()


def poll(http: httpx2.Client, path: str) -> dict[str, Any]:
    """The task's status answer once it has ended."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        task: dict[str, Any] = http.get(path).json()["data"]
        if task["status"] in {"finished", "failed"}:
            return task
        time.sleep(0.05)
    raise AssertionError("the task did not end")


def test_an_order_becomes_an_image_and_the_truth_about_it() -> None:
    order = {"model": "gpt-image-2", "input": {"prompt": "hills"}}
    with (
        simulator("--port", "0", "--task-seconds", "0") as (_, url),
        httpx2.Client(base_url=url, trust_env=False) as http,
    ):
        task_id = http.post("/vidgo/api/generate/submit", json=order).json()["data"]["task_id"]
        task = poll(http, f"/vidgo/api/generate/status/{task_id}")
        content = http.get(task["files"][0]["file_url"]).content
        (truth,) = http.get("/truth").json()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        size = (image.width, image.height)
    (true_file,) = truth["files"]
    assert (truth["task_id"], truth["state"]) == (task_id, "completed")
    assert size == (true_file["width"], true_file["height"])
    assert len(content) == true_file["bytes"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_good_order_while_a_task_is_running(number: signal.Signals) -> None:
    order = {"model": "gpt-image-2", "input": {"prompt": "hills"}}
    with simulator("--port", "0", "--task-seconds", "3600") as (process, url):
        answer = httpx2.post(f"{url}/apidot/api/generate/submit", json=order, trust_env=False)
        assert answer.status_code == 200
        process.send_signal(number)
        assert process.wait(TIMEOUT_SECONDS) == 0


def test_a_port_that_is_taken_is_named() -> None:
    with simulator("--port", "0") as (_, url):
        port = url.rpartition(":")[2]
        done = subprocess.run(
            [*SIMULATE, "--port", port], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_pillow_it_names_the_extra() -> None:
    without = "import sys; sys.modules['PIL'] = None; from receiver.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", without, "simulate", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'receiver[demo]'" in done.stderr
