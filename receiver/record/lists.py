"""Pages of tasks and of submissions, the newest first, each by the index that comes closest to its filter."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import (
    Submission,
    SubmissionFilter,
    SubmissionPage,
    TaskFilter,
    TaskPage,
    TaskState,
    TaskSummary,
)
from receiver.record import metadata, references
from receiver.record.cursor import Cursor
from receiver.record.filters import (
    OF_OWNER,
    OF_TASKS,
    OF_TYPE,
    STATE,
    WAY_TO_UNENDED,
    WITH_EVENT_IF_ANY,
    WITH_SUBMISSION,
    Search,
    Way,
    find_newest,
    json_list,
)
from receiver.record.logged import logged_between
from receiver.record.rows import Row, fetch_all, parameters, to_values
from receiver.record.views import SUBMISSION_COLUMNS, submission_columns
from receiver.record.windows import Walk, cursor_at, number_below
from receiver.times import from_text

OF_PROVIDER = Walk(
    table="submissions s INDEXED BY submissions_provider", number="s.number", only="s.provider = :provider"
)
ALL = Walk(table="submissions s NOT INDEXED", number="s.number")
FAILURES = Walk(table="failures f", number="f.number", only="f.provider = :provider AND f.type = :type")

TASK_COLUMNS = f"""
s.provider, s.task_id, {STATE} AS state, s.owner, s.model, s.id AS submission_id,
s.created_at AS submitted_at, e.ended_at,
(SELECT count(*) FROM assets a WHERE a.event = s.number AND a.state = 'stored') AS assets_stored,
(SELECT count(*) FROM assets a WHERE a.event = s.number) AS assets_total
"""  # noqa: S608

# Reservations that wait for a task, with the words of their index, which is by age.
UNBOUND = f"""
SELECT number AS place, {SUBMISSION_COLUMNS} FROM submissions INDEXED BY submissions_unbound
WHERE task_id IS NULL AND withdrawn_at IS NULL
    AND (:provider IS NULL OR provider = :provider) AND (:owner IS NULL OR owner = :owner)
    AND created_at >= coalesce(:since, '') AND created_at < coalesce(:until, 'z')
    AND (created_at, number) <
        (coalesce((SELECT created_at FROM submissions WHERE number = :before), 'z'), :before)
