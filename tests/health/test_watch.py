"""What only a process that looks again and again can know."""

from datetime import timedelta

import pytest

from receiver.health.facts import Burst, ClockMove
from receiver.health.watch import SPAN, CallbackCounts, Rate, Watch
from receiver.metrics import Metrics
from receiver.models import Verdict
from receiver.testing import TurnableClock
from tests.support.factories import NOW

MINUTE = timedelta(minutes=1)


def rate(*spans: int, now: int = 0) -> Rate:
    """A counter that grew so much in each span of ten minutes, and by ``now`` in the one under way."""
    grown, total = Rate(timedelta(), 0), 0
    for place, count in enumerate((*spans, now)):
        total += count
        grown.learn(place * SPAN + MINUTE, total)
    return grown


@pytest.mark.parametrize(
    ("seen", "burst"),
    [
        (rate(now=19), None),
        (rate(now=20), Burst(count=20, usual=0)),
        (rate(3, 4, 5, 4, now=39), None),
        (rate(3, 4, 5, 4, now=40), Burst(count=40, usual=4)),
        (rate(3, 4, 5, 70, now=1), Burst(count=70, usual=4)),
        (rate(3, 4, 70, 5, now=1), None),
    ],
    ids=["rare", "from nothing", "nearly", "ten times", "a moment ago", "over"],
)
def test_ten_times_the_usual_is_a_burst_while_it_lasts_and_ten_minutes_after(
    seen: Rate, burst: Burst | None
) -> None:
    assert seen.burst() == burst


def test_spans_in_which_nobody_looked_are_spans_all_the_same() -> None:
    seen = Rate(timedelta(), 0)
    seen.learn(MINUTE, 50)
    seen.learn(5 * SPAN, 50)
    assert seen.burst() is None


class Counter:
    """Callbacks of Vidgo's as metrics count them."""

    def __init__(self) -> None:
        self.calls = 0

    def counts(self) -> CallbackCounts:
        return CallbackCounts(by_provider={"vidgo": self.calls}, unauthorised=0, refused=0)


def test_the_usual_gap_is_known_after_some_callbacks_and_the_last_one_at_each_look() -> None:
    clock, counter = TurnableClock(NOW), Counter()
    watch = Watch(clock, counter.counts)
    for number in range(20):
        assert watch.usual_gap("vidgo") is None
        clock.turn(seconds=60)
        counter.calls = number + 1
        watch.look()
    clock.turn(seconds=300)
    watch.look()

    assert watch.usual_gap("vidgo") == MINUTE
    assert watch.called_at("vidgo") == clock.now() - timedelta(seconds=300)
    assert (watch.called_at("apixo"), watch.usual_gap("apixo")) == (None, None)


def test_a_clock_that_leaps_is_told_of_and_one_that_is_kept_right_is_not() -> None:
    clock = TurnableClock(NOW)
    watch = Watch(clock, Counter().counts)
    seen = []
    for seconds in (240, -7200):
        clock.leap(seconds)
        watch.look()
        seen.append(watch.clock_move)

    assert seen == [None, ClockMove(at=clock.now(), by=timedelta(hours=-2))]


def test_crashes_are_counted_by_loop() -> None:
    watch = Watch(TurnableClock(NOW), Counter().counts)
    watch.crashed("upkeep")
    watch.crashed("upkeep")
    assert watch.crashes["upkeep"].times == 2


def test_metrics_count_callbacks_for_it() -> None:
    metrics = Metrics(["vidgo"])
    metrics.callback("vidgo", Verdict.ACCEPTED, 0.1)
    metrics.callback("vidgo", Verdict.REFUSED, 0.1)
    for status in (409, 401, 401, 413):
        metrics.rejected(status)
    assert metrics.callback_counts() == CallbackCounts(
        by_provider={"vidgo": 2, "unknown": 0}, unauthorised=2, refused=1
    )
