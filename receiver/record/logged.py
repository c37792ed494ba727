"""Between which numbers the tasks lie that were logged in a time."""

from datetime import datetime, timedelta

from receiver.record.cursor import Cursor
from receiver.record.windows import LAST_NUMBER
from receiver.times import to_text

# Numbers rise in the order in which tasks are logged, and a clock is set back by less than this. So what was
# logged before a task that is so much older than a time is older than it, too; and the other way round.
CLOCK_MARGIN = timedelta(hours=1)
LAST_BEFORE = """
SELECT number FROM submissions INDEXED BY submissions_created
WHERE created_at < :moment ORDER BY created_at DESC, number DESC LIMIT 1
"""
FIRST_AFTER = """
SELECT number FROM submissions INDEXED BY submissions_created
WHERE created_at >= :moment ORDER BY created_at, number LIMIT 1
"""


def logged_between(db: Cursor, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The least and the greatest number that a task of this time may have; others lie between, too."""
    low, high = 0, LAST_NUMBER
    if since is not None:
        low = _number(db, LAST_BEFORE, _moved(since, -CLOCK_MARGIN), low - 1) + 1
    if until is not None:
        high = _number(db, FIRST_AFTER, _moved(until, CLOCK_MARGIN), high + 1) - 1
    return low, high


def _number(db: Cursor, query: str, moment: str, otherwise: int) -> int:
    (number,) = db.execute(query, {"moment": moment}).fetchone() or (otherwise,)
    return int(number)


def _moved(moment: datetime, by: timedelta) -> str:
    try:
        return to_text(moment + by)
    except OverflowError:  # at either end of the calendar
        return to_text(moment)
