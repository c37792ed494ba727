"""When to try again: from the number of the attempt and the other side's Retry-After; pure."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec

LONGEST_WISH_SECONDS = 86_400.0  # so that a hostile Retry-After cannot park work for ever


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter: the wait is drawn from 0 to the ceiling.

    Full jitter spreads a herd of retries after an outage over the whole interval.
    """

    first_seconds: float = 1.0
    longest_seconds: float = 3600.0
    max_attempts: int | None = 60  # with the default waits: a day in all, on average; None: without an end

    def next_at(
        self, attempt: int, now: datetime, chance: float, *, at_least_seconds: float | None = None
    ) -> datetime | None:
        """When to try again after attempt number ``attempt`` (from 1) failed; None when to give up.

        ``chance`` is in [0, 1). ``at_least_seconds`` is the other side's Retry-After: it is obeyed,
        but no longer than a day, whoever read it.
        """
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        ceiling = min(self.longest_seconds, self.first_seconds * 2.0 ** min(attempt - 1, 40))
        wait = max(ceiling * chance, min(at_least_seconds or 0.0, LONGEST_WISH_SECONDS))
        return now + timedelta(seconds=wait)


def retry_after_seconds(value: str, now: datetime) -> float | None:
    """A Retry-After in seconds from ``now``, from 0 to a day; None where it makes no sense, or is empty.

    RFC 9110, section 10.2.3: a number of seconds in ASCII digits, or a date in one of the three forms of
    section 5.6.7. Dates of HTTP are in UTC, so one that names no zone, or -0000, is too.
    """
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_WISH_SECONDS)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_WISH_SECONDS)
