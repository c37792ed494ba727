"""A lease is freed by its holder's name: what a process left behind is, what another one holds is not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiver.models import Stage
from receiver.options import StoreOptions
from receiver.record.cursor import Cursor
from receiver.record.leases import EVERYBODY, lease_name
from receiver.record.store import free_leases
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock
from tests.contracts.replaying import replay, start_replay
from tests.contracts.store import ROUTES
from tests.support.factories import completed, failed, later, recording, submission

TABLES = ("assets", "outbox", "polls", "replays")
GONE, ALIVE = "process_1", "process_10"  # one name is the beginning of the other


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    options = StoreOptions(
        data_dir=tmp_path, clock=TurnableClock(), routes=ROUTES, first_poll_seconds={"vidgo": 0}
    )
    store = await SqliteStore.open("sqlite:receiver.db", options)
    yield store
    await store.aclose()


async def hold_one_of_everything(store: SqliteStore, holder: str) -> None:
    """A file, a notification, a question and a replay, leased by one holder."""
    for name, report in (("file", completed), ("told", failed)):
        await store.log_submission(submission(f"{holder}-{name}"))
        await store.record(recording(report(f"{holder}-{name}")))
    await store.log_submission(submission(f"{holder}-open"))
    started = await start_replay(store, replay(Stage.NOTIFY))
    assert (await store.get_replay(started.id)) is not None
    store._holder = holder
    assert len(await store.lease_assets(later(1), later(10**6), 10)) == 1
    assert len(await store.lease_outbox("all", later(1), later(10**6), 10)) == 1
    assert len(await store.lease_polls("vidgo", later(1), later(10**6), 10)) == 1
    assert len(await store.lease_replays(later(101), later(10**6), 10)) == 1


def holders(db: Cursor) -> dict[str, set[str]]:
    return {
        table: {
            name.partition("/")[0]
            for (name,) in db.execute(f"SELECT lease FROM {table} WHERE lease IS NOT NULL")
        }
        for table in TABLES
    }


async def test_only_the_leases_of_whom_is_named_are_freed(store: SqliteStore) -> None:
    for holder in (GONE, ALIVE):
        await hold_one_of_everything(store, holder)

    def free(db: Cursor, holder: str) -> dict[str, set[str]]:
        free_leases(db, later(200), holder)
        return holders(db)

    assert await store._writer.write(holders) == {table: {GONE, ALIVE} for table in TABLES}
    assert await store._writer.write(lambda c: free(c, f"{GONE}/")) == {table: {ALIVE} for table in TABLES}
    assert await store.lease_assets(later(199), later(300), 10) == []
    assert len(await store.lease_assets(later(200), later(300), 10)) == 1
    assert await store._writer.write(lambda c: free(c, EVERYBODY)) == {table: set() for table in TABLES}


async def test_two_lives_of_a_process_are_two_holders(tmp_path: Path) -> None:
    clock = TurnableClock()
    seen = set()
    for life in (1, 2):
        store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=tmp_path, clock=clock))
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        (work,) = await store.lease_assets(later(life), later(10**6), 10)  # at once, for the lock is ours
        seen.add(work.lease.partition("/")[0])
        await store.aclose()
    assert len(seen) == 2


def test_a_lease_begins_with_its_holder() -> None:
    assert lease_name("process_1", "lease_2") == "process_1/lease_2"
