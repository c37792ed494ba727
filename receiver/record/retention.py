"""What retention drops: raw bodies, requests and attempts; never a key that dedupes."""

from collections.abc import Sequence
from datetime import datetime

from receiver.record.cursor import Cursor
from receiver.times import to_text

# How far retention has come: everything up to here has been dropped already.
RETENTION = "SELECT deliveries_to, submissions_to FROM retention"

# The next rows behind the mark, old enough or not: numbers rise with time, so looking stops at the
# first that is young, and a round with nothing to do reads a few rows however long the history is.
NEXT_DELIVERIES = "SELECT number, received_at FROM deliveries WHERE number > ? ORDER BY number LIMIT ?"
NEXT_SUBMISSIONS = "SELECT number, created_at FROM submissions WHERE number > ? ORDER BY number LIMIT ?"
NEXT_ATTEMPTS = "SELECT number, started_at FROM attempts WHERE number > ? ORDER BY number LIMIT ?"

# A replay may still end these tasks: what was not understood, or waits, is kept as long as they are open.
_MAY_COUNT = """
verdict IN ('unrecognised', 'unconfirmed') AND submission IS NOT NULL
    AND submission NOT IN (SELECT number FROM events)
"""
SPARE_BODY = f"INSERT OR IGNORE INTO spared SELECT number FROM deliveries WHERE number = ? AND {_MAY_COUNT}"  # noqa: S608
SPARED_NO_MORE = f"""
SELECT number FROM spared JOIN deliveries USING (number) WHERE NOT ({_MAY_COUNT}) LIMIT ?
"""  # noqa: S608
FORGET_SPARED = "DELETE FROM spared WHERE number = ?"

# The row stays, so that a very late repeat is still a repeat. What was not understood and is nobody's can no
# longer be read again.
DROP_BODY = """
UPDATE deliveries SET body = NULL,
    verdict = CASE WHEN submission IS NULL AND verdict = 'unrecognised' THEN 'unowned' ELSE verdict END
WHERE number = ? AND number NOT IN (SELECT number FROM spared)
"""
DROP_REQUEST = "UPDATE submissions SET request = NULL WHERE number = ?"
DROP_ATTEMPT = "DELETE FROM attempts WHERE number = ?"
MARK_DELIVERIES = "UPDATE retention SET deliveries_to = ?"
MARK_SUBMISSIONS = "UPDATE retention SET submissions_to = ?"


def purge(db: Cursor, before: datetime, limit: int, *, now: datetime) -> int:
    """Drop what only people debugging would miss; see ``ports.Store.purge``."""
    deliveries_to, submissions_to = db.execute(RETENTION).fetchone()
    span = (to_text(before), to_text(now))
    deliveries = _old(db, NEXT_DELIVERIES, deliveries_to, limit, span)
    submissions = _old(db, NEXT_SUBMISSIONS, submissions_to, limit, span)
    attempts = _old(db, NEXT_ATTEMPTS, 0, limit, span)
    spared = db.execute(SPARED_NO_MORE, (limit,)).fetchall()
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


def _old(db: Cursor, next_rows: str, mark: int, limit: int, span: tuple[str, str]) -> Sequence[tuple[int]]:
    """The keys of the next rows that are old enough, up to the first that is not.

    A clock that ran ahead has left rows of the future. They came before the rows that follow them, so they
    are old enough once such a row is.
    """
    before, now = span
    rows = db.execute(next_rows, (mark, limit)).fetchall()
    told = 0  # rows that are old enough, and those of the future among and before them
    for place, (_, at) in enumerate(rows, 1):
        if at < before:
            told = place
        elif at <= now:
            break
    else:
        if rows and not told and _is_old_behind(db, next_rows, rows[-1][0], span):
            told = len(rows)
    return [(key,) for key, _ in rows[:told]]


def _is_old_behind(db: Cursor, next_rows: str, last: int, span: tuple[str, str]) -> bool:
    """Whether the first row of the past behind a number, which is of the future, is old enough.

    Its place is found by doubling and halving, as if all of the future lay together.
    """
    before, now = span

    def from_(number: int) -> tuple[int, str] | None:
        row: tuple[int, str] | None = db.execute(next_rows, (number - 1, 1)).fetchone()
        return row

    future, past = last, last + 1
    while (row := from_(past)) is not None and row[1] > now:
        future, past = row[0], row[0] + 2 * (row[0] - last)
    while past - future > 1:
        middle = (future + past) // 2
        row = from_(middle)
        if row is not None and row[0] < past and row[1] > now:
            future = row[0]
        else:
            past = middle
    row = from_(past)
    return row is not None and row[1] < before
