"""One clock for all processes on a record: the server's, wherever a machine's own is off."""

from datetime import datetime, timedelta

import structlog

from receiver.clock import Clock

log = structlog.get_logger()

NOW = "SELECT clock_timestamp()"
AGREE_SECONDS = 1.0  # apart, two clocks agree: a lease lasts for half a minute at least


def seconds_behind(there: datetime, before: datetime, after: datetime) -> float:
    """How far the clock that was looked at ``before`` and ``after`` is behind the server's.

    0.0 where that cannot be told from the time that the answer took.
    """
    behind = (there - before - (after - before) / 2).total_seconds()
    return behind if abs(behind) > max(AGREE_SECONDS, (after - before).total_seconds()) else 0.0


def follow_server(clock: Clock, behind: float) -> None:
    """Have leases and due times mean the same to every process."""
    if behind:
        clock.follow(timedelta(seconds=behind))
        log.error(
            "clock.off",
            seconds_behind=round(behind, 1),
            reason="this machine's clock is not the database's",
            consequence="this process goes by the database's clock: set this machine's by NTP",
        )
