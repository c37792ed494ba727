"""Time, ids and randomness, all from a clock that is passed in, so that tests can set it."""

import os
import random
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The real time. ``receiver.testing`` has a clock that tests set."""

    _ahead = timedelta()

    def now(self) -> datetime:
        """The wall clock, aware UTC: the machine's, or the one that ``follow`` was told of."""
        return datetime.now(UTC) + self._ahead

    def follow(self, ahead: timedelta) -> None:
        """Go from now on by a clock that is so far ahead of this one."""
        self._ahead += ahead

    def uptime(self) -> timedelta:
        """Time that only runs forward, even when the wall clock is set; waits are counted in it.

        Only differences mean anything. It may stand still while the machine sleeps.
        """
        return timedelta(seconds=time.monotonic())

    def random(self) -> float:
        """A number in [0, 1), for jitter; not for secrets."""
        return random.random()

    def new_id(self, prefix: str) -> str:
        """``prefix_`` and 32 hex digits: 48 bits of time, so ids sort by age, and 80 random bits."""
        return f"{prefix}_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class Drift:
    """Measures how far the wall clock was moved, against the clock that only runs forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = (clock.now(), clock.uptime())

    def look(self) -> timedelta:
        """The move since the last look: below zero if set back, above if set forward or after a sleep."""
        now, uptime = self._clock.now(), self._clock.uptime()
        expected = self._seen[0] + (uptime - self._seen[1])
        self._seen = (now, uptime)
        return now - expected


class Leaps:
    """Ignores wall-clock time that was never lived through (a jump or a suspend).

    A wall clock that is set a day forward, or a machine that sleeps for one, makes everything a day older at
    once, though nobody waited. A leap before the start is not noticed.
    """

    LEAP = timedelta(minutes=5)  # clocks that are merely kept right are moved by less

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drift = Drift(clock)
        self._leapt_at: timedelta | None = None  # in uptime

    def lived(self, age: timedelta) -> bool:
        """Whether ``age`` has really passed since the last leap, or there was no leap."""
        if self._drift.look() >= self.LEAP:
            self._leapt_at = self._clock.uptime()
        return self._leapt_at is None or self._clock.uptime() - self._leapt_at >= age
