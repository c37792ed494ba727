"""One request to a page: who makes it, what it asks for, and how it is answered."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Unavailable
from receiver.models import Actor, Door, PageRole
from receiver.runtime import Runtime
from receiver.web.pages.forms import Form
from receiver.web.pages.log_ins import LogIns, Visitor
from receiver.web.pages.pauses import Pauses
from receiver.web.pages.rendering import render, respond
from receiver.web.pages.security import HEADERS, LOOK_COOKIE, LOOKS, NEVER_KEPT, masked

T = TypeVar("T")

log = structlog.get_logger()

_PLAIN_IN_PATHS = "/:@!$&'()*+,;=~"


class Access(StrEnum):
    """Who may have a page."""

    ANYONE = "anyone"
    VIEWER = "viewer"
    ADMIN = "admin"


class MenuItem(msgspec.Struct, frozen=True, kw_only=True):
    """A page that every page links to."""

    title: str
    path: str
    access: Access


class Visit:
    """What a page's function gets."""

    def __init__(
        self,
        runtime: Runtime,
        log_ins: LogIns,
        pauses: Pauses,
        request: Request,
        menu: tuple[MenuItem, ...],
        prefix: str,
    ) -> None:
        self.runtime = runtime
        self.log_ins = log_ins
        self.pauses = pauses
        self.request = request
        self.prefix = prefix
        self.now: datetime = runtime.clock.now()
        self.visitor: Visitor | None = None
        self.query = Form()
        self.form = Form()  # of a POST
        self.is_read = False  # the body, to its end
        self.wrongs: Mapping[str, int] = {}  # by page of the menu
        self._menu = menu

    @property
    def role(self) -> PageRole | None:
        return self.visitor.role if self.visitor else None

    @property
    def is_admin(self) -> bool:
        return self.role is PageRole.ADMIN

    @property
    def caller(self) -> str:
        """Who asks, for logs and limits."""
        return self.visitor.name if self.visitor else "stranger"

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit."""
        said_name = self.visitor.session.said_name if self.visitor else ""
        role = self.role.value if self.role else "stranger"
        return Actor(who=self.caller, role=role, door=Door.PAGE, said_name=said_name)

    @property
    def peer(self) -> str:
        return self.request.client.host if self.request.client else ""

    @property
    def place(self) -> str:
        """The path and query that were asked for, below the public URL's path."""
        query = self.request.scope["query_string"].decode("latin-1")
        path = quote(self.request.scope["path"], safe=_PLAIN_IN_PATHS, errors="replace")
        return f"{path}?{query}" if query else path

    def page(
        self, template: str, status: int = 200, headers: dict[str, str] | None = None, **values: Any
    ) -> Response:
        """The page that a template makes of these values and of what every page shows."""
        look = self.request.cookies.get(LOOK_COOKIE, "")
        visitor = self.visitor
        html = render(
            template,
            self.prefix,
            self.now,
            visitor=visitor,
            is_admin=self.is_admin,
            mark=masked(self.runtime.tokens.mark_form(visitor.secret)) if visitor else "",
            look=look if look in LOOKS else "auto",
            looks=LOOKS,
            menu=[item for item in self._menu if item.access is not Access.ADMIN or self.is_admin],
            here=self.request.scope["path"],
            wrongs=self.wrongs,
            # What was refused is no place to come back to, and may hold what must stand on no page.
            place=self.place if status == 200 and self.request.method == "GET" and visitor else "",
            **values,
        )
        return respond(self.request, html, status, headers)

    def part(self, template: str, title: str, status: int = 200, **values: Any) -> Response:
        """A part of a page for the script that refreshes it; for anybody else a page of its own."""
        if self.request.headers.get("hx-request") != "true":
            return self.page("part.html", title=title, part=template, **values)
        return respond(
            self.request, render(template, self.prefix, self.now, is_admin=self.is_admin, **values), status
        )

    def redirect(self, path: str, headers: dict[str, str] | None = None) -> Response:
        """Send the browser to another page of ours."""
        place = {"location": self.prefix + path}
        return Response(status_code=303, headers={**HEADERS, **NEVER_KEPT, **place, **(headers or {})})

    def note(self, event: str, **about: object) -> None:
        """Write to the log who did something, under which name."""
        said_name = self.visitor.session.said_name if self.visitor else None
        log.info(event, who=self.caller, said_name=said_name or None, **about)

    async def known(self, reading: Awaitable[T]) -> T | None:
        """What a part of a page is about; None where it could not be read in time, and the rest stands."""
        try:
            return await reading
        except Unavailable:
            return None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page: where it is, who may have it, and what answers."""

    path: str  # as Starlette writes it
    answer: Callable[[Visit], Awaitable[Response]]
    access: Access
    method: str = "GET"
    menu: str | None = None  # its name in the menu
    is_marked: bool = True  # a form of it comes with the mark of its session
    is_file: bool = False  # a file on its way to a reader, which ends with that by itself
    is_part: bool = False  # asked for again and again, which is no sign that somebody is there
    is_shared: bool = False  # the API has the same path, for whoever comes with a token
    is_of_gateway: bool = False  # where there is no gateway there is no such page
    is_own: bool = False  # a POST by which viewers change nothing but what is their own
