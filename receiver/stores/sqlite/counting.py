"""How much there is of everything, how old the oldest is, and when the next falls due."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta

from receiver.models import Stats
from receiver.ports import Due
from receiver.times import from_text_if_any, to_text

# Of files that nobody tried, all of which are due, one will do; of the others, by how often they were tried,
# the first is at hand.
NEXT_ASSET = """
SELECT min(due_at) FROM (
    SELECT due_at FROM (SELECT due_at FROM assets
        WHERE state = 'pending' AND (attempts = 0 AND outcome IS NULL) = 1 ORDER BY deadline_at LIMIT 1)
    UNION ALL
    SELECT (SELECT min(due_at) FROM assets WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL)
        AND min(attempts, 3) = tried.value) FROM json_each('[0, 1, 2, 3]') tried
)
"""

# When the next one falls due; a leased one does so when its lease runs out.
NEXT_DUE: Mapping[Due, str] = {
    "assets": NEXT_ASSET,
    "outbox": "SELECT min(due_at) FROM outbox WHERE state = 'pending' AND sink = :name",
    "polls": "SELECT min(due_at) FROM polls WHERE provider = :name",
    "replays": "SELECT min(due_at) FROM replays WHERE state IN ('running', 'cancelled', 'done')",
}

UNBOUND_AGES = ("under_1h", "under_24h", "older")

COUNTS = {
    "tasks": "SELECT state, count(*) FROM tasks GROUP BY state",
    "deliveries": "SELECT verdict, count(*) FROM deliveries GROUP BY verdict",
    "assets": "SELECT state, count(*) FROM assets GROUP BY state",
}

COUNT_OUTBOX = "SELECT sink, state, count(*) FROM outbox GROUP BY sink, state"

COUNT_POLLS = """
SELECT provider, coalesce(outcome, 'never') AS last, count(*) FROM polls
WHERE number NOT IN (SELECT number FROM events) GROUP BY provider, last
"""
OLDEST_UNDELIVERED = "SELECT min(created_at) FROM outbox WHERE state = 'pending'"

OLDEST_UNDOWNLOADED = """
SELECT min(e.received_at) FROM events e WHERE e.number IN (SELECT event FROM assets WHERE state = 'pending')
"""

# Reservations without a task, by the hour and the day before now.
COUNT_UNBOUND = """
SELECT CASE WHEN created_at > ?1 THEN 'under_1h' WHEN created_at > ?2 THEN 'under_24h' ELSE 'older' END
    AS age, count(*)
FROM submissions WHERE task_id IS NULL AND withdrawn_at IS NULL GROUP BY age
"""

NEXT_DEADLINE = """
SELECT min((SELECT min(deadline_at) FROM assets
    WHERE state = 'pending' AND (attempts = 0 AND outcome IS NULL) = untried.value))
FROM json_each('[0, 1]') untried
"""


def next_due_at(db: sqlite3.Cursor, kind: Due, name: str) -> datetime | None:
    """When the next work of a kind falls due; see ``ports.Store.next_due_at``."""
    (moment,) = db.execute(NEXT_DUE[kind], {"name": name}).fetchone()
    return from_text_if_any(moment)


def count_stats(db: sqlite3.Cursor, now: datetime) -> Stats:
    """How much there is of everything, and how old the oldest is."""
    counts = {name: dict(db.execute(sql).fetchall()) for name, sql in COUNTS.items()}
    return Stats(
        submissions=db.execute("SELECT count(*) FROM submissions").fetchone()[0],
        outbox=_count_twofold(db, COUNT_OUTBOX),
        unbound=_count_unbound(db, now),
        polls=_count_twofold(db, COUNT_POLLS),
        oldest_undelivered_at=_only_moment(db, OLDEST_UNDELIVERED),
        oldest_undownloaded_at=_only_moment(db, OLDEST_UNDOWNLOADED),
        next_deadline_at=_only_moment(db, NEXT_DEADLINE),
        **counts,
    )


def _count_unbound(db: sqlite3.Cursor, now: datetime) -> dict[str, int]:
    marks = (to_text(now - timedelta(hours=1)), to_text(now - timedelta(days=1)))
    return dict.fromkeys(UNBOUND_AGES, 0) | dict(db.execute(COUNT_UNBOUND, marks).fetchall())


def _count_twofold(db: sqlite3.Cursor, query: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for name, state, count in db.execute(query):
        counts.setdefault(name, {})[state] = count
    return counts


def _only_moment(db: sqlite3.Cursor, query: str) -> datetime | None:
    return from_text_if_any(db.execute(query).fetchone()[0])
