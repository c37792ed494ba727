"""Why a provider is left alone, and for how long: by moments that the test makes up."""

from datetime import timedelta

import pytest

from receiver.models import Outcome
from receiver.polling.circuit import (
    PROVIDER_FAILURES,
    CircuitState,
    Failure,
    after_failure,
    after_success,
    half_open,
)

START = timedelta(days=3)  # an uptime begins anywhere


def later(seconds: float) -> timedelta:
    return START + timedelta(seconds=seconds)


def meet(
    before: CircuitState | None,
    outcome: Outcome,
    at_seconds: float = 0.0,
    *,
    asked_at_seconds: float | None = None,
    wish: float | None = None,
) -> CircuitState:
    """The state after a question failed that was asked just before, or when the test says."""
    asked_at = later(at_seconds if asked_at_seconds is None else asked_at_seconds)
    failure = Failure(outcome=outcome, detail="so it said", asked_at=asked_at, retry_after_seconds=wish)
    return after_failure(before, failure, later(at_seconds))


def test_a_trouble_says_what_was_met_last() -> None:
    state = meet(meet(None, Outcome.TIMEOUT), Outcome.KEY_REFUSED, 5)
    assert (state.outcome, state.detail) == (Outcome.KEY_REFUSED, "so it said")


@pytest.mark.parametrize(
    ("outcome", "waits"),
    [
        (Outcome.KEY_REFUSED, [60, 120, 240, 480, 900, 900]),
        (Outcome.OUT_OF_CREDIT, [60, 120, 240, 480, 900, 900]),
        (Outcome.TIMEOUT, [5, 10, 20, 40, 80, 160, 300, 300]),
        (Outcome.HTTP_ERROR, [5, 10, 20, 40, 80, 160, 300, 300]),
        (Outcome.RATE_LIMITED, [15, 30, 60, 120, 240, 480, 900, 900]),
    ],
)
def test_a_trouble_that_lasts_is_looked_at_ever_more_rarely(outcome: Outcome, waits: list[int]) -> None:
    state, seconds, met = None, 0.0, []
    for _ in waits:
        state = meet(state, outcome, seconds)
        met.append((state.until - later(seconds)).total_seconds())
        seconds = (state.until - START).total_seconds()
        state = half_open(state, state.until)
    assert met == waits


def test_there_is_a_wait_for_everything_that_goes_wrong_on_the_wire() -> None:
    on_the_wire = {
        Outcome.BAD_URL, Outcome.DNS_FAILED, Outcome.CONNECT_FAILED, Outcome.TLS_FAILED, Outcome.TIMEOUT,
        Outcome.INTERRUPTED, Outcome.HTTP_ERROR,
    }  # fmt: skip
    assert {meet(None, outcome).wait_seconds for outcome in on_the_wire} == {5}
    assert on_the_wire <= PROVIDER_FAILURES.keys()


@pytest.mark.parametrize(
    ("outcome", "wish", "seconds"),
    [
        (Outcome.RATE_LIMITED, 40.0, 40),
        (Outcome.RATE_LIMITED, 1.0, 1),
        (Outcome.RATE_LIMITED, 86_400.0, 86_400),
        (Outcome.HTTP_ERROR, 40.0, 40),
        (Outcome.HTTP_ERROR, 1.0, 5),
        (Outcome.KEY_REFUSED, 30.0, 60),
    ],
)
def test_a_wish_is_obeyed_and_shortens_only_the_wait_for_too_many_questions(
    outcome: Outcome, wish: float, seconds: int
) -> None:
    state = meet(None, outcome, wish=wish)
    assert state.is_open(later(seconds - 0.001))
    assert not state.is_open(later(seconds))


def test_questions_on_their_way_together_are_one_failure() -> None:
    state = None
    for seconds in (1, 2, 3):
        state = meet(state, Outcome.KEY_REFUSED, seconds, asked_at_seconds=0)
        assert state.wait_seconds == 60
        assert state.until == later(seconds + 60)


def test_of_two_troubles_met_together_the_longer_one_counts() -> None:
    state = meet(None, Outcome.KEY_REFUSED)
    assert meet(state, Outcome.TIMEOUT, 1, asked_at_seconds=0).until == later(60)


def test_of_two_troubles_met_one_after_the_other_the_later_one_counts() -> None:
    state = meet(None, Outcome.KEY_REFUSED)
    assert meet(state, Outcome.TIMEOUT, 60).until == later(65)


def test_an_answer_ends_a_trouble_and_the_next_begins_anew() -> None:
    state = meet(meet(None, Outcome.TIMEOUT), Outcome.TIMEOUT, 5)
    assert state.wait_seconds == 10
    assert after_success(state, later(15), accepted=True) is None
    assert meet(None, Outcome.TIMEOUT, 16).wait_seconds == 5


@pytest.mark.parametrize("accepted", [True, False])
def test_an_answer_on_its_way_does_not_lift_a_wish(*, accepted: bool) -> None:
    state = meet(None, Outcome.RATE_LIMITED, wish=40.0)
    assert after_success(state, START, accepted=accepted) is state
    assert after_success(state, later(0.001), accepted=accepted) is None


@pytest.mark.parametrize("outcome", PROVIDER_FAILURES)
def test_a_refused_question_shows_that_the_host_is_there_and_nothing_of_the_key(outcome: Outcome) -> None:
    state = meet(None, outcome)
    is_ours = outcome in {Outcome.KEY_REFUSED, Outcome.OUT_OF_CREDIT}
    assert after_success(state, later(100), accepted=False) is (state if is_ours else None)
    assert after_success(state, later(100), accepted=True) is None


def test_while_one_finds_out_the_others_wait_and_not_for_ever() -> None:
    state = half_open(meet(None, Outcome.TIMEOUT), later(5))
    assert state.is_open(later(20))
    assert not state.is_open(later(35))


def test_a_question_asked_too_early_makes_no_wait_shorter() -> None:
    assert half_open(meet(None, Outcome.KEY_REFUSED), later(1)).until == later(60)


@pytest.mark.parametrize(
    ("outcome", "wish", "sent_away"),
    [
        (Outcome.TIMEOUT, None, False),
        (Outcome.RATE_LIMITED, 40.0, False),
        (Outcome.RATE_LIMITED, 100.0, True),
        (Outcome.KEY_REFUSED, None, True),
    ],
)
def test_a_short_trouble_is_waited_out_and_from_a_long_one_all_are_sent_away(
    outcome: Outcome, wish: float | None, *, sent_away: bool
) -> None:
    state = meet(None, outcome, wish=wish)
    assert state.turns_away(later(1)) is sent_away
    assert not state.turns_away(state.until)


def test_nobody_is_sent_away_while_one_finds_out_whether_the_trouble_is_over() -> None:
    state = half_open(meet(None, Outcome.KEY_REFUSED), later(60))
    assert not state.turns_away(later(61))
    assert state.is_open(later(61))
    again = meet(state, Outcome.KEY_REFUSED, 62, asked_at_seconds=60)
    assert again.turns_away(later(63))


def test_a_trouble_is_as_old_as_its_first_failure() -> None:
    state = meet(None, Outcome.TIMEOUT)
    state = meet(state, Outcome.CONNECT_FAILED, 100)
    assert state.since == START
    state = meet(state, Outcome.KEY_REFUSED, 200)
    assert state.since == later(200)
