"""What people do by hand is noted once, with who, when, by which door and why; and nothing secret with it."""

import asyncio
import re

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp

from receiver.cli.peer import open_client
from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.models import Act, AuditFilter, AuditRow
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock
from receiver.web.app import build_app
from tests.support import filled_pages
from tests.support.engines import on_both_engines
from tests.support.filled_pages import CANARIES, PROMPT, fill
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, log_in, mark_in, submit
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, caller, fail_task, log_task


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        **filled_pages.ENVIRONMENT,
        "RECEIVER_VIEWER_TOKENS": f"desk:{VIEWER_TOKEN}",
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
    }


async def noted(runtime: Runtime, act: Act | None = None) -> list[AuditRow]:
    page = await runtime.store.list_audit(AuditFilter(act=act), 100, None)
    return list(page.entries)


async def planned(person: httpx2.AsyncClient, **fields: str) -> str:
    answer = await submit(person, "/admin/plans", fields)
    return answer.headers["location"].removeprefix("/admin/plans/")


# --- what is noted ---------------------------------------------------------------------------------------


@on_both_engines
async def test_each_act_says_who_when_by_which_door_and_how_many(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    for number in range(2):
        await fail_task(backend, runtime, f"t{number}")
    asked = {"stage": "notify", "filter": {"state": "failed"}, "sinks": ["app"], "rate": 0.001}
    replay = (await admin.post("/replays", json=asked)).json()
    for verb in ("pause", "pause", "resume", "cancel"):
        assert (await admin.post(f"/replays/{replay['id']}/{verb}")).status_code == 200
    assert (await admin.post(f"/replays/{replay['id']}/cancel")).status_code == 409

    listed = (await admin.get("/audit", params={"target": replay["id"]})).json()["audit"]

    assert [row["act"] for row in listed] == [
        "replay.cancelled",
        "replay.resumed",
        "replay.paused",
        "replay.started",
    ]  # fmt: skip - that it was paused already changed nothing
    started = listed[-1]
    assert (started["who"], started["role"], started["door"]) == ("admin root", "admin", "api")
    assert started["planned"] == 2
    assert started["filter"] == {"stage": "notify", "state": "failed", "sinks": ["app"]}
    assert (await admin.get("/audit", params={"act": "replay.paused"})).json()["audit"] == [listed[2]]
    assert (await admin.get("/audit", params={"who": "admin other"})).json()["audit"] == []


@on_both_engines
async def test_the_audit_is_listed_in_pages_and_of_a_time(
    admin: httpx2.AsyncClient, runtime: Runtime
) -> None:
    for _ in range(3):
        await admin.post("/sessions")
    one = (await admin.get("/audit", params={"limit": 2, "act": "login.link_made"})).json()
    two = (
        await admin.get("/audit", params={"limit": 2, "act": "login.link_made", "cursor": one["next_cursor"]})
    ).json()
    numbers = [row["number"] for row in one["audit"] + two["audit"]]
    assert numbers == sorted(numbers, reverse=True)
    assert (len(numbers), two["next_cursor"]) == (3, None)
    now = {"since": "2999-01-01T00:00:00Z"}
    assert (await admin.get("/audit", params=now)).json()["audit"] == []
    assert (await admin.get("/audit", params={"cursor": "at_1"})).json()["type"].endswith("bad-cursor")
    assert "replay.paused" in (await admin.get("/audit", params={"act": "nothing"})).json()["detail"]


async def test_the_command_line_is_told_from_other_clients(app: ASGIApp, runtime: Runtime) -> None:
    agent = open_client("http://receiver.test").headers["user-agent"]
    async with caller(app, ADMIN_TOKEN) as client:
        await client.post("/sessions", headers={"user-agent": agent})
    (entry,) = await noted(runtime, Act.LOGIN_LINK_MADE)
    assert entry.door == "cli"


@on_both_engines
async def test_what_a_page_does_has_the_said_name_and_the_reason(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fail_task(backend, runtime, "t1")
    plan = await planned(person, act="notify", scope="all")
    answers = [
        await submit(person, "/admin/plans/do", {"plan": plan, "reason": "INC-77,\n down"}) for _ in range(2)
    ]
    assert {answer.status_code for answer in answers} == {303}
    (entry,) = await noted(runtime, Act.REPLAY_STARTED)
    assert (entry.who, entry.said_name, entry.door) == ("admin root", "on call", "page")
    assert (entry.planned, entry.reason) == (1, "INC-77, down")
    page = (await person.get("/admin/audit?since=1h&act=replay.started")).text
    assert "INC-77, down" in page
    assert f"/admin/replays/{entry.target}" in page
    lines = (await person.get("/admin/audit.jsonl?act=replay.started")).text.splitlines()
    assert [msgspec.json.decode(line)["target"] for line in lines] == [entry.target]


@on_both_engines
async def test_dead_letters_count_in_the_entry_as_they_are_revived(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fill(runtime, backend, admin)
    dead = (await admin.post("/dead-letters/requeue", json={"filter": {}, "dry_run": True})).json()["matched"]
    assert dead
    await admin.post("/dead-letters/requeue", json={"filter": {}})
    (entry,) = await noted(runtime, Act.DEAD_REQUEUED)
    assert (entry.planned, entry.done, entry.result) == (dead, dead, "done")


async def test_log_ins_are_noted_and_failed_ones_counted_by_the_hour(web_settings: Settings) -> None:
    clock = TurnableClock()
    async with open_runtime(web_settings, work=(), clock=clock) as runtime:
        app = build_app(runtime)
        async with browser(app) as stranger:
            for _ in range(12):
                await log_in(stranger, "not-a-token-of-ours-at-all")
                clock.turn(1)
            (entry,) = await noted(runtime, Act.LOGIN_FAILED)
            assert (entry.who, entry.done) == ("stranger", 10)  # the last two were not even compared
            clock.turn(3_600)
            await log_in(stranger, "not-a-token-of-ours-at-all")
            assert len(await noted(runtime, Act.LOGIN_FAILED)) == 2
            await log_in(stranger, ADMIN_TOKEN)
        (entry,) = await noted(runtime, Act.LOGGED_IN)
        assert (entry.who, entry.role, entry.said_name) == ("admin root", "admin", "on call")


@on_both_engines
async def test_who_ends_sessions_is_noted(
    person: httpx2.AsyncClient, admin: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await submit(person, "/admin/sessions/end", {"id": "nobody"})
    assert await noted(runtime, Act.SESSIONS_ENDED) == []
    await admin.delete("/sessions")
    (entry,) = await noted(runtime, Act.SESSIONS_ENDED)
    assert (entry.door, entry.done) == ("api", 1)


@on_both_engines
async def test_admins_withdrawals_are_noted_and_a_backends_are_its_everyday_work(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    ids = [
        (await backend.post("/submissions", json={"provider": "vidgo", "owner": "a"})).json()["id"]
        for _ in range(2)
    ]
    await backend.delete(f"/submissions/{ids[0]}")
    for _ in range(2):
        await admin.delete(f"/submissions/{ids[1]}")
    assert [entry.target for entry in await noted(runtime, Act.SUBMISSION_WITHDRAWN)] == [ids[1]]


# --- the settings ----------------------------------------------------------------------------------------


async def test_a_start_by_other_settings_is_noted_with_their_names(web_settings: Settings) -> None:
    for settings in (
        web_settings,
        web_settings,
        msgspec.structs.replace(web_settings, early_limit=7, retention_days=9),
    ):
        async with open_runtime(settings, work=()) as runtime:
            entries = await noted(runtime, Act.SETTINGS_CHANGED)
    assert [entry.result for entry in entries] == [
        "RECEIVER_EARLY_LIMIT, RECEIVER_RETENTION_DAYS", "first start",
    ]  # fmt: skip


# --- who may look, and what is in it ---------------------------------------------------------------------


@on_both_engines
async def test_only_admins_read_it(
    app: ASGIApp, person: httpx2.AsyncClient, admin: httpx2.AsyncClient, backend: httpx2.AsyncClient
) -> None:
    places = ("/admin/audit", "/admin/audit.jsonl")
    async with caller(app) as stranger, browser(app) as viewer:
        assert (await stranger.get("/audit")).status_code == 401
        assert (await backend.get("/audit")).status_code == 403
        assert (await admin.get("/audit")).status_code == 200
        assert (await viewer.get(places[0])).status_code == 303
        await log_in(viewer, VIEWER_TOKEN)
        viewer.headers.update(OURS)
        assert {(await viewer.get(place)).status_code for place in places} == {403}
        assert {(await person.get(place)).status_code for place in places} == {200}
        assert (await person.get("/admin/audit?act=nothing&since=soon")).status_code == 400
        assert (await person.get("/admin/audit.jsonl?since=soon")).status_code == 400


@on_both_engines
async def test_nothing_secret_gets_into_it(
    person: httpx2.AsyncClient, admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fill(runtime, backend, admin)
    await admin.post("/dead-letters/requeue", json={"filter": {}})
    text = (await admin.get("/audit", params={"limit": 200})).text
    page = (await person.get("/admin/audit")).text
    for canary in (*CANARIES, PROMPT, ADMIN_TOKEN, API_TOKEN, VIEWER_TOKEN, "/callbacks/"):
        assert canary not in text
        assert canary not in page


async def test_what_a_log_in_was_about_is_no_row_of_the_record(person: httpx2.AsyncClient) -> None:
    page = (await person.get("/admin/audit?act=login.succeeded")).text
    row = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    assert row is not None
    cells = dict(re.findall(r'data-label="(About|Done)"[^>]*>(.*?)</td>', row[1]))
    assert "these pages" in cells["About"]
    assert re.sub("<[^>]+>", "", cells["Done"]) == "1"
    changed = (await person.get("/admin/audit?act=settings.changed")).text
    assert re.search(r'data-label="About">\s*settings</td>', changed)


# --- a prompt is read ------------------------------------------------------------------------------------


def once_in(page: str) -> str:
    found = re.search(r'name="once" value="([^"]+)"', page)
    assert found is not None
    return found[1]


@on_both_engines
async def test_a_prompt_is_shown_once_to_an_admin_who_says_why_and_that_is_noted_first(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    request = {
        "input": {"prompt": "CANARY a lighthouse at https://secret.test/x", "seed": 7},
        "api_key": "CANARYkey",
    }
    await log_task(backend, "t/1", request=request)
    page = (await person.get("/admin/tasks/vidgo/t%2F1")).text
    assert "CANARY" not in page
    asked = {"once": once_in(page), "reason": "complaint 311"}
    answers = [await submit(person, "/admin/prompts/vidgo/t%2F1", asked) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert "CANARY a lighthouse at [link: secret.test]" in answers[0].text
    assert "CANARYkey" not in answers[0].text
    assert "CANARY" not in answers[1].text
    assert answers[0].headers["cache-control"] == "no-store"
    (entry,) = await noted(runtime, Act.PROMPT_REVEALED)
    assert (entry.who, entry.target, entry.reason) == ("admin root", "vidgo/t/1", "complaint 311")


async def test_nobody_reads_a_prompt_without_a_reason_or_as_a_viewer(
    app: ASGIApp, person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await log_task(backend, "t1", request={"prompt": "CANARY"})
    once = once_in((await person.get("/admin/tasks/vidgo/t1")).text)
    for wrong in ({"once": once}, {"once": once, "reason": " "}, {"once": "x", "reason": "y"}):
        assert (await submit(person, "/admin/prompts/vidgo/t1", wrong)).status_code == 400
    assert (
        await submit(person, "/admin/prompts/vidgo/nothing", {"once": once, "reason": "y"})
    ).status_code == 404
    async with browser(app) as viewer:
        await log_in(viewer, VIEWER_TOKEN)
        viewer.headers.update(OURS)
        page = (await viewer.get("/admin/tasks/vidgo/t1")).text
        assert 'name="once"' not in page
        asked = {"once": once, "reason": "y"}
        assert (await submit(viewer, "/admin/prompts/vidgo/t1", asked)).status_code == 403
    assert await noted(runtime, Act.PROMPT_REVEALED) == []


async def test_what_cannot_be_noted_is_not_shown(
    person: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await log_task(backend, "t1", request={"prompt": "CANARY"})
    once = once_in((await person.get("/admin/tasks/vidgo/t1")).text)

    async def is_full(*_: object) -> bool:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(runtime.store, "note_act", is_full)
    answer = await submit(person, "/admin/prompts/vidgo/t1", {"once": once, "reason": "y"})
    assert answer.status_code == 503
    assert "CANARY" not in answer.text


# --- twice, late, elsewhere ------------------------------------------------------------------------------


async def test_a_second_tab_that_was_logged_out_does_nothing(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fail_task(backend, runtime, "t1")
    plan = await planned(person, act="notify", scope="all")
    mark = mark_in((await person.get(f"/admin/plans/{plan}")).text)
    await submit(person, "/admin/logout", {})
    answer = await person.post("/admin/plans/do", data={"mark": mark, "plan": plan})
    assert answer.headers["location"] == "/admin/login"
    await log_in(person, ADMIN_TOKEN)
    answer = await person.post("/admin/plans/do", data={"mark": mark, "plan": plan})
    assert answer.status_code == 403  # the mark, and the plan, are of the log-in before
    assert await noted(runtime, Act.REPLAY_STARTED) == []


async def test_a_reload_and_a_form_that_is_sent_after_going_back_start_nothing_more(
    person: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await fail_task(backend, runtime, "t1")
    plan = await planned(person, act="notify", scope="all")
    sent = {"mark": mark_in((await person.get(f"/admin/plans/{plan}")).text), "plan": plan}
    answers = await asyncio.gather(*(person.post("/admin/plans/do", data=sent) for _ in range(3)))
    await person.get(answers[0].headers["location"])
    answers.append(await person.post("/admin/plans/do", data={**sent, "reason": "another one"}))
    assert len({answer.headers["location"] for answer in answers}) == 1
    (entry,) = await noted(runtime, Act.REPLAY_STARTED)
    assert entry.reason is None
