"""How often a provider is asked: by moments that the test makes up."""

from datetime import timedelta

import pytest

from receiver.polling.rate_limit import OutOfTurn, TokenBucket

START = timedelta(days=3)  # an uptime begins anywhere


def later(seconds: float) -> timedelta:
    return START + timedelta(seconds=seconds)


def ask_all(bucket: TokenBucket, now: timedelta) -> int:
    """Ask as often as there is room; how often that is."""
    count = 0
    while bucket.room(now):
        bucket.take(now)
        count += 1
    return count


# --- in turn --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_minute", "at_once"), [(1, 1), (5, 1), (30, 3), (60, 6), (6000, 600)])
def test_a_tenth_of_a_minutes_questions_may_be_asked_at_once(per_minute: int, at_once: int) -> None:
    bucket = TokenBucket(per_minute, START)
    assert bucket.room(START) == at_once
    assert ask_all(bucket, START) == at_once


@pytest.mark.parametrize("per_minute", [1, 5, 7, 30, 60, 1000])
def test_over_time_it_is_so_many_a_minute(per_minute: int) -> None:
    bucket, now, asked = TokenBucket(per_minute, START), START, 0
    ask_all(bucket, now)
    while now <= later(600):
        asked += ask_all(bucket, now)
        assert bucket.free_at() > now
        now = bucket.free_at()
    assert asked == pytest.approx(per_minute * 10, abs=1)


def test_there_is_room_exactly_from_when_it_says_so() -> None:
    bucket = TokenBucket(7, START)
    ask_all(bucket, START)
    assert bucket.room(bucket.free_at() - timedelta(microseconds=1)) == 0
    assert bucket.room(bucket.free_at()) == 1


def test_pauses_save_up_no_more_than_is_asked_at_once() -> None:
    assert ask_all(TokenBucket(60, START), later(86_400)) == 6


def test_what_is_asked_without_room_is_paid_for_later() -> None:
    bucket = TokenBucket(60, START)
    for _ in range(16):
        bucket.take(START)
    assert bucket.free_at() == later(11)


# --- out of turn ----------------------------------------------------------------------------------------


def test_questions_out_of_turn_are_heard_though_the_others_use_all_there_is() -> None:
    bucket, out_of_turn = TokenBucket(60, START), OutOfTurn(60, START)
    now, heard, in_turn = START, 0, 0
    while now < later(600):
        in_turn += ask_all(bucket, now)
        if out_of_turn.ask(now, now) is None:
            bucket.take(now)
            heard += 1
        now += timedelta(seconds=0.5)
    assert heard == pytest.approx(300, abs=5)
    assert in_turn + heard == pytest.approx(600, abs=10)


def test_those_who_have_to_come_again_come_one_by_one() -> None:
    out_of_turn = OutOfTurn(60, START)
    answers = [out_of_turn.ask(START, START) for _ in range(100)]
    again = [moment for moment in answers if moment is not None]
    assert answers[:3] == [None] * 3
    assert len(set(again)) == 97
    assert (again[0], again[-1]) == (later(2), later(2 + 96 * 2))
    assert all(out_of_turn.ask(moment, moment) is None for moment in again)


def test_nobody_is_heard_out_of_turn_while_the_provider_cannot_be_asked() -> None:
    out_of_turn = OutOfTurn(60, START)
    again = [out_of_turn.ask(later(1), later(60)) for _ in range(3)]
    assert again == [later(60), later(62), later(64)]
    assert [out_of_turn.ask(moment, later(60)) for moment in (later(60), later(62))] == [None, None]
