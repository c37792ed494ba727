"""How often a provider is asked: by a clock that the test turns."""

from datetime import datetime, timedelta

import pytest

from receiver.pace import Pace
from receiver.words import Outcome
from tests.factories import NOW, later


def ask_all(pace: Pace, now: datetime) -> int:
    """Ask as often as there is room; how often that is."""
    count = 0
    while pace.room(now):
        pace.take(now)
        count += 1
    return count


def meet(
    pace: Pace,
    outcome: Outcome,
    now: datetime,
    *,
    asked_at: datetime | None = None,
    wish: float | None = None,
) -> float:
    """Fail a question; the seconds until the next one."""
    pace.met(outcome, "so it said", asked_at=asked_at or now, now=now, wish_seconds=wish)
    return (pace.free_at(now) - now).total_seconds()


@pytest.mark.parametrize(("per_minute", "at_once"), [(1, 1), (5, 1), (30, 3), (60, 6), (6000, 600)])
def test_a_tenth_of_a_minutes_questions_may_be_asked_at_once(per_minute: int, at_once: int) -> None:
    pace = Pace(per_minute, NOW)
    assert pace.room(NOW) == at_once
    assert ask_all(pace, NOW) == at_once


@pytest.mark.parametrize("per_minute", [1, 5, 7, 30, 60, 1000])
def test_over_time_it_is_so_many_a_minute(per_minute: int) -> None:
    pace, now, asked = Pace(per_minute, NOW), NOW, 0
    ask_all(pace, now)
    while now <= later(600):
        asked += ask_all(pace, now)
        assert pace.free_at(now) > now
        now = pace.free_at(now)
    assert asked == pytest.approx(per_minute * 10, abs=1)


def test_there_is_room_exactly_from_when_it_says_so() -> None:
    pace = Pace(7, NOW)
    ask_all(pace, NOW)
    free_at = pace.free_at(NOW)
    assert pace.room(free_at - timedelta(microseconds=1)) == 0
    assert pace.room(free_at) == 1


def test_pauses_save_up_no_more_than_is_asked_at_once() -> None:
    pace = Pace(60, NOW)
    assert ask_all(pace, later(86_400)) == 6


def test_a_wish_is_obeyed_and_then_one_question_finds_out() -> None:
    pace = Pace(60, NOW)
    pace.take(NOW)
    assert meet(pace, Outcome.RATE_LIMITED, NOW, wish=40.0) == 40
    assert pace.room(later(39)) == 0
    assert ask_all(pace, later(40)) == 1
    pace.over(asked_at=later(40))
    assert pace.room(later(41)) == 6


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
    pace, now, met = Pace(60, NOW), NOW, []
    for _ in waits:
        met.append(meet(pace, outcome, now))
        now = pace.free_at(now)
        assert ask_all(pace, now) == 1
    assert met == waits


def test_questions_on_their_way_together_are_one_failure() -> None:
    pace = Pace(60, NOW)
    ask_all(pace, NOW)
    for seconds in (1, 2, 3):
        wait = meet(pace, Outcome.KEY_REFUSED, later(seconds), asked_at=NOW)
        assert wait == 60


def test_of_two_troubles_met_together_the_longer_one_counts() -> None:
    pace = Pace(60, NOW)
    meet(pace, Outcome.KEY_REFUSED, NOW)
    assert meet(pace, Outcome.TIMEOUT, later(1), asked_at=NOW) == 59


def test_an_answer_ends_a_trouble_and_the_next_begins_anew() -> None:
    pace = Pace(60, NOW)
    meet(pace, Outcome.TIMEOUT, NOW)
    meet(pace, Outcome.TIMEOUT, later(5))
    pace.over(asked_at=later(15))
    assert pace.trouble is None
    assert meet(pace, Outcome.TIMEOUT, later(16)) == 5


def test_an_answer_on_its_way_does_not_lift_a_wish() -> None:
    pace = Pace(60, NOW)
    meet(pace, Outcome.RATE_LIMITED, NOW, wish=40.0)
    pace.over(asked_at=NOW)
    assert pace.room(later(1)) == 0


