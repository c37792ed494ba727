"""What every store must do about dead letters: list them, and make them due again."""

import msgspec
import pytest

from receiver.errors import Rejected
from receiver.models import DeadLetter, EventType, Moved, Outcome, ReplayState, Stage, TaskState, WorkFilter
from receiver.ports import Store
from receiver.problem_types import ProblemType
from tests.contracts.replaying import (
    EVERYTHING,
    end_task,
    get,
    make_step,
    publish,
    replay,
    requeue_dead,
    start_replay,
    task_of,
)
from tests.support.factories import failed, later, recording, settlement, submission
from tests.support.settling import settle_outbox


async def dead_letters(
    store: Store, wanted: WorkFilter = EVERYTHING, sink: str | None = None
) -> list[DeadLetter]:
    page = await store.list_dead(wanted, sink, 100, None)
    return list(page.dead_letters)


class DeadLettersContract:
    """Part of ``ReplaysContract``, which brings the ``store``."""

    async def test_dead_letters_are_listed_with_what_the_last_attempt_said(self, store: Store) -> None:
        await store.log_submission(submission("t1", owner="ann"))
        await store.record(recording(failed("t1")))
        (first,) = await store.lease_outbox("all", later(1), later(60), 10)
        await settle_outbox(store, first, settlement(Outcome.TIMEOUT, at=later(1), retry_at=later(2)))
        (last,) = await store.lease_outbox("all", later(2), later(60), 10)
        refused = msgspec.structs.replace(
            settlement(Outcome.REFUSED, at=later(2)), detail="403 from the sink"
        )
        await settle_outbox(store, last, refused)

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

    async def test_tries_at_the_event_and_at_its_replay_are_told_apart(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        for seconds, detail in ((201, "the first"), (202, "the second")):
            for work in await store.lease_outbox("all", later(seconds), later(260), 10):
                text = f"{detail} of {'the replay' if work.replay_id else 'the event'}"
                timeout = settlement(Outcome.TIMEOUT, at=later(seconds), retry_at=later(202))
                if detail == "the second" and not work.replay_id:
                    timeout = settlement(Outcome.TIMEOUT, at=later(seconds))
                await settle_outbox(store, work, msgspec.structs.replace(timeout, detail=text))

        (letter,) = await dead_letters(store)

        task = await task_of(store, "t1")
        assert letter.detail == "the second of the event"
        assert [(attempt.times, attempt.detail) for attempt in task.attempts] == [
            (2, "the second of the event"),
            (2, "the second of the replay"),
        ]

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
        "cursor",
        [
            "",
            "sub_1",
            "out_7",
            "at_",
            "at_1; DROP TABLE outbox",
            "at_-1",
            "at_" + "9" * 40,
            "out_",
            "out_1; DROP TABLE outbox",
            "out_-1",
            "out_" + "9" * 40,
        ],
    )
    async def test_a_cursor_that_is_not_ours_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(Rejected) as refused:
            await store.list_dead(WorkFilter(), None, 10, cursor)

        assert refused.value.kind is ProblemType.BAD_CURSOR

    async def test_a_requeue_in_steps_goes_on_where_it_was_and_meets_none_twice(self, store: Store) -> None:
        for number in range(5):
            await store.log_submission(submission(f"t{number}"))
            await store.record(recording(failed(f"t{number}")))
            await publish(store, "all", at=1, outcome=Outcome.REFUSED)
        counts, cursor = [], None
        while True:
            step = await requeue_dead(store, WorkFilter(), ["all"], later(500), 2, after=cursor)
            counts.append(step.count)
            await publish(store, "all", at=500, outcome=Outcome.REFUSED)  # they die again at once
            cursor = step.cursor
            if cursor is None:
                break

        assert counts == [2, 2, 1]

    async def test_requeued_dead_letters_are_due_now_with_all_their_attempts(self, store: Store) -> None:
        for task_id, owner in (("t1", "ann"), ("t2", "bob")):
            await store.log_submission(submission(task_id, owner=owner))
            await store.record(recording(failed(task_id)))
        for sink in ("all", "failures"):
            await publish(store, sink, at=1, outcome=Outcome.REFUSED)

        mine = WorkFilter(owner="ann")
        counted = await store.count_dead(mine, ["all"])
        requeued = (await requeue_dead(store, mine, ["all"], later(500), 10)).count

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

        assert (await requeue_dead(store, WorkFilter(), [], later(500), 3)).count == 3

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
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await publish(store, "all", at=201, outcome=Outcome.REFUSED)

        await requeue_dead(store, WorkFilter(), [], later(300), 10)
        (again,) = await publish(store, "all", at=301)

        done = await get(store, started.id)
        assert again.replay_id == started.id
        assert (done.state, done.settled, done.results) == (ReplayState.DONE, 1, {"refused": 1})

    async def test_a_dead_letter_that_is_requeued_while_its_replay_runs_ends_it_no_sooner(
        self, store: Store
    ) -> None:
        for number in range(3):
            await end_task(store, f"t{number}")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await publish(store, "all", at=201, outcome=Outcome.REFUSED, limit=1)
        waiting = await store.lease_outbox("all", later(202), later(900), 10)

        for outcome in (Outcome.REFUSED, Outcome.DELIVERED):
            assert (await requeue_dead(store, WorkFilter(), [], later(300), 10)).count == 1
            (again,) = await publish(store, "all", at=301, outcome=outcome)
            assert again.replay_id == started.id

        running = await get(store, started.id)
        assert (running.state, running.settled, running.results) == (ReplayState.RUNNING, 1, {"refused": 1})
        for work in waiting:
            await settle_outbox(store, work, settlement(Outcome.DELIVERED, at=later(400)))
        done = await get(store, started.id)
        assert (done.state, done.results) == (ReplayState.DONE, {"refused": 1, "delivered": 2})

    async def test_a_dead_letter_that_is_requeued_outlives_the_end_of_its_replay(self, store: Store) -> None:
        await end_task(store, "t1")
        await end_task(store, "t2")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        (first,) = await publish(store, "all", at=201, outcome=Outcome.REFUSED, limit=1)
        await requeue_dead(store, WorkFilter(), [], later(300), 10)

        cancelled = await store.change_replay(started.id, ReplayState.CANCELLED, later(301))

        assert (cancelled.settled, cancelled.results) == (2, {"refused": 1, "withdrawn": 1})
        (again,) = await store.lease_outbox("all", later(302), later(360), 10)
        assert again.id == first.id
        await settle_outbox(store, again, settlement(Outcome.TIMEOUT, at=later(303), retry_at=later(310)))
        assert [work.id for work in await publish(store, "all", at=310)] == [first.id]
        assert await get(store, started.id) == cancelled

    async def test_what_is_no_dead_letter_any_more_when_it_is_revived_is_left_alone(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        await publish(store, "all", at=1, outcome=Outcome.REFUSED)
        found = await store.find_dead(WorkFilter(), [], 10)

        assert await store.revive_dead(found.keys, later(10)) == 1
        (work,) = await store.lease_outbox("all", later(11), later(60), 10)
        assert await store.revive_dead(found.keys, later(12)) == 0

        assert await settle_outbox(store, work, settlement(Outcome.DELIVERED, at=later(13)))
        assert await store.revive_dead(found.keys, later(14)) == 0
        assert await store.lease_outbox("all", later(15), later(60), 10) == []

    async def test_dead_letters_of_a_sink_that_is_set_are_moved_to_another_as_if_made_now(
        self, store: Store
    ) -> None:
        wanted = WorkFilter(owner="ann")
        for number, owner in enumerate(("ann", "bob", "ann")):
            await store.log_submission(submission(f"t{number}", owner=owner))
            await store.record(recording(failed(f"t{number}")))
        await publish(store, "failures", at=1)
        await publish(store, "all", at=1, outcome=Outcome.REFUSED)
        found = await store.find_dead(wanted, ["all"], 10)
        await store.drop_dead(found.keys[:1])

        moved = await store.move_dead(found.keys, "failures", later(500))

        assert moved == Moved(moved=0, had=1)  # the other sink has it already
        assert [letter.task_id for letter in await dead_letters(store)] == ["t1"]
        assert await store.move_dead(found.keys, "failures", later(501)) == Moved(moved=0, had=0)

    async def test_a_dead_letter_that_the_other_sink_never_had_is_due_there(self, store: Store) -> None:
        await end_task(store, "t1")
        started = await start_replay(store, replay(Stage.NOTIFY, sinks=("all",)))
        await make_step(store, 200)
        await publish(store, "all", at=201, outcome=Outcome.REFUSED)
        found = await store.find_dead(WorkFilter(), [], 10)

        assert await store.move_dead(found.keys, "failures", later(500)) == Moved(moved=1, had=0)

        assert await dead_letters(store) == []
        (work,) = await store.lease_outbox("failures", later(500), later(560), 10)
        assert (work.event.task_id, work.attempt, work.created_at) == ("t1", 1, later(500))
        assert await settle_outbox(store, work, settlement(Outcome.DELIVERED, at=later(501)))
        assert (await get(store, started.id)).results == {"refused": 1}

    async def test_what_is_no_dead_letter_any_more_is_neither_moved_nor_dropped(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        await publish(store, "all", at=1, outcome=Outcome.REFUSED)
        found = await store.find_dead(WorkFilter(), [], 10)
        await store.revive_dead(found.keys, later(10))
        (work,) = await store.lease_outbox("all", later(11), later(60), 10)

        assert await store.move_dead(found.keys, "failures", later(12)) == Moved(moved=0, had=0)
        assert await store.drop_dead(found.keys) == 0

        assert await settle_outbox(store, work, settlement(Outcome.DELIVERED, at=later(13)))

    async def test_dropped_dead_letters_are_gone_and_their_events_stay(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(failed("t1")))
        await publish(store, "all", at=1, outcome=Outcome.REFUSED)
        found = await store.find_dead(WorkFilter(), [], 10)

        assert await store.drop_dead(found.keys) == 1
        assert await store.drop_dead(found.keys) == 0

        assert await dead_letters(store) == []
        assert (await store.count_stats()).outbox.get("all", {}).get("dead", 0) == 0
        assert await store.get_event("vidgo", "t1") is not None
