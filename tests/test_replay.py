"""The steps of a replay: their pace, and kept deliveries read with today's adapter, on a real store."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.ingest import fingerprint
from receiver.models import (
    EventType,
    Outcome,
    Replay,
    ReplayState,
    ReplayWork,
    Report,
    Route,
    Stage,
    TaskState,
    Verdict,
)
from receiver.options import StoreOptions
from receiver.ports import Provider
from receiver.providers.runware import Runware
from receiver.providers.vidgo import Vidgo
from receiver.record.replays import MOST_UNSETTLED
from receiver.replay import BREATH_SECONDS, MOST_BODIES_AT_ONCE, MOST_EVENTS_AT_ONCE, Pace, Replayer
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock, sample_callback
from tests.contracts.replaying import replay, start_replay
from tests.support.blank_record import lay_blank_record
from tests.support.factories import (
    NOW,
    answer,
    completed,
    confirms_weak,
    failed,
    recording,
    settlement,
    submission,
    unclear,
)
from tests.support.settling import settle_outbox

FIRST_POLL_SECONDS = {"vidgo": 300.0}


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock(NOW)


@pytest.fixture
async def store(tmp_path: Path, clock: TurnableClock) -> AsyncIterator[SqliteStore]:
    options = StoreOptions(
        data_dir=tmp_path,
        clock=clock,
        routes=[Route(sink="all")],
        first_poll_seconds=FIRST_POLL_SECONDS,
        confirms=confirms_weak,
    )
    lay_blank_record(tmp_path)
    store = await SqliteStore.open("sqlite:receiver.db", options)
    yield store
    await store.aclose()


@pytest.fixture
def woken() -> list[str]:
    return []


class LeaseLoop:
    """Leases and runs what is due, as the worker's lane does."""

    def __init__(self, store: SqliteStore, clock: TurnableClock, replayer: Replayer) -> None:
        self.replayer = replayer
        self._store = store
        self._clock = clock

    async def lease(self) -> list[ReplayWork]:
        now = self._clock.now()
        return await self.replayer.lease(now, now + timedelta(seconds=30), 4)

    async def run_due(self) -> None:
        for work in await self.lease():
            await self.replayer.run(work)

    async def run_for(self, seconds: float) -> None:
        """Everything that falls due until then, each at its time."""
        end = self._clock.now() + timedelta(seconds=seconds)
        while (due_at := await self._store.next_due_at("replays")) and due_at < end:
            self._clock.turn_to(max(due_at, self._clock.now()))
            await self.run_due()
        self._clock.turn_to(end)


@pytest.fixture
def make_lane(store: SqliteStore, clock: TurnableClock, woken: list[str]) -> Callable[..., LeaseLoop]:
    def make_lane(vidgo: Provider | None = None) -> LeaseLoop:
        replayer = Replayer(
            store=store, providers={"vidgo": vidgo or Vidgo()}, clock=clock, wake=woken.append
        )
        return LeaseLoop(store, clock, replayer)

    return make_lane


@pytest.fixture
def lane(make_lane: Callable[..., LeaseLoop]) -> LeaseLoop:
    return make_lane()


async def end_tasks(store: SqliteStore, number: int) -> None:
    """Tasks that have failed, and whose failure was told."""
    names = [f"t{index}" for index in range(number)]
    await asyncio.gather(*(store.log_submission(submission(name)) for name in names))
    await asyncio.gather(*(store.record(recording(failed(name))) for name in names))
    await publish(store, NOW)


async def publish(store: SqliteStore, now: datetime, outcome: Outcome = Outcome.DELIVERED) -> int:
    """Settle all that is due for the sink; how much that was."""
    works = await store.lease_outbox("all", now, now + timedelta(seconds=30), 10_000)
    settled = settlement(outcome, at=now)
    await asyncio.gather(*(settle_outbox(store, work, settled) for work in works))
    return len(works)


