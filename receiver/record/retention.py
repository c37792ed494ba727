"""What retention drops: how a task came to its end, once that is old; never the key that dedupes it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from receiver.links import INLINE
from receiver.record.cursor import Cursor
from receiver.record.orders import DROP_ANSWER
from receiver.record.rows import Row, fetch_all, read_all
from receiver.times import to_text

# How far retention has come: everything up to here has been dropped already.
RETENTION = "SELECT deliveries_to, submissions_to, outbox_to FROM retention"

# The next rows behind the mark, old enough or not: numbers rise with time, so looking stops at the
# first that is young, and a round with nothing to do reads a few rows however long the history is.
NEXT_DELIVERIES = """
SELECT number, received_at AS at FROM deliveries WHERE number > :mark ORDER BY number LIMIT :limit
"""
NEXT_SUBMISSIONS = """
SELECT number, created_at AS at FROM submissions WHERE number > :mark ORDER BY number LIMIT :limit
"""
NEXT_NOTIFICATIONS = """
SELECT number, created_at AS at FROM outbox WHERE number > :mark ORDER BY number LIMIT :limit
"""
NEXT_ATTEMPTS = """
SELECT number, started_at AS at FROM attempts WHERE number > :mark ORDER BY number LIMIT :limit
"""

# A replay may still end these tasks: what was not understood, or waits, is kept as long as they are open.
# Nor does a body go from which files are still to be unpacked.
_MAY_COUNT = f"""
submission IS NOT NULL AND CASE
    WHEN verdict = 'accepted' THEN EXISTS (SELECT 1 FROM links l JOIN assets a USING (event, position)
        WHERE l.event = submission AND substr(l.url, 1, {len(INLINE)}) = '{INLINE}'
            AND a.state = 'pending')
    ELSE verdict IN ('unrecognised', 'unconfirmed')
        AND NOT EXISTS (SELECT 1 FROM events e WHERE e.number = submission)
END
"""  # noqa: S608
SPARE_BODY = f"""
INSERT INTO spared SELECT number FROM deliveries WHERE number = :number AND {_MAY_COUNT}
ON CONFLICT DO NOTHING
"""  # noqa: S608
SPARED_NO_MORE = f"""
SELECT number FROM spared JOIN deliveries USING (number) WHERE NOT ({_MAY_COUNT}) LIMIT :limit
"""  # noqa: S608
FORGET_SPARED = "DELETE FROM spared WHERE number = :number"

# Of what did not count the row stays. What was not understood and is nobody's can no longer be read again.
DROP_BODY = """
UPDATE deliveries SET body = NULL,
    verdict = CASE WHEN submission IS NULL AND verdict = 'unrecognised' THEN 'unowned' ELSE verdict END
WHERE number = :number AND NOT EXISTS (SELECT 1 FROM spared s WHERE s.number = deliveries.number)
"""
# What led to an end goes with its row: the event knows its task, so a very late repeat is still a repeat. But
# upkeep has followed it (see ``polls``), and the newest stays while it is that: SQLite would give its number
# to the next.
DROP_DELIVERY = """
DELETE FROM deliveries WHERE number = :number AND verdict IN ('accepted', 'duplicate', 'progress')
    AND number <= (SELECT polls_to FROM retention) AND number < (SELECT max(number) FROM deliveries)
    AND EXISTS (SELECT 1 FROM events e WHERE e.number = submission AND e.ended_at IS NOT NULL)
    AND NOT EXISTS (SELECT 1 FROM spared s WHERE s.number = deliveries.number)
"""
DROP_NOTIFICATION = """
DELETE FROM outbox WHERE number = :number AND state = 'delivered'
    AND number < (SELECT max(number) FROM outbox)
"""
DROP_REQUEST = "DELETE FROM requests WHERE number = :number"
# What is stored is not fetched again, and by now its link is dead. It goes with the body that it stands in.
DROP_LINKS = """
DELETE FROM links
WHERE event = (SELECT submission FROM deliveries WHERE number = :number AND verdict = 'accepted')
    AND EXISTS (SELECT 1 FROM assets a
        WHERE a.event = links.event AND a.position = links.position AND a.state = 'stored')
"""
DROP_ATTEMPT = "DELETE FROM attempts WHERE number = :number"
MARK_DELIVERIES = "UPDATE retention SET deliveries_to = :number"
MARK_SUBMISSIONS = "UPDATE retention SET submissions_to = :number"
MARK_NOTIFICATIONS = "UPDATE retention SET outbox_to = :number"


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    at: str  # when it came


def purge(db: Cursor, before: datetime, limit: int, *, now: datetime) -> int:
    """Drop what only people debugging would miss; see ``ports.Store.purge``."""
    deliveries_to, submissions_to, outbox_to = db.execute(RETENTION).fetchone()
    span = (to_text(before), to_text(now))
    deliveries = _old(db, NEXT_DELIVERIES, deliveries_to, limit, span)
    submissions = _old(db, NEXT_SUBMISSIONS, submissions_to, limit, span)
    notifications = _old(db, NEXT_NOTIFICATIONS, outbox_to, limit, span)
    attempts = _old(db, NEXT_ATTEMPTS, 0, limit, span)
    spared = fetch_all(db.execute(SPARED_NO_MORE, {"limit": limit}))
    db.executemany(FORGET_SPARED, spared)
    db.executemany(SPARE_BODY, deliveries)
    db.executemany(DROP_LINKS, deliveries)
    db.executemany(DROP_DELIVERY, _with_marked(deliveries_to, deliveries))
    db.executemany(DROP_BODY, [*spared, *deliveries])
    for statement in (DROP_REQUEST, DROP_ANSWER):
        db.executemany(statement, submissions)
    db.executemany(DROP_NOTIFICATION, _with_marked(outbox_to, notifications))
    db.executemany(DROP_ATTEMPT, attempts)
    for mark, rows in (
        (MARK_DELIVERIES, deliveries),
        (MARK_SUBMISSIONS, submissions),
        (MARK_NOTIFICATIONS, notifications),
    ):
        if rows:
            db.execute(mark, rows[-1])
    return sum(map(len, (deliveries, submissions, notifications, attempts, spared)))


def _with_marked(mark: int, rows: Sequence[Row]) -> Sequence[Row]:
    """These, and the last of the time before, which was the newest then."""
    return [{"number": mark}, *rows] if rows else rows


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
