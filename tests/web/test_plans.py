"""What would be done is shown first, pinned to what was seen, and then done once or not at all."""

import asyncio
import re
from datetime import timedelta
from html import unescape

import httpx2
import pytest

from receiver.config.settings import Settings
from receiver.models import Outcome, Settlement, Tally, TallyPart
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock
from receiver.web import plans as planning
from receiver.web.app import build_app
from receiver.web.pages import plans
from tests.support.engines import on_both_engines
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, log_in, mark_in, submit
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, caller, fail_task


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN,
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
        "RECEIVER_SINK_APP": "http://127.0.0.1:9/",  # nobody listens
        "RECEIVER_SINK_OTHER": "http://127.0.0.1:9/",
        "RECEIVER_SINK_OTHER_FILTER": "owner=told-both",
    }


async def plan_of(person: httpx2.AsyncClient, **fields: str) -> tuple[str, str]:
    """Where a form's plan is, and the page of it."""
    answer = await submit(person, "/admin/plans", fields)
    assert answer.status_code == 303, answer.text
    place = answer.headers["location"]
    return place.removeprefix("/admin/plans/"), (await person.get(place)).text


async def do(person: httpx2.AsyncClient, plan: str, **fields: str) -> httpx2.Response:
    return await submit(person, "/admin/plans/do", {"plan": plan, **fields})


async def replay_states(runtime: Runtime) -> list[tuple[str, int, str]]:
    return [(each.id, each.matched, each.requested_by) for each in await runtime.store.list_replays(10)]


@on_both_engines
async def test_a_plan_is_shown_done_once_and_leaves_alone_what_came_since(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime, log_lines: LogLines
) -> None:
    for number in range(3):
        await fail_task(backend, runtime, f"t{number}", owner="user-1" if number else "user-2")
    plan, page = await plan_of(person, act="notify", scope="all", state="failed", owner="user-1")
    assert "<strong>2</strong>" in page
    assert "Send the events of tasks again" in page
    assert "receiver replay --stage notify --owner user-1 --state failed" in page
    assert "<dt>By provider</dt><dd>vidgo 2</dd>" in page
    assert "<dt>By state</dt><dd>failed 2</dd>" in page
    assert "<dt>By sink</dt><dd>app 2 · other 0</dd>" in page
    assert set(re.findall(r'class="id">(t\d)<', page)) == {"t1", "t2"}
    assert await runtime.store.list_replays(1) == []
    await fail_task(backend, runtime, "t-later", owner="user-1")
    answer = await do(person, plan, reason="INC-77")
    assert answer.headers["location"].startswith("/admin/replays/rpl_")
    again = await do(person, plan, reason="INC-77")
    assert again.headers["location"] == answer.headers["location"]
    ((_, matched, by),) = await replay_states(runtime)
    assert (matched, by) == (2, "admin root (on call)")
    (line,) = [line for line in log_lines if line["event"] == "plan.done"]
    assert (line["reason"], line["planned"], line["act"]) == ("INC-77", 2, "notify")


