"""Ids that are unique and sort by age."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from receiver.clock import Clock, Drift, Leaps
from receiver.testing import TurnableClock


@pytest.mark.parametrize("clock", [Clock(), TurnableClock()])
def test_an_id_is_its_prefix_and_32_hex_digits(clock: Clock) -> None:
    for prefix in ("sub", "dlv", "evt", "out"):
        assert re.fullmatch(prefix + "_[0-9a-f]{32}", clock.new_id(prefix))


@pytest.mark.parametrize("clock", [Clock(), TurnableClock()])
def test_ids_are_unique(clock: Clock) -> None:
    assert len({clock.new_id("evt") for _ in range(20_000)}) == 20_000


def test_ids_sort_by_age() -> None:
    clock = Clock()
    ids = []
    for _ in range(20):
        ids.append(clock.new_id("evt"))
        time.sleep(0.002)
    assert ids == sorted(ids)


def test_now_is_aware_utc() -> None:
    now = Clock().now()
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


def test_uptime_runs_forward_as_time_goes_by() -> None:
    clock = Clock()
    began, uptimes = time.monotonic(), [clock.uptime() for _ in range(1000)]
    time.sleep(0.01)
    uptimes.append(clock.uptime())
    assert uptimes == sorted(uptimes)
    passed = (uptimes[-1] - uptimes[0]).total_seconds()
    assert 0.01 <= passed <= time.monotonic() - began + 0.001


def test_chance_is_at_least_0_and_below_1() -> None:
    chances = [Clock().random() for _ in range(1000)]
    assert 0 <= min(chances) < max(chances) < 1


def test_drift_is_what_the_wall_clock_was_moved_by_and_not_what_went_by() -> None:
    clock = TurnableClock()
    drift = Drift(clock)
    clock.turn(3600)
    assert drift.look() == timedelta()
    clock.leap(60)
    assert drift.look() == timedelta(seconds=60)
    clock.turn(-90)
    assert drift.look() == timedelta(seconds=-90)
    assert drift.look() == timedelta()


def test_time_that_a_clock_leapt_over_was_not_lived() -> None:
    clock = TurnableClock()
    leaps = Leaps(clock)
    assert leaps.lived(timedelta(days=400))  # nobody knows better
    clock.leap(86_400)
    assert not leaps.lived(timedelta(hours=1))
    clock.turn(3599)
    assert not leaps.lived(timedelta(hours=1))
    clock.turn(1)
    assert leaps.lived(timedelta(hours=1))


def test_a_clock_that_is_kept_right_does_not_leap() -> None:
    clock = TurnableClock()
    leaps = Leaps(clock)
    for _ in range(10):
        clock.leap(40)
        assert leaps.lived(timedelta(days=1))
        clock.turn(3600)
