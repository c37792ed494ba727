"""What only the admin pages list: by the beginning of an id, by verdict, by when a link dies."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import FileRow, OddDelivery, OddPage, Stage, TaskKey, Verdict, WorkFilter
from receiver.record.cursor import Cursor
from receiver.record.filters import find_newest, search_as_of
from receiver.record.ids import delivery_id
from receiver.record.rows import fetch_all, read_all, to_values
from receiver.record.windows import LAST_NUMBER, cursor_at, number_below

MOST_LOOKED_AT = 5_000

# Of each provider those whose ids begin so: a range of its index.
BEGINNING = """
WITH RECURSIVE providers (name) AS (
    SELECT min(provider) FROM submissions
    UNION ALL
    SELECT (SELECT min(provider) FROM submissions WHERE provider > name) FROM providers WHERE name IS NOT NULL
)
SELECT s.provider, s.task_id FROM providers p CROSS JOIN submissions s
    ON s.provider = p.name AND s.task_id >= :first AND s.task_id < :last
WHERE p.name IS NOT NULL LIMIT :limit
"""

# Verdicts that are no ordinary ones, with the words of their index.
ODD = (
    Verdict.EARLY,
    Verdict.UNOWNED,
    Verdict.REFUSED,
    Verdict.CONFLICT,
    Verdict.UNRECOGNISED,
    Verdict.UNCONFIRMED,
)
_ODD = "verdict IN ('early', 'unowned', 'refused', 'conflict', 'unrecognised', 'unconfirmed')"
ODD_DELIVERIES = f"""
SELECT d.number AS place, d.provider, d.task_id, d.claim, d.digest, d.verdict, d.proof, d.via,
    d.provider_state, d.note, coalesce(length(d.body), 0) AS bytes, d.seen, d.received_at, d.last_seen_at,
    s.id AS submission_id
FROM deliveries d LEFT JOIN submissions s ON s.number = d.submission
WHERE d.verdict = :verdict AND d.{_ODD} AND d.number < :below ORDER BY d.number DESC LIMIT :limit
"""  # noqa: S608
COUNT_ODD = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE verdict = :verdict AND {_ODD} LIMIT :most) w
"""  # noqa: S608

# Files that are still to be fetched: of the first so many, those whose links die first.
PENDING_FILES = """
SELECT s.provider, s.task_id, s.owner, a.position AS "index", a.kind, a.attempts, a.outcome, a.due_at,
    a.deadline_at, w.looked_at
FROM (
    SELECT event, position, deadline_at, count(*) OVER () AS looked_at FROM (
        SELECT event, position, deadline_at FROM assets WHERE state = 'pending' LIMIT :most
    ) m ORDER BY deadline_at LIMIT :limit
) w
CROSS JOIN assets a ON a.event = w.event AND a.position = w.position
CROSS JOIN submissions s ON s.number = a.event
ORDER BY a.deadline_at
"""

# What the dead letters of a sink, or of all, ended with.
DEAD_BY_OUTCOME = """
SELECT outcome, count(*) FROM (
    SELECT outcome FROM outbox WHERE state = 'dead' AND (:sink = '' OR sink = :sink)
    ORDER BY number DESC LIMIT :most
) w GROUP BY outcome ORDER BY count(*) DESC, outcome
"""


def find_tasks(db: Cursor, beginning: str, limit: int) -> list[TaskKey]:
    """Tasks whose providers' ids begin so; see ``ports.PageReads.find_tasks``."""
    values = {"first": beginning, "last": f"{beginning}\U0010ffff", "limit": limit}
    return read_all(db.execute(BEGINNING, values), TaskKey)


def list_examples(
    db: Cursor, stage: Stage, wanted: WorkFilter, asked_at: datetime, limit: int
) -> list[TaskKey]:
    """Some of what a replay would be about, the newest first; see ``ports.PageReads.list_examples``."""
    found = search_as_of(db, stage, wanted, asked_at)
    columns, most = "s.provider, s.task_id", MOST_LOOKED_AT
    rows, _ = find_newest(db, found, columns, limit, high=LAST_NUMBER, most_rows=most)
    return to_values([row for row in rows if row["task_id"] is not None], TaskKey)


def list_odd(db: Cursor, verdict: Verdict, limit: int, cursor: str | None) -> OddPage:
    """Deliveries that did not count, the newest first; see ``ports.PageReads.list_odd``."""
    values = {"verdict": verdict.value, "below": number_below(cursor), "limit": limit + 1}
    rows = fetch_all(db.execute(ODD_DELIVERIES, values))
    for row in rows:
        owner = row["submission_id"] or row["claim"]
        row["id"] = delivery_id(owner, row["claim"], row["digest"]) if owner else None
    more = cursor_at(rows[limit - 1]["place"] if len(rows) > limit else None)
    return OddPage(deliveries=tuple(to_values(rows[:limit], OddDelivery)), next_cursor=more)


def count_odd(db: Cursor, verdicts: Sequence[Verdict], most: int) -> dict[Verdict, int]:
    """How many there are of each, ``most`` at most."""
    counts = {}
    for verdict in verdicts:
        (counts[verdict],) = db.execute(COUNT_ODD, {"verdict": verdict.value, "most": most}).fetchone()
    return counts


def list_pending_files(db: Cursor, limit: int) -> list[FileRow]:
    """Files that wait, those whose links die first in front; see ``ports.PageReads.list_pending_files``."""
    return read_all(db.execute(PENDING_FILES, {"most": MOST_LOOKED_AT, "limit": limit}), FileRow)


def count_dead_outcomes(db: Cursor, sink: str | None, most: int) -> dict[str, int]:
    """What dead letters ended with, of the newest ``most`` of them."""
    return dict(db.execute(DEAD_BY_OUTCOME, {"sink": sink or "", "most": most}).fetchall())
