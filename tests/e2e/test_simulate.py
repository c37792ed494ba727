"""`receiver simulate` as a user runs it: from an order to an image, and its end by a signal."""

import io
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner
from PIL import Image

from receiver.cli.simulate import PROVIDERS, share, simulate

SIMULATE = (sys.executable, "-m", "receiver", "simulate")
TIMEOUT_SECONDS = 30


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the line that it starts with."""
    with subprocess.Popen([*SIMULATE, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            process.kill()


@contextmanager
def simulator(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the URL that it says it plays at."""
    with started(*options) as (process, line):
        yield process, url_in(line)


def url_in(line: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found is not None
    return found[0]


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
        httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=60.0) as http,
    ):
        task_id = http.post("/vidgo/api/generate/submit", json=order).json()["data"]["task_id"]
        task = poll(http, f"/vidgo/api/generate/status/{task_id}")
        content = http.get(task["files"][0]["file_url"]).content
        (truth,) = http.get("/truth").json()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        size = (image.width, image.height)
    (true_file,) = truth["files"]
    assert truth["simulate"]["outcome"] == "completed"
    assert (truth["task_id"], truth["state"]) == (task_id, "completed")
    assert size == (true_file["width"], true_file["height"])
    assert len(content) == true_file["bytes"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_good_order_while_a_task_is_running(number: signal.Signals) -> None:
    order = {"model": "gpt-image-2", "input": {"prompt": "hills"}}
    with simulator("--port", "0", "--task-seconds", "3600") as (process, url):
        answer = httpx2.post(
            f"{url}/apidot/api/generate/submit", json=order, trust_env=False, verify=False, timeout=60.0
        )
        assert answer.status_code == 200
        process.send_signal(number)
        assert process.wait(TIMEOUT_SECONDS) == 0


def test_it_says_where_each_provider_is_alone_at_the_root_and_at_which_paths() -> None:
    with started("--port", "0") as (process, line):
        assert process.stdout is not None
        lines = [line, *itertools.takewhile(lambda each: "List these paths" not in each, process.stdout)]
        alone = [
            found for each in lines if (found := re.match(r"(\w+)  (http://127\.0\.0\.1:\d+)  http:", each))
        ]
        assert [found[1] for found in alone] == list(PROVIDERS)
        answers = {
            found[1]: httpx2.get(f"{found[2]}/nothing", trust_env=False, verify=False, timeout=60.0).json()
            for found in alone
        }
    assert set(answers["reapi"]) == {"error"}
    assert {answers[name]["code"] for name in ("vidgo", "apidot", "apixo")} == {404}
    assert {answers[name]["code"] for name in ("wavespeed", "kie", "piapi")} == {404}
    paths = {tuple(each.split()[:2]) for each in lines if each.startswith("  ")}
    assert {("POST", "/api/generate/submit"), ("POST", "/api/v1/generateTask/{model}")} <= paths
    assert {("POST", "/api/v1/images/generations"), ("GET", "/truth")} <= paths
    assert max(len(each.rstrip()) for each in lines) <= 80


def test_it_says_where_it_plays_in_json_and_on_ports_that_were_typed() -> None:
    first = free_ports(1 + len(PROVIDERS))
    typed = ("--port", str(first), "--own-ports", str(first + 1), "--fail", "1", "--seed", "7", "--json")
    with started(*typed) as (_, line):
        places = json.loads(line)
        assert places["seed"] == 7
        urls = [places["url"], *places["providers"].values()]
        assert urls == [f"http://127.0.0.1:{first + number}" for number in range(1 + len(PROVIDERS))]
        assert list(places["providers"]) == list(PROVIDERS)


def test_a_port_nobody_typed_is_another_where_it_is_taken() -> None:
    first = free_ports(2)
    with socket.create_server(("127.0.0.1", first + 1)), started("--port", str(first), "--json") as (_, line):
        places = json.loads(line)
    assert places["url"] == f"http://127.0.0.1:{first}"
    assert places["providers"]["vidgo"] != f"http://127.0.0.1:{first + 1}"


def free_ports(count: int) -> int:
    """The first of so many in a row that nobody listens on, below those that the kernel hands out."""
    for first in range(30_000 + os.getpid() % 100 * 20, 32_700, 20):  # tests run beside each other
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no ports are free")


def test_credit_and_submission_rates_are_typed_as_options() -> None:
    order = {"model": "gpt-image-2", "input": {"prompt": "hills"}}
    for typed, refused in ((("--credits", "5"), 402), (("--submit-rate-limit", "20"), 429)):
        with (
            simulator("--port", "0", *typed) as (_, url),
            httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=60.0) as http,
        ):
            statuses = [http.post("/vidgo/api/generate/submit", json=order).status_code for _ in range(3)]
        assert statuses == [200, 200, refused]


