"""Time, ids and randomness: asked of a clock that is handed in, so that tests can turn it."""

import os
import random
import time
from datetime import UTC, datetime


class Clock:
    """The real world. ``receiver.testing`` has one whose hands can be moved."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def random(self) -> float:
        """A number in [0, 1), for jitter; not for secrets."""
        return random.random()

    def new_id(self, prefix: str) -> str:
        """``prefix_`` and 32 hex digits: 48 bits of time, so ids sort by age, and 80 random bits."""
        return f"{prefix}_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
