"""Who gets onto the admin pages, how, and what a page and a form must come with."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp

from receiver.config.settings import Settings
from receiver.runtime import Runtime, open_runtime
from receiver.testing import TurnableClock
from receiver.web.app import build_app
from receiver.web.pages.all_pages import PAGES
from receiver.web.pages.visits import Access
from tests.support.engines import on_both_engines
from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, kept_cookie, log_in, mark_in, submit
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, LogLines, caller

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-robots-tag": "noindex",
}


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "RECEIVER_VIEWER_TOKENS": f"desk:{VIEWER_TOKEN}",
        "RECEIVER_ADMIN_TOKENS": f"root:{ADMIN_TOKEN}",
        "RECEIVER_GATEWAY": "true",  # so that its pages are there
        "VIDGO_API_KEY": "a-key-of-the-tests",
    }


@pytest.fixture
async def somebody(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with browser(app) as client:
        yield client


def concrete(path: str) -> str:
    """A path of a route, with something for each of its parameters."""
    return re.sub(r"\{[^}]+\}", "1", path)


# --- getting in ------------------------------------------------------------------------------------------


@on_both_engines
async def test_a_token_opens_a_session_whose_cookie_scripts_and_other_sites_never_see(
    somebody: httpx2.AsyncClient, runtime: Runtime
) -> None:
    answer = await log_in(somebody, ADMIN_TOKEN, next="/admin/sessions")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/sessions")
    cookie = answer.headers["set-cookie"]
    value, _, rest = cookie.partition("; ")
    assert re.fullmatch(r"__Host-receiver=[\w-]{22}\.\d+\.[\w-]{32}", value)
    assert rest == "Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Strict"
    page = await somebody.get("/admin/sessions", headers=OURS)
    assert page.status_code == 200
    assert "admin root" in page.text
    assert "on call" in page.text
    (session,) = await runtime.store.pages.list_sessions(runtime.clock.now())
    secret = cookie.partition("=")[2].partition(".")[0]
    assert secret not in repr(session)
    assert ADMIN_TOKEN not in repr(session)


@pytest.mark.parametrize("token", [API_TOKEN, "nothing-of-the-kind", ""])
async def test_no_other_token_opens_a_page(somebody: httpx2.AsyncClient, token: str) -> None:
    answer = await log_in(somebody, token)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_pages_take_the_cookie_alone_and_the_api_the_token_alone(
    app: ASGIApp, person: httpx2.AsyncClient
) -> None:
    async with caller(app, ADMIN_TOKEN) as program:
        answer = await program.get("/admin/sessions", headers={"sec-fetch-site": "none"})
        assert answer.status_code == 303
    assert (await person.get("/sessions")).status_code == 401


@pytest.mark.parametrize(
    "place", ["https://evil.test/", "//evil.test", "/admin/\\evil", "/tasks", "/admin/\r\nx: y"]
)
async def test_nobody_is_sent_elsewhere_after_the_log_in(somebody: httpx2.AsyncClient, place: str) -> None:
    answer = await log_in(somebody, ADMIN_TOKEN, next=place)
    assert answer.headers["location"] == "/admin/"


async def test_a_forged_cookie_costs_no_look_at_the_record(
    somebody: httpx2.AsyncClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise AssertionError("the record was asked")

    monkeypatch.setattr(type(runtime.store.pages), "get_session", fail)
    for cookie in ("x", "a.b.c", f"{'a' * 22}.99999999999.{'b' * 32}", "a.99999999999999.b", ".1."):
        headers = {"cookie": f"__Host-receiver={cookie}", **OURS}
        assert (await somebody.get("/admin/", headers=headers)).status_code == 303


async def test_wrong_tokens_are_bounded_for_one_peer_and_a_link_opens_all_the_same(
    somebody: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    for _ in range(10):
        assert (await log_in(somebody, "wrong-wrong-wrong-wrong")).status_code == 403
    answer = await log_in(somebody, ADMIN_TOKEN)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    code = (await admin.post("/sessions")).json()["url"].partition("code=")[2]
    assert (await somebody.post("/admin/login", data={"code": code}, headers=OURS)).status_code == 303


# --- the one-time link -----------------------------------------------------------------------------------


@on_both_engines
async def test_a_one_time_link_shows_a_button_and_opens_one_session(
    app: ASGIApp, admin: httpx2.AsyncClient
) -> None:
    made = await admin.post("/sessions")
    assert made.status_code == 201
    url = made.json()["url"]
    assert url.startswith("https://receiver.test/admin/login?code=")
    async with browser(app) as first, browser(app) as second:
        for _ in range(2):  # what looks at links beforehand does not use them up
            form = await first.get(url)
            assert "<button>Log in</button>" in form.text
            assert "set-cookie" not in form.headers
        code = re.search(r'name="code" value="([^"]+)"', form.text)
        assert code is not None
        sent = {"code": code[1]}
        assert (await first.post("/admin/login", data=sent, headers=OURS)).status_code == 303
        assert (await first.get("/admin/", headers=OURS)).status_code == 200
        again = await second.post("/admin/login", data=sent, headers=OURS)
        assert again.status_code == 403
        assert "used, or is over" in again.text


async def test_a_link_is_over_after_a_minute_and_codes_are_not_guessed(web_settings: Settings) -> None:
    clock = TurnableClock()
    async with open_runtime(web_settings, work=(), clock=clock) as runtime:
        app = build_app(runtime)
        async with caller(app, ADMIN_TOKEN) as admin, browser(app) as person:
            code = (await admin.post("/sessions")).json()["url"].partition("code=")[2]
            clock.turn(61)
            for each in (code, f"{'a' * 22}.99999999999.{'b' * 32}", "x"):
                answer = await person.post("/admin/login", data={"code": each}, headers=OURS)
                assert answer.status_code == 403


async def test_links_are_for_admins(backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient) -> None:
    assert (await backend.post("/sessions")).status_code == 403
    assert (await stranger.post("/sessions")).status_code == 401


# --- the end of a session --------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "is_over"), [([59] * 12, False), ([61], True), ([50] * 15, True)])
async def test_a_session_ends_after_an_hour_of_rest_or_twelve_hours(
    web_settings: Settings, steps: list[int], is_over: bool
) -> None:
    clock = TurnableClock()
    async with (
        open_runtime(web_settings, work=(), clock=clock) as runtime,
        browser(build_app(runtime)) as person,
    ):
        await log_in(person, ADMIN_TOKEN)
        kept = kept_cookie(person)
        for minutes in steps:
            clock.turn(60 * minutes)
            answer = await person.get("/admin/sessions", headers=kept)
        assert (answer.status_code == 303) is is_over


async def test_a_token_that_is_not_set_any_more_ends_its_sessions(web_settings: Settings) -> None:
    async with open_runtime(web_settings, work=()) as runtime, browser(build_app(runtime)) as person:
        await log_in(person, VIEWER_TOKEN)
        kept = kept_cookie(person)
    changed = msgspec.structs.replace(web_settings, viewer_tokens=("another-viewer-of-tests",))
    async with open_runtime(changed, work=()) as runtime, browser(build_app(runtime)) as person:
        assert (await person.get("/admin/", headers=kept)).status_code == 303


async def test_a_token_has_twenty_sessions_at_most(
    runtime: Runtime, app: ASGIApp, viewer: httpx2.AsyncClient
) -> None:
    for _ in range(21):
        async with browser(app) as another:
            await log_in(another, ADMIN_TOKEN)
    listed = await runtime.store.pages.list_sessions(runtime.clock.now())
    assert len(listed) == 21  # and the viewer's
    assert (await viewer.get("/admin/", headers=OURS)).status_code == 200


async def test_logging_out_ends_it_here_and_in_the_record(person: httpx2.AsyncClient) -> None:
    kept = kept_cookie(person)
    answer = await submit(person, "/admin/logout", {})
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/login")
    assert answer.headers["clear-site-data"] == '"cache", "storage"'
    assert (await person.get("/admin/", headers=kept)).status_code == 303


async def test_admins_end_others_log_ins_and_viewers_see_their_own(
    person: httpx2.AsyncClient, viewer: httpx2.AsyncClient, admin: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    page = (await person.get("/admin/sessions", headers=OURS)).text
    assert "viewer desk" in page
    own = (await viewer.get("/admin/sessions", headers=OURS)).text
    assert "admin root" not in own
    assert "sessions/end" not in own
    rows = (await admin.get("/sessions")).json()["sessions"]
    (theirs,) = [row["id"] for row in rows if row["role"] == "viewer"]
    assert (await submit(person, "/admin/sessions/end", {"id": theirs})).status_code == 303
    assert (await viewer.get("/admin/", headers=OURS)).status_code == 303
    assert (await admin.delete("/sessions")).json() == {"ended": 1}
    assert (await person.get("/admin/", headers=OURS)).status_code == 303
    assert [line["who"] for line in log_lines if line["event"] == "sessions.ended"] == [
        "admin root",
        "admin root",
    ]


# --- links from elsewhere --------------------------------------------------------------------------------


async def test_a_link_from_another_site_is_asked_for_again_and_then_has_its_cookie(
    person: httpx2.AsyncClient, somebody: httpx2.AsyncClient
) -> None:
    for headers in ({"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}):
        answer = await somebody.get("/admin/sessions?x=1", headers=headers)
        assert answer.status_code == 200
        assert 'content="0;url=/admin/sessions?x=1&amp;refreshed=1"' in answer.text
    del somebody.headers["sec-fetch-site"]  # an old browser
    first = await somebody.get("/admin/sessions")
    assert 'content="0;url=/admin/sessions?refreshed=1"' in first.text
    second = await somebody.get("/admin/sessions?refreshed=1")
    assert second.headers["location"] == "/admin/login?next=%2Fadmin%2Fsessions"
    assert (await person.get("/admin/sessions?refreshed=1", headers=OURS)).status_code == 200


# --- forms -----------------------------------------------------------------------------------------------

CHANGES = [page for page in PAGES if page.method == "POST" and page.path != "/admin/login"]


@pytest.mark.parametrize("page", CHANGES, ids=lambda page: page.path)
async def test_a_form_must_be_of_this_origin_and_of_this_session(
    app: ASGIApp, person: httpx2.AsyncClient, page: Any
) -> None:
    path = concrete(page.path)
    async with browser(app) as another:
        await log_in(another, ADMIN_TOKEN)
        foreign = mark_in((await another.get("/admin/", headers=OURS)).text)
    own = mark_in((await person.get("/admin/", headers=OURS)).text)
    wrong: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"look": "dark"}, OURS),
        ({"mark": foreign}, OURS),
        ({"mark": own[:-1]}, OURS),
        ({"mark": own}, {"sec-fetch-site": "cross-site"}),
        ({"mark": own}, {"sec-fetch-site": "same-site"}),
        ({"mark": own}, {"sec-fetch-site": "none"}),
        ({"mark": own}, {"origin": "https://evil.test"}),
        ({"mark": own}, {"origin": "null"}),
        ({"mark": own}, {"origin": "https://receiver.test:8443"}),
        ({"mark": own}, {}),
    ]
    del person.headers["sec-fetch-site"]
    assert "sec-fetch-site" not in person.headers
    for fields, headers in wrong:
        answer = await person.post(path, data=fields, headers=headers)
        assert answer.status_code == 403, (fields, headers)
    assert (await person.get("/admin/", headers=OURS)).status_code == 200


async def test_browsers_that_say_no_site_say_their_origin(person: httpx2.AsyncClient) -> None:
    mark = mark_in((await person.get("/admin/", headers=OURS)).text)
    del person.headers["sec-fetch-site"]
    fields, origin = {"mark": mark, "look": "dark"}, {"origin": "https://receiver.test"}
    answer = await person.post("/admin/look", data=fields, headers=origin)
    assert answer.status_code == 303
    assert answer.headers["set-cookie"].startswith("receiver-look=dark; Path=/;")
    assert 'data-look="dark"' in (await person.get("/admin/", headers=OURS)).text


async def test_a_log_in_must_be_of_this_origin_too(somebody: httpx2.AsyncClient) -> None:
    form = {"token": ADMIN_TOKEN}
    assert (await somebody.post("/admin/login", data=form)).status_code == 403
    assert (
        await somebody.post("/admin/login", data=form, headers={"sec-fetch-site": "cross-site"})
    ).status_code == 403


async def test_no_two_pages_show_a_mark_alike(person: httpx2.AsyncClient) -> None:
    marks = {mark_in((await person.get("/admin/", headers=OURS)).text) for _ in range(3)}
    assert len(marks) == 3


async def test_a_form_is_small_and_url_encoded(person: httpx2.AsyncClient) -> None:
    mark = mark_in((await person.get("/admin/", headers=OURS)).text)
    sent = {"mark": mark, "id": "x" * 70_000}
    assert (await person.post("/admin/sessions/end", data=sent, headers=OURS)).status_code == 413
    many = f"mark={mark}&" + "&".join(["id=1"] * 1_300)
    kind = {"content-type": "application/x-www-form-urlencoded", **OURS}
    assert (await person.post("/admin/sessions/end", content=many, headers=kind)).status_code == 400
    as_json = {"content-type": "application/json", **OURS}
    assert (await person.post("/admin/sessions/end", content="{}", headers=as_json)).status_code == 415


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.method} {page.path}")
async def test_each_page_is_for_its_role(
    app: ASGIApp, viewer: httpx2.AsyncClient, somebody: httpx2.AsyncClient, page: Any
) -> None:
    path = concrete(page.path)
    async with caller(app, API_TOKEN) as backend:
        for outsider in (somebody, backend):
            answer = await outsider.request(page.method, path, headers=OURS)
            if page.is_shared:
                assert answer.status_code in {401, 403}
            elif page.access is not Access.ANYONE:
                assert answer.status_code == 303
                assert answer.headers["location"].startswith("/admin/login")
    mark = mark_in((await viewer.get("/admin/", headers=OURS)).text)
    sent = {"mark": mark} if page.method == "POST" else None
    answer = await viewer.request(page.method, path, headers=OURS, data=sent)
    is_theirs = page.access is not Access.ADMIN and (page.method == "GET" or page.is_own)
    assert (answer.status_code == 403) is (
        not is_theirs or (page.path, page.method) == ("/admin/login", "POST")
    )


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.method == "POST" and page.is_marked], ids=lambda page: page.path
)
async def test_no_act_is_done_for_a_form_of_elsewhere(
    app: ASGIApp, person: httpx2.AsyncClient, page: Any
) -> None:
    path = concrete(page.path)
    mark = mark_in((await person.get("/admin/help", headers=OURS)).text)
    async with browser(app) as other:
        await log_in(other, ADMIN_TOKEN)
        mark_of_other = mark_in((await other.get("/admin/help", headers=OURS)).text)
    for fields in ({"other": "x"}, {"mark": "x"}, {"mark": mark_of_other}):
        assert (await person.post(path, data=fields, headers=OURS)).status_code == 403
    for site in ("cross-site", "same-site", "none"):
        answer = await person.post(path, data={"mark": mark}, headers={"sec-fetch-site": site})
        assert answer.status_code == 403


# --- headers ---------------------------------------------------------------------------------------------


async def test_every_answer_has_the_headers_and_nothing_is_kept(
    person: httpx2.AsyncClient, somebody: httpx2.AsyncClient
) -> None:
    pages = [concrete(page.path) for page in PAGES if page.method == "GET" and not page.is_shared]
    for who in (person, somebody):
        for path in ["/admin", *pages]:
            answer = await who.get(path, headers=OURS)
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert answer.headers["cache-control"] == "no-store"
            assert "style=" not in answer.text
            assert "<script>" not in answer.text
    refused = await person.post("/admin/sessions/end", headers=OURS)
    assert {name: refused.headers[name] for name in HEADERS} == HEADERS


async def test_what_is_under_its_hash_is_kept_for_ever(somebody: httpx2.AsyncClient) -> None:
    form = (await somebody.get("/admin/login")).text
    path = re.search(r'href="(/admin/static/[0-9a-f]{16}/style\.css)"', form)
    assert path is not None
    answer = await somebody.get(path[1])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert len(answer.content) < 16_000
    other = path[1].replace(path[1].split("/")[3], "0" * 16)
    assert (await somebody.get(other)).status_code == 404
    assert (await somebody.get("/admin/static/x/..%2f..%2fapp.py")).status_code == 404


# --- where there are no pages ----------------------------------------------------------------------------


async def test_the_root_leads_people_to_the_pages_and_programs_nowhere(
    somebody: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    answer = await somebody.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/")
    program = await stranger.get("/")
    assert program.status_code == 404
    assert program.headers["content-type"] == "application/problem+json"


async def test_an_address_of_no_page_is_said_to_be_none(
    somebody: httpx2.AsyncClient, person: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    people = {"accept": "text/html,*/*;q=0.8"}
    for client, has_frame in ((person, True), (somebody, False)):
        answer = await client.get("/admin/nowhere", headers=people)
        assert answer.status_code == 404
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "There is nothing at this address." in answer.text
        assert ("Find by any id" in answer.text) is has_frame
    wrong = await person.post("/admin/tasks", headers=OURS | people)
    assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert "nothing was done" in wrong.text
    program = await stranger.get("/admin/nowhere")
    assert (program.status_code, program.headers["content-type"]) == (404, "application/problem+json")


class TestWithoutPages:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_PAGES": "false"}

    async def test_nothing_of_them_is_there(
        self, somebody: httpx2.AsyncClient, admin: httpx2.AsyncClient
    ) -> None:
        for path in ("/", "/admin", "/admin/", "/admin/login", "/admin/static/x/style.css"):
            answer = await somebody.get(path)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await admin.post("/sessions")).status_code == 409


class TestInTheOpen:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_PUBLIC_URL": "http://receiver.test"}

    async def test_nobody_logs_in_and_the_form_says_why(
        self, somebody: httpx2.AsyncClient, admin: httpx2.AsyncClient
    ) -> None:
        form = await somebody.get("/admin/login")
        assert form.status_code == 403
        assert "TLS" in form.text
        answer = await log_in(somebody, ADMIN_TOKEN)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert (await admin.post("/sessions")).status_code == 409


class TestOnThisMachine:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_PUBLIC_URL": "http://127.0.0.1:8080"}

    async def test_a_plain_cookie_will_do(self, app: ASGIApp) -> None:
        async with browser(app, "http://127.0.0.1:8080") as person:
            answer = await log_in(person, ADMIN_TOKEN)
            assert re.match(
                r"receiver=\S+; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict$",
                answer.headers["set-cookie"],
            )
            assert (await person.get("/admin/", headers=OURS)).status_code == 200


class TestBelowAPath:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_PUBLIC_URL": "https://receiver.test/hooks"}

    async def test_every_url_has_it(self, app: ASGIApp) -> None:
        async with browser(app) as person:
            answer = await person.get("/hooks/admin/")
            assert answer.headers["location"] == "/hooks/admin/login?next=%2Fadmin%2F"
            sent = {"token": ADMIN_TOKEN, "next": "/admin/sessions"}
            entered = await person.post("/hooks/admin/login", data=sent, headers=OURS)
            assert entered.headers["location"] == "/hooks/admin/sessions"
            page = (await person.get("/hooks/admin/sessions", headers=OURS)).text
            links = re.findall(r'(?:href|action)="([^"#][^"]*)"', page)
            assert len(links) > 5
            assert all(link.startswith("/hooks/admin/") for link in links)
            assert (await person.get("/hooks/")).headers["location"] == "/hooks/admin/"


async def test_no_log_line_holds_a_token_a_code_or_a_cookie(
    somebody: httpx2.AsyncClient, admin: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    code = (await admin.post("/sessions")).json()["url"].partition("code=")[2]
    await somebody.get(f"/admin/login?code={code}")
    cookie = (await log_in(somebody, ADMIN_TOKEN)).headers["set-cookie"].partition("=")[2].partition(".")[0]
    await log_in(somebody, "wrong-wrong-wrong-wrong")
    await somebody.get("/admin/", headers=OURS)
    text = repr(list(log_lines))
    assert "login.succeeded" in text
    assert "login.failed" in text
    for secret in (ADMIN_TOKEN, "wrong-wrong", cookie, code, code.partition(".")[0]):
        assert secret not in text
