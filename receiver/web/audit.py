"""Admins read who did what by hand, when, by which door, and why."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.models import Act, AuditFilter, AuditRow, Door
from receiver.runtime import Runtime
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.filters import When, check_span
from receiver.web.shapes import Limit, Moment, reply, shape


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries to list. ``target`` is an id that they are about, such as a replay's."""

    who: str | None = None
    act: Act | None = None
    target: str | None = None
    since: When | None = None
    until: When | None = None
    limit: Limit = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        check_span(self.since, self.until)


class AuditShown(msgspec.Struct, frozen=True, kw_only=True):
    """One act. ``who`` is a role and a token's name, or where its hash begins; ``said_name`` is not proven.

    ``planned`` is how many it was to be about, ``done`` how many it was; ``filter`` says which.
    """

    number: int
    at: Moment
    who: str
    said_name: str
    role: str
    door: Door
    act: Act
    target: str | None
    filter: Mapping[str, Any] | None
    planned: int | None
    done: int | None
    reason: str | None
    result: str | None


class AuditList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit, the newest first; the last one has no ``next_cursor``."""

    audit: list[AuditShown]
    next_cursor: str | None


async def list_page(runtime: Runtime, _: Request, query: AuditQuery) -> Response:
    """A page of the audit."""
    wanted = AuditFilter(
        who=query.who, act=query.act, target=query.target, since=query.since, until=query.until
    )
    page = await runtime.store.list_audit(wanted, query.limit, opened(runtime, "audit", query.cursor))
    return reply(
        AuditList(
            audit=[shown(entry) for entry in page.entries],
            next_cursor=sealed(runtime, "audit", page.next_cursor),
        )
    )


def shown(entry: AuditRow) -> AuditShown:
    return shape(AuditShown, entry)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/audit",
        summary="List who did what by hand, the newest first",
        audience=Audience.ADMIN,
        takes=AuditQuery,
        gives={200: AuditList},
        refuses=(400, 401, 403, 503),
        answer=list_page,
    ),
)
