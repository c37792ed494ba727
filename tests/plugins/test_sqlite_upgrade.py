"""A record of an earlier release, opened by today's: what was on its way ends, however the upgrade went."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from receiver.errors import Misconfigured
from receiver.links import host_hash
from receiver.models import (
    AssetState,
    EventType,
    FetchLoad,
    OutboxState,
    Outcome,
    Stage,
    Task,
    TaskFilter,
    TaskReference,
    Verdict,
    WorkFilter,
)
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.stores.sqlite.migrations import migrate, pending
from receiver.testing import TurnableClock
from tests.contracts.replaying import replay, requeue_dead, start_replay, step_replay
from tests.contracts.store import ROUTES
from tests.support.earlier_releases import (
    TOLD_BODY,
    UNOWNED_BODY,
    make_first_release,
    make_second_release,
    make_third_release,
)
from tests.support.factories import (
    NOW,
    answer,
    completed,
    failed,
    later,
    recording,
    settlement,
    stored,
    submission,
)
from tests.support.messages import rendered
from tests.support.settling import settle_outbox

pytestmark = pytest.mark.slow  # a copy of the files for each statement

Make = Callable[[Path], None]

EVERY_RELEASE = (make_first_release, make_second_release, make_third_release)
SINCE = (later(7200), later(9000))  # when the upgraded one works, and until when it holds what it leases
LONG_AGO = "2026-01-01T00:00:00.000Z"


async def open_today(folder: Path) -> SqliteStore:
    options = StoreOptions(
        data_dir=folder,
        clock=TurnableClock(later(3600)),
        routes=ROUTES,
        first_poll_seconds={"vidgo": 0.0},
    )
    return await SqliteStore.open("sqlite:receiver.db", options)


async def work_off(store: SqliteStore) -> list[str]:
    """Ask, fetch and tell until nothing is due; the tasks that were asked about."""
    asked = []
    for poll in await store.lease_polls("vidgo", *SINCE, 100):
        asked.append(poll.task_id)
        await store.record(answer(failed(poll.task_id)))
        assert await store.settle_poll(poll, settlement(Outcome.ANSWERED))
    for asset in await store.lease_assets(*SINCE, 100):
        assert await store.settle_asset(asset, stored(asset))
    await tell(store)
    return asked


async def tell(store: SqliteStore) -> list[dict[str, Any]]:
    """What consumers are told."""
    messages = []
    for sink in ("all", "failures"):
        for entry in await store.lease_outbox(sink, *SINCE, 100):
            messages.append(json.loads(rendered(entry).body))
            assert await settle_outbox(store, entry, settlement(Outcome.DELIVERED))
    return messages


async def task_of(store: SqliteStore, task_id: str) -> Task:
    task = await store.get_task("vidgo", task_id)
    assert task is not None
    return task


async def ended(store: SqliteStore, ends: Mapping[str, EventType]) -> dict[str, Task]:
    """The tasks, each of which has ended so, and all but the dead letter's are told of."""
    tasks = {task_id: await task_of(store, task_id) for task_id in ends}
    assert {task_id: task.event and task.event.type for task_id, task in tasks.items()} == ends
    for task_id in ends.keys() - {"partial"}:
        assert {entry.state for entry in tasks[task_id].notifications} == {OutboxState.DELIVERED}, task_id
    return tasks


def verdicts(task: Task) -> list[Verdict]:
    return [delivery.verdict for delivery in task.deliveries]


async def test_everything_that_the_first_release_left_undone_is_done(tmp_path: Path) -> None:
    make_first_release(tmp_path / "receiver.db")
    store = await open_today(tmp_path)
    await store.log_submission(submission("early"))
    await store.bind_submission("sub_reserved", "bound since", NOW)

    asked = await work_off(store)

    ends = {
        "submitted": EventType.FAILED,  # as the provider said when it was asked
        "bound since": EventType.FAILED,
        "early": EventType.COMPLETED,
        "fetching": EventType.COMPLETED,
        "untold": EventType.FAILED,
        "told": EventType.FAILED,
        "partial": EventType.PARTIAL,
    }
    tasks = await ended(store, ends)
    assert sorted(asked) == ["bound since", "submitted"]
    assert tasks["submitted"].submission.metadata == {"order": 7}
    fetching = tasks["fetching"].event
    assert fetching is not None
    assert [asset.attempts for asset in fetching.assets] == [2, 2]
    assert (await store.count_stats()).outbox["all"] == {"delivered": 6, "dead": 1}
    await store.aclose()


