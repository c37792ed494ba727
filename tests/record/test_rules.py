"""The rules of the record, from values alone."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from receiver.errors import Unavailable
from receiver.models import EventType, Outcome, Proof, Report, ReportState, Verdict, Via
from receiver.options import StoreOptions
from receiver.record import rules
from receiver.record.rules import DeliveryRow, PollRow, SubmissionRow
from receiver.testing import TurnableClock
from tests.support.factories import (
    NOW,
    answer,
    completed,
    confirms_weak,
    failed,
    later,
    progress,
    recording,
    unclear,
)

OPTIONS = StoreOptions(data_dir=Path(), clock=TurnableClock(NOW), confirms=confirms_weak)
KEYLESS = replace(OPTIONS, unpolled={"vidgo": "no key"})
SAID = recording(completed("t1"), weak=True)
PLACE = ("vidgo", "t1", "")


def row_of(task_id: str | None = "t1", *, number: int = 1, owner: str = "ann") -> SubmissionRow:
    return SubmissionRow(number=number, id=f"sub_{number}", provider="vidgo", owner=owner, task_id=task_id)


def delivery(verdict: Verdict, *, body_bytes: int | None = 10, waiting: str | None = None) -> DeliveryRow:
    row = rules.filed_anew(SAID, verdict, PLACE, 1)
    return replace(row, number=7, body_bytes=body_bytes, waiting=waiting)


class TestClaim:
    """Whose a callback is."""

    by_token = recording(completed("t1"), submission_id="sub_1")

    def test_without_a_submissions_token_it_is_filed_under_what_it_says(self) -> None:
        claim = rules.claim_of(SAID, None, None)

        assert (claim.submission, claim.task_id, claim.proof) == (None, "t1", Proof.PROVIDER)

    def test_a_token_proves_what_is_said_of_its_own_task(self) -> None:
        claim = rules.claim_of(self.by_token, row_of("t1"), None)

        assert (claim.submission, claim.proof, claim.is_binding) == (1, Proof.SUBMISSION, False)

    def test_what_names_no_task_is_filed_under_its_tokens(self) -> None:
        claim = rules.claim_of(recording(unclear(None), submission_id="sub_1"), row_of("t1"), None)

        assert (claim.submission, claim.task_id, claim.is_refused) == (1, "t1", False)

    def test_a_free_submission_gets_a_free_task(self) -> None:
        claim = rules.claim_of(self.by_token, row_of(None), None)

        assert (claim.submission, claim.task_id, claim.is_binding) == (1, "t1", True)

    def test_a_free_submission_is_refused_the_task_of_another_owner(self) -> None:
        claim = rules.claim_of(self.by_token, row_of(None), row_of("t1", number=2, owner="bob"))

        assert (claim.submission, claim.task_id, claim.is_refused) == (1, None, True)

    def test_a_task_that_its_owner_logged_twice_is_proved_as_by_a_providers_token(self) -> None:
        claim = rules.claim_of(self.by_token, row_of(None), row_of("t1", number=2))

        assert (claim.submission, claim.proof, claim.is_refused) == (2, Proof.PROVIDER, False)

    def test_the_token_of_another_task_is_refused_and_filed_under_that(self) -> None:
        claim = rules.claim_of(self.by_token, row_of("t2"), row_of("t1", number=2))

        assert (claim.submission, claim.task_id, claim.is_refused) == (1, "t2", True)

    def test_a_token_that_the_log_does_not_know_is_worth_no_more_than_a_providers(self) -> None:
        assert rules.claim_of(self.by_token, None, None).proof is Proof.PROVIDER
        assert rules.proof_about(Proof.SIGNATURE, None) is Proof.SIGNATURE


class TestVerdict:
    """What a delivery is to its task."""

    ended = replace(row_of(), fingerprint=SAID.fingerprint)

    def test_what_nobody_owns_is_early(self) -> None:
        assert rules.verdict_of(SAID, None, is_open=True) is Verdict.EARLY
        assert rules.verdict_of(recording(progress()), None, is_open=False) is Verdict.EARLY

    def test_progress_is_progress_before_and_after_the_end(self) -> None:
        for owner in (row_of(), self.ended):
            assert rules.verdict_of(recording(progress()), owner, is_open=False) is Verdict.PROGRESS

    def test_the_first_end_is_accepted_or_held(self) -> None:
        assert rules.verdict_of(SAID, row_of(), is_open=False) is Verdict.ACCEPTED
        assert rules.verdict_of(SAID, row_of(), is_open=True) is Verdict.UNCONFIRMED

    def test_a_later_end_says_the_same_or_contradicts(self) -> None:
        assert rules.verdict_of(SAID, self.ended, is_open=True) is Verdict.DUPLICATE
        assert rules.verdict_of(recording(failed()), self.ended, is_open=False) is Verdict.CONFLICT

    def test_what_a_provider_says_itself_needs_no_confirmation(self) -> None:
        assert rules.must_confirm(SAID, Proof.PROVIDER, OPTIONS)
        assert not rules.must_confirm(SAID, Proof.SIGNATURE, OPTIONS)
        assert not rules.must_confirm(answer(completed()), Proof.PROVIDER, OPTIONS)

    @pytest.mark.parametrize(
        ("report", "weak", "alone"),
        [
            (completed(), False, True),
            (failed(), False, True),
            (progress(), False, False),
            (unclear(), False, False),
            (completed(), True, False),
        ],
    )
    def test_an_end_that_needs_nobodys_word_ends_alone(self, report: Report, weak: bool, alone: bool) -> None:
        assert rules.ends_alone(recording(report, weak=weak), OPTIONS) is alone

    def test_the_sender_of_what_must_be_confirmed_always_hears_accepted(self) -> None:
        told = rules.told_to_sender
        assert told(is_repeat=True, must_confirm=True) is Verdict.ACCEPTED
        assert told(is_repeat=True, must_confirm=False) is Verdict.DUPLICATE
        assert told(is_repeat=False, must_confirm=False) is Verdict.ACCEPTED


class TestFiles:
    """A success that names no files."""

    empty = recording(completed(files=0))
    said = replace(delivery(Verdict.UNCONFIRMED), proof=Proof.SIGNATURE)

    def test_a_callback_waits_where_the_provider_can_be_asked(self) -> None:
        assert rules.awaits_files(self.empty, row_of(), [self.said], later(10**6), OPTIONS)

    def test_it_counts_once_it_was_said_for_ten_minutes(self) -> None:
        end = NOW + rules.FILES_WAIT
        assert rules.awaits_files(self.empty, row_of(), [self.said], end - timedelta(seconds=1), KEYLESS)
        assert not rules.awaits_files(self.empty, row_of(), [self.said], end, KEYLESS)

    def test_so_does_an_answer(self) -> None:
        told = answer(completed(files=0))
        assert rules.awaits_files(told, row_of(), [], later(10**6), OPTIONS)
        assert not rules.awaits_files(told, row_of(), [self.said], later(10**6), OPTIONS)

    def test_what_must_be_confirmed_has_said_nothing(self) -> None:
        weak = replace(self.said, proof=Proof.PROVIDER)
        assert rules.awaits_files(self.empty, row_of(), [weak], later(10**6), KEYLESS)
        polled = replace(weak, via=Via.POLL, claim="poll")
        assert not rules.awaits_files(self.empty, row_of(), [polled], later(10**6), KEYLESS)

    def test_nor_has_what_came_by_another_tasks_token(self) -> None:
        own, others = (replace(self.said, claim=each, proof=Proof.SUBMISSION) for each in ("sub_1", "sub_2"))
        assert not rules.awaits_files(self.empty, row_of(), [own], later(10**6), KEYLESS)
        assert rules.awaits_files(self.empty, row_of(), [others], later(10**6), KEYLESS)


class TestRoom:
    """What is kept, only counted, or refused."""

    @pytest.mark.parametrize(
        ("verdict", "body_bytes", "spent"),
        [
            (Verdict.UNOWNED, 10, True),
            (Verdict.UNOWNED, None, True),
            (Verdict.UNCONFIRMED, None, True),
            (Verdict.UNRECOGNISED, None, True),
            (Verdict.REFUSED, None, True),
            (Verdict.UNCONFIRMED, 10, False),
            (Verdict.EARLY, None, False),
            (Verdict.DUPLICATE, None, False),
        ],
    )
    def test_a_delivery_is_spent_when_only_its_key_is_left_and_it_may_count(
        self, verdict: Verdict, body_bytes: int | None, spent: bool
    ) -> None:
        assert rules.is_spent(delivery(verdict, body_bytes=body_bytes)) is spent

    def test_what_has_its_place_takes_no_other(self) -> None:
        assert rules.is_one_more(None, PLACE, None)
        assert rules.is_one_more(delivery(Verdict.UNOWNED), PLACE, 1)
        assert not rules.is_one_more(delivery(Verdict.REFUSED), PLACE, 1)

    def test_what_names_no_task_and_is_nobodys_is_bounded_otherwise(self) -> None:
        assert not rules.is_one_more(None, ("vidgo", "", ""), None)
        assert rules.is_one_more(None, ("vidgo", "", ""), 1)

    def test_what_nobody_owns_is_refused_at_its_limit(self) -> None:
        rules.refuse_ownerless(Verdict.EARLY, 9, 10)
        with pytest.raises(Unavailable, match="10 early"):
            rules.refuse_ownerless(Verdict.EARLY, 10, 10)
        rules.refuse_large(Verdict.EARLY, rules.MOST_LARGE - 1)
        with pytest.raises(Unavailable, match="100 large early"):
            rules.refuse_large(Verdict.EARLY, rules.MOST_LARGE)

    @pytest.mark.parametrize("verdict", [Verdict.EARLY, Verdict.UNCONFIRMED, Verdict.UNRECOGNISED])
    def test_one_more_that_may_still_count_is_refused(self, verdict: Verdict) -> None:
        with pytest.raises(Unavailable, match="20 other"):
            rules.refuse_alike(SAID, verdict, 20)

    def test_one_more_that_says_nothing_new_is_only_counted_and_so_is_an_answer(self) -> None:
        rules.refuse_alike(SAID, Verdict.PROGRESS, 100)
        rules.refuse_alike(answer(completed(files=0)), Verdict.UNCONFIRMED, 20)

    @pytest.mark.parametrize(
        ("report", "verdict", "waits"),
        [
            (completed(), Verdict.EARLY, True),
            (progress(), Verdict.EARLY, False),
            (completed(), Verdict.UNCONFIRMED, True),
            (completed(), Verdict.DUPLICATE, False),
            (unclear(), Verdict.UNRECOGNISED, False),
        ],
    )
    def test_of_what_waits_something_will_be_asked(
        self, report: Report, verdict: Verdict, waits: bool
    ) -> None:
        came = recording(report)
        assert rules.waits(came, verdict) is waits
        assert (rules.waiting(came, verdict) is not None) is waits
        assert rules.most_alike(waits=waits) == (20 if waits else 100)


class TestRepeats:
    """A body that comes again."""

    def test_an_open_verdict_is_replaced_and_the_owner_found(self) -> None:
        known = replace(delivery(Verdict.EARLY), submission=None)

        row = rules.come_again(known, SAID, Verdict.UNCONFIRMED, 3)

        assert (row.verdict, row.submission) == (Verdict.UNCONFIRMED, 3)
        assert rules.says(row, SAID.fingerprint)

    def test_any_other_is_history(self) -> None:
        row = rules.come_again(delivery(Verdict.ACCEPTED), SAID, Verdict.DUPLICATE, 3)

        assert (row.verdict, row.submission, row.waiting) == (Verdict.ACCEPTED, 1, None)


class TestWaiting:
    """What was early or held, once there is an owner or an end."""

    def test_what_an_early_end_said_is_said_again_without_its_body(self) -> None:
        early = replace(delivery(Verdict.EARLY), waiting=rules.waiting(SAID, Verdict.EARLY))

        assert rules.said_early(early) == replace(SAID, body=b"")

    def test_early_progress_is_progress_and_what_is_not_understood_stays_so(self) -> None:
        assert rules.said_early(delivery(Verdict.EARLY)) is None
        assert rules.no_longer_early(Verdict.EARLY) is Verdict.PROGRESS
        assert rules.no_longer_early(Verdict.UNRECOGNISED) is Verdict.UNRECOGNISED

    def test_what_was_held_said_the_same_or_something_else(self) -> None:
        held = replace(delivery(Verdict.UNCONFIRMED), waiting=rules.waiting(SAID, Verdict.UNCONFIRMED))

        assert rules.settled(held, SAID.fingerprint).verdict is Verdict.ACCEPTED
        conflict = rules.settled(held, "another")
        assert (conflict.verdict, conflict.waiting) == (Verdict.CONFLICT, None)

    def test_the_first_that_waits_makes_the_question_due_at_once(self) -> None:
        fresh = rules.held_poll(None, 1, "vidgo", NOW)
        asked = PollRow(
            number=1, provider="vidgo", due_at=later(60), lease="x", asked=9, outcome=Outcome.IN_PROGRESS,
            detail="d", asked_at=NOW, replay_id="rep",
        )  # fmt: skip

        assert fresh == PollRow(number=1, provider="vidgo", due_at=NOW, held=True)
        assert rules.held_poll(asked, 1, "vidgo", NOW) == replace(fresh, replay_id="rep")

    @pytest.mark.parametrize(
        ("due", "asked", "lease", "then"),
        [(60, 0, None, 2), (1, 0, None, 1), (60, 4, None, 2), (60, 5, None, 60), (60, 0, "x", 60)],
    )
    def test_later_ones_hurry_it_a_little_and_a_few_times(
        self, due: int, asked: int, lease: str | None, then: int
    ) -> None:
        poll = PollRow(number=1, provider="vidgo", due_at=later(due), asked=asked, lease=lease, held=True)

        assert rules.held_poll(poll, 1, "vidgo", NOW) == replace(poll, due_at=later(then))


class TestEnds:
    """When an event ends, and how."""

    def test_with_files_it_ends_with_them(self) -> None:
        assert rules.end_of(completed(files=1)) is None
        assert rules.end_of(completed(files=0)) is EventType.FAILED
        assert rules.end_of(replace(completed(files=0), is_fileless=True)) is EventType.COMPLETED
        assert rules.end_of(failed()) is EventType.FAILED

    @pytest.mark.parametrize(
        ("stored", "end"), [(3, EventType.COMPLETED), (1, EventType.PARTIAL), (0, EventType.FAILED)]
    )
    def test_its_files_say_how(self, stored: int, end: EventType) -> None:
        assert rules.end_of_files(stored, 3) is end

    def test_a_failure_is_told_in_the_providers_words(self) -> None:
        assert rules.error_of(failed()) == ("nsfw", "refused")
        wordless = Report(task_id="t1", state=ReportState.FAILED, provider_state="dead")
        assert rules.error_of(wordless) == (None, "the provider gave no reason: its word is dead")
        assert rules.error_of(replace(wordless, provider_state=None))[1] == "the provider gave no reason"
        assert rules.error_of(completed(files=0))[0] == Outcome.NO_FILES.value
        assert rules.error_of(completed()) == (None, None)

    def test_how_many_files_could_not_be_had_is_told(self) -> None:
        assert rules.error_of_files(1) == "the file could not be had"
        assert rules.error_of_files(3) == "none of 3 files could be had"
