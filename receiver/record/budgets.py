"""Budgets: what the orders of a scope may cost in a period, and how much of each period is used.

Every writer of a record writes after the other, so what is checked here still holds when it is written.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

import msgspec

from receiver.errors import OverBudget
from receiver.models import Budget, BudgetPeriod, BudgetScope, BudgetStanding, Quote
from receiver.record.cursor import Cursor
from receiver.record.rows import Row, parameters, parameters_of, read_all, read_limits

# The budgets of an order, and their periods that a day is in.
_OF_ORDER = """
((scope = 'all' AND name = '') OR (scope = 'owner' AND name = :owner) OR (scope = 'token' AND name = :token)
    OR (scope = 'provider' AND name = :provider))
"""
_STARTS = """
((period = 'day' AND start = :day) OR (period = 'week' AND start = :week)
    OR (period = 'month' AND start = :month) OR (period = 'total' AND start = ''))
"""
_COLUMNS = "scope, name, period, micros, is_hard, unpriced, set_at"
_USED = f"""
coalesce((SELECT micros FROM budget_sums s
    WHERE s.scope = b.scope AND s.name = b.name AND s.period = b.period AND {_STARTS}), 0) AS used
"""  # noqa: S608
OF_ORDER = f"SELECT {_COLUMNS}, {_USED} FROM budgets b WHERE {_OF_ORDER} ORDER BY scope, name, period"  # noqa: S608
ALL = f"SELECT {_COLUMNS}, {_USED} FROM budgets b ORDER BY scope, name, period"  # noqa: S608

SET = f"""
INSERT INTO budgets ({_COLUMNS}) VALUES (:scope, :name, :period, :micros, :is_hard, :unpriced, :set_at)
ON CONFLICT (scope, name, period) DO UPDATE SET micros = excluded.micros, is_hard = excluded.is_hard,
    unpriced = excluded.unpriced, set_at = excluded.set_at
"""  # noqa: S608
_KEY = "scope = :scope AND name = :name AND period = :period"
IS_SET = f"SELECT 1 FROM budgets WHERE {_KEY}"  # noqa: S608
USED = f"SELECT micros FROM budget_sums WHERE {_KEY} AND start = :start"  # noqa: S608
REMOVE = f"DELETE FROM budgets WHERE {_KEY}"  # noqa: S608
FORGET_SUMS = f"DELETE FROM budget_sums WHERE {_KEY}"  # noqa: S608

# What a new budget's period has used before it was set.
USED_BEFORE = """
INSERT INTO budget_sums (scope, name, period, start, micros)
SELECT :scope, :name, :period, :start, coalesce(sum(held + charged + uncertain), 0) FROM cost_sums
WHERE day >= :start AND {which}
"""
_WHICH = {
    BudgetScope.ALL: "TRUE",
    BudgetScope.OWNER: "owner = :name",
    BudgetScope.TOKEN: "token = :name",
    BudgetScope.PROVIDER: "provider = :name",
}

ADD = """
INSERT INTO budget_sums (scope, name, period, start, micros) VALUES (:scope, :name, :period, :start, :micros)
ON CONFLICT (scope, name, period, start) DO UPDATE SET micros = budget_sums.micros + excluded.micros
"""
# The sums of an order's budgets in these periods, where nothing was counted in them yet.
BEGIN_SUMS = f"""
INSERT INTO budget_sums (scope, name, period, start, micros)
SELECT scope, name, period, CASE period WHEN 'day' THEN :day WHEN 'week' THEN :week WHEN 'month' THEN :month
    ELSE '' END, 0
