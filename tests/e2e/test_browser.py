"""The admin pages in Debian's Chromium: sound in every dress, for each role, with and without scripts.

Screenshots of all of them are left in the test's folder, for people to look at.
"""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from receiver.config.settings import load_settings
from receiver.record import readers
from receiver.runtime import Runtime, open_runtime
from receiver.web.app import build_app
from receiver.web.pages.all_pages import PAGES
from receiver.web.pages.security import HEADERS
from receiver.web.pages.visits import Access
from tests.support import filled_pages
from tests.support.filled_pages import DONE, HOSTILE_TASK, fill
from tests.support.loopback import serving
from tests.support.missing import missing
from tests.support.page_callers import VIEWER_TOKEN
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOWN = ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"))
WIDTHS = (1280, 1101, 768, 390, 320)
TOKENS = {"admin": ADMIN_TOKEN, "viewer": VIEWER_TOKEN}
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
OF_A_FILE = {"content-security-policy": "default-src 'none'; sandbox"}
MOST_BYTES = 40_000  # of a page with its style sheet, over the wire


class Service:
    """A service that is filled, on a port of this machine."""

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
    before, readers.PAGE_SECONDS = readers.PAGE_SECONDS, 4.0
    yield
    readers.PAGE_SECONDS = before


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory, patient: None) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    environment = {
        **filled_pages.ENVIRONMENT,
        "RECEIVER_DATA_DIR": str(folder),
        "RECEIVER_SECRET": "a-secret-for-tests-only",
        "RECEIVER_API_TOKENS": API_TOKEN,
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
        "RECEIVER_VIEWER_TOKENS": f"desk:{VIEWER_TOKEN}",
        "RECEIVER_PUBLIC_URL": "http://127.0.0.1",
    }
    async with open_runtime(load_settings(environment)) as runtime:
        app = build_app(runtime)
        async with caller(app, API_TOKEN) as backend, caller(app, ADMIN_TOKEN) as admin:
            await fill(runtime, backend, admin)
        async with serving(app) as port:
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
        if "/admin/originals/" in response.url:  # as at /assets
            wanted = {
                "content-security-policy": "default-src 'none'; sandbox",
                "x-content-type-options": "nosniff",
            }
        lacking = [name for name, value in wanted.items() if headers.get(name) != value]
        if lacking:
            self.wrong.append(f"{response.url} lacks {lacking}")


async def addresses(service: Service, role: str) -> list[str]:
    (replay,) = await service.runtime.store.list_replays(1)
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
        *([f"/admin/tasks/vidgo/{DONE}?file=0"] if role == "admin" else []),
        "/admin/tasks/vidgo/nothing",
        "/admin/deliveries?verdict=unrecognised",
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
    r"console: Failed to load resource: the server responded with a status of (400|403|404)"
)


@pytest.mark.parametrize("role", ["admin", "viewer"])
@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
async def test_every_page_is_sound_in_every_dress(
    browser: Any, service: Service, axe: str, tmp_path: Path, role: str, has_scripts: bool
) -> None:
    found: list[str] = []
    async with tab_of(browser, service, role, java_script_enabled=has_scripts) as tab:
        watch = Watch(tab, service)
        for number, place in enumerate(await addresses(service, role)):
            await tab.set_viewport_size({"width": 1280, "height": 900})
            await tab.goto(service.url + place)
            found += [f"{place}: {each}" for each in watch.wrong if not EXPECTED.match(each)]
            watch.wrong.clear()
            for width in WIDTHS:
                await tab.set_viewport_size({"width": width, "height": 900})
                wide = await tab.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    found.append(f"{place}: scrolls sideways at {width} px to {wide}")
            if not has_scripts:
                continue
            width, scheme = (1280, "light") if role == "admin" else (390, "dark")
            await tab.emulate_media(color_scheme=scheme)
            await tab.set_viewport_size({"width": width, "height": 900})
            found += [f"{place}: {each}" for each in await findings(tab, axe)]
            name = re.sub(r"[^a-z0-9]+", "-", place.lower())[:60]
            if role == "admin":
                for width, scheme in SHOWN:
                    await tab.emulate_media(color_scheme=scheme)
                    await tab.set_viewport_size({"width": width, "height": 900})
                    await tab.screenshot(
                        path=tmp_path / f"{number:02}{name}-{width}-{scheme}.png", full_page=True
                    )
    assert found == []


async def findings(tab: Any, axe: str) -> list[str]:
    """What axe finds wrong with a page as it is shown now."""
    await tab.evaluate(axe)
    result = await tab.evaluate("axe.run(document, {runOnly: RULES})".replace("RULES", str(list(RULES))))
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


async def test_dark_is_kept_and_a_page_is_light_on_the_wire(browser: Any, service: Service) -> None:
    async with tab_of(browser, service, "viewer") as tab:
        await tab.click("text=dark")
        await tab.wait_for_selector("html[data-look=dark]")
        dark = await tab.evaluate("getComputedStyle(document.body).backgroundColor")
        await tab.goto(f"{service.url}/admin/tasks")
        assert await tab.evaluate("getComputedStyle(document.body).backgroundColor") == dark
        sizes = await tab.evaluate(
            "performance.getEntries().filter(e => e.transferSize).reduce((sum, e) => sum + e.transferSize, 0)"
        )
        assert sizes < MOST_BYTES


async def test_from_a_line_of_health_to_what_is_done_about_it_are_three_clicks(
    browser: Any, service: Service, axe: str
) -> None:
    async with tab_of(browser, service, "admin", java_script_enabled=True) as tab:
        watch = Watch(tab, service)
        await tab.click("li[id='dead_letters'] >> text=Look at it")
        await tab.click("text=Plan a requeue of all")
        await tab.wait_for_url(re.compile("/admin/plans/"))
        for width in WIDTHS:
            await tab.set_viewport_size({"width": width, "height": 900})
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        assert await findings(tab, axe) == []
        await tab.click("text=Do it")
        await tab.wait_for_url(f"{service.url}/admin/sinks")
        assert watch.wrong == []
