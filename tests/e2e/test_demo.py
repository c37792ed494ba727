"""`receiver demo` as a user runs it: a process of its own, judged by its exit code and by what it leaves."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from receiver.cli.demo.service import run_service, service_environment
from receiver.errors import Unavailable
from tests.support.terminals import at_a_terminal

DEMO = (sys.executable, "-m", "receiver", "demo")
TIMEOUT_SECONDS = 120
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}

# Settings that somebody's shell may hold for a real service; each would stop or misdirect ours.
FOREIGN = {
    "RECEIVER_NO_SUCH_SETTING": "1",
    "RECEIVER_DATA_DIR": "/nowhere",
    "DATABASE_URL": "postgres://db.example/receiver",
    "PORT": "1",
    "DYNO": "web.1",
}


def start(*command: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=os.environ | (environ or {}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def run(folder: Path, *options: str, **more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return start(*DEMO, "--folder", str(folder), *options, **more)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*DEMO, "--folder", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=TIMEOUT_SECONDS)


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"it never said {pattern!r}:\n{said}")


def events_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data/events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def told(folder: Path) -> subprocess.CompletedProcess[str]:
    """One whole run, with its output."""
    return run(folder, "--tasks", "16", environ=FOREIGN)


def test_every_promise_holds_and_it_exits_with_0(told: subprocess.CompletedProcess[str]) -> None:
    assert told.returncode == 0, told.stdout + told.stderr
    assert "FAILED" not in told.stdout
    assert len(re.findall(r"^ok ", told.stdout, re.MULTILINE)) == 14


def test_the_table_counts_what_happened_at_each_provider(told: subprocess.CompletedProcess[str]) -> None:
    table = told.stdout.partition("What happened\n")[2].partition("\n\n")[0].splitlines()
    assert table[0].split() == ["Vidgo", "APIDot", "APIXO", "reAPI", "Replicate", "WaveSpeed", "all"]
    rows = {name: numbers for name, *numbers in map(str.split, table[1:])}
    assert float(rows.pop("US")[-1].replace(",", "")) > 0  # cents
    counts = {name: int(numbers[-1].replace(",", "")) for name, numbers in rows.items()}
    assert (counts["tasks"], counts["completed"], counts["failed"]) == (16, 15, 1)
    assert counts["notifications"] == 16
    assert counts["images"] > 16
    assert counts["kilobytes"] > 100
    assert counts["callbacks"] > counts["duplicates"] > counts["early"] > 0
    assert counts["polled"] > 4
    assert rows["tasks"] == ["3", "3", "3", "3", "2", "2", "16"]


def test_an_outage_in_the_middle_of_the_burst_loses_no_task(tmp_path: Path) -> None:
    done = run(tmp_path, "--outage", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("The service is down for 3 seconds\n") == 1  # a line for each phase
    silent = re.search(r"^ok +A task without a callback was asked .* \((\d+)\)$", done.stdout, re.MULTILINE)
    assert silent
    assert int(silent[1]) >= 12  # half of all, at least: their callbacks found nobody


def test_an_outage_at_a_terminal_draws_each_phase_on_one_line(tmp_path: Path) -> None:
    words = ("demo", "--outage", "3", "--tasks", "8", "--folder", str(tmp_path))
    demo = at_a_terminal(*words, environ={}, columns=80)
    assert demo.code == 0, demo.text
    down = "The service is down for 3 seconds"
    assert sum(down in line for line in demo.lines) == 1
    assert sum(down in line for line in demo.all) > 5  # drawn again and again
    for phase in ("Submitting 8 tasks", down, "Waiting for callbacks, images and notifications"):
        assert re.search(rf"^{phase}  \[#+\]  100%$", demo.text, re.MULTILINE)
    own_words = [line for line in demo.all if str(tmp_path) not in line]  # a path stays whole
    assert max(map(len, own_words)) <= 80


def test_the_images_it_leaves_open_at_the_size_that_was_told(
    told: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert told.returncode == 0
    images = [image for event in events_in(folder / "run-1") for image in event["data"]["assets"]]
    assert {image["media_type"] for image in images} == set(FORMATS)
    for image in images:
        with Image.open(folder / "run-1/data/assets" / image["key"]) as opened:
            opened.load()
            assert (opened.width, opened.height) == (image["width"], image["height"])
            assert opened.format == FORMATS[image["media_type"]]


def test_a_second_run_leaves_the_first_alone_and_prints_one_json_document(
    told: subprocess.CompletedProcess[str], folder: Path
) -> None:
    assert told.returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (folder / "run-1").rglob("*")}
    again = run(folder, "--tasks", "4", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    report = json.loads(again.stdout)
    assert report["ok"] is True
    assert {expectation["held"] for expectation in report["expectations"]} == {True}
    assert sum(provider["tasks"] for provider in report["providers"]) == 4
    assert Path(report["places"]["events"]).parent == folder / "run-2/data"
    assert len(events_in(folder / "run-2")) == 4
    assert {path: path.stat().st_mtime_ns for path in (folder / "run-1").rglob("*")} == before


def test_a_service_that_dies_breaks_a_promise_which_is_named(tmp_path: Path) -> None:
    with running(tmp_path, "--tasks", "4", "--keep") as demo:
        service = int(read_until(demo, r"\(process (\d+)\)")[1])
        os.kill(service, signal.SIGKILL)
        read_until(demo, r"^FAILED +The service stopped within 10 seconds of SIGTERM")
        read_until(demo, "it had ended before it was asked to, with exit code -9")
        assert demo.wait(TIMEOUT_SECONDS) == 1


def test_what_is_kept_runs_until_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path, "--tasks", "4", "--keep") as demo:
        url = read_until(demo, r"^  service +(http://\S+)")[1]
        link = read_until(demo, r"^  pages +(http://\S+)")[1]
        read_until(demo, "receiver tasks list")
        assert "<button>Log in</button>" in httpx2.get(link, trust_env=False, verify=False, timeout=60.0).text
        assert httpx2.get(f"{url}/readyz", trust_env=False, verify=False, timeout=60.0).status_code == 200
        demo.send_signal(signal.SIGINT)
        read_until(demo, r"^ok +The service stopped within 10 seconds of SIGTERM")
        assert demo.wait(TIMEOUT_SECONDS) == 0
        assert is_silent(url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_middle_it_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as demo:
        url = read_until(demo, r"^The service is at (\S+),")[1]
        demo.send_signal(number)
        assert demo.wait(TIMEOUT_SECONDS) == 1
        assert is_silent(url)


def is_silent(url: str) -> bool:
    try:
        httpx2.get(url, trust_env=False, verify=False, timeout=60.0)
    except httpx2.ConnectError:
        return True
    return False


def test_without_pillow_it_names_the_extra_and_leaves_nothing(tmp_path: Path) -> None:
    without = "import sys; sys.modules['PIL'] = None; from receiver.cli import main; main(sys.argv[1:])"
    done = start(sys.executable, "-c", without, "demo", "--folder", str(tmp_path / "new"))
    assert done.returncode == 2
    assert "callback-receiver[demo]" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_port_that_is_taken_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run(tmp_path / "new", "--port", str(port))
    assert done.returncode == 1
    assert f"port {port} cannot be used" in done.stderr
    assert not (tmp_path / "new").exists()


async def test_a_service_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    environment = service_environment(os.environ, tmp_path / "data", 1) | {"RECEIVER_NO_SUCH_SETTING": "1"}
    with pytest.raises(Unavailable, match=r"(?s)exit code 2.*RECEIVER_NO_SUCH_SETTING is not a setting"):
        async with run_service(environment, "http://127.0.0.1:1", tmp_path / "service.log"):
            pass
