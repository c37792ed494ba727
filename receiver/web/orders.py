"""Orders that went through the gateway: which are unknown, and what became of each."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import OrderFilter, OrderState
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.auth import listed_owner, may_act_for
from receiver.web.costs import CostShown, cost_shown
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.filters import When, check_provider, check_span
from receiver.web.shapes import Limit, Moment, reply, shape


class OrdersQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which orders to list, the newest first. Times are RFC 3339 and compare with ``sent_at``."""

    provider: str | None = None
    owner: str | None = None
    state: OrderState | None = None
    since: When | None = None
    until: When | None = None
    limit: Limit = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        check_span(self.since, self.until)


class OrderShown(msgspec.Struct, frozen=True, kw_only=True):
    """One order. ``task_id`` is its submission's, ``said_task_id`` what the provider's answer named."""

    submission_id: str
    provider: str
    owner: str
    model: str | None
    state: OrderState
    task_id: str | None
    said_task_id: str | None
    is_conflict: bool
    outcome: str | None
    status: int | None
    sent_at: Moment
    settled_at: Moment | None
    cost: CostShown | None


class OrderList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of orders, the newest first.

    It may be short, or empty, and still not be the last: only one without a ``next_cursor`` is.
    """

    orders: list[OrderShown]
    next_cursor: str | None


async def list_page(runtime: Runtime, request: Request, query: OrdersQuery) -> Response:
    """A page of orders."""
    check_provider(runtime, query.provider)
    wanted = OrderFilter(
        provider=query.provider,
        owner=listed_owner(request, query.owner),
        state=query.state,
        since=query.since,
        until=query.until,
    )
    page = await runtime.store.list_orders(wanted, query.limit, opened(runtime, "orders", query.cursor))
    rows = [shape(OrderShown, row, cost=cost_shown(row.cost)) for row in page.orders]
    return reply(OrderList(orders=rows, next_cursor=sealed(runtime, "orders", page.next_cursor)))


async def show(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """One order."""
    row = await runtime.store.get_order(request.path_params["id"])
    if row is None or not may_act_for(request, row.owner):
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission of this id was ordered here.")
    return reply(shape(OrderShown, row, cost=cost_shown(row.cost)))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/orders",
        summary="List orders that went through the gateway, the newest first",
        audience=Audience.BACKEND,
        takes=OrdersQuery,
        gives={200: OrderList},
        refuses=(400, 401, 503),
        answer=list_page,
    ),
    Endpoint(
        method="GET",
        path="/orders/{id}",
        summary="Show one order by its submission",
        audience=Audience.BACKEND,
        takes=Nothing,
        gives={200: OrderShown},
        refuses=(401, 404, 503),
        answer=show,
    ),
)
