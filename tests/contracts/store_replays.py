"""What every store must do about replays: what they match, how they are stopped, and each stage's part."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from receiver.errors import Rejected
from receiver.models import HOUR, EventType, Outcome, ReplayState, Stage, TaskFilter, TaskState, WorkFilter
from receiver.ports import Store
from receiver.problem_types import ProblemType
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
from tests.contracts.store import OpenStore
from tests.contracts.store_dead_letters import DeadLettersContract
from tests.contracts.store_replays_fetch import FetchContract
from tests.contracts.store_replays_notify import NotifyContract
from tests.contracts.store_replays_poll import PollContract
from tests.contracts.store_replays_reprocess import ReprocessContract
from tests.contracts.store_revisions import RevisionsContract
from tests.support.factories import completed, failed, later, recording, settlement, submission, unclear
from tests.support.settling import settle_outbox

ENDED = {ReplayState.DONE, ReplayState.CANCELLED}


class ReplaysContract(
    NotifyContract, FetchContract, PollContract, ReprocessContract, DeadLettersContract, RevisionsContract
):
    """Subclasses give an ``open_store`` fixture that opens the same record again and again."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

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

        counted = await store.count_matches(Stage.NOTIFY, asked.filter, later(10**6))
        started = await start_replay(store, asked)
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

        assert await store.count_matches(stage, WorkFilter(since=later(40)), later(10**6)) == matched
        assert await store.count_matches(stage, WorkFilter(until=later(40)), later(10**6)) == 1 - matched

    @pytest.mark.parametrize(
        ("wanted", "task_ids"),
        [
            (WorkFilter(logged_since=later(4 * HOUR)), ["back", "third", "last"]),
            (WorkFilter(logged_since=later(4 * HOUR + 1)), ["third", "last"]),
            (WorkFilter(logged_until=later(4 * HOUR)), ["first", "second"]),
            (WorkFilter(logged_since=later(HOUR), logged_until=later(5 * HOUR)), ["second", "back", "third"]),
            (WorkFilter(logged_since=later(HOUR), logged_until=later(2 * HOUR)), []),
            (WorkFilter(logged_since=later(HOUR), owner="bob"), ["last"]),
            (WorkFilter(logged_since=later(HOUR), task_ids=("first", "back")), ["back"]),
            (WorkFilter(logged_until=later(4.5 * HOUR), provider="vidgo"), ["first", "second", "back"]),
        ],
    )
    async def test_times_of_logging_are_those_of_lists_whatever_is_done(
        self, store: Store, wanted: WorkFilter, task_ids: list[str]
    ) -> None:
        """All ends at once, long after. One was logged when a clock had been set back by half an hour."""
        logged = {"first": 0, "second": 3, "third": 4.5, "back": 4, "last": 8}
        for task_id, hours in logged.items():
            made = submission(task_id, owner="bob" if task_id == "last" else "ann")
            at = later(hours * HOUR)
            await store.log_submission(msgspec.structs.replace(made, created_at=at, bound_at=at))
        now, then = later(9 * HOUR), later(10 * HOUR)
        listed = TaskFilter(owner=wanted.owner, since=wanted.logged_since, until=wanted.logged_until)
        page = await store.list_tasks(listed, 10, None)
        expected = [task_id for task_id in logged if task_id in task_ids]
        assert {task.task_id for task in page.tasks} & {*(wanted.task_ids or logged)} == {*expected}

        assert await store.count_matches(Stage.POLL, wanted, then) == len(expected)
        for task_id in (*logged, "of no task"):
            await store.record(recording(unclear(task_id), received_at=now))
        assert await store.count_matches(Stage.REPROCESS, wanted, then) == len(expected)
        for task_id in logged:
            await store.record(recording(failed(task_id), received_at=now))
        await publish(store, "all", at=9 * HOUR, outcome=Outcome.REFUSED)
        assert await store.count_dead(wanted, ["all"]) == len(expected)
        letters = (await store.list_dead(wanted, "all", 10, None)).dead_letters
        assert [letter.task_id for letter in reversed(letters)] == expected
        tally = await store.tally_matches(Stage.NOTIFY, wanted, then, 10)
        assert (tally.count, tally.is_whole) == (len(expected), True)
        examples = await store.pages.list_examples(Stage.NOTIFY, wanted, then, 10)
        assert [task.task_id for task in reversed(examples)] == expected

        asked = replay(Stage.NOTIFY, wanted, sinks=("all",), created_at=then)
        assert (await start_replay(store, asked)).matched == len(expected)
        await make_step(store, 11 * HOUR)
        works = await publish(store, "all", at=12 * HOUR)
        assert [work.event.task_id for work in works] == expected

    # --- what happens between looking and doing -------------------------------------------------------

    async def test_what_comes_between_counting_and_starting_is_left_alone(self, store: Store) -> None:
        await end_task(store, "before", at=0)
        asked = replay(Stage.NOTIFY, sinks=("all",))
        matched = await store.count_matches(asked.stage, asked.filter, asked.created_at)
        await end_task(store, "between", at=101)

        await store.start_replay(asked)
        await make_step(store, 200)

        assert [work.event.task_id for work in await publish(store, "all", at=201)] == ["before"]
        assert (matched, (await get(store, asked.id)).looked_at) == (1, 1)

    async def test_a_match_that_is_none_any_more_when_the_step_is_made_is_passed_over(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("ends"))
        await store.log_submission(submission("open"))
        started = await start_replay(store, replay(Stage.POLL))
        work = await lease(store, 200)
        matches = await store.find_matches(work, 10)
        await store.record(recording(failed("ends"), received_at=later(201)))

        assert await store.step_replay(work, matches, later(202), later(202))

        moved = await get(store, started.id)
        assert (len(matches.keys), moved.looked_at, moved.queued) == (2, 2, 1)

    async def test_matches_are_good_for_one_step_of_the_lease_that_they_were_found_for(
        self, store: Store
    ) -> None:
        await end_task(store, "t1")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        work = await lease(store, 200)
        matches = await store.find_matches(work, 10)

        assert await store.step_replay(work, matches, later(201), later(201))
        assert not await store.step_replay(work, matches, later(202), later(202))

        assert len(await publish(store, "all", at=203)) == 1
        assert (await get(store, started.id)).looked_at == 1
        assert (await store.find_matches(work, 10)).keys == ()

    # --- paused, resumed, cancelled -------------------------------------------------------------------

    async def test_a_paused_replay_makes_no_step_until_it_is_resumed(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await start_replay(store, replay(Stage.NOTIFY))
        begun = await lease(store, 200)

        paused = await store.change_replay(started.id, ReplayState.PAUSED, later(201))

        assert paused.state is ReplayState.PAUSED
        assert await step_replay(store, begun, 100, later(202), later(202)) is False
        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await store.next_due_at("replays") is None
        resumed = await store.change_replay(started.id, ReplayState.RUNNING, later(300))
        assert resumed.state is ReplayState.RUNNING
        await make_step(store, 300)
        assert len(await publish(store, "all", at=301)) == 1

    async def test_what_a_paused_replay_has_queued_goes_on_and_may_end_it(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await store.change_replay(started.id, ReplayState.PAUSED, later(201))

        await publish(store, "all", at=202)

        assert (await get(store, started.id)).state is ReplayState.DONE

    async def test_resuming_a_running_replay_does_not_disturb_its_step(self, store: Store) -> None:
        started = await start_replay(store, replay(Stage.NOTIFY))
        begun = await lease(store, 200)

        await store.change_replay(started.id, ReplayState.RUNNING, later(201))

        assert await step_replay(store, begun, 100, later(202), later(202)) is True

    async def test_a_cancelled_replay_takes_back_what_nobody_holds(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 200, limit=2)
        (held,) = await store.lease_outbox("all", later(201), later(260), 1)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(202))

        assert (cancelled.state, cancelled.finished_at) == (ReplayState.CANCELLED, later(202))
        assert (cancelled.queued, cancelled.settled, cancelled.results) == (4, 3, {"withdrawn": 3})
        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await publish(store, "all", at=203) == await publish(store, "failures", at=203) == []
        assert await settle_outbox(store, held, settlement(Outcome.DELIVERED, at=later(204)))
        assert await get(store, started.id) == msgspec.structs.replace(
            cancelled, settled=4, results={"withdrawn": 3, "delivered": 1}
        )

    async def test_what_a_cancelled_replay_queued_is_taken_back_in_steps_and_sent_no_more(
        self, store: Store
    ) -> None:
        tasks = [f"t{number}" for number in range(600)]
        await asyncio.gather(*(store.log_submission(submission(task)) for task in tasks))
        await asyncio.gather(*(store.record(recording(failed(task))) for task in tasks))
        for sink in ("all", "failures"):
            await publish(store, sink, at=1, limit=600)
        started = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 200, limit=1000)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(202))
        held = await store.lease_outbox("all", later(203), later(260), 1000)
        taken_back = [cancelled.results["withdrawn"]]
        (work,) = await store.lease_replays(later(203), later(260), 10)
        while await store.withdraw_pieces(work, later(203), later(260)):
            taken_back.append((await get(store, started.id)).results["withdrawn"])

        assert held == []
        assert taken_back == [500, 1000]
        ended = await get(store, started.id)
        assert (ended.queued, ended.settled, ended.results) == (1200, 1200, {"withdrawn": 1200})
        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await publish(store, "all", at=204) == await publish(store, "failures", at=204) == []

    async def test_a_notification_under_way_when_its_replay_is_cancelled_gets_no_other_try(
        self, store: Store
    ) -> None:
        await end_task(store, "t1")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        (held,) = await store.lease_outbox("all", later(201), later(260), 10)
        await store.change_replay(started.id, ReplayState.CANCELLED, later(202))

        again = settlement(Outcome.TIMEOUT, at=later(203), retry_at=later(210))
        assert await settle_outbox(store, held, again)

        assert await store.lease_outbox("all", later(9999), later(9999), 10) == []
        cancelled = await get(store, started.id)
        assert (cancelled.settled, cancelled.results) == (1, {"withdrawn": 1})

    async def test_cancelling_takes_nothing_from_others(self, store: Store) -> None:
        await end_task(store, "t1")
        await store.log_submission(submission("fresh"))
        await store.record(recording(failed("fresh"), received_at=later(99)))
        first = await start_replay(store, replay(Stage.NOTIFY, WorkFilter(task_ids=("t1",))))
        await make_step(store, 200)
        second = await start_replay(store, replay(Stage.NOTIFY, WorkFilter(task_ids=("t1",))))
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
        done = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 200)
        await end_task(store, "t1")
        cancelled = await start_replay(store, replay(Stage.NOTIFY))
        await store.change_replay(cancelled.id, ReplayState.CANCELLED, later(200))

        kinds = []
        for replay_id in (done.id, cancelled.id, "rpl_nothing"):
            with pytest.raises(Rejected) as refused:
                await store.change_replay(replay_id, state, later(201))
            kinds.append(refused.value.kind)

        assert kinds == [ProblemType.REPLAY_ENDED, ProblemType.REPLAY_ENDED, ProblemType.UNKNOWN_REPLAY]
        assert await store.get_replay("rpl_nothing") is None
        assert {each.state for each in await store.list_replays(10)} == ENDED