async def test_everything_that_the_second_release_left_undone_is_done(tmp_path: Path) -> None:
    make_second_release(tmp_path / "receiver.db")
    store = await open_today(tmp_path)
    await store.log_submission(submission("early"))
    await store.bind_submission("sub_reserved", "bound since", NOW)

    asked = await work_off(store)

    ends = {
        "submitted": EventType.FAILED,  # as the provider said when it was asked
        "bound since": EventType.FAILED,
        "held": EventType.FAILED,
        "early": EventType.COMPLETED,
        "fetching": EventType.COMPLETED,
        "untold": EventType.FAILED,
        "told": EventType.FAILED,
        "partial": EventType.PARTIAL,
    }
    tasks = await ended(store, ends)
    assert sorted(asked) == ["bound since", "held", "submitted"]
    fetching = tasks["fetching"].event
    assert fetching is not None
    assert [asset.attempts for asset in fetching.assets] == [2, 2, 1]
    assert verdicts(tasks["held"]) == [Verdict.CONFLICT, Verdict.CONFLICT, Verdict.ACCEPTED]
    assert verdicts(tasks["early"]) == [Verdict.PROGRESS, Verdict.ACCEPTED]
    replay = await store.get_replay("rpl_notify")
    assert replay is not None
    assert replay.results == {"delivered": 1}
    await store.aclose()


async def test_everything_that_the_third_release_left_undone_is_done(tmp_path: Path) -> None:
    make_third_release(tmp_path / "receiver.db")
    store = await open_today(tmp_path)
    await store.log_submission(submission("early"))
    await store.bind_submission("sub_reserved", "bound since", NOW)

    asked = await work_off(store)

    ends = {
        "submitted": EventType.FAILED,  # as the provider said when it was asked
        "bound since": EventType.FAILED,
        "held": EventType.FAILED,
        "early": EventType.COMPLETED,
        "fetching": EventType.COMPLETED,
        "refetched": EventType.COMPLETED,  # by a replay that was under way
        "revised": EventType.COMPLETED,
        "untold": EventType.FAILED,
        "told": EventType.FAILED,
        "partial": EventType.PARTIAL,
    }
    tasks = await ended(store, ends)
    assert sorted(asked) == ["bound since", "held", "submitted"]
    assert verdicts(tasks["told"]) == [Verdict.ACCEPTED, Verdict.CONFLICT]
    assert verdicts(tasks["held"]) == [Verdict.CONFLICT, Verdict.CONFLICT, Verdict.ACCEPTED]
    asked_before = await task_of(store, "asked")
    assert asked_before.poll is not None
    assert asked_before.poll.outcome is Outcome.HTTP_ERROR
    notify, fetch = await store.get_replay("rpl_notify"), await store.get_replay("rpl_fetch")
    assert notify is not None
    assert fetch is not None
    assert (notify.results, fetch.results) == ({"delivered": 1}, {"stored": 3})
    await store.aclose()


async def test_what_the_third_release_announced_keeps_its_id_and_is_said_again(tmp_path: Path) -> None:
    make_third_release(tmp_path / "receiver.db")
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        known = dict(connection.execute("SELECT task_id, event_id FROM tasks WHERE event_id IS NOT NULL"))
    store = await open_today(tmp_path)

    told = {each["data"]["task_id"]: each for each in await tell(store)}
    await work_off(store)

    for task_id, event_id in known.items():
        event = (await task_of(store, task_id)).event
        assert event is not None
        assert event.id == event_id
    assert {task_id: each["id"] for task_id, each in told.items()} == {
        task_id: known[task_id] for task_id in ("told", "untold", "refetched")
    }
    failure = told["refetched"]  # of which one file has been stored since
    assert (failure["type"], failure["revision"], failure["data"]["error"]) == (
        "task.failed",
        1,
        {"code": "gone", "message": "none of 3 files could be had"},
    )
    assert failure["data"]["assets"] == [
        {"index": index, "state": "failed", "outcome": outcome}
        for index, outcome in enumerate(["gone", "gone", "timeout"])
    ]
    await store.aclose()


