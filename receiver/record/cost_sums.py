"""Sums of what orders cost, of as few rows as hold what is asked for.

``cost_sums`` has a row for each day, owner, provider, model and token. Triggers of the schema keep what it
comes to in ``cost_totals``: of all owners together by day and of all time, of each owner by month and of all
time.
"""

from collections.abc import Mapping, Sequence
from datetime import MAXYEAR
from typing import NamedTuple

from receiver.models import CostBy, CostFilter, CostSum
from receiver.record.cursor import Cursor
from receiver.record.rows import fetch_all, read_all, to_values

NEVER = "~"  # behind every day
OTHERS = "other"  # models

_SUMMED = ("orders", "images", "unpriced", "held", "charged", "released", "uncertain")
_SUMS = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in _SUMMED) + ", min(as_of) AS as_of"
SUMS = f"SELECT {{columns}} {_SUMS} FROM ({{source}}) s WHERE {{conditions}} {{group}}"  # noqa: S608

_OF = f"owner, provider, model, token, {', '.join(_SUMMED)}, as_of"
OF_DAYS = f"SELECT day, {_OF} FROM cost_sums WHERE day >= :{{since}} AND day < :{{until}}"  # noqa: S608
_OF_TOTALS = f"SELECT start AS day, {_OF} FROM cost_totals WHERE"  # noqa: S608
OF_ALL_OWNERS_BY_DAY = f"{_OF_TOTALS} period = 'day' AND start >= :since AND start < :until"
OF_ALL_OWNERS = f"{_OF_TOTALS} period = 'total' AND start = '' AND owner = ''"
OF_EACH_OWNER = f"{_OF_TOTALS} period = 'total' AND start = '' AND owner > ''"
OF_MONTHS = f"{_OF_TOTALS} period = 'month' AND start >= :first_month AND start < :last_month"

# The first so many owners, or days of owners, have as many sums at least, whatever else is told apart.
_ENOUGH = """
({lead}) <= (SELECT {lead} FROM (
    SELECT DISTINCT {lead} FROM ({source}) s WHERE {conditions} ORDER BY {lead} LIMIT :limit
) few ORDER BY {backwards} LIMIT 1)
"""

# What was spent on each model of a provider; on all but those that most was ordered of, under one name.
SPENT = f"""
WITH models AS (
    SELECT provider, model, {_SUMS} FROM ({OF_ALL_OWNERS}) s GROUP BY provider, model
    HAVING sum(held) <> 0 OR sum(charged) <> 0 OR sum(released) <> 0 OR sum(uncertain) <> 0
), named AS (SELECT provider, model FROM models ORDER BY orders DESC, provider, model LIMIT :most)
SELECT provider, CASE WHEN (provider, model) IN (SELECT provider, model FROM named) THEN model
    ELSE '{OTHERS}' END AS model, {_SUMS} FROM models GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608

_CLAUSES = {name: f"{name} = :{name}" for name in ("owner", "provider", "model", "token")}
_ORDER = (CostBy.DAY, CostBy.OWNER, CostBy.PROVIDER, CostBy.MODEL, CostBy.TOKEN)  # of the rows of a day


class _Source(NamedTuple):
    """Rows that hold all that is asked for, and the values that their statement names."""

    sql: str
    values: Mapping[str, str]
    lead: tuple[str, ...] = ()  # what is told apart first, where an index has the rows in its order


def sum_costs(db: Cursor, wanted: CostFilter, by: Sequence[CostBy], limit: int) -> list[CostSum]:
    """Sums of the orders that are wanted; see ``ports.CostStore.sum_costs``."""
    source = _source(wanted, by)
    names = [each.value for each in _ORDER if each in by]
    filters = {name: value for name in _CLAUSES if (value := getattr(wanted, name)) is not None}
    conditions = [_CLAUSES[name] for name in filters] or ["TRUE"]
    if source.lead:
        conditions.append(_enough(source, conditions))
    sql = SUMS.format(
        columns="".join(f"{name}, " for name in names),
        source=source.sql,
        conditions=" AND ".join(conditions),
        group=f"GROUP BY {', '.join(names)} ORDER BY {', '.join(names)} LIMIT :limit" if names else "",
    )
    return to_values(fetch_all(db.execute(sql, {**source.values, **filters, "limit": limit})), CostSum)


def _source(wanted: CostFilter, by: Sequence[CostBy]) -> _Source:
    is_of_all_time = wanted.since is None and wanted.until is None and CostBy.DAY not in by
    since, until = wanted.since or "", wanted.until or NEVER
    days = {"since": since, "until": until}
    if wanted.owner is None and CostBy.OWNER not in by:
        return _Source(OF_ALL_OWNERS, {}) if is_of_all_time else _Source(OF_ALL_OWNERS_BY_DAY, days)
    if wanted.owner is None and is_of_all_time:
        return _Source(OF_EACH_OWNER, {}, ("owner",))
    if wanted.owner is None and CostBy.DAY not in by:
        return _by_months(since, until)
    of_days = OF_DAYS.format(since="since", until="until")
    return _Source(of_days, days, ("day", "owner") if wanted.owner is None else ())


def _enough(source: _Source, conditions: Sequence[str]) -> str:
    return _ENOUGH.format(
        lead=", ".join(source.lead),
        source=source.sql,
        conditions=" AND ".join(conditions),
        backwards=", ".join(f"{name} DESC" for name in source.lead),
    )


def _by_months(since: str, until: str) -> _Source:
    """Whole months as such, and the days before and after them."""
    first = _month_after(since) if since[8:] not in {"", "01"} else since
    last = f"{until[:7]}-01" if until != NEVER else until
    if first >= last:
        return _Source(OF_DAYS.format(since="since", until="until"), {"since": since, "until": until})
    before = OF_DAYS.format(since="since", until="first")
    after = OF_DAYS.format(since="last", until="until")
    values = {"since": since, "first": first, "last": last, "until": until}
    months = {"first_month": first[:7], "last_month": last[:7]}
    return _Source(f"{before} UNION ALL {OF_MONTHS} UNION ALL {after}", values | months)


def _month_after(day: str) -> str:
    year, month = divmod(12 * int(day[:4]) + int(day[5:7]), 12)
    return f"{year:04}-{month + 1:02}-01" if year <= MAXYEAR else NEVER


def sum_spent(db: Cursor, most: int) -> list[CostSum]:
    """What was spent on each of so many models, and on the rest of each provider's as ``other``."""
    return read_all(db.execute(SPENT, {"most": most}), CostSum)
