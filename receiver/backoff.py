"""From the number of an attempt to the time of the next one; pure."""

from datetime import datetime, timedelta

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter: the wait is drawn from 0 to the ceiling.

    Full jitter spreads a herd of retries after an outage over the whole interval.
    """

    first_seconds: float = 1.0
    longest_seconds: float = 3600.0
    max_attempts: int = 60  # with the default waits: a day in all, on average

    def next_at(
        self, attempt: int, now: datetime, chance: float, *, at_least_seconds: float | None = None
    ) -> datetime | None:
        """When to try again after attempt number ``attempt`` (from 1) failed; None when to give up.

        ``chance`` is in [0, 1). ``at_least_seconds`` is the other side's Retry-After: it is obeyed,
        but no longer than a day, so that a hostile value cannot park work for ever.
        """
        if attempt >= self.max_attempts:
            return None
        ceiling = min(self.longest_seconds, self.first_seconds * 2.0 ** min(attempt - 1, 40))
        wait = max(ceiling * chance, min(at_least_seconds or 0.0, 86_400.0))
        return now + timedelta(seconds=wait)
