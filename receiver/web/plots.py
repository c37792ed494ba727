"""What happened over time as columns: which plots there are, and what each shows of which series.

The same for the admin pages, which draw it, and for the API, which hands it out.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from urllib.parse import urlencode

import msgspec

from receiver.metrics import ANSWER_BOUNDS, SENT_BOUNDS, bound_name
from receiver.models import (
    GOOD_OUTCOMES,
    Act,
    AuditFilter,
    Bucket,
    Mark,
    MarkKind,
    Measure,
    SeriesRead,
    SeriesWanted,
    Verdict,
)
from receiver.runtime import Runtime
from receiver.settings_audit import FIRST

BOUNDS = {
    Measure.ANSWER_SECONDS: ANSWER_BOUNDS,
    Measure.STORED_SECONDS: SENT_BOUNDS,
    Measure.SENT_SECONDS: SENT_BOUNDS,
}
WEEK = 7 * 86_400
P95, P99 = 0.95, 0.99

GOOD_VERDICTS = frozenset(
    word.value for word in (Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.PROGRESS, Verdict.UNCONFIRMED)
)


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """How far back a plot goes, and how much each of its columns stands for."""

    seconds: int
    step: int


SPANS = {
    "1h": Span(seconds=3_600, step=60),
    "6h": Span(seconds=6 * 3_600, step=300),
    "24h": Span(seconds=86_400, step=900),
    "7d": Span(seconds=WEEK, step=7_200),
    "90d": Span(seconds=90 * 86_400, step=86_400),
}
MOST_MARKS = 100
USUAL_SPAN = "24h"


class Unit(StrEnum):
    """In what a plot counts."""

    NUMBER = "number"
    SECONDS = "seconds"
    BYTES = "bytes"


class PlotKind(msgspec.Struct, frozen=True, kw_only=True):
    """One plot: of which measure, told apart by which label, and where the rows behind a column are.

    ``good`` are the values of that label that are as they should be; without it none is told apart. By the
    label ``le`` a plot shows a quantile of a distribution.
    """

    name: str
    title: str
    measure: Measure
    unit: Unit = Unit.NUMBER
    by: str | None = None
    good: frozenset[str] | None = None
    rest: str = ""  # what those are that are not
    quantile: float = 0.0
    narrows: frozenset[str] = frozenset()  # of what it can be shown by itself: a provider, a sink
    place: str = "/admin/tasks"
    has_times: bool = False  # whether the page at ``place`` takes since and until

    @property
    def is_counter(self) -> bool:
        return self.measure.is_counter


KINDS = {
    kind.name: kind
    for kind in (
        PlotKind(
            name="callbacks",
            title="Callbacks",
            measure=Measure.CALLBACKS,
            by="verdict",
            good=GOOD_VERDICTS,
            rest="did not count",
            narrows=frozenset({"provider"}),
            has_times=True,
        ),
        PlotKind(
            name="turned_away",
            title="Turned away",
            measure=Measure.TURNED_AWAY,
            by="status",
            place="/admin/deliveries?verdict=turned-away",
            has_times=True,
        ),
        PlotKind(
            name="answer_seconds",
            title="Answer to a callback, 99 in 100 within",
            measure=Measure.ANSWER_SECONDS,
            unit=Unit.SECONDS,
            by="le",
            quantile=P99,
            has_times=True,
        ),
        PlotKind(
            name="stored_seconds",
            title="Callback to stored file, 95 in 100 within",
            measure=Measure.STORED_SECONDS,
            unit=Unit.SECONDS,
            by="le",
            quantile=P95,
            has_times=True,
        ),
        PlotKind(
            name="sent_seconds",
            title="Callback to sink, 95 in 100 within",
            measure=Measure.SENT_SECONDS,
            unit=Unit.SECONDS,
            by="le",
            quantile=P95,
            narrows=frozenset({"sink"}),
            has_times=True,
        ),
        PlotKind(
            name="files",
            title="Attempts at files",
            measure=Measure.FILES,
            by="outcome",
            good=GOOD_OUTCOMES,
            rest="failed",
            narrows=frozenset({"provider"}),
            has_times=True,
        ),
        PlotKind(
            name="file_bytes",
            title="Bytes stored",
            measure=Measure.FILE_BYTES,
            unit=Unit.BYTES,
            has_times=True,
        ),
        PlotKind(
            name="notifications",
            title="Notifications",
            measure=Measure.NOTIFICATIONS,
            by="outcome",
            good=GOOD_OUTCOMES,
            rest="failed",
            narrows=frozenset({"sink"}),
            has_times=True,
        ),
        PlotKind(
            name="questions",
            title="Questions to providers",
            measure=Measure.QUESTIONS,
            by="outcome",
            good=GOOD_OUTCOMES,
            rest="failed",
            narrows=frozenset({"provider"}),
            has_times=True,
        ),
        PlotKind(
            name="waiting_events",
            title="Events that wait for a sink",
            measure=Measure.WAITING_EVENTS,
            narrows=frozenset({"sink"}),
            place="/admin/sinks",
        ),
        PlotKind(
            name="waiting_files",
            title="Files that wait",
            measure=Measure.WAITING_FILES,
            place="/admin/assets",
        ),
        PlotKind(
            name="oldest_event_seconds",
            title="Age of the oldest event that waits",
            measure=Measure.OLDEST_EVENT_SECONDS,
            unit=Unit.SECONDS,
            place="/admin/sinks",
        ),
        PlotKind(
            name="oldest_file_seconds",
            title="Age of the oldest file that waits",
            measure=Measure.OLDEST_FILE_SECONDS,
            unit=Unit.SECONDS,
            place="/admin/assets",
        ),
        PlotKind(
            name="next_deadline_seconds",
            title="Until the next link dies",
            measure=Measure.NEXT_DEADLINE_SECONDS,
            unit=Unit.SECONDS,
            place="/admin/assets",
        ),
        PlotKind(
            name="unended_tasks",
            title="Tasks without an end",
            measure=Measure.UNENDED_TASKS,
            narrows=frozenset({"provider"}),
            place="/admin/tasks?state=submitted",
        ),
        PlotKind(
            name="early_callbacks",
            title="Early callbacks",
            measure=Measure.EARLY_CALLBACKS,
            place="/admin/deliveries?verdict=early",
        ),
        PlotKind(
            name="unbound_reservations",
            title="Reservations without a task",
            measure=Measure.UNBOUND_RESERVATIONS,
            place="/admin/submissions",
        ),
        PlotKind(
            name="dead_letters",
            title="Dead letters",
            measure=Measure.DEAD_LETTERS,
            narrows=frozenset({"sink"}),
            place="/admin/dead-letters",
        ),
        PlotKind(
            name="disk_free_bytes",
            title="Free on the disk",
            measure=Measure.DISK_FREE_BYTES,
            unit=Unit.BYTES,
            place="/admin/",
        ),
        PlotKind(
            name="wal_bytes",
            title="Write-ahead log",
            measure=Measure.WAL_BYTES,
            unit=Unit.BYTES,
            place="/admin/",
        ),
    )
}


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """What a plot shows of one stretch of time; None where nothing is known of it."""

    start: int
    value: float | None
    rest: float  # of it: what is not as it should be
    week_ago: float | None


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A plot with all that is drawn of it. ``of`` is the provider or the sink that it is about, if any."""

    kind: PlotKind
    of: Mapping[str, str]
    span: str
    since: int
    step: int
    columns: tuple[Column, ...]

    @property
    def until(self) -> int:
        return self.since + self.step * len(self.columns)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any of it, nor of the week before."""
        return all(each.value is None and each.week_ago is None for each in self.columns)

    def places(self) -> list[str]:
        """Where the rows are that each column counts, in their order."""
        path, asked = self._where()
        head = f"{path}?{urlencode(asked)}" if asked else path
        if not self.kind.has_times:
            return [head] * len(self.columns)
        edges = (moment(self.since + self.step * place) for place in range(len(self.columns) + 1))
        head += "&" if asked else "?"
        quoted = (edge.replace(":", "%3A") for edge in edges)
        return [f"{head}since={begin}&until={end}" for begin, end in pairwise(quoted)]

    def _where(self) -> tuple[str, dict[str, str]]:
        path, _, query = self.kind.place.partition("?")
        asked = {**dict(pair.split("=", 1) for pair in query.split("&") if pair), **self.of}
        if path == "/admin/sinks" and "sink" in asked:
            path = "/admin/dead-letters"
        if path == "/admin/tasks":
            asked.pop("sink", None)
        return path, asked


@lru_cache(maxsize=1_000)  # all plots of a page have the same columns
def moment(seconds: int) -> str:
    """A time of Unix as addresses have it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%MZ}"


