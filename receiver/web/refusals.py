"""Admins see which callbacks were turned away, by hour and reason: nothing of what strangers sent."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.models import RefusalFilter, RefusalReason
from receiver.runtime import Runtime
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.filters import When, check_span
from receiver.web.shapes import Limit, Moment, reply, shape

REFUSALS = "refusals"  # the list that its cursors are for


class RefusalsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows to list; ``provider`` may be ``unknown``. Times are RFC 3339."""

    provider: str | None = None
    reason: RefusalReason | None = None
    since: When | None = None
    until: When | None = None
    limit: Limit = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        check_span(self.since, self.until)


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks of one hour that were turned away for one reason; ``scheme`` is that of the signature."""

    hour: Moment
    provider: str
    status: int
    reason: RefusalReason
    scheme: str
    count: int
    first_at: Moment
    last_at: Moment


class RefusalList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of them, the latest hour first."""

    refusals: list[RefusalRow]
    next_cursor: str | None


async def list_page(runtime: Runtime, _: Request, query: RefusalsQuery) -> Response:
    """A page of what was turned away; what came in the last ten seconds may not be in it yet."""
    wanted = RefusalFilter(provider=query.provider, reason=query.reason, since=query.since, until=query.until)
    page = await runtime.store.list_refusals(wanted, query.limit, opened(runtime, REFUSALS, query.cursor))
    rows = [shape(RefusalRow, refusal) for refusal in page.refusals]
    return reply(RefusalList(refusals=rows, next_cursor=sealed(runtime, REFUSALS, page.next_cursor)))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/refusals",
        summary="List what was turned away",
        audience=Audience.ADMIN,
        takes=RefusalsQuery,
        gives={200: RefusalList},
        refuses=(400, 401, 403, 503),
        answer=list_page,
    ),
)
