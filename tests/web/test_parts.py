"""What refreshes itself: parts of pages, for the script that asks and for people; and what is vendored."""

import base64
import hashlib
import re
from datetime import timedelta

import httpx2
import pytest
from click.testing import CliRunner
from starlette.types import ASGIApp

from receiver.cli import main
from receiver.config.settings import Settings
from receiver.licences import content_of, licence_of, vendored
from receiver.models import ReplayState
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock
from receiver.web.app import build_app
from receiver.web.pages.static import static_files
from tests.support import filled_pages
from tests.support.filled_pages import CANARIES, fill
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, kept_cookie, log_in
from tests.support.web_callers import ADMIN_TOKEN, caller

BY_SCRIPT = {"hx-request": "true", **OURS}


@pytest.fixture
def environment() -> dict[str, str]:
    return {**filled_pages.ENVIRONMENT, "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN}


async def test_a_part_is_a_part_for_the_script_and_a_page_for_people(
    runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    await fill(runtime, backend, admin)
    (replay,) = await runtime.store.list_replays(1)
    whole = (await viewer.get("/admin/")).text
    for place in ("health", "counts", f"replays/{replay.id}"):
        part = await viewer.get(f"/admin/parts/{place}", headers=BY_SCRIPT)
        assert part.status_code in {200, 286}
        assert "<html" not in part.text
        assert not any(canary in part.text for canary in CANARIES)
        page = await viewer.get(f"/admin/parts/{place}")
        assert "<h1>" in page.text
        assert "</main>" in page.text
    for place in ("health", "counts"):
        assert f'hx-get="/admin/parts/{place}" hx-trigger="every 10s"' in whole
    shown = re.findall(r'<li class="\w+" id="([^"]+)"', whole)
    again = (await viewer.get("/admin/parts/health", headers=BY_SCRIPT)).text
    assert shown == re.findall(r'<li class="\w+" id="([^"]+)"', again)
    assert (await viewer.get("/admin/parts/replays/rpl_none")).status_code == 404


async def test_a_replay_that_is_over_is_asked_about_no_more(
    runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    await fill(runtime, backend, admin)
    (replay,) = await runtime.store.list_replays(1)
    if replay.state in {ReplayState.RUNNING, ReplayState.PAUSED}:
        await runtime.store.change_replay(replay.id, ReplayState.CANCELLED, runtime.clock.now())
    assert (await viewer.get(f"/admin/parts/replays/{replay.id}", headers=BY_SCRIPT)).status_code == 286
    assert "hx-get" not in (await viewer.get(f"/admin/replays/{replay.id}")).text


async def test_without_a_log_in_the_script_loads_the_whole_page(app: ASGIApp) -> None:
    async with browser(app) as stranger:
        answer = await stranger.get("/admin/parts/health", headers=BY_SCRIPT)
        assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")
        assert (await stranger.get("/admin/parts/health", headers=OURS)).status_code == 303


async def test_a_page_that_only_refreshes_itself_keeps_no_log_in_alive(web_settings: Settings) -> None:
    clock = TurnableClock()
    async with open_runtime(web_settings, clock=clock) as runtime, browser(build_app(runtime)) as person:
        await log_in(person, ADMIN_TOKEN)
        for _ in range(7):
            clock.turn(timedelta(minutes=9).total_seconds())
            answer = await person.get("/admin/parts/health", headers=BY_SCRIPT)
        assert answer.status_code == 401


async def test_health_is_told_to_a_browser_with_a_log_in_and_to_programs_with_a_token(
    app: ASGIApp, viewer: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    by_cookie = await viewer.get("/admin/health.json")
    async with caller(app, ADMIN_TOKEN) as admin:
        by_token = await admin.get("/admin/health.json")
        both = await admin.get("/admin/health.json", headers=kept_cookie(viewer))
    for answer in (by_cookie, by_token, both):
        assert answer.status_code == 200
        assert {"status", "lines", "looked_at"} <= answer.json().keys()
    assert by_cookie.headers["cache-control"] == "no-store"
    assert (await stranger.get("/admin/health.json")).status_code == 401
    wrong = {**kept_cookie(viewer), "authorization": "Bearer wrong-wrong-wrong"}
    assert (await stranger.get("/admin/health.json", headers=wrong)).status_code == 401


async def test_the_menu_says_where_something_is_wrong(
    runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    await fill(runtime, backend, admin)
    page = (await viewer.get("/admin/help")).text
    assert re.search(r'href="/admin/dead-letters">Dead letters <span class="wrongs-of">1<', page)
    assert "/admin/dead-letters" in (await viewer.get("/admin/")).text


# --- vendored files --------------------------------------------------------------------------------------


def test_every_vendored_file_is_listed_whole_and_as_it_was_published() -> None:
    listed = {each.file: each for each in vendored()}
    assert set(listed) == {
        name for name in static_files() if name not in {"style.css", "icon.svg", "pages.js"}
    }
    for each in listed.values():
        assert hashlib.sha256(content_of(each)).hexdigest() == each.sha256
        assert len(base64.b64decode(each.integrity.removeprefix("sha512-"))) == 64
        assert "THE SOFTWARE IS PROVIDED" in licence_of(each)


def test_the_licences_of_what_is_shipped_are_shown() -> None:
    shown = CliRunner().invoke(main, ["--licences"])
    assert shown.exit_code == 0
    assert "htmx.min.js: htmx.org 2.0.11, 0BSD" in shown.output
    assert "Zero-Clause BSD" in shown.output
