"""The SQLite store: the contract, and what is special to a file."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from receiver.clock import Clock
from receiver.errors import Misconfigured, Unavailable
from receiver.ports import Store, StoreOptions, never
from receiver.stores.sqlite import SqliteStore, polling
from receiver.stores.sqlite import recording as recording_module
from receiver.stores.sqlite.migrations import migrate, migrations
from receiver.stores.sqlite.writer import connect
from receiver.words import Outcome, Verdict
from tests.contracts.store import EARLY_LIMIT, ROUTES, OpenStore, StoreContract
from tests.contracts.store_polls import FIRST_POLL_SECONDS, UNPOLLED, PollsContract, end_with, fetch_again
from tests.factories import (
    NOW,
    completed,
    confirms_weak,
    failed,
    later,
    progress,
    recording,
    settlement,
    submission,
)


def options(data_dir: Path) -> StoreOptions:
    return StoreOptions(
        data_dir=data_dir,
        clock=Clock(),
        routes=ROUTES,
        first_poll_seconds=FIRST_POLL_SECONDS,
        confirms=confirms_weak,
        unpolled=UNPOLLED,
        early_limit=EARLY_LIMIT,
    )


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await SqliteStore.open("sqlite:receiver.db", options(tmp_path))

    return open_store


class TestSqliteStore(StoreContract):
    """What is kept, and how it ends."""


class TestSqlitePolls(PollsContract):
    """What is asked of providers."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))
    yield store
    await store.aclose()


async def test_a_second_process_is_kept_out_and_told_why(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=f"in use by another receiver.*{os.getpid()}"):
        await SqliteStore.open("sqlite:receiver.db", options(tmp_path))


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, time; from pathlib import Path; from tests.plugins.test_sqlite import *\n"
        "async def main():\n"
        "    await SqliteStore.open('sqlite:receiver.db', options(Path(sys.argv[1])))\n"
        "    print('open', flush=True); time.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.send_signal(signal.SIGKILL)

    again = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))
    await again.aclose()


async def test_leases_of_a_dead_process_are_free_at_start(tmp_path: Path) -> None:
    first = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))
    now = Clock().now()
    far = now.replace(year=now.year + 1)
    await first.log_submission(submission("t1"))
    await first.record(recording(completed("t1")))
    assert len(await first.lease_assets(now, far, 10)) == 1
    await first.aclose()

    again = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))

    assert len(await again.lease_assets(Clock().now(), far, 10)) == 1
    await again.aclose()


async def test_a_sink_that_is_new_is_not_told_of_old_events_when_their_files_are_tried_again(
    tmp_path: Path,
) -> None:
    sinkless = await SqliteStore.open("sqlite:receiver.db", replace(options(tmp_path), routes=()))
    await sinkless.log_submission(submission("t1"))
    await sinkless.record(recording(completed("t1")))
    await end_with(sinkless, Outcome.GONE, at=1)
    await sinkless.aclose()
    store = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))

    await fetch_again(store, at=100)
    await end_with(store, Outcome.GONE, at=101)

    task = await store.get_task("vidgo", "t1")
    await store.aclose()
    assert task is not None
    assert task.notifications == ()


async def test_an_early_callback_from_before_there_was_a_key_is_confirmed_once_there_is_one(
    tmp_path: Path,
) -> None:
    keyless = await SqliteStore.open("sqlite:receiver.db", replace(options(tmp_path), confirms=never))
    await keyless.record(recording(completed("t1"), weak=True))
    await keyless.aclose()
    store = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))

    await store.log_submission(submission("t1"))

    task = await store.get_task("vidgo", "t1")
    await store.aclose()
    assert task is not None
    assert (task.event, task.deliveries[0].verdict) == (None, Verdict.UNCONFIRMED)


async def test_no_amount_of_early_progress_crowds_out_an_early_result(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", replace(options(tmp_path), early_limit=1000))
    for number in range(101):
        await store.record(recording(progress("t1"), body=f"{number} %".encode()))
    await store.record(recording(failed("t1")))

    await store.log_submission(submission("t1"))

    event = await store.get_event("vidgo", "t1")
    await store.aclose()
    assert event is not None


async def test_a_callback_that_ends_its_task_costs_three_statements(store: SqliteStore) -> None:
    await store.log_submission(submission("t1"))
    statements: list[str] = []

    def record(db: sqlite3.Cursor) -> None:
        db.connection.set_trace_callback(statements.append)
        recording_module.record(db, recording(completed("t1")), store._rules)
        db.connection.set_trace_callback(None)

    await store._writer.write(record)

    assert [statement.split()[2] for statement in statements] == ["events", "assets", "deliveries"]


async def test_what_waits_for_confirmation_is_found_without_reading_what_does_not(
    store: SqliteStore,
) -> None:
    plan = await store._read(
        lambda db: db.execute(f"EXPLAIN QUERY PLAN {polling.DUE_HELD}", ("vidgo", "9", 1)).fetchall()
    )

    assert any("polls_held" in step[-1] for step in plan)
    assert not any("TEMP B-TREE" in step[-1] for step in plan)


def test_parallel_first_starts_agree_on_the_schema(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from receiver.stores.sqlite.migrations import migrate;"
        "print(len(migrate(Path(sys.argv[1]))))"
    )
    path = tmp_path / "receiver.db"
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    applied = [int(child.communicate(timeout=60)[0]) for child in children]

    assert [child.returncode for child in children] == [0] * 4
    assert sorted(applied)[:3] == [0, 0, 0]
    assert max(applied) >= 1


async def test_tasks_of_a_file_from_before_there_were_polls_are_asked_about(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "receiver.db")
    migrations.apply(Database(connection), stop_before="m003_polls")
    connection.executescript(
        """
        INSERT INTO submissions (number, id, provider, owner, task_id, metadata, created_at) VALUES
            (1, 'sub_1', 'vidgo', 'ann', 'open', '{}', '2026-01-01T00:00:00.000Z'),
            (2, 'sub_2', 'vidgo', 'ann', 'ended', '{}', '2026-01-01T00:00:00.000Z'),
            (3, 'sub_3', 'vidgo', 'ann', NULL, '{}', '2026-01-01T00:00:00.000Z');
        INSERT INTO events (number, id, via, fingerprint, received_at, type)
            VALUES (2, 'evt_2', 'callback', 'x', '2026-01-01T00:01:00.000Z', 'task.partial');
        INSERT INTO assets (event, position, url, kind, state, due_at, deadline_at) VALUES
            (2, 0, 'https://cdn.test/0', 'image', 'stored', '', ''),
            (2, 1, 'https://cdn.test/1', 'image', 'failed', '', '');
        """
    )
    connection.close()

    store = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))

    works = await store.lease_polls("vidgo", NOW, later(60), 10)
    announced = await store._read(lambda db: db.execute("SELECT announced FROM events").fetchone())
    await store.aclose()
    assert [work.task_id for work in works] == ["open"]
    assert announced == (1,)


