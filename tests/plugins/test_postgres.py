"""The PostgreSQL store: the contracts, and what is special to a server."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from receiver.errors import Unavailable
from receiver.models import Report, ReportState, Verdict
from receiver.ports import Store
from receiver.record.cursor import Cursor
from receiver.record.writer import Work, Writer
from receiver.stores.postgres import PostgresStore
from receiver.stores.postgres.connections import WRITING, Database, PostgresWrites
from tests.contracts.opening import store_options
from tests.contracts.store import OpenStore, StoreContract
from tests.contracts.store_announced import AnnouncedContract
from tests.contracts.store_backlog import BacklogContract
from tests.contracts.store_kills import KillsContract, Left, OpenObserved
from tests.contracts.store_lists import ListsContract, OpenWith
from tests.contracts.store_polls import PollsContract
from tests.contracts.store_replays import ReplaysContract
from tests.contracts.store_shares import SharesContract
from tests.contracts.store_time_series import TimeSeriesContract
from tests.support.factories import completed, recording, submission
from tests.support.pooler import pooler
from tests.support.postgres import ScratchRecord, scratch_database, slow_down_flushes
from tests.support.waiting import until


@pytest.fixture
def open_store(postgres_record: ScratchRecord, tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await PostgresStore.open(postgres_record.url, store_options(tmp_path))

    return open_store


class Server(Left):
    """It outlives its clients: what is committed is what another connection sees."""

    def __init__(self, record: ScratchRecord) -> None:
        super().__init__()
        self._connection = record.connect()

    def find(self, *queries: str) -> list[list[Any]]:
        return [self._connection.execute(query.encode()).fetchall() for query in queries]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def left(postgres_record: ScratchRecord) -> Iterator[Server]:
    with closing(Server(postgres_record)) as server:
        yield server


@pytest.fixture
def open_observed(postgres_record: ScratchRecord, tmp_path: Path) -> OpenObserved:
    async def open_observed(observe: Callable[[int, float], None]) -> Store:
        options = replace(store_options(tmp_path), observe=observe)
        return await PostgresStore.open(postgres_record.url, options)

    return open_observed


class TestPostgresStore(StoreContract):
    """What is kept, and how it ends."""


class TestPostgresAnnounced(AnnouncedContract):
    """What is followed."""


class TestPostgresBacklog(BacklogContract):
    """What waits is counted."""


class TestPostgresTimeSeries(TimeSeriesContract):
    """What happened over time adds up."""


@pytest.mark.slow
class TestPostgresShares(SharesContract):
    """Whose files are fetched next."""


class TestPostgresPolls(PollsContract):
    """What is asked of providers."""


@pytest.mark.slow
class TestPostgresReplays(ReplaysContract):
    """What is done again."""


@pytest.fixture
def open_with(postgres_record: ScratchRecord, tmp_path: Path) -> OpenWith:
    async def open_with(keys: tuple[str, ...]) -> Store:
        options = replace(store_options(tmp_path), metadata_keys=keys)
        return await PostgresStore.open(postgres_record.url, options)

    return open_with


class TestPostgresLists(ListsContract):
    """What is shown, page by page."""


class TestPostgresKills(KillsContract):
    """What is committed, and when that is said."""


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[str]:
    """The URL of a database behind a pooler."""
    with scratch_database() as url, pooler(url, tmp_path) as through:
        yield through


async def test_behind_a_pooler_whose_connections_change_all_is_kept(pooled: str, tmp_path: Path) -> None:
    stores = [await PostgresStore.open(pooled, store_options(tmp_path)) for _ in range(2)]
    for number in range(8):  # each statement more often than one is run before it is prepared
        tasks = [f"t{number}-{place}" for place in range(4)]
        await asyncio.gather(*(stores[0].log_submission(submission(task)) for task in tasks))
        told = [stores[place % 2].record(recording(completed(task))) for place, task in enumerate(tasks)]
        receipts = await asyncio.gather(*told)
        assert {receipt.status for receipt in receipts} == {Verdict.ACCEPTED}
        assert await stores[1].get_event("vidgo", tasks[0]) is not None
    for store in stores:
        await store.aclose()


async def test_what_comes_together_is_kept_in_its_order_and_to_the_letter(
    postgres_record: ScratchRecord, tmp_path: Path
) -> None:
    store = await PostgresStore.open(postgres_record.url, store_options(tmp_path))
    task, states = "t\0\U0010ffff", ["a\0b", "\U0010ffff", "\U0010ffff0\0", "ü"]
    reports = [
        Report(task_id=task, state=ReportState.PROGRESS, provider_state=state, note=state) for state in states
    ]
    await store.log_submission(submission(task))

    said = [recording(each, body=b"\0%d" % number) for number, each in enumerate(reports)]
    await asyncio.gather(*map(store.record, said))

    page = await store.list_deliveries("vidgo", task, 10, None)
    assert page is not None
    assert [row.provider_state for row in reversed(page.rows)] == states
    assert [row.note for row in reversed(page.rows)] == states
    await store.aclose()


async def test_a_transaction_that_an_error_has_ended_is_not_taken_for_committed() -> None:
    def swallow(db: Cursor) -> str:
        with suppress(psycopg.Error):
            db.execute("SELECT 1 / 0").fetchone()
        return "all is well"

    with scratch_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE SCHEMA receiver")
        writer = Writer(await asyncio.to_thread(PostgresWrites, Database(url)), None)

        with pytest.raises(Unavailable, match="InFailedSqlTransaction 25P02"):
            await writer.write(swallow)
        await writer.aclose()


async def test_a_change_that_turns_out_bad_at_the_commit_hurts_nobody_elses() -> None:
    with scratch_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute(
                "CREATE SCHEMA receiver CREATE TABLE notes (note TEXT NOT NULL, number BIGINT)"
            )
        writer = Writer(PostgresWrites(Database(url)), None)

        def keep(note: str | None) -> Work[Cursor]:
            return lambda db: db.executemany("INSERT INTO notes (note, number) VALUES (?, ?)", [(note, None)])

        ends = await asyncio.gather(
            *(writer.write(keep(note)) for note in ("a", None, "b")), return_exceptions=True
        )

        assert [isinstance(end, Unavailable) for end in ends] == [False, True, False]
        assert await writer.write(lambda db: db.execute("SELECT note FROM notes").fetchall()) == [
            ("a",),
            ("b",),
        ]
        await writer.aclose()


async def test_others_may_write_while_a_commit_is_being_flushed() -> None:
    with scratch_database() as url, psycopg.connect(url, autocommit=True) as other:
        other.execute("CREATE SCHEMA receiver CREATE TABLE notes (note INTEGER)")
        slow_down_flushes(url, milliseconds=100)
        writer = Writer(await asyncio.to_thread(PostgresWrites, Database(url)), None)

        for note in range(20):  # on a busy machine it may be over before it is seen
            writing = asyncio.create_task(writer.write(keep_note(note)))
            await until(partial(is_kept, other, note))
            may_write = other.execute(f"SELECT pg_try_advisory_xact_lock({WRITING}, hashtext('receiver'))")
            found = may_write.fetchone() == (True,) and not writing.done()
            await writing
            if found:
                break
        await writer.aclose()
        assert found


async def test_whatever_is_answered_is_on_the_disk_also_what_another_process_has_just_committed() -> None:
    with scratch_database() as url, psycopg.connect(url, autocommit=True) as other:
        other.execute("CREATE SCHEMA receiver CREATE TABLE notes (note INTEGER)")
        other.execute("SET synchronous_commit = off")
        writer = Writer(await asyncio.to_thread(PostgresWrites, Database(url)), None)
        for note in range(5):
            other.execute("INSERT INTO receiver.notes VALUES (%s)", (note,))
            committed = other.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
            await writer.write(look_at_notes if note % 2 else keep_note(100 + note))
            flushed = other.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", committed).fetchone()
            assert flushed == (True,)
        await writer.aclose()


def look_at_notes(db: Cursor) -> list[Any]:
    return list(db.execute("SELECT note FROM notes").fetchall())


def keep_note(note: int) -> Work[Cursor]:
    return lambda db: db.execute("INSERT INTO notes VALUES (?)", (note,))


def is_kept(connection: psycopg.Connection, note: int) -> bool:
    return bool(connection.execute("SELECT 1 FROM receiver.notes WHERE note = %s", (note,)).fetchone())
