"""How much a plan is about, by provider, state and sink: counted as replays and requeues find it."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import Stage, TallyPart, WorkFilter
from receiver.record.cursor import Cursor
from receiver.record.dead_letters import search_dead
from receiver.record.filters import ROWS, STATE, Search, search_as_of
from receiver.record.rows import read_all


def tally_matches(
    db: Cursor, stage: Stage, wanted: WorkFilter, asked_at: datetime, low: int
) -> tuple[list[TallyPart], int | None]:
    """Some of what a replay is about, from ``low`` on, and where to go on, if anywhere."""
    return _tally(db, search_as_of(db, stage, wanted, asked_at), ROWS[stage].provider, "NULL", low)


def tally_dead(
    db: Cursor, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime, low: int
) -> tuple[list[TallyPart], int | None]:
    """The same of dead letters."""
    return _tally(db, search_dead(db, wanted, sinks, died_by), "s.provider", "o.sink", low)


def _tally(
    db: Cursor, found: Search, provider: str, sink: str, low: int
) -> tuple[list[TallyPart], int | None]:
    columns = f"{provider} AS provider, {STATE} AS state, {sink} AS sink, count(*) AS count"
    sql = found.query(columns, "GROUP BY 1, 2, 3")
    parts: list[TallyPart] = []
    reached = None
    for window in found.windows(db, low=low):
        values = {**found.values, "low": window.low, "high": window.high}
        parts += read_all(db.execute(sql, values), TallyPart)
        reached = None if window.is_last else window.high + 1
    return parts, reached
