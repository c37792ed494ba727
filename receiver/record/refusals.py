"""Requests that were turned away: a row for each hour and reason, however many there were."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import Refusal, RefusalFilter, RefusalPage
from receiver.record.cursor import Cursor
from receiver.record.rows import fetch_all, parameters, parameters_of, to_values
from receiver.record.windows import cursor_at, number_below

COLUMNS = "hour, provider, status, reason, scheme, count, first_at, last_at"

ADD = f"""
INSERT INTO refusals ({COLUMNS})
VALUES (:hour, :provider, :status, :reason, :scheme, :count, :first_at, :last_at)
ON CONFLICT (hour, provider, status, reason, scheme) DO UPDATE SET
    count = refusals.count + excluded.count,
    first_at = CASE WHEN excluded.first_at < refusals.first_at THEN excluded.first_at
                    ELSE refusals.first_at END,
    last_at = CASE WHEN excluded.last_at > refusals.last_at THEN excluded.last_at ELSE refusals.last_at END
"""  # noqa: S608

# The newest first, along the numbers.
PAGE = f"""
SELECT number AS place, {COLUMNS} FROM refusals WHERE number < :below
    AND last_at >= :since AND first_at < :until
    AND (:provider = '' OR provider = :provider) AND (:reason = '' OR reason = :reason)
ORDER BY number DESC LIMIT :limit
"""  # noqa: S608
OLD = "DELETE FROM refusals WHERE hour < :before"

_BEHIND_ALL = "9"  # no time begins so


def add_refusals(db: Cursor, refusals: Sequence[Refusal]) -> None:
    """Add these to the rows of their hours."""
    # In the order of the key, so that two processes never wait for each other's rows crosswise.
    ordered = sorted(refusals, key=lambda each: (each.hour, each.provider, each.status, each.reason))
    db.executemany(ADD, [parameters_of(each) for each in ordered])


def list_refusals(db: Cursor, wanted: RefusalFilter, limit: int, cursor: str | None) -> RefusalPage:
    """A page; see ``ports.TimeSeriesStore``."""
    values = parameters(
        below=number_below(cursor),
        since=wanted.since or "",
        until=wanted.until or _BEHIND_ALL,
        provider=wanted.provider or "",
        reason=wanted.reason or "",
        limit=limit + 1,
    )
    rows = fetch_all(db.execute(PAGE, values))
    next_cursor = cursor_at(rows[limit - 1]["place"] if len(rows) > limit else None)
    return RefusalPage(refusals=tuple(to_values(rows[:limit], Refusal)), next_cursor=next_cursor)


def forget_refusals(db: Cursor, before: datetime) -> None:
    """Drop the rows of hours that began before."""
    db.execute(OLD, parameters(before=before))
