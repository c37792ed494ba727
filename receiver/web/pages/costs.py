"""What orders through the gateway cost, taken apart as is asked for, and the budgets that bound it."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from receiver.models import BudgetScope, BudgetStanding, CostBy, CostFilter, CostState, CostSum
from receiver.usd import to_usd
from receiver.web.costs import BudgetShown, CostRow, budget_shown, cost_row
from receiver.web.pages.filters import Fields
from receiver.web.pages.visits import Access, Page, Visit

ROWS = 100
PLACE = "/admin/costs"
USUAL = (CostBy.PROVIDER, CostBy.MODEL)  # what is told apart where nothing is asked for
NEARLY = 0.8  # of a budget: little is left of it
STATES = tuple(state.value for state in CostState)


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a row's orders have in common, by one of the names that are told apart."""

    by: CostBy
    value: str  # empty: they have none
    place: str  # of the sums of these alone


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table, with where its tasks are."""

    parts: tuple[Part, ...]
    costs: CostRow
    tasks: str


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """One budget, how much of it is used, and where what used it is."""

    budget: BudgetShown
    mark: str
    words: str
    place: str


async def show(visit: Visit) -> Response:
    """Sums of what matches, and all budgets."""
    runtime, fields = visit.runtime, Fields(visit.query, visit.now)
    by = fields.words("by", CostBy) or USUAL
    wanted = CostFilter(
        owner=fields.text("owner"),
        provider=fields.known("provider", runtime.providers),
        model=fields.text("model"),
        token=fields.text("token"),
        since=fields.day("since"),
        until=fields.day("until"),
    )
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        fields.problems["until"] = "later than since"
    total = sums = None
    if not fields.problems:
        total = await visit.known(runtime.store.pages.sum_costs(wanted, (), 1))
        sums = await visit.known(runtime.store.pages.sum_costs(wanted, by, ROWS + 1))
    budgets = await visit.known(runtime.store.pages.list_budgets(visit.now))
    filters = msgspec.structs.asdict(wanted)
    given = {name: text for name in filters if (text := visit.query.get(name))}
    return visit.page(
        "costs.html",
        400 if fields.problems else 200,
        total=_row(total[0], (), wanted, {}) if total else None,
        rows=None if sums is None else [_row(each, by, wanted, given) for each in sums[:ROWS]],
        most=ROWS if sums is not None and len(sums) > ROWS else None,
        budgets=None if budgets is None else [_budget_row(each) for each in budgets],
        given=given,
        by=by,
        parts=tuple(CostBy),
        states=STATES,
        problems=fields.problems,
        providers=sorted(runtime.providers),
        quick=_quick(given, by, visit.now.date()),
    )


def _row(costs: CostSum, by: Sequence[CostBy], wanted: CostFilter, given: Mapping[str, str]) -> Row:
    values = {name: getattr(costs, name) or "" for name in by}
    named = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value} | values
    rest = [name for name in CostBy if name not in by]
    return Row(
        parts=tuple(
            Part(by=name, value=value, place=_place({**given, **_of(name, value)}, rest or by))
            for name, value in values.items()
        ),
        costs=cost_row(costs),
        tasks=_tasks(named),
    )


def _of(name: CostBy, value: str) -> dict[str, str]:
    """The filter that lets only these orders pass; none does where they have no model or token."""
    if name is CostBy.DAY:
        return {"since": value, "until": _day_after(value)}
    return {name.value: value} if value else {}


def _tasks(named: Mapping[str, str]) -> str:
    """Where the tasks of these orders are listed, which goes by neither model nor token."""
    query = {name: named[name] for name in ("owner", "provider") if named.get(name)}
    since, until = named.get("since"), named.get("until")
    if day := named.get("day"):
        since, until = day, _day_after(day)
    times = {"since": since, "until": until}
    query |= {name: f"{day}T00:00:00Z" for name, day in times.items() if day}
    return f"/admin/tasks?{urlencode(query)}" if query else "/admin/tasks"


def _budget_row(standing: BudgetStanding) -> BudgetRow:
    budget = standing.budget
    mark, words = "good", "within"
    if standing.used >= budget.micros:
        mark, words = ("bad", "used up") if budget.is_hard else ("warn", "exceeded")
    elif standing.used >= NEARLY * budget.micros:
        mark, words = "warn", "nearly used up"
    query = {} if budget.scope is BudgetScope.ALL else {budget.scope.value: budget.name}
    if standing.start:
        query["since"] = standing.start
    return BudgetRow(budget=budget_shown(standing), mark=mark, words=words, place=_place(query, USUAL))


def _quick(given: Mapping[str, str], by: Sequence[CostBy], today: date) -> list[tuple[str, str]]:
    """Spans that are often wanted, and where the same table is for each."""
    month = today.replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    spans: tuple[tuple[str, dict[str, str]], ...] = (
        ("today", {"since": "0d"}),
        ("7 days", {"since": "6d"}),
        ("this month", {"since": month.isoformat()}),
        ("last month", {"since": before.isoformat(), "until": month.isoformat()}),
        ("all time", {}),
    )
    rest = {name: text for name, text in given.items() if name not in {"since", "until"}}
    return [(words, _place({**rest, **span}, by)) for words, span in spans]


def _place(query: Mapping[str, str], by: Sequence[CostBy]) -> str:
    return f"{PLACE}?{urlencode({**query, 'by': ','.join(by)}, safe=',')}"


def _day_after(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def today_in_words(costs: CostSum) -> str:
    """What today's orders cost, by where their money stands: ``0.41 charged, 0.05 held``."""
    parts = [f"{to_usd(micros)} {state}" for state in STATES if (micros := getattr(costs, state))]
    return ", ".join(parts) or to_usd(0)


PAGES = (Page(path=PLACE, answer=show, access=Access.VIEWER, menu="Costs", is_of_gateway=True),)
