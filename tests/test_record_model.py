"""Random interleavings of everything that can happen to the record, held against a model of the promises.

The model knows nothing of SQL: it is the contract's sentences as a dictionary. One task ends once, the
first end wins, nothing happens for a task nobody submitted, repeats add no rows, every end reaches every
sink that wants it, exactly one entry each. A callback that must be confirmed when its task is known never
makes an event by itself, neither does a success without files before that was said for a while, a token of a
submission proves nothing about other tasks, and exactly the tasks without an end are asked about.
"""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from receiver.errors import Rejected
from receiver.models import AssetState, EventType, Outcome, Recording, Report, Route, Submission, Verdict
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.testing import TurnableClock
from tests.support.engines import ENGINES, Place, place_on
from tests.support.factories import (
    NOW,
    answer,
    completed,
    confirms_weak,
    failed,
    later,
    progress,
    recording,
    settlement,
    stored,
    submission,
)
from tests.support.recount import check_counts
from tests.support.settling import settle_outbox

pytestmark = pytest.mark.slow  # long walks

ROUTES = (Route(sink="all"), Route(sink="failures", types=frozenset({EventType.FAILED.value})))
TASKS = st.sampled_from(["t1", "t2", "t3"])
OWNERS = st.sampled_from(["ann", "bob"])
VARIANTS = st.sampled_from(["strong 0", "strong 1", "weak 0", "weak 1"])  # weak: by the provider's token
LOST = "sub_lost"  # was in a log that was lost; its token still proves that we gave it out
LONG = 3600  # seconds; so long nobody waits for the files of a success
FAR = 10**9  # seconds; by then everything is due
TRIED_AGAIN = (Outcome.TIMEOUT, Outcome.STORAGE_FAILED)
REPORTS = st.sampled_from(["completed-1", "completed-2", "completed-0", "failed", "progress"])


def report_of(word: str, task_id: str) -> Report:
    if word == "failed":
        return failed(task_id)
    if word == "progress":
        return progress(task_id)
    return completed(task_id, files=int(word[-1]))