def test_a_question_whose_answer_never_comes_does_not_end_the_asking() -> None:
    pace = Pace(60, NOW)
    meet(pace, Outcome.TIMEOUT, NOW)
    assert ask_all(pace, later(5)) == 1
    assert pace.room(later(20)) == 0
    assert pace.room(later(35)) == 1


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
    pace = Pace(60, NOW)
    seconds = meet(pace, outcome, NOW, wish=wish)
    assert pace.sends_away(later(1)) is sent_away
    assert pace.stands_for(later(1)) == timedelta(seconds=seconds - 1)
    assert not pace.sends_away(later(seconds))
    assert pace.stands_for(later(seconds)) is None


def test_nobody_is_sent_away_while_one_finds_out_whether_the_trouble_is_over() -> None:
    pace = Pace(60, NOW)
    meet(pace, Outcome.KEY_REFUSED, NOW)
    pace.take(later(60))
    assert not pace.sends_away(later(61))
    assert pace.room(later(61)) == 0
    meet(pace, Outcome.KEY_REFUSED, later(62), asked_at=later(60))
    assert pace.sends_away(later(63))


def test_a_trouble_is_as_old_as_its_first_failure() -> None:
    pace = Pace(60, NOW)
    assert pace.troubled_for(NOW) == timedelta()
    meet(pace, Outcome.TIMEOUT, NOW)
    meet(pace, Outcome.CONNECT_FAILED, later(100))
    assert pace.troubled_for(later(130)) == timedelta(seconds=130)
    meet(pace, Outcome.KEY_REFUSED, later(200))
    assert pace.troubled_for(later(201)) == timedelta(seconds=1)


def test_the_key_works_for_a_minute_after_an_answer_and_until_the_next_trouble() -> None:
    pace = Pace(60, NOW)
    assert not pace.key_works(NOW)
    pace.over(asked_at=NOW)
    assert pace.key_works(later(60))
    assert not pace.key_works(later(61))
    pace.over(asked_at=later(61))
    meet(pace, Outcome.TIMEOUT, later(62))
    assert not pace.key_works(later(63))


@pytest.mark.parametrize(("outcome", "is_over"), [(Outcome.TIMEOUT, True), (Outcome.KEY_REFUSED, False)])
def test_a_refused_question_shows_that_the_host_is_there_and_nothing_of_the_key(
    outcome: Outcome, *, is_over: bool
) -> None:
    pace = Pace(60, NOW)
    meet(pace, outcome, NOW)
    pace.over(asked_at=later(100), accepted=False)
    assert (pace.trouble is None) is is_over
    assert not pace.key_works(later(101))


def test_questions_out_of_turn_are_heard_though_the_others_use_all_there_is() -> None:
    pace, now, out_of_turn, in_turn = Pace(60, NOW), NOW, 0, 0
    while now < later(600):
        in_turn += ask_all(pace, now)
        if pace.out_of_turn(now) is None:
            pace.take(now)
            out_of_turn += 1
        now += timedelta(seconds=0.5)
    assert out_of_turn == pytest.approx(300, abs=5)
    assert in_turn + out_of_turn == pytest.approx(600, abs=10)


def test_those_who_have_to_come_again_come_one_by_one() -> None:
    pace = Pace(60, NOW)
    asked, again = 0, []
    for _ in range(100):
        again_at = pace.out_of_turn(NOW)
        if again_at is None:
            asked += 1
        else:
            again.append(again_at)
    assert asked == 3
    assert len(set(again)) == 97
    assert (again[0], again[-1]) == (later(2), later(2 + 96 * 2))
    assert all(pace.out_of_turn(moment) is None for moment in again)


def test_nobody_is_heard_out_of_turn_while_the_provider_cannot_be_asked() -> None:
    pace = Pace(60, NOW)
    meet(pace, Outcome.KEY_REFUSED, NOW)
    again_at = pace.out_of_turn(later(1))
    assert again_at is not None
    assert again_at >= later(60)
    assert pace.out_of_turn(again_at) is None


def test_a_clock_that_is_set_back_makes_nobody_wait_longer() -> None:
    pace = Pace(60, NOW)
    ask_all(pace, NOW)
    meet(pace, Outcome.TIMEOUT, NOW)
    day_before = later(-86_400)
    assert (pace.free_at(day_before) - day_before).total_seconds() == 5
    assert pace.room(day_before + timedelta(seconds=5)) == 1
    assert pace.room(later(86_400)) == 1
