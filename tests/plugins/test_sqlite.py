"""The SQLite store: the contract, and what is special to a file."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlite_utils import Database

from receiver.clock import Clock
from receiver.errors import Misconfigured, Unavailable
from receiver.models import AssetWork, FetchLoad, FetchShare, Outcome, Recording, RemoteFile, Report, Verdict
from receiver.options import never
from receiver.ports import Store
from receiver.record import asset_leases, polls
from receiver.record.deliveries import OPEN_OF_TASK
from receiver.record.recording import record_all
from receiver.record.rules import LARGE_BYTES
from receiver.stores.sqlite import SqliteStore
from receiver.stores.sqlite.connections import connect
from receiver.stores.sqlite.migrations import migrate, migrations
from tests.contracts.opening import store_options
from tests.contracts.store import OpenStore, StoreContract
from tests.contracts.store_announced import AnnouncedContract
from tests.contracts.store_backlog import BacklogContract
from tests.contracts.store_polls import PollsContract, end_with, fetch_again
from tests.contracts.store_shares import SharesContract
from tests.contracts.store_time_series import TimeSeriesContract
from tests.support.blank_record import lay_blank_record
from tests.support.factories import (
    NOW,
    completed,
    failed,
    later,
    progress,
    recording,
    settlement,
    submission,
    unclear,
)


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

    return open_store


class TestSqliteStore(StoreContract):
    """What is kept, and how it ends."""


class TestSqliteAnnounced(AnnouncedContract):
    """What is followed."""


class TestSqliteBacklog(BacklogContract):
    """What waits is counted."""


class TestSqliteTimeSeries(TimeSeriesContract):
    """What happened over time adds up."""


class TestSqliteShares(SharesContract):
    """Whose files are fetched next."""


class TestSqlitePolls(PollsContract):
    """What is asked of providers."""


async def traced(store: SqliteStore, *records: Recording) -> list[str]:
    """The statements that record deliveries together."""
    statements: list[str] = []

    def trace(db: Any) -> None:
        db.connection.set_trace_callback(statements.append)
        record_all(db, records, store._options)
        db.connection.set_trace_callback(None)

    await store._writer.write(trace)
    # Of a statement that wakes a trigger SQLite notes the trigger's own as a comment, and then itself again.
    own = [each for each in statements if not each.startswith("--")]
    return [each for each, _ in groupby(own)]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    lay_blank_record(tmp_path)
    store = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))
    yield store
    await store.aclose()


async def test_a_second_process_is_kept_out_and_told_why(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"in use by another receiver.*{os.getpid()}"):
        await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))


async def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, time; from pathlib import Path; from tests.plugins.test_sqlite import *\n"
        "async def main():\n"
        "    await SqliteStore.open('sqlite:receiver.db', store_options(Path(sys.argv[1])))\n"
        "    print('open', flush=True); time.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.send_signal(signal.SIGKILL)

    again = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))
    await again.aclose()


async def test_leases_of_a_dead_process_are_free_at_start(tmp_path: Path) -> None:
    first = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))
    now = Clock().now()
    far = now.replace(year=now.year + 1)
    await first.log_submission(submission("t1"))
    await first.record(recording(completed("t1")))
    assert len(await first.lease_assets(now, far, 10)) == 1
    await first.aclose()

    again = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

    assert len(await again.lease_assets(Clock().now(), far, 10)) == 1
    await again.aclose()


async def test_a_sink_that_is_new_is_not_told_of_old_events_when_their_files_are_tried_again(
    tmp_path: Path,
) -> None:
    sinkless = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), routes=()))
    await sinkless.log_submission(submission("t1"))
    await sinkless.record(recording(completed("t1")))
    await end_with(sinkless, Outcome.GONE, at=1)
    await sinkless.aclose()
    store = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

    await fetch_again(store, at=100)
    await end_with(store, Outcome.GONE, at=101)

    task = await store.get_task("vidgo", "t1")
    await store.aclose()
    assert task is not None
    assert task.notifications == ()


async def test_an_early_callback_from_before_there_was_a_key_is_confirmed_once_there_is_one(
    tmp_path: Path,
) -> None:
    keyless = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), confirms=never))
    await keyless.record(recording(completed("t1"), weak=True))
    await keyless.aclose()
    store = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

    await store.log_submission(submission("t1"))

    task = await store.get_task("vidgo", "t1")
    await store.aclose()
    assert task is not None
    assert (task.event, task.deliveries[0].verdict) == (None, Verdict.UNCONFIRMED)


async def test_no_amount_of_early_progress_crowds_out_an_early_result(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), early_limit=1000))
    for number in range(100):
        await store.record(recording(progress("t1"), body=f"{number} %".encode()))
    with pytest.raises(Unavailable):
        await store.record(recording(progress("t1"), body=b"one too many"))
    await store.record(recording(failed("t1")))

    await store.log_submission(submission("t1"))

    task = await store.get_task("vidgo", "t1")
    await store.aclose()
    assert task is not None
    assert [delivery.verdict for delivery in task.deliveries] == [Verdict.PROGRESS] * 100 + [Verdict.ACCEPTED]


async def test_what_names_no_task_is_kept_however_much_of_it_has_come(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), early_limit=130))
    for number in range(130):
        receipt = await store.record(recording(unclear(None), body=f"odd {number}".encode(), weak=True))
        assert receipt.status is Verdict.UNRECOGNISED

    kept = await store._read(
        lambda db: db.execute("SELECT count(body), sum(seen) FROM deliveries").fetchone()
    )

    assert kept == (130, 130)
    with pytest.raises(Unavailable):
        await store.record(recording(unclear(None), body=b"one too many", weak=True))
    await store.aclose()


async def test_large_bodies_that_nobody_owns_are_bounded_in_number_by_themselves(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), early_limit=1000))

    async def bring(name: str, size: int, *, report: Report | None = None) -> Verdict:
        body = name.encode().ljust(size, b" ")
        return (await store.record(recording(report or completed(name), body=body))).status

    for number in range(100):
        await bring(f"early {number}", LARGE_BYTES + 1)
        await bring(f"odd {number}", LARGE_BYTES + 1, report=unclear(None))
    with pytest.raises(Unavailable, match="100 large early"):
        await bring("one too many", LARGE_BYTES + 1)
    with pytest.raises(Unavailable, match="100 large unrecognised"):
        await bring("one too many", LARGE_BYTES + 1, report=unclear(None))

    assert await bring("smaller", LARGE_BYTES) is Verdict.EARLY
    assert await bring("early 7", LARGE_BYTES + 1) is Verdict.EARLY
    await store.log_submission(submission("one too many"))
    assert await bring("one too many", LARGE_BYTES + 1) is Verdict.ACCEPTED
    await store.expire_early(later(1), 1)
    assert await bring("another", LARGE_BYTES + 1) is Verdict.EARLY
    await store.aclose()


async def test_large_bodies_that_come_again_are_bounded_like_new_ones(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), early_limit=1000))

    async def bring(name: str, seconds: int) -> Verdict:
        body = name.encode().ljust(LARGE_BYTES + 1, b" ")
        return (await store.record(recording(completed(name), body=body, received_at=later(seconds)))).status

    for number in range(100):
        await bring(f"first {number}", 0)
    assert await store.expire_early(later(1), 100) == 100
    for number in range(99):
        await bring(f"second {number}", 2)

    assert await bring("first 0", 3) is Verdict.EARLY
    with pytest.raises(Unavailable, match="100 large"):
        await bring("first 1", 3)
    assert await store._read(lambda db: db.execute("SELECT count(body) FROM deliveries").fetchone()) == (100,)
    await store.aclose()


async def test_ends_of_one_task_that_come_again_are_bounded_like_new_ones(tmp_path: Path) -> None:
    store = await SqliteStore.open("sqlite:receiver.db", replace(store_options(tmp_path), early_limit=1000))
    for number in range(20):
        await store.record(recording(failed("t1"), body=b"first %d" % number))
    assert await store.expire_early(later(1), 100) == 20
    for number in range(20):
        await store.record(recording(failed("t1"), body=b"second %d" % number, received_at=later(2)))

    with pytest.raises(Unavailable, match="20 other"):
        await store.record(recording(failed("t1"), body=b"first 0", received_at=later(3)))
    await store.aclose()


@pytest.mark.parametrize("count", [1, 64])
async def test_what_was_not_understood_is_found_by_its_task(store: SqliteStore, count: int) -> None:
    sql, values = OPEN_OF_TASK.of([("vidgo", "t1")] * count)
    plan = await store._read(lambda db: db.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall())

    assert "deliveries_key (provider=? AND task_id=?)" in plan[-1][-1]


async def test_what_waits_is_counted_without_reading_what_it_says(store: SqliteStore) -> None:
    await store.log_submission(submission("t1"))
    first, second = (recording(completed("t1"), body=body, weak=True) for body in (b"1", b"2"))

    statements = [*await traced(store, first), *await traced(store, second), *await traced(store, first)]

    assert sum("deliveries" in statement for statement in statements) == 3 + 3 + 3
    assert not any("json" in statement for statement in statements)


async def test_of_what_is_held_no_more_is_kept_twice_than_what_is_asked_of_it(store: SqliteStore) -> None:
    await store.record(recording(completed("t1", files=90), weak=True))
    await store.log_submission(submission("t1"))
    await store.record(recording(completed("t1", files=80), weak=True))

    sizes = await store._read(lambda db: db.execute("SELECT length(waiting) FROM deliveries").fetchall())

    assert len(sizes) == 2
    assert all(size < 100 for (size,) in sizes)


async def test_early_callbacks_that_an_older_receiver_kept_are_matched_all_the_same(
    store: SqliteStore,
) -> None:
    """It kept all that they said, of progress, too."""
    for report in (progress("t1"), failed("t1")):
        await store.record(recording(report))
    kept = msgspec.json.encode(replace(recording(progress("t1")), body=b"")).decode()
    await store._writer.write(
        lambda db: db.execute("UPDATE deliveries SET waiting = ? WHERE waiting IS NULL", (kept,))
    )

    await store.log_submission(submission("t1"))

    task = await store.get_task("vidgo", "t1")
    assert task is not None
    assert [delivery.verdict for delivery in task.deliveries] == [Verdict.PROGRESS, Verdict.ACCEPTED]


async def test_an_unowned_callback_whose_body_an_older_receiver_kept_is_as_good_as_new_when_it_comes_again(
    store: SqliteStore,
) -> None:
    await store.record(recording(completed("t1")))
    await store.record(recording(completed("t2")))
    await store.expire_early(later(1), 10)
    await store._writer.write(lambda db: db.execute("UPDATE deliveries SET body = x'00'"))

    await store.record(recording(completed("t1"), received_at=later(5)))

    rows = await store._read(
        lambda db: db.execute("SELECT number, task_id, verdict FROM deliveries ORDER BY number").fetchall()
    )
    assert rows == [(2, "t2", "unowned"), (3, "t1", "early")]
    assert await store.expire_early(later(4), 10) == 0


FEW_OF_MANY = 20_000


@pytest.mark.parametrize("hosts", [1, 3, 1000])
@pytest.mark.parametrize("outcome", [None, "timeout"])
async def test_files_that_are_due_are_found_without_a_look_at_those_that_wait(
    store: SqliteStore, hosts: int, outcome: str | None
) -> None:
    """Those wait for their time, or for a place: all of their hosts have what they may have."""
    attempts, due_at = ("i % 5", "2099") if outcome else ("0", "2020")

    def fill(db: Any) -> None:
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO assets (event, position, provider, host_hash, kind, outcome, attempts, due_at,"
            f" deadline_at) SELECT 1000 + i, 0, 'apixo', i % ?, 'image', ?, {attempts}, ?, '2020' FROM n",
            (FEW_OF_MANY, hosts, outcome, due_at),
        )

    await store._writer.write(fill)
    await store.log_submission(submission("t1"))
    await store.record(recording(completed("t1")))
    load = FetchLoad(running={("apixo", 0): 7}, most_of_provider=7)

    def count_steps(db: Any) -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        db.connection.set_progress_handler(step, 100)
        works = asset_leases.lease_assets(
            db, later(1), later(60), "lease", limit=8, retries_first=True, load=load, chance=0.0
        )
        due_at = asset_leases.next_due_at(db, load, 0.0)
        db.connection.set_progress_handler(None, 0)
        assert [work.task_id for work in works] == ["t1"]
        assert due_at == later(60)
        return steps

    # A look at each of them would take tens of thousands of steps.
    assert await store._writer.write(count_steps) < FEW_OF_MANY / 100


async def test_the_ways_to_files_are_searched_and_never_scanned(store: SqliteStore) -> None:
    queries = [
        asset_leases.NEXT_PROVIDER,
        asset_leases.NEXT_UNTRIED_HOST,
        asset_leases.NEXT_TRIED_HOST,
        asset_leases.UNTRIED,
        asset_leases.TRIED,
        asset_leases.UNTRIED_DUE_AT,
        asset_leases.TRIED_DUE_AT,
    ]
    values = {"provider": "vidgo", "host": 1, "now": "2026", "limit": 8, "tried": 1}
    for query in queries:
        plan = await store._read(
            lambda db, query=query: db.execute(  # type: ignore[misc]
                f"EXPLAIN QUERY PLAN {query}", values
            ).fetchall()
        )
        steps = [step[-1] for step in plan if "assets" in step[-1]]
        assert steps
        assert all(step.startswith("SEARCH assets USING") for step in steps), (query, plan)


async def test_files_on_more_hosts_than_one_look_considers_have_their_turn_all_the_same(
    store: SqliteStore,
) -> None:
    count = asset_leases.MOST_HOSTS + 10
    for number in range(count):
        await store.log_submission(submission(f"t{number}"))
        file = RemoteFile(url=f"https://host-{number}.test/x.png", kind="image")
        report = msgspec.structs.replace(completed(f"t{number}", files=0), files=(file,))
        await store.record(recording(report, links_die_at=later(10**6 - number)))
    tried: Counter[str] = Counter()
    recent: list[FetchShare] = []
    for _ in range(6 * count):
        (work,) = await store.lease_assets(later(1), later(60), 1, load=FetchLoad(recent=recent))
        tried[work.task_id] += 1
        recent.append((work.provider, work.host_hash))
        await store.settle_asset(work, settlement(Outcome.TIMEOUT, retry_at=later(1)))
    assert len(tried) == count
    assert min(tried.values()) >= 4


async def test_hosts_that_sent_files_lately_and_have_none_now_cost_a_lease_nothing(
    store: SqliteStore,
) -> None:
    async def statements(task_id: str, *, proven: int) -> int:
        await store.log_submission(submission(task_id))
        await store.record(recording(completed(task_id)))
        found: list[str] = []
        load = FetchLoad(proven=[("vidgo", host) for host in range(proven)])

        def lease(db: Any) -> list[AssetWork]:
            db.connection.set_trace_callback(found.append)
            leased = asset_leases.lease_assets(
                db, later(1), later(60), "lease", limit=4, retries_first=False, load=load, chance=0.0
            )
            db.connection.set_trace_callback(None)
            return leased

        (work,) = await store._writer.write(lease)
        await store.settle_asset(work, settlement(Outcome.NOT_AN_IMAGE))
        return len(found)

    assert await statements("t1", proven=0) == await statements("t2", proven=20)


def words_of(statement: str) -> str:
    """What a statement does, and to which table."""
    table = re.search(r"\b(submissions|events|assets|links|deliveries)\b", statement)
    assert table is not None
    return f"{statement.split(maxsplit=1)[0].replace('WITH', 'SELECT')} {table[0]}"


async def test_a_callback_that_ends_its_task_costs_one_read_and_four_writes(store: SqliteStore) -> None:
    await store.log_submission(submission("t1"))

    statements = await traced(store, recording(completed("t1")))

    assert [words_of(statement) for statement in statements] == [
        "SELECT submissions",
        "INSERT events",
        "INSERT assets",
        "INSERT links",
        "INSERT deliveries",
    ]


async def test_callbacks_that_come_together_are_read_about_together(store: SqliteStore) -> None:
    for number in range(50):
        await store.log_submission(submission(f"t{number}"))

    statements = await traced(store, *(recording(completed(f"t{number}")) for number in range(50)))

    assert Counter(map(words_of, statements)) == {
        "SELECT submissions": 1,
        "INSERT events": 50,
        "INSERT assets": 50,
        "INSERT links": 50,
        "INSERT deliveries": 50,
    }


async def test_what_waits_for_confirmation_is_found_without_reading_what_does_not(
    store: SqliteStore,
) -> None:
    plan = await store._read(
        lambda db: db.execute(
            f"EXPLAIN QUERY PLAN {polls.DUE_HELD}", {"provider": "vidgo", "now": "9", "most": 1}
        ).fetchall()
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


def test_sqlite_utils_is_imported_where_something_is_to_be_migrated_and_nowhere_else(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from receiver.stores.sqlite.migrations import migrate;"
        "print(len(migrate(Path(sys.argv[1]))) > 0, 'sqlite_utils' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "receiver.db")]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))

    assert (first.stdout, second.stdout) == ("True True\n", "False False\n")


async def test_tasks_of_a_file_from_before_there_were_polls_are_asked_about(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "receiver.db")
    migrations.apply(connection, stop_before="m003_polls")
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

    store = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

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

    with pytest.raises(Misconfigured, match="is damaged"):
        migrate(path)


async def test_a_database_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "receiver.db").mkdir()

    with pytest.raises(Misconfigured):
        await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))


async def test_nobody_else_may_read_the_record(store: SqliteStore, tmp_path: Path) -> None:
    await store.log_submission(submission("t1"))

    modes = {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()}

    assert set(modes) >= {"receiver.db", "receiver.db-wal", "receiver.db.lock"}
    assert set(modes.values()) == {0}


async def test_a_bug_in_one_write_stops_neither_its_neighbours_nor_the_writer(store: SqliteStore) -> None:
    def buggy(db: Any) -> None:
        raise ZeroDivisionError

    results = await asyncio.gather(store._writer.write(buggy), store.ping(), return_exceptions=True)

    assert isinstance(results[0], ZeroDivisionError)
    assert results[1] is None
    await store.ping()


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(Misconfigured, match="cannot be written"):
        await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path / "file" / "data"))


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
    store = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))
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


@pytest.mark.parametrize(
    ("came", "shown"),
    [
        ("plain", "plain"),
        ('an \\ "é" 画 🦊', 'an \\ "é" 画 🦊'),
        ("\x1b[2J", r"\u001b[2J"),
        ("\u009b31m", r"\u009b31m"),
        ("\x7f\u0080\u009f\u00a0", "\\u007f\\u0080\\u009f\u00a0"),
        ("\u061c\u200f\u2028\u202e\u2066\u2069", r"\u061c\u200f\u2028\u202e\u2066\u2069"),
        ('one\ntwo "\\"', r"one\ntwo \"\\\""),
        ("nul\0 and \x1b[2J", r"nul\u0000 and \u001b[2J"),
    ],
    ids=ascii,
)
async def test_the_views_in_the_file_move_no_cursor_and_the_tables_keep_what_came(
    store: SqliteStore, tmp_path: Path, came: str, shown: str
) -> None:
    path = tmp_path / "receiver.db"
    one = replace(submission(f"t{came}"), owner=came, model=came)
    await store.log_submission(one)
    await store.record(recording(failed(f"t{came}")))
    db = Database(sqlite3.connect(path, isolation_level=None))
    db.execute("UPDATE events SET error_code = ?, error_message = ?", (came, came))

    (task,) = db.query("SELECT * FROM tasks")
    history = list(db.query("SELECT * FROM task_timeline"))
    (kept,) = db.query("SELECT task_id, owner FROM submissions")
    printed = [
        subprocess.run(
            [sys.executable, "-m", "sqlite_utils", "rows", str(path), view, "--table"],
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout.decode()
        for view in ("tasks", "task_timeline")
    ]

    columns = ("task_id", "owner", "model", "error_code", "error_message")
    assert [task[name] for name in columns] == [f"t{shown}", shown, shown, shown, shown]
    assert {row["task_id"] for row in history} == {f"t{shown}"}
    assert history[0]["detail"] == f"logged for {shown}"
    assert [row["what"] for row in history] == ["submission", "delivery", "event"]
    assert kept == {"task_id": f"t{came}", "owner": came}
    assert all(text.replace("\n", "").replace("\u00a0", "").isprintable() for text in printed)
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


async def test_a_refused_early_callback_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    """Told by SQLite's own steps, not by the clock."""
    steps = []
    for waiting in (3, 300):
        folder = tmp_path / str(waiting)
        store = await SqliteStore.open(
            "sqlite:r.db", msgspec.structs.replace(store_options(folder), early_limit=waiting)
        )
        for number in range(waiting):
            await store.record(recording(failed(f"t{number}")))
        counted: list[int] = []

        def watch(db: Any, counted: list[int] = counted) -> None:
            db.connection.set_progress_handler(lambda: counted.append(1), 10)

        await store._writer.write(watch)
        with pytest.raises(Unavailable):
            await store.record(recording(failed("one more")))
        await store.aclose()
        steps.append(len(counted))
    assert steps[1] <= 1.5 * steps[0]
