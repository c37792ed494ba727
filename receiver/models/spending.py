"""What orders cost: of each one where its money stands, sums of many, and the budgets that bound them."""

from datetime import date, datetime, timedelta
from enum import StrEnum

import msgspec

from receiver.models.costs import Basis, CostState


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one order costs, and where its money stands."""

    micros: int | None  # None: its model has no price here
    credits: str | None
    state: CostState
    basis: Basis | None
    as_of: str | None


class BudgetScope(StrEnum):
    """Whose orders a budget bounds."""

    OWNER = "owner"
    TOKEN = "token"  # noqa: S105 - its kind, not one
    PROVIDER = "provider"
    ALL = "all"


class BudgetPeriod(StrEnum):
    """Over what time a budget lasts, in UTC. A week begins on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"

    def start(self, day: date) -> str:
        """The first day of the period that a day is in, as text; empty where there is none."""
        match self:
            case BudgetPeriod.DAY:
                return day.isoformat()
            case BudgetPeriod.WEEK:
                return (day - timedelta(days=day.weekday())).isoformat()
            case BudgetPeriod.MONTH:
                return day.replace(day=1).isoformat()
            case BudgetPeriod.TOTAL:
                return ""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How much the orders of a scope may cost in a period. There is one of each scope, name and period."""

    scope: BudgetScope
    name: str  # of the owner, token or provider; empty for all
    period: BudgetPeriod
    micros: int
    is_hard: bool  # what would exceed it is not ordered; else it is only said
    unpriced: int | None = None  # what an order without a price counts as; None: a hard one refuses it
    set_at: datetime

    @property
    def target(self) -> str:
        """How people name its scope: ``owner=user-17``, ``all``."""
        return f"{self.scope}={self.name}" if self.name else self.scope.value


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, and how much of it the period that runs now has used: charged, held and uncertain."""

    budget: Budget
    used: int
    start: str  # the first day of that period; empty: it has none

    @property
    def left(self) -> int:
        return self.budget.micros - self.used


class CostBy(StrEnum):
    """What sums of costs may be taken apart by."""

    OWNER = "owner"
    PROVIDER = "provider"
    MODEL = "model"
    DAY = "day"
    TOKEN = "token"  # noqa: S105 - its kind, not one


class CostFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders are summed up, by the day in UTC on which they were reserved."""

    owner: str | None = None
    provider: str | None = None
    model: str | None = None
    token: str | None = None
    since: str | None = None  # the first day, as YYYY-MM-DD
    until: str | None = None  # the first day that does not count


class CostSum(msgspec.Struct, frozen=True, kw_only=True):
    """What some orders cost together, in millionths of a US dollar, by where their money stands."""

    owner: str | None = None  # what they have in common, where that was asked for
    provider: str | None = None
    model: str | None = None
    day: str | None = None
    token: str | None = None
    orders: int = 0
    images: int = 0
    unpriced: int = 0  # orders without a price
    held: int = 0
    charged: int = 0
    released: int = 0
    uncertain: int = 0
    as_of: str | None = None  # the oldest row of a catalog that one of them was priced by
