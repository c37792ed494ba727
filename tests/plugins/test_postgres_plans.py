"""How PostgreSQL finds what a record that has grown is asked for: by keys, never in a whole table."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from receiver.models import EventType, SubmissionFilter, TaskFilter, TaskState, WorkFilter
from receiver.record import (
    asset_leases,
    assets,
    backlog,
    deliveries,
    ends,
    filters,
    lists,
    outbox,
    page_lists,
    polls,
    recording,
    retention,
    stats,
    tasks,
    views,
    windows,
)
from receiver.record.filters import DEAD, ROWS, Search
from receiver.record.lines import IS_BEHIND
from receiver.record.rows import ByKeys
from receiver.stores.postgres.connections import PLANS, Database, Patience
from receiver.stores.postgres.cursor import PostgresCursor
from receiver.stores.postgres.dialect import for_many
from receiver.stores.postgres.store import keep_indexes, prepare
from tests.contracts.opening import store_options
from tests.plugins.test_sqlite_lists import GROWING, combinations
from tests.record.test_postgres_schema import FILL
from tests.support.factories import later
from tests.support.postgres import scratch_database

# What these have of a table is what waits, and gone when it has been done.
OF_WHAT_WAITS = {
    "assets_pending", "assets_deadlines", "assets_again", "outbox_pending", "submissions_unbound",
    "polls_of_replays", "outbox_line",
}  # fmt: skip
GIVEN = {"low": 5000, "high": 5500, "size": 500, "limit": 50}  # a window, as ``windows`` chooses it


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresCursor]:
    """A record of 20,000 tasks with statistics, in a transaction."""
    with scratch_database() as url:
        database = Database(url)
        prepare(database, store_options(tmp_path_factory.mktemp("data")))
        with closing(database.connect()) as connection:
            connection.patience = Patience(60)  # to fill it takes longer than any statement of the record
            connection.execute(f"BEGIN; {database.there}".encode())
            cursor = PostgresCursor(connection)
            keep_indexes(cursor, ["key"])
            connection.execute(FILL.encode())
            connection.execute("INSERT INTO unended SELECT number FROM submissions WHERE number > 15000")
            connection.execute("ANALYZE unended")
            yield cursor


@pytest.fixture
def db(filled: PostgresCursor) -> Iterator[PostgresCursor]:
    filled.execute("SAVEPOINT plain")
    for setting in PLANS.split(";"):
        filled.execute(setting)
    yield filled
    filled.execute("ROLLBACK TO plain")


def whole_reads(db: PostgresCursor, sql: str, values: Any) -> list[str]:
    """What a statement reads of tables that grow and is not found by a key."""
    ((plans,),) = db.execute(f"EXPLAIN (FORMAT JSON) {sql}", values).fetchall()
    return list(_whole_reads(plans[0]["Plan"]))


def _whole_reads(node: dict[str, Any], *, is_limited: bool = False) -> Iterator[str]:
    kind, table, index = node["Node Type"], node.get("Relation Name"), node.get("Index Name")
    is_scan = table in GROWING and "Scan" in kind and "Bitmap" not in kind
    is_bounded = is_limited and index is not None and "Filter" not in node  # it takes a few from one end
    if is_scan and "Index Cond" not in node and index not in OF_WHAT_WAITS and not is_bounded:
        yield f"{kind} of {table} by {index}"
    for inner in node.get("Plans", ()):
        yield from _whole_reads(inner, is_limited=kind == "Limit")


def check_search(db: PostgresCursor, found: Search) -> None:
    """Its windows and what is asked of each are found by ranges of keys."""
    number, values = found.walk.number, dict(found.values) | GIVEN
    asked = [found.query("count(*)")]
    for order in ("ASC", "DESC"):
        asked.append(windows.edge_query(found.walk, newest_first=order == "DESC"))
        asked.append(found.query(f"{number}, s.id", f"ORDER BY {number} {order} LIMIT :limit"))
    for sql in asked:
        assert whole_reads(db, sql, values) == [], sql


def few(**clauses: object) -> Iterator[dict[str, Any]]:
    """Each of them alone, each two of them, and none."""
    return (wanted for wanted in combinations(**clauses) if len(wanted) <= 2)


def test_no_list_reads_a_whole_table_whatever_it_is_filtered_by(db: PostgresCursor) -> None:
    clauses = {"provider": "vidgo", "owner": "user-17", "since": later(0)}
    for state, wanted in itertools.product((None, *TaskState), few(**clauses, metadata={"key": "77"})):
        check_search(db, lists.task_search(TaskFilter(state=state, **wanted)))
    for bound, wanted in itertools.product((None, True), few(**clauses)):
        check_search(db, lists.submission_search(SubmissionFilter(bound=bound, **wanted)))
    named = {"type": EventType.FAILED, "task_ids": ("task-1", "task-2"), "logged_since": later(0)}
    for rows, state in itertools.product((*ROWS.values(), DEAD), (None, TaskState.FAILED)):
        for wanted in few(**clauses, **named):
            check_search(db, filters.search(db, rows, WorkFilter(state=state, **wanted)))


NEXT_OF_LINE = """
SELECT number FROM outbox WHERE sink = 'lined' AND line = 0 AND state <> 'delivered' AND state <> 'dead'
ORDER BY number + 0 LIMIT 1
"""
SINGLE = {
    "the verdicts of a task": views.VERDICTS_OF_UNENDED,
    "what ended a task": views.END_BODIES,
    "what its files were unpacked from": assets.LEAVE_OUT_FILES,
    "a task's poll": views.POLL_OF_TASK,
    "due notifications": outbox.OLDEST_OUTBOX,
    "the newest due notifications": outbox.NEWEST_OUTBOX,
    "who is behind others of its line": f"SELECT {IS_BEHIND} FROM outbox o WHERE number = 77",
    "the next of a line": NEXT_OF_LINE,
    "what is followed": outbox.ANNOUNCED,
    "where it begins": outbox.NEWEST_NUMBER,
    "notifications that are claimed": outbox.LEASE_OUTBOX,
    "notifications that were delivered": outbox.DELIVER_OUTBOX,
    "how they were": outbox.KEEP_DELIVERED,
    "notifications that a newer one takes the place of": outbox.SUPERSEDED,
    "the files in notifications": outbox.ASSETS_OF_EVENTS,
    "due questions": polls.DUE_OTHERS,
    "due confirmations": polls.DUE_HELD,
    "a question's end": polls.SETTLE_POLL,
    "due files": asset_leases.UNTRIED,
    "files that are due again": asset_leases.TRIED,
    "hosts of files": asset_leases.NEXT_UNTRIED_HOST,
    "hosts of files again": asset_leases.NEXT_TRIED_HOST,
    "files that wait": stats.COUNT_UNFETCHED,
    "the oldest file": stats.OLDEST_UNDOWNLOADED,
    "notifications that wait": stats.COUNT_UNDELIVERED,
    "reservations that wait": stats.COUNT_UNBOUND,
    "deliveries of late": stats.COUNT_NEW_DELIVERIES,
    "sinks that events wait for": backlog.SINKS,
    "events that wait for one": backlog.UNSENT,
    "dead letters of late": backlog.DEAD,
    "files that wait, and since when": backlog.UNFETCHED,
    "links that die": backlog.DYING_LINKS,
    "lost tasks": backlog.LOST,
    "old reservations": backlog.UNBOUND,
    "tasks of a provider": backlog.OPEN_TASKS,
    "what was not understood": backlog.UNRECOGNISED,
    "the oldest body": backlog.OLDEST_BODY,
    "the newest delivery": backlog.NEWEST_DELIVERY,
    "a body that is dropped": retention.DROP_BODY,
    "a body that is spared": retention.SPARE_BODY,
    "callbacks that did not count": page_lists.ODD_DELIVERIES,
    "how many did not count": page_lists.COUNT_ODD,
    "early callbacks of a provider": page_lists.EARLY_BETWEEN,
    "files whose links die first": page_lists.PENDING_FILES,
    "the first files of tasks": page_lists.FIRST_FILES,
    "how events that wait were tried": page_lists.WAITING_BY_OUTCOME,
    "open tasks of a provider": page_lists.OPEN_TASKS,
    "bodies of a task": page_lists.KEPT_BODIES,
}
VALUES = GIVEN | {
    "provider": "vidgo", "task_id": "task-7", "sink": "hook", "now": "2026-11-14", "most": 8, "host": 3,
    "tried": 1, "number": 7, "hour_ago": "2026-11-14", "day_ago": "2026-11-13", "outcome": "running",
    "event": 7, "left_out": b"", "detail": None, "settled_at": "2026-11-14", "due_at": "2026-11-14",
    "submission_id": "sub_7", "lease": "l", "numbers": "[7, 8, 9]", "until": "2026-11-14",
    "walked": 2000, "after": 19_990, "last": 9,
    "soon": "2026-11-14", "lost": "lost", "lost_before": "2026-11-14",
    "verdict": "early", "below": 9000, "since": "2026-01-01", "ids": '["sub_7"]',
    "most_bytes": 9000, "target": "sink hook", "started_at": "2026-11-14", "seconds": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("has_statistics", [False, True])
@pytest.mark.parametrize("lines", [1, 2000])
def test_who_is_next_in_a_line_is_found_however_much_was_delivered_before_and_waits_beside(
    db: PostgresCursor, *, lines: int, has_statistics: bool
) -> None:
    db.execute("SAVEPOINT filled")
    fill = """
    INSERT INTO outbox (event, sink, revision, state, due_at, created_at, line)
    SELECT n, 'lined', 1, :state, '2026-11-14', '2026-11-14', n % :lines
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
    """
    db.execute("TRUNCATE outbox")  # else the sink is too small a part of it for the planner to be led astray
    db.execute(fill, {"state": "delivered", "lines": lines, "first": 1, "last": 18_000})
    db.execute("ANALYZE outbox")
    db.execute(fill, {"state": "pending", "lines": lines, "first": 18_001, "last": 20_000})
    if has_statistics:
        db.execute("ANALYZE outbox")
    due = f"""
    SELECT {IS_BEHIND} FROM outbox o WHERE state = 'pending' AND sink = 'lined' ORDER BY due_at LIMIT 8
    """
    for sql, alias in ((NEXT_OF_LINE, "outbox"), (due, "b")):
        ((plans,),) = db.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()
        assert list(_indexes(plans[0]["Plan"], alias)) == ["outbox_line"], plans
    assert {behind for (behind,) in db.execute(due).fetchall()} == ({True, False} if lines == 1 else {False})
    db.execute("ROLLBACK TO filled")
    db.execute("ANALYZE outbox")  # how many rows there are is not rolled back


def _indexes(node: dict[str, Any], alias: str) -> Iterator[str | None]:
    """By which a table is read that a statement calls so."""
    if node.get("Alias") == alias:
        yield node.get("Index Name")
    for inner in node.get("Plans", ()):
        yield from _indexes(inner, alias)


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_asked_over_and_over_is_found_by_its_keys(db: PostgresCursor, name: str) -> None:
    db.execute("UPDATE retention SET polls_to = 19990")
    assert whole_reads(db, SINGLE[name], VALUES) == []


def test_tasks_are_found_by_the_beginning_of_their_ids(db: PostgresCursor) -> None:
    values = {"first": "task-7", "last": "task-8", "limit": 20}
    assert whole_reads(db, page_lists.BEGINNING, values) == []


def test_questions_that_wait_are_counted_without_the_events_of_all_tasks(db: PostgresCursor) -> None:
    (read,) = whole_reads(db, stats.COUNT_POLLS, {})
    assert "of polls by" in read


LOOK_UPS = {
    "a callback's task": (recording.LIKELY, ("", "d", "vidgo", "task-7")),
    "a delivery": (deliveries.BY_KEY, ("vidgo", "task-7", "", "d7")),
    "what is open of a task": (deliveries.OPEN_OF_TASK, ("vidgo", "task-7")),
    "a submission": (tasks.BY_ID, ("sub_7",)),
    "leased files": (asset_leases.LEASED, (7, 0)),
    "events that may have ended": (ends.STANDING, (7,)),
    "leased notifications": (outbox.LEASED_NOW, (7,)),
}


@pytest.mark.parametrize("name", LOOK_UPS)
@pytest.mark.parametrize("count", [1, 64])
def test_many_keys_are_looked_up_one_by_one_in_an_index(db: PostgresCursor, name: str, count: int) -> None:
    query, key = LOOK_UPS[name]
    assert isinstance(query, ByKeys)
    sql, values = query.of([key] * count)

    assert whole_reads(db, sql, values) == []


CHANGES = {
    "deliveries": (deliveries.UPDATE_DELIVERY, deliveries.REREAD_DELIVERY),
    "assets": (asset_leases.LEASE_ASSET,),
    "outbox": (outbox.SETTLE_OUTBOX, outbox.DROP_OUTBOX),
    "polls": (polls.LEASE_POLL, polls.DELETE_POLL),
    "events": (ends.END_EVENT,),
    "submissions": (tasks.BIND,),
}


@pytest.mark.parametrize("table", CHANGES)
def test_many_rows_are_changed_by_their_keys_however_many_they_are(db: PostgresCursor, table: str) -> None:
    """As a prepared statement is planned, which knows of none of its values."""
    for number, sql in enumerate(CHANGES[table]):
        form = for_many(sql)
        assert form is not None
        db.execute(f"PREPARE alone{number} AS {form.alone}")
        types = db.execute(
            f"SELECT unnest(parameter_types) FROM pg_prepared_statements WHERE name = 'alone{number}'"
        ).fetchall()
        arrays = ", ".join(f"{type_}[]" for (type_,) in types)
        text = form.text()
        for place in range(1, len(types) + 1):
            text = text.replace("%s", f"${place}", 1)
        db.execute(f"PREPARE many{number} ({arrays}) AS {text}")
        db.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        nothing = ", ".join(["NULL"] * len(types))
        read = whole_reads(db, f"EXECUTE many{number}({nothing})", ())
        db.execute(f"DEALLOCATE alone{number}")
        db.execute(f"DEALLOCATE many{number}")
        assert read == [], sql
