"""When to try again: doubling, jitter, Retry-After, and giving up."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.backoff import LONGEST_WISH_SECONDS, Backoff, retry_after_seconds

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


def test_without_a_last_attempt_it_never_gives_up() -> None:
    assert Backoff(max_attempts=None).next_at(10**6, NOW, 0.5) == NOW + timedelta(seconds=1800)


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
    waits = [wait(backoff, attempt, 0.5) for attempt in range(1, 60)]
    assert backoff.next_at(60, NOW, 0.5) is None
    assert timedelta(seconds=sum(waits)) / timedelta(days=1) == pytest.approx(1, abs=0.1)
    assert statistics.fmean(waits[:5]) < 10  # and begin quickly


@given(
    attempt=st.integers(min_value=1, max_value=10**6),
    chance=st.floats(min_value=0, max_value=1, exclude_max=True),
    wish=st.none() | st.floats(),
)
def test_no_wait_is_negative_or_longer_than_a_day(attempt: int, chance: float, wish: float | None) -> None:
    assert 0 <= wait(Backoff(max_attempts=10**7), attempt, chance, wish) <= 86_400


# --- Retry-After ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("000000000000120", 120),
        # The three forms of RFC 9110, section 5.6.7.
        ("Sat, 21 Nov 2026 10:02:00 GMT", 120),
        ("Saturday, 21-Nov-26 10:02:00 GMT", 120),
        ("Sat Nov 21 10:02:00 2026", 120),
        ("Sat, 21 Nov 2026 10:02:00 -0000", 120),
        ("Sat, 21 Nov 2026 12:02:00 +0200", 120),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0),
    ],
)
def test_a_retry_after_is_a_number_of_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after_seconds(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "soon", "-5", "+5", "1.5", "1e9", "0x10", "1_000", "5 s", "5, 10", "inf", "nan", "1\0", "\0",
        "٣", "١٢٠", "²", "Sat, 99 Nov 2026 10:02:00 GMT", "Sat, 21 Nov 2026 25:00:00 GMT",
        "Sat, 21 Nov 99999999999999999999 10:02:00 GMT",
        "Sat, 21 Nov 2026 10:02:00 +9999999999", "2026-11-21T10:02:00Z", "x" * 65_536, "," * 65_536,
    ],
)  # fmt: skip
def test_a_retry_after_that_makes_no_sense_is_none(value: str) -> None:
    assert retry_after_seconds(value, NOW) is None


@pytest.mark.parametrize(
    "value",
    [
        "86401", "999999999", "9" * 400, "9" * 65_536,
        "Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -0900",
    ],
)  # fmt: skip
def test_a_hostile_retry_after_is_one_of_a_day(value: str) -> None:
    assert retry_after_seconds(value, NOW) == LONGEST_WISH_SECONDS == 86_400


def test_a_date_before_all_others_is_no_time_to_wait() -> None:
    assert retry_after_seconds("Mon, 01 Jan 0001 00:00:00 +0900", NOW) == 0


@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - its zone is given
def test_any_date_is_as_far_away_as_it_is(moment: datetime) -> None:
    away = (moment.replace(microsecond=0) - NOW).total_seconds()
    wanted = min(max(away, 0), LONGEST_WISH_SECONDS)
    assert retry_after_seconds(format_datetime(moment, usegmt=True), NOW) == wanted


PIECES = ["Sat,", "Sunday,", "21", "21-Nov-26", "Nov", "2026", "10:02:00", "GMT", "-0000", "+99999", ":", ","]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map(" ".join))
def test_any_text_is_a_wait_of_up_to_a_day_or_none(value: str) -> None:
    seconds = retry_after_seconds(value, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WISH_SECONDS
