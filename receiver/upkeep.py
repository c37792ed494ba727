"""Housekeeping of the record: expire unclaimed deliveries, forget needless polls, purge old bodies."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from receiver.clock import Clock, Leaps
from receiver.models import OutboxState
from receiver.ports import Store
from receiver.step_pace import StepPace
from receiver.time_series import SeriesUpkeep

log = structlog.get_logger()

MOST_NAMED = 20  # reservations in one line of the log
TIME_TO_MEND = timedelta(days=1)  # after a leap of the clock nothing is dropped: it may be set right again
TURN_SECONDS = 2.0  # of purging, until the other chores have their turn again
USUAL_PACE = StepPace()


class Upkeep:
    """One round of housekeeping at a time; safe to repeat, safe to stop anywhere."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        early_ttl_seconds: float,
        retention_days: float,
        lost_after_seconds: float,
        pace: StepPace = USUAL_PACE,
    ) -> None:
        self._store = store
        self._clock = clock
        self._expire = Steps(store.expire_early, clock, pace)
        self._forget = Steps(store.follow_deliveries, clock, pace)
        self._purge = Steps(store.purge, clock, pace)
        self._series = SeriesUpkeep(store)
        self._sweep = Steps(self._sweep_orders, clock, pace)
        self._leaps = Leaps(clock)
        self._early_ttl = timedelta(seconds=early_ttl_seconds)
        self._retention = timedelta(days=retention_days)
        self._lost_after = timedelta(seconds=lost_after_seconds)
        self._unset: Mapping[str, int] = {}  # what waits for sinks that are not set
        self._warned_to = datetime.min.replace(tzinfo=UTC)  # of reservations logged before

    def note(self) -> str | None:
        """Events that wait for ever unless somebody acts, in words for people."""
        sinks = ", ".join(f"{sink} ({count})" for sink, count in sorted(self._unset.items()))
        return f"events wait for sinks that are not set: {sinks}" if sinks else None

    async def run(self) -> None:
        """Expire, forget and purge all that is due now; a long purge does not hold up the others."""
        # Sinks that were renamed or removed while events waited for them: each is told of once.
        undelivered = await self._store.count_unset_sinks()
        waiting = {sink: counts.get(OutboxState.PENDING, 0) for sink, counts in undelivered.items()}
        unset = {sink: count for sink, count in waiting.items() if count}
        for sink in unset.keys() - self._unset.keys():
            log.warning(
                "sink.not_set",
                sink=sink,
                waiting=unset[sink],
                reason="set it again, or move or drop its events with `receiver dead`",
            )
        self._unset = unset
        expired = purged = 0
        is_done = False
        while not is_done:
            now = self._clock.now()
            await self._warn_of_unbound(now - self._lost_after)
            if self._leaps.lived(self._early_ttl):
                expired += (await self._expire.run(now - self._early_ttl))[0]
            await self._forget.run(now)
            await self._sweep.run(now)
            dropped, is_done = 0, True
            if self._leaps.lived(TIME_TO_MEND):
                dropped, is_done = await self._purge.run(now - self._retention, seconds=TURN_SECONDS)
                await self._series.run(now)
            purged += dropped
        if expired or purged:
            log.info("upkeep.done", expired_early=expired, purged=purged)

    async def _sweep_orders(self, now: datetime, limit: int) -> int:
        """Orders whose sender is gone, and those that stayed unknown too long."""
        return await self._store.sweep_orders(now, now - self._lost_after, limit)

    async def _warn_of_unbound(self, logged_before: datetime) -> None:
        """Warn once of each reservation without a task, after the time in which a task counts as lost.

        Its order failed, or a paid image waits at its provider under a task id that nobody here knows.
        """
        if logged_before <= self._warned_to:
            return
        count, oldest = await self._store.list_unbound(self._warned_to, logged_before, MOST_NAMED)
        self._warned_to = logged_before
        if count:
            log.warning(
                "submissions.unbound",
                count=count,
                oldest=[row.id for row in oldest],
                reason="no task was bound to these reservations: bind them, or withdraw them",
            )


class Steps:
    """Work of any length in short transactions, with at least as long a pause for callbacks between two.

    How much goes into one follows from how long the one before took, waiting for the writer included.
    """

    def __init__(self, step: Callable[[datetime, int], Awaitable[int]], clock: Clock, pace: StepPace) -> None:
        self._step = step
        self._clock = clock
        self._pace = pace
        self._at_once = pace.least

    async def run(self, until: datetime, *, seconds: float = math.inf) -> tuple[int, bool]:
        """Work for about ``seconds`` at most; return how many rows were done, and whether none is left."""
        done, begun = 0, self._clock.uptime()
        while (self._clock.uptime() - begun).total_seconds() < seconds:
            before = self._clock.uptime()
            asked = self._at_once
            step = await self._step(until, asked)
            done += step
            if step < asked:  # what comes meanwhile is for the next round
                return done, True
            took = (self._clock.uptime() - before).total_seconds()
            self._at_once = self._pace.next_rows(asked, took)
            await asyncio.sleep(max(took, self._pace.step_seconds / 2))
        return done, False
