"""What a filter matches, as SQL: only the clauses that are set, every value bound, by the shortest way."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from receiver.models import EventType, Replay, ReplayWork, Stage, TaskState, WorkFilter
from receiver.record.cursor import Cursor
from receiver.record.logged import logged_between
from receiver.record.rows import Row, fetch_all, parameters
from receiver.record.windows import LAST_NUMBER, Walk, Window, windows
from receiver.times import to_text


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How to come to rows: which are walked, and what is looked up for each."""

    walk: Walk
    joins: str


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows a filter is about, and the columns that its clauses compare with.

    ``by`` has shorter ways to those of one owner, of one type, or of single tasks (by ``:numbers``).
    """

    way: Way
    since: str  # when it happened
    known_at: str  # since when it is as it is: a replay leaves alone what came after it
    only: str = "true"  # what is true of all of them
    by: Mapping[str, Way] = {}
    task_id: str = "s.task_id"
    provider: str = "s.provider"


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A filter's way to its rows, with all values but the numbers between which to look."""

    walk: Walk
    source: str  # ends in a WHERE clause
    values: Mapping[str, object]
    low: int = 0  # no row that matches has a lesser number,
    high: int = LAST_NUMBER  # or a greater one

    def query(self, columns: str, tail: str = "") -> str:
        """What to ask of the rows of one window."""
        number = self.walk.number
        return f"SELECT {columns} {self.source} AND {number} BETWEEN :low AND :high {tail}"

    def windows(
        self,
        db: Cursor,
        *,
        low: int = 0,
        high: int = LAST_NUMBER,
        newest_first: bool = False,
        most_rows: int | None = None,
    ) -> Iterator[Window]:
        """The parts in which its rows are looked through; see ``windows``."""
        return windows(
            db,
            self.walk,
            self.values,
            low=max(low, self.low),
            high=min(high, self.high),
            newest_first=newest_first,
            most_rows=most_rows,
        )


OF_OWNER = Walk(
    table="submissions s INDEXED BY submissions_owner",
    number="s.number",
    only="s.owner = :owner",
    is_of_tasks=True,
)
OF_TASKS = Walk(
    table="submissions s NOT INDEXED",
    number="s.number",
    only="s.number IN (SELECT value FROM json_each(:numbers))",
    is_of_tasks=True,
)
OF_TYPE = Walk(
    table="events e INDEXED BY events_type", number="e.number", only="e.type = :type", is_of_tasks=True
)

WITH_EVENT = "CROSS JOIN events e ON e.number = s.number"
WITH_EVENT_IF_ANY = "LEFT JOIN events e ON e.number = s.number"
WITH_SUBMISSION = "CROSS JOIN submissions s ON s.number = e.number"

_WAY_TO_EVENTS = Way(
    walk=Walk(table="events e NOT INDEXED", number="e.number", is_of_tasks=True), joins=WITH_SUBMISSION
)
WAY_TO_UNENDED = Way(
    walk=Walk(table="unended u", number="u.number", is_of_tasks=True),
    joins=f"CROSS JOIN submissions s ON s.number = u.number {WITH_EVENT_IF_ANY}",
)
_WAYS_TO_EVENTS = {
    "task_ids": Way(walk=OF_TASKS, joins=WITH_EVENT),
    "owner": Way(walk=OF_OWNER, joins=WITH_EVENT),
    "type": Way(walk=OF_TYPE, joins=WITH_SUBMISSION),
}

# Tasks whose end consumers were told of.
ENDED = Rows(
    way=_WAY_TO_EVENTS,
    by=_WAYS_TO_EVENTS,
    only="e.ended_at IS NOT NULL",
    since="e.ended_at",
    known_at="e.ended_at",
)

# Of these, those that lack a file.
INCOMPLETE = Rows(
    way=_WAY_TO_EVENTS,
    by=_WAYS_TO_EVENTS,
    only="""
    e.ended_at IS NOT NULL AND +e.type <> 'task.completed'
    AND EXISTS (SELECT 1 FROM assets WHERE event = e.number AND state = 'failed')
    """,
    since="e.received_at",
    known_at="e.ended_at",
)

# Tasks without an end.
OPEN = Rows(
    way=WAY_TO_UNENDED,
    by={
        "task_ids": Way(walk=OF_TASKS, joins=WITH_EVENT_IF_ANY),
        "owner": Way(walk=OF_OWNER, joins=WITH_EVENT_IF_ANY),
    },
    only="s.task_id IS NOT NULL AND e.number IS NULL",
    since="s.created_at",
    known_at="coalesce(s.bound_at, s.created_at)",
)

