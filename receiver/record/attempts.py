"""How each try at a file or a sink ended, in order; tries in a row that ended alike are one row."""

from receiver.models import Settlement
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters

# The last attempt at a target ended so, too: they are one row, lest what is refused for long fills the disk.
REPEAT_ATTEMPT = """
UPDATE attempts SET times = times + 1, attempt = :attempt, last_started_at = :started_at, seconds = :seconds,
    detail = :detail
WHERE outcome = :outcome AND number =
    (SELECT max(number) FROM attempts WHERE event = :event AND target = :target AND entry IS :entry)
"""

INSERT_ATTEMPT = """
INSERT INTO attempts (attempt, started_at, seconds, detail, outcome, event, target, entry)
VALUES (:attempt, :started_at, :seconds, :detail, :outcome, :event, :target, :entry)
"""


def keep_attempt(
    db: Cursor, settlement: Settlement, attempt: int, event: int, target: str, entry: int | None
) -> None:
    """Add an attempt to the history, or to the one before it, where that ended alike."""
    seconds = (settlement.settled_at - settlement.started_at).total_seconds()
    values = parameters(
        event=event,
        target=target,
        entry=entry,
        attempt=attempt,
        started_at=settlement.started_at,
        seconds=seconds,
        outcome=settlement.outcome,
        detail=settlement.detail,
    )
    if db.execute(REPEAT_ATTEMPT, values).rowcount == 0 and not settlement.is_probe:
        db.execute(INSERT_ATTEMPT, values)