async def look(store: SqliteStore, replay_id: str) -> Replay:
    found = await store.get_replay(replay_id)
    assert found is not None
    return found


# --- pace -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "seconds"), [(0.2, 50), (1, 10), (3, 5), (7.5, 4), (40, 2)])
async def test_about_as_many_matches_a_second_are_looked_at_as_were_asked_for(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop, rate: float, seconds: float
) -> None:
    await end_tasks(store, 100)
    started = await start_replay(store, replay(Stage.NOTIFY, rate=rate, created_at=NOW))

    looked_at = []
    for _ in range(2):
        await lane.run_for(seconds / 2)
        looked_at.append((await look(store, started.id)).looked_at)

    stride = max(1, int(rate / 2))  # what one step may be ahead
    for half, number in enumerate(looked_at, 1):
        assert rate * seconds / 2 * half <= number + 0.001 <= rate * seconds / 2 * half + stride + 0.001
    assert clock.now() == NOW + timedelta(seconds=seconds)


async def test_without_a_rate_steps_follow_each_other_at_once_and_grow_while_they_are_short(
    store: SqliteStore, lane: LeaseLoop
) -> None:
    await end_tasks(store, 700)
    started = await start_replay(store, replay(Stage.NOTIFY, created_at=NOW))

    looked_at = []
    for _ in range(3):
        await lane.run_for(BREATH_SECONDS)
        looked_at.append((await look(store, started.id)).looked_at)

    assert looked_at == [200, 600, 700]


def test_a_step_that_takes_long_makes_the_next_one_smaller_and_a_short_one_larger() -> None:
    pace = Pace(0, timedelta())
    sizes = [pace.events_at_once]
    for milliseconds in (4, 4, 4, 7, 11, 11, 11, 11):
        pace.step_took(timedelta(milliseconds=milliseconds))
        sizes.append(pace.events_at_once)
    assert sizes == [200, 400, 500, 500, 500, 250, 125, 100, 100]


