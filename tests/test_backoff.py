"""When to try again: doubling, jitter, Retry-After, and giving up."""

import math
import statistics
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.backoff import Backoff

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def wait(backoff: Backoff, attempt: int, chance: float, at_least: float | None = None) -> float:
    moment = backoff.next_at(attempt, NOW, chance, at_least_seconds=at_least)
    assert moment is not None
    return (moment - NOW).total_seconds()


def test_the_ceiling_doubles_until_the_longest_wait() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=10)
    nearly_one = math.nextafter(1.0, 0.0)
    ceilings = [round(wait(backoff, attempt, nearly_one), 3) for attempt in range(1, 8)]
    assert ceilings == [1, 2, 4, 8, 10, 10, 10]


def test_jitter_reaches_from_nothing_to_the_ceiling() -> None:
    backoff = Backoff(first_seconds=8)
    assert [wait(backoff, 1, chance) for chance in (0.0, 0.25, 0.5)] == [0.0, 2.0, 4.0]


def test_the_last_attempt_gives_up() -> None:
    backoff = Backoff(max_attempts=3)
    assert backoff.next_at(2, NOW, 0.5) is not None
    assert backoff.next_at(3, NOW, 0.5) is None
    assert backoff.next_at(4, NOW, 0.5, at_least_seconds=5) is None


def test_the_other_sides_wish_is_obeyed_where_it_is_longer() -> None:
    backoff = Backoff(first_seconds=10)
    assert wait(backoff, 1, 0.5, at_least=60) == 60
    assert wait(backoff, 1, 0.5, at_least=1) == 5


@pytest.mark.parametrize("wish", [86_401.0, 1e12, 1e308, math.inf])
def test_no_wish_parks_work_for_longer_than_a_day(wish: float) -> None:
    assert wait(Backoff(), 1, 0.5, at_least=wish) == 86_400


@pytest.mark.parametrize("wish", [-1.0, 0.0, math.nan, -math.inf])
def test_a_senseless_wish_changes_nothing(wish: float) -> None:
    assert wait(Backoff(), 5, 0.5, at_least=wish) == wait(Backoff(), 5, 0.5)


def test_the_defaults_go_on_for_about_a_day() -> None:
    backoff = Backoff()
    waits = [wait(backoff, attempt, 0.5) for attempt in range(1, backoff.max_attempts)]
    assert timedelta(seconds=sum(waits)) / timedelta(days=1) == pytest.approx(1, abs=0.1)
    assert statistics.fmean(waits[:5]) < 10  # and begin quickly


@given(
    attempt=st.integers(min_value=1, max_value=10**6),
    chance=st.floats(min_value=0, max_value=1, exclude_max=True),
    wish=st.none() | st.floats(),
)
def test_no_wait_is_negative_or_longer_than_a_day(attempt: int, chance: float, wish: float | None) -> None:
    assert 0 <= wait(Backoff(max_attempts=10**7), attempt, chance, wish) <= 86_400
