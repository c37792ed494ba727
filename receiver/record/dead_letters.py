"""Dead letters: notifications that were given up, looked at and revived by people."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import DeadLetter, DeadLetterPage, FoundDead, WorkFilter
from receiver.record.cursor import Cursor, change_each
from receiver.record.filters import DEAD, Search, count_on, find_newest, find_on, json_list, search
from receiver.record.ids import notification_id
from receiver.record.rows import to_values
from receiver.record.windows import cursor_at, number_below
from receiver.times import to_text

# With what the last attempt said. Before 0.4.0 only the history said so, as long as retention keeps it.
LETTER_COLUMNS = """
s.id AS submission_id, o.sink, e.id AS event_id, s.provider, s.task_id, s.owner, e.type, o.revision,
nullif(o.replay_id, '') AS replay_id, o.attempts, o.outcome,
coalesce(o.detail, (SELECT detail FROM attempts WHERE event = o.event AND target = 'sink ' || o.sink
    AND attempt = o.attempts AND started_at <= o.settled_at ORDER BY number DESC LIMIT 1)) AS detail,
o.created_at, o.settled_at
"""

OF_SINKS = "o.sink IN (SELECT value FROM json_each(:sinks))"

# It is made anew, and so are the links in it: those that it was made with may be dead by now.
REVIVE = """
UPDATE outbox SET state = 'pending', attempts = 0, lease = NULL, settled_at = NULL, revived = 1,
    due_at = :now, created_at = :now
WHERE number = :number AND state = 'dead'
"""


def list_dead(
    db: Cursor,
    wanted: WorkFilter,
    sink: str | None,
    limit: int,
    cursor: str | None,
    *,
    most_rows: int | None = None,
) -> DeadLetterPage:
    """A page of dead letters, the newest first; see ``ports.DeadLetterStore.list_dead``.

    With ``most_rows`` it is found among so many.
    """
    high = number_below(cursor) - 1
    found = search(db, DEAD, wanted, *(["o.sink = :sink"] if sink else []), sink=sink)
    rows, reached = find_newest(db, found, LETTER_COLUMNS, limit, high=high, most_rows=most_rows)
    for row in rows:
        row["id"] = notification_id(row["submission_id"], row["revision"], row["sink"], row["replay_id"])
    return DeadLetterPage(
        dead_letters=tuple(to_values(rows, DeadLetter)),
        next_cursor=cursor_at(None if reached is None else reached + 1),
    )


def count_dead(db: Cursor, wanted: WorkFilter, sinks: Sequence[str], low: int) -> tuple[int, int | None]:
    """How many dead letters a requeue would revive, from ``low`` on, and where to go on, if anywhere."""
    return count_on(db, _of_sinks(db, wanted, sinks), low=low)


def find_dead(
    db: Cursor, wanted: WorkFilter, sinks: Sequence[str], limit: int, after: str | None
) -> FoundDead:
    """The oldest dead letters that match behind ``after``; see ``ports.DeadLetterStore.find_dead``."""
    low = 0 if after is None else number_below(after)  # this walk goes up, and begins where a page would end
    rows, reached = find_on(db, _of_sinks(db, wanted, sinks), "", limit, low=low)
    return FoundDead(
        keys=tuple(str(row["place"]) for row in rows),
        cursor=cursor_at(reached),
    )


def _of_sinks(db: Cursor, wanted: WorkFilter, sinks: Sequence[str]) -> Search:
    """The way to dead letters; no ``sinks`` means every one."""
    return search(db, DEAD, wanted, *([OF_SINKS] if sinks else []), sinks=json_list(sinks))


def revive(db: Cursor, keys: Sequence[str], now: datetime) -> int:
    """Make dead letters due again, as new ones are; how many were still dead."""
    moment = to_text(now)
    return change_each(db, REVIVE, [{"now": moment, "number": int(key)} for key in keys])
