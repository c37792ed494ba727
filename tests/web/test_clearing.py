"""What is taken away for good from a page: planned, typed, done once, and noted; and a task that is bound."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from html import unescape

import httpx2
import msgspec
import pytest

from receiver.config.settings import Settings
from receiver.models import Act, AuditFilter, AuditRow, Outcome, Settlement
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock, sample_callback
from receiver.web.app import build_app
from tests.support.engines import on_both_engines
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, log_in, submit
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, callback_path, caller, fail_task


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN,
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
        "RECEIVER_SINK_APP": "http://127.0.0.1:9/",  # nobody listens
        "RECEIVER_SINK_LOG": "jsonl:events.jsonl",
        "RECEIVER_SINK_LOG_FILTER": "type=task.completed",
        "RECEIVER_CONFIRM": "never",
    }


@pytest.fixture
async def runtime(web_settings: Settings) -> AsyncIterator[Runtime]:
    """Nobody sends anything meanwhile."""
    async with open_runtime(web_settings, work=()) as opened:
        yield opened


async def reserve(backend: httpx2.AsyncClient) -> str:
    answer = await backend.post("/submissions", json={"provider": "vidgo", "owner": "user-17"})
    return str(answer.json()["id"])


async def plan_of(person: httpx2.AsyncClient, **fields: str) -> tuple[str, str]:
    """A plan's text, and the page that shows it."""
    answer = await submit(person, "/admin/clearings", fields)
    assert answer.status_code == 303, answer.text
    place = answer.headers["location"]
    return place.removeprefix("/admin/clearings/"), unescape((await person.get(place)).text)


async def do(person: httpx2.AsyncClient, plan: str, number: str, reason: str = "INC-77") -> httpx2.Response:
    return await submit(person, "/admin/clearings/do", {"plan": plan, "number": number, "reason": reason})


async def acts(runtime: Runtime, act: Act) -> list[AuditRow]:
    return [*(await runtime.store.list_audit(AuditFilter(act=act), 10, None)).entries]


async def give_up(runtime: Runtime, count: int) -> None:
    """Make dead letters of so many events that wait for the sink."""
    now = runtime.clock.now()
    ended = Settlement(outcome=Outcome.CONNECT_FAILED, started_at=now, settled_at=now)
    assert await runtime.store.give_up_outbox("app", now + timedelta(hours=1), ended, 100) == count


# --- reservations ----------------------------------------------------------------------------------------


@on_both_engines
async def test_picked_reservations_are_withdrawn_once_with_their_number_and_a_reason(
    runtime: Runtime, backend: httpx2.AsyncClient, person: httpx2.AsyncClient
) -> None:
    first, second, third = [await reserve(backend) for _ in range(3)]
    plan, page = await plan_of(person, deed="withdraw", pick=first)
    assert first[-20:] in page
    assert second[-20:] not in page
    assert f"receiver submissions withdraw {first}" in page
    for number, reason in (("2", "INC-77"), ("", "INC-77"), ("1", "")):
        assert (await do(person, plan, number, reason)).status_code == 400
    mark = re.search(r'name="mark" value="([^"]+)"', (await person.get("/admin/submissions")).text)
    assert mark is not None
    several = {"mark": mark[1], "deed": "withdraw", "pick": [second, third]}
    two = (await person.post("/admin/clearings", data=several)).headers["location"].rpartition("/")[2]
    (await backend.patch(f"/submissions/{third}", json={"task_id": "task-3"})).raise_for_status()

    assert "<strong>1</strong> of 1 taken back" in (await do(person, plan, "1")).text
    assert (await do(person, plan, "1")).status_code == 409
    done = (await do(person, two, "2")).text
    assert "<strong>1</strong> of 2 taken back" in done
    assert f"{third}: Submission is bound" in done

    shown = [(await backend.get(f"/submissions/{each}")).json() for each in (first, second, third)]
    assert [each["withdrawn_at"] is None for each in shown] == [False, False, True]
    noted = await acts(runtime, Act.SUBMISSION_WITHDRAWN)
    assert [(each.target, each.who, each.reason) for each in noted] == [
        (second, "admin root", "INC-77"),
        (first, "admin root", "INC-77"),
    ]
    assert "Every reservation is bound" in (await person.get("/admin/submissions")).text


