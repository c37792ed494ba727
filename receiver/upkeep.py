"""What time does to the record: deliveries nobody claimed, needless polls, bodies kept long enough."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from receiver.clock import Clock, Leaps
from receiver.ports import Store

log = structlog.get_logger()

FORGET_AT_ONCE = 500  # deliveries that are followed to the polls they made needless, in one transaction
MOST_NAMED = 20  # reservations in one line of the log
PURGE_AT_ONCE = 50  # rows of a kind in one transaction: callbacks wait behind it for milliseconds only
TIME_TO_MEND = timedelta(days=1)  # after a leap of the clock nothing is dropped: it may be set right again
BREATH_SECONDS = 0.05  # between two, in which the callbacks go first


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
    ) -> None:
        self._store = store
        self._clock = clock
        self._leaps = Leaps(clock)
        self._early_ttl = timedelta(seconds=early_ttl_seconds)
        self._retention = timedelta(days=retention_days)
        self._lost_after = timedelta(seconds=lost_after_seconds)
        self._warned_to = datetime.min.replace(tzinfo=UTC)  # of reservations logged before

    async def run(self) -> None:
        """Expire, forget and purge whatever is due now."""
        now = self._clock.now()
        await self._warn_of_unbound(now - self._lost_after)
        expired = await self._expire(now) if self._leaps.lived(self._early_ttl) else 0
        # Less than a full step was all there was; what came since is for the next round.
        while await self._store.forget_polls(now, FORGET_AT_ONCE) >= FORGET_AT_ONCE:  # noqa: ASYNC110 - it works, it does not wait
            await asyncio.sleep(BREATH_SECONDS)
        purged = await self._purge(now) if self._leaps.lived(TIME_TO_MEND) else 0
        if expired or purged:
            log.info("upkeep.done", expired_early=expired, purged=purged)

    async def _warn_of_unbound(self, logged_before: datetime) -> None:
        """Once for each reservation that no task was bound to in the time after which a task is lost.

        Its order failed, or a paid image waits at its provider that nobody here knows the task of.
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

    async def _expire(self, now: datetime) -> int:
        expired = 0
        while step := await self._store.expire_early(now - self._early_ttl, PURGE_AT_ONCE):
            expired += step
            await asyncio.sleep(BREATH_SECONDS)
        return expired

    async def _purge(self, now: datetime) -> int:
        purged = 0
        while dropped := await self._store.purge(now - self._retention, PURGE_AT_ONCE):
            purged += dropped
            await asyncio.sleep(BREATH_SECONDS)
        return purged