async def read_plots(runtime: Runtime, names: Sequence[str], span: str = USUAL_SPAN, **of: str) -> list[Plot]:
    """These plots, up to now; ``of`` may name a provider or a sink. Raises Unavailable.

    ``names`` are of KINDS, ``span`` is one of SPANS.
    """
    kinds, wanted = [KINDS[name] for name in names], SPANS[span]
    count = wanted.seconds // wanted.step
    since = (int(runtime.clock.now().timestamp()) // wanted.step + 1 - count) * wanted.step
    series = [SeriesWanted(measure=kind.measure, labels=of, by=kind.by) for kind in kinds]
    pages = runtime.store.pages
    now, before = await asyncio.gather(
        *(
            pages.read_series(series, begin, begin + wanted.seconds, wanted.step)
            for begin in (since, since - WEEK)
        )
    )
    plots = []
    for kind, read, read_before in zip(kinds, now, before, strict=True):
        values, rests = _shown(kind, read, since, wanted)
        week_ago, _ = _shown(kind, read_before, since - WEEK, wanted)
        columns = tuple(
            Column(start=since + place * wanted.step, value=value, rest=rest or 0.0, week_ago=ago)
            for place, (value, rest, ago) in enumerate(zip(values, rests, week_ago, strict=True))
        )
        plots.append(Plot(kind=kind, of=of, span=span, since=since, step=wanted.step, columns=columns))
    return plots


Values = list[float | None]


def _shown(kind: PlotKind, read: Sequence[SeriesRead], since: int, span: Span) -> tuple[Values, Values]:
    """What each column shows, and how much of that is not as it should be."""
    parts = {series.by: _spread(kind, series.buckets, since, span) for series in read}
    nothing: Values = [None] * (span.seconds // span.step)
    if kind.quantile:
        bounds = [*BOUNDS[kind.measure], math.inf]
        counts = [parts.get(bound_name(bound), nothing) for bound in bounds]
        return [
            _quantile(kind.quantile, bounds[:-1], [count[place] or 0.0 for count in counts])
            for place in range(len(nothing))
        ], nothing
    rest = [part for by, part in parts.items() if kind.good is not None and by not in kind.good]
    return _sum(parts.values(), nothing), _sum(rest, nothing)


def _spread(kind: PlotKind, buckets: Iterable[Bucket], since: int, span: Span) -> Values:
    """Buckets as columns: several in one, or, of hours, one in several."""
    columns: Values = [None] * (span.seconds // span.step)
    both = _both(kind)
    for bucket in buckets:
        for start in range(bucket.start, bucket.start + bucket.width, span.step):
            place = (start - since) // span.step
            if 0 <= place < len(columns):
                share = span.step / max(bucket.width, span.step) if kind.is_counter else 1.0
                before, value = columns[place], bucket.value * share
                columns[place] = value if before is None else both(before, value)
    return columns


def _both(kind: PlotKind) -> Callable[[float, float], float]:
    if kind.is_counter:
        return float.__add__
    return min if kind.measure.is_worst_low else max


def _sum(parts: Iterable[Values], nothing: Values) -> Values:
    summed = list(nothing)
    for part in parts:
        for place, value in enumerate(part):
            if value is not None:
                summed[place] = (summed[place] or 0.0) + value
    return summed


def _quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float | None:
    """The value below which this share of a distribution lies, as if each bucket were filled evenly.

    What is above the last bound counts as being there.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    below, low = 0.0, 0.0
    for bound, count in zip(bounds, counts, strict=False):  # the last count is of what has no bound
        if count and below + count >= wanted:
            return low + (bound - low) * (wanted - below) / count
        below, low = below + count, bound
    return low


async def read_marks(runtime: Runtime, since: int, until: int) -> list[Mark]:
    """What happened once in this time, the latest last; of very much the newest. Raises Unavailable."""
    begin, end = (datetime.fromtimestamp(each, UTC) for each in (since, until))
    pages = runtime.store.pages
    marks, settings, replays = await asyncio.gather(
        pages.list_marks(begin, end, MOST_MARKS),
        pages.list_audit(AuditFilter(act=Act.SETTINGS_CHANGED, since=begin, until=end), MOST_MARKS, None),
        pages.list_replays(MOST_MARKS),
    )
    found = [
        *marks,
        *(
            Mark(at=entry.at, kind=MarkKind.SETTINGS, what=entry.result or "")
            for entry in settings.entries
            if entry.result != FIRST
        ),
        *(Mark(at=each.created_at, kind=MarkKind.REPLAY_BEGUN, what=each.id) for each in replays),
        *(
            Mark(at=each.finished_at, kind=MarkKind.REPLAY_ENDED, what=each.id)
            for each in replays
            if each.finished_at
        ),
    ]
    return sorted((mark for mark in found if begin <= mark.at < end), key=lambda mark: mark.at)
