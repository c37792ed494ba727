"""How each try at a file or a sink ended, in order; tries in a row that ended alike are one row."""

from receiver.models import Settlement
from receiver.record.cursor import Cursor
from receiver.times import to_text

# The last attempt at a target ended so, too: they are one row, lest what is refused for long fills the disk.
REPEAT_ATTEMPT = """
UPDATE attempts SET times = times + 1, attempt = ?1, last_started_at = ?2, seconds = ?3, detail = ?4
WHERE outcome = ?5 AND number =
    (SELECT max(number) FROM attempts WHERE event = ?6 AND target = ?7 AND entry IS ?8)
"""

INSERT_ATTEMPT = """
INSERT INTO attempts (attempt, started_at, seconds, detail, outcome, event, target, entry)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def keep_attempt(
    db: Cursor, settlement: Settlement, attempt: int, event: int, target: str, entry: int | None
) -> None:
    """Add an attempt to the history, or to the one before it, where that ended alike."""
    seconds = (settlement.settled_at - settlement.started_at).total_seconds()
    values = (
        attempt, to_text(settlement.started_at), seconds, settlement.detail, settlement.outcome.value,
        event, target, entry,
    )  # fmt: skip
    if db.execute(REPEAT_ATTEMPT, values).rowcount == 0 and not settlement.is_probe:
        db.execute(INSERT_ATTEMPT, values)
