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
    Outcome,
    Stage,
    SubmissionFilter,
    TaskFilter,
    TaskReference,
    TaskState,
    WorkFilter,
)
from receiver.options import StoreOptions
from receiver.record import filters, lists, metadata, references, replays, stats, windows
from receiver.record.filters import DEAD, ROWS, Search
from receiver.stores.sqlite import SqliteStore
from tests.contracts.replaying import end_task, get, publish, replay, requeue_dead, start_replay, step_replay
from tests.contracts.store import ROUTES
from tests.support.factories import completed, failed, later, recording, submission, unclear

# What has a row for each task, callback or try; all else is small, or named by the one who asks.
GROWING = {"submissions", "deliveries", "events", "assets", "outbox", "attempts", "polls", "unended"}
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
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look covers two rows."""
    monkeypatch.setattr(windows, "LOOK_SECONDS", 0)
    monkeypatch.setattr(windows, "FIRST_WINDOW", 2)


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
    for sql in (lists.FIRST_AFTER, lists.LAST_BEFORE):
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
    given = {
        "text": {"order_id": "A-7", "user": "ann"},
        "number": {"order_id": 7},
        "true": {"order_id": True},
        "null": {"order_id": None},
        "object": {"order_id": {"a": 1}},
        "none": {"other": "A-7"},
        "again": {"order_id": "A-7", "user": "bob"},
    }
    store = await open_with(tmp_path, "order_id", "user")
    for task_id, metadata_ in given.items():
        owner = "bob" if task_id == "again" else "ann"
        row = submission(task_id, owner=owner)
        await store.log_submission(msgspec.structs.replace(row, metadata=metadata_))

    async def found(owner: str | None = None, **wanted: str) -> list[str]:
        page = await store.list_tasks(TaskFilter(metadata=wanted, owner=owner), 10, None)
        return [task.task_id for task in page.tasks]

    assert await found(order_id="A-7") == ["again", "text"]
    assert await found(order_id="A-7", user="ann") == ["text"]
    assert await found(order_id="A-7", owner="bob") == ["again"]
    assert await found(order_id="7") == ["number"]
    assert await found(order_id="true") == ["true"]
    for missing in ("1", "null", "None", "", '{"a":1}', "' OR 1"):
        assert await found(order_id=missing) == []
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
    for wanted in combinations(**clauses):
        check_search(db, filters.search(db, rows, WorkFilter(state=state, **wanted)))


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
        assert "assets_pending" in line or "outbox_pending" in line


def test_due_replays_are_found_by_when_they_are_due(db: sqlite3.Cursor) -> None:
    for sql in (replays.DUE_REPLAYS, stats.NEXT_DUE["replays"]):
        assert any("replays_due" in line for line in plan(db, sql, {"now": "2026"})), sql


# --- pages that are short ---------------------------------------------------------------------------------


async def pages(store: SqliteStore, **wanted: object) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = await store.list_tasks(TaskFilter(**wanted), 2, cursor)  # type: ignore[arg-type]
        found.append([task.task_id for task in page.tasks])
        if (cursor := page.next_cursor) is None:
            return found


async def some_tasks(store: SqliteStore) -> None:
    """Twelve tasks of two owners at two providers: submitted, fetching, failed."""
    for number in range(12):
        provider = "apixo" if number % 4 == 3 else "vidgo"
        row = submission(f"t{number}", owner="ann" if number % 3 == 0 else "bob", provider=provider)
        await store.log_submission(msgspec.structs.replace(row, created_at=later(3600.0 * number)))
    for number in (1, 6):
        await store.record(recording(failed(f"t{number}")))
    for number in (2, 9):
        await store.record(recording(completed(f"t{number}")))


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, range(11, -1, -1)),
        ({"owner": "ann"}, (9, 6, 3, 0)),
        ({"owner": "ann", "state": TaskState.FAILED}, (6,)),
        ({"owner": "nobody"}, ()),
        ({"provider": "apixo"}, (11, 7, 3)),
        ({"provider": "apixo", "owner": "ann"}, (3,)),
        ({"state": TaskState.SUBMITTED}, (11, 10, 8, 7, 5, 4, 3, 0)),
        ({"state": TaskState.SUBMITTED, "provider": "apixo"}, (11, 7, 3)),
        ({"state": TaskState.FETCHING}, (9, 2)),
        ({"state": TaskState.FAILED}, (6, 1)),
        ({"state": TaskState.FAILED, "provider": "apixo"}, ()),
        ({"state": TaskState.COMPLETED}, ()),
        ({"since": later(3600.0 * 5), "until": later(3600.0 * 8)}, (7, 6, 5)),
        ({"until": later(3600.0 * 2), "state": TaskState.SUBMITTED}, (0,)),
        ({"since": later(3600.0 * 99)}, ()),
        ({"until": later(-3600.0 * 99)}, ()),
    ],
)
async def test_pages_that_are_cut_short_lead_on_until_every_task_was_shown_once(
    store: SqliteStore, wanted: dict[str, Any], numbers: range | tuple[int, ...]
) -> None:
    await some_tasks(store)

    found = await pages(store, **wanted)

    assert list(itertools.chain(*found)) == [f"t{number}" for number in numbers]


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize("bound", [None, True, False])
async def test_submissions_are_shown_in_pages_too(store: SqliteStore, bound: bool | None) -> None:
    await some_tasks(store)
    for number in range(3):
        row = submission(None, id_=f"sub_{number}", owner="ann")
        await store.log_submission(msgspec.structs.replace(row, created_at=later(3600.0 * (20 + number))))
    seen: list[str] = []
    cursor = None
    while True:
        wanted = SubmissionFilter(provider="vidgo", owner="ann", bound=bound)
        page = await store.list_submissions(wanted, 2, cursor)
        seen += [row.task_id or row.id for row in page.submissions]
        if (cursor := page.next_cursor) is None:
            break
    unbound, mine = ["sub_2", "sub_1", "sub_0"], ["t9", "t6", "t0"]
    assert seen == {None: unbound + mine, True: mine, False: unbound}[bound]


@pytest.mark.usefixtures("in_small_parts")
async def test_a_clock_that_was_set_back_a_little_hides_no_task_from_its_time(store: SqliteStore) -> None:
    for name, at in (("a", 0.0), ("b", 1800.0), ("c", -600.0), ("d", 60.0)):
        await store.log_submission(msgspec.structs.replace(submission(name), created_at=later(at)))
    assert list(itertools.chain(*await pages(store, since=later(0)))) == ["d", "b", "a"]
    assert list(itertools.chain(*await pages(store, until=later(60)))) == ["c", "a"]


@pytest.mark.usefixtures("in_small_parts")
async def test_counting_in_parts_counts_everything_once(store: SqliteStore) -> None:
    for number in range(7):
        await store.log_submission(submission(f"t{number}", owner="ann" if number % 2 else "bob"))
        await store.record(recording(failed(f"t{number}")))
    await publish(store, "all", at=1, outcome=Outcome.REFUSED)

    assert await store.count_matches(Stage.NOTIFY, WorkFilter(), later(10**6)) == 7
    assert await store.count_matches(Stage.NOTIFY, WorkFilter(owner="ann"), later(10**6)) == 3
    assert await store.count_matches(Stage.NOTIFY, WorkFilter(task_ids=("t1", "t6", "t9")), later(10**6)) == 2
    assert await store.count_dead(WorkFilter(owner="bob"), ["all"]) == 4
    assert (await requeue_dead(store, WorkFilter(task_ids=("t5",)), ["all"], later(9), 10)).count == 1
    asked = replay(Stage.NOTIFY, WorkFilter(owner="ann"))
    assert (await start_replay(store, asked)).matched == 3


@pytest.mark.usefixtures("in_small_parts")
async def test_a_replay_whose_steps_are_cut_short_looks_at_every_match_once(store: SqliteStore) -> None:
    for number in range(9):
        await end_task(store, f"t{number}", owner="ann" if number in {0, 7, 8} else "bob")
    started = await start_replay(store, replay(Stage.NOTIFY, WorkFilter(owner="ann", provider="vidgo")))
    everything = await start_replay(store, replay(Stage.NOTIFY))

    while works := await store.lease_replays(later(200), later(260), 10):
        for work in works:
            assert await step_replay(store, work, 100, later(200), later(200))

    assert (await get(store, started.id)).looked_at == 3
    assert (await get(store, everything.id)).looked_at == 9
    sent = await publish(store, "all", at=201)
    assert sorted(work.event.task_id for work in sent if work.replay_id == started.id) == ["t0", "t7", "t8"]
    assert len(sent) == 3 + 9


@pytest.mark.usefixtures("in_small_parts")
async def test_kept_deliveries_are_read_again_however_many_that_do_not_match_come_before(
    store: SqliteStore,
) -> None:
    for number in range(7):
        owner = "ann" if number == 6 else "bob"
        await store.log_submission(submission(f"t{number}", owner=owner))
        await store.record(recording(unclear(f"t{number}")))
    started = await start_replay(store, replay(Stage.REPROCESS, WorkFilter(owner="ann")))
    (work,) = await store.lease_replays(later(200), later(260), 10)

    (kept,) = await store.list_kept(work, 10)

    assert (started.matched, kept.recording.report.task_id) == (1, "t6")
