"""The admin pages in Debian's Chromium: sound in every dress, for each role, with and without scripts.

``SCREENSHOTS=folder pytest tests/e2e/test_browser.py`` leaves screenshots of them there in every dress, for
people to look at.
"""

import asyncio
import math
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from receiver.config.settings import Settings, load_settings
from receiver.errors import Unavailable
from receiver.models import HOUR, MINUTE, Sample, SubmissionFilter, series_name
from receiver.record import readers
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock, sample_callback
from receiver.web.app import build_app
from receiver.web.pages.all_pages import PAGES
from receiver.web.pages.security import HEADERS
from receiver.web.pages.visits import Access
from receiver.web.plots import KINDS
from tests.support import filled_pages
from tests.support.filled_pages import DONE, HOSTILE_TASK, PROMPT, fill
from tests.support.loopback import serving
from tests.support.missing import missing
from tests.support.page_callers import VIEWER_TOKEN
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, callback_path, caller, log_task

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Of each page the dresses in which axe looks at it, by role: together both schemes, wide and narrow.
DRESSES = {
    "admin": ((1280, "light"), (390, "dark")),
    "viewer": ((1280, "dark"), (390, "light")),
}
WIDTHS = (1280, 1101, 768, 390, 320)
TOKENS = {"admin": ADMIN_TOKEN, "viewer": VIEWER_TOKEN}
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
OF_A_FILE = {"content-security-policy": "default-src 'none'; sandbox"}
MOST_BYTES = 40_000  # of a page with its style sheet and scripts, over the wire
MOST_PAINT_MS = 2_000  # until something is seen, on whatever machine the tests run; 200 on a quiet one
LOOKS = 5  # one of which a busy machine has time for
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SHOTS = os.environ.get("SCREENSHOTS")
SHOT_WIDTHS = (1280, 390, 320)
# Leaves two of the rows and columns that are alike but for their words and numbers: axe says of a hundred
# what it says of two, and takes as much longer.
THIN = """() => {
    const told = new Set(["class", "type", "role", "scope"]);
    const shape = element => [
        element.tagName,
        ...[...element.attributes].map(each => each.name + (told.has(each.name) ? each.value : !!each.value)),
        ...(element.children.length ? [...element.children].map(shape) : [!!element.textContent.trim()]),
    ].join();
    for (const parent of document.querySelectorAll("tbody, svg, ul, dl")) {
        const seen = {};
        for (const child of [...parent.children]) {
            const kind = shape(child);
            seen[kind] = (seen[kind] || 0) + 1;
            if (seen[kind] > 2) child.remove();
        }
    }
}"""
LOST = 101  # tasks: more than may be replayed without typing how many


def a_day(runtime: Runtime) -> list[Sample]:
    """Something in every column of every plot, of today and of a week ago."""
    now = int(runtime.clock.now().timestamp()) // MINUTE * MINUTE
    labels = {"verdict": "early", "outcome": "timeout", "status": "401", "le": "0.5"}
    return [
        Sample(series_name(kind.measure, **({kind.by: labels[kind.by]} if kind.by else {})), at, count % 37)
        for kind in KINDS.values()
        for before in (0, 7 * 24 * HOUR)
        for count, at in enumerate(range(now - 24 * HOUR - before, now - before, 15 * MINUTE))
    ]


async def lose(settings: Settings) -> None:
    """Tasks of which nothing was heard for a day and an hour, so that they count as lost."""
    clock = TurnableClock(datetime.now(UTC) - timedelta(hours=25))
    async with open_runtime(settings, work=(), clock=clock) as runtime:
        async with caller(build_app(runtime), API_TOKEN) as backend:
            for number in range(LOST):
                await log_task(backend, f"task-lost-{number}")
        now, lose_one = datetime.now(UTC), runtime.ingest.mark_lost
        ends = (lose_one("vidgo", f"task-lost-{number}", "no end came", now) for number in range(LOST))
        await asyncio.gather(*ends)


class Service:
    """A service on a port of this machine."""

    def __init__(self, runtime: Runtime, port: int) -> None:
        self.runtime = runtime
        self.url = f"http://127.0.0.1:{port}"


