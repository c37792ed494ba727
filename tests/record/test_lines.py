"""Order at a sink: events of one owner, or of one task, one after the other, on both engines."""

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from receiver.models import OutboxWork, Outcome, Route, SinkOrder, Stage, WorkFilter
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.record.lines import line_of
from receiver.record.outbox import OLDEST_OUTBOX
from receiver.testing import TurnableClock
from tests.contracts.replaying import make_step, replay, start_replay, task_of
from tests.support.engines import Place, SqlitePlace, on_both_engines, place_on
from tests.support.factories import completed, failed, later, recording, settlement, stored, submission
from tests.support.settling import settle_outbox

ROUTES = [
    Route(sink="owners", order=SinkOrder.OWNER),
    Route(sink="tasks", order=SinkOrder.TASK),
    Route(sink="any"),
]


@pytest.fixture
def place(engine: str, request: pytest.FixtureRequest) -> Place:
    return place_on(engine, request)


@pytest.fixture
def options(tmp_path: Path) -> StoreOptions:
    return StoreOptions(data_dir=tmp_path, clock=TurnableClock(), routes=ROUTES)


@pytest.fixture
async def store(place: Place, options: StoreOptions) -> AsyncIterator[Store]:
    store = await place.open(options)
    yield store
    await store.aclose()


async def end(store: Store, task_id: str, owner: str = "ann") -> None:
    await store.log_submission(submission(task_id, owner=owner))
    await store.record(recording(failed(task_id)))


async def lease(
    store: Store, at: float = 1, sink: str = "owners", limit: int = 10, *, newest_first: bool = False
) -> list[OutboxWork]:
    return await store.lease_outbox(sink, later(at), later(at + 60), limit, newest_first=newest_first)


def tasks(works: Sequence[OutboxWork]) -> list[str]:
    return [work.event.task_id for work in works]


async def deliver(store: Store, *works: OutboxWork, at: float = 1) -> None:
    for work in works:
        await settle_outbox(store, work, settlement(Outcome.DELIVERED, at=later(at)))


