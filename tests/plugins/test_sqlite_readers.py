"""Reads that take long: whom they hold up, and how they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from tests.factories import submission

# A scan of a table that has grown for years, and longer.
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@asynccontextmanager
async def scanned(folder: Path) -> AsyncIterator[tuple[SqliteStore, list[asyncio.Task[None]]]]:
    """A store of which more is asked than it has threads for; closed at the end."""
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=folder, clock=Clock()))

    async def scan() -> None:
        await store._read(lambda db: db.execute(ENDLESS).fetchone())

    scans = [asyncio.create_task(scan()) for _ in range(8)]
    await asyncio.sleep(0.1)
    try:
        yield store, scans
    finally:
        await store.aclose()
        await asyncio.gather(*scans, return_exceptions=True)


async def test_no_loop_waits_behind_slow_reads_to_learn_what_is_due(tmp_path: Path) -> None:
    async with scanned(tmp_path) as (store, scans), asyncio.timeout(5):
        await store.log_submission(submission("t1"))
        assert await store.next_due_at("assets") is None
        assert await store.get_verdicts("vidgo", "t1") == frozenset()
        assert not any(scan.done() for scan in scans)


async def test_closing_waits_for_no_read_and_each_ends_as_unavailable(tmp_path: Path) -> None:
    async with asyncio.timeout(5), scanned(tmp_path) as (store, scans):
        pass
    ends = await asyncio.gather(*scans, return_exceptions=True)
    assert {type(end) for end in ends} == {Unavailable}
    with pytest.raises(Unavailable):
        await store.next_due_at("assets")
