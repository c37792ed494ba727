"""The counters of the metrics become series: every ten seconds, what they grew by goes to the record.

Nothing is done for a callback: counters that are kept anyway are compared. A crash, or a stop in which
something hangs, loses the last ten seconds of a plot, and no row of the record.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

import msgspec

from receiver import __version__
from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.models import (
    HOUR,
    MINUTE,
    NO_SCHEME,
    NOT_SET,
    Mark,
    MarkKind,
    Measure,
    OutboxState,
    Refusal,
    RefusalReason,
    Sample,
    SeriesName,
    Stats,
    series_name,
)
from receiver.ports import TimeSeriesStore

WRITE_SECONDS = 10.0
KEPT_MINUTES = timedelta(hours=48)
KEPT_HOURS = timedelta(days=400)
KEPT_MARKS = KEPT_HOURS
KEPT_REFUSALS = timedelta(days=90)
MOST_MARKS = 100
MOST_WAITING = 5_000  # rows, while the record is away: an hour of a busy service
SERIES_AT_ONCE = 8  # summed up in one transaction: some 500 rows as a rule, 23,000 after a long stop
UNKNOWN = "unknown"
SINK, PROVIDER = "sink", "provider"
_CIRCUITS = {
    (SINK, True): MarkKind.SINK_DOWN,
    (SINK, False): MarkKind.SINK_BACK,
    (PROVIDER, True): MarkKind.PROVIDER_DOWN,
    (PROVIDER, False): MarkKind.PROVIDER_BACK,
}

Values = Mapping[SeriesName, float]
Gauges = Callable[[], Awaitable[Values]]
Downs = Mapping[tuple[str, str], bool]  # of SINK or PROVIDER, and its name
_Kind = tuple[datetime, str, int, RefusalReason, str]  # of a refusal: its key in the record


class TimeSeries:
    """Counts what was turned away, and writes that and what counters grew by; one for each process.

    ``totals`` are the counters as they are now. ``gauges`` are asked for once a minute, where there are any,
    and may raise Unavailable. ``is_down`` says of each sink and provider whether nothing goes there now.
    """

    def __init__(
        self,
        store: TimeSeriesStore,
        clock: Clock,
        totals: Callable[[], Values],
        gauges: Gauges | None = None,
        is_down: Callable[[], Downs] = dict,
    ) -> None:
        self._store = store
        self._clock = clock
        self._totals = totals
        self._gauges = gauges
        self._seen = dict(totals())
        self._gauged: int | None = None  # the minute in which gauges were looked at last
        self._samples: dict[tuple[SeriesName, int], float] = {}
        self._refusals: dict[_Kind, Refusal] = {}
        self._is_down = is_down
        self._downs: Downs = {}
        self._marks = [Mark(at=clock.now(), kind=MarkKind.VERSION, what=__version__)]
        self._writing = asyncio.Lock()

    def refuse(
        self, provider: str | None, status: int, reason: RefusalReason, scheme: str = NO_SCHEME
    ) -> None:
        """A callback was turned away. All of these are known words: nothing of a stranger's is kept."""
        now = self._clock.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        kind = (hour, provider or UNKNOWN, status, reason, scheme)
        if (before := self._refusals.get(kind)) is None:
            self._refusals[kind] = Refusal(
                hour=hour,
                provider=provider or UNKNOWN,
                status=status,
                reason=reason,
                scheme=scheme,
                count=1,
                first_at=now,
                last_at=now,
            )
        else:
            self._refusals[kind] = msgspec.structs.replace(before, count=before.count + 1, last_at=now)

    async def write(self) -> None:
        """Write what has happened since the last time. Raises Unavailable: it is written the next time."""
        async with self._writing:
            minute = int(self._clock.now().timestamp()) // MINUTE * MINUTE
            await self._look(minute)
            self._look_at_circuits()
            samples, self._samples = self._samples, {}
            refusals, self._refusals = self._refusals, {}
            marks, self._marks = self._marks, []
            if not samples and not refusals and not marks:
                return
            rows = [Sample(series, start, value) for (series, start), value in samples.items()]
            try:
                # Cancelled, it is written all the same: so it must not be counted a second time.
                await self._store.add_time_series(rows, list(refusals.values()), marks)
            except Unavailable:
                self._put_back(samples, refusals)
                self._marks = marks[-MOST_MARKS:]
                raise

    async def _look(self, minute: int) -> None:
        totals = self._totals()
        for series, total in totals.items():
            if grown := total - self._seen.get(series, 0.0):
                self._samples[series, minute] = self._samples.get((series, minute), 0.0) + grown
        self._seen = dict(totals)
        if self._gauges is not None and self._gauged != minute:
            try:
                found = await self._gauges()
            except Unavailable:
                return
            self._gauged = minute
            self._samples |= {(series, minute): value for series, value in found.items()}

    def _look_at_circuits(self) -> None:
        downs, now = self._is_down(), self._clock.now()
        for (what, name), is_down in downs.items():
            if is_down != self._downs.get((what, name), False):
                self._marks.append(Mark(at=now, kind=_CIRCUITS[what, is_down], what=name))
        self._downs = dict(downs)

    def _put_back(self, samples: dict[tuple[SeriesName, int], float], refusals: dict[_Kind, Refusal]) -> None:
        if len(samples) <= MOST_WAITING:  # else a gap in the plots is better than no memory
            self._samples = samples
        for kind, refusal in refusals.items():
            since = self._refusals.get(kind)
            self._refusals[kind] = refusal if since is None else _joined(refusal, since)
        while len(self._refusals) > MOST_WAITING:
            del self._refusals[next(iter(self._refusals))]


