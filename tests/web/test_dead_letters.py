"""Admins look at notifications that were given up, and have them sent after all."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx2
import pytest

from receiver.runtime import Runtime
from receiver.web import dead_letters
from tests.support.cli_stub import Answer, Stub, answering
from tests.support.engines import on_both_engines
from tests.support.waiting import until
from tests.support.web_callers import PROVIDERS, LogLines, fail_task

REFUSED: Answer = (422, {})  # a sink that will never take it: a dead letter at the first attempt


@pytest.fixture
def answers() -> list[Answer]:
    """How the sink answers, one after the other; the last stays. A test may change it while it goes on."""
    return [REFUSED]


@pytest.fixture
def sink(answers: list[Answer]) -> Iterator[Stub]:
    with answering({"POST /hook": answers}) as stub:
        yield stub


@pytest.fixture
def environment(sink: Stub) -> dict[str, str]:
    return {"RECEIVER_SINK_HOOK": f"{sink.url}/hook", "RECEIVER_SINK_FILE": "jsonl:events.jsonl"}


@pytest.fixture
async def five(admin: httpx2.AsyncClient, runtime: Runtime) -> list[str]:
    """The tasks of five dead letters, the newest first."""
    for number in range(5):
        await fail_task(admin, runtime, f"t{number}", owner=f"user-{number % 2}")
        await until(partial(counted, runtime, dead=number + 1))
    return ["t4", "t3", "t2", "t1", "t0"]


async def counted(runtime: Runtime, **states: int) -> bool:
    hook = (await runtime.store.count_stats()).outbox.get("hook", {})
    return all(hook.get(state, 0) == count for state, count in states.items())


async def listed(admin: httpx2.AsyncClient, query: str = "") -> list[str]:
    answer = await admin.get(f"/dead-letters{query}")
    assert answer.status_code == 200, answer.text
    return [letter["task_id"] for letter in answer.json()["dead_letters"]]


async def test_a_dead_letter_says_what_it_is_and_why(admin: httpx2.AsyncClient, runtime: Runtime) -> None:
    await fail_task(admin, runtime, "t1")
    await until(partial(counted, runtime, dead=1))
    (letter,) = (await admin.get("/dead-letters")).json()["dead_letters"]
    told = {name: letter[name] for name in ("sink", "provider", "task_id", "owner", "type", "attempts")}
    assert told == {
        "sink": "hook",
        "provider": "vidgo",
        "task_id": "t1",
        "owner": "user-17",
        "type": "task.failed",
        "attempts": 1,
    }
    assert letter["outcome"] == "refused"
    assert "422" in letter["detail"]
    assert letter["created_at"] <= letter["settled_at"]


@on_both_engines
async def test_dead_letters_are_filtered(admin: httpx2.AsyncClient, five: list[str]) -> None:
    assert await listed(admin) == five
    assert await listed(admin, "?owner=user-1&type=task.failed&provider=vidgo&state=failed") == ["t3", "t1"]
    assert await listed(admin, "?task_ids=t0&task_ids=t4&task_ids=t9") == ["t4", "t0"]
    assert await listed(admin, "?sink=file") == []
    assert await listed(admin, "?sink=hook&until=2999-01-01T00:00:00Z") == five
    assert await listed(admin, "?since=2999-01-01T00:00:00Z") == []


@on_both_engines
async def test_pages_of_dead_letters_follow_each_other(admin: httpx2.AsyncClient, five: list[str]) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await admin.get(f"/dead-letters?limit=2{cursor}")).json()
        seen += [letter["task_id"] for letter in page["dead_letters"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == five


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sink=queue", "must be one of: file, hook."),
        ("provider=nobody", f"must be one of: {PROVIDERS}."),
        ("state=done", "must be one of: submitted, fetching, completed, partial, failed."),
        ("limit=0", "limit"),
        ("since=yesterday", "since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "`since` must be before `until`"),
        ("cursor=nonsense", "cursor"),
        ("order=asc", "order"),
    ],
)
async def test_a_wrong_parameter_is_named(admin: httpx2.AsyncClient, query: str, said: str) -> None:
    answer = await admin.get(f"/dead-letters?{query}")
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


async def test_a_requeued_dead_letter_arrives(
    admin: httpx2.AsyncClient, runtime: Runtime, answers: list[Answer], log_lines: LogLines
) -> None:
    await fail_task(admin, runtime, "t1")
    await until(partial(counted, runtime, dead=1))
    answers.append((200, {}))
    answer = await admin.post("/dead-letters/requeue", json={"filter": {"owner": "user-17"}})
    assert (answer.status_code, answer.json()["requeued"]) == (200, 1)
    await until(partial(counted, runtime, dead=0, delivered=1))
    (line,) = (line for line in log_lines if line["event"] == "dead_letters.requeued")
    assert line["who"].startswith("admin ")
    assert (line["clauses"], line["requeued"]) == (["owner"], 1)
    assert "user-17" not in str(line)


@pytest.mark.usefixtures("five")
async def test_a_dry_run_counts_and_changes_nothing(
    admin: httpx2.AsyncClient, runtime: Runtime, log_lines: LogLines
) -> None:
    asked = {"filter": {"owner": "user-0"}, "dry_run": True}
    answer = await admin.post("/dead-letters/requeue", json=asked)
    assert (answer.status_code, answer.json()) == (200, {"dry_run": True, "matched": 3})
    assert (await admin.post("/dead-letters/requeue", json={**asked, "sinks": ["file"]})).json()[
        "matched"
    ] == 0
    assert await counted(runtime, dead=5)
    assert not [line for line in log_lines if "requeued" in line["event"]]


@on_both_engines
@pytest.mark.usefixtures("five")
async def test_many_are_requeued_batch_by_batch_and_only_once_where_they_die_again(
    admin: httpx2.AsyncClient, runtime: Runtime, sink: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", 2)
    answer = await admin.post("/dead-letters/requeue", json={"filter": {}, "sinks": ["hook"]})
    assert answer.json()["requeued"] == 5
    await until(partial(counted, runtime, dead=5))
    assert len(sink.asked) == 10


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "filter"),
        ({"filter": {"provider": "nobody"}}, f"must be one of: {PROVIDERS}."),
        ({"filter": {}, "sinks": ["queue"]}, "must be one of: file, hook."),
        ({"filter": {"state": "done"}}, "must be one of: submitted"),
        ({"filter": {"sink": "hook"}}, "sink"),
        ({"filter": {}, "sinks": "hook"}, "sinks"),
    ],
)
async def test_what_is_wrong_in_a_request_is_named(
    admin: httpx2.AsyncClient, body: dict[str, Any], said: str
) -> None:
    answer = await admin.post("/dead-letters/requeue", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
