"""A webhook that does not take events shows as what it is, and a test event says what comes back."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks import Webhook

from receiver.cli.sinks import SECRET_BYTES
from receiver.config.parsers import filter_text, parse_route
from receiver.config.settings import load_settings
from receiver.health.remedies import remedy
from receiver.models import Outcome
from receiver.runtime import Runtime
from receiver.times import in_words
from tests.support.cli_callers import run
from tests.support.cli_stub import answering
from tests.support.messages import cloud_event
from tests.support.sink_hosts import HttpServer, free_port
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, LogLines, fail_task

pytestmark = pytest.mark.usefixtures("plain_environment")

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HttpServer]:
    server = HttpServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(host: HttpServer) -> dict[str, str]:
    """One sink whose consumer is well, and one for each way of not taking an event."""
    return {
        "RECEIVER_SINK_WELL": host.url,
        "RECEIVER_SINK_WELL_SECRET": SECRET,
        **{f"RECEIVER_SINK_APP{status}": f"{host.root}/status/{status}" for status in (401, 404, 410, 500)},
        "RECEIVER_SINK_APP401_FILTER": "type=task.failed provider=vidgo,apixo",
    }


@pytest.fixture
def plain_environment(plain_environment: None, environment: dict[str, str]) -> None:
    """Made before any setting is read."""


async def typed(port: int, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command beside the service that is served there, with the token that it has."""
    service = {"RECEIVER_URL": f"http://127.0.0.1:{port}", "RECEIVER_TOKEN": ADMIN_TOKEN}
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "receiver", *arguments],
        env={**os.environ, **service, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def sinks_of(admin: httpx2.AsyncClient) -> dict[str, dict[str, Any]]:
    return {sink["name"]: sink for sink in (await admin.get("/sinks")).json()["sinks"]}


@pytest.fixture
async def tried(admin: httpx2.AsyncClient, runtime: Runtime) -> None:
    """One event went to every sink."""
    await fail_task(admin, runtime, "t1")

    async def all_tried() -> bool:
        # An answer is known a moment before it is on record. The service's own counts would stand for a while
        # where one of them took long.
        outbox = (await runtime.store.count_stats()).outbox
        return runtime.relay.answers.keys() == runtime.sinks.keys() and not outbox["well"].get("pending")

    await until(all_tried)


@pytest.mark.usefixtures("tried")
async def test_readiness_says_what_a_consumer_answers_from_the_first_event_on(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    answer = await admin.get("/readyz")
    parts = answer.json()["parts"]
    assert answer.status_code == 200
    assert parts["sink well"] == "running"
    for status, outcome in ((401, "refused"), (404, "http_error"), (500, "http_error")):
        said = rf"running, but {outcome}: the consumer answered {status} \(1 waiting, the oldest for \d+ s\)"
        assert re.fullmatch(said, parts[f"sink app{status}"]), parts
    assert parts["sink app410"].startswith("stopped: the consumer answered 410")
    assert "(1 waiting, the oldest for " in parts["sink app410"]
    told = (await stranger.get("/readyz")).json()["parts"]
    assert told["sink app401"] == "running, but troubled"


@pytest.mark.usefixtures("tried")
async def test_each_sink_is_listed_with_what_waits_and_what_came_of_the_last_event(
    admin: httpx2.AsyncClient, host: HttpServer
) -> None:
    told = await sinks_of(admin)
    shown = {name: (sink["state"], sink["outcome"], sink["waiting"]) for name, sink in told.items()}
    assert shown == {
        "well": ("ok", "delivered", 0),
        "app401": ("failing", "refused", 1),
        "app404": ("failing", "http_error", 1),
        "app410": ("stopped", "gone", 1),
        "app500": ("failing", "http_error", 1),
    }
    assert told["app401"]["detail"] == "the consumer answered 401"
    assert told["app401"]["filter"] == "provider=apixo,vidgo type=task.failed"
    assert told["well"]["oldest_waiting_at"] is None
    assert told["app401"]["oldest_waiting_at"] <= told["app401"]["ended_at"]
    assert all(host.root not in json.dumps(sink) for sink in told.values())  # a URL may hold a password


@pytest.mark.usefixtures("tried")
async def test_the_command_lists_them_with_what_to_do(port: int) -> None:
    result = await typed(port, "sinks", "list")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "scheme", "state", "waiting", "oldest", "outcome", "filter"]
    well = next(line.split() for line in lines if line.startswith("well"))
    assert well == ["well", "http", "ok", "0", "-", "delivered", "all"]
    told = lines.index("app401: refused: the consumer answered 401")
    assert lines[told + 1].startswith("to do: mend what it says, there or in RECEIVER_SINK_APP401")
    as_json = await typed(port, "sinks", "list", "--json")
    assert len(json.loads(as_json.stdout)["sinks"]) == 5


@pytest.mark.usefixtures("tried")
async def test_doctor_says_what_the_consumers_answer_to_events_and_what_to_do(
    port: int, environment: dict[str, str]
) -> None:
    result = await typed(port, "doctor", "--json", **environment)
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert found["service sink app401"]["state"] == "warn"
    assert "the consumer answered 401 (1 waiting, the oldest for " in found["service sink app401"]["detail"]
    assert "RECEIVER_SINK_APP401_SECRET" in found["service sink app401"]["todo"]
    assert found["service sink app404"]["todo"].startswith("check the path in RECEIVER_SINK_APP404")
    assert found["service sink app410"]["todo"].endswith("then restart the service")
    assert found["service sink well"]["state"] == "ok"


async def test_doctor_shows_what_a_consumer_answers_to_a_ping_where_no_service_runs(
    environment: dict[str, str],
) -> None:
    arguments = {"RECEIVER_URL": f"http://127.0.0.1:{free_port()}", **environment}
    result = await asyncio.to_thread(run, "doctor", "--json", **arguments)
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert (found["sink well"]["state"], found["sink well"]["detail"]) == ("ok", "http: answers")
    for status in (401, 404):
        check = found[f"sink app{status}"]
        assert check["state"] == "warn"
        assert f"the consumer answered {status} to OPTIONS" in check["detail"]
        assert f"`receiver sinks test app{status}`" in check["todo"]
    assert (found["sink app500"]["state"], found["sink app500"]["detail"]) == (
        "fail",
        "the consumer answered 500",
    )


def test_what_a_ping_leaves_open_is_no_matter_where_the_last_event_was_taken(host: HttpServer) -> None:
    told = {"sinks": [{"name": "app", "outcome": "delivered"}]}
    ready = {"status": "ready", "parts": {"sink app": "running"}}
    with answering(
        {"GET /readyz": (200, ready), "GET /sinks": (200, told), "GET /callbacks/vidgo": (405, {})},
        knows=[ADMIN_TOKEN],
    ) as stub:
        result = run(
            "doctor",
            "--json",
            RECEIVER_URL=stub.url,
            RECEIVER_PUBLIC_URL=stub.url,
            RECEIVER_TOKEN=ADMIN_TOKEN,
            RECEIVER_SINK_APP=f"{host.root}/status/404",
        )
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert (found["sink app"]["state"], found["sink app"]["detail"]) == ("ok", "http: took the last event")


async def test_a_test_event_arrives_signed_and_marked_and_is_in_no_record(
    admin: httpx2.AsyncClient, runtime: Runtime, host: HttpServer, log_lines: LogLines
) -> None:
    answer = await admin.post("/sinks/well/test")
    told = answer.json()
    assert (answer.status_code, told["outcome"], told["detail"]) == (200, "delivered", None)
    (request,) = host.requests()
    document = Webhook(SECRET).verify(request["body"].decode(), request["headers"])
    assert request["headers"]["webhook-id"] == document["id"] == told["event_id"]
    assert document["id"].startswith("test_")
    event = cloud_event(request["body"])
    assert (event.get_type(), event.get_subject()) == ("receiver.test", "sinks/well")
    stats = await runtime.store.count_stats()
    assert (stats.outbox, stats.submissions) == ({}, 0)
    (line,) = [line for line in log_lines if line["event"] == "sink.tested"]
    assert (line["sink"], line["outcome"], line["who"].split()[0]) == ("well", "delivered", "admin")


async def test_a_test_event_has_every_field_of_an_event(
    admin: httpx2.AsyncClient, runtime: Runtime, host: HttpServer
) -> None:
    await fail_task(admin, runtime, "t1")
    await until(lambda: any(request["path"] == "/hook" for request in host.requests()))
    await admin.post("/sinks/well/test")
    real, test = [json.loads(each["body"]) for each in host.requests() if each["path"] == "/hook"]
    assert test.keys() == real.keys()
    assert test["data"].keys() == real["data"].keys()


@pytest.mark.parametrize(
    ("status", "outcome", "detail"),
    [
        (401, "refused", "the consumer answered 401"),
        (404, "http_error", "the consumer answered 404"),
        (410, "gone", "the consumer answered 410: it wants no more notifications"),
        (500, "http_error", "the consumer answered 500"),
    ],
)
async def test_a_test_says_what_came_back_and_changes_nothing_for_the_sink(
    admin: httpx2.AsyncClient, status: int, outcome: str, detail: str
) -> None:
    for _ in range(6):  # as many events as would take it for down
        told = (await admin.post(f"/sinks/app{status}/test")).json()
        assert (told["outcome"], told["detail"]) == (outcome, detail)
    sink = (await sinks_of(admin))[f"app{status}"]
    assert (sink["state"], sink["outcome"], sink["waiting"]) == ("ok", None, 0)


async def test_the_command_tests_a_sink_and_fails_where_it_takes_nothing(port: int) -> None:
    taken = await typed(port, "sinks", "test", "WELL")  # as in RECEIVER_SINK_WELL
    assert taken.returncode == 0, taken.stderr
    assert re.fullmatch(r"well: delivered in \d+\.\d{3} s, as test_\w+\n", taken.stdout)
    refused = await typed(port, "sinks", "test", "app401")
    assert refused.returncode == 1
    assert refused.stdout.splitlines()[0] == "app401: refused: the consumer answered 401"
    assert refused.stdout.splitlines()[1].startswith("to do: ")
    as_json = await typed(port, "sinks", "test", "app401", "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["outcome"]) == (1, "refused")
    unknown = await typed(port, "sinks", "test", "nobody")
    assert unknown.returncode == 2
    assert "No sink of this name is set; there are" in unknown.stderr


async def test_backends_may_neither_list_nor_test(backend: httpx2.AsyncClient, host: HttpServer) -> None:
    assert (await backend.get("/sinks")).status_code == 403
    assert (await backend.post("/sinks/well/test")).status_code == 403
    assert host.requests() == []


def test_a_fresh_secret_is_one_that_a_sink_takes() -> None:
    results = [run("sinks", "secret") for _ in range(2)]
    secrets = {result.stdout.strip() for result in results}
    assert len(secrets) == 2
    for secret in secrets:
        assert len(Webhook(secret)._whsecret) == SECRET_BYTES
        load_settings({"RECEIVER_SINK_APP": "https://app.example/in", "RECEIVER_SINK_APP_SECRET": secret})
    assert "RECEIVER_SINK_<NAME>_SECRET" in results[0].stderr


@pytest.mark.parametrize("outcome", [*Outcome, None])
def test_every_outcome_at_a_sink_has_something_to_do(outcome: Outcome | None) -> None:
    assert "{" not in remedy("app", outcome)


@pytest.mark.parametrize("text", ["", "owner=ann", "provider=apixo,vidgo type=task.failed owner=ann,bob"])
def test_a_filter_is_shown_as_it_is_written(text: str) -> None:
    assert filter_text(parse_route("app", text)) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (185, "3 min"), (7200, "2 h"), (172_800, "2 days")],
)
def test_a_span_is_told_in_whole_units(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