async def test_files_of_an_earlier_release_have_their_share_of_the_places(tmp_path: Path) -> None:
    make_third_release(tmp_path / "receiver.db")
    store = await open_today(tmp_path)
    started = replay(Stage.FETCH, created_at=later(7000))
    await start_replay(store, started)
    for step in await store.lease_replays(*SINCE, 10):
        await step_replay(store, step, 100, *SINCE)

    works = await store.lease_assets(*SINCE, 100)

    assert any(work.replay_id == started.id for work in works)  # had failed before the upgrade
    assert any(work.replay_id is None for work in works)
    assert all(work.host_hash == host_hash(work.url) for work in works)
    full = FetchLoad(running={("vidgo", work.host_hash): 1 for work in works}, most_of_host=1)
    for work in works:
        await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=SINCE[0]))
    assert await store.lease_assets(*SINCE, 100, load=full) == []
    assert len(await store.lease_assets(*SINCE, 100)) == len(works)
    await store.aclose()


async def test_what_the_second_release_found_unowned_is_heard_when_it_comes_again(tmp_path: Path) -> None:
    make_second_release(tmp_path / "receiver.db")
    store = await open_today(tmp_path)
    await store.log_submission(submission("unowned"))
    before = await task_of(store, "unowned")

    again = recording(completed("unowned"), body=UNOWNED_BODY, received_at=later(3600))
    receipt = await store.record(again)

    after = await task_of(store, "unowned")
    assert (verdicts(before), receipt.status) == ([Verdict.UNOWNED], Verdict.ACCEPTED)
    assert [(each.verdict, each.seen, each.bytes > 0) for each in after.deliveries] == [
        (Verdict.ACCEPTED, 2, True)
    ]
    await store.aclose()


@pytest.mark.parametrize("make", EVERY_RELEASE)
async def test_what_an_earlier_release_did_not_understand_of_a_task_of_ours_stays_its_owners(
    make: Make, tmp_path: Path
) -> None:
    make(tmp_path / "receiver.db")
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        connection.execute("UPDATE deliveries SET task_id = 'submitted' WHERE verdict = 'unrecognised'")
        connection.commit()
    store = await open_today(tmp_path)

    while await store.expire_early(later(10**6), 10):
        pass

    kept = verdicts(await task_of(store, "submitted"))
    await store.aclose()
    assert Verdict.UNRECOGNISED in kept
    assert Verdict.UNOWNED not in kept


async def test_what_the_first_release_ended_stays_as_it_was(tmp_path: Path) -> None:
    make_first_release(tmp_path / "receiver.db")
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        known = dict(connection.execute("SELECT task_id, id FROM events").fetchall())
    store = await open_today(tmp_path)
    await work_off(store)

    repeat = await store.record(recording(failed("told"), body=TOLD_BODY))

    told, partial = await task_of(store, "told"), await task_of(store, "partial")
    assert repeat.status is Verdict.DUPLICATE  # its body is long gone
    assert told.event is not None
    assert partial.event is not None
    assert (told.event.id, told.event.revision, told.deliveries[0].seen) == (known["told"], 1, 2)
    assert (partial.event.id, partial.event.revision) == (known["partial"], 1)
    assert [asset.state for asset in partial.event.assets] == [AssetState.STORED, AssetState.FAILED]
    assert [(attempt.target, attempt.times) for attempt in partial.attempts] == [
        ("asset 0", 1),
        ("asset 1", 1),
        ("sink all", 1),
    ]
    assert (await requeue_dead(store, WorkFilter(), (), NOW, 10)).count == 1
    await store.aclose()


