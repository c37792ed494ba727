"""What every store must do when events are sent again."""

import asyncio

from receiver.models import Outcome, ReplayState, Stage
from receiver.ports import Store
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
    task_of,
)
from tests.contracts.store import OpenStore
from tests.support.factories import failed, later, recording, settlement, submission


class NotifyContract:
    """Part of ``ReplaysContract``, which brings the ``store``."""

    async def test_an_event_is_sent_again_to_each_sink_that_wants_it_with_the_same_id(
        self, store: Store
    ) -> None:
        await end_task(store, "t1")
        await end_with_files(store, "t2", Outcome.STORED)
        started = await start_replay(store, replay(Stage.NOTIFY))

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
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",), requested_by="admin-1"))
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
        started = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 200)

        assert await store.next_due_at("replays") == later(200)
        assert (await lease(store, 201)).replay.state is ReplayState.DONE

        assert await store.lease_replays(later(9999), later(9999), 10) == []
        assert await store.next_due_at("replays") is None
        assert (await get(store, started.id)).finished_at == later(200)

    async def test_named_sinks_get_it_whatever_they_want_and_others_do_not(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED)
        await start_replay(store, replay(Stage.NOTIFY, sinks=("failures",)))

        await make_step(store, 200)

        assert [work.event.task_id for work in await publish(store, "failures", at=201)] == ["t1"]
        assert await publish(store, "all", at=201) == []

    async def test_two_replays_of_an_event_are_two_messages(self, store: Store) -> None:
        await end_task(store, "t1")
        ids = set()
        for _ in range(2):
            ids.add((await start_replay(store, replay(Stage.NOTIFY))).id)
            await make_step(store, 200)
            await store.lease_replays(later(200), later(200), 10)

        assert {work.replay_id for work in await publish(store, "all", at=201)} == ids

    async def test_steps_look_at_everything_once_in_order(self, store: Store) -> None:
        for number in range(5):
            await end_task(store, f"t{number}")
        started = await start_replay(store, replay(Stage.NOTIFY))
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
        started = await start_replay(store, replay(Stage.NOTIFY))
        late = await lease(store, 200)
        current = await lease(store, 261)

        made = [
            await step_replay(store, late, 2, later(262), later(262)),
            await step_replay(store, current, 2, later(262), later(262)),
            await step_replay(store, current, 2, later(262), later(262)),
            await step_replay(store, late, 2, later(262), later(262)),
        ]

        assert made == [False, True, False, False]
        assert (await get(store, started.id)).looked_at == 2
        assert len(await publish(store, "all", at=263)) == 2

    async def test_two_that_step_at_once_queue_nothing_twice(self, store: Store) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        await start_replay(store, replay(Stage.NOTIFY))
        work = await lease(store, 200)

        made = await asyncio.gather(
            *(step_replay(store, work, 100, later(201), later(201)) for _ in range(5))
        )

        assert made.count(True) == 1
        assert len(await publish(store, "all", at=202)) == 3

    async def test_a_replay_goes_on_where_it_was_after_a_crash(self, open_store: OpenStore) -> None:
        store = await open_store()
        for number in range(4):
            await end_task(store, f"t{number}")
        started = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 200, limit=3)
        await lease(store, 201)  # and never settled
        await store.aclose()

        again = await open_store()

        works = await again.lease_replays(later(10**9), later(10**9), 10)
        assert [work.replay.looked_at for work in works] == [3]
        assert await step_replay(again, works[0], 3, later(202), later(202))
        assert len(await publish(again, "all", at=203)) == 4
        assert (await get(again, started.id)).looked_at == 4
        await again.aclose()

    async def test_what_comes_after_it_was_asked_for_is_left_alone(self, store: Store) -> None:
        await end_task(store, "before")
        await store.log_submission(submission("meanwhile"))
        started = await start_replay(store, replay(Stage.NOTIFY))
        await store.record(recording(failed("meanwhile"), received_at=later(150)))
        await end_task(store, "after", at=150)
        await publish(store, "all", at=150)

        await make_step(store, 200)

        assert [work.event.task_id for work in await publish(store, "all", at=201)] == ["before"]
        assert (started.matched, (await get(store, started.id)).looked_at) == (1, 1)

    async def test_what_a_dead_sink_was_to_get_again_is_counted_when_it_is_given_up(
        self, store: Store
    ) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)

        down = settlement(Outcome.TIMEOUT, at=later(300))
        assert await store.give_up_outbox("all", later(200), down, 10) == 3

        done = await get(store, started.id)
        assert (done.state, done.results) == (ReplayState.DONE, {"timeout": 3})

    async def test_a_step_of_none_only_waits(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await start_replay(store, replay(Stage.NOTIFY))

        assert await step_replay(store, await lease(store, 200), 0, later(200), later(230))

        assert await store.next_due_at("replays") == later(230)
        assert await store.lease_replays(later(229), later(300), 10) == []
        assert await get(store, started.id) == started
