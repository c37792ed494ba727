"""The door of the admin pages: who may have which, what a form must come with, and what is said of errors."""

import time
from collections import defaultdict
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.errors import Rejected, Unavailable
from receiver.metrics import RecentCount
from receiver.models import PageRole
from receiver.runtime import Runtime
from receiver.web import problems
from receiver.web.endpoints import unless_left
from receiver.web.limits import BodyLimiter, Limits, announces_body
from receiver.web.pages.forms import MAX_BYTES, check_form, read_form, read_query
from receiver.web.pages.log_ins import LogIns
from receiver.web.pages.pauses import Pauses
from receiver.web.pages.refusals import Refusal, not_allowed
from receiver.web.pages.rendering import render, respond
from receiver.web.pages.security import (
    HEADERS,
    NEVER_KEPT,
    cookie_policy,
    is_marked,
    is_same_origin,
    may_lack_cookie,
    page_of_ours,
)
from receiver.web.pages.static import show_static
from receiver.web.pages.visits import Access, MenuItem, Page, Visit
from receiver.web.pages.wrongs import count_wrongs

log = structlog.get_logger()

# Forms are few and small, and strangers may send one: they get no share of what callbacks have.
INTAKE = {"max_requests": 64, "max_token_requests": 32, "max_waiting_bytes": 2**22, "max_token_bytes": 2**21}
_UNROUTED = {
    404: ("No such page", "There is nothing at this address."),
    405: ("Not possible", "This address does not take what was sent to it, so nothing was done."),
}
REFRESHED = "refreshed"  # marks a URL that was asked for once more, for its cookie


