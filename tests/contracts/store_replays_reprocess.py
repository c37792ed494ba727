"""What every store must do when kept deliveries are read again."""

import msgspec
import pytest

from receiver.models import (
    EventType,
    KeptDelivery,
    ReplayState,
    Report,
    Stage,
    TaskState,
    Verdict,
    WorkFilter,
)
from receiver.ports import Store
from tests.contracts.replaying import get, lease, replay, start_replay, task_of
from tests.support.factories import answer, completed, failed, later, progress, recording, submission, unclear


def read_as(kept: KeptDelivery, report: Report) -> KeptDelivery:
    """A kept delivery as an adapter understands it that has learned."""
    fresh = recording(report, body=kept.recording.body)
    return msgspec.structs.replace(
        kept,
        recording=msgspec.structs.replace(kept.recording, report=report, fingerprint=fresh.fingerprint),
    )


class ReprocessContract:
    """Part of ``ReplaysContract``, which brings the ``store``."""

    async def test_a_kept_delivery_that_is_understood_now_counts_like_any_other(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"odd", received_at=later(7)))
        started = await start_replay(store, replay(Stage.REPROCESS))
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
        started = await start_replay(store, replay(Stage.REPROCESS))
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
        await start_replay(store, replay(Stage.REPROCESS))
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
        await start_replay(store, replay(Stage.REPROCESS))
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
        await start_replay(store, replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, completed("t1"))], later(200), later(200))

        verdicts = [d.verdict for d in (await task_of(store, "t1")).deliveries]
        assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED]

    async def test_one_whose_submission_is_not_there_yet_waits_for_it(self, store: Store) -> None:
        await store.record(recording(unclear("t1"), body=b"odd"))
        await start_replay(store, replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))
        assert await store.get_event("vidgo", "t1") is None
        await store.log_submission(submission("t1"))

        assert (await task_of(store, "t1")).state is TaskState.FAILED

    async def test_a_body_in_which_no_task_was_found_finds_its_task_later(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear(None), body=b"odd"))
        await start_replay(store, replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        task = await task_of(store, "t1")
        assert (task.state, [d.verdict for d in task.deliveries]) == (TaskState.FAILED, [Verdict.ACCEPTED])

    async def test_a_body_that_came_again_under_its_task_counts_once(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear(None), body=b"odd"))
        await start_replay(store, replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)
        await store.record(recording(failed("t1"), body=b"odd"))

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        assert [d.verdict for d in (await task_of(store, "t1")).deliveries] == [Verdict.ACCEPTED]
        assert (await store.count_stats()).deliveries == {"accepted": 1, "duplicate": 1}

    async def test_one_whose_time_runs_out_while_it_is_read_stays_unowned(self, store: Store) -> None:
        await store.record(recording(unclear("t1"), body=b"odd"))
        started = await start_replay(store, replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)
        while await store.purge(later(1), 10):
            pass

        assert await store.list_kept(work, 100) == []
        await store.log_submission(submission("t1"))
        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        task = await task_of(store, "t1")
        assert (task.event, [d.verdict for d in task.deliveries]) == (None, [Verdict.UNOWNED])
        assert (await get(store, started.id)).results == {"unowned": 1}

    async def test_a_token_binds_and_bounds_what_is_read_again(self, store: Store) -> None:
        reserved, bound = submission(None), submission("mine")
        await store.log_submission(reserved)
        await store.log_submission(bound)
        await store.log_submission(submission("theirs", owner="somebody-else"))
        await store.record(recording(unclear(None), body=b"1", submission_id=reserved.id))
        await store.record(recording(unclear(None), body=b"2", submission_id=bound.id))
        await start_replay(store, replay(Stage.REPROCESS))
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
        await start_replay(store, replay(Stage.REPROCESS))
        work = await lease(store, 200)
        (kept,) = await store.list_kept(work, 100)
        await store.record(recording(failed("t1"), body=b"odd"))

        await store.reprocess(work, [read_as(kept, failed("t1"))], later(200), later(200))

        assert [d.verdict for d in (await task_of(store, "t1")).deliveries] == [Verdict.ACCEPTED]

    async def test_reading_again_without_the_lease_changes_nothing(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1")))
        await start_replay(store, replay(Stage.REPROCESS))
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
        assert (
            await store.count_matches(Stage.REPROCESS, WorkFilter(), later(10**6)) == 1
        )  # its task may still end by it

        await store.record(recording(failed("t1")))
        await store.purge(later(1), 10)

        assert await store.count_matches(Stage.REPROCESS, WorkFilter(), later(10**6)) == 0

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

        assert await store.count_matches(Stage.REPROCESS, wanted, later(10**6)) == matched