FROM budgets WHERE {_OF_ORDER} AND period IN (SELECT value FROM json_each(:periods))
ON CONFLICT DO NOTHING
"""  # noqa: S608
CHANGE = f"UPDATE budget_sums SET micros = micros + :change WHERE {_OF_ORDER} AND {_STARTS}"  # noqa: S608


class Ordered(msgspec.Struct, frozen=True, kw_only=True):
    """What says which budgets an order counts in."""

    owner: str
    token: str | None
    provider: str
    held_at: datetime


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """An order that its budgets let through."""

    micros: int | None  # what it is counted as; None: it has no price, and no budget assumes one
    exceeded: tuple[Budget, ...]  # the soft ones that do not hold for it
    budgets: tuple[Budget, ...]  # all that it counts in


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    scope: BudgetScope
    name: str
    period: BudgetPeriod
    micros: int
    is_hard: bool
    unpriced: int | None
    set_at: datetime
    used: int

    @property
    def budget(self) -> Budget:
        return msgspec.convert(self, Budget, from_attributes=True)


def allow(db: Cursor, ordered: Ordered, quote: Quote) -> Allowed:
    """Check an order against its budgets. Raises OverBudget where a hard one does not hold for it.

    Raises Unavailable where one of them cannot be read.
    """
    rows = read_limits(db.execute(OF_ORDER, _values(ordered)), _Row, "a budget")
    micros = quote.price.micros if quote.price is not None else _assumed(rows)
    exceeded = [row.budget for row in rows if row.used + (micros or 0) > row.micros]
    for row in rows:
        if row.is_hard and (micros is None or row.used + micros > row.micros):
            raise OverBudget(row.scope, row.period, has_price=micros is not None)
    return Allowed(micros=micros, exceeded=tuple(exceeded), budgets=tuple(row.budget for row in rows))


def _assumed(rows: Sequence[_Row]) -> int | None:
    """What an order without a price counts as: the most that a budget says. Any hard one must say it."""
    if any(row.is_hard and row.unpriced is None for row in rows):
        return None
    return max((row.unpriced for row in rows if row.unpriced is not None), default=None)


def count(db: Cursor, budgets: Sequence[Budget], micros: int, held_at: datetime) -> None:
    """Have an order's money count in its budgets."""
    db.executemany(ADD, [_sum_key(each, held_at.date()) | {"micros": micros} for each in budgets])


def change(db: Cursor, ordered: Ordered, micros: int) -> None:
    """So much more or less of an order's money counts in the periods in which it was ordered."""
    db.execute(CHANGE, _values(ordered) | {"change": micros})


def correct(db: Cursor, ordered: Ordered, micros: int, now: datetime) -> None:
    """The same of an order that may have counted as nothing so far: periods that are not over count it."""
    values, starts = _values(ordered), _starts(now.date())
    lasting = [period for period, start in starts.items() if values[period] == start]
    periods = msgspec.json.encode([*lasting, BudgetPeriod.TOTAL.value]).decode()
    db.execute(BEGIN_SUMS, values | {"periods": periods})
    change(db, ordered, micros)


def set_budget(db: Cursor, budget: Budget) -> BudgetStanding:
    """Keep a budget; see ``ports.CostStore.set_budget``."""
    key = {"scope": budget.scope.value, "name": budget.name, "period": budget.period.value}
    start = budget.period.start(budget.set_at.date())
    is_new = db.execute(IS_SET, key).fetchone() is None
    db.execute(SET, parameters_of(budget))
    if is_new:
        db.execute(USED_BEFORE.format(which=_WHICH[budget.scope]), {**key, "start": start})
    (used,) = db.execute(USED, {**key, "start": start}).fetchone() or (0,)
    return BudgetStanding(budget=budget, used=used, start=start)


def remove_budget(db: Cursor, scope: BudgetScope, name: str, period: BudgetPeriod) -> bool:
    """Forget a budget; whether there was one."""
    key = {"scope": scope.value, "name": name, "period": period.value}
    if db.execute(IS_SET, key).fetchone() is None:
        return False
    db.execute(REMOVE, key)
    db.execute(FORGET_SUMS, key)
    return True


def list_budgets(db: Cursor, now: datetime) -> list[BudgetStanding]:
    """All budgets, and what their present periods have used."""
    rows = read_all(db.execute(ALL, _starts(now.date())), _Row)
    return [
        BudgetStanding(budget=row.budget, used=row.used, start=row.period.start(now.date())) for row in rows
    ]


def _sum_key(budget: Budget, day: date) -> Row:
    return parameters(
        scope=budget.scope, name=budget.name, period=budget.period, start=budget.period.start(day)
    )


def _values(ordered: Ordered) -> Row:
    return {
        "owner": ordered.owner,
        "token": ordered.token or "",
        "provider": ordered.provider,
        **_starts(ordered.held_at.date()),
    }


def _starts(day: date) -> Mapping[str, str]:
    return {period.value: period.start(day) for period in BudgetPeriod if period is not BudgetPeriod.TOTAL}
