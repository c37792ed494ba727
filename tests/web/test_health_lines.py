"""What is wrong is told in the same lines everywhere: as JSON, in readiness, in metrics, on the terminal."""

import asyncio
import json
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from receiver.errors import Unavailable
from receiver.health import look
from receiver.health.facts import Disk, Limits
from receiver.health.look import HealthLook
from receiver.lanes import NOWHERE
from receiver.models import Backlog
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from tests.support.cli_callers import run
from tests.support.cli_stub import TOKEN, answering
from tests.support.engines import on_both_engines
from tests.support.waiting import until
from tests.support.web_callers import callback_path, caller, fail_task, log_task

EARLY_LIMIT = 5
LINE = {
    "key": "sink:app",
    "severity": "critical",
    "since": "2026-11-21T10:00:00.000Z",
    "cause": "Sink app takes nothing (refused): 412 events wait, the oldest for 38 min",
    "images": 412,
    "step": "let its consumer take events again",
    "command": "receiver sinks list",
}
HEALTH = {
    "status": "critical",
    "as_of": "2026-11-21T10:38:00.000Z",
    "lines": [LINE, {**LINE, "key": "store", "images": None, "command": None}],
    "looked_at": ["store", "sink"],
    "unknown": ["early"],
    "last_delivery_at": None,
}


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_EARLY_LIMIT": str(EARLY_LIMIT)}


async def early_callbacks(client: httpx2.AsyncClient, runtime: Runtime, count: int) -> None:
    for number in range(count):
        body = sample_callback("vidgo", f"early-{number}", error="no")
        (await client.post(callback_path(runtime), content=body)).raise_for_status()


async def health(client: httpx2.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await client.get("/admin/health.json")).json()
    return document


@on_both_engines
async def test_lines_come_and_go_with_their_cause(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    calm = await health(admin)
    assert (calm["status"], calm["lines"], calm["unknown"]) == ("ok", [], [])
    assert "early" in calm["looked_at"]

    await early_callbacks(stranger, runtime, EARLY_LIMIT)

    async def told() -> dict[str, Any] | None:
        found = await health(admin)
        return found if found["lines"] else None

    found = await until(told)  # a count of what waits stands for some seconds
    (line,) = found["lines"]
    assert found["status"] == "critical"
    assert (line["key"], line["severity"], line["images"]) == ("early", "critical", EARLY_LIMIT)
    assert line["since"] <= found["as_of"]
    ready = (await admin.get("/readyz")).json()
    assert [each["key"] for each in ready["lines"]] == ["early"]
    assert 'receiver_health_line{key="early",severity="critical"} 1.0' in (await admin.get("/metrics")).text

    for number in range(EARLY_LIMIT):
        await log_task(admin, f"early-{number}")

    async def calm_again() -> bool:
        return not (await health(admin))["lines"]

    await until(calm_again)
    assert "receiver_health_line{" not in (await admin.get("/metrics")).text


async def test_only_admins_are_told(
    stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    answers = [await client.get("/admin/health.json") for client in (stranger, backend, admin)]
    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert "lines" not in (await stranger.get("/readyz")).json()


async def test_nothing_of_a_task_or_a_link_is_in_them(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await early_callbacks(stranger, runtime, EARLY_LIMIT)
    await fail_task(admin, runtime, "task-of-somebody", owner="somebody")
    told = json.dumps(await health(admin))
    for secret in ("somebody", "early-0", "http", callback_path(runtime)):
        assert secret not in told


def made_look(
    runtime: Runtime, *, elsewhere: Mapping[str, str] | None = None, is_readable: bool = True
) -> HealthLook:
    """What looks at a runtime beside other processes, or at a record that cannot be read."""

    async def backlog() -> Backlog:
        if is_readable:
            return Backlog()
        raise Unavailable("the database is away")

    return HealthLook(
        clock=runtime.clock,
        limits=Limits(lost_after_seconds=1, early_limit=1, retention_days=1),
        watch=runtime.watch,
        check_store=runtime.commit_probe.check,
        backlog=backlog,
        states=runtime.worker.status,
        elsewhere=lambda: elsewhere or {},
        relay=runtime.relay,
        status_client=runtime.status_client,
        providers=runtime.providers,
        sinks=runtime.sinks,
        data_dir=runtime.settings.data_dir,
    )


async def test_what_cannot_be_read_is_not_known_and_not_well(runtime: Runtime) -> None:
    found = await made_look(runtime, is_readable=False).look()
    assert "early" in found.unknown
    assert "store" in found.looked_at
    broken = replace(runtime, health=runtime.health)
    async with caller(build_app(broken)) as stranger:
        assert (await stranger.get("/metrics")).status_code == 200


async def test_a_disk_that_hangs_is_not_known_and_holds_nobody_up(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on, begun = threading.Event(), []

    def hang(folder: Path) -> Disk | None:
        begun.append(folder)
        going_on.wait(30)
        return None

    monkeypatch.setattr(look, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(look, "_disk", hang)
    looking = made_look(runtime)
    try:
        first, second = await asyncio.gather(looking.look(), looking.look())
        third = await looking.look()
    finally:
        going_on.set()
    assert all("disk" in found.unknown for found in (first, second, third))
    assert len(begun) == 1
    monkeypatch.setattr(look, "PATIENCE_SECONDS", 60.0)
    assert "disk" in (await looking.look()).looked_at


async def test_what_other_processes_say_of_a_sink_counts_but_not_in_their_words(runtime: Runtime) -> None:
    told = {"sink jsonl": "stopped: gone: see https://app.example/hook?token=secret", "upkeep": NOWHERE}
    found = await made_look(runtime, elsewhere=told).look()
    assert {line.key for line in found.lines} == {"sink:jsonl", "loop:upkeep"}
    assert "secret" not in repr(found)


async def test_a_sink_that_is_down_elsewhere_is_told_of_once_it_has_lasted(runtime: Runtime) -> None:
    found = await made_look(
        runtime, elsewhere={"sink jsonl": "running, but refused: 401, tried again in 30 s"}
    ).look()
    assert found.lines == ()
    assert runtime.relay.failing_for("jsonl") == timedelta()


@pytest.mark.usefixtures("plain_environment")
def test_the_command_prints_what_is_wrong_since_when_and_what_to_do() -> None:
    with answering({"GET /admin/health.json": (200, HEALTH)}) as stub:
        result = run("health", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert "critical  Sink app takes nothing (refused): 412 events wait" in result.output
    assert "since 2026-11-21T10:00:00.000Z, " in result.output
    assert "it touches 412 images" in result.output
    assert "to do: let its consumer take events again: receiver sinks list\n" in result.output
    assert "it touches every image that comes" in result.output
    assert "Not known now, as what tells it does not answer: early." in result.output


@pytest.mark.usefixtures("plain_environment")
@pytest.mark.parametrize(
    ("last", "words"),
    [(None, "no callback came yet"), ("2026-11-21T10:38:00.000Z", "the last callback came ")],
)
def test_the_command_says_what_was_looked_at_where_nothing_is_wrong(last: str | None, words: str) -> None:
    calm = {**HEALTH, "status": "ok", "lines": [], "unknown": [], "last_delivery_at": last}
    with answering({"GET /admin/health.json": (200, calm)}) as stub:
        result = run("health", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 0
    assert result.output.startswith("Nothing is wrong. Looked at: store, sink; ")
    assert words in result.output
