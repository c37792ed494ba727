"""What retention drops: raw bodies, requests and attempts; never a key that dedupes."""

import sqlite3
from datetime import datetime
from itertools import takewhile

from receiver.times import to_text

# How far retention has come: everything up to here has been dropped already.
RETENTION = "SELECT deliveries_to, submissions_to FROM retention"

# The next rows behind the mark, old enough or not: numbers rise with time, so looking stops at the
# first that is young, and a round with nothing to do reads a few rows however long the history is.
NEXT_DELIVERIES = "SELECT number, received_at FROM deliveries WHERE number > ? ORDER BY number LIMIT ?"
NEXT_SUBMISSIONS = "SELECT number, created_at FROM submissions WHERE number > ? ORDER BY number LIMIT ?"
NEXT_ATTEMPTS = "SELECT number, started_at FROM attempts ORDER BY number LIMIT ?"

# The row stays, so that a very late repeat is still a repeat. What was not understood and is nobody's can no
# longer be read again.
DROP_BODY = """
UPDATE deliveries SET body = NULL,
    verdict = CASE WHEN submission IS NULL AND verdict = 'unrecognised' THEN 'unowned' ELSE verdict END
WHERE number = ?
"""
DROP_REQUEST = "UPDATE submissions SET request = NULL WHERE number = ?"
DROP_ATTEMPT = "DELETE FROM attempts WHERE number = ?"
MARK_DELIVERIES = "UPDATE retention SET deliveries_to = ?"
MARK_SUBMISSIONS = "UPDATE retention SET submissions_to = ?"


def purge(db: sqlite3.Cursor, before: datetime, limit: int) -> int:
    """Drop what only people debugging would miss; see ``ports.Store.purge``."""
    moment = to_text(before)
    deliveries_to, submissions_to = db.execute(RETENTION).fetchone()
    deliveries = _old(db.execute(NEXT_DELIVERIES, (deliveries_to, limit)), moment)
    submissions = _old(db.execute(NEXT_SUBMISSIONS, (submissions_to, limit)), moment)
    attempts = _old(db.execute(NEXT_ATTEMPTS, (limit,)), moment)
    db.executemany(DROP_BODY, deliveries)
    db.executemany(DROP_REQUEST, submissions)
    db.executemany(DROP_ATTEMPT, attempts)
    if deliveries:
        db.execute(MARK_DELIVERIES, deliveries[-1])
    if submissions:
        db.execute(MARK_SUBMISSIONS, submissions[-1])
    return len(deliveries) + len(submissions) + len(attempts)


def _old(rows: sqlite3.Cursor, moment: str) -> list[tuple[int]]:
    return [(key,) for key, _ in takewhile(lambda row: row[1] < moment, rows.fetchall())]
