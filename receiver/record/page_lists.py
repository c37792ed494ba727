"""What only the admin pages list: by the beginning of an id, by verdict, by when a link dies."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import (
    Asset,
    FileRow,
    KeptBody,
    OddDelivery,
    OddPage,
    OpenTask,
    Stage,
    TaskKey,
    Verdict,
    WorkFilter,
)
from receiver.record.cursor import Cursor
from receiver.record.dead_letters import search_dead
from receiver.record.filters import find_newest, json_list, search_as_of
from receiver.record.ids import delivery_id
from receiver.record.rows import fetch_all, parameters, read_all, to_value, to_values
from receiver.record.windows import LAST_NUMBER, cursor_at, number_below

MOST_LOOKED_AT = 5_000
FIRST = 4  # files of a task, which are looked at for a picture of it

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
EARLY_BETWEEN = f"""
SELECT d.provider, d.task_id, d.claim, d.digest, d.verdict, d.proof, d.via, d.provider_state, d.note,
    coalesce(length(d.body), 0) AS bytes, d.seen, d.received_at, d.last_seen_at, NULL AS submission_id
FROM (
    SELECT number, provider, received_at FROM deliveries
    WHERE verdict = 'early' AND {_ODD} ORDER BY number DESC LIMIT :most
) w
CROSS JOIN deliveries d ON d.number = w.number
WHERE w.provider = :provider AND w.received_at >= :since AND w.received_at < :until AND d.task_id <> ''
ORDER BY d.number LIMIT :limit
"""  # noqa: S608
COUNT_ODD = f"""
SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE verdict = :verdict AND {_ODD} LIMIT :most) w
"""  # noqa: S608

# Files that are still to be fetched, those whose links die first; and how many wait, up to so many.
PENDING_FILES = """
SELECT s.provider, s.task_id, s.owner, a.position AS "index", a.kind, a.attempts, a.outcome, a.due_at,
    a.deadline_at, w.waiting
FROM (
    SELECT event, position,
        (SELECT count(*) FROM (SELECT 1 FROM assets WHERE state = 'pending' LIMIT :most) m) AS waiting
    FROM assets WHERE state = 'pending' ORDER BY deadline_at || '' LIMIT :limit
) w
CROSS JOIN assets a ON a.event = w.event AND a.position = w.position
CROSS JOIN submissions s ON s.number = a.event
ORDER BY a.deadline_at
"""

# Of each task the stored ones among its first files.
FIRST_FILES = """
SELECT s.id AS submission_id, a.position AS "index", a.state, a.kind, a.outcome, a.attempts, a.deadline_at,
    a.key, a.media_type, a.bytes, a.width, a.height, a.sha256, a.settled_at
FROM submissions s CROSS JOIN assets a ON a.event = s.number
WHERE s.id IN (SELECT value FROM json_each(:ids)) AND a.position < :most AND a.state = 'stored'
ORDER BY a.event, a.position
"""

# Why tasks failed: the provider's code, or what the first file came to that could not be had.
FAILURES = """
SELECT s.id, coalesce(e.error_code, (
    SELECT a.outcome FROM assets a WHERE a.event = e.number AND a.state = 'failed' ORDER BY a.position LIMIT 1
)) FROM submissions s CROSS JOIN events e ON e.number = s.number
WHERE s.id IN (SELECT value FROM json_each(:ids)) AND e.type = 'task.failed'
"""

# What the dead letters of a sink, or of all, ended with.
DEAD_BY_OUTCOME = """
SELECT outcome, count(*) FROM (
    SELECT outcome FROM outbox WHERE state = 'dead' AND (:sink = '' OR sink = :sink)
    ORDER BY number DESC LIMIT :most
) w GROUP BY outcome ORDER BY count(*) DESC, outcome
"""

# What the last try of events came to that still wait for a sink; one that was not tried has no outcome.
WAITING_BY_OUTCOME = """
SELECT coalesce(outcome, ''), count(*) FROM (
    SELECT outcome FROM outbox WHERE state = 'pending' AND sink = :sink LIMIT :most
) w GROUP BY outcome ORDER BY count(*) DESC, outcome
"""

# Of the tasks of a provider that are asked about next, those that were logged first.
OPEN_TASKS = """
SELECT s.provider, s.task_id, s.owner, coalesce(s.bound_at, s.created_at) AS submitted_at, p.asked,
    p.outcome, p.due_at
FROM (
    SELECT number FROM (
        SELECT number FROM polls WHERE provider = :provider ORDER BY due_at LIMIT :most
    ) m ORDER BY number LIMIT :limit
) w
CROSS JOIN polls p ON p.number = w.number
CROSS JOIN submissions s ON s.number = w.number
WHERE s.task_id IS NOT NULL ORDER BY s.number
"""

# What came last about a task, without what is too large to be read by people.
KEPT_BODIES = """
SELECT d.via, d.verdict, d.digest, coalesce(length(d.body), 0) AS size, d.received_at,
    CASE WHEN length(d.body) <= :most_bytes THEN d.body END AS body