async def test_retention_goes_on_where_the_first_release_stopped(tmp_path: Path) -> None:
    make_first_release(tmp_path / "receiver.db")  # which had dropped one body, and all requests but the last
    store = await open_today(tmp_path)

    while await store.purge(later(7200), 100):
        pass

    untold = await store.get_submission("sub_untold")
    assert untold is not None
    assert untold.request is None
    assert (await task_of(store, "told")).notifications == ()
    await store.aclose()


@pytest.mark.parametrize("make", EVERY_RELEASE)
def test_an_upgraded_record_has_the_schema_of_a_new_one(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "old.db")
    migrate(tmp_path / "old.db")
    migrate(tmp_path / "new.db")

    assert sorted(schema(tmp_path / "old.db")) == sorted(schema(tmp_path / "new.db"))


# --- killed in the middle -----------------------------------------------------------------------------

# Migrates a copy in peace, counting statements; then others in children of its own, each killed before one
# of these. Prints how many. But for a few at both ends all are in one transaction, where a kill comes
# to the same before any of them: of those it is every seventh.
KILLER = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from receiver.stores.sqlite import migrations

original, folder = Path(sys.argv[1]), Path(sys.argv[2])
connect = sqlite3.connect
seen, last = 0, float("inf")

def connect_and_count(*args, **options):
    connection = connect(*args, **options)
    if str(folder) not in str(args[0]):
        return connection # of what counts the lines that run
    def trace(statement):
        global seen
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
    connection.set_trace_callback(trace)
    return connection

def migrate(name):
    path = folder / f"{name}.db"
    shutil.copy(original, path)
    migrations.migrate(path)

migrations.sqlite3.connect = connect_and_count
migrate("whole")
places = sorted({*range(12), *range(12, seen, 7), *range(seen - 3, seen)})
seen = 0
for number, last in enumerate(places):
    child = os.fork()
    if child == 0:
        migrate(number)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended == -signal.SIGKILL, ended
print(len(places))
"""


def schema(path: Path) -> list[tuple[str]]:
    """Every table, index and view, and every name of a migration."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
            " UNION ALL SELECT name FROM _sqlite_migrations"
        ).fetchall()


@pytest.mark.parametrize("make", EVERY_RELEASE)
def test_a_kill_anywhere_in_the_upgrade_leaves_the_old_schema_or_the_new(tmp_path: Path, make: Make) -> None:
    original, folder = tmp_path / "original.db", tmp_path / "killed"
    make(original)
    folder.mkdir()
    old = schema(original)

    command = [sys.executable, "-c", KILLER, str(original), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)

    new = schema(folder / "whole.db")
    assert new != old
    for number in range(int(ended.stdout)):
        path = folder / f"{number}.db"
        assert schema(path) in (old, new), number
        migrate(path)
        assert schema(path) == new
        assert sound(path)


def test_a_kill_while_much_is_moved_leaves_the_old_schema_or_the_new(tmp_path: Path) -> None:
    original = tmp_path / "large.db"
    make_first_release(original)
    with closing(sqlite3.connect(original)) as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
            " INSERT INTO submissions (id, provider, owner, task_id, metadata, created_at)"
            " SELECT 'sub_' || i, 'vidgo', 'ann', 'task ' || i, '{}', ? FROM n",
            (LONG_AGO,),
        )
        connection.commit()
    old = schema(original)

    seen = [schema(killed_after(original, seconds)) for seconds in (0.03, 0.1, 0.3)]

    migrate(original)
    assert all(each in (old, schema(original)) for each in seen)


