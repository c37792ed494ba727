"""Reads that take long: whom they hold up, and how they end."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.options import StoreOptions
from receiver.record import readers
from receiver.record.readers import THREADS, Purpose, Readers
from receiver.stores.sqlite import SqliteStore
from receiver.stores.sqlite.connections import SqliteReads
from tests.support.factories import completed, recording, submission
from tests.support.waiting import until

# A scan of a table that has grown for years, and longer.
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=folder, clock=Clock()))
    try:
        yield store
    finally:
        await store.aclose()


class Scan:
    """A list without an end."""

    def __init__(self, store: SqliteStore, purpose: Purpose = Purpose.LIST) -> None:
        self.began = self.ended = False
        self.task = asyncio.create_task(store._read(self._run, purpose))

    def _run(self, db: object) -> None:
        self.began = True
        try:
            db.execute(ENDLESS).fetchone()  # type: ignore[attr-defined]
        finally:
            self.ended = True


@asynccontextmanager
async def scanned(folder: Path) -> AsyncIterator[tuple[SqliteStore, list[Scan]]]:
    """A store of which more lists are asked than it has threads for; closed at the end."""
    async with opened(folder) as store:
        scans = [Scan(store) for _ in range(8)]
        await until(lambda: sum(scan.began for scan in scans) == THREADS[Purpose.LIST])
        yield store, scans
    await asyncio.gather(*(scan.task for scan in scans), return_exceptions=True)


async def test_neither_loops_nor_look_ups_wait_behind_lists(tmp_path: Path) -> None:
    async with scanned(tmp_path) as (store, scans), asyncio.timeout(30):
        await store.log_submission(submission("t1"))
        assert await store.next_due_at("assets") is None
        assert await store.get_verdicts("vidgo", "t1") == frozenset()
        await store.record(recording(completed("t1")))
        assert await store.get_event("vidgo", "t1")  # as whoever fetches a file asks
        assert await store.get_task("vidgo", "t1")
        assert (await store.count_stats()).tasks == {"fetching": 1}
        assert not any(scan.ended for scan in scans)


async def test_a_list_whose_reader_left_ends_and_no_other_with_it(tmp_path: Path) -> None:
    async with scanned(tmp_path) as (_, scans), asyncio.timeout(30):
        first, second = [scan for scan in scans if scan.began]
        waiting = [scan for scan in scans if not scan.began]

        first.task.cancel()
        await until(lambda: first.ended and waiting[0].began)
        assert not second.ended

        for scan in waiting:
            scan.task.cancel()
        await asyncio.gather(*(scan.task for scan in waiting), return_exceptions=True)
        assert [scan.began for scan in waiting] == [True] + [False] * (len(waiting) - 1)
        assert not second.ended


async def test_a_list_that_takes_too_long_ends_as_unavailable_and_says_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MOST_SECONDS", 0.1)
    async with opened(tmp_path) as store:
        scan = Scan(store)
        with pytest.raises(Unavailable) as late:
            await scan.task
        assert late.value.retry_after_seconds
        await until(lambda: scan.ended)


async def test_a_read_that_is_ended_in_the_middle_holds_no_moment_of_the_record(tmp_path: Path) -> None:
    """Its snapshot would keep the write-ahead log from ever being begun anew."""
    async with opened(tmp_path) as store:

        def in_one_moment(db: object) -> None:
            db.execute("BEGIN")  # type: ignore[attr-defined]
            db.execute(ENDLESS).fetchone()  # type: ignore[attr-defined]

        task = asyncio.create_task(store._read(in_one_moment, Purpose.WORK))
        await asyncio.sleep(0.05)
        task.cancel()

        def is_left_open(db: Any) -> bool:
            return bool(db.connection.in_transaction)

        assert await store._read(is_left_open, Purpose.WORK) is False


async def test_closing_waits_for_no_read_and_each_ends_as_unavailable(tmp_path: Path) -> None:
    async with asyncio.timeout(30), scanned(tmp_path) as (store, scans):
        pass
    ends = await asyncio.gather(*(scan.task for scan in scans), return_exceptions=True)
    assert {type(end) for end in ends} == {Unavailable}
    with pytest.raises(Unavailable):
        await store.next_due_at("assets")


async def test_a_read_whose_connection_cannot_be_opened_ends_as_unavailable(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        (tmp_path / "receiver.db").rename(tmp_path / "away.db")
        with pytest.raises(Unavailable, match=r"cannot be read now \(SQLITE_CANTOPEN"):
            await store.get_submission("sub_1")
        (tmp_path / "away.db").rename(tmp_path / "receiver.db")
        assert await store.get_submission("sub_1") is None


async def test_what_nobody_waits_for_any_more_when_its_thread_is_ready_is_not_begun(tmp_path: Path) -> None:
    connecting, may_connect = threading.Event(), threading.Event()
    began: list[bool] = []

    def connect() -> SqliteReads:
        connecting.set()
        may_connect.wait(10)
        return SqliteReads(tmp_path / "receiver.db", 1)

    async with opened(tmp_path):
        reads = Readers(connect, lambda _: None)
        try:
            left = asyncio.create_task(reads.read(lambda _: began.append(True), Purpose.LIST))
            await until(connecting.is_set)
            left.cancel()
            await asyncio.wait([left])
            may_connect.set()
        finally:
            await reads.aclose()
    assert began == []
