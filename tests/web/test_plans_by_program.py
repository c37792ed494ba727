"""Programs plan, and do what they planned once, however often they send it."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from receiver.config.settings import Settings
from receiver.models import Act, AuditFilter, Outcome, Settlement
from receiver.runtime import Runtime, open_runtime
from receiver.web import plans as planning
from receiver.web.app import build_app
from tests.support.engines import on_both_engines
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, caller, fail_task, log_task

EVERYTHING: dict[str, Any] = {}
OLD = "rpl_0190000000000000000000000000000a"


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "RECEIVER_SINK_APP": "http://127.0.0.1:9/",  # nobody listens
        "RECEIVER_SINK_OTHER": "http://127.0.0.1:9/",
        "RECEIVER_SINK_OTHER_FILTER": "type=task.completed",
        "RECEIVER_SINK_ANNS": "http://127.0.0.1:9/",
        "RECEIVER_SINK_ANNS_FILTER": "owner=ann",
    }


async def plan(admin: httpx2.AsyncClient, act: str, **more: Any) -> dict[str, Any]:
    answer = await admin.post("/plans", json={"act": act, "filter": EVERYTHING, **more})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def do(admin: httpx2.AsyncClient, planned: dict[str, Any], **more: Any) -> httpx2.Response:
    then = planned["then"]
    return await admin.request(then["method"], then["path"], json={**then["body"], **more})


async def give_up_all(runtime: Runtime, sink: str = "app") -> int:
    now = runtime.clock.now()
    settlement = Settlement(outcome=Outcome.TIMEOUT, started_at=now, settled_at=now)
    return await runtime.store.give_up_outbox(sink, now + timedelta(hours=1), settlement, 100)


async def done(runtime: Runtime, act: Act) -> list[tuple[int | None, int | None, str | None]]:
    page = await runtime.store.list_audit(AuditFilter(act=act), 10, None)
    return [(each.planned, each.done, each.reason) for each in page.entries]


@on_both_engines
async def test_a_plan_counts_by_provider_state_and_sink_and_changes_nothing(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    for number in range(3):
        await fail_task(backend, runtime, f"t{number}")
    planned = await plan(admin, "notify", rate=2)
    assert (planned["count"], planned["is_exact"]) == (3, True)
    assert planned["by"] == {
        "provider": {"vidgo": 3},
        "state": {"failed": 3},
        "sink": {"app": 3, "other": 0, "anns": None},
    }
    assert {each["task_id"] for each in planned["examples"]} == {"t0", "t1", "t2"}
    assert planned["expected_seconds"] == 1.5
    assert planned["command"] == "receiver replay --stage notify --rate 2"
    assert re.fullmatch("rpl_[0-9a-f]{32}", planned["id"])
    assert await runtime.store.list_replays(1) == []
    named = await plan(admin, "notify", sinks=["other"], filter={"state": "failed"})
    assert named["by"]["sink"] == {"other": 3}
    assert named["command"] == "receiver replay --stage notify --state failed --sink other"


@on_both_engines
async def test_what_was_planned_is_done_once_and_leaves_alone_what_came_since(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fail_task(backend, runtime, "t1")
    planned = await plan(admin, "notify")
    await asyncio.sleep(0.01)
    await fail_task(backend, runtime, "t2")
    answers = await asyncio.gather(*(do(admin, planned, reason="INC-77") for _ in range(5)))
    answers.append(await do(admin, planned))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["id"] for answer in answers} == {planned["id"]}
    (replay,) = await runtime.store.list_replays(10)
    assert (replay.id, replay.matched) == (planned["id"], 1)
    assert await done(runtime, Act.REPLAY_STARTED) == [(1, None, "INC-77")]


@on_both_engines
async def test_an_id_of_another_replay_is_refused_and_that_one_stays(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fail_task(backend, runtime, "t1")
    planned = await plan(admin, "notify")
    await do(admin, planned)
    for other in ({"filter": {"owner": "ann"}}, {"sinks": ["app"]}, {"up_to": "2026-11-29T00:00:00Z"}):
        answer = await do(admin, planned, **other)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:receiver:problem:key-reused")
    assert len(await runtime.store.list_replays(10)) == 1


@on_both_engines
async def test_a_plan_is_over_after_a_quarter_of_an_hour(admin: httpx2.AsyncClient, runtime: Runtime) -> None:
    planned = await plan(admin, "notify")
    for changed in ({"id": OLD}, {"id": "rpl_" + "f" * 32}, {"up_to": "2999-01-01T00:00:00Z"}):
        answer = await do(admin, planned, **changed)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:receiver:problem:plan-over")
    requeue = await plan(admin, "requeue")
    assert (await do(admin, requeue, id=OLD.replace("rpl", "rqe"))).status_code == 409
    assert (await do(admin, requeue, id="rpl_1")).status_code == 400
    assert await runtime.store.list_replays(1) == []


@on_both_engines
async def test_dead_letters_are_requeued_once_and_those_that_died_since_are_left_alone(
    web_settings: Settings,
) -> None:
    async with open_runtime(web_settings, work=()) as runtime:  # nobody sends them meanwhile
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, caller(app, ADMIN_TOKEN) as admin:
            for number in range(2):
                await fail_task(backend, runtime, f"t{number}")
            assert await give_up_all(runtime) == 2
            await asyncio.sleep(0.01)
            named = {"task_ids": ["t0", "t1", "t-later"]}
            planned = await plan(admin, "requeue", sinks=["app"], filter=named)
            assert planned["count"] == 2
            assert planned["by"]["sink"] == {"app": 2}
            assert len(planned["examples"]) == 2
            await asyncio.sleep(0.01)
            await fail_task(backend, runtime, "t-later")
            assert await give_up_all(runtime) == 1
            answers = await asyncio.gather(*(do(admin, planned, reason="mended") for _ in range(3)))
            assert {answer.json()["requeued"] for answer in answers} <= {0, 1, 2}
            assert (await do(admin, planned)).json() == {"id": planned["id"], "requeued": 2}
            await give_up_all(runtime)
            assert (await do(admin, planned)).json()["requeued"] == 2
            assert (await runtime.store.count_stats()).outbox["app"] == {"dead": 3}
            assert await done(runtime, Act.DEAD_REQUEUED) == [(2, 2, "mended")]
            assert (await do(admin, planned, sinks=["other"])).status_code == 422


@on_both_engines
async def test_a_requeue_that_was_interrupted_goes_on_and_sends_nothing_twice(
    web_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.web.dead_letters.BATCH", 1)
    async with open_runtime(web_settings, work=()) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, caller(app, ADMIN_TOKEN) as admin:
            for number in range(3):
                await fail_task(backend, runtime, f"t{number}")
            await give_up_all(runtime)
            await asyncio.sleep(0.01)
            planned = await plan(admin, "requeue", sinks=["app"])
            revive, times = runtime.store.revive_dead, 0

            async def interrupted(*arguments: Any, **more: Any) -> int:
                nonlocal times
                times += 1
                if times == 2:
                    raise ConnectionResetError
                return await revive(*arguments, **more)

            monkeypatch.setattr(runtime.store, "revive_dead", interrupted)
            assert (await do(admin, planned)).status_code == 500
            assert await done(runtime, Act.DEAD_REQUEUED) == [(3, 1, None)]
            assert (await do(admin, planned)).json()["requeued"] == 3
            assert await done(runtime, Act.DEAD_REQUEUED) == [(3, 3, None)]


async def test_questions_are_expected_to_take_as_long_as_a_provider_lets_us(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    for number in range(4):
        await log_task(backend, f"t{number}")
    planned = await plan(admin, "poll")
    a_minute = runtime.providers["vidgo"].facts.polls_per_minute
    assert planned["expected_seconds"] == round(240 / a_minute, 1)
    assert planned["by"] == {"provider": {"vidgo": 4}, "state": {"submitted": 4}}


async def test_what_there_is_no_time_to_count_is_said_to_be_at_least_so_much(
    admin: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fail_task(backend, runtime, "t1")
    monkeypatch.setattr(planning, "COUNT_SECONDS", 0.0)
    planned = await plan(admin, "notify")
    assert (planned["count"], planned["is_exact"]) == (0, False)


async def test_what_cannot_be_planned_is_said(admin: httpx2.AsyncClient, backend: httpx2.AsyncClient) -> None:
    for asked, words in (
        ({"act": "purge"}, "notify, fetch, reprocess, poll, requeue"),
        ({"act": "notify", "filter": {"state": "submitted"}}, "nothing can match"),
        ({"act": "fetch", "sinks": ["app"]}, "notify and requeue"),
        ({"act": "requeue", "rate": 1}, "rate"),
        ({"act": "notify", "sinks": ["nobody"]}, "app"),
        ({"act": "notify", "filter": {"provider": "nobody"}}, "vidgo"),
    ):
        answer = await admin.post("/plans", json={"filter": {}, **asked})
        assert answer.status_code == 400
        assert words in answer.json()["detail"]
    assert (await backend.post("/plans", json={"act": "notify", "filter": {}})).status_code == 403
