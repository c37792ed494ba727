"""The write-ahead log beside those who read for long, in this process and in others."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from receiver.clock import Clock
from receiver.models import TaskFilter
from receiver.options import StoreOptions
from receiver.record.readers import Purpose
from receiver.stores.sqlite import SqliteStore, wal
from receiver.stores.sqlite.wal import LONG_BYTES, log_bytes
from tests.support.factories import completed, recording, submission
from tests.support.missing import missing
from tests.support.waiting import until

BODY_BYTES = 2**20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=tmp_path, clock=Clock()))
    yield store
    await store.aclose()


async def record(store: SqliteStore, name: str) -> float:
    """A large callback; the seconds until it was answered."""
    await store.log_submission(submission(name))
    began = time.perf_counter()
    await store.record(recording(completed(name), body=bytes(BODY_BYTES)))
    return time.perf_counter() - began


def read_for_a_while(db: Any) -> None:
    """As a list does that has to look at much."""
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM submissions").fetchone()
    time.sleep(0.1)
    db.execute("COMMIT")


async def test_the_log_stays_short_while_one_list_begins_before_another_has_ended(
    store: SqliteStore, tmp_path: Path
) -> None:
    ended = 0

    async def ask_for_lists(first_after: float) -> None:
        nonlocal ended
        await asyncio.sleep(first_after)
        while True:
            await store._read(read_for_a_while, Purpose.LIST)
            ended += 1

    lists = [asyncio.create_task(ask_for_lists(after)) for after in (0, 0.05, 0.07)]
    longest = 0
    for number in range(4 * LONG_BYTES // BODY_BYTES):
        await record(store, f"t{number}")
        longest = max(longest, log_bytes(tmp_path / "receiver.db"))
    before = ended
    await until(lambda: ended > before)  # they go on
    for each in lists:
        each.cancel()
    await asyncio.gather(*lists, return_exceptions=True)

    assert LONG_BYTES < longest < 2 * LONG_BYTES
    assert (await store.count_stats()).wal_bytes == log_bytes(tmp_path / "receiver.db")


async def test_beside_another_program_that_reads_for_long_nobody_waits_long(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "PATIENCE_SECONDS", 0)
    path = tmp_path / "receiver.db"
    await record(store, "first")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM submissions").fetchone()
        for number in range(LONG_BYTES // BODY_BYTES + 8):
            await record(store, f"t{number}")
        assert log_bytes(path) > LONG_BYTES
        waits = []
        async with asyncio.timeout(20):
            for number in range(3):
                page = await store.list_tasks(TaskFilter(), 5, None)
                waits.append(await record(store, f"u{number}"))
                assert len(page.tasks) == 5
        assert log_bytes(path) > LONG_BYTES
        assert max(waits) < 3  # the time for which a checkpoint that insists would have held it up
        other.rollback()

    async def is_short() -> bool:
        await store.list_tasks(TaskFilter(), 5, None)
        return log_bytes(path) <= LONG_BYTES

    await until(is_short)


async def test_beside_litestream_the_log_is_kept_short_holding_up_nobody_and_all_is_copied(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real one. A checkpoint that insists would hold up every write for seconds, in vain."""
    monkeypatch.setattr(wal, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(wal, "LONG_BYTES", 2 * BODY_BYTES)
    path, copied = tmp_path / "receiver.db", f"file://{tmp_path}/copied"
    program = shutil.which("litestream", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        missing("litestream is not installed (the test extra has it)")
    waits, longest = [], 0
    with subprocess.Popen([program, "replicate", str(path), copied], stdout=subprocess.DEVNULL) as litestream:
        await until(lambda: list(tmp_path.glob(".receiver.db-litestream/ltx/0/*")))
        for number in range(32):
            await store.list_tasks(TaskFilter(), 5, None)
            waits.append(await record(store, f"t{number}"))
            longest = max(longest, log_bytes(path))
            await asyncio.sleep(0.1)  # Litestream looks once a second: so what came since is a third
        litestream.terminate()
        assert await asyncio.to_thread(litestream.wait, 20) == 0
    subprocess.run([program, "restore", "-o", str(tmp_path / "again.db"), copied], check=True)

    assert max(waits) < 3
    assert longest < 24 * BODY_BYTES
    with closing(sqlite3.connect(tmp_path / "again.db")) as again:
        assert again.execute("SELECT count(*) FROM deliveries").fetchone() == (32,)
