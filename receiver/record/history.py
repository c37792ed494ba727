"""What happened to one task: deliveries, notifications and attempts, as many as are shown, or in pages."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from receiver.models import MOST_SHOWN, Attempt, Delivery, HistoryPage, OutboxEntry
from receiver.record.cursor import Cursor
from receiver.record.ids import delivery_id, notification_id
from receiver.record.lines import PARKED
from receiver.record.rows import Row, fetch_all, to_values
from receiver.record.windows import cursor_at, number_below

T = TypeVar("T", bound=msgspec.Struct)


class Kind(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One kind of what happens to a task, in the order of its numbers."""

    type: type[T]
    columns: str
    table: str
    only: str  # that are of the task
    name: Callable[[str, Row], str] | None = None  # the id of one, from that of its submission


def show(db: Cursor, kind: Kind[T], values: Mapping[str, Any]) -> tuple[tuple[T, ...], int]:
    """The oldest and the newest, in order, and how many between them are left out."""
    newest = _newest(db, kind, values, MOST_SHOWN + 1)
    if len(newest) <= MOST_SHOWN:
        return tuple(to_values(newest[::-1], kind.type)), 0
    first = _rows(db, kind, values, f"ORDER BY {kind.table}.number LIMIT 1")
    (count,) = db.execute(f"SELECT count(*) FROM {kind.table} WHERE {kind.only}", values).fetchone()  # noqa: S608
    shown = [*first, *reversed(newest[: MOST_SHOWN - 1])]
    return tuple(to_values(shown, kind.type)), count - MOST_SHOWN


def list_page(
    db: Cursor, kind: Kind[T], values: Mapping[str, Any], limit: int, cursor: str | None
) -> HistoryPage[T]:
    """Some of it, the newest first. Raises Rejected (BAD_CURSOR) for a cursor that is not ours."""
    rows = _newest(db, kind, values, limit + 1, number_below(cursor))
    next_cursor = cursor_at(rows[limit - 1]["place"] if len(rows) > limit else None)
    return HistoryPage(rows=tuple(to_values(rows[:limit], kind.type)), next_cursor=next_cursor)


def _newest(
    db: Cursor, kind: Kind[T], values: Mapping[str, Any], limit: int, below: int | None = None
) -> list[Row]:
    only = "" if below is None else f"AND {kind.table}.number < :below"
    values = {**values, "below": below, "limit": limit}
    return _rows(db, kind, values, f"{only} ORDER BY {kind.table}.number DESC LIMIT :limit")


def _rows(db: Cursor, kind: Kind[T], values: Mapping[str, Any], tail: str) -> list[Row]:
    # The number's own name may be a field's, so it goes by another.
    sql = f"SELECT {kind.table}.number AS place, {kind.columns} FROM {kind.table} WHERE {kind.only} {tail}"  # noqa: S608
    rows = fetch_all(db.execute(sql, values))
    if kind.name is not None:
        for row in rows:
            row["id"] = kind.name(values["submission_id"], row)
    return rows


DELIVERIES = Kind(
    type=Delivery,
    columns="""
    claim, digest, via, proof, verdict, provider_state, note, coalesce(length(body), 0) AS bytes,
    seen, received_at, last_seen_at
    """,
    table="deliveries",
    only="provider = :provider AND task_id = :task_id",
    name=lambda submission_id, row: delivery_id(submission_id, row["claim"], row["digest"]),
)
NOTIFICATIONS = Kind(
    type=OutboxEntry,
    columns=f"""
    sink, state, revision, nullif(replay_id, '') AS replay_id, attempts, outcome, detail,
    CASE due_at WHEN '{PARKED}' THEN created_at ELSE due_at END AS due_at, settled_at
    """,
    table="outbox",
    only="event = :event",
    name=lambda submission_id, row: notification_id(
        submission_id, row["revision"], row["sink"], row["replay_id"]
    ),
)
ATTEMPTS = Kind(
    type=Attempt,
    columns="""
    target, attempt AS number, times, outcome, started_at,
    coalesce(last_started_at, started_at) AS last_started_at, seconds, detail
    """,
    table="attempts",
    only="event = :event",
)