FROM (
    SELECT number FROM deliveries WHERE provider = :provider AND task_id = :task_id
    ORDER BY number DESC LIMIT :limit
) w
CROSS JOIN deliveries d ON d.number = w.number ORDER BY d.number DESC
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


def list_dead_examples(
    db: Cursor, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime, limit: int
) -> list[TaskKey]:
    """Some of what a requeue would be about; see ``ports.PageReads.list_dead_examples``."""
    found, most = search_dead(db, wanted, sinks, died_by), MOST_LOOKED_AT
    rows, _ = find_newest(db, found, "s.provider, s.task_id", limit, high=LAST_NUMBER, most_rows=most)
    return to_values(rows, TaskKey)


def list_odd(db: Cursor, verdict: Verdict, limit: int, cursor: str | None) -> OddPage:
    """Deliveries that did not count, the newest first; see ``ports.PageReads.list_odd``."""
    values = {"verdict": verdict.value, "below": number_below(cursor), "limit": limit + 1}
    rows = fetch_all(db.execute(ODD_DELIVERIES, values))
    for row in rows:
        owner = row["submission_id"] or row["claim"]
        row["id"] = delivery_id(owner, row["claim"], row["digest"]) if owner else None
    more = cursor_at(rows[limit - 1]["place"] if len(rows) > limit else None)
    return OddPage(deliveries=tuple(to_values(rows[:limit], OddDelivery)), next_cursor=more)


def list_likely(db: Cursor, provider: str, since: datetime, until: datetime, limit: int) -> list[OddDelivery]:
    """Early callbacks of a provider of some time, the oldest first; see ``ports.PageReads.list_likely``."""
    values = parameters(provider=provider, since=since, until=until, limit=limit, most=MOST_LOOKED_AT)
    rows = fetch_all(db.execute(EARLY_BETWEEN, values))
    return to_values([{**row, "id": None} for row in rows], OddDelivery)


def count_odd(db: Cursor, verdicts: Sequence[Verdict], most: int) -> dict[Verdict, int]:
    """How many there are of each, ``most`` at most."""
    counts = {}
    for verdict in verdicts:
        (counts[verdict],) = db.execute(COUNT_ODD, {"verdict": verdict.value, "most": most}).fetchone()
    return counts


def list_pending_files(db: Cursor, limit: int) -> list[FileRow]:
    """Files that wait, those whose links die first in front; see ``ports.PageReads.list_pending_files``."""
    return read_all(db.execute(PENDING_FILES, {"most": MOST_LOOKED_AT, "limit": limit}), FileRow)


def list_first_files(db: Cursor, submission_ids: Sequence[str]) -> dict[str, list[Asset]]:
    """The stored ones of the first files of each task; see ``ports.PageReads.list_first_files``."""
    found: dict[str, list[Asset]] = {}
    values = {"ids": json_list(submission_ids), "most": FIRST}
    for row in fetch_all(db.execute(FIRST_FILES, values)):
        found.setdefault(row.pop("submission_id"), []).append(to_value(row, Asset))
    return found


def list_failures(db: Cursor, submission_ids: Sequence[str]) -> dict[str, str | None]:
    """Why each of these failed; see ``ports.PageReads.list_failures``."""
    return dict(db.execute(FAILURES, {"ids": json_list(submission_ids)}).fetchall())


def count_dead_outcomes(db: Cursor, sink: str | None, most: int) -> dict[str, int]:
    """What dead letters ended with, of the newest ``most`` of them."""
    return dict(db.execute(DEAD_BY_OUTCOME, {"sink": sink or "", "most": most}).fetchall())


def count_waiting_outcomes(db: Cursor, sink: str, most: int) -> dict[str, int]:
    """What the last tries of events came to that wait for a sink; see ``ports.PageReads``."""
    return dict(db.execute(WAITING_BY_OUTCOME, {"sink": sink, "most": most}).fetchall())


def list_open_tasks(db: Cursor, provider: str, limit: int) -> list[OpenTask]:
    """Tasks of a provider that have not ended, the oldest first; see ``ports.PageReads.list_open_tasks``."""
    values = {"provider": provider, "most": MOST_LOOKED_AT, "limit": limit}
    return read_all(db.execute(OPEN_TASKS, values), OpenTask)


def list_bodies(db: Cursor, provider: str, task_id: str, limit: int, most_bytes: int) -> list[KeptBody]:
    """What came last about a task, the newest first; see ``ports.PageReads.list_bodies``."""
    values = {"provider": provider, "task_id": task_id, "limit": limit, "most_bytes": most_bytes}
    return read_all(db.execute(KEPT_BODIES, values), KeptBody)