def chromium() -> str:
    return shutil.which("chromium") or missing("chromium is not installed")


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's source, to be evaluated: the pages take no script from elsewhere."""
    try:
        import axe_playwright_python  # noqa: PLC0415 - an extra of its own
    except ImportError:
        missing("axe-playwright-python is not installed: pip install 'callback-receiver[browser]'")
    (found,) = Path(axe_playwright_python.__file__).parent.rglob("axe.min.js")
    return found.read_text()


@pytest.fixture(scope="module")
def patient() -> Iterator[None]:
    before, readers.PAGE_SECONDS = readers.PAGE_SECONDS, 60.0
    yield
    readers.PAGE_SECONDS = before


def settings_in(folder: Path) -> Settings:
    environment = {
        **filled_pages.ENVIRONMENT,
        "RECEIVER_DATA_DIR": str(folder),
        "RECEIVER_SECRET": "a-secret-for-tests-only",
        "RECEIVER_API_TOKENS": API_TOKEN,
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
        "RECEIVER_VIEWER_TOKENS": f"desk:{VIEWER_TOKEN}",
        "RECEIVER_PUBLIC_URL": "http://127.0.0.1",
    }
    return load_settings(environment)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory, patient: None) -> AsyncIterator[Service]:
    """One that is filled."""
    settings = settings_in(tmp_path_factory.mktemp("service"))
    await lose(settings)
    async with open_runtime(settings) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, caller(app, ADMIN_TOKEN) as admin:
            await fill(runtime, backend, admin)
            await log_task(backend, "task-waits-1", model="flux")
            links = [f"http://127.0.0.1:9/{number}.png" for number in range(2)]  # nobody listens
            body = sample_callback("vidgo", "task-waits-1", files=links)
            (await backend.post(callback_path(runtime), content=body)).raise_for_status()
        await runtime.store.add_time_series(a_day(runtime), [])
        async with serving(app) as port:
            yield Service(runtime, port)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def empty_service(tmp_path_factory: pytest.TempPathFactory, patient: None) -> AsyncIterator[Service]:
    """One to which nothing happened yet."""
    async with (
        open_runtime(settings_in(tmp_path_factory.mktemp("empty"))) as runtime,
        serving(build_app(runtime)) as port,
    ):
        yield Service(runtime, port)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    """One browser for all tests; nothing is downloaded."""
    try:
        from playwright.async_api import async_playwright  # noqa: PLC0415 - an extra of its own
    except ImportError:
        missing("playwright is not installed: pip install 'callback-receiver[browser]'")
    path = chromium()
    async with async_playwright() as playwright:
        # As root, as CI runs, it has no sandbox of its own.
        launched = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        await launched.close()


class Watch:
    """What a tab did that it must not: told by a test at its end."""

    def __init__(self, tab: Any, service: Service) -> None:
        self.wrong: list[str] = []
        self.bytes = 0
        self._url = service.url
        tab.on("console", self._console)
        tab.on("pageerror", lambda error: self.wrong.append(f"page error {error}"))
        tab.on("request", self._request)
        tab.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith(f"{self._url}/"):
            self.wrong.append(f"foreign request {request.url}")

    def _response(self, response: Any) -> None:
        headers = response.headers
        wanted = dict(HEADERS)
        if "/admin/originals/" in response.url or "/admin/thumbs/" in response.url:  # as at /assets
            wanted = {
                "content-security-policy": "default-src 'none'; sandbox",
                "x-content-type-options": "nosniff",
            }
        lacking = [name for name, value in wanted.items() if headers.get(name) != value]
        if lacking:
            self.wrong.append(f"{response.url} lacks {lacking}")


