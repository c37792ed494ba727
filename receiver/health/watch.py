"""What only a process that looks again and again knows: bursts, silence, crashes, a clock that was moved.

Forgotten with the process. Nothing here is called for a callback: the counters of the metrics are compared.
"""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from statistics import median

import msgspec

from receiver.clock import Clock, Drift, Leaps
from receiver.health.facts import Burst, ClockMove, Crash

LOOK_SECONDS = 10.0
SPAN = timedelta(minutes=10)
SPANS_OF_A_WEEK = 7 * 24 * 6
LEAST_BURST = 20  # in a span: what is rare is no burst
TIMES_USUAL = 10
LEAST_CALLS = 20  # of a provider, until a gap between them is usual


class CallbackCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Callbacks since this process began."""

    by_provider: Mapping[str, int]
    unauthorised: int
    refused: int


class Watch:
    """The memory of one process."""

    def __init__(self, clock: Clock, counts: Callable[[], CallbackCounts]) -> None:
        self._clock = clock
        self._counts = counts
        self._drift = Drift(clock)
        counted, now = counts(), clock.uptime()
        self._unauthorised = Rate(now, counted.unauthorised)
        self._refused = Rate(now, counted.refused)
        self._callers: dict[str, Caller] = {}
        self.crashes: dict[str, Crash] = {}
        self.clock_move: ClockMove | None = None

    def look(self) -> None:
        """Compare what is counted with what was at the last look."""
        move, now = self._drift.look(), self._clock.uptime()
        if abs(move) >= Leaps.LEAP:
            self.clock_move = ClockMove(at=self._clock.now(), by=move)
        counts = self._counts()
        self._unauthorised.learn(now, counts.unauthorised)
        self._refused.learn(now, counts.refused)
        for name, count in counts.by_provider.items():
            self._callers.setdefault(name, Caller()).learn(now, count)

    def crashed(self, loop: str) -> None:
        """A loop crashed, and is started again."""
        times = self.crashes[loop].times if loop in self.crashes else 0
        self.crashes[loop] = Crash(times=times + 1, at=self._clock.now())

    @property
    def unauthorised(self) -> Burst | None:
        """Callbacks without a good token, where there are many more than usual."""
        return self._unauthorised.burst()

    @property
    def refused(self) -> Burst | None:
        """Callbacks with the token of another task, where there are many more than usual."""
        return self._refused.burst()

    def called_at(self, provider: str) -> datetime | None:
        """When a provider called last, as far as looks tell."""
        caller = self._callers.get(provider)
        if caller is None or caller.last is None:
            return None
        return self._clock.now() - (self._clock.uptime() - caller.last)

    def usual_gap(self, provider: str) -> timedelta | None:
        """The mean time between a provider's callbacks; None where there were too few."""
        caller = self._callers.get(provider)
        return caller.usual_gap() if caller else None


class Rate:
    """How much a counter grew in spans of ten minutes. Moments are of ``Clock.uptime``."""

    def __init__(self, now: timedelta, count: int) -> None:
        self._begun = now
        self._at_begin = self._count = count
        self._spans: deque[int] = deque(maxlen=SPANS_OF_A_WEEK)

    def learn(self, now: timedelta, count: int) -> None:
        """The counter is at ``count`` now."""
        while now - self._begun >= SPAN:
            self._spans.append(self._count - self._at_begin)
            self._begun += SPAN
            self._at_begin = self._count
        self._count = count

    def burst(self) -> Burst | None:
        """The span that is under way, or the one before, where it has ten times the usual and is not rare."""
        earlier = list(self._spans)
        before = earlier.pop() if earlier else 0
        usual = float(median(earlier)) if earlier else 0.0
        count = max(self._count - self._at_begin, before)
        is_burst = count >= max(LEAST_BURST, TIMES_USUAL * usual)
        return Burst(count=count, usual=usual) if is_burst else None


class Caller:
    """When a provider called, as far as looks at a counter tell. Moments are of ``Clock.uptime``."""

    def __init__(self) -> None:
        self.last: timedelta | None = None
        self._first: timedelta | None = None
        self._count = 0

    def learn(self, now: timedelta, count: int) -> None:
        """The counter is at ``count`` now."""
        if count > self._count:
            self._first = now if self._first is None else self._first
            self._count, self.last = count, now

    def usual_gap(self) -> timedelta | None:
        """The mean time between calls; None where there were too few."""
        if self._first is None or self.last is None or self._count < LEAST_CALLS:
            return None
        return (self.last - self._first) / (self._count - 1)
