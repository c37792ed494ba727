"""What every store must do when a replay has providers asked."""

from receiver.models import Outcome, ReplayState, Stage
from receiver.ports import Store
from tests.contracts.replaying import end_task, get, make_step, replay, start_replay
from tests.support.factories import failed, later, recording, settlement, submission


class PollContract:
    """Part of ``ReplaysContract``, which brings the ``store``."""

    async def test_open_tasks_are_asked_about_now(self, store: Store) -> None:
        await store.log_submission(submission("open"))
        await end_task(store, "ended")
        started = await start_replay(store, replay(Stage.POLL))
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
        await start_replay(store, replay(Stage.POLL, created_at=later(400)))

        await make_step(store, 400)

        assert len(await store.lease_polls("vidgo", later(400), later(460), 10)) == 1

    async def test_a_question_on_its_way_counts_for_the_replay_that_wanted_it(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        (work,) = await store.lease_polls("vidgo", later(300), later(360), 10)
        started = await start_replay(store, replay(Stage.POLL, created_at=later(310)))

        await make_step(store, 310)

        assert await store.lease_polls("vidgo", later(311), later(360), 10) == []
        await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, at=later(312), retry_at=later(600)))
        assert (await get(store, started.id)).results == {"in_progress": 1}

    async def test_two_poll_replays_ask_once(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        first = await start_replay(store, replay(Stage.POLL))
        await make_step(store, 200)
        second = await start_replay(store, replay(Stage.POLL))
        await make_step(store, 200)

        (work,) = await store.lease_polls("vidgo", later(201), later(260), 10)

        assert work.replay_id == first.id
        assert (await get(store, second.id)).queued == 0

    async def test_a_callback_that_comes_first_settles_the_question(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        started = await start_replay(store, replay(Stage.POLL))
        await make_step(store, 200)

        await store.record(recording(failed("t1"), received_at=later(201)))

        assert await store.lease_polls("vidgo", later(202), later(260), 10) == []
        done = await get(store, started.id)
        assert (done.state, done.settled) == (ReplayState.DONE, 1)

    async def test_tasks_of_a_provider_that_cannot_be_asked_are_counted_as_such(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="apidot"))
        started = await start_replay(store, replay(Stage.POLL))

        await make_step(store, 200)

        done = await get(store, started.id)
        assert (done.state, done.settled, done.results) == (ReplayState.DONE, 1, {"unpolled": 1})

    async def test_a_cancelled_poll_replay_puts_its_questions_off(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        started = await start_replay(store, replay(Stage.POLL))
        await make_step(store, 200)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(201))

        assert cancelled.results == {"withdrawn": 1}
        assert await store.next_due_at("polls", "vidgo") == later(501)
        (work,) = await store.lease_polls("vidgo", later(501), later(560), 10)
        assert work.replay_id is None
