"""What retention drops: raw bodies, requests and attempts; never a key that dedupes."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from receiver.record.cursor import Cursor
from receiver.record.rows import Row, fetch_all, read_all
from receiver.times import to_text

# How far retention has come: everything up to here has been dropped already.
RETENTION = "SELECT deliveries_to, submissions_to FROM retention"

# The next rows behind the mark, old enough or not: numbers rise with time, so looking stops at the
# first that is young, and a round with nothing to do reads a few rows however long the history is.
NEXT_DELIVERIES = """
SELECT number, received_at AS at FROM deliveries WHERE number > :mark ORDER BY number LIMIT :limit
"""
NEXT_SUBMISSIONS = """
SELECT number, created_at AS at FROM submissions WHERE number > :mark ORDER BY number LIMIT :limit
"""
NEXT_ATTEMPTS = """
SELECT number, started_at AS at FROM attempts WHERE number > :mark ORDER BY number LIMIT :limit
"""

# A replay may still end these tasks: what was not understood, or waits, is kept as long as they are open.
_MAY_COUNT = """
verdict IN ('unrecognised', 'unconfirmed') AND submission IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM events e WHERE e.number = submission)
"""
SPARE_BODY = f"""
INSERT INTO spared SELECT number FROM deliveries WHERE number = :number AND {_MAY_COUNT}
ON CONFLICT DO NOTHING
"""  # noqa: S608
SPARED_NO_MORE = f"""
SELECT number FROM spared JOIN deliveries USING (number) WHERE NOT ({_MAY_COUNT}) LIMIT :limit
"""  # noqa: S608
FORGET_SPARED = "DELETE FROM spared WHERE number = :number"

# The row stays, so that a very late repeat is still a repeat. What was not understood and is nobody's can no
# longer be read again.
DROP_BODY = """
UPDATE deliveries SET body = NULL,
    verdict = CASE WHEN submission IS NULL AND verdict = 'unrecognised' THEN 'unowned' ELSE verdict END
WHERE number = :number AND NOT EXISTS (SELECT 1 FROM spared s WHERE s.number = deliveries.number)
"""
DROP_REQUEST = "UPDATE submissions SET request = NULL WHERE number = :number"
DROP_ATTEMPT = "DELETE FROM attempts WHERE number = :number"
MARK_DELIVERIES = "UPDATE retention SET deliveries_to = :number"
MARK_SUBMISSIONS = "UPDATE retention SET submissions_to = :number"


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    at: str  # when it came


def purge(db: Cursor, before: datetime, limit: int, *, now: datetime) -> int:
    """Drop what only people debugging would miss; see ``ports.Store.purge``."""
    deliveries_to, submissions_to = db.execute(RETENTION).fetchone()
    span = (to_text(before), to_text(now))
    deliveries = _old(db, NEXT_DELIVERIES, deliveries_to, limit, span)
    submissions = _old(db, NEXT_SUBMISSIONS, submissions_to, limit, span)
    attempts = _old(db, NEXT_ATTEMPTS, 0, limit, span)
    spared = fetch_all(db.execute(SPARED_NO_MORE, {"limit": limit}))
    db.executemany(FORGET_SPARED, spared)
    db.executemany(SPARE_BODY, deliveries)
    db.executemany(DROP_BODY, [*spared, *deliveries])
    db.executemany(DROP_REQUEST, submissions)
    db.executemany(DROP_ATTEMPT, attempts)
    if deliveries:
        db.execute(MARK_DELIVERIES, deliveries[-1])
    if submissions:
        db.execute(MARK_SUBMISSIONS, submissions[-1])
    return len(deliveries) + len(submissions) + len(attempts) + len(spared)


def _old(db: Cursor, next_rows: str, mark: int, limit: int, span: tuple[str, str]) -> Sequence[Row]:
    """The numbers of the next rows that are old enough, up to the first that is not.

    A clock that ran ahead has left rows of the future. They came before the rows that follow them, so they
    are old enough once such a row is.
    """
    before, now = span
    rows = _next(db, next_rows, mark, limit)
    told = 0  # rows that are old enough, and those of the future among and before them
    for place, row in enumerate(rows, 1):
        if row.at < before:
            told = place
        elif row.at <= now:
            break
    else:
        if rows and not told and _is_old_behind(db, next_rows, rows[-1].number, span):
            told = len(rows)
    return [{"number": row.number} for row in rows[:told]]


def _next(db: Cursor, next_rows: str, mark: int, limit: int) -> list[_Row]:
    return read_all(db.execute(next_rows, {"mark": mark, "limit": limit}), _Row)


def _is_old_behind(db: Cursor, next_rows: str, last: int, span: tuple[str, str]) -> bool:
    """Whether the first row of the past behind a number, which is of the future, is old enough.

    Its place is found by doubling and halving, as if all of the future lay together.
    """
    before, now = span

    def from_(number: int) -> _Row | None:
        return next(iter(_next(db, next_rows, number - 1, 1)), None)

    future, past = last, last + 1
    while (row := from_(past)) is not None and row.at > now:
        future, past = row.number, row.number + 2 * (row.number - last)
    while past - future > 1:
        middle = (future + past) // 2
        row = from_(middle)
        if row is not None and row.number < past and row.at > now:
            future = row.number
        else:
            past = middle
    row = from_(past)
    return row is not None and row.at < before
