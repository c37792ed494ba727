"""How each try at a file or a sink ended, in order; tries in a row that ended alike are one row."""

from collections.abc import Sequence

import msgspec

from receiver.models import Settlement
from receiver.record.cursor import Cursor
from receiver.record.rows import ByKeys, find_rows, insert_into, parameters, to_column

KEPT = ByKeys("SELECT a.number, a.event, a.target, a.entry, a.outcome", "attempts a", ["a.event", "a.target"])

# The last attempt at a target ended so, too: they are one row, lest what is refused for long fills the disk.
REPEAT_ATTEMPT = """
UPDATE attempts SET times = times + 1, attempt = :attempt, last_started_at = :started_at, seconds = :seconds,
    detail = :detail
WHERE number = :number
"""

INSERT_ATTEMPT = insert_into(
    "attempts", "event", "target", "entry", "attempt", "outcome", "started_at", "seconds", "detail"
)


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a target of an event, and how it ended."""

    event: int
    target: str
    entry: int | None  # of the outbox
    attempt: int
    settlement: Settlement


class _KeptRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    number: int
    event: int
    target: str
    entry: int | None
    outcome: str


def keep_attempts(db: Cursor, tries: Sequence[Try]) -> None:
    """Add attempts at so many targets to the history, each to the one before it where that ended alike."""
    if not tries:
        return
    kept = find_rows(db.execute(*KEPT.of([(each.event, each.target) for each in tries])), _KeptRow)
    last = {(row.event, row.target, row.entry): row for row in sorted(kept, key=lambda row: row.number)}
    again, new = [], []
    for each in tries:
        settlement = each.settlement
        before = last.get((each.event, each.target, each.entry))
        seconds = (settlement.settled_at - settlement.started_at).total_seconds()
        if before is not None and before.outcome == settlement.outcome:
            values = parameters(
                number=before.number,
                attempt=each.attempt,
                started_at=settlement.started_at,
                seconds=seconds,
                detail=settlement.detail,
            )
            again.append(values)
        elif not settlement.is_probe:
            said = settlement.outcome, settlement.started_at, seconds, settlement.detail
            new.append((each.event, each.target, each.entry, each.attempt, *map(to_column, said)))
    if again:
        db.executemany(REPEAT_ATTEMPT, again)
    if new:
        db.executemany(INSERT_ATTEMPT, new)