@on_both_engines
async def test_a_reservation_shows_what_may_be_its_own_and_is_bound_by_hand(
    runtime: Runtime, backend: httpx2.AsyncClient, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    reserved = await reserve(backend)
    where = callback_path(runtime)
    (await backend.post(where, content=sample_callback("vidgo", "task-7", error="no"))).raise_for_status()
    for who, is_admin in ((person, True), (viewer, False)):
        page = (await who.get(f"/admin/submissions/{reserved}")).text
        assert "task-7" in page
        assert "/callbacks/" not in page
        assert ("?task_id=task-7#bind" in page) is is_admin
        assert (">Bind<" in page) is is_admin
    assert 'value="task-7"' in (await person.get(f"/admin/submissions/{reserved}?task_id=task-7")).text
    for wrong in ("", "x" * 600, "a\x00b"):
        place = f"/admin/submissions/{reserved}/bind"
        assert (await submit(person, place, {"task_id": wrong})).status_code == 400
        assert (await submit(viewer, place, {"task_id": "task-7"})).status_code == 403

    fields = {"task_id": "task-7", "reason": "lost"}
    answer = await submit(person, f"/admin/submissions/{reserved}/bind", fields)

    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/tasks/vidgo/task-7")
    assert (await backend.get("/tasks/vidgo/task-7")).json()["state"] == "failed"  # what came early counts
    again = await submit(person, f"/admin/submissions/{reserved}/bind", {"task_id": "task-8"})
    assert again.status_code == 409
    bound = await person.get(f"/admin/submissions/{reserved}")
    assert bound.headers["location"] == "/admin/tasks/vidgo/task-7"
    noted = await acts(runtime, Act.SUBMISSION_BOUND)
    assert [(each.target, each.reason) for each in noted] == [(reserved, "lost")]
    assert (await person.get("/admin/submissions/sub_none")).status_code == 404


async def test_a_backend_that_binds_is_everyday_work_and_an_admin_is_noted(
    runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    for number, who in enumerate((backend, admin)):
        reserved = await reserve(backend)
        (await who.patch(f"/submissions/{reserved}", json={"task_id": f"t{number}"})).raise_for_status()
    assert [each.door for each in await acts(runtime, Act.SUBMISSION_BOUND)] == ["api"]


# --- what sinks did not get ------------------------------------------------------------------------------


@on_both_engines
async def test_dead_letters_of_a_sink_are_moved_to_another_one(
    runtime: Runtime, backend: httpx2.AsyncClient, person: httpx2.AsyncClient
) -> None:
    for number in range(3):
        await fail_task(backend, runtime, f"task-{number}")
    await give_up(runtime, 3)
    listed = (await person.get("/admin/dead-letters?sink=app")).text
    assert "Plan to move all of app" in listed
    plan, page = await plan_of(person, deed="move", sink="app", to="log")
    assert "<strong>3</strong>" in page
    await fail_task(backend, runtime, "task-later")
    assert (await do(person, plan, "3")).text.count("<strong>3</strong> of 3 moved") == 1
    assert (await do(person, plan, "3")).status_code == 409

    outbox = (await runtime.store.count_stats()).outbox
    assert (outbox["app"], outbox["log"]) == ({"pending": 1}, {"pending": 3})
    (noted,) = await acts(runtime, Act.DEAD_MOVED)
    assert (noted.planned, noted.done, noted.reason, noted.result) == (3, 3, "INC-77", "done")
    assert (noted.filter or {})["to"] == "log"


@on_both_engines
async def test_dead_letters_are_dropped_and_their_tasks_stay(
    runtime: Runtime, backend: httpx2.AsyncClient, person: httpx2.AsyncClient
) -> None:
    await fail_task(backend, runtime, "task-1")
    await give_up(runtime, 1)
    plan, page = await plan_of(person, deed="drop", sink="app")
    assert "it cannot be undone" in page
    assert "<strong>1</strong> of 1 dropped" in (await do(person, plan, "1")).text
    assert "No dead letters" in (await person.get("/admin/dead-letters?sink=app")).text
    assert (await backend.get("/tasks/vidgo/task-1")).json()["state"] == "failed"
    assert [each.done for each in await acts(runtime, Act.DEAD_DROPPED)] == [1]


@on_both_engines
async def test_what_a_sink_that_is_gone_is_owed_goes_to_another_from_its_page(
    web_settings: Settings, environment: dict[str, str]
) -> None:
    clock = TurnableClock()
    async with (
        open_runtime(web_settings, clock=clock) as runtime,
        caller(build_app(runtime), API_TOKEN) as backend,
    ):
        await fail_task(backend, runtime, "task-1")
    kept = tuple(sink for sink in web_settings.sinks if sink.name == "log")
    after = msgspec.structs.replace(web_settings, sinks=kept)
    async with open_runtime(after, clock=clock) as runtime, browser(build_app(runtime)) as person:
        await log_in(person, ADMIN_TOKEN)
        person.headers.update(OURS)
        assert "/admin/sinks/app" in (await person.get("/admin/sinks")).text
        page = (await person.get("/admin/sinks/app")).text
        assert "not set" in page
        assert "Plan to move all of it" in page
        plan, shown = await plan_of(person, deed="move", sink="app", to="log")
        assert "which is not set any more" in shown
        assert "receiver dead move --sink app --to log" in shown
        assert "<strong>1</strong> of 1 moved" in (await do(person, plan, "1")).text
        clock.turn(60)  # what is counted is counted anew after a while
        assert (await person.get("/admin/sinks/app")).status_code in {200, 404}


async def test_what_cannot_be_cleared_is_said(person: httpx2.AsyncClient, viewer: httpx2.AsyncClient) -> None:
    for fields in (
        {},
        {"deed": "burn"},
        {"deed": "withdraw"},
        {"deed": "drop"},
        {"deed": "move", "sink": "app"},
        {"deed": "move", "sink": "app", "to": "app"},
        {"deed": "move", "sink": "app", "to": "nobody"},
    ):
        assert (await submit(person, "/admin/clearings", fields)).status_code == 400, fields
    plan, page = await plan_of(person, deed="drop", sink="app")
    assert "nothing to do" in page
    assert (await submit(viewer, "/admin/clearings", {"deed": "drop", "sink": "app"})).status_code == 403
    assert (await viewer.get(f"/admin/clearings/{plan}")).status_code == 403
    assert (await person.get(f"/admin/plans/{plan}")).status_code == 403  # of another kind
    assert (await person.get(f"/admin/clearings/{plan[:-1]}0")).status_code == 403


async def test_a_log_in_that_is_old_gives_its_token_again_before_anything_is_taken_away(
    web_settings: Settings,
) -> None:
    clock = TurnableClock()
    async with open_runtime(web_settings, clock=clock) as runtime:
        app = build_app(runtime)
        async with browser(app) as person, caller(app, API_TOKEN) as backend:
            await log_in(person, ADMIN_TOKEN)
            person.headers.update(OURS)
            reserved = await reserve(backend)
            clock.turn(660)
            plan, page = await plan_of(person, deed="withdraw", pick=reserved)
            assert "Your token once more" in page
            assert (await do(person, plan, "1")).status_code == 403
            fields = {"plan": plan, "number": "1", "reason": "x", "token": ADMIN_TOKEN}
            assert (await submit(person, "/admin/clearings/do", fields)).status_code == 200