async def test_sinks_that_take_much_are_given_as_much_as_they_take_in_half_a_second(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    ended = 4 * MOST_UNSETTLED
    await end_tasks(store, ended)
    started = await start_replay(store, replay(Stage.NOTIFY, created_at=NOW))

    waiting = []
    while (await look(store, started.id)).state is ReplayState.RUNNING:
        await lane.run_for(0.25)
        waiting.append(await publish(store, clock.now()))

    assert waiting[0] <= MOST_UNSETTLED + MOST_EVENTS_AT_ONCE
    assert max(waiting) > MOST_UNSETTLED + MOST_EVENTS_AT_ONCE
    assert sum(waiting) == ended


async def test_a_replay_waits_while_much_of_it_has_not_settled(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    ended = MOST_UNSETTLED + 250
    await end_tasks(store, ended)
    started = await start_replay(store, replay(Stage.NOTIFY, created_at=NOW))

    await lane.run_for(60)
    stuck = await look(store, started.id)
    assert MOST_UNSETTLED < stuck.queued <= MOST_UNSETTLED + MOST_EVENTS_AT_ONCE
    assert stuck.looked_at == stuck.queued

    while await publish(store, clock.now()):
        await lane.run_for(10)
    done = await look(store, started.id)
    assert (done.state, done.looked_at, done.results) == (ReplayState.DONE, ended, {"delivered": ended})


@pytest.mark.parametrize(
    ("stage", "loops"),
    [(Stage.NOTIFY, "sink"), (Stage.FETCH, "assets"), (Stage.POLL, "poll"), (Stage.REPROCESS, "")],
)
async def test_a_step_wakes_those_who_have_work_now(
    store: SqliteStore, lane: LeaseLoop, woken: list[str], stage: Stage, loops: str
) -> None:
    await start_replay(store, replay(stage, created_at=NOW))
    await lane.run_due()
    assert woken == [loops]


async def test_a_step_that_was_overtaken_wakes_nobody(
    store: SqliteStore, lane: LeaseLoop, woken: list[str]
) -> None:
    started = await start_replay(store, replay(Stage.NOTIFY, created_at=NOW))
    (work,) = await lane.lease()
    await store.change_replay(started.id, ReplayState.CANCELLED, NOW)
    await lane.replayer.run(work)
    assert woken == []


async def test_a_cancelled_replay_is_taken_back_whole_also_by_the_service_after_a_kill(
    store: SqliteStore, lane: LeaseLoop, clock: TurnableClock
) -> None:
    await end_tasks(store, 1100)
    started = await start_replay(store, replay(Stage.NOTIFY, created_at=NOW))
    while (await store.get_replay(started.id)).queued < 1100:  # type: ignore[union-attr]
        await lane.run_due()
        clock.turn(1)
    await store.change_replay(started.id, ReplayState.CANCELLED, clock.now())
    await lane.lease()  # by a service that is killed then
    clock.turn(31)
    await lane.run_due()
    ended = await store.get_replay(started.id)
    assert ended is not None
    assert (ended.settled, dict(ended.results)) == (1100, {"withdrawn": 1100})
    assert await publish(store, clock.now()) == 0


async def test_the_end_of_a_replay_is_told_once(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    await end_tasks(store, 2)
    started = await start_replay(store, replay(Stage.NOTIFY, created_at=NOW))
    with capture_logs() as lines:
        await lane.run_for(10)
        assert lines == []
        await publish(store, clock.now(), Outcome.REFUSED)
        clock.turn(5)
        await lane.run_for(60)
    assert lines == [
        {
            "event": "replay.done",
            "log_level": "info",
            "replay_id": started.id,
            "stage": "notify",
            "matched": 2,
            "looked_at": 2,
            "queued": 2,
            "settled": 2,
            "results": {"refused": 2},
            "seconds": 10.0,
        }
    ]


# --- reading again ----------------------------------------------------------------------------------------


async def test_todays_adapter_makes_an_event_of_what_was_not_understood(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    body = sample_callback(
        "vidgo", "t1", files=["https://media.example/0.png", "https://media.example/1.png"]
    )
    await store.log_submission(submission("t1"))
    await store.record(recording(unclear("t1"), body=body))
    clock.turn(3600)
    started = await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))

    await lane.run_for(1)

    event = await store.get_event("vidgo", "t1")
    assert event is not None
    assert [asset.deadline_at for asset in event.assets] == [NOW + timedelta(days=1)] * 2  # Vidgo's link life
    repeat = recording(Vidgo().parse(json.loads(body)), body=body)
    assert (await store.record(repeat)).status is Verdict.DUPLICATE
    done = await look(store, started.id)
    assert (done.state, done.results) == (ReplayState.DONE, {"accepted": 1})


async def test_few_bodies_are_in_memory_at_once(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    bodies = 2 * MOST_BODIES_AT_ONCE + 1
    for number in range(bodies):
        await store.record(recording(unclear(f"t{number}")))
    started = await start_replay(store, replay(Stage.REPROCESS, rate=100_000, created_at=clock.now()))

    await lane.run_due()
    assert (await look(store, started.id)).looked_at == MOST_BODIES_AT_ONCE <= 10

    await lane.run_for(1)
    assert (await look(store, started.id)).results == {"unrecognised": bodies}


async def test_a_repeat_in_another_body_is_the_same_end_after_it(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(unclear("t1"), body=sample_callback("vidgo", "t1", error="nsfw")))
    await store.record(recording(unclear("t1"), body=sample_callback("vidgo", "t1", error="NSFW!")))
    started = await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))
    await lane.run_for(1)
    assert (await look(store, started.id)).results == {"accepted": 1, "duplicate": 1}


@pytest.mark.parametrize("body", [b"not JSON", b'{"data": {"task_id": "t1", "status": "odd"}}', b"[]"])
async def test_what_is_still_not_understood_stays_as_it_is(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop, body: bytes
) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(unclear("t1"), body=body))
    before = await store.get_task("vidgo", "t1")
    started = await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))
    await lane.run_for(1)
    assert await store.get_task("vidgo", "t1") == before
    assert (await look(store, started.id)).results == {"unrecognised": 1}


