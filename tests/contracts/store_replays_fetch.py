"""What every store must do when files that could not be had are fetched again."""

from receiver.models import AssetState, EventType, Outcome, ReplayState, Stage, TaskState
from receiver.ports import Store
from tests.contracts.replaying import (
    LINK_LIFE_SECONDS,
    end_with_files,
    get,
    make_step,
    publish,
    replay,
    start_replay,
    task_of,
)
from tests.support.factories import (
    answer,
    completed,
    inline,
    later,
    recording,
    settlement,
    stored,
    submission,
)
from tests.support.settling import settle_outbox


class FetchContract:
    """Part of ``ReplaysContract``, which brings the ``store``."""

    async def test_files_that_could_not_be_had_get_all_their_attempts_again(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED, Outcome.GONE)
        await end_with_files(store, "t2", Outcome.STORED)
        started = await start_replay(store, replay(Stage.FETCH))

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
        await start_replay(store, replay(Stage.FETCH, created_at=later(3 * day)))
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
        started = await start_replay(store, replay(Stage.FETCH))
        await make_step(store, 200)
        (work,) = await store.lease_assets(later(201), later(260), 10)

        await store.settle_asset(work, stored(work, at=later(202)))

        (sent,) = await publish(store, "all", at=203)
        assert (sent.revision, sent.event.type, sent.replay_id) == (2, EventType.COMPLETED, None)
        done = await get(store, started.id)
        assert (done.state, done.queued, done.results) == (ReplayState.DONE, 1, {"stored": 1})

    async def test_files_that_fail_again_are_counted_and_tell_nothing_new(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.STORED, Outcome.GONE)
        started = await start_replay(store, replay(Stage.FETCH))
        await make_step(store, 200)
        (work,) = await store.lease_assets(later(201), later(260), 10)

        await store.settle_asset(work, settlement(Outcome.TIMEOUT, at=later(202)))

        assert await publish(store, "all", at=203) == []
        assert (await get(store, started.id)).results == {"timeout": 1}

    async def test_a_body_is_spared_by_retention_while_a_replay_unpacks_a_file_from_it(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(answer(inline("t1", "first"), body=b"{whole}"))
        (work,) = await store.lease_assets(later(1), later(60), 10)
        await store.settle_asset(work, settlement(Outcome.TOO_LARGE))
        await store.follow_deliveries(later(9), 10)
        await start_replay(store, replay(Stage.FETCH))
        await make_step(store, 200)
        while await store.purge(later(300), 10):
            pass
        assert await store.list_end_bodies("vidgo", "t1") == [b"{whole}"]

        (work,) = await store.lease_assets(later(201), later(260), 10)
        await store.settle_asset(work, settlement(Outcome.TOO_LARGE))
        while await store.purge(later(300), 10):
            pass
        assert await store.list_end_bodies("vidgo", "t1") == []

    async def test_a_cancelled_fetch_leaves_files_as_failed_and_tells_what_it_got(self, store: Store) -> None:
        await end_with_files(store, "t1", Outcome.GONE, Outcome.GONE, Outcome.GONE)
        started = await start_replay(store, replay(Stage.FETCH))
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
        started = await start_replay(store, replay(Stage.FETCH))
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
        await settle_outbox(store, untold, settlement(Outcome.TIMEOUT, at=later(2), retry_at=later(9999)))
        sent = await start_replay(store, replay(Stage.NOTIFY))
        await make_step(store, 200)
        await store.lease_replays(later(200), later(200), 10)
        await start_replay(store, replay(Stage.FETCH))
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
        await start_replay(store, replay(Stage.FETCH))
        await make_step(store, 200)
        (held,) = await store.lease_outbox("all", later(201), later(260), 10)
        (last,) = await store.lease_assets(later(201), later(260), 10)
        await store.settle_asset(last, stored(last, at=later(202)))

        again = settlement(Outcome.TIMEOUT, at=later(203), retry_at=later(210))
        assert await settle_outbox(store, held, again)

        assert [work.revision for work in await publish(store, "all", at=9999)] == [2]
        assert [attempt.outcome for attempt in (await task_of(store, "t1")).attempts][-2:] == [
            Outcome.TIMEOUT,
            Outcome.DELIVERED,
        ]