def test_a_port_that_is_taken_is_named() -> None:
    with simulator("--port", "0") as (_, url):
        port = url.rpartition(":")[2]
        done = subprocess.run(
            [*SIMULATE, "--port", port], capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    assert done.returncode == 1
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
    assert "pip install 'callback-receiver[demo]'" in done.stderr


def test_faults_are_typed_as_options_and_repeated_by_the_seed_it_prints() -> None:
    order = {"model": "gpt-image-2", "input": {"prompt": "hills"}}
    typed = ("--port", "0", "--task-seconds", "0", "--picture-pixels", "64")
    faults = ("--fail", "50%", "--drop", "0.5", "--delay", "60", "--rate-limit", "10", "--dying-links", "5")
    with started(*typed, *faults) as (process, line):
        assert process.stdout is not None
        found = re.search(r"--seed (\d+)", process.stdout.readline())
        first = fates(url_in(line), order)
    assert found is not None
    with started(*typed, *faults, "--seed", found[1]) as (_, line):
        assert fates(url_in(line), order) == first
    assert {fate["outcome"] for fate in first} == {"completed", "failed"}
    assert {fate["drop_callback"] for fate in first} == {True, False}


def fates(url: str, order: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of twenty tasks."""
    with httpx2.Client(base_url=url, trust_env=False, verify=False, timeout=60.0) as http:
        for _ in range(20):
            http.post("/vidgo/api/generate/submit", json=order)
        return [task["simulate"] for task in http.get("/truth").json()]


def test_without_faults_there_is_no_seed_to_speak_of() -> None:
    with started("--port", "0", "--seed", "4") as (_, line):
        assert "seed" not in line


@pytest.mark.parametrize("typed", ["130%", "-0.1", "1.01", "nan", "half", "%"])
def test_a_share_out_of_range_is_refused_with_the_range(typed: str) -> None:
    result = CliRunner().invoke(simulate, [f"--forge={typed}"])
    assert result.exit_code == 2
    assert "'--forge'" in result.output
    assert typed in result.output


@pytest.mark.parametrize(
    ("typed", "meant"), [("0.3", 0.3), ("30%", 0.3), (" 1 ", 1.0), ("100%", 1.0), ("0", 0)]
)
def test_a_share_is_a_number_or_a_percentage(typed: str, meant: float) -> None:
    assert share(typed) == pytest.approx(meant)


def test_only_known_keys_order_and_each_has_its_own_balance() -> None:
    order = {"model": "gpt-image-2", "input": {"prompt": "hills"}}
    options = (
        "--port",
        "0",
        "--credits",
        "2",
        "--key",
        "vidgo=one",
        "--key",
        "vidgo=two",
        "--picture-pixels",
        "64",
    )
    with simulator(*options) as (_, url), httpx2.Client(base_url=url, trust_env=False, timeout=60.0) as http:

        def submit(provider: str, key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            path = f"/{provider}/api/generate/submit"
            return http.post(path, json=order, headers=headers).status_code

        asked = [submit("vidgo", key) for key in ("one", "one", "two", "three")]
        assert asked == [200, 402, 200, 401]
        assert submit("apidot", "any") == 200


@pytest.mark.parametrize("typed", ["vidgo", "vidgo=", "nobody=key"])
def test_a_key_without_its_provider_is_explained(typed: str) -> None:
    done = CliRunner().invoke(simulate, ["--key", typed])
    assert done.exit_code == 2
    assert "PROVIDER=KEY" in done.output