async def test_an_adapter_that_crashes_on_one_body_reads_the_others(
    store: SqliteStore, clock: TurnableClock, make_lane: Callable[..., LeaseLoop]
) -> None:
    class Fragile(Vidgo):
        def parse(self, document: object) -> Report:
            if "t1" in json.dumps(document):
                raise ZeroDivisionError("the prompt was: a lighthouse")
            return super().parse(document)

    for task_id in ("t1", "t2"):
        await store.log_submission(submission(task_id))
        await store.record(recording(unclear(task_id), body=sample_callback("vidgo", task_id, error="x")))
    started = await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))
    with capture_logs() as lines:
        await make_lane(Fragile()).run_for(1)
    assert (await look(store, started.id)).results == {"unrecognised": 1, "accepted": 1}
    assert "lighthouse" not in json.dumps(lines, default=str)


async def test_deliveries_of_a_provider_that_is_not_known_any_more_stay(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    await store.record(recording(unclear("t1"), provider="bygone"))
    started = await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))
    await lane.run_for(1)
    assert (await look(store, started.id)).results == {"unrecognised": 1}


async def test_a_weak_callback_read_again_must_be_confirmed_all_the_same(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop
) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(unclear("t1"), body=sample_callback("vidgo", "t1"), weak=True))
    await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))

    await lane.run_for(1)

    task = await store.get_task("vidgo", "t1")
    assert task is not None
    assert (task.state, task.deliveries[0].verdict) == (TaskState.SUBMITTED, Verdict.UNCONFIRMED)
    assert await store.lease_assets(clock.now(), clock.now(), 10) == []


async def test_parts_of_one_result_that_are_read_again_mean_the_same_end(
    store: SqliteStore, clock: TurnableClock
) -> None:
    links = ["https://im.test/1.png", "https://im.test/2.png"]
    await store.log_submission(submission("t1", provider="runware"))
    for link in links:
        part = sample_callback("runware", "t1", files=[link])
        await store.record(recording(unclear("t1"), provider="runware", body=part, weak=True))
    await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))
    replayer = Replayer(
        store=store,
        providers={"runware": Runware()},
        clock=clock,
        wake=lambda _: None,
        in_parts={"runware"},
    )
    await LeaseLoop(store, clock, replayer).run_for(1)

    whole = completed("t1", files=2)
    told = msgspec.structs.replace(answer(whole), provider="runware")
    await store.record(msgspec.structs.replace(told, fingerprint=fingerprint(whole, with_files=False)))

    task = await store.get_task("runware", "t1")
    assert task is not None
    assert task.state is TaskState.FETCHING
    assert [each.verdict for each in task.deliveries] == [Verdict.ACCEPTED] * 3


@pytest.mark.parametrize(("named", "state"), [("t1", TaskState.FAILED), ("t2", TaskState.SUBMITTED)])
async def test_a_providers_answer_counts_only_for_the_task_that_was_asked_about(
    store: SqliteStore, clock: TurnableClock, lane: LeaseLoop, named: str, state: TaskState
) -> None:
    for task_id in ("t1", "t2"):
        await store.log_submission(submission(task_id))
    await store.record(answer(unclear("t1"), body=sample_callback("vidgo", named, error="nsfw")))
    await start_replay(store, replay(Stage.REPROCESS, created_at=clock.now()))

    await lane.run_for(1)

    asked, other = await store.get_task("vidgo", "t1"), await store.get_task("vidgo", "t2")
    assert asked is not None
    assert other is not None
    assert (asked.state, other.state) == (state, TaskState.SUBMITTED)
    if asked.event:
        assert (asked.event.type, asked.event.via) == (EventType.FAILED, "poll")