class SeriesUpkeep:
    """Makes hours of old minutes and drops what is older than it is kept, once in an hour."""

    def __init__(self, store: TimeSeriesStore) -> None:
        self._store = store
        self._done: datetime | None = None

    async def run(self, now: datetime) -> None:
        """Do all that is due, some series at a time, with a pause for callbacks between two."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        if self._done == hour:
            return
        minutes_before = int((hour - KEPT_MINUTES).timestamp())
        hours_before = int((hour - KEPT_HOURS).timestamp()) // HOUR * HOUR
        after = 0
        while aged := await self._store.list_aged_series(after, minutes_before, hours_before, SERIES_AT_ONCE):
            await self._store.sum_up_series(aged, minutes_before, hours_before)
            after = aged[-1]
            await asyncio.sleep(0.01)
        await self._store.forget_refusals(hour - KEPT_REFUSALS)
        await self._store.forget_marks(hour - KEPT_MARKS)
        self._done = hour


def _joined(one: Refusal, other: Refusal) -> Refusal:
    return msgspec.structs.replace(other, count=one.count + other.count, first_at=one.first_at)


def gauges_of(stats: Stats, now: datetime, disk_free_bytes: int | None) -> Values:
    """What waits and what is left, as it is now; what is not known is left out."""
    waiting = {sink: states.get(OutboxState.PENDING, 0) for sink, states in stats.outbox.items()}
    dead = {sink: states.get(OutboxState.DEAD, 0) for sink, states in stats.outbox.items()}
    unset = sum(states.get(NOT_SET, 0) for states in stats.outbox.values())
    unended = {provider: sum(counts.values()) for provider, counts in stats.polls.items()}
    found: dict[SeriesName, float | None] = {
        series_name(Measure.WAITING_FILES): stats.assets.get("pending", 0),
        series_name(Measure.WAITING_EVENTS): sum(waiting.values()) + unset,
        series_name(Measure.OLDEST_FILE_SECONDS): _age(stats.oldest_undownloaded_at, now),
        series_name(Measure.OLDEST_EVENT_SECONDS): _age(stats.oldest_undelivered_at, now),
        series_name(Measure.UNENDED_TASKS): stats.tasks.get("submitted", 0),
        series_name(Measure.EARLY_CALLBACKS): stats.deliveries.get("early", 0),
        series_name(Measure.UNBOUND_RESERVATIONS): sum(stats.unbound.values()),
        series_name(Measure.DEAD_LETTERS): sum(dead.values()),
        series_name(Measure.NEXT_DEADLINE_SECONDS): (
            max(0.0, (stats.next_deadline_at - now).total_seconds()) if stats.next_deadline_at else None
        ),
        series_name(Measure.DISK_FREE_BYTES): disk_free_bytes,
        series_name(Measure.WAL_BYTES): stats.wal_bytes,
    }
    for measure, label, counts in (
        (Measure.WAITING_EVENTS, "sink", waiting),
        (Measure.DEAD_LETTERS, "sink", dead),
        (Measure.UNENDED_TASKS, "provider", unended),
    ):
        found |= {series_name(measure, **{label: name}): count for name, count in counts.items()}
    return {series: value for series, value in found.items() if value is not None}


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
