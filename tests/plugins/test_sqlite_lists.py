"""Lists and counts of a record that has grown for years: by keys of an index, a bounded part at a time."""

import itertools
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.clock import Clock
from receiver.models import (
    EventType,
    Stage,
    SubmissionFilter,
    TaskFilter,
    TaskReference,
    TaskState,
    WorkFilter,
)
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.record import backlog, filters, lists, logged, metadata, references, replays, stats, windows
from receiver.record.filters import DEAD, ROWS, Search
from receiver.stores.sqlite import SqliteStore
from tests.contracts.opening import store_options
from tests.contracts.replaying import replay
from tests.contracts.store import ROUTES, OpenStore
from tests.contracts.store_lists import ListsContract, OpenWith
from tests.support.factories import later

# What has a row for each task, callback or try; all else is small, or named by the one who asks.
GROWING = {
    "submissions", "deliveries", "events", "assets", "outbox", "attempts", "polls", "unended", "cost_sums",
    "cost_totals",
}  # fmt: skip
ALIASES = {"s": "submissions", "d": "deliveries", "e": "events", "a": "assets", "o": "outbox", "u": "unended"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    options = StoreOptions(
        data_dir=tmp_path, clock=Clock(), routes=ROUTES, first_poll_seconds={"vidgo": 60, "apixo": 60}
    )
    store = await SqliteStore.open("sqlite:receiver.db", options)
    yield store
    await store.aclose()


@pytest.fixture
def db(store: SqliteStore, tmp_path: Path) -> Iterator[sqlite3.Cursor]:
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        yield connection.cursor()


def plan(db: sqlite3.Cursor, sql: str, values: Mapping[str, object]) -> list[str]:
    every = {"low": 1, "high": 9, "size": 5, "limit": 3} | dict(values)
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", every)]


def scanned(lines: list[str]) -> list[str]:
    """The growing tables that a plan looks through."""
    names = [line.split()[1] for line in lines if line.startswith("SCAN ")]
    return [name for name in names if ALIASES.get(name, name) in GROWING]


def check_search(db: sqlite3.Cursor, found: Search) -> None:
    """Its windows and what is asked of each are found by ranges of keys, in the order of their numbers."""
    number = found.walk.number
    asked = [found.query("count(*)")]
    for order in ("ASC", "DESC"):
        asked.append(windows.edge_query(found.walk, newest_first=order == "DESC"))
        asked.append(found.query(f"{number}, s.id", f"ORDER BY {number} {order} LIMIT :limit"))
    for sql in asked:
        lines = plan(db, sql, found.values)
        assert scanned(lines) == [], sql
        assert not [line for line in lines if "AUTOMATIC" in line], sql
        if ":numbers" not in found.source:  # a few, whose ids were named
            assert not [line for line in lines if "TEMP B-TREE" in line], sql


def combinations(**options: object) -> Iterator[dict[str, Any]]:
    """Each subset of the options."""
    for size in range(len(options) + 1):
        yield from (dict(some) for some in itertools.combinations(options.items(), size))


@pytest.mark.parametrize("state", [None, *TaskState])
def test_no_list_of_tasks_scans_whatever_it_is_filtered_by(
    db: sqlite3.Cursor, state: TaskState | None
) -> None:
    for wanted in combinations(provider="vidgo", owner="ann", since=later(0), until=later(9)):
        check_search(db, lists.task_search(TaskFilter(state=state, **wanted)))
    for sql in (logged.FIRST_AFTER, logged.LAST_BEFORE):
        assert plan(db, sql, {"moment": "2026"}) == [
            f"SEARCH submissions USING COVERING INDEX submissions_created (created_at{'><'['<' in sql]}?)"
        ]


def test_a_task_is_found_by_keys_whatever_its_id_is_of(db: sqlite3.Cursor) -> None:
    values = {"event": "evt_1", "revision": 1, "submission_id": "sub_1", "sink": "all", "replay_id": ""}
    for sql in (references.BY_EVENT, references.BY_SUBMISSION):
        assert scanned(plan(db, sql, values)) == []
    by_id = "SEARCH s USING INDEX sqlite_autoindex_submissions_1 (id=?)"
    assert plan(db, references.BY_NOTIFICATION, values) == [
        by_id.replace("USING INDEX", "USING COVERING INDEX"),
        "SEARCH o USING COVERING INDEX outbox_key (event=? AND sink=? AND revision=? AND replay_id=?)",
    ]
    assert plan(db, references.DELIVERIES, values) == [
        by_id,
        "SEARCH d USING COVERING INDEX deliveries_key (provider=? AND task_id=?)",
    ]
    reference = TaskReference(task_id="t1")
    check_search(db, lists.task_search(TaskFilter(reference=reference, owner="ann"), [1, 2]))


async def open_with(tmp_path: Path, *keys: str) -> SqliteStore:
    options = StoreOptions(data_dir=tmp_path, clock=Clock(), metadata_keys=keys)
    return await SqliteStore.open("sqlite:chosen.db", options)


def indexes_of_metadata(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'submissions_metadata%'")
        return {name for (name,) in rows}


async def test_keys_of_metadata_have_an_index_as_long_as_they_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "chosen.db"
    for keys in ((), ("order_id", "User"), ("user", "order_id"), ("a.b-c",), ()):
        store = await open_with(tmp_path, *keys)
        await store.aclose()
        assert indexes_of_metadata(path) == {metadata.index_of(key) for key in keys}
    store = await SqliteStore.open("sqlite:chosen.db", StoreOptions(data_dir=tmp_path, clock=Clock()))
    await store.aclose()


async def test_a_task_is_found_by_its_metadata_through_that_index(tmp_path: Path) -> None:
    store = await open_with(tmp_path, "order_id", "user")
    await store.aclose()
    with closing(sqlite3.connect(tmp_path / "chosen.db")) as connection:
        for more in combinations(state=TaskState.FAILED, owner="ann", provider="vidgo", since=later(0)):
            search = lists.task_search(TaskFilter(metadata={"order_id": "A-7", "user": "ann"}, **more))
            check_search(connection.cursor(), search)
            (first, *_) = plan(connection.cursor(), search.query("s.id"), search.values)
            assert metadata.index_of("order_id") in first


@pytest.mark.parametrize("bound", [None, True])
def test_no_list_of_submissions_scans(db: sqlite3.Cursor, bound: bool | None) -> None:
    for wanted in combinations(provider="vidgo", owner="ann", since=later(0), until=later(9)):
        check_search(db, lists.submission_search(SubmissionFilter(bound=bound, **wanted)))


def test_reservations_that_wait_are_listed_by_an_index_of_their_own(db: sqlite3.Cursor) -> None:
    values = {"provider": "vidgo", "owner": "ann", "before": 7, "since": None, "until": None}
    lines = plan(db, lists.UNBOUND, values)
    assert "submissions_unbound" in lines[0]
    assert not [line for line in lines if "TEMP B-TREE" in line]


@pytest.mark.parametrize("rows", [*ROWS.values(), DEAD], ids=[*ROWS, "dead"])
@pytest.mark.parametrize("state", [None, TaskState.FAILED])
def test_what_a_filter_matches_is_found_and_counted_without_a_scan(
    db: sqlite3.Cursor, rows: filters.Rows, state: TaskState | None
) -> None:
    clauses = {
        "provider": "vidgo",
        "owner": "ann",
        "type": EventType.FAILED,
        "since": later(0),
        "until": later(9),
        "task_ids": ("t1", "t2"),
    }
    logged_between: dict[str, Any] = {"logged_since": later(0), "logged_until": later(9)}
    for wanted in combinations(**clauses):
        check_search(db, filters.search(db, rows, WorkFilter(state=state, **wanted)))
        check_search(db, filters.search(db, rows, WorkFilter(state=state, **wanted, **logged_between)))


@pytest.mark.parametrize("provider", [None, "vidgo"])
def test_tasks_are_found_by_their_ids_whether_their_provider_is_named_or_not(
    db: sqlite3.Cursor, provider: str | None
) -> None:
    lines = plan(db, filters.NUMBERS, {"provider": provider, "task_ids": '["t1"]'})
    assert scanned(lines) == []
    assert any("submissions_task (provider=? AND task_id=?)" in line for line in lines)


@pytest.mark.parametrize("stage", Stage)
def test_the_second_look_at_a_few_matches_goes_straight_to_them(db: sqlite3.Cursor, stage: Stage) -> None:
    filter_ = WorkFilter(provider="vidgo", owner="ann", type=EventType.FAILED, task_ids=("t1",))
    asked = msgspec.structs.replace(replay(stage), filter=filter_)
    statements: list[str] = []
    db.connection.set_trace_callback(statements.append)
    filters.still_matching(db, asked, "1", [3, 5])
    db.connection.set_trace_callback(None)
    assert scanned(plan(db, statements[-1], {})) == []


def test_what_is_counted_anew_is_what_waits_and_nothing_that_only_grows(db: sqlite3.Cursor) -> None:
    """Polls and tasks without an end are gone when the tasks have ended; nothing else is looked through."""
    for sql in (stats.COUNT_NEW_DELIVERIES, stats.COUNT_UNENDED, stats.COUNT_POLLS):
        assert set(scanned(plan(db, sql, {}))) <= {"polls", "unended"}
    for sql in (stats.COUNT_UNFETCHED, stats.COUNT_UNDELIVERED):
        (line,) = [line for line in plan(db, sql, {}) if "SCAN" in line]
        assert "assets_deadlines" in line or "outbox_pending" in line


def test_due_replays_are_found_by_when_they_are_due(db: sqlite3.Cursor) -> None:
    for sql in (replays.DUE_REPLAYS, stats.NEXT_DUE["replays"]):
        assert any("replays_due" in line for line in plan(db, sql, {"now": "2026"})), sql


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

    return open_store


@pytest.fixture(name="open_with")
def open_with_fixture(tmp_path: Path) -> OpenWith:
    return lambda keys: open_with(tmp_path, *keys)


class TestSqliteLists(ListsContract):
    """What is shown, page by page."""


BACKLOG = {
    name: sql
    for name, sql in vars(backlog).items()
    if name.isupper() and isinstance(sql, str) and "replays" not in sql and name != "EARLY"
}


@pytest.mark.parametrize("name", BACKLOG)
def test_what_waits_is_counted_by_indexes_of_what_waits_or_from_one_end(
    db: sqlite3.Cursor, name: str
) -> None:
    values = dict.fromkeys(
        ("now", "soon", "day_ago", "lost_before", "lost", "sink", "provider"), "2026-11-14"
    )
    lines = [
        line
        for line in plan(db, BACKLOG[name], {**values, "most": 9, "walked": 9})
        if line.startswith("SCAN ")
    ]
    walked = [line for line in lines if any(table in line for table in GROWING)]
    # Of a partial index that holds only what waits, or as far as the LIMIT from the newest row back.
    assert all("INDEX" in line or line == "SCAN deliveries" for line in walked), walked
    assert ("SCAN deliveries" in walked) == (name == "NEWEST_DELIVERY")