async def addresses(service: Service, role: str) -> list[str]:
    (replay,) = await service.runtime.store.list_replays(1)
    unbound = await service.runtime.store.list_submissions(SubmissionFilter(bound=False), 1, None)
    pages = [
        page.path for page in PAGES if page.menu and (role == "admin" or page.access is not Access.ADMIN)
    ]
    return [
        *pages,
        "/admin/tasks?view=grid",
        "/admin/tasks?since=yesterday",
        "/admin/tasks?state=failed&owner=nobody",
        f"/admin/tasks/vidgo/{DONE}",
        f"/admin/tasks/vidgo/{quote(HOSTILE_TASK, safe='')}",
        f"/admin/tasks/vidgo/{DONE}?callbacks=1",
        f"/admin/tasks/vidgo/{DONE}?file=0",
        f"/admin/tasks/vidgo/{DONE}?file=1",
        "/admin/tasks/vidgo/nothing",
        "/admin/deliveries?verdict=unrecognised",
        f"/admin/submissions/{unbound.submissions[0].id}",
        "/admin/dead-letters?sink=app",
        "/admin/costs?by=owner,provider,model,day,token",
        "/admin/costs?since=yesterday&by=prompt",
        "/admin/sinks/app",
        "/admin/providers/vidgo",
        "/admin/providers/reapi",
        "/admin/deliveries?verdict=turned-away",
        "/admin/history?plot=files",
        "/admin/?span=1h",
        f"/admin/replays/{replay.id}",
        "/admin/find?q=task-open",
    ]


@asynccontextmanager
async def tab_of(browser: Any, service: Service, role: str | None, **options: Any) -> AsyncIterator[Any]:
    """A tab in a browser profile of its own, logged in if there is a role."""
    context = await browser.new_context(**options)
    tab = await context.new_page()
    try:
        if role:
            await log_in(tab, service, TOKENS[role])
        yield tab
    finally:
        await context.close()


async def log_in(tab: Any, service: Service, token: str) -> None:
    await tab.goto(f"{service.url}/admin/login")
    await tab.fill("#token", token)
    await tab.fill("#name", "oncall-b")
    await tab.click("main button")
    await tab.wait_for_url(f"{service.url}/admin/")


EXPECTED = re.compile(
    r"console: Failed to load resource: the server responded with a status of (400|403|404|503)"
)


