"""What a filter matches, as SQL: only the clauses that are set, every value bound."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from receiver.repairs import Replay, ReplayWork, WorkFilter
from receiver.times import to_text
from receiver.words import Stage


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows a filter is about, and the columns that its clauses compare with."""

    number: str  # the order in which they are looked at
    source: str  # ends in a WHERE clause
    since: str  # when it happened
    known_at: str  # since when it is as it is: a replay leaves alone what came after it
    provider: str = "s.provider"
    task_id: str = "s.task_id"


# Tasks whose end consumers were told of.
ENDED = Rows(
    number="e.number",
    source="FROM events e JOIN submissions s ON s.number = e.number WHERE e.ended_at IS NOT NULL",
    since="e.ended_at",
    known_at="e.ended_at",
)

# Of these, those that lack a file.
INCOMPLETE = Rows(
    number="e.number",
    source="""
    FROM events e JOIN submissions s ON s.number = e.number WHERE e.ended_at IS NOT NULL
    AND EXISTS (SELECT 1 FROM assets WHERE event = e.number AND state = 'failed')
    """,
    since="e.received_at",
    known_at="e.ended_at",
)

# Tasks without an end.
OPEN = Rows(
    number="s.number",
    source="""
    FROM submissions s LEFT JOIN events e ON e.number = s.number
    WHERE s.task_id IS NOT NULL AND e.number IS NULL
    """,
    since="s.created_at",
    known_at="coalesce(s.bound_at, s.created_at)",
)

# Deliveries that were not understood, with their tasks where they have one.
UNRECOGNISED = Rows(
    number="d.number",
    source="""
    FROM deliveries d
    LEFT JOIN submissions s ON s.number = coalesce(d.submission,
        (SELECT number FROM submissions WHERE provider = d.provider AND task_id = d.task_id))
    LEFT JOIN events e ON e.number = s.number
    WHERE d.verdict = 'unrecognised' AND d.body IS NOT NULL
    """,
    since="d.received_at",
    known_at="d.received_at",
    provider="+d.provider",  # they are few, and in an index of their own
    task_id="coalesce(s.task_id, d.task_id)",
)

# Notifications that were given up.
DEAD = Rows(
    number="o.number",
    source="""
    FROM outbox o JOIN events e ON e.number = o.event JOIN submissions s ON s.number = o.event
    WHERE o.state = 'dead'
    """,
    since="e.ended_at",
    known_at="o.settled_at",
)

ROWS: Mapping[Stage, Rows] = {
    Stage.NOTIFY: ENDED,
    Stage.FETCH: INCOMPLETE,
    Stage.REPROCESS: UNRECOGNISED,
    Stage.POLL: OPEN,
}

# As the view "tasks" says it; nothing, where there is no task.
STATE = """
CASE WHEN s.number IS NULL THEN NULL WHEN e.number IS NULL THEN 'submitted'
    WHEN e.type IS NULL THEN 'fetching' ELSE substr(e.type, 6) END
"""

# How far a replay has come, and how far it goes.
PLACE = "SELECT cursor, up_to FROM replays WHERE id = ? AND lease = ?"


def clauses(rows: Rows, wanted: WorkFilter) -> tuple[list[str], dict[str, object]]:
    """The conditions of a filter, and the values that they name."""
    # The plus keeps SQLite from collecting and sorting all that a provider ever had for each page of it.
    # With task ids it is the other way round.
    plus = "" if wanted.task_ids else "+"
    conditions = {
        "provider": f"{plus}{rows.provider} = :provider",
        "owner": "s.owner = :owner",
        "state": f"{STATE} = :state",
        "type": "e.type = :type",
        "since": f"{rows.since} >= :since",
        "until": f"{rows.since} < :until",
        "task_ids": f"{rows.task_id} IN (SELECT value FROM json_each(:task_ids))",  # noqa: S608
    }
    values: dict[str, object] = {
        "provider": wanted.provider,
        "owner": wanted.owner,
        "state": wanted.state and wanted.state.value,
        "type": wanted.type and wanted.type.value,
        "since": wanted.since and to_text(wanted.since),
        "until": wanted.until and to_text(wanted.until),
        "task_ids": json_list(wanted.task_ids) if wanted.task_ids else None,
    }
    names = [name for name, value in values.items() if value is not None]
    return [conditions[name] for name in names], {name: values[name] for name in names}


def json_list(values: Sequence[str] | Sequence[int]) -> str:
    """For ``json_each``: a list of any length as one bound value."""
    return msgspec.json.encode(values).decode()


def query(columns: str, rows: Rows, conditions: Sequence[str], tail: str = "") -> str:
    return " ".join(["SELECT", columns, " AND ".join([rows.source, *conditions]), tail])


def count(db: sqlite3.Cursor, rows: Rows, wanted: WorkFilter, *more: str, **bound: object) -> int:
    """How many rows match; ``more`` conditions name the values in ``bound``."""
    conditions, values = clauses(rows, wanted)
    (number,) = db.execute(query("count(*)", rows, [*conditions, *more]), values | bound).fetchone()
    return int(number)


def measure(db: sqlite3.Cursor, replay: Replay) -> tuple[int, int]:
    """How much a new replay matches, and the number of the newest row that it may touch."""
    table = "deliveries" if replay.stage is Stage.REPROCESS else "submissions"
    (up_to,) = db.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()  # noqa: S608
    rows = ROWS[replay.stage]
    bounds = (f"{rows.number} <= :up_to", f"{rows.known_at} <= :asked_at")
    asked_at = to_text(replay.created_at)
    return count(db, rows, replay.filter, *bounds, up_to=up_to, asked_at=asked_at), int(up_to)


def next_matches(
    db: sqlite3.Cursor, work: ReplayWork, limit: int, columns: str | None = None
) -> list[tuple[Any, ...]]:
    """A replay's next matches in order, by default their numbers alone; none when the lease is lost."""
    place = db.execute(PLACE, (work.replay.id, work.lease)).fetchone()
    if place is None:
        return []
    rows = ROWS[work.replay.stage]
    conditions, values = _bounded(rows, work.replay)
    conditions += [f"{rows.number} > :cursor", f"{rows.number} <= :up_to"]
    values |= {"cursor": place[0], "up_to": place[1], "limit": limit}
    sql = query(columns or rows.number, rows, conditions, f"ORDER BY {rows.number} LIMIT :limit")
    return db.execute(sql, values).fetchall()


def still_matching(
    db: sqlite3.Cursor, replay: Replay, columns: str, numbers: Sequence[int]
) -> list[tuple[Any, ...]]:
    """Those of a replay's matches that are matches now."""
    rows = ROWS[replay.stage]
    conditions, values = _bounded(rows, replay)
    conditions.append(f"{rows.number} IN (SELECT value FROM json_each(:numbers))")  # noqa: S608
    values["numbers"] = json_list(numbers)
    return db.execute(query(columns, rows, conditions, f"ORDER BY {rows.number}"), values).fetchall()


def _bounded(rows: Rows, replay: Replay) -> tuple[list[str], dict[str, object]]:
    conditions, values = clauses(rows, replay.filter)
    conditions.append(f"{rows.known_at} <= :asked_at")
    return conditions, values | {"asked_at": to_text(replay.created_at)}
