"""Time, ids and randomness: asked of a clock that is handed in, so that tests can turn it."""

import os
import random
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The real world. ``receiver.testing`` has one whose hands can be moved."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def uptime(self) -> timedelta:
        """Time that only runs forward, whoever sets the wall clock: what waits are counted in.

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
    """By how much the wall clock was moved, told from the one that only runs forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = (clock.now(), clock.uptime())

    def look(self) -> timedelta:
        """Since the last look: below zero where it was set back, above where it was set forward, or slept."""
        now, uptime = self._clock.now(), self._clock.uptime()
        expected = self._seen[0] + (uptime - self._seen[1])
        self._seen = (now, uptime)
        return now - expected


class Leaps:
    """Whether time that the wall clock says has passed was lived through: what nobody waited is no patience.

    A wall clock that is set a day forward, or a machine that slept for one, makes everything a day older at
    once. One before the start is not noticed.
    """

    LEAP = timedelta(minutes=5)  # clocks that are merely kept right are moved by less

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drift = Drift(clock)
        self._leapt_at: timedelta | None = None  # in uptime

    def lived(self, age: timedelta) -> bool:
        """Whether so much has been lived through since the last leap, or there was none."""
        if self._drift.look() >= self.LEAP:
            self._leapt_at = self._clock.uptime()
        return self._leapt_at is None or self._clock.uptime() - self._leapt_at >= age