@pytest.mark.parametrize("role", ["admin", "viewer"])
@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
async def test_every_page_is_sound_in_every_dress(
    browser: Any, service: Service, axe: str, role: str, has_scripts: bool
) -> None:
    found: list[str] = []
    async with tab_of(browser, service, role, java_script_enabled=has_scripts) as tab:
        watch = Watch(tab, service)
        for number, place in enumerate(await addresses(service, role)):
            found += await wrong_at(tab, watch, service.url, place)
            if not has_scripts:
                continue
            await photograph(tab, f"{role}-{number:02}{place}")
            await tab.evaluate(THIN)
            for width, scheme in DRESSES[role]:
                await dress(tab, width, scheme)
                found += [f"{place}, {width} {scheme}: {each}" for each in await findings(tab, axe)]
    assert found == []


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("state", ["empty", "a part late", "the store away"])
async def test_every_page_is_sound_when_there_is_nothing_or_nothing_can_be_read(
    browser: Any, empty_service: Service, axe: str, has_scripts: bool, state: str
) -> None:
    """Each role in its dresses, by turns, as there is little on these pages that could differ."""
    found: list[str] = []
    role = "admin" if has_scripts else "viewer"
    with pytest.MonkeyPatch.context() as patch:
        async with tab_of(browser, empty_service, role, java_script_enabled=has_scripts) as tab:
            watch = Watch(tab, empty_service)
            if state != "empty":
                patch.setattr(readers, "PAGE_SECONDS", 4.0)
            break_reads(empty_service.runtime, state, patch)
            menu = [page for page in PAGES if page.menu]
            for number, page in enumerate(menu):
                if role == "viewer" and page.access is Access.ADMIN:
                    continue
                found += await wrong_at(tab, watch, empty_service.url, page.path)
                if has_scripts:
                    await photograph(tab, f"{state}{page.path}")
                if (
                    has_scripts and state != "the store away"
                ):  # the parts are those that are late, all of them
                    width, scheme = DRESSES[("admin", "viewer")[number // 2 % 2]][number % 2]
                    await tab.evaluate(THIN)
                    await dress(tab, width, scheme)
                    found += [f"{page.path}, {width} {scheme}: {each}" for each in await findings(tab, axe)]
                if state == "the store away":
                    assert await tab.locator("header.top .who").count() == 1, page.path
    assert found == []


def break_reads(runtime: Runtime, state: str, patch: pytest.MonkeyPatch) -> None:
    """Let the store answer no page's question, or none but who is there."""
    pages = type(runtime.store.pages)

    async def away(*_: object) -> None:
        raise Unavailable("away")

    if state == "the store away":
        patch.setattr(pages, "_read", away)
        patch.setattr(type(runtime.store), "count_backlog", away)
        patch.setattr(type(runtime.store), "count_stats", away)
    elif state == "a part late":
        for name in vars(pages):
            if name.startswith(("list_", "read_", "count_", "sum_")) and name != "list_sessions":
                patch.setattr(pages, name, away)


async def dress(tab: Any, width: int, scheme: str) -> None:
    await tab.emulate_media(color_scheme=scheme)
    await tab.set_viewport_size({"width": width, "height": 900})


async def photograph(tab: Any, name: str) -> None:
    """Leave pictures of a page in every dress, where they are wanted."""
    for width in SHOT_WIDTHS if SHOTS else ():
        for scheme in ("light", "dark"):
            await dress(tab, width, scheme)
            words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:70]
            place = Path(SHOTS or "") / f"{words}-{width}-{scheme}.jpeg"
            await tab.screenshot(path=place, type="jpeg", quality=70, full_page=True)


async def wrong_at(tab: Any, watch: Watch, url: str, place: str) -> list[str]:
    """What a page does that it must not, at any width."""
    await tab.set_viewport_size({"width": 1280, "height": 900})
    await tab.goto(url + place)
    found = [f"{place}: {each}" for each in watch.wrong if not EXPECTED.match(each)]
    watch.wrong.clear()
    for width in WIDTHS:
        await tab.set_viewport_size({"width": width, "height": 900})
        wide = await tab.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{place}: scrolls sideways at {width} px to {wide}")
    return found


async def findings(tab: Any, axe: str) -> list[str]:
    """What axe finds wrong with a page as it is shown now."""
    if await tab.evaluate("typeof axe") == "undefined":
        await tab.evaluate(axe)
    options = {"runOnly": list(RULES), "resultTypes": ["violations"], "preload": False}
    result = await tab.evaluate("options => axe.run(document, options)", options)
    return [
        f"axe {each['id']}: {each['help']} at {[node['target'] for node in each['nodes']][:3]}"
        for each in result["violations"]
    ]


async def test_the_form_and_the_page_in_between_are_sound_too(
    browser: Any, service: Service, axe: str
) -> None:
    async with tab_of(browser, service, None) as tab:
        watch = Watch(tab, service)
        for width in WIDTHS:
            await tab.set_viewport_size({"width": width, "height": 900})
            await tab.goto(f"{service.url}/admin/login")
            assert await findings(tab, axe) == []
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        await tab.fill("#token", "wrong-wrong-wrong-wrong")
        await tab.keyboard.press("Enter")
        await tab.wait_for_selector(".problem")
        assert await findings(tab, axe) == []
        assert [each for each in watch.wrong if not EXPECTED.match(each)] == []


async def test_a_link_on_another_site_opens_the_page_and_a_form_there_does_nothing(
    browser: Any, service: Service
) -> None:
    page = (
        f'<a href="{service.url}/admin/sessions">a link in a chat</a>'
        f'<form method="post" action="{service.url}/admin/sessions/end"><input name="all" value="true">'
        "<button>a trap</button></form>"
    ).encode()

    async def elsewhere(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-length", str(len(page)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": page})

    for has_scripts in (True, False):
        async with (
            serving(elsewhere) as port,
            tab_of(browser, service, "admin", java_script_enabled=has_scripts) as tab,
        ):
            await tab.goto(f"http://localhost:{port}/")  # another site than 127.0.0.1
            await tab.click("a")
            await tab.wait_for_url(re.compile("/admin/sessions.*refreshed=1"))
            assert await tab.text_content("h1") == "Log-ins"
            await tab.goto(f"http://localhost:{port}/")
            await tab.click("button")
            await tab.wait_for_selector("h1")
            assert await tab.text_content("h1") == "Not allowed"
            await tab.goto(f"{service.url}/admin/")
            assert await tab.text_content(".who") is not None


