"""Admins and operators see what waits for a sink that is not set any more, and move or drop it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.config.settings import load_settings
from receiver.runtime import Runtime, open_runtime
from receiver.web import dead_letters
from receiver.web.app import build_app
from tests.support.cli_stub import Answer, answering
from tests.support.engines import on_both_engines
from tests.support.sink_hosts import free_port
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, caller, fail_task

TASKS = ("dead", "t1", "t2", "t3")


def variables(folder: Path, sinks: dict[str, str]) -> dict[str, str]:
    return {
        "RECEIVER_DATA_DIR": str(folder),
        "RECEIVER_SECRET": "a-secret-for-tests-only",
        "RECEIVER_API_TOKENS": API_TOKEN,
        "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
        **{f"RECEIVER_SINK_{name}": url for name, url in sinks.items()},
    }


@pytest.fixture
async def runtime(tmp_path: Path, database_url: dict[str, str]) -> AsyncIterator[Runtime]:
    """After a start with other sinks: OLD had one dead letter and three that wait, of which FILE has all."""
    refused: Answer = (422, {})
    with answering({"POST /hook": [refused]}) as hook:
        before = variables(tmp_path, {"OLD": f"{hook.url}/hook", "FILE": "jsonl:events.jsonl"})
        await play(before | database_url, "dead")
    before = variables(
        tmp_path, {"OLD": f"http://127.0.0.1:{free_port()}/hook", "FILE": "jsonl:events.jsonl"}
    )
    await play(before | database_url, *TASKS[1:])
    after = variables(tmp_path, {"NEW": "jsonl:new.jsonl", "FILE": "jsonl:events.jsonl"})
    async with open_runtime(load_settings(after | database_url)) as opened:
        yield opened


async def play(environ: dict[str, str], *tasks: str) -> None:
    """Tasks end while the service runs with these sinks; it stops when each was told of or tried."""
    async with open_runtime(load_settings(environ)) as runtime:
        async with caller(build_app(runtime), ADMIN_TOKEN) as admin:
            for task_id in tasks:
                await fail_task(admin, runtime, task_id)

        async def settled() -> bool:
            outbox = (await runtime.store.count_stats()).outbox
            done = sum(outbox["file"].get(state, 0) for state in ("delivered",))
            return done == (1 if tasks == ("dead",) else len(TASKS)) and outbox["old"].get("dead") == 1

        await until(settled)


async def test_it_shows_everywhere_and_alarms_nobody(runtime: Runtime, admin: httpx2.AsyncClient) -> None:
    stats = (await admin.get("/stats")).json()
    assert stats["outbox"]["old"] == {"dead": 1, "not_set": 3}
    assert stats["oldest_undelivered_at"] is None
    numbers = (await admin.get("/metrics")).text.splitlines()
    assert 'receiver_outbox{sink="old",state="not_set"} 3.0' in numbers
    assert 'receiver_outbox{sink="old",state="pending"} 0.0' in numbers
    assert "receiver_oldest_undelivered_seconds 0.0" in numbers

    async def noted() -> bool:
        answer = await admin.get("/readyz")
        said = "running, but events wait for sinks that are not set: old (3)"
        return bool(answer.status_code == 200 and answer.json()["parts"]["upkeep"] == said)

    await until(noted)
    task = (await admin.get("/tasks/vidgo/t1")).json()
    assert task["waiting_on"] == "sink old (not set)"


async def test_its_dead_letters_can_be_listed(admin: httpx2.AsyncClient) -> None:
    letters = (await admin.get("/dead-letters?sink=old")).json()["dead_letters"]
    assert [letter["task_id"] for letter in letters] == ["dead"]
    assert (await admin.get("/dead-letters?sink=older")).status_code == 400


@on_both_engines
@pytest.mark.parametrize("batch", [500, 1])
async def test_it_is_moved_to_a_sink_that_gets_it_and_not_to_one_that_has_it(
    runtime: Runtime,
    admin: httpx2.AsyncClient,
    log_lines: LogLines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", batch)
    plan = await admin.post("/dead-letters/move", json={"sink": "old", "to": "new", "dry_run": True})
    assert (plan.status_code, plan.json()) == (200, {"dry_run": True, "waiting": 3, "dead": 1})
    assert (await runtime.store.count_unset_sinks())["old"] == {"pending": 3, "dead": 1}

    answer = await admin.post("/dead-letters/move", json={"sink": "old", "to": "new"})
    assert (answer.status_code, answer.json()) == (200, {"moved": 4, "had": 0})

    await until((tmp_path / "new.jsonl").exists)
    await until(lambda: len((tmp_path / "new.jsonl").read_text().splitlines()) == 4)
    (line,) = [line for line in log_lines if line["event"] == "dead_letters.moved"]
    assert (line["sink"], line["to"], line["moved"], line["had"]) == ("old", "new", 4, 0)
    assert line["who"].startswith("admin ")


async def test_a_sink_that_has_all_of_it_gets_none_of_it_twice(
    runtime: Runtime, admin: httpx2.AsyncClient, tmp_path: Path
) -> None:
    answer = await admin.post("/dead-letters/move", json={"sink": "old", "to": "file"})
    assert answer.json() == {"moved": 0, "had": 4}
    assert (await runtime.store.count_stats()).outbox == {"file": {"delivered": 4}}
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 4


@on_both_engines
async def test_it_is_dropped(runtime: Runtime, admin: httpx2.AsyncClient, log_lines: LogLines) -> None:
    plan = await admin.post("/dead-letters/drop", json={"sink": "old", "dry_run": True})
    assert plan.json() == {"dry_run": True, "waiting": 3, "dead": 1}
    answer = await admin.post("/dead-letters/drop", json={"sink": "old"})
    assert (answer.status_code, answer.json()) == (200, {"dropped": 4})
    assert (await runtime.store.count_stats()).outbox == {"file": {"delivered": 4}}
    (line,) = [line for line in log_lines if line["event"] == "dead_letters.dropped"]
    assert (line["sink"], line["dropped"]) == ("old", 4)
    assert (await admin.post("/dead-letters/drop", json={"sink": "old"})).json() == {"dropped": 0}


@pytest.mark.parametrize(
    ("deed", "body", "status", "said"),
    [
        ("move", {"sink": "file", "to": "new"}, 409, "dead letters can be requeued"),
        ("drop", {"sink": "new"}, 409, "dead letters can be requeued"),
        ("move", {"sink": "old", "to": "older"}, 400, "must be one of: file, new."),
        ("move", {"sink": "old"}, 400, "to"),
        ("drop", {"sink": "old", "to": "new"}, 400, "to"),
        ("drop", {}, 400, "sink"),
    ],
)
async def test_what_is_wrong_in_a_request_is_named(
    admin: httpx2.AsyncClient, deed: str, body: dict[str, Any], status: int, said: str
) -> None:
    answer = await admin.post(f"/dead-letters/{deed}", json=body)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


async def test_backends_may_not(backend: httpx2.AsyncClient, runtime: Runtime) -> None:
    for deed, body in (("move", {"sink": "old", "to": "new"}), ("drop", {"sink": "old"})):
        assert (await backend.post(f"/dead-letters/{deed}", json=body)).status_code == 403
    assert (await runtime.store.count_unset_sinks())["old"] == {"pending": 3, "dead": 1}
