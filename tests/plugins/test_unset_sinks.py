"""Entries of sinks that were renamed or removed: counted apart, moved or dropped, never sent twice."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from receiver.models import Moved, OutboxState, Outcome, Route, Stage
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.record import unset_sinks
from receiver.testing import TurnableClock
from tests.contracts.replaying import (
    end_with_files,
    make_step,
    publish,
    replay,
    start_replay,
    step_replay,
    task_of,
)
from tests.support.engines import ENGINES, place_on
from tests.support.factories import failed, later, recording, stored, submission

OpenWith = Callable[..., Awaitable[Store]]


@pytest.fixture(params=ENGINES)
async def open_with(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenWith]:
    """A store on the same record each time, with these sinks."""
    place = place_on(request.param, request)
    opened: list[Store] = []

    async def open_with(*sinks: str) -> Store:
        while opened:
            await opened.pop().aclose()
        options = StoreOptions(
            data_dir=tmp_path,
            clock=TurnableClock(later(1000)),
            routes=[Route(sink=sink) for sink in sinks],
        )
        opened.append(await place.open(options))
        return opened[-1]

    yield open_with
    for store in opened:
        await store.aclose()


async def end(store: Store, *task_ids: str) -> None:
    for task_id in task_ids:
        await store.log_submission(submission(task_id))
        await store.record(recording(failed(task_id)))


async def move(store: Store, *, at: float = 5000) -> Moved:
    return await store.move_undelivered(await store.list_undelivered("old", 100), "old", "new", later(at))


async def test_what_waits_for_a_sink_that_is_gone_is_counted_apart_and_grows_no_older(
    open_with: OpenWith,
) -> None:
    store = await open_with("old", "new")
    await end(store, "t1", "t2")
    await publish(store, "new", at=1)
    await publish(store, "old", at=1, limit=1, outcome=Outcome.REFUSED)
    assert (await store.count_stats()).oldest_undelivered_at == later(0)
    assert await store.count_unset_sinks() == {}

    store = await open_with("new")

    stats = await store.count_stats()
    assert stats.outbox == {"old": {"dead": 1, "not_set": 1}, "new": {"delivered": 2}}
    assert stats.oldest_undelivered_at is None
    assert await store.count_unset_sinks() == {"old": {"pending": 1, "dead": 1}}
    assert (await task_of(store, "t2")).waiting_on == "sink old (not set)"

    store = await open_with("old", "new")  # it was a slip
    assert (await store.count_stats()).outbox["old"] == {"dead": 1, "pending": 1}
    assert (await task_of(store, "t2")).waiting_on == "sink old"


async def test_whoever_opens_the_record_without_any_sinks_counts_none_apart(open_with: OpenWith) -> None:
    await end(await open_with("old"), "t1")
    store = await open_with()
    assert (await store.count_stats()).outbox == {"old": {"pending": 1}}
    assert await store.count_unset_sinks() == {}


async def test_what_a_renamed_sink_did_not_get_is_moved_as_if_made_now(open_with: OpenWith) -> None:
    store = await open_with("old")
    await end(store, "delivered", "dead", "waiting")
    await publish(store, "old", at=1, limit=1)
    await publish(store, "old", at=1, limit=1, outcome=Outcome.REFUSED)

    store = await open_with("new")
    assert await move(store) == Moved(moved=2, had=0)

    works = await store.lease_outbox("new", later(5000), later(5060), 10)
    assert sorted(work.event.task_id for work in works) == ["dead", "waiting"]
    assert {(work.attempt, work.created_at) for work in works} == {(1, later(5000))}
    assert await store.count_unset_sinks() == {}
    assert [entry.sink for entry in (await task_of(store, "delivered")).notifications] == ["old"]
    (entry,) = (await task_of(store, "dead")).notifications
    assert (entry.sink, entry.state, entry.outcome, entry.detail, entry.settled_at) == (
        "new", OutboxState.PENDING, None, None, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.DELIVERED, OutboxState.DELIVERED),
        (Outcome.REFUSED, OutboxState.DEAD),
        (None, OutboxState.PENDING),
    ],
)
async def test_what_the_other_sink_has_already_in_whatever_state_is_not_doubled(
    open_with: OpenWith, outcome: Outcome | None, state: OutboxState
) -> None:
    store = await open_with("old", "new")
    await end(store, "both")
    if outcome:
        await publish(store, "new", at=1, outcome=outcome)
    await end(await open_with("old"), "old alone")

    store = await open_with("new")
    assert await move(store) == Moved(moved=1, had=1)

    assert [(entry.sink, entry.state) for entry in (await task_of(store, "both")).notifications] == [
        ("new", state)
    ]
    assert [(entry.sink, entry.state) for entry in (await task_of(store, "old alone")).notifications] == [
        ("new", OutboxState.PENDING)
    ]
    assert await move(store) == Moved(moved=0, had=0)


async def test_a_replay_and_another_revision_are_other_messages(open_with: OpenWith) -> None:
    store = await open_with("old", "new")
    await end_with_files(store, "t1", Outcome.GONE, Outcome.STORED)
    await publish(store, "new", at=1)
    await publish(store, "old", at=1)
    await start_replay(store, replay(Stage.NOTIFY, sinks=("old",)))
    await make_step(store, 200)
    await publish(store, "old", at=201, outcome=Outcome.REFUSED)
    await start_replay(store, replay(Stage.FETCH))
    for work in await store.lease_replays(later(210), later(260), 10):
        await step_replay(store, work, 10, later(210), later(210))
    for asset in await store.lease_assets(later(300), later(360), 10):
        await store.settle_asset(asset, stored(asset, at=later(300)))
    await publish(store, "old", at=301, outcome=Outcome.REFUSED)

    store = await open_with("new")
    assert await move(store) == Moved(moved=1, had=1)  # the replay; revision 2 is on its way to it already

    works = await store.lease_outbox("new", later(5000), later(5060), 10)
    assert sorted((work.revision, work.replay_id is None) for work in works) == [(1, False), (2, True)]


async def test_what_a_removed_sink_did_not_get_is_dropped_and_the_events_stay(open_with: OpenWith) -> None:
    store = await open_with("old", "new")
    await end(store, "t1", "t2", "t3")
    await publish(store, "old", at=1, limit=1)
    await publish(store, "old", at=1, limit=1, outcome=Outcome.REFUSED)

    store = await open_with("new")
    entries = await store.list_undelivered("old", 100)
    assert await store.drop_undelivered(entries, "old") == 2
    assert await store.drop_undelivered(entries, "old") == 0

    assert (await store.count_stats()).outbox == {"old": {"delivered": 1}, "new": {"pending": 3}}
    assert (await task_of(store, "t2")).event is not None


async def test_an_entry_that_is_not_the_sinks_is_left_alone(open_with: OpenWith) -> None:
    store = await open_with("new")
    await end(store, "t1")
    entries = await store.list_undelivered("new", 100)
    assert await store.move_undelivered(entries, "old", "other", later(1)) == Moved(moved=0, had=0)
    assert await store.drop_undelivered(entries, "old") == 0
    assert (await store.count_stats()).outbox == {"new": {"pending": 1}}


@pytest.mark.parametrize("open_with", ["sqlite"], indirect=True)
async def test_looking_for_them_walks_through_indexes(open_with: OpenWith, tmp_path: Path) -> None:
    await open_with("new")
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        values = {"sinks": "[]", "sink": "old", "limit": 10}
        for sql in (unset_sinks.COUNT_PENDING, unset_sinks.COUNT_DEAD, unset_sinks.UNDELIVERED):
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            looks = [line for line in plan if "outbox" in line]
            assert all("INDEX outbox_" in line for line in looks), plan
