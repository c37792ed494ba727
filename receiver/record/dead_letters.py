"""Dead letters: notifications that were given up, looked at and revived by people."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import DeadLetter, DeadLetterPage, FoundDead, Moved, WorkFilter
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

# It is made anew, and so are the links in it: those that it was made with may be dead by now. Those behind it
# in its line have gone on without it, so it is in none any more.
REVIVE = """
UPDATE outbox SET state = 'pending', attempts = 0, lease = NULL, settled_at = NULL, revived = 1,
    due_at = :now, created_at = :now, line = NULL
WHERE number = :number AND state = 'dead' AND settled_at <= :died_by
"""
ANY_TIME = "z"  # after every time

# What is moved to another sink is as if made now, so that the links in it live. What that one has already
# stays where it is.
MOVED = """
sink = :to, state = 'pending', attempts = 0, lease = NULL, outcome = NULL, detail = NULL, settled_at = NULL,
    revived = CASE state WHEN 'dead' THEN 1 ELSE revived END, due_at = :now, created_at = :now, line = NULL
"""
HAD = """
EXISTS (SELECT 1 FROM outbox h WHERE h.event = outbox.event AND h.sink = :to
    AND h.revision = outbox.revision AND h.replay_id = outbox.replay_id)
"""
MOVE = f"UPDATE outbox SET {MOVED} WHERE number = :number AND state = 'dead' AND sink <> :to AND NOT {HAD}"  # noqa: S608
DROP_OTHERS = "DELETE FROM outbox WHERE number = :number AND state = 'dead' AND sink <> :to"
DROP = "DELETE FROM outbox WHERE number = :number AND state = 'dead'"


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


def count_dead(
    db: Cursor, wanted: WorkFilter, sinks: Sequence[str], low: int, died_by: datetime | None = None
) -> tuple[int, int | None]:
    """How many dead letters a requeue would revive, from ``low`` on, and where to go on, if anywhere."""
    return count_on(db, search_dead(db, wanted, sinks, died_by), low=low)


def find_dead(
    db: Cursor,
    wanted: WorkFilter,
    sinks: Sequence[str],
    limit: int,
    after: str | None,
    died_by: datetime | None = None,
) -> FoundDead:
    """The oldest dead letters that match behind ``after``; see ``ports.DeadLetterStore.find_dead``."""
    low = 0 if after is None else number_below(after)  # this walk goes up, and begins where a page would end
    rows, reached = find_on(db, search_dead(db, wanted, sinks, died_by), "", limit, low=low)
    return FoundDead(
        keys=tuple(str(row["place"]) for row in rows),
        cursor=cursor_at(reached),
    )


def search_dead(
    db: Cursor, wanted: WorkFilter, sinks: Sequence[str], died_by: datetime | None = None
) -> Search:
    """The way to dead letters, of those that had died by then; no ``sinks`` means every one."""
    more = [OF_SINKS] if sinks else []
    more += [f"+{DEAD.known_at} <= :died_by"] if died_by else []
    return search(db, DEAD, wanted, *more, sinks=json_list(sinks), died_by=died_by and to_text(died_by))


def revive(db: Cursor, keys: Sequence[str], now: datetime, died_by: datetime | None = None) -> int:
    """Make dead letters due again, as new ones are; how many were still dead, as they were by then."""
    moments = {"now": to_text(now), "died_by": to_text(died_by) if died_by else ANY_TIME}
    return change_each(db, REVIVE, [{**moments, "number": int(key)} for key in keys])


def move(db: Cursor, keys: Sequence[str], to: str, now: datetime) -> Moved:
    """Give dead letters to another sink; see ``ports.DeadLetterStore.move_dead``."""
    each = [{"to": to, "now": to_text(now), "number": int(key)} for key in keys]
    moved = change_each(db, MOVE, each)
    had = change_each(db, DROP_OTHERS, [{"to": to, "number": int(key)} for key in keys])
    return Moved(moved=moved, had=had)


def drop(db: Cursor, keys: Sequence[str]) -> int:
    """Forget dead letters; how many there still were."""
    return change_each(db, DROP, [{"number": int(key)} for key in keys])
