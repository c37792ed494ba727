"""What every store must do about asking providers: polls, confirmation, links asked for anew, revisions."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from receiver.errors import Unavailable
from receiver.models import (
    EventType,
    Outcome,
    PollWork,
    Proof,
    Replay,
    ReplayState,
    Stage,
    Task,
    TaskState,
    Verdict,
    WorkFilter,
)
from receiver.ports import Store
from tests.contracts.replaying import start_replay, step_replay
from tests.contracts.store import OpenStore
from tests.support.factories import (
    NOW,
    answer,
    body_of,
    completed,
    failed,
    indexes,
    later,
    progress,
    recording,
    renewed,
    settlement,
    stored,
    submission,
    unclear,
)
from tests.support.settling import settle_outbox

FIRST_POLL_SECONDS = {"vidgo": 300.0, "apidot": 300.0}
UNPOLLED = {"apidot": "no APIDOT_API_KEY is set"}


async def task_of(store: Store, task_id: str = "t1", provider: str = "vidgo") -> Task:
    task = await store.get_task(provider, task_id)
    assert task is not None
    return task


def verdicts(task: Task) -> list[Verdict]:
    return [delivery.verdict for delivery in task.deliveries]


async def lease_one(store: Store, seconds: float, *, lease_seconds: float = 60) -> PollWork:
    (work,) = await store.lease_polls("vidgo", later(seconds), later(seconds + lease_seconds), 10)
    return work


async def forget_all(store: Store) -> None:
    while await store.follow_deliveries(later(9999), 1):
        pass


async def end_with(store: Store, *outcomes: Outcome, at: float) -> None:
    """One file after the other, as they are leased."""
    for work, outcome in zip(await store.lease_assets(later(at), later(at + 60), 10), outcomes, strict=True):
        end = stored(work) if outcome is Outcome.STORED else settlement(outcome)
        assert await store.settle_asset(work, end)


async def fetch_again(store: Store, *, at: float) -> str:
    """Let a replay want all files that could not be had; its id."""
    replay = Replay(
        id=f"rpl_{at}", stage=Stage.FETCH, filter=WorkFilter(), sinks=(), rate=None,
        state=ReplayState.RUNNING, requested_by="ann", created_at=later(at), finished_at=None,
        matched=0, looked_at=0, queued=0, settled=0, results={},
    )  # fmt: skip
    await start_replay(store, replay)
    works = await store.lease_replays(later(at), later(at + 60), 10)  # and such as have just ended
    (work,) = [work for work in works if work.replay.id == replay.id]
    assert await step_replay(store, work, 10, later(at), later(at + 1))
    return replay.id


class PollsContract:
    """Subclasses give an ``open_store`` fixture that opens the same record again and again."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    # --- when to ask ----------------------------------------------------------------------------------

    async def test_a_task_is_due_its_providers_usual_time_after_it_was_logged(self, store: Store) -> None:
        row, _ = await store.log_submission(submission("t1"))

        assert await store.next_due_at("polls", "vidgo") == later(300)
        assert await store.lease_polls("vidgo", later(299), later(400), 10) == []
        work = await lease_one(store, 300)

        assert (work.submission_id, work.provider, work.task_id) == (row.id, "vidgo", "t1")
        assert (work.model, work.submitted_at) == ("gpt-image-2", NOW)
        assert (work.attempt, work.held, work.replay_id) == (1, False, None)

    async def test_a_reservation_is_due_only_once_it_is_bound(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)
        assert await store.next_due_at("polls", "vidgo") is None

        await store.bind_submission(reserved.id, "t1", later(1000))

        assert await store.next_due_at("polls", "vidgo") == later(1300)

    async def test_a_reservation_that_its_own_callback_ends_is_never_asked_about(self, store: Store) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)

        await store.record(recording(completed("t1"), submission_id=reserved.id))

        assert await store.next_due_at("polls", "vidgo") is None

    @pytest.mark.parametrize("report", [progress("t1"), unclear("t1")])
    async def test_a_reservation_that_its_callback_binds_and_does_not_end_is_asked_about(
        self, store: Store, report: object
    ) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)

        await store.record(recording(report, submission_id=reserved.id, received_at=later(9)))  # type: ignore[arg-type]

        assert await store.next_due_at("polls", "vidgo") == later(309)

    async def test_a_task_that_ended_before_it_was_logged_is_never_asked_about(self, store: Store) -> None:
        await store.record(recording(completed("t1")))

        await store.log_submission(submission("t1"))

        assert await store.next_due_at("polls", "vidgo") is None

    async def test_a_provider_without_a_usual_time_is_never_asked(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="unheard-of"))

        assert await store.next_due_at("polls", "unheard-of") is None

    async def test_each_provider_has_its_own_polls_and_the_oldest_go_first(self, store: Store) -> None:
        for number, task_id in enumerate(["second", "first", "third"]):
            reserved = submission(None)
            await store.log_submission(reserved)
            await store.bind_submission(reserved.id, task_id, later((number * 2) % 3))
        await store.log_submission(submission("other", provider="apidot"))

        works = await store.lease_polls("vidgo", later(999), later(1100), 2)

        assert [work.task_id for work in works] == ["second", "third"]
        assert await store.next_due_at("polls", "apidot") == later(300)

    # --- leases and answers ---------------------------------------------------------------------------

    async def test_a_leased_question_is_nobody_elses_until_the_lease_runs_out(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        late = await lease_one(store, 300)

        assert await store.lease_polls("vidgo", later(359), later(400), 10) == []
        assert await store.next_due_at("polls", "vidgo") == later(360)
        current = await lease_one(store, 360)

        assert (late.attempt, current.attempt) == (1, 2)
        assert await store.settle_poll(late, settlement(Outcome.ANSWERED)) is False
        assert await store.settle_poll(current, settlement(Outcome.ANSWERED)) is True
        assert await store.settle_poll(current, settlement(Outcome.ANSWERED)) is False

    async def test_questions_of_a_process_that_died_are_due_when_the_record_is_opened_again(
        self, open_store: OpenStore
    ) -> None:
        store = await open_store()
        await store.log_submission(submission("t1"))
        await lease_one(store, 300, lease_seconds=10**9)
        await store.aclose()

        again = await open_store()

        work = await lease_one(again, 10**8)
        await again.aclose()
        assert work.attempt == 2

    async def test_a_task_still_in_progress_is_asked_about_again_and_shows_it(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        before = await task_of(store)
        first = await lease_one(store, 300)
        await store.settle_poll(first, settlement(Outcome.IN_PROGRESS, at=later(301), retry_at=later(330)))
        once = await task_of(store)
        second = await lease_one(store, 330)
        await store.settle_poll(second, settlement(Outcome.TIMEOUT, at=later(340), retry_at=later(400)))

        task = await task_of(store)

        assert before.waiting_on == "the provider's callback"
        assert before.poll is not None
        assert (before.poll.asked, before.poll.outcome, before.poll.due_at) == (0, None, later(300))
        assert once.waiting_on == "the provider, asked once, last: in_progress"
        assert task.waiting_on == "the provider, asked 2 times, last: timeout"
        assert task.poll is not None
        assert (task.poll.asked, task.poll.asked_at, task.poll.due_at) == (2, later(340), later(400))

    async def test_what_is_not_to_be_asked_again_is_not_asked_again(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        work = await lease_one(store, 300)

        assert await store.settle_poll(work, settlement(Outcome.NO_MODEL))

        task = await task_of(store)
        assert await store.next_due_at("polls", "vidgo") is None
        assert (task.poll, task.waiting_on) == (None, "the provider's callback")

    async def test_a_task_says_why_its_provider_cannot_be_asked(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="apidot"))
        await store.log_submission(submission("t2", provider="apidot"))
        await store.record(recording(completed("t2"), provider="apidot", weak=True))

        plain, held = await task_of(store, "t1", "apidot"), await task_of(store, "t2", "apidot")

        reason = "it cannot be asked: no APIDOT_API_KEY is set"
        assert plain.waiting_on == f"the provider's callback; {reason}"
        assert held.waiting_on == f"the provider's confirmation; {reason}"

    # --- tasks that have ended ------------------------------------------------------------------------

    async def test_a_task_that_ended_is_forgotten_instead_of_asked_about(self, store: Store) -> None:
        for task_id in ("ended", "open", "ended too"):
            await store.log_submission(submission(task_id))
        await store.record(recording(completed("ended")))
        await store.record(recording(failed("ended too")))

        works = await store.lease_polls("vidgo", later(300), later(360), 1)

        assert [work.task_id for work in works] == ["open"]
        assert await store.lease_polls("vidgo", later(301), later(360), 10) == []
        assert await store.next_due_at("polls", "vidgo") == later(360)
        assert (await task_of(store, "ended")).poll is None

    async def test_an_open_task_is_asked_about_however_many_have_ended_before_it(self, store: Store) -> None:
        ended = [f"ended {number}" for number in range(20)]
        for task_id in (*ended, "open", "open too"):
            await store.log_submission(submission(task_id))
        for task_id in ended:
            await store.record(recording(failed(task_id)))

        works = await store.lease_polls("vidgo", later(300), later(360), 1)

        assert [work.task_id for work in works] == ["open"]
        assert {(await task_of(store, task_id)).poll for task_id in ended} == {None}
        works = await store.lease_polls("vidgo", later(300), later(360), 5)
        assert [work.task_id for work in works] == ["open too"]

    async def test_an_answer_that_comes_after_the_callback_ends_the_asking(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        work = await lease_one(store, 300)
        await store.record(recording(completed("t1")))

        assert await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(400)))

        assert await store.next_due_at("polls", "vidgo") is None

    async def test_providers_nobody_asks_leave_no_polls_of_ended_tasks_behind(self, store: Store) -> None:
        for task_id in ("ended", "open"):
            await store.log_submission(submission(task_id, provider="apidot"))
            await store.log_submission(submission(task_id))
        await store.record(recording(completed("ended"), provider="apidot"))
        await store.record(recording(progress("open"), provider="apidot"))
        await store.record(recording(failed("ended")))

        await forget_all(store)

        for provider in ("apidot", "vidgo"):
            works = await store.lease_polls(provider, later(300), later(360), 10)
            assert [work.task_id for work in works] == ["open"]
        assert await store.follow_deliveries(later(9999), 10) == 0

    async def test_forgetting_leaves_a_question_on_its_way_to_its_answer(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        work = await lease_one(store, 300)
        await store.record(recording(completed("t1")))

        await forget_all(store)

        assert await store.settle_poll(work, settlement(Outcome.ANSWERED))
        assert await store.next_due_at("polls", "vidgo") is None

    async def test_what_is_committed_while_deliveries_are_followed_is_followed_too(
        self, store: Store
    ) -> None:
        """However the engine orders commits: what came late must not lie behind the mark."""
        tasks = [f"t{number}" for number in range(40)]
        for task_id in tasks:
            await store.log_submission(submission(task_id))
        recorded = asyncio.Event()

        async def record() -> None:
            await asyncio.gather(*(store.record(recording(failed(task_id))) for task_id in tasks))
            recorded.set()

        async def follow() -> int:
            followed = 0
            while not recorded.is_set():
                followed += await store.follow_deliveries(later(1), 3)
            return followed

        _, followed = await asyncio.gather(record(), follow())
        while more := await store.follow_deliveries(later(1), 3):
            followed += more

        assert followed == len(tasks)
        assert await store.next_due_at("polls", "vidgo") is None
        assert (await store.count_stats()).deliveries == {"accepted": len(tasks)}

    async def test_a_body_that_is_understood_when_it_comes_again_ends_the_asking(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(unclear("t1"), body=b"odd"))
        await forget_all(store)

        receipt = await store.record(recording(failed("t1"), body=b"odd"))
        await forget_all(store)

        assert receipt.status is Verdict.ACCEPTED
        assert await store.next_due_at("polls", "vidgo") is None

    async def test_a_question_of_a_process_that_died_is_forgotten_where_its_task_has_ended(
        self, open_store: OpenStore
    ) -> None:
        store = await open_store()
        mine = submission("t1")
        await store.log_submission(mine)
        await store.record(recording(completed("t1"), weak=True))
        await lease_one(store, 0)
        await store.record(recording(completed("t1"), submission_id=mine.id))
        await forget_all(store)
        await store.aclose()

        again = await open_store()

        task = await task_of(again)
        due_at = await again.next_due_at("polls", "vidgo")
        await again.aclose()
        assert due_at is None
        assert verdicts(task) == [Verdict.ACCEPTED, Verdict.ACCEPTED]

    # --- confirmation ---------------------------------------------------------------------------------

    async def test_an_end_that_must_be_confirmed_is_held_and_asked_about_at_once(self, store: Store) -> None:
        await store.log_submission(submission("t1"))

        receipt = await store.record(recording(completed("t1"), weak=True, received_at=later(7)))

        task = await task_of(store)
        assert receipt.status is Verdict.ACCEPTED  # the sender is told no more than this
        assert (task.state, task.event) == (TaskState.SUBMITTED, None)
        assert (verdicts(task), task.waiting_on) == ([Verdict.UNCONFIRMED], "the provider's confirmation")
        assert task.deliveries[0].bytes > 0
        assert await store.lease_assets(later(9999), later(9999), 10) == []
        assert await store.next_due_at("polls", "vidgo") == later(7)
        assert (await lease_one(store, 7)).held

    # --- a success whose files are not named yet ------------------------------------------------------

    async def test_a_success_without_files_is_asked_about_and_the_files_that_come_next_count(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))

        receipt = await store.record(recording(completed("t1", files=0), received_at=later(7)))

        assert receipt.status is Verdict.ACCEPTED  # the sender is told no more than this
        assert (await task_of(store)).event is None
        work = await lease_one(store, 7)
        assert work.held
        await store.record(recording(completed("t1", files=1), received_at=later(8)))
        task = await task_of(store)
        assert task.event is not None
        assert [asset.index for asset in task.event.assets] == [0]
        await store.settle_poll(work, settlement(Outcome.TIMEOUT, retry_at=later(9)))
        assert verdicts(await task_of(store)) == [Verdict.CONFLICT, Verdict.ACCEPTED]

    @pytest.mark.parametrize("by_callback", [True, False])
    async def test_a_provider_that_says_so_for_ten_minutes_has_made_no_files(
        self, store: Store, by_callback: bool
    ) -> None:
        await store.log_submission(submission("t1"))
        if by_callback:
            await store.record(recording(completed("t1", files=0)))
        answers = []
        for number, seconds in enumerate((0, 300, 599, 600)):
            work = await lease_one(store, 1000 + seconds)
            said = answer(
                completed("t1", files=0),
                body=b"%d" % number,
                received_at=later(seconds if by_callback else 1000 + seconds),
            )
            answers.append((await store.record(said)).status)
            again = settlement(Outcome.NO_FILES, retry_at=NOW)
            assert await store.settle_poll(work, again)

        assert answers == [*[Verdict.UNCONFIRMED] * 3, Verdict.ACCEPTED]
        task = await task_of(store)
        assert task.event is not None
        assert (task.event.type, task.event.error_code) == (EventType.FAILED, "no_files")
        assert set(verdicts(task)) == {Verdict.ACCEPTED}
        assert task.poll is None

    async def test_while_files_are_waited_for_the_question_on_its_way_is_not_lost(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        work = await lease_one(store, 300)
        await store.record(answer(completed("t1", files=0), received_at=later(300)))
        assert await store.settle_poll(work, settlement(Outcome.NO_FILES, retry_at=later(360)))
        task = await task_of(store)
        assert task.poll is not None
        assert (task.poll.asked, task.poll.due_at) == (1, later(360))
        assert task.waiting_on == (
            "the files: the provider reported success and named none, asked once, last: no_files"
        )

    async def test_a_success_without_files_that_comes_again_says_nothing_new(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        told = [await store.record(recording(completed("t1", files=0))) for _ in range(3)]
        assert [receipt.status for receipt in told] == [Verdict.ACCEPTED, *[Verdict.DUPLICATE] * 2]
        assert (await task_of(store)).deliveries[0].seen == 3

    async def test_a_failure_after_a_success_without_files_is_the_end(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=0)))
        await store.record(recording(failed("t1")))
        task = await task_of(store)
        assert task.event is not None
        assert task.event.error_message == "refused"

    @pytest.mark.parametrize("by", ["the provider's token", "a lost one's", "another reservation's"])
    async def test_a_lie_about_missing_files_makes_no_true_word_count_sooner(
        self, store: Store, by: str
    ) -> None:
        await store.log_submission(submission("t1"))
        other = submission(None)  # of the same owner
        await store.log_submission(other)
        token = {"the provider's token": None, "a lost one's": "sub_lost"}.get(by, other.id)
        await store.record(recording(completed("t1", files=0), submission_id=token, weak=token is None))
        told = await store.record(answer(completed("t1", files=0), received_at=later(3600)))
        assert told.status is Verdict.UNCONFIRMED

    async def test_without_a_key_a_success_without_files_waits_ten_minutes_for_them(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1", provider="apidot"))
        for seconds in (0, 599):
            said = recording(completed("t1", files=0), provider="apidot", received_at=later(seconds))
            await store.record(said)
            assert (await task_of(store, provider="apidot")).event is None
        late = recording(completed("t1", files=0), provider="apidot", received_at=later(600))
        await store.record(late)
        event = (await task_of(store, provider="apidot")).event
        assert event is not None
        assert (event.type, event.error_code) == (EventType.FAILED, "no_files")

    async def test_an_early_success_without_files_waits_for_them_when_it_is_matched(
        self, store: Store
    ) -> None:
        await store.record(recording(completed("t1", files=0)))
        await store.log_submission(submission("t1"))
        assert verdicts(await task_of(store)) == [Verdict.UNCONFIRMED]
        assert (await lease_one(store, 10**9)).held

    async def test_a_first_callback_without_files_binds_its_task_and_has_it_asked_about(
        self, store: Store
    ) -> None:
        reserved = submission(None)
        await store.log_submission(reserved)
        await store.record(recording(completed("t1", files=0), submission_id=reserved.id))
        assert (await lease_one(store, 0)).held

    async def test_a_task_of_a_provider_that_was_removed_says_so(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="gone"))
        await store.record(recording(completed("t1"), provider="gone", weak=True))
        waiting_on = (await task_of(store, provider="gone")).waiting_on
        assert waiting_on == "the provider's confirmation; it cannot be asked: no adapter for it is installed"

    # --- what was held, judged anew -------------------------------------------------------------------

    async def test_only_what_somebody_waits_for_is_leased_of_a_provider_that_nobody_asks(
        self, store: Store
    ) -> None:
        for task_id in ("held", "plain"):
            await store.log_submission(submission(task_id, provider="apidot"))
        await store.record(recording(completed("held", files=0), provider="apidot"))
        works = await store.lease_polls("apidot", later(9999), later(10_000), 10, held_only=True)
        assert [work.task_id for work in works] == ["held"]

    async def test_what_was_held_counts_as_if_it_came_now(self, store: Store) -> None:
        await store.log_submission(submission("t1", provider="apidot"))
        report = completed("t1", files=0)
        await store.record(recording(report, provider="apidot"))
        (work,) = await store.lease_polls("apidot", NOW, later(60), 10, held_only=True)
        (kept,) = await store.list_held(work)
        assert (kept.recording.body, kept.recording.proof) == (body_of(report), Proof.SIGNATURE)
        read = [
            msgspec.structs.replace(kept, recording=recording(completed("t1"), provider="apidot")),
        ]

        assert await store.judge_held(read, later(60))
        assert await store.judge_held(read, later(60))  # again, after a crash: it has ended

        task = await task_of(store, provider="apidot")
        assert task.event is not None
        assert (len(task.event.assets), verdicts(task)) == (1, [Verdict.ACCEPTED])
        assert await store.list_held(work) == []
        assert await store.next_due_at("polls", "apidot") is None

    async def test_what_still_has_to_be_confirmed_is_not_judged(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1"), weak=True))
        assert await store.list_held(await lease_one(store, 0)) == []

    @pytest.mark.parametrize("named", ["sub_lost", "sub_reserved"])
    @pytest.mark.parametrize("early", [False, True])
    async def test_a_submissions_token_proves_no_more_of_another_task_than_its_providers(
        self, store: Store, named: str, early: bool
    ) -> None:
        if named == "sub_reserved":
            await store.log_submission(submission(None, id_=named))
            await store.log_submission(submission("t1"))
        elif not early:
            await store.log_submission(submission("t1"))

        await store.record(recording(completed("t1"), submission_id=named))
        await store.log_submission(submission("t1"))

        task = await task_of(store)
        assert task.event is None
        assert [(d.proof, d.verdict) for d in task.deliveries] == [(Proof.SUBMISSION, Verdict.UNCONFIRMED)]
        assert (await lease_one(store, 10**9)).held

    async def test_a_forged_callback_is_a_conflict_and_only_the_providers_files_are_fetched(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=3), weak=True))
        work = await lease_one(store, 0)

        receipt = await store.record(answer(completed("t1", files=1)))
        await store.settle_poll(work, settlement(Outcome.ANSWERED))

        task = await task_of(store)
        assert receipt.status is Verdict.ACCEPTED
        assert verdicts(task) == [Verdict.CONFLICT, Verdict.ACCEPTED]
        assert indexes(await store.lease_assets(later(1), later(60), 10)) == [0]
        assert await store.next_due_at("polls", "vidgo") is None

    @pytest.mark.parametrize("asked", ["never", "on its way", "in progress"])
    @pytest.mark.parametrize("files", [0, 1])
    async def test_a_lie_is_a_conflict_as_soon_as_a_callback_with_proof_ends_its_task(
        self, store: Store, asked: str, files: int
    ) -> None:
        mine = submission(None)
        await store.log_submission(mine)
        await store.bind_submission(mine.id, "t1", NOW)
        lie = failed("t1") if files else completed("t1", files=2)
        await store.record(recording(lie, weak=True))
        if asked != "never":
            work = await lease_one(store, 0)
        if asked == "in progress":
            await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(900)))

        true = completed("t1", files=1) if files else failed("t1")
        await store.record(recording(true, submission_id=mine.id))

        assert verdicts(await task_of(store)) == [Verdict.CONFLICT, Verdict.ACCEPTED]
        if asked == "on its way":
            assert (await store.record(answer(true))).status is Verdict.DUPLICATE
            assert await store.settle_poll(work, settlement(Outcome.ANSWERED))

    @pytest.mark.parametrize("at_once", [False, True])
    async def test_an_early_lie_is_a_conflict_as_soon_as_its_tasks_own_callback_binds_and_ends_it(
        self, store: Store, at_once: bool
    ) -> None:
        mine = submission(None)
        await store.log_submission(mine)
        lie = store.record(recording(completed("t1", files=3), weak=True))
        true = store.record(recording(completed("t1"), submission_id=mine.id))
        if at_once:
            await asyncio.gather(lie, true)
        else:
            await lie
            await true
        assert verdicts(await task_of(store)) == [Verdict.CONFLICT, Verdict.ACCEPTED]

    async def test_what_waits_is_told_apart_when_all_of_a_task_comes_at_once(self, store: Store) -> None:
        mine = submission(None)
        await store.log_submission(mine)
        await store.bind_submission(mine.id, "t1", NOW)
        lie, same = completed("t1", files=3), completed("t1")
        await asyncio.gather(
            store.record(recording(lie, weak=True)),
            store.record(recording(same, weak=True)),
            store.record(recording(same, submission_id=mine.id)),
        )
        assert verdicts(await task_of(store)) == [Verdict.CONFLICT, Verdict.ACCEPTED, Verdict.ACCEPTED]

    async def test_a_callback_that_the_provider_confirms_is_accepted(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        body = b"the very same bytes"
        await store.record(recording(completed("t1"), body=body, weak=True))

        await store.record(answer(completed("t1"), body=body))

        task = await task_of(store)
        assert [(d.via, d.verdict, d.seen) for d in task.deliveries] == [
            ("callback", Verdict.ACCEPTED, 1),
            ("poll", Verdict.ACCEPTED, 1),
        ]
        assert task.event is not None
        assert task.event.via == "poll"

    async def test_an_answer_that_ends_nothing_confirms_nothing(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1"), weak=True))
        work = await lease_one(store, 0)

        receipt = await store.record(answer(unclear("t1")))
        await store.settle_poll(work, settlement(Outcome.UNREADABLE, retry_at=later(30)))

        task = await task_of(store)
        assert receipt.status is Verdict.UNRECOGNISED
        assert verdicts(task) == [Verdict.UNCONFIRMED, Verdict.UNRECOGNISED]
        assert task.waiting_on is not None
        assert task.waiting_on.startswith("the provider's confirmation, asked once, last: unreadable")
        assert (await lease_one(store, 30)).held

    async def test_more_callbacks_that_wait_hurry_the_question_a_little_and_a_few_times(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        forged = recording(completed("t1", files=3), weak=True)
        await store.record(forged)
        work = await lease_one(store, 0)
        assert (await store.record(forged)).status is Verdict.ACCEPTED
        assert await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(100)))

        for asked in range(1, 8):
            body = f"nonce {asked}".encode()
            moment = later(10 * asked)
            await store.record(recording(completed("t1"), body=body, weak=True, received_at=moment))
            hurried = await store.next_due_at("polls", "vidgo") == later(10 * asked + 2)
            assert hurried == (asked < 5)
            if hurried:
                (work,) = await store.lease_polls("vidgo", later(10 * asked + 2), later(999), 1)
                await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(5000)))

        assert [delivery.seen for delivery in (await task_of(store)).deliveries] == [2, *[1] * 7]

    async def test_what_waits_is_asked_about_before_older_questions(self, store: Store) -> None:
        for task_id in ("old", "older", "held", "held too"):
            await store.log_submission(submission(task_id))
        await store.record(recording(completed("held"), weak=True, received_at=later(400)))
        await store.record(recording(failed("held too"), weak=True, received_at=later(401)))

        works = await store.lease_polls("vidgo", later(500), later(560), 3)

        assert [work.task_id for work in works] == ["held", "held too", "old"]

    async def test_the_waits_between_questions_start_anew_with_a_callback_that_waits(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        for at in (300, 400, 500):
            work = await lease_one(store, at)
            await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(at + 100)))

        await store.record(recording(completed("t1"), weak=True, received_at=later(550)))

        assert (await task_of(store)).waiting_on == "the provider's confirmation"
        assert (await lease_one(store, 550)).attempt == 1

    async def test_no_amount_of_progress_crowds_out_a_result(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        for number in range(101):
            await store.record(recording(progress("t1"), body=f"{number} %".encode(), weak=True))

        await store.record(recording(completed("t1"), weak=True))

        task = await task_of(store)
        assert verdicts(task)[-1] is Verdict.UNCONFIRMED
        assert task.deliveries[-1].bytes > 0

    async def test_results_that_wait_cannot_be_piled_up_without_end(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        for number in range(20):
            await store.record(recording(completed("t1"), body=f"nonce {number}".encode(), weak=True))
        work = await lease_one(store, 0)
        before = await task_of(store)

        with pytest.raises(Unavailable):
            await store.record(recording(completed("t1"), body=b"one too many", weak=True))

        assert await task_of(store) == before
        assert await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(900)))
        known = recording(completed("t1"), body=b"nonce 7", weak=True)
        assert (await store.record(known)).status is Verdict.ACCEPTED
        assert (await store.record(recording(progress("t1"), weak=True))).status is Verdict.PROGRESS
        assert (await store.record(recording(completed("t1")))).status is Verdict.ACCEPTED

    async def test_a_question_asked_before_the_callback_came_is_asked_again(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        too_early = await lease_one(store, 300)

        await store.record(recording(completed("t1"), weak=True, received_at=later(301)))

        assert not await store.settle_poll(too_early, settlement(Outcome.IN_PROGRESS, retry_at=later(900)))
        assert (await lease_one(store, 301)).held

    @pytest.mark.parametrize("way", ["lease", "forget", "settle", "answer"])
    async def test_a_stronger_proof_ends_the_task_and_what_was_held_is_judged_by_it(
        self, store: Store, way: str
    ) -> None:
        mine = submission("t1")
        await store.log_submission(mine)
        await store.record(recording(completed("t1"), weak=True))
        await store.record(recording(completed("t1", files=3), weak=True))
        work = await lease_one(store, 0) if way in {"settle", "answer"} else None

        receipt = await store.record(recording(completed("t1"), submission_id=mine.id))
        if way == "lease":
            assert await store.lease_polls("vidgo", later(1), later(60), 10) == []
        elif way == "forget":
            await forget_all(store)
        elif way == "answer":
            assert (await store.record(answer(failed("t1")))).status is Verdict.CONFLICT
        if work is not None:
            assert await store.settle_poll(work, settlement(Outcome.IN_PROGRESS, retry_at=later(30)))

        assert receipt.status is Verdict.ACCEPTED
        assert verdicts(await task_of(store))[:3] == [Verdict.ACCEPTED, Verdict.CONFLICT, Verdict.ACCEPTED]
        assert await store.next_due_at("polls", "vidgo") is None
        assert indexes(await store.lease_assets(later(1), later(60), 10)) == [0]

    async def test_a_held_callback_that_comes_again_after_the_end_is_a_repeat(self, store: Store) -> None:
        mine = submission("t1")
        await store.log_submission(mine)
        same, other = (
            recording(completed("t1"), weak=True),
            recording(failed("t1"), weak=True),
        )
        await store.record(same)
        await store.record(other)
        await store.record(recording(completed("t1"), submission_id=mine.id))

        receipts = [await store.record(same), await store.record(other)]
        await forget_all(store)

        assert [receipt.status for receipt in receipts] == [Verdict.DUPLICATE, Verdict.CONFLICT]
        assert verdicts(await task_of(store)) == [Verdict.ACCEPTED, Verdict.CONFLICT, Verdict.ACCEPTED]

    async def test_what_must_be_confirmed_is_a_repeat_once_the_task_has_ended(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(answer(completed("t1")))
        await forget_all(store)

        same = await store.record(recording(completed("t1"), weak=True))
        other = await store.record(recording(failed("t1"), weak=True))

        assert (same.status, other.status) == (Verdict.DUPLICATE, Verdict.CONFLICT)
        assert await store.next_due_at("polls", "vidgo") is None

    async def test_an_early_callback_that_must_be_confirmed_is_held_when_it_is_matched(
        self, store: Store
    ) -> None:
        early = await store.record(recording(completed("t1", files=2), weak=True))
        await store.log_submission(submission("t1"))

        held = await task_of(store)
        work = await lease_one(store, 10**9)
        await store.record(answer(completed("t1", files=2)))
        await store.settle_poll(work, settlement(Outcome.ANSWERED))

        assert early.status is Verdict.EARLY
        assert (held.event, verdicts(held)) == (None, [Verdict.UNCONFIRMED])
        assert work.held
        assert verdicts(await task_of(store)) == [Verdict.ACCEPTED, Verdict.ACCEPTED]

    async def test_of_two_early_callbacks_the_one_with_proof_ends_the_task(self, store: Store) -> None:
        await store.record(recording(completed("t1", files=3), body=b"weak", weak=True))
        await store.record(recording(completed("t1"), body=b"strong"))

        await store.log_submission(submission("t1"))

        assert verdicts(await task_of(store)) == [Verdict.CONFLICT, Verdict.ACCEPTED]
        assert await store.next_due_at("polls", "vidgo") is None

    async def test_a_task_given_up_as_lost_ends_what_was_held(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1"), weak=True))
        lost = failed("t1")

        await store.record(answer(lost))

        task = await task_of(store)
        assert (task.state, verdicts(task)) == (TaskState.FAILED, [Verdict.CONFLICT, Verdict.ACCEPTED])

    async def test_counts_tell_how_far_asking_has_come(self, store: Store) -> None:
        for task_id in ("never", "asked", "ended"):
            await store.log_submission(submission(task_id))
        await store.record(recording(completed("asked"), weak=True))
        work = await lease_one(store, 0)
        await store.settle_poll(work, settlement(Outcome.KEY_REFUSED, retry_at=later(60)))
        await store.record(recording(failed("ended")))

        stats = await store.count_stats()

        assert stats.polls == {"vidgo": {"never": 1, "key_refused": 1}}
        assert stats.deliveries == {"unconfirmed": 1, "accepted": 1}

    # --- links asked for anew -------------------------------------------------------------------------

    async def test_the_links_of_a_task_are_those_on_record_in_the_order_of_its_files(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        assert await store.list_links("vidgo", "t1") == []
        await store.record(recording(completed("t1", files=2)))
        first, second = await store.lease_assets(later(1), later(60), 2)
        await store.settle_asset(second, stored(second))

        await store.settle_asset(first, renewed(f"{first.url}?new"))

        assert await store.list_links("vidgo", "t1") == [f"{first.url}?new", second.url]
        assert await store.list_links("vidgo", "t2") == []

    async def test_new_links_go_to_the_dead_one_and_to_the_others_that_wait(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=4), links_die_at=later(3600)))
        first, second, third, fourth = await store.lease_assets(later(1), later(60), 4)
        await store.settle_asset(second, stored(second))
        await store.settle_asset(third, settlement(Outcome.TIMEOUT, at=later(2), retry_at=later(9000)))
        new = [f"https://cdn.test/t1/{number}.png?new" for number in range(4)]

        assert not first.renewed
        assert await store.settle_asset(first, renewed(*new, at=later(10)))

        again = await store.lease_assets(later(10), later(20), 10)
        day = later(10 + 86_400)
        assert [(w.index, w.url, w.renewed, w.deadline_at) for w in again] == [
            (0, new[0], True, day),
            (2, new[2], False, day),  # it did not ask, and may still
        ]
        # Somebody is at the fourth with its old link: it asks for itself, should it find that dead, too.
        await store.settle_asset(fourth, settlement(Outcome.GONE, retry_at=later(15)))
        (other,) = await store.lease_assets(later(15), later(20), 10)
        assert (other.index, other.url, other.renewed) == (3, fourth.url, False)

    async def test_an_answer_without_a_new_link_spends_the_renewal_and_keeps_the_wait(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2), links_die_at=later(3600)))
        first, second = await store.lease_assets(later(1), later(60), 2)

        await store.settle_asset(first, renewed(first.url, second.url, retry_at=later(500)))
        await store.settle_asset(second, renewed(retry_at=later(600)))

        assert await store.lease_assets(later(499), later(999), 10) == []
        again = await store.lease_assets(later(600), later(999), 10)
        assert [(w.url, w.renewed, w.deadline_at) for w in again] == [
            (first.url, True, later(3600)),
            (second.url, True, later(3600)),
        ]

    async def test_a_link_that_was_renewed_already_is_not_replaced_by_anothers_answer(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        first, second = await store.lease_assets(later(1), later(60), 2)
        await store.settle_asset(first, renewed("https://cdn.test/a0", retry_at=later(5)))

        await store.settle_asset(second, renewed("https://cdn.test/b0", "https://cdn.test/b1"))

        again = await store.lease_assets(later(60), later(90), 2)
        assert sorted(work.url for work in again) == ["https://cdn.test/a0", "https://cdn.test/b1"]

    async def test_the_work_on_a_file_knows_the_model_of_its_task(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))

        (work,) = await store.lease_assets(later(1), later(60), 1)

        assert (work.model, work.renewed, work.replay_id) == ("gpt-image-2", False, None)

    # --- more files than were told of -----------------------------------------------------------------

    @pytest.mark.parametrize(
        ("first", "second", "becomes"),
        [
            ((Outcome.STORED, Outcome.GONE), (Outcome.STORED,), EventType.COMPLETED),
            ((Outcome.GONE, Outcome.TIMEOUT), (Outcome.GONE, Outcome.STORED), EventType.PARTIAL),
        ],
    )
    async def test_an_event_with_more_of_its_files_is_told_once_more(
        self,
        store: Store,
        first: tuple[Outcome, ...],
        second: tuple[Outcome, ...],
        becomes: EventType,
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        await end_with(store, *first, at=1)
        for told in await store.lease_outbox("all", later(2), later(60), 10):
            await settle_outbox(store, told, settlement(Outcome.DELIVERED))
        before = (await task_of(store)).event

        replay_id = await fetch_again(store, at=100)
        meanwhile = (await task_of(store)).event
        await end_with(store, *second, at=101)

        task = await task_of(store)
        assert before is not None
        assert meanwhile is not None
        assert task.event is not None
        assert (meanwhile.revision, meanwhile.type) == (1, before.type)
        assert (task.event.revision, task.event.id) == (2, before.id)
        assert (task.event.type, task.event.error_code, task.event.error_message) == (becomes, None, None)
        assert [entry.revision for entry in task.notifications if entry.sink == "all"] == [1, 2]
        replay = await store.get_replay(replay_id)
        assert replay is not None
        assert sum(replay.results.values()) == len(second)

    async def test_an_event_without_more_files_is_not_told_again(self, store: Store) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1", files=2)))
        await end_with(store, Outcome.STORED, Outcome.GONE, at=1)
        before = await task_of(store)

        for again in (100, 200):
            await fetch_again(store, at=again)
            await end_with(store, Outcome.TIMEOUT, at=again + 1)

        task = await task_of(store)
        assert before.event is not None
        assert task.event is not None
        assert (task.event.revision, task.event.type) == (1, EventType.PARTIAL)
        assert task.event.ended_at == before.event.ended_at
        assert task.notifications == before.notifications

    async def test_an_event_that_failed_keeps_saying_why_when_nothing_more_can_be_had(
        self, store: Store
    ) -> None:
        await store.log_submission(submission("t1"))
        await store.record(recording(completed("t1")))
        await end_with(store, Outcome.GONE, at=1)

        await fetch_again(store, at=100)
        await end_with(store, Outcome.TIMEOUT, at=101)

        event = (await task_of(store)).event
        assert event is not None
        assert (event.revision, event.type, event.error_code) == (1, EventType.FAILED, "gone")
