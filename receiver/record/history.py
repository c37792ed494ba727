"""What happened to one task: deliveries, notifications and attempts, as many as are shown, or in pages."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from receiver.models import (
    MOST_SHOWN,
    Attempt,
    Delivery,
    HistoryPage,
    OutboxEntry,
    OutboxState,
    Outcome,
    Proof,
    Verdict,
    Via,
)
from receiver.record.cursor import Cursor
from receiver.record.windows import cursor_at, number_below
from receiver.times import from_text, from_text_if_any

T = TypeVar("T")


class Kind(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One kind of what happens to a task, in the order of its numbers."""

    columns: str  # from the number on
    source: str  # ends in a WHERE clause
    read: Callable[[tuple[Any, ...]], T]


def show(db: Cursor, kind: Kind[T], values: Mapping[str, object]) -> tuple[tuple[T, ...], int]:
    """The oldest and the newest, in order, and how many between them are left out."""
    newest = _newest(db, kind, values, MOST_SHOWN + 1)
    if len(newest) <= MOST_SHOWN:
        return tuple(kind.read(row) for row in reversed(newest)), 0
    first = db.execute(f"SELECT {kind.columns} {kind.source} ORDER BY number LIMIT 1", values).fetchone()
    (count,) = db.execute(f"SELECT count(*) {kind.source}", values).fetchone()
    shown = [first, *reversed(newest[: MOST_SHOWN - 1])]
    return tuple(kind.read(row) for row in shown), count - MOST_SHOWN


def list_page(
    db: Cursor, kind: Kind[T], values: Mapping[str, object], limit: int, cursor: str | None
) -> HistoryPage[T]:
    """Some of it, the newest first. Raises Rejected (400) for a cursor that is not ours."""
    rows = _newest(db, kind, values, limit + 1, number_below(cursor))
    next_cursor = cursor_at(rows[limit - 1][0] if len(rows) > limit else None)
    return HistoryPage(rows=tuple(kind.read(row) for row in rows[:limit]), next_cursor=next_cursor)


def _newest(
    db: Cursor, kind: Kind[T], values: Mapping[str, object], limit: int, below: int | None = None
) -> list[tuple[Any, ...]]:
    only = "" if below is None else "AND number < :below"
    sql = f"SELECT {kind.columns} {kind.source} {only} ORDER BY number DESC LIMIT :limit"
    return db.execute(sql, {**values, "below": below, "limit": limit}).fetchall()


def _delivery(row: tuple[Any, ...]) -> Delivery:
    return Delivery(
        id=f"dlv_{row[0]}",
        via=Via(row[1]),
        proof=Proof(row[2]),
        verdict=Verdict(row[3]),
        provider_state=row[4],
        note=row[5],
        bytes=row[6],
        seen=row[7],
        received_at=from_text(row[8]),
        last_seen_at=from_text(row[9]),
    )


def _notification(row: tuple[Any, ...]) -> OutboxEntry:
    return OutboxEntry(
        id=f"out_{row[0]}",
        sink=row[1],
        state=OutboxState(row[2]),
        revision=row[3],
        replay_id=row[4] or None,
        attempts=row[5],
        outcome=Outcome(row[6]) if row[6] else None,
        detail=row[7],
        due_at=from_text(row[8]),
        settled_at=from_text_if_any(row[9]),
    )


def _attempt(row: tuple[Any, ...]) -> Attempt:
    return Attempt(
        target=row[1],
        number=row[2],
        times=row[3],
        outcome=Outcome(row[4]),
        started_at=from_text(row[5]),
        last_started_at=from_text(row[6]),
        seconds=row[7],
        detail=row[8],
    )


DELIVERIES = Kind(
    columns="""
    number, via, proof, verdict, provider_state, note, coalesce(length(body), 0), seen, received_at,
    last_seen_at
    """,
    source="FROM deliveries WHERE provider = :provider AND task_id = :task_id",
    read=_delivery,
)
NOTIFICATIONS = Kind(
    columns="number, sink, state, revision, replay_id, attempts, outcome, detail, due_at, settled_at",
    source="FROM outbox WHERE event = :event",
    read=_notification,
)
ATTEMPTS = Kind(
    columns="""
    number, target, attempt, times, outcome, started_at, coalesce(last_started_at, started_at), seconds,
    detail
    """,
    source="FROM attempts WHERE event = :event",
    read=_attempt,
)