async def test_without_a_mouse_somebody_gets_in_finds_and_leaves(browser: Any, service: Service) -> None:
    async with tab_of(browser, service, None, java_script_enabled=False) as tab:
        await tab.goto(f"{service.url}/admin/tasks?state=failed")
        await tab.focus("#token")
        await tab.keyboard.type(ADMIN_TOKEN)
        await tab.keyboard.press("Enter")
        await tab.wait_for_url(f"{service.url}/admin/tasks?state=failed")  # where it wanted to be
        await tab.keyboard.press("Tab")
        assert await tab.evaluate("document.activeElement.textContent") == "Skip to the content"
        await tab.focus("#find")
        await tab.keyboard.type(DONE[:20])
        await tab.keyboard.press("Enter")
        await tab.wait_for_url(f"{service.url}/admin/tasks/vidgo/{DONE}")
        await tab.focus("header.top form[action$=logout] button")
        await tab.keyboard.press("Enter")
        await tab.wait_for_url(f"{service.url}/admin/login")
        await tab.goto(f"{service.url}/admin/")
        assert "/admin/login" in tab.url


async def test_dark_is_kept(browser: Any, service: Service) -> None:
    async with tab_of(browser, service, "viewer") as tab:
        await tab.click("text=dark")
        await tab.wait_for_selector("html[data-look=dark]")
        dark = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        await tab.goto(f"{service.url}/admin/tasks")
        assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") == dark


@pytest.mark.parametrize(
    "place", ["", "history", "tasks", "sinks", "providers", "doctor", f"tasks/vidgo/{DONE}"]
)
async def test_a_page_is_light_on_the_wire_and_soon_seen(browser: Any, service: Service, place: str) -> None:
    """With something in every column of every plot, and nothing kept from another page."""
    async with tab_of(browser, service, "admin") as tab:
        protocol = await tab.context.new_cdp_session(tab)
        await protocol.send("Network.setCacheDisabled", {"cacheDisabled": True})
        painted = [math.inf]
        while painted[-1] >= MOST_PAINT_MS and len(painted) <= LOOKS:
            await tab.goto(f"{service.url}/admin/{place}", wait_until="networkidle")
            painted.append(await tab.evaluate(PAINTED))
        sent = await tab.evaluate(
            "performance.getEntries().filter(e => e.transferSize && !/thumbs|originals/.test(e.name))"
            ".reduce((sum, e) => sum + e.transferSize, 0)"
        )
        assert sent > 1_000
        assert sent < MOST_BYTES
        assert min(painted) < MOST_PAINT_MS


async def test_keys_do_what_the_list_below_each_page_says_until_they_are_switched_off(
    browser: Any, service: Service
) -> None:
    async with tab_of(browser, service, "admin") as tab:
        watch = Watch(tab, service)
        await tab.keyboard.press("g")
        await tab.keyboard.press("t")
        await tab.wait_for_url(f"{service.url}/admin/tasks")
        await tab.keyboard.press("j")
        await tab.keyboard.press("j")
        second = "document.activeElement.closest('tr') === document.querySelectorAll('tbody tr')[1]"
        assert await tab.evaluate(second)
        await tab.keyboard.press("k")
        await tab.keyboard.press("x")
        assert await tab.locator("tbody input:checked").count() == 1
        await tab.keyboard.press("Enter")
        await tab.wait_for_url(re.compile("/admin/tasks/vidgo/"))
        await tab.keyboard.press("/")
        await tab.keyboard.type("g t x")
        assert await tab.input_value("#find") == "g t x"
        await tab.keyboard.press("Tab")
        await tab.keyboard.press("?")
        assert await tab.get_attribute("#keys", "open") is not None
        await tab.uncheck("#keys-on")
        here = tab.url
        await tab.goto(here)
        await tab.keyboard.press("/")
        assert await tab.evaluate("document.activeElement.id") != "find"
        assert watch.wrong == []