@on_both_engines
async def test_picked_tasks_alone_are_planned(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    for number in range(3):
        await fail_task(backend, runtime, f"t/{number}")
    plan, page = await plan_of(person, act="notify", scope="picked", pick="vidgo/t/1")
    assert "<strong>1</strong>" in page
    assert (await do(person, plan)).status_code == 303
    ((_, matched, _),) = await replay_states(runtime)
    assert matched == 1


@on_both_engines
async def test_a_plan_for_all_of_a_list_is_about_exactly_what_the_list_showed(web_settings: Settings) -> None:
    clock = TurnableClock()
    async with open_runtime(web_settings, work=(), clock=clock) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, browser(app) as person:
            for number in range(4):
                await fail_task(backend, runtime, f"t{number}")
                clock.turn(3600)
            await log_in(person, ADMIN_TOKEN)
            person.headers.update(OURS)
            for query, expected in (
                ("since=210m", {"t1", "t2", "t3"}),
                ("since=210m&until=90m", {"t1", "t2"}),
                ("until=150m&owner=user-17", {"t0", "t1"}),
            ):
                page = (await person.get(f"/admin/tasks?state=failed&{query}")).text
                assert set(re.findall(r'class="id">(t\d)<', page)) == expected
                form = page.partition('action="/admin/plans"')[2]
                fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
                clock.turn(1800)  # somebody thinks it over, and things go on
                await fail_task(backend, runtime, f"later/{query[:9]}")
                plan, page = await plan_of(person, act="notify", scope="all", **fields)
                assert set(re.findall(r'class="id">(t\d)<', page)) == expected
                assert f"<strong>{len(expected)}</strong>" in page
                assert "receiver replay --stage notify" in page
                answer = await do(person, plan)
                replay = await runtime.store.get_replay(answer.headers["location"].rpartition("/")[2])
                assert replay is not None
                assert replay.matched == len(expected)
                clock.turn(-1800)


@on_both_engines
async def test_a_dead_letter_that_is_picked_is_sent_to_its_sink_alone(web_settings: Settings) -> None:
    async with open_runtime(web_settings, work=()) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, browser(app) as person:
            await log_in(person, ADMIN_TOKEN)
            person.headers.update(OURS)
            await fail_task(backend, runtime, "t/1", owner="told-both")
            now = runtime.clock.now()
            settlement = Settlement(outcome=Outcome.TIMEOUT, started_at=now, settled_at=now)
            for sink in ("app", "other"):
                assert await runtime.store.give_up_outbox(sink, now + timedelta(hours=1), settlement, 10) == 1
            page = (await person.get("/admin/dead-letters")).text
            assert set(re.findall(r'name="pick" value="([^"]*)"', page)) == {
                "app/vidgo/t/1",
                "other/vidgo/t/1",
            }
            plan, page = await plan_of(person, act="requeue", scope="picked", pick="app/vidgo/t/1")
            assert "<strong>1</strong>" in page
            await do(person, plan)
            stats = await runtime.store.count_stats()
            assert (stats.outbox["app"], stats.outbox["other"]) == ({"pending": 1}, {"dead": 1})


async def test_two_at_once_begin_one_replay(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fail_task(backend, runtime, "t1")
    plan, page = await plan_of(person, act="notify", scope="all")
    sent = {"mark": mark_in(page), "plan": plan}
    answers = await asyncio.gather(*(person.post("/admin/plans/do", data=sent) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len(await replay_states(runtime)) == 1


@on_both_engines
async def test_dead_letters_are_requeued_once(web_settings: Settings) -> None:
    async with open_runtime(web_settings, work=()) as runtime:  # nobody sends them meanwhile
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, browser(app) as person:
            await log_in(person, ADMIN_TOKEN)
            person.headers.update(OURS)
            for number in range(2):
                await fail_task(backend, runtime, f"t{number}")
            now = runtime.clock.now()
            settlement = Settlement(outcome=Outcome.TIMEOUT, started_at=now, settled_at=now)
            later = now + timedelta(hours=1)
            assert await runtime.store.give_up_outbox("app", later, settlement, 10) == 2
            plan, page = await plan_of(person, act="requeue", sink="app")
            assert "<strong>2</strong>" in page
            assert "receiver dead requeue" in page
            for _ in range(2):
                place = (await do(person, plan)).headers["location"]
                assert "2 of 2" in (await person.get(place)).text
                stats = await runtime.store.count_stats()
                assert stats.outbox["app"] == {"pending": 2}


async def test_over_a_hundred_the_number_and_a_reason_are_typed_and_the_token_again_when_it_is_long_ago(
    web_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "FEW", 1)
    clock = TurnableClock()
    async with open_runtime(web_settings, work=(), clock=clock) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, browser(app) as person:
            await log_in(person, ADMIN_TOKEN)
            person.headers.update(OURS)
            for number in range(2):
                await fail_task(backend, runtime, f"t{number}")
            plan, page = await plan_of(person, act="notify", scope="all")
            assert "Type 2" in page
            assert 'name="token"' not in page
            for wrong in ({}, {"number": "2"}, {"reason": "x"}, {"number": "3", "reason": "x"}):
                assert (await do(person, plan, **wrong)).status_code == 400
            clock.turn(11 * 60)
            assert 'name="token"' in (await person.get(f"/admin/plans/{plan}")).text
            typed = {"number": "2", "reason": "INC-77"}
            assert (await do(person, plan, **typed)).status_code == 403
            assert (await do(person, plan, token=VIEWER_TOKEN, **typed)).status_code == 403
            assert await runtime.store.list_replays(1) == []
            assert (await do(person, plan, token=ADMIN_TOKEN, **typed)).status_code == 303
            assert len(await runtime.store.list_replays(2)) == 1


async def test_a_plan_is_of_one_log_in_and_over_after_a_quarter_of_an_hour(web_settings: Settings) -> None:
    clock = TurnableClock()
    async with open_runtime(web_settings, work=(), clock=clock) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, browser(app) as person, browser(app) as another:
            for each in (person, another):
                await log_in(each, ADMIN_TOKEN)
                each.headers.update(OURS)
            await fail_task(backend, runtime, "t1")
            plan, _ = await plan_of(person, act="notify", scope="all")
            assert (await another.get(f"/admin/plans/{plan}")).status_code == 403
            assert (await do(another, plan)).status_code == 403
            for forged in (plan[:-1], plan.replace(".", "x", 1), "a.b.c", f"a.{10**11}.c", "é"):
                assert (await do(person, forged)).status_code == 403
            clock.turn(15 * 60)
            assert (await do(person, plan)).status_code == 409
            assert await runtime.store.list_replays(1) == []


async def test_a_plan_whose_number_has_grown_is_shown_again(
    person: httpx2.AsyncClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((20, 23))

    async def count(*_: object) -> Tally:
        part = TallyPart(provider="vidgo", state="failed", sink=None, count=next(counts))
        return Tally(parts=(part,), is_whole=True)

    monkeypatch.setattr(planning, "count", count)
    plan, page = await plan_of(person, act="notify", scope="all")
    assert "<strong>20</strong>" in page
    answer = await do(person, plan)
    assert answer.headers["location"].startswith("/admin/plans/")
    shown = unescape((await person.get(answer.headers["location"])).text)
    assert "it was about 20" in shown
    assert "<strong>23</strong>" in shown
    assert await runtime.store.list_replays(1) == []


@on_both_engines
async def test_a_replay_is_paused_resumed_and_cancelled_with_its_number_and_a_reason(
    web_settings: Settings,
) -> None:
    async with open_runtime(web_settings, work=()) as runtime:  # so that it does not end by itself
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, browser(app) as person:
            await log_in(person, ADMIN_TOKEN)
            person.headers.update(OURS)
            await fail_task(backend, runtime, "t1")
            plan, _ = await plan_of(person, act="notify", scope="all")
            place = (await do(person, plan)).headers["location"]
            steps: tuple[tuple[str, dict[str, str], int, str], ...] = (
                ("pause", {}, 303, "paused"),
                ("resume", {}, 303, "running"),
                ("cancel", {}, 400, "running"),
                ("cancel", {"number": "2", "reason": "x"}, 400, "running"),
                ("cancel", {"number": "1"}, 400, "running"),
                ("cancel", {"number": "1", "reason": "INC-77"}, 303, "cancelled"),
                ("resume", {}, 409, "cancelled"),
            )
            for act, typed, status, state in steps:
                answer = await submit(person, f"{place}/{act}", typed)
                assert answer.status_code == status, act
                assert f">{state}</span>" in (await person.get(place)).text
                (replay,) = await runtime.store.list_replays(1)
                assert replay.state == state
            assert (await submit(person, "/admin/replays/rpl_1/pause", {})).status_code == 404


async def test_what_cannot_be_planned_is_said(person: httpx2.AsyncClient) -> None:
    for fields, words in (
        ({"act": "purge"}, "Choose what"),
        ({"act": "notify", "scope": "picked"}, "Pick some"),
        ({"act": "notify", "state": "submitted"}, "nothing can match"),
        ({"act": "notify", "logged_since": "soon"}, "30m"),
        ({"act": "requeue", "sink": "nobody"}, "app"),
        ({"act": "notify", "scope": "picked", "pick": "vidgo/" + "x" * 9_000}, "pick fewer"),
    ):
        answer = await submit(person, "/admin/plans", fields)
        assert answer.status_code == 400
        assert words in answer.text
    mark = mark_in((await person.get("/admin/")).text)
    mixed = {"mark": mark, "act": "notify", "scope": "picked", "pick": ["vidgo/1", "apixo/1"]}
    assert "one provider" in (await person.post("/admin/plans", data=mixed)).text
    letters = {"mark": mark, "act": "requeue", "scope": "picked"}
    for picked, words in (
        (["app/vidgo/1", "other/vidgo/1"], "one sink"),
        (["gone/vidgo/1"], "not set any more"),
        ([], "Pick some"),
    ):
        answer = await person.post("/admin/plans", data={**letters, "pick": picked})
        assert words.lower() in answer.text.lower()
