"""The rate limit of a simulated provider."""

import math
import time
from collections.abc import Callable


class Throttle:
    """A limit of so many questions a minute, of which a tenth, or ``at_once``, may come at once; 0: none.

    A bucket that fills evenly, so that whoever waits as told gets through.
    """

    def __init__(
        self,
        per_minute: int,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        at_once: float | None = None,
    ) -> None:
        self._per_second = per_minute / 60
        self._most = at_once or max(1.0, per_minute / 10)
        self._monotonic = monotonic
        self._left = self._most
        self._seen_at = monotonic()

    def wait_seconds(self) -> int:
        """Count one more question and return 0 if it is within the limit; else the whole seconds to wait."""
        if not self._per_second:
            return 0
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._seen_at) * self._per_second)
        self._seen_at = now
        if self._left < 1:
            return math.ceil((1 - self._left) / self._per_second)
        self._left -= 1
        return 0