async def test_the_overview_refreshes_itself_until_it_is_paused(browser: Any, service: Service) -> None:
    async with tab_of(browser, service, "viewer") as tab:
        watch = Watch(tab, service)
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        refresh = "htmx.ajax('GET', '/admin/parts/health', {source: '#health', target: '#health'})"
        await tab.evaluate(refresh)
        assert f"{service.url}/admin/parts/health" in asked
        assert await tab.locator("#health .wrongs li").count() > 0
        await tab.click("#pause")
        assert await tab.get_attribute("#pause", "aria-pressed") == "true"
        asked.clear()
        asks = """() => {
            const elt = document.querySelector("#health");
            return htmx.trigger(elt, "htmx:beforeRequest", {elt});
        }"""
        assert not await tab.evaluate(asks)
        await tab.click("#pause")
        assert await tab.evaluate(asks)
        await tab.goto(f"{service.url}/admin/help")
        assert await tab.is_hidden("#pause")
        assert watch.wrong == []


async def test_from_an_alert_to_a_replay_that_runs_are_four_clicks_and_one_number(
    browser: Any, service: Service
) -> None:
    for has_scripts in (True, False):
        async with tab_of(browser, service, "admin", java_script_enabled=has_scripts) as tab:
            await tab.goto(f"{service.url}/admin/#lost")  # the first click: what an alert names as its page
            await tab.click("li[id='lost'] >> text=Look at it")
            await tab.wait_for_url(re.compile("/admin/tasks"))
            assert await tab.locator("tbody tr").count() == 50  # those that the line counts are among them
            await tab.click("text=Plan for all that match")
            await tab.wait_for_url(re.compile("/admin/plans/"))
            await photograph(tab, f"plan-large-{has_scripts}")
            wanted = await tab.inner_text("dd strong")
            assert int(wanted) >= LOST
            await tab.fill("#number", wanted)
            await tab.fill("#reason", "INC-77")
            await tab.click("text=Do it")
            await tab.wait_for_url(re.compile("/admin/replays/rpl_"))
            assert "Looked at" in await tab.inner_text("main")


async def test_from_a_line_of_health_to_what_is_done_about_it_are_three_clicks(
    browser: Any, service: Service, axe: str
) -> None:
    async with tab_of(browser, service, "admin", java_script_enabled=True) as tab:
        watch = Watch(tab, service)
        await tab.click("li[id='dead_letters'] >> text=Look at it")
        await tab.click("text=Plan a requeue of all")
        await tab.wait_for_url(re.compile("/admin/plans/"))
        await photograph(tab, "plan-requeue")
        for width in WIDTHS:
            await tab.set_viewport_size({"width": width, "height": 900})
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        assert await findings(tab, axe) == []
        await tab.click("text=Do it")
        await tab.wait_for_url(re.compile("/admin/audit.target=rqe_"))  # what came of it, and who did it
        assert await tab.text_content("td[data-label=Act]") == "dead_letters.requeued"
        assert watch.wrong == []


async def test_an_admin_reads_a_prompt_once_for_a_reason_and_the_audit_says_so(
    browser: Any, service: Service, axe: str
) -> None:
    async with tab_of(browser, service, "admin", java_script_enabled=True) as tab:
        watch = Watch(tab, service)
        await tab.goto(f"{service.url}/admin/tasks/vidgo/{DONE}")
        await tab.click("text=Its prompt")
        await tab.fill("form[action*=prompts] [name=reason]", "complaint 311")
        await tab.click("text=Show it once")
        await tab.wait_for_selector("h1 >> text=Prompt of")
        assert PROMPT in await tab.text_content("main")
        await photograph(tab, "prompt")
        for width in WIDTHS:
            await tab.set_viewport_size({"width": width, "height": 900})
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        assert await findings(tab, axe) == []
        await tab.click("main >> text=audit")
        await tab.wait_for_url(re.compile("/admin/audit.act=prompt.revealed"))
        assert "complaint 311" in await tab.text_content("tbody")
        assert watch.wrong == []