class Record(RuleBasedStateMachine):
    submissions = Bundle("submissions")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        place.empty()
        self.runner = asyncio.Runner()
        self.clock = TurnableClock(NOW)
        self.has_key = True  # without, what is weak is trusted, as nobody could confirm it
        self.unpolled: dict[str, str] = {}
        self.store = self._open()
        self.beside = place.connect()
        self.bound: dict[str, str] = {}  # task -> submission
        self.tasks_of: dict[str, str | None] = {}  # submission -> task
        self.owner_of: dict[str, str] = {}  # submission -> owner
        self.ends: dict[str, str] = {}  # task -> the first terminal word
        # task -> the words that came too soon, in this order, how weak, and in which row
        self.early: dict[str, list[tuple[str, bool, tuple[str, bytes, str]]]] = {}
        self.held: dict[str, int] = {}  # task without an end -> rows that wait for the provider's word
        self.said: dict[str, list[tuple[bool, bool]]] = {}  # of these, without files: how weak, how late
        self.bodies: Counter[tuple[str, bytes, str]] = Counter()  # what a row stands for -> how often it came
        self.unowned: set[tuple[str, bytes, str]] = set()  # of these, those that nobody claimed in time
        self.entries: Counter[tuple[str, str]] = Counter()  # (task, sink) delivered
        self.tries: Counter[tuple[str, int]] = Counter()  # of files, that count

    def _open(self) -> Store:
        options = StoreOptions(
            data_dir=Path(),
            clock=self.clock,
            routes=ROUTES,
            first_poll_seconds={"vidgo": 0},
            unpolled=self.unpolled,
            confirms=lambda provider, proof: self.has_key and confirms_weak(provider, proof),
        )
        return self.runner.run(self.place.open(options))

    def teardown(self) -> None:
        self.beside.close()
        self.runner.run(self.store.aclose())
        self.runner.close()

    # --- the model ------------------------------------------------------------------------------------

    def own(self, task: str, submission_id: str) -> None:
        self.bound[task] = submission_id
        self.tasks_of[submission_id] = task
        for word, weak, _ in self.early.pop(task, []):
            self.apply(task, word, weak=weak, repeat=False, late=False)

    def apply(self, task: str, word: str, *, weak: bool, repeat: bool, late: bool) -> Verdict:
        waits = weak and self.has_key and word != "progress"
        if task not in self.ends and (waits or self.awaits_files(task, word, late=late)):
            self.hold(task, word, weak=weak, repeat=repeat, late=late)
            return Verdict.DUPLICATE if repeat and not waits else Verdict.ACCEPTED  # as the sender is told
        return self.end(task, word)

    def awaits_files(self, task: str, word: str, *, late: bool, asked: bool = False) -> bool:
        counting = [was_late for weak, was_late in self.said.get(task, []) if not (weak and self.has_key)]
        has_waited = late and False in counting
        return word == "completed-0" and ((self.has_key and not asked) or not has_waited)

    def hold(self, task: str, word: str, *, weak: bool, repeat: bool, late: bool) -> None:
        self.held[task] = self.held.get(task, 0) + (not repeat)
        if word == "completed-0" and not repeat:
            self.said.setdefault(task, []).append((weak, late))

    def end(self, task: str, word: str) -> Verdict:
        if word == "progress":
            return Verdict.PROGRESS
        if task not in self.ends:
            self.ends[task] = word
            self.held.pop(task, None)
            return Verdict.ACCEPTED
        return Verdict.DUPLICATE if self.ends[task] == word else Verdict.CONFLICT

    def expect(
        self, task: str, word: str, claim: str | None, body: bytes, *, weak: bool, late: bool
    ) -> Verdict:
        if claim in self.tasks_of:
            if not self.may_speak_for(claim, task):
                self.bodies[claim, body, self.tasks_of[claim] or ""] += 1
                return Verdict.REFUSED
            weak = self.tasks_of[claim] != task
        row = (claim or "", body, task)
        repeat = self.bodies[row] > 0 and row not in self.unowned
        self.bodies[row] += 1
        self.unowned.discard(row)
        if task not in self.bound:
            if not repeat:
                self.early.setdefault(task, []).append((word, weak, row))
            return Verdict.EARLY
        return self.apply(task, word, weak=weak, repeat=repeat, late=late)

    def may_speak_for(self, claim: str, task: str) -> bool:
        if self.tasks_of[claim] is None and task not in self.bound:
            self.own(task, claim)
        if self.tasks_of[claim] is not None:
            return self.tasks_of[claim] == task
        return self.owner_of[claim] == self.owner_of[self.bound[task]]

    # --- what can happen ------------------------------------------------------------------------------

    @rule(target=submissions, owner=OWNERS)
    def reserve(self, owner: str) -> Submission:
        row, created = self.runner.run(self.store.log_submission(submission(None, owner=owner)))
        assert created
        self.tasks_of[row.id] = None
        self.owner_of[row.id] = owner
        return row

    @rule(task=TASKS, owner=OWNERS)
    def log_afterwards(self, task: str, owner: str) -> None:
        row, created = self.runner.run(self.store.log_submission(submission(task, owner=owner)))
        assert created == (task not in self.bound)
        if created:
            self.owner_of[row.id] = owner
            self.own(task, row.id)
        assert row.id == self.bound[task]

    @rule(row=submissions, task=TASKS)
    def bind(self, row: Submission, task: str) -> None:
        free = self.tasks_of[row.id] is None
        if free and task in self.bound:
            with pytest.raises(Rejected):
                self.runner.run(self.store.bind_submission(row.id, task, NOW))
            return
        bound = self.runner.run(self.store.bind_submission(row.id, task, NOW))
        if free:
            self.own(task, row.id)
        assert bound.task_id == self.tasks_of[row.id]

    @rule(task=TASKS, word=REPORTS, variant=VARIANTS, times=st.integers(1, 4), late=st.booleans())
    def callback(self, task: str, word: str, variant: str, times: int, *, late: bool) -> None:
        self._deliver(task, word, variant, times, None, late=late)

    @rule(row=submissions, task=TASKS, word=REPORTS, variant=VARIANTS, times=st.integers(1, 3))
    def callback_with_token(self, row: Submission, task: str, word: str, variant: str, times: int) -> None:
        self._deliver(task, word, variant, times, row.id)

    @rule(task=TASKS, word=REPORTS, times=st.integers(1, 3))
    def callback_with_the_token_of_a_lost_submission(self, task: str, word: str, times: int) -> None:
        self._deliver(task, word, "weak 0", times, LOST)

    @rule(has_key=st.booleans())
    def set_or_drop_the_key(self, has_key: bool) -> None:
        self.has_key = has_key
        self.unpolled.clear()
        if not has_key:
            self.unpolled["vidgo"] = "no key"

    def _deliver(
        self, task: str, word: str, variant: str, times: int, claim: str | None, *, late: bool = False
    ) -> None:
        body, weak = f"{task}/{word}/{variant}".encode(), variant.startswith("weak")
        late = self._is_late(task, word, late=late)
        delivery = recording(
            report_of(word, task),
            body=body,
            submission_id=claim,
            weak=weak,
            received_at=later(LONG) if late else NOW,
        )
        expected = [self.expect(task, word, claim, body, weak=weak, late=late) for _ in range(times)]

        receipts = self.runner.run(self._all_at_once(delivery, times))

        assert Counter(receipts) == Counter(expected)

    def _is_late(self, task: str, word: str, *, late: bool) -> bool:
        """Only what is late without files matters, and only of tasks that are known."""
        return late and word == "completed-0" and task in self.bound

    async def _all_at_once(self, delivery: Recording, times: int) -> list[Verdict]:
        receipts = await asyncio.gather(*(self.store.record(delivery) for _ in range(times)))
        return [receipt.status for receipt in receipts]

    @rule(word=REPORTS)
    def ask_about_every_open_task(self, word: str) -> None:
        works = self.runner.run(self.store.lease_polls("vidgo", later(FAR), later(FAR + 60), 10))
        held = {work.task_id: work.held for work in works}
        assert held == {task: task in self.held for task in set(self.bound) - set(self.ends)}
        for work in works:
            self._answer(work.task_id, word, late=False)
            again = None if work.task_id in self.ends else NOW
            assert self.runner.run(self.store.settle_poll(work, settlement(Outcome.ANSWERED, retry_at=again)))
            assert not self.runner.run(self.store.settle_poll(work, settlement(Outcome.ANSWERED)))

    @rule(task=TASKS, word=REPORTS, late=st.booleans())
    def answer_that_was_on_its_way(self, task: str, word: str, *, late: bool) -> None:
        if task in self.bound:
            self._answer(task, word, late=late)

    def _answer(self, task: str, word: str, *, late: bool) -> None:
        body = f"{task}/{word}/strong 0".encode()  # a callback may say it in the same bytes
        late = self._is_late(task, word, late=late)
        repeat = self.bodies["poll", body, task] > 0
        self.bodies["poll", body, task] += 1
        if task not in self.ends and self.awaits_files(task, word, late=late, asked=True):
            self.hold(task, word, weak=False, repeat=repeat, late=late)
            expected = Verdict.UNCONFIRMED
        else:
            expected = self.end(task, word)
        told = answer(report_of(word, task), body=body, received_at=later(LONG) if late else NOW)

        receipt = self.runner.run(self.store.record(told))

        assert receipt.status is expected

    @rule()
    def follow_deliveries(self) -> None:
        while self.runner.run(self.store.follow_deliveries(NOW, 2)):
            pass

    @rule(outcome=st.sampled_from([Outcome.STORED, Outcome.GONE, *TRIED_AGAIN]), limit=st.integers(1, 3))
    def settle_assets(self, outcome: Outcome, limit: int) -> None:
        again = later(1) if outcome in TRIED_AGAIN else None
        for work in self.runner.run(self.store.lease_assets(later(1), later(60), limit)):
            assert work.task_id in self.ends
            file = work.task_id, work.index
            self.tries[file] += 1
            assert work.attempt == self.tries[file]
            end = stored(work) if outcome is Outcome.STORED else settlement(outcome, retry_at=again)
            assert self.runner.run(self.store.settle_asset(work, end))
            assert not self.runner.run(self.store.settle_asset(work, end))
            self.tries[file] -= outcome is Outcome.STORAGE_FAILED

    @rule(sink=st.sampled_from(["all", "failures"]))
    def settle_outbox(self, sink: str) -> None:
        for work in self.runner.run(self.store.lease_outbox(sink, later(1), later(60), 5)):
            assert self.runner.run(settle_outbox(self.store, work, settlement(Outcome.DELIVERED)))
            self.entries[work.event.task_id, sink] += 1

    @rule()
    def crash_and_open_again(self) -> None:
        self.runner.run(self.store.aclose())
        self.store = self._open()

    @rule(seconds=st.sampled_from([-1, 1]))
    def expire(self, seconds: int) -> None:
        expired = [row for early in self.early.values() for *_, row in early] if seconds > 0 else []
        assert self.runner.run(self.store.expire_early(later(seconds), 100)) == len(expired)
        if seconds > 0:
            self.unowned |= set(expired)
            self.early.clear()

    # --- what must hold at every moment ---------------------------------------------------------------

    @invariant()
    def every_task_ends_as_its_first_end_said(self) -> None:
        for task in ("t1", "t2", "t3"):
            event = self.runner.run(self.store.get_event("vidgo", task))
            word = self.ends.get(task)
            assert (event is None) == (word is None)
            if event is None or word is None:
                continue
            assert event.submission.id == self.bound[task]
            files = int(word[-1]) if word.startswith("completed") else 0
            assert len(event.assets) == files
            open_ = [asset for asset in event.assets if asset.state is AssetState.PENDING]
            assert (event.type is None) == bool(open_)

    @invariant()
    def nothing_is_held_of_a_task_that_has_ended(self) -> None:
        stats = self.runner.run(self.store.count_stats())
        assert stats.deliveries.get(Verdict.UNCONFIRMED, 0) == sum(self.held.values())

    @invariant()
    def what_is_counted_as_it_goes_is_what_there_is(self) -> None:
        check_counts(self.beside)

    @invariant()
    def repeats_add_no_rows(self) -> None:
        stats = self.runner.run(self.store.count_stats())
        assert sum(stats.deliveries.values()) == len(self.bodies)

    @invariant()
    def each_end_is_addressed_once_to_each_sink_that_wants_it(self) -> None:
        for task in self.ends:
            found = self.runner.run(self.store.get_task("vidgo", task))
            assert found is not None
            assert found.event is not None
            sinks = Counter(entry.sink for entry in found.notifications)
            wanted = {"all"} if found.event.type else set()
            if found.event.type is EventType.FAILED:
                wanted.add("failures")
            assert sinks == Counter(wanted)
        assert all(count == 1 for count in self.entries.values())

    @invariant()
    def nothing_is_known_of_tasks_nobody_submitted(self) -> None:
        for task in {"t1", "t2", "t3"} - set(self.bound):
            assert self.runner.run(self.store.get_task("vidgo", task)) is None


def record_at(place: Place) -> type[Record]:
    class RecordThere(Record):
        def __init__(self) -> None:
            super().__init__(place)

    return RecordThere


WALKS = {"sqlite": 40, "postgres": 10}  # of which one takes four times as long


@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_happens_the_record_keeps_the_models_promises(
    engine: str, request: pytest.FixtureRequest
) -> None:
    run_state_machine_as_test(
        record_at(place_on(engine, request)),
        settings=settings(
            max_examples=WALKS[engine],
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