@on_both_engines
async def test_events_of_one_owner_go_one_after_the_other_and_others_beside_them(store: Store) -> None:
    for task_id, owner in (("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("a3", "ann"), ("b2", "bob")):
        await end(store, task_id, owner)
    assert tasks(await lease(store, sink="any")) == ["a1", "a2", "b1", "a3", "b2"]
    assert tasks(await lease(store, sink="tasks")) == ["a1", "a2", "b1", "a3", "b2"]

    first = await lease(store)
    assert tasks(first) == ["a1", "b1"]
    assert await lease(store) == []
    await deliver(store, first[0])
    second = await lease(store)
    assert tasks(second) == ["a2"]
    await deliver(store, first[1], *second)
    assert set(tasks(await lease(store))) == {"a3", "b2"}


@on_both_engines
async def test_a_retry_holds_up_its_own_line_and_no_other(store: Store) -> None:
    for task_id, owner in (("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("b2", "bob")):
        await end(store, task_id, owner)
    ann, bob = await lease(store)
    await settle_outbox(store, ann, settlement(Outcome.TIMEOUT, at=later(1), retry_at=later(100)))
    await deliver(store, bob)
    assert tasks(await lease(store, at=50)) == ["b2"]
    assert await store.next_due_at("outbox", "owners") == later(100)
    again = await lease(store, at=100)
    assert tasks(again) == ["a1"]
    await deliver(store, *again, at=100)
    assert tasks(await lease(store, at=101)) == ["a2"]


@on_both_engines
async def test_a_dead_letter_holds_up_nobody_and_goes_beside_its_line_once_it_is_revived(
    store: Store,
) -> None:
    for task_id in ("a1", "a2", "a3"):
        await end(store, task_id)
    (first,) = await lease(store)
    await settle_outbox(store, first, settlement(Outcome.REFUSED, at=later(1)))
    (second,) = await lease(store, at=2)
    assert tasks([second]) == ["a2"]
    found = await store.find_dead(WorkFilter(), ["owners"], 10)
    assert await store.revive_dead(found.keys, later(3)) == 1
    assert tasks(await lease(store, at=4)) == ["a1"]  # while a2 is on its way
    await deliver(store, second, at=5)
    assert tasks(await lease(store, at=6)) == ["a3"]


@on_both_engines
async def test_whoever_dies_with_a_lease_keeps_the_order(
    store: Store, place: Place, options: StoreOptions
) -> None:
    for task_id in ("a1", "a2"):
        await end(store, task_id)
    (lost,) = await lease(store, at=1)
    assert await lease(store, at=60) == []
    (again,) = await lease(store, at=61)
    assert tasks([lost, again]) == ["a1", "a1"]
    assert not await settle_outbox(store, lost, settlement(Outcome.DELIVERED, at=later(62)))
    assert await lease(store, at=62) == []
    await deliver(store, again, at=63)
    (last,) = await lease(store, at=64)
    assert tasks([last]) == ["a2"]


@on_both_engines
async def test_all_that_takes_an_event_out_of_its_line_makes_the_next_one_due(store: Store) -> None:
    for number in range(5):
        await end(store, f"a{number}")
    (first,) = await lease(store, limit=1)
    assert await lease(store, at=2) == []  # the others are parked
    await settle_outbox(store, first, settlement(Outcome.TIMEOUT, at=later(2), retry_at=later(3)))
    entries = await store.list_undelivered("owners", 10)
    assert await store.drop_undelivered(entries[:1], "owners") == 1
    (second,) = await lease(store, at=3)
    assert tasks([second]) == ["a1"]
    await settle_outbox(store, second, settlement(Outcome.TIMEOUT, at=later(3), retry_at=later(4)))
    assert (await store.move_undelivered(entries[1:2], "owners", "elsewhere", later(4))).moved == 1
    assert tasks(await lease(store, at=5)) == ["a2"]
    assert tasks(await lease(store, at=5, sink="elsewhere")) == ["a1"]
    # And what has waited too long is given up with all that is as old behind it.
    assert await store.give_up_outbox("owners", later(0), settlement(Outcome.TIMEOUT, at=later(70)), 2) == 2
    assert await store.give_up_outbox("owners", later(0), settlement(Outcome.TIMEOUT, at=later(70)), 2) == 1


@on_both_engines
async def test_revisions_of_a_task_come_in_their_order(store: Store) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(completed("t1", files=2)))
    works = await store.lease_assets(later(1), later(60), 2)
    for work in works:
        end_of_file = stored(work) if work.index == 0 else settlement(Outcome.GONE)
        await store.settle_asset(work, end_of_file)
    (first,) = await store.lease_outbox("tasks", later(1), later(1000), 10)
    await start_replay(store, replay(Stage.FETCH))
    await make_step(store, 100)
    (again,) = await store.lease_assets(later(200), later(260), 2)
    await store.settle_asset(again, stored(again, at=later(200)))
    assert await lease(store, at=210, sink="tasks") == []
    await deliver(store, first, at=211)
    (second,) = await lease(store, at=212, sink="tasks")
    assert (first.revision, second.revision) == (1, 2)


@on_both_engines
async def test_what_is_replayed_goes_beside_the_line(store: Store) -> None:
    for task_id in ("a1", "a2"):
        await end(store, task_id)
    await deliver(store, *(await lease(store)))
    await start_replay(store, replay(Stage.NOTIFY, sinks=("owners",)))
    await make_step(store, 100)
    beside = await store.lease_outbox("owners", later(101), later(160), 10)
    assert {work.event.task_id for work in beside if work.replay_id} == {"a1", "a2"}


@on_both_engines
async def test_a_long_line_is_looked_at_once_however_often_the_sink_is_tried(store: Store) -> None:
    for number in range(70):
        await end(store, f"a{number:02}")
    (first,) = await lease(store, limit=1)
    await settle_outbox(store, first, settlement(Outcome.TIMEOUT, at=later(1), retry_at=later(50)))
    for _ in range(3):
        assert await lease(store, at=2, limit=2, newest_first=True) == []
    assert await store.next_due_at("outbox", "owners") == later(50)
    task = await task_of(store, "a69")
    assert {entry.due_at.year for entry in task.notifications} == {later(0).year}  # as people see it
    assert tasks(await lease(store, at=50, limit=1, newest_first=True)) == ["a00"]


@on_both_engines
@pytest.mark.parametrize("seed", range(2))
async def test_two_workers_with_failures_and_deaths_deliver_each_line_in_its_order(
    store: Store, place: Place, options: StoreOptions, engine: str, seed: int
) -> None:
    chance = random.Random(seed)
    other = store if engine == "sqlite" else await place.open(options)
    owners = ("ann", "bob", "cem")
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for number in range(18):
        owner = chance.choice(owners)
        wanted[owner].append(f"{owner}{number}")
        await end(store, wanted[owner][-1], owner)
    took: defaultdict[str, list[str]] = defaultdict(list)
    held: list[tuple[Store, OutboxWork, datetime]] = []
    at = 1.0
    while sum(map(len, took.values())) < 18:
        at += 1
        assert at < 3_000, took
        worker = chance.choice((store, other))
        now = later(at)
        held += [
            (worker, work, now + timedelta(seconds=20))
            for work in await worker.lease_outbox("owners", now, now + timedelta(seconds=20), 2)
        ]
        live = {work.event.owner for _, work, until in held if until > now}
        assert len(live) == sum(until > now for *_, until in held), "two of one line at once"
        chance.shuffle(held)
        for _ in range(chance.randrange(3)):
            if not held:
                break
            holder, work, _ = held.pop()
            match chance.randrange(4):
                case 0:  # it dies
                    continue
                case 1:
                    again = now + timedelta(seconds=chance.randrange(1, 9))
                    late = settlement(Outcome.TIMEOUT, at=now, retry_at=again)
                    await settle_outbox(holder, work, late)
                case _:
                    if await settle_outbox(holder, work, settlement(Outcome.DELIVERED, at=now)):
                        took[work.event.owner].append(work.event.task_id)
    assert took == wanted
    if other is not store:
        await other.aclose()


def test_an_owners_line_is_a_number_that_both_engines_keep() -> None:
    numbers = {line_of(SinkOrder.OWNER, 1, owner) for owner in ("", "ann", "ünï", "\udcff", "x" * 9999)}
    assert len(numbers) == 5
    assert all(number is not None and 0 <= number < 1 << 63 for number in numbers)
    assert (line_of(SinkOrder.TASK, 7, "ann"), line_of(SinkOrder.NONE, 7, "ann")) == (7, None)


async def test_who_is_behind_is_found_by_a_key(tmp_path: Path, options: StoreOptions) -> None:
    place = SqlitePlace(tmp_path)  # plugins/test_postgres_plans.py looks at the other's
    await (await place.open(options)).aclose()
    with closing(place.connect()) as db:
        values = {"sink": "owners", "now": "2026", "limit": 8}
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {OLDEST_OUTBOX}", values)]
    assert any("INDEX outbox_pending (sink=? AND due_at<?)" in line for line in plan), plan
    assert any("INDEX outbox_line (sink=? AND line=? AND number<?)" in line for line in plan), plan
