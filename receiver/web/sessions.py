"""Admins open the pages with a one-time link, see who is logged in, and end that."""

from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import Act, PageRole, audit_entry
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.auth import actor_of
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.pages.log_ins import LogIns
from receiver.web.pages.security import cookie_policy
from receiver.web.shapes import Moment, reply, shape, text_or_none

log = structlog.get_logger()


class LoginLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link that opens the admin pages once. Whoever has it first is an admin, so hand it to nobody."""

    url: str
    expires_at: Moment


class SessionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One log-in. ``who`` is its role and its token's name; ``said_name`` is not proven."""

    id: str
    role: PageRole
    who: str
    said_name: str
    created_at: Moment
    seen_at: Moment
    expires_at: Moment


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """The newest log-ins that are not over."""

    sessions: list[SessionRow]


class SessionsEnded(msgspec.Struct, frozen=True, kw_only=True):
    """How many log-ins were ended."""

    ended: int


async def make_link(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """A link with a one-time code, for whoever has this token."""
    log_ins = _log_ins(runtime)
    if cookie_policy(runtime.settings) is None:
        raise Rejected(
            ProblemType.PAGES_CLOSED,
            "RECEIVER_PUBLIC_URL is http on another host, so a log-in would travel in the open: use https.",
        )
    person = log_ins.recognise(request.headers["authorization"].partition(" ")[2])
    if person is None:  # the token is an admin's, as the endpoint has seen to
        raise AssertionError("an admin's token that opens no page")
    code, expires_at = await log_ins.make_code(person, actor_of(request))
    log.info("login.link_made", who=request.state.caller)
    url = f"{runtime.settings.public_url}/admin/login?code={quote(code, safe='')}"
    return reply(LoginLink(url=url, expires_at=text_or_none(expires_at) or ""), 201)


async def list_sessions(runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """Who is logged in."""
    log_ins = _log_ins(runtime)
    listed = await runtime.store.pages.list_sessions(runtime.clock.now())
    rows = [shape(SessionRow, each, who=name) for each in listed if (name := log_ins.name_of(each))]
    return reply(SessionList(sessions=rows))


async def end_all(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """End every log-in, and take every link's code away."""
    now = runtime.clock.now()
    ended = await runtime.store.end_all_sessions(now, audit_entry(Act.SESSIONS_ENDED, actor_of(request), now))
    log.info("sessions.ended", who=request.state.caller, ended=ended)
    return reply(SessionsEnded(ended=ended))


def _log_ins(runtime: Runtime) -> LogIns:
    """Raises Rejected where there are no pages."""
    if not runtime.settings.pages:
        raise Rejected(ProblemType.PAGES_CLOSED, "RECEIVER_PAGES=false took the admin pages away.")
    return LogIns(runtime.settings, runtime.tokens, runtime.store, runtime.clock)


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        method="POST",
        path="/sessions",
        summary="Make a link that opens the admin pages once",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={201: LoginLink},
        refuses=(401, 403, 408, 409, 413, 415, 503),
        answer=make_link,
    ),
    Endpoint(
        method="GET",
        path="/sessions",
        summary="List the log-ins to the admin pages",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: SessionList},
        refuses=(401, 403, 409, 503),
        answer=list_sessions,
    ),
    Endpoint(
        method="DELETE",
        path="/sessions",
        summary="End every log-in to the admin pages",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: SessionsEnded},
        refuses=(401, 403, 408, 413, 415, 503),
        answer=end_all,
    ),
)
