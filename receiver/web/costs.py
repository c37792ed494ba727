"""What orders cost, summed up as is asked for, and the budgets that bound it."""

from typing import Annotated

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import (
    Act,
    Basis,
    Budget,
    BudgetPeriod,
    BudgetScope,
    BudgetStanding,
    Cost,
    CostBy,
    CostFilter,
    CostState,
    CostSum,
    audit_entry,
)
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.usd import from_usd, to_usd
from receiver.web.auth import actor_of, listed_owner
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.filters import check_provider
from receiver.web.shapes import Moment, reply, shape

MOST_SUMS = 1000
MOST_NAME = 200

Day = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
Usd = Annotated[str, msgspec.Meta(pattern=r"^-?\d+\.\d{2,6}$")]  # a decimal, as no float has all of them
Amount = Annotated[str, msgspec.Meta(pattern=r"^\d{1,10}(\.\d{1,6})?$")]

_PARTS, _SCOPES, _PERIODS = frozenset[str](CostBy), frozenset[str](BudgetScope), frozenset[str](BudgetPeriod)

log = structlog.get_logger()


class CostShown(msgspec.Struct, frozen=True, kw_only=True):
    """What an order costs. ``usd`` and ``credits`` are decimals; ``basis`` is null where it has no price."""

    usd: Usd | None
    credits: str | None
    state: CostState
    basis: Basis | None
    as_of: str | None


def cost_shown(cost: Cost | None) -> CostShown | None:
    if cost is None:
        return None
    return shape(CostShown, cost, usd=None if cost.micros is None else to_usd(cost.micros))


class CostsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which orders to sum up, by the day in UTC on which they were reserved: from ``since`` to ``until``.

    ``by`` are names out of owner, provider, model, day and token, separated by commas: one sum for each.
    """

    owner: str | None = None
    provider: str | None = None
    model: str | None = None
    token: str | None = None
    since: Day | None = None
    until: Day | None = None  # does not count any more
    by: str = ""

    def __post_init__(self) -> None:
        if self.since and self.until and self.since >= self.until:
            raise ValueError("nothing can match: `since` must be before `until`")
        if unknown := [name for name in self.parts if name not in _PARTS]:
            raise ValueError(f"`by` is one or more of {', '.join(CostBy)}, not {unknown[0]!r}")

    @property
    def parts(self) -> list[str]:
        return list(dict.fromkeys(name for name in self.by.split(",") if name))


class CostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What some orders cost together, in US dollars, by where their money stands.

    Of ``owner`` to ``token`` those are set that were asked for; model and token are empty where there is
    none. ``as_of`` is of the oldest price among them.
    """

    owner: str | None
    provider: str | None
    model: str | None
    day: str | None
    token: str | None
    orders: int
    images: int
    unpriced: int
    held: Usd
    charged: Usd
    released: Usd
    uncertain: Usd
    as_of: str | None


class CostList(msgspec.Struct, frozen=True, kw_only=True):
    """Sums by day, owner, provider, model and token, in this order, as far as ``by`` has them.

    There are 1,000 at most: ``is_whole`` is false where there are more.
    """

    costs: list[CostRow]
    total: CostRow
    is_whole: bool


async def show(runtime: Runtime, request: Request, query: CostsQuery) -> Response:
    """Sums of what orders cost."""
    check_provider(runtime, query.provider)
    wanted = CostFilter(
        owner=listed_owner(request, query.owner),
        provider=query.provider,
        model=query.model,
        token=query.token,
        since=query.since,
        until=query.until,
    )
    by = [CostBy(name) for name in query.parts]
    (total,) = await runtime.store.sum_costs(wanted, (), 1)
    sums = await runtime.store.sum_costs(wanted, by, MOST_SUMS + 1) if by else []
    rows = [cost_row(each) for each in sums[:MOST_SUMS]]
    return reply(CostList(costs=rows, total=cost_row(total), is_whole=len(sums) <= MOST_SUMS))


def cost_row(costs: CostSum) -> CostRow:
    return shape(CostRow, costs, **{state.value: to_usd(getattr(costs, state.value)) for state in CostState})


class BudgetSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the orders of a scope may cost in a period, in US dollars.

    A ``hard`` one refuses what it has no room for. ``unpriced`` is what an order of a model without a price
    counts as; without it a hard one refuses such an order.
    """

    usd: Amount
    hard: bool = True
    unpriced: Amount | None = None


class BudgetShown(msgspec.Struct, frozen=True, kw_only=True):
    """One budget, and how much of its present period is used: charged, held and uncertain."""

    target: str  # all, or owner=NAME, token=NAME, provider=NAME
    period: BudgetPeriod
    usd: Usd
    hard: bool
    unpriced: Usd | None
    used: Usd
    left: Usd
    since: str | None  # the first day of the present period, in UTC
    set_at: Moment


class BudgetList(msgspec.Struct, frozen=True, kw_only=True):
    budgets: list[BudgetShown]


async def list_budgets(runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """All budgets, and how much of each is left."""
    standings = await runtime.store.list_budgets(runtime.clock.now())
    return reply(BudgetList(budgets=[budget_shown(each) for each in standings]))


def budget_shown(standing: BudgetStanding) -> BudgetShown:
    budget = standing.budget
    return shape(
        BudgetShown,
        budget,
        usd=to_usd(budget.micros),
        hard=budget.is_hard,
        unpriced=None if budget.unpriced is None else to_usd(budget.unpriced),
        used=to_usd(standing.used),
        left=to_usd(standing.left),
        since=standing.start or None,
    )


async def set_budget(runtime: Runtime, request: Request, asked: BudgetSet) -> Response:
    """Set a budget, in the place of the one that its target has for this period."""
    scope, name, period = _named(runtime, request)
    actor, now = actor_of(request), runtime.clock.now()
    budget = Budget(
        scope=scope,
        name=name,
        period=period,
        micros=_micros(asked.usd),
        is_hard=asked.hard,
        unpriced=None if asked.unpriced is None else _micros(asked.unpriced),
        set_at=now,
    )
    kind = "hard" if asked.hard else "soft"
    result = f"{to_usd(budget.micros)} USD a {period}, {kind}"
    entry = audit_entry(Act.BUDGET_SET, actor, now, target=budget.target, result=result)
    standing = await runtime.store.set_budget(budget, entry)
    log.info("budget.set", who=actor.who, scope=scope.value, period=period.value, micros=budget.micros)
    return reply(budget_shown(standing))


async def remove_budget(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Remove a budget."""
    scope, name, period = _named(runtime, request)
    actor, now = actor_of(request), runtime.clock.now()
    entry = audit_entry(Act.BUDGET_REMOVED, actor, now, target=request.path_params["target"])
    if not await runtime.store.remove_budget(scope, name, period, entry):
        raise Rejected(ProblemType.UNKNOWN_BUDGET, "There is no such budget.")
    log.info("budget.removed", who=actor.who, scope=scope.value, period=period.value)
    return Response(status_code=204)


def _named(runtime: Runtime, request: Request) -> tuple[BudgetScope, str, BudgetPeriod]:
    """The budget that a path names. Raises Rejected."""
    target, period = request.path_params["target"], request.path_params["period"]
    scope, _, name = target.partition("=")
    if period not in _PERIODS:
        raise Rejected(ProblemType.BAD_BODY, f"A budget is for a {', '.join(BudgetPeriod)}.")
    if scope not in _SCOPES or (scope == BudgetScope.ALL) is not (target == "all"):
        raise Rejected(ProblemType.BAD_BODY, "A budget is of all, owner=NAME, token=NAME or provider=NAME.")
    if scope != BudgetScope.ALL and not (0 < len(name) <= MOST_NAME and name.isprintable()):
        raise Rejected(ProblemType.BAD_BODY, f"A name has 1 to {MOST_NAME} printable characters.")
    if scope == BudgetScope.PROVIDER:
        check_provider(runtime, name)
    return BudgetScope(scope), name, BudgetPeriod(period)


def _micros(usd: str) -> int:
    try:
        return from_usd(usd)
    except ValueError as exc:
        raise Rejected(ProblemType.BAD_BODY, f"{exc}.") from exc


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/costs",
        summary="Sum up what orders through the gateway cost",
        audience=Audience.BACKEND,
        takes=CostsQuery,
        gives={200: CostList},
        refuses=(400, 401, 403, 503),
        answer=show,
    ),
    Endpoint(
        method="GET",
        path="/budgets",
        summary="List budgets and what is left of them",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: BudgetList},
        refuses=(401, 403, 503),
        answer=list_budgets,
    ),
    Endpoint(
        method="PUT",
        path="/budgets/{target:path}/{period}",
        summary="Set a budget",
        audience=Audience.ADMIN,
        takes=BudgetSet,
        gives={200: BudgetShown},
        refuses=(400, 401, 403, 503),
        answer=set_budget,
    ),
    Endpoint(
        method="DELETE",
        path="/budgets/{target:path}/{period}",
        summary="Remove a budget",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={204: None},
        refuses=(400, 401, 403, 404, 503),
        answer=remove_budget,
    ),
)
