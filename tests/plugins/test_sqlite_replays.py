"""Replays in the SQLite store: the contract, and what is special to a file."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.models import EventType, Outcome, ReplayState, Route, Stage, TaskState, WorkFilter
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.record import replays
from receiver.stores.sqlite import SqliteStore
from tests.contracts.opening import store_options
from tests.contracts.replaying import (
    end_task,
    end_with_files,
    get,
    lease,
    make_step,
    publish,
    replay,
    start_replay,
    step_replay,
)
from tests.contracts.store import ROUTES, OpenStore
from tests.contracts.store_polls import FIRST_POLL_SECONDS
from tests.contracts.store_replays import ReplaysContract
from tests.support.factories import failed, later, recording, submission


@pytest.fixture
def open_store(tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))

    return open_store


class TestSqliteReplays(ReplaysContract):
    """What is done again."""


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    store = await open_store()
    yield store
    await store.aclose()


def run(folder: Path, statement: str) -> list[tuple[object, ...]]:
    """What a person does with the file while it is in use."""
    with closing(sqlite3.connect(folder / "receiver.db")) as connection:
        rows = connection.execute(statement).fetchall()
        connection.commit()
        return rows


async def test_what_a_replay_would_ask_is_counted_as_such_once_the_key_is_taken_away(tmp_path: Path) -> None:
    def options(unpolled: dict[str, str]) -> StoreOptions:
        return StoreOptions(
            data_dir=tmp_path,
            clock=Clock(),
            routes=ROUTES,
            first_poll_seconds=FIRST_POLL_SECONDS,
            unpolled=unpolled,
        )

    store = await SqliteStore.open("sqlite:receiver.db", options({}))
    await store.log_submission(submission("t1"))
    started = await start_replay(store, replay(Stage.POLL))
    await make_step(store, 200)
    await store.aclose()

    store = await SqliteStore.open("sqlite:receiver.db", options({"vidgo": "no key is set"}))
    done = await store.get_replay(started.id)
    await store.aclose()

    assert done is not None
    assert (done.state, done.results) == (ReplayState.DONE, {"unpolled": 1})


async def test_a_step_that_fails_half_way_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    for number in range(4):
        await end_task(store, f"t{number}")
    started = await start_replay(store, replay(Stage.NOTIFY))
    work = await lease(store, 200)
    run(
        tmp_path,
        """
        CREATE TRIGGER full BEFORE INSERT ON outbox WHEN NEW.event = (SELECT max(number) FROM events)
        BEGIN SELECT RAISE(ABORT, 'disk full'); END
        """,
    )

    with pytest.raises(Unavailable):
        await step_replay(store, work, 100, later(201), later(201))

    assert await publish(store, "all", at=202) == []
    assert await get(store, started.id) == started
    run(tmp_path, "DROP TRIGGER full")
    await make_step(store, 261)
    assert len(await publish(store, "all", at=262)) == 4


@pytest.mark.parametrize("rate", [0.0, 1e-12])
async def test_a_rate_of_nothing_is_refused_by_the_record(store: Store, rate: float) -> None:
    with pytest.raises(Unavailable):
        await start_replay(store, replay(Stage.NOTIFY, rate=rate))
    assert await store.list_replays(10) == []


# --- back-pressure ----------------------------------------------------------------------------------------


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "MOST_UNSETTLED", 4)


async def step_while_due(store: Store, replay_id: str, *, at: float) -> int:
    """Steps of three until it has to wait; how much it has looked at."""
    while works := await store.lease_replays(later(at), later(at + 60), 10):
        assert await step_replay(store, works[0], 3, later(at), later(at))
    return (await get(store, replay_id)).looked_at


@pytest.mark.usefixtures("few_at_once")
async def test_a_sink_that_is_down_does_not_hold_up_what_a_replay_has_for_the_others(store: Store) -> None:
    for number in range(20):
        await end_task(store, f"t{number}")
    started = await start_replay(store, replay(Stage.NOTIFY))

    got = 0
    for second in range(10):
        await step_while_due(store, started.id, at=200 + second)
        got += len(await publish(store, "all", at=200 + second))

    assert got == 20
    assert (await get(store, started.id)).state is ReplayState.RUNNING  # "failures" takes none
    assert len(await publish(store, "failures", at=300)) == 20
    assert (await get(store, started.id)).state is ReplayState.DONE


@pytest.mark.usefixtures("few_at_once")
async def test_a_replay_waits_where_every_sink_is_behind_and_says_when_it_looks_again(store: Store) -> None:
    for number in range(20):
        await end_task(store, f"t{number}")
    started = await start_replay(store, replay(Stage.NOTIFY))

    assert await step_while_due(store, started.id, at=200) == 6
    assert await store.next_due_at("replays") == later(200.25)
    assert await step_while_due(store, started.id, at=201) == 6

    await publish(store, "failures", at=202, limit=2)
    assert await step_while_due(store, started.id, at=203) == 9


@pytest.mark.usefixtures("few_at_once")
async def test_a_dead_sink_does_not_hold_up_a_sink_whose_first_event_of_a_replay_is_still_to_come(
    store: Store,
) -> None:
    for number in range(20):
        await end_with_files(store, f"t{number:02}", Outcome.STORED)  # for "all", which is dead
    await end_task(store, "failed")
    started = await start_replay(store, replay(Stage.NOTIFY))

    await step_while_due(store, started.id, at=200)

    assert [work.event.task_id for work in await publish(store, "failures", at=200)] == ["failed"]


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize(
    ("wanted", "sinks"),
    [
        (WorkFilter(type=EventType.COMPLETED), ()),
        (WorkFilter(state=TaskState.COMPLETED), ()),
        (WorkFilter(), ("all",)),
    ],
)
async def test_a_sink_that_can_get_none_of_a_replay_is_not_the_one_that_is_least_behind(
    store: Store, wanted: WorkFilter, sinks: tuple[str, ...]
) -> None:
    for number in range(20):
        await end_with_files(store, f"t{number}", Outcome.STORED)
    started = await start_replay(store, replay(Stage.NOTIFY, wanted, sinks=sinks))

    assert await step_while_due(store, started.id, at=200) == 6


async def test_looking_who_is_behind_is_served_by_an_index(store: Store, tmp_path: Path) -> None:
    values = {"id": "rpl_1", "sink": "all", "limit": 9}
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {replays.WAITING_AT}", values)]

    looks = [line for line in plan if "outbox" in line]
    assert looks
    assert all("COVERING INDEX outbox_replayed" in line for line in looks)


# --- sinks that are not set any more ----------------------------------------------------------------------


async def reopen(folder: Path, *sinks: str) -> Store:
    options = StoreOptions(data_dir=folder, clock=Clock(), routes=[Route(sink=sink) for sink in sinks])
    return await SqliteStore.open("sqlite:receiver.db", options)


async def test_what_a_replay_has_for_a_sink_that_is_gone_is_taken_back_at_the_next_start(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = await open_store()
    for number in range(3):
        await end_task(store, f"t{number}")
    await store.log_submission(submission("live"))
    await store.record(recording(failed("live")))
    started = await start_replay(store, replay(Stage.NOTIFY, WorkFilter(task_ids=("t0", "t1", "t2"))))
    await make_step(store, 200)
    await store.lease_outbox("failures", later(200), later(260), 1)
    await store.aclose()

    again = await reopen(tmp_path, "all")

    running = await get(again, started.id)
    assert (running.settled, running.results) == (3, {"withdrawn": 3})
    assert len(await publish(again, "all", at=10**9)) == 4
    done = await get(again, started.id)
    assert (done.state, done.results) == (ReplayState.DONE, {"withdrawn": 3, "delivered": 3})
    # What was to be told anyway stays: the sink may come back.
    assert (await again.count_stats()).outbox["failures"]["not_set"] == 1
    await again.aclose()


async def test_a_replay_that_was_waiting_for_such_a_sink_alone_ends_at_the_next_start(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = await open_store()
    await end_task(store, "t1")
    started = await start_replay(store, replay(Stage.NOTIFY, sinks=("failures",)))
    await make_step(store, 200)
    await store.aclose()

    again = await reopen(tmp_path, "all")

    assert (await get(again, started.id)).state is ReplayState.DONE
    await again.aclose()


async def test_a_replay_queues_nothing_for_a_sink_that_was_named_and_is_gone(
    open_store: OpenStore, tmp_path: Path
) -> None:
    store = await open_store()
    await end_task(store, "t1")
    started = await start_replay(store, replay(Stage.NOTIFY, sinks=("failures", "all")))
    await store.aclose()
    again = await reopen(tmp_path, "all")

    await make_step(again, 200)

    assert (await get(again, started.id)).queued == 1
    await again.aclose()