class PageDoor:
    """Answers requests to pages."""

    def __init__(self, runtime: Runtime, log_ins: LogIns, pages: Sequence[Page]) -> None:
        self._runtime = runtime
        self._log_ins = log_ins
        has_gateway = runtime.settings.gateway
        self._pages = [page for page in pages if has_gateway or not page.is_of_gateway]
        self._health = RecentCount(runtime.health.look, time.monotonic)
        self._pauses = Pauses(runtime.clock)
        self._intake = BodyLimiter(
            Limits(body_timeout_seconds=runtime.settings.body_timeout_seconds, **INTAKE)
        )
        self._prefix = urlsplit(runtime.settings.public_url).path
        self._cookies = cookie_policy(runtime.settings)
        self._menu = tuple(
            MenuItem(title=page.menu, path=page.path, access=page.access) for page in self._pages if page.menu
        )

    def routes(self) -> list[Route]:
        """Every page, the files that they need, and the way to them."""
        by_path: defaultdict[str, dict[str, Page]] = defaultdict(dict)
        for page in self._pages:
            by_path[page.path][page.method] = page
        return [
            Route("/", self._show_the_way, methods=["GET"]),
            Route("/admin", self._show_the_way, methods=["GET"]),
            Route("/admin/static/{hash}/{name}", show_static, methods=["GET"]),
            *(self._route(path, methods) for path, methods in by_path.items()),
        ]

    async def answer_unrouted(self, request: Request, error: Exception) -> Response:
        """No such page, or not by this method: as a page to people, and to programs as everywhere."""
        if "text/html" not in request.headers.get("accept", ""):
            return await problems.for_unrouted(request, error)
        status, headers = 404, None
        if isinstance(error, HTTPException):
            status, headers = error.status_code, error.headers

        async def refuse(_visit: Visit) -> Response:
            raise Refusal(status, *_UNROUTED.get(status, _UNROUTED[404]))

        page = Page(path="(no page)", answer=refuse, access=Access.ANYONE)
        response = await self._answer(page, request)
        response.headers.update(headers or {})
        return response

    def _route(self, path: str, by_method: dict[str, Page]) -> Route:
        async def answer(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await self._answer(by_method[method], request)

        return Route(path, answer, methods=list(by_method))

    async def _show_the_way(self, request: Request) -> Response:
        """To a person at the root; a program is told, as everywhere, that there is nothing."""
        if request.url.path == "/" and "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return self._visit(request).redirect("/admin/")

    def _visit(self, request: Request) -> Visit:
        return Visit(self._runtime, self._log_ins, self._pauses, request, self._menu, self._prefix)

    async def _answer(self, page: Page, request: Request) -> Response:
        started = time.perf_counter()
        visit = self._visit(request)
        response = await self._answer_anyhow(page, visit)
        log.info(
            "request.answered",
            method=request.method,
            route=page.path,
            status=response.status_code,
            who=visit.visitor.name if visit.visitor else None,
            said_name=visit.visitor.session.said_name if visit.visitor else None,
            peer=visit.peer or None,
            seconds=round(time.perf_counter() - started, 6),
        )
        return response

    async def _answer_anyhow(self, page: Page, visit: Visit) -> Response:
        try:
            response = await self._admit(page, visit)
        except Refusal as refusal:
            response = _refused(visit, refusal)
        except Rejected as error:
            status = problems.status_of(error)
            response = visit.page("error.html", status, title=error.title, detail=error.detail)
        except Unavailable as error:
            again = str(problems.retry_after(error))
            detail = "This cannot be done or shown now. Try again in a moment."
            response = visit.page(
                "error.html", 503, {"retry-after": again}, title="Unavailable for now", detail=detail
            )
        except ClientDisconnect:
            return Response(status_code=400)  # for the log; nobody is there to read it
        except Exception:
            log.exception("request.failed", method=page.method, route=page.path)
            detail = "This is a fault of the receiver; its log says more."
            response = visit.page("error.html", 500, title="Internal error", detail=detail)
        is_unread = not visit.is_read and announces_body(visit.request.headers)
        return problems.closing(response) if is_unread else response

    async def _admit(self, page: Page, visit: Visit) -> Response:
        """The page's own answer, to whoever may have it. Raises Refusal and what that raises."""
        headers = visit.request.headers
        if page.method == "POST" and not is_same_origin(headers):
            raise not_allowed("This form was not sent by a page of this service, so nothing was done.")
        visit.query = read_query(visit.request.scope["query_string"])
        cookie = visit.request.cookies.get(self._cookies.name) if self._cookies else None
        visit.visitor = await self._log_ins.find(
            cookie, is_there=not page.is_part, is_to_look=page.method == "GET"
        )
        if visit.visitor is None and page.access is not Access.ANYONE:
            return self._to_log_in(visit)
        _check_role(page, visit.role)
        if visit.visitor is not None and not page.is_file and not page.is_part:
            report = await self._health.get()
            visit.wrongs = count_wrongs(report.lines)
        if page.method == "GET":
            answering = page.answer(visit)
            response = await (answering if page.is_file else unless_left(visit.request, answering))
            if visit.visitor is not None and visit.visitor.is_remembered and response.status_code == 200:
                response.status_code = 503  # it shows what memory knows
                response.headers["retry-after"] = str(problems.RETRY_AFTER_SECONDS)
            return response
        check_form(headers)
        self._intake.check(headers, MAX_BYTES)
        with self._intake.reserve(visit.caller, MAX_BYTES) as waiting:
            visit.form = read_form(await waiting.read(visit.request.receive))
            visit.is_read = True
        self._check_mark(page, visit)
        return await page.answer(visit)

    def _to_log_in(self, visit: Visit) -> Response:
        """Ask a browser that may have kept its cookie back to ask again, by itself; all others to log in."""
        request, place = visit.request, visit.place
        if request.headers.get("hx-request") == "true":  # the whole page asks for a log-in, not a part of it
            return Response(status_code=401, headers={**HEADERS, **NEVER_KEPT, "hx-refresh": "true"})
        if request.method not in {"GET", "HEAD"}:
            return visit.redirect("/admin/login")
        if not visit.query.get(REFRESHED) and may_lack_cookie(request.headers):
            again = f"{place}{'&' if '?' in place else '?'}{REFRESHED}=1"
            return respond(request, render("refresh.html", visit.prefix, visit.now, again=again))
        wanted = page_of_ours(place.replace(f"&{REFRESHED}=1", "").replace(f"?{REFRESHED}=1", ""))
        return visit.redirect(f"/admin/login?next={quote(wanted, safe='')}" if wanted else "/admin/login")

    def _check_mark(self, page: Page, visit: Visit) -> None:
        if visit.visitor is None or not page.is_marked:
            return
        if not is_marked(self._runtime.tokens, visit.visitor.secret, visit.form.get("mark")):
            raise not_allowed(
                "This form is of another log-in, so nothing was done. Go back, load the page anew, try again."
            )


def _check_role(page: Page, role: PageRole | None) -> None:
    if page.access is Access.ADMIN and role is not PageRole.ADMIN:
        raise not_allowed("This page is for admins.")
    if page.method == "POST" and role is PageRole.VIEWER and not page.is_own:
        raise not_allowed("A viewer can look, and change nothing.")


def _refused(visit: Visit, refusal: Refusal) -> Response:
    again = refusal.retry_after_seconds
    headers = {"retry-after": str(again)} if again else None
    return visit.page("error.html", refusal.status, headers, title=refusal.title, detail=refusal.detail)