# Deliveries that were not understood, with their tasks where they have one.
UNRECOGNISED = Rows(
    way=Way(
        walk=Walk(
            table="deliveries d INDEXED BY deliveries_unrecognised",
            number="d.number",
            only="d.verdict = 'unrecognised'",
        ),
        joins=f"""
        LEFT JOIN submissions s ON s.number = coalesce(d.submission,
            (SELECT number FROM submissions WHERE provider = d.provider AND task_id = d.task_id))
        {WITH_EVENT_IF_ANY}
        """,  # noqa: S608
    ),
    only="d.body IS NOT NULL",
    since="d.received_at",
    known_at="d.received_at",
    provider="d.provider",
    task_id="coalesce(s.task_id, d.task_id)",
)

_WITH_TASK = "CROSS JOIN events e ON e.number = o.event CROSS JOIN submissions s ON s.number = o.event"

# Notifications that were given up.
DEAD = Rows(
    way=Way(
        walk=Walk(table="outbox o INDEXED BY outbox_dead", number="o.number", only="o.state = 'dead'"),
        joins=_WITH_TASK,
    ),
    by={
        "task_ids": Way(
            walk=Walk(
                table="outbox o INDEXED BY outbox_key",
                number="o.number",
                only="o.event IN (SELECT value FROM json_each(:numbers)) AND o.state = 'dead'",
            ),
            joins=_WITH_TASK,
        )
    },
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

# The submissions of tasks by their ids, of one provider or of each there is.
NUMBERS = """
WITH RECURSIVE providers (name) AS (
    SELECT min(provider) FROM submissions WHERE :provider IS NULL
    UNION ALL
    SELECT (SELECT min(provider) FROM submissions WHERE provider > name) FROM providers WHERE name IS NOT NULL
)
SELECT s.number FROM (
    SELECT name FROM providers WHERE name IS NOT NULL
    UNION ALL SELECT :provider WHERE :provider IS NOT NULL
) p CROSS JOIN json_each(:task_ids) t CROSS JOIN submissions s ON s.provider = p.name AND s.task_id = t.value
"""

# Some rows that are known already, in their order.
FEW = "{0} IN (SELECT value FROM json_each(:few)) ORDER BY {0}"

# How far a replay has come, and how far it goes.
PLACE = "SELECT cursor, up_to FROM replays WHERE id = :id AND lease = :lease"


def search(db: Cursor, rows: Rows, wanted: WorkFilter, *more: str, **bound: object) -> Search:
    """The shortest way to what a filter matches; ``more`` conditions name the values in ``bound``."""
    values = _values(wanted)
    way = next((rows.by[name] for name in rows.by if name in values), rows.way)
    if "task_ids" in values and way is not rows.way:
        tasks = {"provider": wanted.provider, "task_ids": json_list(wanted.task_ids)}
        values["numbers"] = json_list([number for (number,) in db.execute(NUMBERS, tasks)])
    found = _search(rows, way, values | bound, more)
    if not way.walk.is_of_tasks:
        return found
    low, high = logged_between(db, wanted.logged_since, wanted.logged_until)
    return msgspec.structs.replace(found, low=low, high=high)


def _search(rows: Rows, way: Way, values: Mapping[str, object], more: Sequence[str]) -> Search:
    # The pluses keep SQLite from another way than the one that is meant.
    clauses = {
        "provider": f"+{rows.provider} = :provider",
        "owner": "+s.owner = :owner",
        "state": f"{STATE} = :state",
        "type": "+e.type = :type",
        "since": f"+{rows.since} >= :since",
        "until": f"+{rows.since} < :until",
        "logged_since": "+s.created_at >= :logged_since",
        "logged_until": "+s.created_at < :logged_until",
        "task_ids": f"+{rows.task_id} IN (SELECT value FROM json_each(:task_ids))",  # noqa: S608
    }
    conditions = [rows.only, *(text for name, text in clauses.items() if name in values), *more]
    source = f"FROM {way.walk.table} {way.joins} WHERE {' AND '.join([way.walk.only, *conditions])}"
    return Search(walk=way.walk, source=source, values=values)


def _values(wanted: WorkFilter) -> dict[str, object]:
    """The clauses that are set. A state is a type, too, where it has one."""
    named = wanted.type
    if named is None and wanted.state not in {None, TaskState.SUBMITTED, TaskState.FETCHING}:
        named = EventType(f"task.{wanted.state}")
    values = parameters(
        provider=wanted.provider,
        owner=wanted.owner,
        state=wanted.state,
        type=named,
        since=wanted.since,
        until=wanted.until,
        logged_since=wanted.logged_since,
        logged_until=wanted.logged_until,
        task_ids=wanted.task_ids or None,
    )
    return {name: value for name, value in values.items() if value is not None}


def json_list(values: Sequence[str] | Sequence[int]) -> str:
    """For ``json_each``: a list of any length as one bound value."""
    return msgspec.json.encode(values).decode()


def count_on(db: Cursor, found: Search, *, low: int, high: int = LAST_NUMBER) -> tuple[int, int | None]:
    """How many rows match from ``low`` on, and where counting has to go on, if it has to."""
    total, reached = 0, None
    sql = found.query("count(*)")
    for window in found.windows(db, low=low, high=high):
        (number,) = db.execute(sql, {**found.values, "low": window.low, "high": window.high}).fetchone()
        total += number
        reached = None if window.is_last else window.high + 1
    return total, reached


def find_on(
    db: Cursor, found: Search, columns: str, limit: int, *, low: int, high: int = LAST_NUMBER
) -> tuple[list[Row], int | None]:
    """Up to ``limit`` matches from ``low`` on, with their numbers (``place``), and where to go on, if any."""
    rows: list[Row] = []
    sql = found.query(_with_place(found, columns), f"ORDER BY {found.walk.number} LIMIT :limit")
    reached = None
    for window in found.windows(db, low=low, high=high):
        place = {"low": window.low, "high": window.high, "limit": limit - len(rows)}
        rows += fetch_all(db.execute(sql, {**found.values, **place}))
        if len(rows) == limit:
            return rows, rows[-1]["place"] + 1 if rows else low
        reached = None if window.is_last else window.high + 1
    return rows, reached


def find_newest(
    db: Cursor,
    found: Search,
    columns: str,
    limit: int,
    *,
    high: int,
    low: int = 0,
    most_rows: int | None = None,
) -> tuple[list[Row], int | None]:
    """As ``find_on``, from ``high`` down to the oldest, of which ``most_rows`` are looked through."""
    rows: list[Row] = []
    sql = found.query(_with_place(found, columns), f"ORDER BY {found.walk.number} DESC LIMIT :limit")
    reached = None
    for window in found.windows(db, low=low, high=high, newest_first=True, most_rows=most_rows):
        place = {"low": window.low, "high": window.high, "limit": limit + 1 - len(rows)}
        rows += fetch_all(db.execute(sql, {**found.values, **place}))
        if len(rows) > limit:
            return rows[:limit], rows[limit - 1]["place"] - 1
        reached = None if window.is_last else window.low - 1
    return rows, reached


def _with_place(found: Search, columns: str) -> str:
    return ", ".join(filter(None, [f"{found.walk.number} AS place", columns]))


def newest_number(db: Cursor, stage: Stage) -> int:
    """The number of the newest row that a replay which is asked for now may touch."""
    table = "deliveries" if stage is Stage.REPROCESS else "submissions"
    (number,) = db.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()  # noqa: S608
    return int(number)


def _was_known(stage: Stage) -> str:
    """What a replay leaves alone came after it was asked for."""
    return f"+{ROWS[stage].known_at} <= :asked_at"


def search_as_of(db: Cursor, stage: Stage, wanted: WorkFilter, asked_at: datetime) -> Search:
    """The way to what a replay is about: what matched when it was asked for."""
    return search(db, ROWS[stage], wanted, _was_known(stage), asked_at=to_text(asked_at))


def next_matches(
    db: Cursor, work: ReplayWork, limit: int, columns: str = "", *, low: int = 0
) -> tuple[list[Row], int | None]:
    """A replay's next matches in order, each with its number, and where to go on; see ``find_on``.

    From ``low`` on, where the cursor is not beyond it. None, and nowhere, when the lease is lost.
    """
    place = db.execute(PLACE, {"id": work.replay.id, "lease": work.lease}).fetchone()
    if place is None:
        return [], None
    cursor, up_to = place
    replay = work.replay
    found = search_as_of(db, replay.stage, replay.filter, replay.created_at)
    return find_on(db, found, columns, limit, low=max(low, cursor + 1), high=up_to)


def still_matching(db: Cursor, replay: Replay, columns: str, numbers: Sequence[int]) -> list[Row]:
    """Those of a replay's matches that are matches now."""
    rows = ROWS[replay.stage]
    values = _values(replay.filter) | parameters(asked_at=replay.created_at, few=numbers)
    found = _search(rows, rows.way, values, (_was_known(replay.stage), FEW.format(rows.way.walk.number)))
    return fetch_all(db.execute(f"SELECT {columns} {found.source}", values))