ORDER BY created_at DESC, number DESC LIMIT :limit
"""  # noqa: S608

LOGGED_AT = "SELECT created_at FROM submissions WHERE number >= :number ORDER BY number LIMIT 1"


def list_tasks(
    db: Cursor, wanted: TaskFilter, limit: int, cursor: str | None, *, most_rows: int | None = None
) -> TaskPage:
    """A page of tasks; see ``ports.Store.list_tasks``, and of ``most_rows`` ``ports.PageReads``."""
    before = number_below(cursor)
    low, high = logged_between(db, wanted.since, wanted.until)
    numbers = references.numbers(db, wanted.reference, wanted.provider) if wanted.reference else ()
    rows, reached = find_newest(
        db,
        task_search(wanted, numbers),
        TASK_COLUMNS,
        limit,
        high=min(high, before - 1),
        low=low,
        most_rows=most_rows,
    )
    return TaskPage(
        tasks=tuple(to_values(rows, TaskSummary)),
        next_cursor=_cursor(reached),
        looked_to=_logged_at(db, reached + 1) if reached is not None and most_rows is not None else None,
    )


def _logged_at(db: Cursor, number: int) -> datetime | None:
    found = db.execute(LOGGED_AT, {"number": number}).fetchone()
    return from_text(found[0]) if found else None


def task_search(wanted: TaskFilter, numbers: Sequence[int] = ()) -> Search:
    """The shortest way to the tasks that a filter matches; ``numbers`` are those its reference leads to."""
    way = _way(wanted)
    values = parameters(
        provider=wanted.provider,
        state=wanted.state,
        owner=wanted.owner,
        since=wanted.since,
        until=wanted.until,
    )
    clauses = {
        "provider": "+s.provider = :provider",
        "state": f"{STATE} = :state",
        "owner": "+s.owner = :owner",
        "since": "+s.created_at >= :since",
        "until": "+s.created_at < :until",
    }
    values = {name: value for name, value in values.items() if value is not None}
    conditions = [way.walk.only, "+s.task_id IS NOT NULL", *(clauses[name] for name in values)]
    for place, (key, value) in enumerate(wanted.metadata.items()):
        conditions.append(f"{metadata.value_of(key, 's.')} = :metadata_{place}")
        values[f"metadata_{place}"] = value
    if wanted.owners:
        conditions.append(_of_any(wanted.owners))
        values |= {f"owner_{place}": each.removesuffix("*") for place, each in enumerate(wanted.owners)}
    values["type"] = wanted.state and f"task.{wanted.state}"
    values["numbers"] = json_list(numbers)
    source = f"FROM {way.walk.table} {way.joins} WHERE {' AND '.join(conditions)}"
    return Search(walk=way.walk, source=source, values=values)


def _of_any(owners: Sequence[str]) -> str:
    """The clause for rows of any of these owners; its values are ``owner_0`` and so on."""
    clauses = (
        f"substr(s.owner, 1, {len(each) - 1}) = :owner_{place}"
        if each.endswith("*")
        else f"+s.owner = :owner_{place}"
        for place, each in enumerate(owners)
    )
    return f"({' OR '.join(clauses)})"


def _way(wanted: TaskFilter) -> Way:
    """By what leads to few, else by what is rare first."""
    if wanted.reference is not None:
        return Way(walk=OF_TASKS, joins=WITH_EVENT_IF_ANY)
    if wanted.metadata:
        key = next(iter(wanted.metadata))
        value = metadata.value_of(key, "s.")
        of_metadata = Walk(
            table=f"submissions s INDEXED BY {metadata.index_of(key)}",
            number="s.number",
            only=f"{value} = :metadata_0 AND {value} IS NOT NULL",
        )
        return Way(walk=of_metadata, joins=WITH_EVENT_IF_ANY)
    return _rarest(wanted)


def _rarest(wanted: TaskFilter) -> Way:
    """An owner has few tasks, few have not ended, and few end badly."""
    if wanted.owner is not None:
        return Way(walk=OF_OWNER, joins=WITH_EVENT_IF_ANY)
    if wanted.state in {TaskState.SUBMITTED, TaskState.FETCHING}:
        return WAY_TO_UNENDED
    ends_badly = wanted.state in {TaskState.PARTIAL, TaskState.FAILED}
    if ends_badly and wanted.provider is not None:
        return Way(walk=FAILURES, joins=f"CROSS JOIN events e ON e.number = f.number {WITH_SUBMISSION}")
    if ends_badly or (wanted.state is TaskState.COMPLETED and wanted.provider is None):
        return Way(walk=OF_TYPE, joins=WITH_SUBMISSION)
    if wanted.provider is not None:
        return Way(walk=OF_PROVIDER, joins=WITH_EVENT_IF_ANY)
    return Way(walk=ALL, joins=WITH_EVENT_IF_ANY)


def list_submissions(db: Cursor, wanted: SubmissionFilter, limit: int, cursor: str | None) -> SubmissionPage:
    """A page of submissions; see ``ports.Store.list_submissions``."""
    before = number_below(cursor)
    if wanted.bound is False:
        values = {**_submission_values(wanted), "before": before, "limit": limit + 1}
        rows = fetch_all(db.execute(UNBOUND, values))
        rows, reached = rows[:limit], rows[limit - 1]["place"] - 1 if len(rows) > limit else None
    else:
        low, high = logged_between(db, wanted.since, wanted.until)
        rows, reached = find_newest(
            db, submission_search(wanted), _SUBMISSION_COLUMNS, limit, high=min(high, before - 1), low=low
        )
    return SubmissionPage(
        submissions=tuple(to_values(rows, Submission)),
        next_cursor=_cursor(reached),
    )


_SUBMISSION_COLUMNS = submission_columns("s")


def submission_search(wanted: SubmissionFilter) -> Search:
    """The shortest way to the submissions that are wanted."""
    walk = OF_OWNER if wanted.owner is not None else OF_PROVIDER if wanted.provider is not None else ALL
    clauses = {
        "provider": "+s.provider = :provider",
        "since": "+s.created_at >= :since",
        "until": "+s.created_at < :until",
    }
    values = _submission_values(wanted)
    conditions = [walk.only, *(clauses[name] for name in clauses if values[name] is not None)]
    if wanted.bound:
        conditions.append("+s.task_id IS NOT NULL")
    source = f"FROM {walk.table} WHERE {' AND '.join(conditions)}"
    return Search(walk=walk, source=source, values=values)


def _submission_values(wanted: SubmissionFilter) -> Row:
    return parameters(provider=wanted.provider, owner=wanted.owner, since=wanted.since, until=wanted.until)


def _cursor(reached: int | None) -> str | None:
    """To what lies below what was reached, and that itself."""
    return cursor_at(None if reached is None else reached + 1)