def killed_after(original: Path, seconds: float) -> Path:
    """A copy whose migration was killed so long after it began; migrated again, it is whole."""
    path = original.with_name(f"after-{seconds}.db")
    path.write_bytes(original.read_bytes())
    program = (
        "import sys; from pathlib import Path; from receiver.stores.sqlite.migrations import migrate;"
        "print(flush=True); migrate(Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    found = path.with_name(f"found-{path.name}")
    for suffix in ("", "-wal"):
        if (left := path.with_name(path.name + suffix)).exists():
            found.with_name(found.name + suffix).write_bytes(left.read_bytes())
    migrate(path)
    assert sound(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM polls").fetchone() == (60_001,)
    return found


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


async def test_what_waits_is_told_whoever_has_the_record_open_and_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"

    async def waiting() -> list[str] | None:
        return await SqliteStore.pending_migrations("sqlite:receiver.db", tmp_path)

    assert await waiting() is None
    assert not path.exists()
    make_first_release(path)
    before = path.read_bytes()
    assert "m002_numbers" in (await waiting() or ())
    assert path.read_bytes() == before
    store = await open_today(tmp_path)
    assert await waiting() == []
    await store.aclose()
    assert await waiting() == []


# --- files of others ----------------------------------------------------------------------------------

THE_TABLE = 'CREATE TABLE "_sqlite_migrations" (id INTEGER PRIMARY KEY, migration_set, name, applied_at)'
OTHERS_MIGRATION = "INSERT INTO _sqlite_migrations VALUES (1, 'theirs', 'm001_the_record', '')"


def make_with(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE invoices (id)"],
        ["CREATE TABLE submissions (id)"],
        ["CREATE VIEW one AS SELECT 1"],
        [THE_TABLE, "CREATE TABLE invoices (id)"],
        [THE_TABLE, OTHERS_MIGRATION, "CREATE TABLE invoices (id)"],
    ],
    ids=["table", "table like ours", "view", "empty migrations", "their migrations"],
)
@pytest.mark.parametrize("look", [migrate, pending])
def test_a_file_of_another_program_is_refused_and_left_as_it_is(
    tmp_path: Path, look: Callable[[Path], object], statements: list[str]
) -> None:
    path = tmp_path / "theirs.db"
    make_with(path, *statements)
    before = path.read_bytes()

    with pytest.raises(Misconfigured) as caught:
        look(path)

    assert str(path) in str(caught.value)
    assert "set RECEIVER_DATABASE_URL or RECEIVER_DATA_DIR to another place" in str(caught.value)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["theirs.db"]


@pytest.mark.parametrize(
    "statements",
    [
        [],
        ["PRAGMA journal_mode = WAL"],
        [THE_TABLE],
        [THE_TABLE, "CREATE UNIQUE INDEX by_set ON _sqlite_migrations (migration_set, name)"],
        # Kept in every file that Litestream looks after, maybe before the first start.
        ["CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq)", "CREATE TABLE _litestream_lock (id)"],
        # As SQLite's own tables come about.
        ["CREATE TABLE _a (id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO _a VALUES (1)", "ANALYZE"],
    ],
    ids=["empty", "header", "migrations", "indexed migrations", "litestream", "sqlite"],
)
def test_a_file_in_which_nothing_is_kept_yet_is_taken(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "receiver.db"
    make_with(path, *statements)
    everything = migrate(tmp_path / "new.db")

    assert pending(path) in (None, everything)
    assert migrate(path) == everything
    assert (pending(path), migrate(path)) == ([], [])


def test_a_record_to_which_somebody_added_a_table_is_still_ours(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    make_first_release(path)
    make_with(path, "CREATE TABLE notes (text)")

    assert pending(path) == migrate(path) != []


async def test_the_store_is_not_opened_over_a_file_of_another_program(tmp_path: Path) -> None:
    make_with(tmp_path / "receiver.db", "CREATE TABLE invoices (id)")

    with pytest.raises(Misconfigured, match=r"receiver\.db is another program's \(.*invoices"):
        await open_today(tmp_path)


async def test_an_event_of_an_earlier_release_is_found_by_its_own_id(tmp_path: Path) -> None:
    make_third_release(tmp_path / "receiver.db")
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        events = connection.execute(
            "SELECT e.id, s.task_id FROM events e JOIN submissions s USING (number)"
        ).fetchall()
    store = await open_today(tmp_path)
    assert events
    for event_id, task_id in events:
        page = await store.list_tasks(TaskFilter(reference=TaskReference(event_id=event_id)), 10, None)
        assert [task.task_id for task in page.tasks] == [task_id]
    await store.aclose()
