"""Log in and out, and how the pages look: what everybody may do."""

import structlog
from starlette.responses import Response

from receiver.web.pages.log_ins import Person
from receiver.web.pages.security import (
    LOOKS,
    CookiePolicy,
    cookie_policy,
    look_cookie,
    page_of_ours,
)
from receiver.web.pages.visits import Access, Page, Visit

log = structlog.get_logger()

FIRST_PAGE = "/admin/"
IN_THE_OPEN = (
    "The public URL of this service (RECEIVER_PUBLIC_URL) is http on another host, so a log-in would travel"
    " in the open. Put TLS in front of it, or look by `ssh -L`, with a public URL on 127.0.0.1."
)


async def show_form(visit: Visit) -> Response:
    """Ask for a token, or have a one-time link's button pressed: what merely looks at links opens nothing."""
    wanted = page_of_ours(visit.query.get("next")) or FIRST_PAGE
    code = visit.query.get("code")
    if visit.visitor is not None and not code:
        return visit.redirect(wanted)
    if cookie_policy(visit.runtime.settings) is None:
        return _form(visit, 403, problem=IN_THE_OPEN, is_open=False)
    return _form(visit, 200, wanted=wanted, code=code)


async def log_in(visit: Visit) -> Response:
    """A token, or a code, becomes a session."""
    cookies = cookie_policy(visit.runtime.settings)
    if cookies is None:
        return _form(visit, 403, problem=IN_THE_OPEN, is_open=False)
    wanted = page_of_ours(visit.form.get("next")) or FIRST_PAGE
    if code := visit.form.get("code"):
        person = await visit.log_ins.use_code(code)
        if person is None:
            problem = "This link was used, or is over. `receiver admin open` makes another."
            return _failed(visit, 403, problem, wanted)
        return await _let_in(visit, cookies, person, wanted)
    if wait_seconds := visit.log_ins.wrong.wait_seconds(visit.peer):
        problem = (
            f"Too many wrong tokens came in the last minute. Try again in {wait_seconds} s, or use a link of"
        )
        problem += " `receiver admin open`."
        return _failed(visit, 429, problem, wanted, {"retry-after": str(wait_seconds)})
    person = visit.log_ins.recognise(visit.form.get("token"))
    if person is None:
        visit.log_ins.wrong.note(visit.peer)
        await visit.log_ins.note_failed(visit.now)
        problem = "No token like this opens these pages. Backends' tokens do not."
        return _failed(visit, 403, problem, wanted)
    return await _let_in(visit, cookies, person, wanted)


async def _let_in(visit: Visit, cookies: CookiePolicy, person: Person, wanted: str) -> Response:
    said_name = visit.form.get("name")
    if visit.visitor is not None:  # one browser is one session
        await visit.runtime.store.end_sessions([visit.visitor.session.id])
    value, seconds = await visit.log_ins.open_session(person, said_name)
    log.info("login.succeeded", who=person.name, said_name=said_name[:64], peer=visit.peer)
    return visit.redirect(wanted, {"set-cookie": cookies.holding(value, seconds)})


def _failed(
    visit: Visit, status: int, problem: str, wanted: str, headers: dict[str, str] | None = None
) -> Response:
    log.warning("login.failed", peer=visit.peer, status=status)
    return _form(visit, status, headers, problem=problem, wanted=wanted)


def _form(
    visit: Visit,
    status: int,
    headers: dict[str, str] | None = None,
    *,
    problem: str = "",
    wanted: str = FIRST_PAGE,
    code: str = "",
    is_open: bool = True,
) -> Response:
    return visit.page(
        "login.html", status, headers, problem=problem, wanted=wanted, code=code, is_open=is_open
    )


async def log_out(visit: Visit) -> Response:
    """End the session here and in the record, and have the browser forget what it kept."""
    headers = {"clear-site-data": '"cache", "storage"'}
    cookies = cookie_policy(visit.runtime.settings)
    if visit.visitor is not None and cookies is not None:
        await visit.runtime.store.end_sessions([visit.visitor.session.id])
        headers["set-cookie"] = cookies.holding("", 0)
    return visit.redirect("/admin/login", headers)


async def change_look(visit: Visit) -> Response:
    """Light, dark, or as the browser is."""
    look = visit.form.get("look")
    wanted = page_of_ours(visit.form.get("next")) or FIRST_PAGE
    return visit.redirect(wanted, {"set-cookie": look_cookie(look)} if look in LOOKS else None)


PAGES = (
    Page(path="/admin/login", answer=show_form, access=Access.ANYONE),
    Page(
        path="/admin/login", answer=log_in, access=Access.ANYONE, method="POST", is_own=True, is_marked=False
    ),
    Page(path="/admin/logout", answer=log_out, access=Access.ANYONE, method="POST", is_own=True),
    Page(path="/admin/look", answer=change_look, access=Access.ANYONE, method="POST", is_own=True),
)
