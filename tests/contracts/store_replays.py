"""What every store must do about replays and dead letters."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec
import pytest

from receiver.clock import Clock
from receiver.errors import Rejected
from receiver.leased import OutboxWork
from receiver.models import Report, Task
from receiver.ports import Store
from receiver.repairs import DeadLetter, KeptDelivery, Replay, ReplayWork, WorkFilter
from receiver.words import AssetState, EventType, Outcome, ReplayState, Stage, TaskState, Verdict
from tests.contracts.store import OpenStore
from tests.factories import (
    answer,
    completed,
    failed,
    later,
    progress,
    recording,
    settlement,
    stored,
    submission,
    unclear,
)

EVERYTHING = WorkFilter()
ASKED_AT = later(100)
LINK_LIFE_SECONDS = {"vidgo": 7200.0}
ENDED = {ReplayState.DONE, ReplayState.CANCELLED}


def replay(
    stage: Stage,
    wanted: WorkFilter = EVERYTHING,
    *,
    sinks: tuple[str, ...] = (),
    rate: float | None = None,
    requested_by: str = "admin",
    created_at: datetime = ASKED_AT,
) -> Replay:
    """A new one."""
    return Replay(
        id=Clock().new_id("rpl"),
        stage=stage,
        filter=wanted,
        sinks=sinks,
        rate=rate,
        state=ReplayState.RUNNING,
        requested_by=requested_by,
        created_at=created_at,
        finished_at=None,
        matched=0,
        looked_at=0,
        queued=0,
        settled=0,
        results={},
    )


async def end_task(
    store: Store, task_id: str, *, at: float = 0, provider: str = "vidgo", owner: str = "ann"
) -> None:
    """A failed task, of which both sinks know."""
    await store.log_submission(submission(task_id, provider=provider, owner=owner))
    await store.record(recording(failed(task_id), provider=provider, received_at=later(at)))
    for sink in ("all", "failures"):
        await publish(store, sink, at=at)


async def end_with_files(store: Store, task_id: str, *outcomes: Outcome, at: float = 0) -> None:
    """A task whose files ended so; told to the sinks."""
    await store.log_submission(submission(task_id))
    await store.record(recording(completed(task_id, files=len(outcomes)), received_at=later(at)))
    for work in await store.lease_assets(later(at), later(at + 60), 100):
        outcome = outcomes[work.index]
        is_stored = outcome is Outcome.STORED
        await store.settle_asset(
            work, stored(work, at=later(at)) if is_stored else settlement(outcome, at=later(at))
        )
    await publish(store, "all", at=at)
    await publish(store, "failures", at=at)


async def publish(
    store: Store, sink: str, *, at: float, outcome: Outcome = Outcome.DELIVERED, limit: int = 100
) -> list[OutboxWork]:
    """Settle what is due for a sink; what that was."""
    works = await store.lease_outbox(sink, later(at), later(at + 60), limit)
    for work in works:
        assert await store.settle_outbox(work, settlement(outcome, at=later(at)))
    return works


async def lease(store: Store, at: float) -> ReplayWork:
    (work,) = await store.lease_replays(later(at), later(at + 60), 10)
    return work


async def make_step(store: Store, at: float, *, limit: int = 100) -> None:
    """One step of the only replay; the next is due at once."""
    assert await store.step_replay(await lease(store, at), limit, later(at), later(at))


async def get(store: Store, replay_id: str) -> Replay:
    found = await store.get_replay(replay_id)
    assert found is not None
    return found


async def task_of(store: Store, task_id: str) -> Task:
    task = await store.get_task("vidgo", task_id)
    assert task is not None
    return task


def read_as(kept: KeptDelivery, report: Report) -> KeptDelivery:
    """A kept delivery as an adapter understands it that has learned."""
    fresh = recording(report, body=kept.recording.body)
    return msgspec.structs.replace(
        kept,
        recording=msgspec.structs.replace(kept.recording, report=report, fingerprint=fresh.fingerprint),
    )


async def dead_letters(
    store: Store, wanted: WorkFilter = EVERYTHING, sink: str | None = None
) -> list[DeadLetter]:
    page = await store.list_dead(wanted, sink, 100, None)
    return list(page.dead_letters)


class ReplaysContract:
    """Subclasses give an ``open_store`` fixture that opens the same record again and again."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    # --- notify ---------------------------------------------------------------------------------------

    async def test_an_event_is_sent_again_to_each_sink_that_wants_it_with_the_same_id(
        self, store: Store
    ) -> None:
        await end_task(store, "t1")
        await end_with_files(store, "t2", Outcome.STORED)
        started = await store.start_replay(replay(Stage.NOTIFY))

        await make_step(store, 200)

        to_all = await publish(store, "all", at=201)
        to_failures = await publish(store, "failures", at=201)
        first = await task_of(store, "t1")
        assert first.event is not None
        assert [work.event.task_id for work in to_all] == ["t1", "t2"]
        assert [work.event.id for work in to_failures] == [first.event.id]
        assert {work.replay_id for work in to_all + to_failures} == {started.id}
        assert {work.revision for work in to_all} == {1}

    async def test_a_replay_counts_what_it_did_and_is_done_when_all_has_settled(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await store.start_replay(replay(Stage.NOTIFY, sinks=("all",), requested_by="admin-1"))
        assert (started.matched, started.state, started.looked_at) == (3, ReplayState.RUNNING, 0)

        await make_step(store, 200)
        await publish(store, "all", at=201, limit=2)
        halfway = await get(store, started.id)
        await publish(store, "all", at=202, outcome=Outcome.REFUSED)

        done = await get(store, started.id)
        assert (halfway.state, halfway.looked_at, halfway.queued, halfway.settled) == (
            ReplayState.RUNNING,
            3,
            3,
            2,
        )
        assert (done.state, done.settled, done.results) == (
            ReplayState.DONE,
            3,
            {"delivered": 2, "refused": 1},
        )
        assert (done.requested_by, done.created_at, done.finished_at) == ("admin-1", later(100), later(202))
        assert await store.list_replays(10) == [done]

    async def test_one_that_is_done_is_handed_out_once_for_its_end_to_be_told(self, store: Store) -> None:
        started = await store.start_replay(replay(Stage.NOTIFY))
        await make_step(store, 200)

        assert await store.next_due_at("replays") == later(200)
        assert (await lease(store, 201)).replay.state is ReplayState.DONE

        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await store.next_due_at("replays") is None
        assert (await get(store, started.id)).finished_at == later(200)

    async def test_named_sinks_get_it_whatever_they_want_and_others_do_not(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED)
        await store.start_replay(replay(Stage.NOTIFY, sinks=("failures",)))

        await make_step(store, 200)

        assert [work.event.task_id for work in await publish(store, "failures", at=201)] == ["t1"]
        assert await publish(store, "all", at=201) == []

    async def test_two_replays_of_an_event_are_two_messages(self, store: Store) -> None:
        await end_task(store, "t1")
        ids = set()
        for _ in range(2):
            ids.add((await store.start_replay(replay(Stage.NOTIFY))).id)
            await make_step(store, 200)
            await store.lease_replays(later(200), later(200), 10)

        assert {work.replay_id for work in await publish(store, "all", at=201)} == ids

    async def test_steps_look_at_everything_once_in_order(self, store: Store) -> None:
        for number in range(5):
            await end_task(store, f"t{number}")
        started = await store.start_replay(replay(Stage.NOTIFY))
        looked_at = []

        for _ in range(3):
            await make_step(store, 200, limit=2)
            looked_at.append((await get(store, started.id)).looked_at)

        works = await publish(store, "all", at=201)
        assert looked_at == [2, 4, 5]
        assert [work.event.task_id for work in works] == [f"t{number}" for number in range(5)]

    async def test_a_step_whose_lease_was_lost_changes_nothing(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await store.start_replay(replay(Stage.NOTIFY))
        late = await lease(store, 200)
        current = await lease(store, 261)

        made = [
            await store.step_replay(late, 2, later(262), later(262)),
            await store.step_replay(current, 2, later(262), later(262)),
            await store.step_replay(current, 2, later(262), later(262)),
            await store.step_replay(late, 2, later(262), later(262)),
        ]

        assert made == [False, True, False, False]
        assert (await get(store, started.id)).looked_at == 2
        assert len(await publish(store, "all", at=263)) == 2

    async def test_two_that_step_at_once_queue_nothing_twice(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        await store.start_replay(replay(Stage.NOTIFY))
        work = await lease(store, 200)

        made = await asyncio.gather(*(store.step_replay(work, 100, later(201), later(201)) for _ in range(5)))

        assert made.count(True) == 1
        assert len(await publish(store, "all", at=202)) == 3

    async def test_a_replay_goes_on_where_it_was_after_a_crash(self, open_store: OpenStore) -> None:
        store = await open_store()
        for number in range(4):
            await end_task(store, f"t{number}")
        started = await store.start_replay(replay(Stage.NOTIFY))
        await make_step(store, 200, limit=3)
        await lease(store, 201)  # and never settled
        await store.aclose()

        again = await open_store()

        works = await again.lease_replays(later(10**9), later(10**9), 10)
        assert [work.replay.looked_at for work in works] == [3]
        assert await again.step_replay(works[0], 3, later(202), later(202))
        assert len(await publish(again, "all", at=203)) == 4
        assert (await get(again, started.id)).looked_at == 4
        await again.aclose()

    async def test_what_comes_after_it_was_asked_for_is_left_alone(self, store: Store) -> None:
        await end_task(store, "before")
        await store.log_submission(submission("meanwhile"))
        started = await store.start_replay(replay(Stage.NOTIFY))
        await store.record(recording(failed("meanwhile"), received_at=later(150)))
        await end_task(store, "after", at=150)
        await publish(store, "all", at=150)

        await make_step(store, 200)

        assert [work.event.task_id for work in await publish(store, "all", at=201)] == ["before"]
        assert (started.matched, (await get(store, started.id)).looked_at) == (1, 1)

    async def test_a_step_of_none_only_waits(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await store.start_replay(replay(Stage.NOTIFY))

        assert await store.step_replay(await lease(store, 200), 0, later(200), later(230))

        assert await store.next_due_at("replays") == later(230)
        assert await store.lease_replays(later(229), later(300), 10) == []
        assert await get(store, started.id) == started

    # --- what matches ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("wanted", "task_ids"),
        [
            (WorkFilter(), ["failed", "apixo", "partial", "done"]),
            (WorkFilter(provider="apixo"), ["apixo"]),
            (WorkFilter(owner="bob"), ["apixo"]),
            (WorkFilter(state=TaskState.PARTIAL), ["partial"]),
            (WorkFilter(state=TaskState.SUBMITTED), []),
            (WorkFilter(type=EventType.COMPLETED), ["done"]),
            (WorkFilter(since=later(20)), ["partial", "done"]),
            (WorkFilter(until=later(20)), ["failed", "apixo"]),
            (WorkFilter(task_ids=("done", "failed", "open", "nobody's")), ["failed", "done"]),
            (WorkFilter(task_ids=("done", "apixo"), provider="vidgo"), ["done"]),
            (WorkFilter(type=EventType.FAILED, owner="ann", since=later(-1), until=later(1)), ["failed"]),
        ],
    )
    async def test_each_clause_of_a_filter_counts_and_a_dry_run_tells_the_same(
        self, store: Store, wanted: WorkFilter, task_ids: list[str]
    ) -> None:
        await end_task(store, "failed", at=0)
        await end_task(store, "apixo", at=10, provider="apixo", owner="bob")
        await end_with_files(store, "partial", Outcome.STORED, Outcome.GONE, at=20)
        await end_with_files(store, "done", Outcome.STORED, at=30)
        await store.log_submission(submission("open"))
        asked = replay(Stage.NOTIFY, wanted, sinks=("all",))

        counted = await store.count_matches(Stage.NOTIFY, asked.filter)
        started = await store.start_replay(asked)
        await make_step(store, 200)

        works = await publish(store, "all", at=201)
        assert [work.event.task_id for work in works] == task_ids
        assert counted == started.matched == len(task_ids)
        assert (await get(store, started.id)).filter == asked.filter

    @pytest.mark.parametrize(
        ("stage", "matched"),
        [(Stage.NOTIFY, 1), (Stage.FETCH, 0), (Stage.REPROCESS, 0), (Stage.POLL, 0)],
    )
    async def test_times_compare_with_what_the_stage_is_about(
        self, store: Store, stage: Stage, matched: int
    ) -> None:
        """Everything was submitted and came at 0; only the event ended at 50."""
        await store.log_submission(submission("open"))
        await store.record(recording(unclear("open")))
        await store.log_submission(submission("late"))
        await store.record(recording(completed("late")))
        (work,) = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(work, settlement(Outcome.GONE, at=later(50)))

        assert await store.count_matches(stage, WorkFilter(since=later(40))) == matched
        assert await store.count_matches(stage, WorkFilter(until=later(40))) == 1 - matched

    # --- paused, resumed, cancelled -------------------------------------------------------------------

    async def test_a_paused_replay_makes_no_step_until_it_is_resumed(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await store.start_replay(replay(Stage.NOTIFY))
        begun = await lease(store, 200)

        paused = await store.change_replay(started.id, ReplayState.PAUSED, later(201))

        assert paused.state is ReplayState.PAUSED
        assert await store.step_replay(begun, 100, later(202), later(202)) is False
        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await store.next_due_at("replays") is None
        resumed = await store.change_replay(started.id, ReplayState.RUNNING, later(300))
        assert resumed.state is ReplayState.RUNNING
        await make_step(store, 300)
        assert len(await publish(store, "all", at=301)) == 1

    async def test_what_a_paused_replay_has_queued_goes_on_and_may_end_it(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await store.start_replay(replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await store.change_replay(started.id, ReplayState.PAUSED, later(201))

        await publish(store, "all", at=202)

        assert (await get(store, started.id)).state is ReplayState.DONE

    async def test_resuming_a_running_replay_does_not_disturb_its_step(self, store: Store) -> None:
        started = await store.start_replay(replay(Stage.NOTIFY))
        begun = await lease(store, 200)

        await store.change_replay(started.id, ReplayState.RUNNING, later(201))

        assert await store.step_replay(begun, 100, later(202), later(202)) is True

    async def test_a_cancelled_replay_takes_back_what_nobody_holds(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await store.start_replay(replay(Stage.NOTIFY))
        await make_step(store, 200, limit=2)
        (held,) = await store.lease_outbox("all", later(201), later(260), 1)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(202))

        assert (cancelled.state, cancelled.finished_at) == (ReplayState.CANCELLED, later(202))
        assert (cancelled.queued, cancelled.settled, cancelled.results) == (4, 3, {"withdrawn": 3})
        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await publish(store, "all", at=203) == await publish(store, "failures", at=203) == []
        assert await store.settle_outbox(held, settlement(Outcome.DELIVERED, at=later(204)))
        assert await get(store, started.id) == msgspec.structs.replace(
            cancelled, settled=4, results={"withdrawn": 3, "delivered": 1}
        )

    async def test_a_notification_under_way_when_its_replay_is_cancelled_gets_no_other_try(
        self, store: Store
    ) -> None:
        await end_task(store, "t1")
        started = await store.start_replay(replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        (held,) = await store.lease_outbox("all", later(201), later(260), 10)
        await store.change_replay(started.id, ReplayState.CANCELLED, later(202))

        again = settlement(Outcome.TIMEOUT, at=later(203), retry_at=later(210))
        assert await store.settle_outbox(held, again)

        assert await store.lease_outbox("all", later(9999), later(9999), 10) == []
        cancelled = await get(store, started.id)
        assert (cancelled.settled, cancelled.results) == (1, {"withdrawn": 1})

    async def test_cancelling_takes_nothing_from_others(self, store: Store) -> None:
        await end_task(store, "t1")
        await store.log_submission(submission("fresh"))
        await store.record(recording(failed("fresh"), received_at=later(99)))
        first = await store.start_replay(replay(Stage.NOTIFY, WorkFilter(task_ids=("t1",))))
        await make_step(store, 200)
        second = await store.start_replay(replay(Stage.NOTIFY, WorkFilter(task_ids=("t1",))))
        await make_step(store, 200)

        await store.change_replay(first.id, ReplayState.CANCELLED, later(202))

        works = await publish(store, "all", at=203)
        assert [(work.event.task_id, work.replay_id) for work in works] == [
            ("fresh", None),
            ("t1", second.id),
        ]

    @pytest.mark.parametrize("state", [ReplayState.PAUSED, ReplayState.RUNNING, ReplayState.CANCELLED])
    async def test_what_has_ended_or_never_was_cannot_be_changed(
        self, store: Store, state: ReplayState
    ) -> None:
        done = await store.start_replay(replay(Stage.NOTIFY))
        await make_step(store, 200)
        await end_task(store, "t1")
        cancelled = await store.start_replay(replay(Stage.NOTIFY))
        await store.change_replay(cancelled.id, ReplayState.CANCELLED, later(200))

        statuses = []
        for replay_id in (done.id, cancelled.id, "rpl_nothing"):
            with pytest.raises(Rejected) as refused:
                await store.change_replay(replay_id, state, later(201))
            statuses.append(refused.value.status)

        assert statuses == [409, 409, 404]
        assert await store.get_replay("rpl_nothing") is None
        assert {each.state for each in await store.list_replays(10)} == ENDED

    # --- fetch ----------------------------------------------------------------------------------------

    async def test_files_that_could_not_be_had_get_all_their_attempts_again(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED, Outcome.GONE)
        await end_with_files(store, "t2", Outcome.STORED)
        started = await store.start_replay(replay(Stage.FETCH))

        await make_step(store, 200)

        (work,) = await store.lease_assets(later(201), later(260), 10)
        assert started.matched == 1
        assert (work.task_id, work.index, work.attempt, work.renewed) == ("t1", 1, 1, False)
        assert work.replay_id == started.id
        assert (await task_of(store, "t1")).state is TaskState.PARTIAL

    async def test_files_fetched_again_have_a_links_life_before_them_and_let_dying_links_go_first(
        self, store: Store
    ) -> None:
        await end_with_files(store, "old", Outcome.TIMEOUT)
        day = 86_400
        await store.start_replay(replay(Stage.FETCH, created_at=later(3 * day)))
        await make_step(store, 3 * day)
        await store.log_submission(submission("live"))
        dies_at = later(3 * day + LINK_LIFE_SECONDS["vidgo"] - 1)
        await store.record(recording(completed("live"), received_at=later(3 * day), links_die_at=dies_at))

        works = await store.lease_assets(later(3 * day), later(3 * day + 60), 10)

        assert [(work.task_id, work.deadline_at) for work in works] == [
            ("live", dies_at),
            ("old", later(3 * day + LINK_LIFE_SECONDS["vidgo"])),
        ]

    async def test_a_file_had_at_last_is_told_as_a_new_revision(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED, Outcome.GONE)
        started = await store.start_replay(replay(Stage.FETCH))
        await make_step(store, 200)
        (work,) = await store.lease_assets(later(201), later(260), 10)

        await store.settle_asset(work, stored(work, at=later(202)))

        (sent,) = await publish(store, "all", at=203)
        assert (sent.revision, sent.event.type, sent.replay_id) == (2, EventType.COMPLETED, None)
        done = await get(store, started.id)
        assert (done.state, done.queued, done.results) == (ReplayState.DONE, 1, {"stored": 1})

    async def test_files_that_fail_again_are_counted_and_tell_nothing_new(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED, Outcome.GONE)
        started = await store.start_replay(replay(Stage.FETCH))
        await make_step(store, 200)
        (work,) = await store.lease_assets(later(201), later(260), 10)

        await store.settle_asset(work, settlement(Outcome.TIMEOUT, at=later(202)))

        assert await publish(store, "all", at=203) == []
        assert (await get(store, started.id)).results == {"timeout": 1}

    async def test_a_cancelled_fetch_leaves_files_as_failed_and_tells_what_it_got(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.GONE, Outcome.GONE, Outcome.GONE)
        started = await store.start_replay(replay(Stage.FETCH))
        await make_step(store, 200)
        first, second = await store.lease_assets(later(201), later(260), 2)
        await store.settle_asset(first, stored(first, at=later(202)))
        await store.settle_asset(second, settlement(Outcome.GONE, at=later(202)))

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(203))

        event = (await task_of(store, "t1")).event
        assert event is not None
        assert cancelled.results == {"stored": 1, "gone": 1, "withdrawn": 1}
        assert [asset.state for asset in event.assets].count(AssetState.FAILED) == 2
        assert (event.type, event.revision) == (EventType.PARTIAL, 2)
        assert await store.lease_assets(later(9999), later(9999), 10) == []

    async def test_a_file_under_way_when_its_replay_is_cancelled_gets_no_other_try(
        self, store: Store
    ) -> None:
        await end_with_files(store, "t1", Outcome.STORED, Outcome.GONE)
        started = await store.start_replay(replay(Stage.FETCH))
        await make_step(store, 200)
        (held,) = await store.lease_assets(later(201), later(260), 10)
        await store.change_replay(started.id, ReplayState.CANCELLED, later(202))

        again = settlement(Outcome.TIMEOUT, at=later(203), retry_at=later(210))
        assert await store.settle_asset(held, again)

        assert await store.lease_assets(later(9999), later(9999), 10) == []
        event = (await task_of(store, "t1")).event
        assert event is not None
        assert (event.assets[1].state, event.assets[1].outcome) == (AssetState.FAILED, Outcome.TIMEOUT)
        cancelled = await get(store, started.id)
        assert (cancelled.settled, cancelled.results) == (1, {"withdrawn": 1})

    async def test_a_new_revision_takes_the_place_of_what_was_still_to_be_told(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        first, second = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(first, stored(first, at=later(1)))
        await store.settle_asset(second, settlement(Outcome.TIMEOUT, at=later(1)))
        (untold,) = await store.lease_outbox("all", later(2), later(60), 10)
        await store.settle_outbox(untold, settlement(Outcome.TIMEOUT, at=later(2), retry_at=later(9999)))
        sent = await store.start_replay(replay(Stage.NOTIFY))
        await make_step(store, 200)
        await store.lease_replays(later(200), later(200), 10)
        await store.start_replay(replay(Stage.FETCH))
        await make_step(store, 200)
        (last,) = await store.lease_assets(later(201), later(260), 10)

        await store.settle_asset(last, stored(last, at=later(202)))

        works = await publish(store, "all", at=9999)
        assert [(work.revision, work.replay_id) for work in works] == [(1, sent.id), (2, None)]

    async def test_an_old_revision_under_way_when_a_new_one_is_told_gets_no_other_try(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        (first,) = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(first, settlement(Outcome.TIMEOUT, at=later(1)))
        await store.start_replay(replay(Stage.FETCH))
        await make_step(store, 200)
        (held,) = await store.lease_outbox("all", later(201), later(260), 10)
        (last,) = await store.lease_assets(later(201), later(260), 10)
        await store.settle_asset(last, stored(last, at=later(202)))

        again = settlement(Outcome.TIMEOUT, at=later(203), retry_at=later(210))
        assert await store.settle_outbox(held, again)

        assert [work.revision for work in await publish(store, "all", at=9999)] == [2]
        assert [attempt.outcome for attempt in (await task_of(store, "t1")).attempts][-2:] == [
            Outcome.TIMEOUT,
            Outcome.DELIVERED,
        ]

    # --- poll -----------------------------------------------------------------------------------------

    async def test_open_tasks_are_asked_about_now(self, store: Store) -> None:
        await store.log_submission(submission("open"))
        await end_task(store, "ended")
        started = await store.start_replay(replay(Stage.POLL))
        assert await store.lease_polls("vidgo", later(199), later(260), 10) == []

        await make_step(store, 200)

        (work,) = await store.lease_polls("vidgo", later(200), later(260), 10)
        assert (work.task_id, work.replay_id) == ("open", started.id)
        await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, at=later(201), retry_at=later(600)))
        done = await get(store, started.id)
        assert (done.state, done.matched, done.results) == (ReplayState.DONE, 1, {"in_progress": 1})
        assert await store.lease_polls("vidgo", later(599), later(660), 10) == []
        assert len(await store.lease_polls("vidgo", later(600), later(660), 10)) == 1

    async def test_a_task_that_is_asked_about_no_more_is_asked_again(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        (work,) = await store.lease_polls("vidgo", later(300), later(360), 10)
        await store.settle_poll(work, settlement(Outcome.NO_MODEL, at=later(301)))
        await store.start_replay(replay(Stage.POLL, created_at=later(400)))

        await make_step(store, 400)

        assert len(await store.lease_polls("vidgo", later(400), later(460), 10)) == 1

    async def test_a_question_on_its_way_counts_for_the_replay_that_wanted_it(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        (work,) = await store.lease_polls("vidgo", later(300), later(360), 10)
        started = await store.start_replay(replay(Stage.POLL, created_at=later(310)))

        await make_step(store, 310)

        assert await store.lease_polls("vidgo", later(311), later(360), 10) == []
        await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, at=later(312), retry_at=later(600)))
        assert (await get(store, started.id)).results == {"in_progress": 1}

    async def test_two_poll_replays_ask_once(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        first = await store.start_replay(replay(Stage.POLL))
        await make_step(store, 200)
        second = await store.start_replay(replay(Stage.POLL))
        await make_step(store, 200)

        (work,) = await store.lease_polls("vidgo", later(201), later(260), 10)

        assert work.replay_id == first.id
        assert (await get(store, second.id)).queued == 0

    async def test_a_callback_that_comes_first_settles_the_question(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        started = await store.start_replay(replay(Stage.POLL))
        await make_step(store, 200)

        await store.record(recording(failed("t1"), received_at=later(201)))

        assert await store.lease_polls("vidgo", later(202), later(260), 10) == []
        done = await get(store, started.id)
        assert (done.state, done.settled) == (ReplayState.DONE, 1)

    async def test_tasks_of_a_provider_that_cannot_be_asked_are_counted_as_such(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="apidot"))
        started = await store.start_replay(replay(Stage.POLL))

        await make_step(store, 200)

        done = await get(store, started.id)
        assert (done.state, done.settled, done.results) == (ReplayState.DONE, 1, {"unpolled": 1})

    async def test_a_cancelled_poll_replay_puts_its_questions_off(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        started = await store.start_replay(replay(Stage.POLL))
        await make_step(store, 200)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(201))

        assert cancelled.results == {"withdrawn": 1}
        assert await store.next_due_at("polls", "vidgo") == later(501)
        (work,) = await store.lease_polls("vidgo", later(501), later(560), 10)
        assert work.replay_id is None

    # --- reprocess ------------------------------------------------------------------------------------

    async def test_a_kept_delivery_that_is_understood_now_counts_like_any_other(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"odd", received_at=later(7)))
        started = await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)

        (kept,) = await store.list_kept(work, 100)
        assert (kept.recording.body, kept.recording.received_at) == (b"odd", later(7))
        assert kept.recording.report.task_id == "t1"
        assert await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        task = await task_of(store, "t1")
        assert task.event is not None
        assert (task.state, task.event.received_at, task.event.ended_at) == (
            TaskState.FAILED,
            later(7),
            later(200),
        )
        assert [(d.verdict, d.seen, d.note) for d in task.deliveries] == [(Verdict.ACCEPTED, 1, None)]
        assert [entry.sink for entry in task.notifications] == ["all", "failures"]
        moved = await get(store, started.id)
        assert (moved.looked_at, moved.queued, moved.settled) == (1, 1, 1)
        assert moved.results == {"accepted": 1}

    async def test_a_reprocess_replay_is_done_when_nothing_is_left_to_read(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        for number in range(3):
            await store.record(recording(unclear("t1"), body=b"%d" % number))
        started = await store.start_replay(replay(Stage.REPROCESS))
        read = []

        for _ in range(3):
            work = await lease(store, 200)
            kept = await store.list_kept(work, 2)
            read.append(len(kept))
            await store.reprocess(work, kept, later(200), later(200))

        done = await get(store, started.id)
        assert read == [2, 1, 0]
        assert (done.state, done.looked_at, done.results) == (ReplayState.DONE, 3, {"unrecognised": 3})
        assert {d.verdict for d in (await task_of(store, "t1")).deliveries} == {Verdict.UNRECOGNISED}

    @pytest.mark.parametrize(
        ("report", "verdict"),
        [
            (failed("t1"), Verdict.DUPLICATE),
            (completed("t1"), Verdict.CONFLICT),
            (progress("t1"), Verdict.PROGRESS),
        ],
    )
    async def test_what_was_understood_first_stays_first(
        self, store: Store, report: Report, verdict: Verdict
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"odd"))
        await store.record(recording(failed("t1")))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, report)], later(200), later(200))

        task = await task_of(store, "t1")
        assert [d.verdict for d in task.deliveries] == [verdict, Verdict.ACCEPTED]
        assert len(task.notifications) == 2

    async def test_one_that_must_be_confirmed_is_held_until_the_provider_says_the_same(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"odd", weak=True))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, completed("t1"))], later(200), later(200))

        held = await task_of(store, "t1")
        assert (held.event, held.deliveries[0].verdict) == (None, Verdict.UNCONFIRMED)
        assert await store.next_due_at("polls", "vidgo") == later(200)
        await store.record(answer(completed("t1"), received_at=later(201)))
        assert (await task_of(store, "t1")).deliveries[0].verdict is Verdict.ACCEPTED

    async def test_one_that_ends_a_task_confirms_what_was_held(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1"), body=b"weak", weak=True))
        await store.record(recording(unclear("t1"), body=b"odd"))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, completed("t1"))], later(200), later(200))

        verdicts = [d.verdict for d in (await task_of(store, "t1")).deliveries]
        assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED]

    async def test_one_whose_submission_is_not_there_yet_waits_for_it(self, store: Store) -> None:
        await store.record(recording(unclear("t1"), body=b"odd"))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))
        assert await store.get_event("vidgo", "t1") is None
        await store.log_submission(submission("t1"))

        assert (await task_of(store, "t1")).state is TaskState.FAILED

    async def test_a_body_in_which_no_task_was_found_finds_its_task_later(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear(None), body=b"odd"))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        task = await task_of(store, "t1")
        assert (task.state, [d.verdict for d in task.deliveries]) == (TaskState.FAILED, [Verdict.ACCEPTED])

    async def test_a_body_that_came_again_under_its_task_counts_once(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear(None), body=b"odd"))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)
        await store.record(recording(failed("t1"), body=b"odd"))

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        assert [d.verdict for d in (await task_of(store, "t1")).deliveries] == [Verdict.ACCEPTED]
        assert (await store.count_stats()).deliveries == {"accepted": 1, "duplicate": 1}

    async def test_a_token_binds_and_bounds_what_is_read_again(self, store: Store) -> None:
        reserved, bound = submission(None), submission("mine")
        await store.log_submission(reserved)
        await store.log_submission(bound)
        await store.log_submission(submission("theirs", owner="somebody-else"))
        await store.record(recording(unclear(None), body=b"1", submission_id=reserved.id))
        await store.record(recording(unclear(None), body=b"2", submission_id=bound.id))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        first, second = await store.list_kept(work, 100)

        read = [read_as(first, failed("t1")), read_as(second, failed("theirs"))]
        await store.reprocess(work, read, later(200), later(200))

        assert (await task_of(store, "t1")).submission.id == reserved.id
        assert [d.verdict for d in (await task_of(store, "mine")).deliveries] == [Verdict.REFUSED]
        assert await store.get_event("vidgo", "theirs") is None

    async def test_a_repeat_that_was_understood_meanwhile_is_not_applied_twice(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"odd"))
        await store.start_replay(replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)
        await store.record(recording(failed("t1"), body=b"odd"))

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        assert [d.verdict for d in (await task_of(store, "t1")).deliveries] == [Verdict.ACCEPTED]

    async def test_reading_again_without_the_lease_changes_nothing(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1")))
        await store.start_replay(replay(Stage.REPROCESS))
        late = await lease(store, 200)
        kept = await store.list_kept(late, 100)
        await lease(store, 261)

        assert await store.list_kept(late, 100) == []
        read = [read_as(each, failed("t1")) for each in kept]
        assert await store.reprocess(late, read, later(262), later(262)) is False
        assert await store.get_event("vidgo", "t1") is None

    async def test_bodies_that_retention_dropped_are_not_read_again(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1")))
        await store.purge(later(1), 10)

        assert await store.count_matches(Stage.REPROCESS, WorkFilter()) == 0

    @pytest.mark.parametrize(
        ("wanted", "matched"),
        [
            (WorkFilter(provider="vidgo"), 2),
            (WorkFilter(owner="ann"), 1),
            (WorkFilter(state=TaskState.SUBMITTED), 1),
            (WorkFilter(type=EventType.FAILED), 0),
            (WorkFilter(task_ids=("t1", "stranger")), 2),
            (WorkFilter(since=later(5)), 1),
        ],
    )
    async def test_kept_deliveries_are_filtered_by_their_tasks(
        self, store: Store, wanted: WorkFilter, matched: int
    ) -> None:
        await store.record(recording(unclear("t1")))
        await store.log_submission(submission("t1", owner="ann"))
        await store.record(recording(unclear("stranger"), received_at=later(9)))

        assert await store.count_matches(Stage.REPROCESS, wanted) == matched

    # --- dead letters ---------------------------------------------------------------------------------

    async def test_dead_letters_are_listed_with_what_the_last_attempt_said(self, store: Store) -> None:
        await store.log_submission(submission("t1", owner="ann"))
        await store.record(recording(failed("t1")))
        (first,) = await store.lease_outbox("all", later(1), later(60), 10)
        await store.settle_outbox(first, settlement(Outcome.TIMEOUT, at=later(1), retry_at=later(2)))
        (last,) = await store.lease_outbox("all", later(2), later(60), 10)
        refused = msgspec.structs.replace(
            settlement(Outcome.REFUSED, at=later(2)), detail="403 from the sink"
        )
        await store.settle_outbox(last, refused)

        (letter,) = await dead_letters(store)

        assert letter == DeadLetter(
            id=last.id,
            sink="all",
            event_id=last.event.id,
            provider="vidgo",
            task_id="t1",
            owner="ann",
            type=EventType.FAILED,
            revision=1,
            replay_id=None,
            attempts=2,
            outcome=Outcome.REFUSED,
            detail="403 from the sink",
            created_at=later(0),
            settled_at=later(2),
        )

    async def test_pages_of_dead_letters_show_each_once_newest_first(self, store: Store) -> None:
        for number in range(5):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}")))
            await publish(store, "all", at=1, outcome=Outcome.REFUSED)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.list_dead(WorkFilter(), "all", 2, cursor)
            seen += [letter.task_id for letter in page.dead_letters]
            cursor = page.next_cursor
            if cursor is None:
                break

        assert seen == ["t4", "t3", "t2", "t1", "t0"]

    @pytest.mark.parametrize(
        "cursor", ["sub_1", "out_", "out_1; DROP TABLE outbox", "out_-1", "out_" + "9" * 40]
    )
    async def test_a_cursor_that_is_not_ours_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(Rejected) as refused:
            await store.list_dead(WorkFilter(), None, 10, cursor)

        assert refused.value.status == 400

    async def test_requeued_dead_letters_are_due_now_with_all_their_attempts(self, store: Store) -> None:
        for task_id, owner in (("t1", "ann"), ("t2", "bob")):
            await store.log_submission(submission(task_id, owner=owner))
            await store.record(recording(failed(task_id)))
        for sink in ("all", "failures"):
            await publish(store, sink, at=1, outcome=Outcome.REFUSED)

        mine = WorkFilter(owner="ann")
        counted = await store.count_dead(mine, ["all"])
        requeued = await store.requeue_dead(mine, ["all"], later(500), 10)

        (work,) = await store.lease_outbox("all", later(500), later(560), 10)
        assert (counted, requeued) == (1, 1)
        assert (work.event.task_id, work.attempt, work.replay_id) == ("t1", 1, None)
        assert sorted((letter.sink, letter.task_id) for letter in await dead_letters(store)) == [
            ("all", "t2"),
            ("failures", "t1"),
            ("failures", "t2"),
        ]

    async def test_a_requeue_takes_the_oldest_first_and_no_more_than_it_may(self, store: Store) -> None:
        for number in range(5):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}")))
        await publish(store, "all", at=1, outcome=Outcome.REFUSED)

        assert await store.requeue_dead(WorkFilter(), [], later(500), 3) == 3

        works = await store.lease_outbox("all", later(500), later(560), 10)
        assert [work.event.task_id for work in works] == ["t0", "t1", "t2"]
        assert await store.count_dead(WorkFilter(), []) == 2

    @pytest.mark.parametrize(
        ("wanted", "task_ids"),
        [
            (WorkFilter(), ["t2", "t1"]),
            (WorkFilter(provider="apixo"), ["t2"]),
            (WorkFilter(owner="ann"), ["t1"]),
            (WorkFilter(state=TaskState.FAILED), ["t2", "t1"]),
            (WorkFilter(type=EventType.COMPLETED), []),
            (WorkFilter(since=later(5)), ["t2"]),
            (WorkFilter(until=later(5)), ["t1"]),
            (WorkFilter(task_ids=("t1", "t3")), ["t1"]),
            (WorkFilter(task_ids=("t1", "t2"), provider="apixo"), ["t2"]),
        ],
    )
    async def test_dead_letters_are_filtered(
        self, store: Store, wanted: WorkFilter, task_ids: list[str]
    ) -> None:
        for task_id, owner, provider, at in (("t1", "ann", "vidgo", 1), ("t2", "bob", "apixo", 9)):
            await store.log_submission(submission(task_id, owner=owner, provider=provider))
            await store.record(recording(failed(task_id), provider=provider, received_at=later(at)))
            await publish(store, "all", at=at, outcome=Outcome.REFUSED)

        assert [letter.task_id for letter in await dead_letters(store, wanted)] == task_ids
        assert await store.count_dead(wanted, ["all"]) == len(task_ids)
        assert await dead_letters(store, wanted, "failures") == []

    async def test_a_dead_letter_of_a_replay_counts_in_it_once_even_when_it_is_requeued(
        self, store: Store
    ) -> None:
        await end_task(store, "t1")
        started = await store.start_replay(replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await publish(store, "all", at=201, outcome=Outcome.REFUSED)

        await store.requeue_dead(WorkFilter(), [], later(300), 10)
        (again,) = await publish(store, "all", at=301)

        done = await get(store, started.id)
        assert again.replay_id == started.id
        assert (done.state, done.settled, done.results) == (ReplayState.DONE, 1, {"refused": 1})

    async def test_a_dead_letter_that_is_requeued_while_its_replay_runs_ends_it_no_sooner(
        self, store: Store
    ) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await store.start_replay(replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await publish(store, "all", at=201, outcome=Outcome.REFUSED, limit=1)
        waiting = await store.lease_outbox("all", later(202), later(900), 10)

        for outcome in (Outcome.REFUSED, Outcome.DELIVERED):
            assert await store.requeue_dead(WorkFilter(), [], later(300), 10) == 1
            (again,) = await publish(store, "all", at=301, outcome=outcome)
            assert again.replay_id == started.id

        running = await get(store, started.id)
        assert (running.state, running.settled, running.results) == (ReplayState.RUNNING, 1, {"refused": 1})
        for work in waiting:
            await store.settle_outbox(work, settlement(Outcome.DELIVERED, at=later(400)))
        done = await get(store, started.id)
        assert (done.state, done.results) == (ReplayState.DONE, {"refused": 1, "delivered": 2})

    async def test_a_dead_letter_that_is_requeued_outlives_the_end_of_its_replay(self, store: Store) -> None:
        await end_task(store, "t1")
        await end_task(store, "t2")
        started = await store.start_replay(replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        (first,) = await publish(store, "all", at=201, outcome=Outcome.REFUSED, limit=1)
        await store.requeue_dead(WorkFilter(), [], later(300), 10)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(301))

        assert (cancelled.settled, cancelled.results) == (2, {"refused": 1, "withdrawn": 1})
        (again,) = await store.lease_outbox("all", later(302), later(360), 10)
        assert again.id == first.id
        await store.settle_outbox(again, settlement(Outcome.TIMEOUT, at=later(303), retry_at=later(310)))
        assert [work.id for work in await publish(store, "all", at=310)] == [first.id]
        assert await get(store, started.id) == cancelled