def test_a_file_of_a_newer_receiver_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    migrate(path)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
            " VALUES ('receiver', 'm099_x', '')"
        )
    connection.close()

    with pytest.raises(Misconfigured, match="newer receiver"):
        migrate(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    path.write_bytes(b"not a database at all" * 1000)

    with pytest.raises(Misconfigured, match="cannot be opened as the receiver's database"):
        migrate(path)


async def test_a_database_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "receiver.db").mkdir()

    with pytest.raises(Misconfigured):
        await SqliteStore.open("sqlite:receiver.db", options(tmp_path))


async def test_nobody_else_may_read_the_record(store: SqliteStore, tmp_path: Path) -> None:
    await store.log_submission(submission("t1"))

    modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}

    assert set(modes) >= {"receiver.db", "receiver.db-wal", "receiver.db.lock"}
    assert set(modes.values()) == {0}


async def test_a_bug_in_one_write_stops_neither_its_neighbours_nor_the_writer(store: SqliteStore) -> None:
    def buggy(db: sqlite3.Cursor) -> None:
        raise ZeroDivisionError

    results = await asyncio.gather(store._writer.write(buggy), store.ping(), return_exceptions=True)

    assert isinstance(results[0], ZeroDivisionError)
    assert results[1] is None
    await store.ping()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(Misconfigured, match="cannot be written"):
        await SqliteStore.open("sqlite:receiver.db", options(tmp_path / "file" / "data"))


async def test_a_locked_database_is_unavailable_in_bounded_time_and_recovers(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.log_submission(submission("t1"))
    intruder = sqlite3.connect(tmp_path / "receiver.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    started = time.monotonic()

    with pytest.raises(Unavailable, match="SQLITE_BUSY"):
        await store.record(recording(completed("t1")))

    assert time.monotonic() - started < 8
    intruder.execute("ROLLBACK")
    intruder.close()
    assert (await store.record(recording(completed("t1")))).status is Verdict.ACCEPTED


def test_every_commit_is_fsynced(tmp_path: Path) -> None:
    migrate(tmp_path / "receiver.db")
    connection = connect(tmp_path / "receiver.db")

    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


async def test_a_caller_that_goes_away_does_not_take_its_commit_along(store: SqliteStore) -> None:
    await store.log_submission(submission("t1"))
    call = asyncio.create_task(store.record(recording(failed("t1"))))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await store.ping()
    assert await store.get_event("vidgo", "t1") is not None


async def test_a_closed_store_refuses_politely(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", options(tmp_path))
    await store.aclose()

    with pytest.raises(Unavailable):
        await store.ping()


async def test_the_file_explains_itself_to_sqlite_utils(store: SqliteStore, tmp_path: Path) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(failed("t1")))

    db = Database(sqlite3.connect(tmp_path / "receiver.db"))

    assert {"submissions", "deliveries", "events", "assets", "outbox", "attempts"} <= set(db.table_names())
    assert all(db.table(name).strict for name in ("submissions", "deliveries", "events", "assets"))
    (task,) = db.query("SELECT * FROM tasks")
    assert (task["task_id"], task["state"], task["error_message"]) == ("t1", "failed", "refused")
    whats = [row["what"] for row in db.query("SELECT what FROM task_timeline WHERE task_id = 't1'")]
    assert whats == ["submission", "delivery", "event"]
    db.close()


async def test_the_timeline_in_the_file_shows_the_last_question_to_the_provider(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.log_submission(submission("t1"))
    (work,) = await store.lease_polls("vidgo", later(300), later(360), 1)
    await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, at=later(301), retry_at=later(330)))

    db = Database(sqlite3.connect(tmp_path / "receiver.db"))

    (poll,) = db.query("SELECT at, detail FROM task_timeline WHERE what = 'poll'")
    assert poll == {"at": "2026-11-21T10:05:01.000Z", "detail": "in_progress, attempt 1"}
    db.close()
