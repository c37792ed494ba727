"""Ids that are unique and sort by age."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from receiver.clock import Clock
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


def test_chance_is_at_least_0_and_below_1() -> None:
    chances = [Clock().random() for _ in range(1000)]
    assert 0 <= min(chances) < max(chances) < 1
