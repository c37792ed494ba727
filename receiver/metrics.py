"""Metrics for Prometheus: counters of what happened, and gauges of what waits, read from the store."""

import asyncio
import math
import platform
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate, product
from typing import Generic, TypeVar

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from receiver import __version__
from receiver.health.lines import Line
from receiver.health.watch import CallbackCounts
from receiver.models import (
    NOT_SET,
    BrokenRule,
    BudgetPeriod,
    BudgetScope,
    CostState,
    Measure,
    OrderState,
    OutboxState,
    RuleClass,
    SeriesName,
    Stats,
    TaskState,
    Verdict,
    series_name,
)
from receiver.usd import MICROS

T = TypeVar("T")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# A count stands for so long: at least, at most, and by the time that counting took, the shorter of the last
# two, for one may have met a stall. It looks at the whole record, and so a record that grows for years is
# still looked at only a twentieth of the time.
RECENT_SECONDS = 5.0
LONGEST_RECENT_SECONDS = 600.0
RECENT_TO_COUNTING = 20
GLANCED_TO_COUNTING = 100  # for those who only look, again and again
NEVER = "never"  # asked about, so without an outcome
NONE: Mapping[str, bool] = {}
UNKNOWN = "unknown"  # a label's value where a stranger could make up the real one

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter, with its time of birth, that nobody asks for

ANSWER_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SENT_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def bound_name(bound: float) -> str:
    """A bucket's upper bound as the label ``le`` has it."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


class Metrics:
    """The numbers of one runtime.

    Labels take known values only, so the series have an end: providers by name, words from ``models``.
    """

    def __init__(self, providers: Collection[str] = (), sinks: Collection[str] = ()) -> None:
        registry = self._registry = CollectorRegistry()
        self._providers = frozenset(providers)
        self._callbacks = _Callbacks((*self._providers, UNKNOWN))
        registry.register(self._callbacks)
        self._rejected = Counter(
            "receiver_callbacks_rejected", "Callbacks refused, by HTTP status.", ["status"], registry=registry
        )
        self._unsigned = Counter(
            "receiver_callbacks_unsigned",
            "Callbacks refused as they are not signed right, by provider and by a token in the URL.",
            ["provider", "by_token"],
            registry=registry,
        )
        self._assets = Counter(
            "receiver_assets", "Attempts at files.", ["provider", "outcome"], registry=registry
        )
        self._asset_bytes = Counter("receiver_asset_bytes", "Bytes of files stored.", registry=registry)
        self._notifications = Counter(
            "receiver_notifications", "Attempts at sinks.", ["sink", "outcome"], registry=registry
        )
        self._stored_seconds = Histogram(
            "receiver_stored_seconds",
            "From a callback until a file of its task was stored, replays left out.",
            buckets=SENT_BOUNDS,
            registry=registry,
        )
        self._sent_seconds = Histogram(
            "receiver_sent_seconds",
            "From a callback until a sink had its event, replays left out.",
            ["sink"],
            buckets=SENT_BOUNDS,
            registry=registry,
        )
        self._polls = Counter(
            "receiver_polls", "Questions to providers.", ["provider", "outcome"], registry=registry
        )
        self._orders = Counter(
            "receiver_orders",
            "Orders through the gateway, by what sending them came to.",
            ["provider", "state"],
            registry=registry,
        )
        self._broken_rules = Counter(
            "receiver_gateway_broken_rules",
            "Rules of their providers that orders break.",
            ["provider", "model", "rule"],
            registry=registry,
        )
        self._rule_verdicts = Counter(
            "receiver_gateway_rule_verdicts",
            "What providers said to orders that break a rule: whether it was as the rule has it.",
            ["rule", "agreed"],
            registry=registry,
        )
        self._unknown_models = Counter(
            "receiver_gateway_unknown_models",
            "Orders of models that no catalog knows: neither checked nor priced.",
            ["provider"],
            registry=registry,
        )
        self._budget_refusals = Counter(
            "receiver_budget_refusals",
            "Orders that a hard budget had no room for.",
            ["scope", "period"],
            registry=registry,
        )
        self._budget_warnings = Counter(
            "receiver_budget_warnings",
            "Orders that went beyond a soft budget.",
            ["scope", "period"],
            registry=registry,
        )
        self._restarts = Counter(
            "receiver_loop_restarts", "Loops started again after a crash.", ["loop"], registry=registry
        )
        self._commit_seconds = Histogram(
            "receiver_commit_seconds", "Time of a group commit.", buckets=ANSWER_BOUNDS, registry=registry
        )
        self._commit_rows = Histogram(
            "receiver_commit_rows", "Writes that shared a commit.", buckets=_ROWS, registry=registry
        )
        self._waiting = _Waiting(providers, sinks)
        registry.register(self._waiting)

    def callback(self, provider: str, verdict: Verdict, seconds: float) -> None:
        """A callback was recorded and answered."""
        self._callbacks.count(self._provider(provider), verdict, seconds)

    def rejected(self, status: int) -> None:
        """A callback was refused with this status. After a 409 it is recorded all the same, as refused."""
        self._rejected.labels(status).inc()

    def unsigned(self, provider: str, *, by_token: bool) -> None:
        """A callback was refused as it is not signed right, though its URL may have had a right token."""
        self._unsigned.labels(self._provider(provider), str(by_token).lower()).inc()

    def asset(self, provider: str, outcome: str, stored_bytes: int = 0) -> None:
        """An attempt at a file ended."""
        self._assets.labels(self._provider(provider), outcome).inc()
        self._asset_bytes.inc(stored_bytes)

    def notifications(self, sink: str, outcome: str, count: int) -> None:
        """Attempts at a sink ended."""
        self._notifications.labels(sink, outcome).inc(count)

    def stored(self, seconds: float) -> None:
        """A file was stored for the first time, so long after the callback of its task came."""
        self._stored_seconds.observe(max(0.0, seconds))

    def sent(self, sink: str, seconds: Iterable[float]) -> None:
        """A sink has events for the first time, so long after their callbacks came."""
        series = self._sent_seconds.labels(sink)
        for each in seconds:
            series.observe(max(0.0, each))

    def poll(self, provider: str, outcome: str) -> None:
        """A question to a provider ended."""
        self._polls.labels(self._provider(provider), outcome).inc()

    def order(self, provider: str, state: OrderState, broken: Sequence[BrokenRule]) -> None:
        """An order was sent through the gateway, or could not be, though it breaks these rules."""
        self._orders.labels(self._provider(provider), state.value).inc()
        if state not in {OrderState.BOUND, OrderState.REFUSED}:
            return  # the provider said nothing of it
        for rule in broken:
            is_as_said = (state is OrderState.REFUSED) is not (rule.rule_class is RuleClass.SOFT)
            self._rule_verdicts.labels(rule.name, str(is_as_said).lower()).inc()

    def quoted(self, provider: str, model: str, broken: Sequence[BrokenRule]) -> None:
        """An order of a model that a catalog knows was looked at: it breaks these rules."""
        for rule in broken:
            self._broken_rules.labels(provider, model, rule.name).inc()

    def unknown_model(self, provider: str) -> None:
        """An order named a model that no catalog knows."""
        self._unknown_models.labels(provider).inc()

    def over_budget(self, scope: BudgetScope, period: BudgetPeriod) -> None:
        """A hard budget had no room for an order."""
        self._budget_refusals.labels(scope.value, period.value).inc()

    def over_soft_budget(self, scope: BudgetScope, period: BudgetPeriod) -> None:
        """An order went beyond a soft budget."""
        self._budget_warnings.labels(scope.value, period.value).inc()

    def commit(self, rows: int, seconds: float) -> None:
        """A group of writes was committed. May be called from any thread."""
        self._commit_rows.observe(rows)
        self._commit_seconds.observe(seconds)

    def loop_restarted(self, name: str) -> None:
        """A loop crashed and was started again."""
        self._restarts.labels(name).inc()

    def callback_counts(self) -> CallbackCounts:
        """Callbacks so far, as far as health is judged by them."""
        rejected = {
            sample.labels["status"]: sample.value
            for metric in self._rejected.collect()
            for sample in metric.samples
        }
        return CallbackCounts(
            by_provider=self._callbacks.by_provider(),
            unauthorised=int(rejected.get("401", 0)),
            refused=int(rejected.get("409", 0)),
        )

    def totals(self) -> dict[SeriesName, float]:
        """The counters that are kept as series: by their labels, and all of a provider or a sink together."""
        totals: dict[SeriesName, float] = dict(self._callbacks.totals())
        for measure, counter in (
            (Measure.TURNED_AWAY, self._rejected),
            (Measure.FILES, self._assets),
            (Measure.FILE_BYTES, self._asset_bytes),
            (Measure.NOTIFICATIONS, self._notifications),
            (Measure.QUESTIONS, self._polls),
        ):
            for labels, value in _values_of(counter):
                _add_up(totals, measure, labels, value)
        for measure, histogram in (
            (Measure.STORED_SECONDS, self._stored_seconds),
            (Measure.SENT_SECONDS, self._sent_seconds),
        ):
            for labels, value in _buckets_of(histogram):
                _add_up(totals, measure, labels, value)
        return totals

    def render(
        self,
        stats: Stats | None,
        counted_at: datetime,
        troubled: Mapping[str, bool] = NONE,
        sinks_down: Mapping[str, bool] = NONE,
        lines: Sequence[Line] = (),
    ) -> bytes:
        """All metrics in Prometheus' text format; without ``stats``, without the gauges of what waits.

        Ages are as of ``counted_at``: what was the oldest then may be gone by now, and must not seem to age.
        ``troubled`` says of each provider that we have a key for whether something keeps us from asking it:
        its host, our key, our credit; ``sinks_down`` of each sink whether it is down or wants no more.
        ``lines`` are those of health.
        """
        self._waiting.show(stats, counted_at, troubled, sinks_down, lines)
        return generate_latest(self._registry)

    def _provider(self, name: str) -> str:
        return name if name in self._providers else UNKNOWN


def _values_of(counter: Counter) -> Iterator[tuple[dict[str, str], float]]:
    for metric in counter.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                yield sample.labels, sample.value


def _buckets_of(histogram: Histogram) -> Iterator[tuple[dict[str, str], float]]:
    """How many there are of each bucket alone: the library tells how many there are up to its bound."""
    for metric in histogram.collect():
        below = 0.0
        for sample in metric.samples:
            if sample.name.endswith("_bucket"):
                yield sample.labels, sample.value - below
                below = 0.0 if sample.labels["le"] == bound_name(math.inf) else sample.value


def _add_up(
    totals: dict[SeriesName, float], measure: Measure, labels: Mapping[str, str], value: float
) -> None:
    """Add a counter to its own series, and to that of all providers, or of all sinks, together."""
    totals[series_name(measure, **labels)] = value
    of_all = {name: word for name, word in labels.items() if name not in {"provider", "sink"}}
    if len(of_all) < len(labels):
        all_together = series_name(measure, **of_all)
        totals[all_together] = totals.get(all_together, 0.0) + value


class _Callbacks(Collector):
    """Callbacks by verdict, and their time: plain numbers, for every callback waits until it is counted.

    The library's own counters are made for many threads; these are the event loop's alone.
    """

    def __init__(self, providers: Collection[str]) -> None:
        self._verdicts = dict.fromkeys(product(providers, Verdict), 0)
        self._seconds_sum = 0.0
        self._in_bucket = [0] * (len(ANSWER_BOUNDS) + 1)

    def count(self, provider: str, verdict: Verdict, seconds: float) -> None:
        self._verdicts[provider, verdict] += 1
        self._seconds_sum += seconds
        self._in_bucket[bisect_left(ANSWER_BOUNDS, seconds)] += 1

    def by_provider(self) -> dict[str, int]:
        """All that were recorded, whatever became of them."""
        counts: dict[str, int] = {}
        for (provider, _), number in self._verdicts.items():
            counts[provider] = counts.get(provider, 0) + number
        return counts

    def totals(self) -> Iterator[tuple[SeriesName, float]]:
        """All by provider and verdict, by verdict, and by the bound of their time."""
        of_all: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        for (provider, verdict), number in self._verdicts.items():
            of_all[verdict] += number
            yield series_name(Measure.CALLBACKS, provider=provider, verdict=verdict.value), number
        for verdict, number in of_all.items():
            yield series_name(Measure.CALLBACKS, verdict=verdict.value), number
        bounds = map(bound_name, (*ANSWER_BOUNDS, math.inf))
        for bound, number in zip(bounds, self._in_bucket, strict=True):
            yield series_name(Measure.ANSWER_SECONDS, le=bound), number

    def collect(self) -> Iterator[Metric]:
        verdicts = CounterMetricFamily(
            "receiver_callbacks", "Callbacks recorded.", labels=["provider", "verdict"]
        )
        for labels, number in self._verdicts.items():
            verdicts.add_metric(labels, number)
        yield verdicts
        bounds = map(bound_name, (*ANSWER_BOUNDS, math.inf))
        yield HistogramMetricFamily(
            "receiver_callback_seconds",
            "From request to answer.",
            buckets=list(zip(bounds, accumulate(self._in_bucket), strict=True)),
            sum_value=self._seconds_sum,
        )


class _Waiting(Collector):
    """Gauges, made anew at every scrape; those of the store are as old as its last count."""

    def __init__(self, providers: Collection[str], sinks: Collection[str]) -> None:
        self._providers = providers
        self._sinks = sinks
        self._held: tuple[Stats, datetime] | None = None
        self._troubled, self._sinks_down = NONE, NONE
        self._lines: Sequence[Line] = ()

    def show(
        self,
        stats: Stats | None,
        counted_at: datetime,
        troubled: Mapping[str, bool],
        sinks_down: Mapping[str, bool],
        lines: Sequence[Line],
    ) -> None:
        self._held = None if stats is None else (stats, counted_at)
        self._troubled, self._sinks_down = troubled, sinks_down
        self._lines = lines

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("receiver_build_info", "Always 1.", labels=["version", "python"])
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        trouble = GaugeMetricFamily(
            "receiver_provider_trouble", "1 while a provider cannot be asked.", labels=["provider"]
        )
        for provider, is_troubled in self._troubled.items():
            trouble.add_metric([provider], is_troubled)
        yield trouble
        down = GaugeMetricFamily("receiver_sink_trouble", "1 while a sink takes nothing.", labels=["sink"])
        for sink, is_down in self._sinks_down.items():
            down.add_metric([sink], is_down)
        yield down
        health = GaugeMetricFamily(
            "receiver_health_line", "1 for each thing that is wrong now.", labels=["key", "severity"]
        )
        for line in self._lines:
            health.add_metric([line.key, line.severity], 1)
        yield health
        if self._held is not None:
            stats, counted_at = self._held
            yield from _counts(stats, self._sinks)
            unended = GaugeMetricFamily(
                "receiver_tasks_unended",
                "Tasks without an end, by how the last question about each ended.",
                labels=["provider", "last_outcome"],
            )
            for provider in sorted({*self._providers, *stats.polls}):
                for outcome, count in ({NEVER: 0} | dict(stats.polls.get(provider, {}))).items():
                    unended.add_metric([provider, outcome], count)
            yield unended
            yield from _ages(stats, counted_at)
            if stats.wal_bytes is not None:
                yield GaugeMetricFamily(
                    "receiver_wal_bytes", "The record's write-ahead log.", stats.wal_bytes
                )


def _counts(stats: Stats, sinks: Collection[str]) -> Iterator[Metric]:
    tasks = GaugeMetricFamily("receiver_tasks", "Tasks.", labels=["state"])
    for state in TaskState:
        tasks.add_metric([state], stats.tasks.get(state, 0))
    yield tasks
    outbox = GaugeMetricFamily("receiver_outbox", "Events by sink.", labels=["sink", "state"])
    for sink, entry in product(sorted({*sinks, *stats.outbox}), OutboxState):
        outbox.add_metric([sink, entry], stats.outbox.get(sink, {}).get(entry, 0))
    for sink, states in stats.outbox.items():
        if NOT_SET in states:
            outbox.add_metric([sink, NOT_SET], states[NOT_SET])
    yield outbox
    unbound = GaugeMetricFamily(
        "receiver_unbound_submissions", "Reservations that wait for a task.", labels=["age"]
    )
    for age, count in stats.unbound.items():
        unbound.add_metric([age], count)
    yield unbound
    unknown = GaugeMetricFamily(
        "receiver_unknown_orders", "Orders through the gateway without an answer.", labels=["age"]
    )
    for age in stats.unbound:
        unknown.add_metric([age], stats.unknown_orders.get(age, 0))
    yield unknown
    costs = CounterMetricFamily(
        "receiver_cost_usd",
        "What orders cost, by where their money stands; what is held goes down as they end.",
        labels=["provider", "model", "state"],
    )
    for each in stats.costs:
        for cost_state in CostState:
            micros: int = getattr(each, cost_state.value)
            costs.add_metric([each.provider or "", each.model or "", cost_state], micros / MICROS)
    yield costs
    early = stats.deliveries.get(Verdict.EARLY, 0)
    yield GaugeMetricFamily("receiver_early_deliveries", "Deliveries without a submission yet.", early)
    held = stats.deliveries.get(Verdict.UNCONFIRMED, 0)
    yield GaugeMetricFamily("receiver_unconfirmed_deliveries", "Deliveries not confirmed yet.", held)


def _ages(stats: Stats, counted_at: datetime) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "receiver_oldest_undelivered_seconds",
        "Age of the oldest event that a sink that is set still lacks; 0 when there is none.",
        _age(stats.oldest_undelivered_at, counted_at),
    )
    yield GaugeMetricFamily(
        "receiver_oldest_undownloaded_seconds",
        "Age of the oldest file still to be fetched; 0 when there is none.",
        _age(stats.oldest_undownloaded_at, counted_at),
    )
    yield GaugeMetricFamily(
        "receiver_next_deadline_seconds",
        "Until the first link of a file still to be fetched dies; +Inf when there is none.",
        math.inf if stats.next_deadline_at is None else (stats.next_deadline_at - counted_at).total_seconds(),
    )


def _age(start: datetime | None, counted_at: datetime) -> float:
    # A count takes a while, and what came in the meantime is in it.
    return 0.0 if start is None else max(0.0, (counted_at - start).total_seconds())


class RecentCount(Generic[T]):
    """Keeps what the store counts for a while: one count serves all who ask in that time, however many."""

    def __init__(self, count: Callable[[], Awaitable[T]], seconds: Callable[[], float]) -> None:
        self._count = count
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._begun = self._ended = -math.inf
        self._took = math.inf  # the last count
        self._usually_takes = math.inf  # the shorter of the last two
        self._counted: T | None = None

    async def get(self, *, anew: bool = False, glance: bool = False) -> T:
        """Raises Unavailable when the store cannot count now.

        ``anew``: only what is counted from now on will do, unless counting costs too much for that.
        ``glance``: an older count will do, where counting costs much.
        """
        asked = self._seconds()
        async with self._lock:
            stands = (GLANCED_TO_COUNTING if glance else RECENT_TO_COUNTING) * self._usually_takes
            if anew and stands <= RECENT_SECONDS:
                is_old = self._begun < asked
            else:
                lasts = min(max(stands, RECENT_SECONDS), LONGEST_RECENT_SECONDS)
                is_old = self._seconds() >= self._ended + lasts
            if self._counted is None or is_old:
                begun = self._seconds()
                self._counted = await self._count()
                self._begun, self._ended = begun, self._seconds()
                took = self._ended - begun
                self._took, self._usually_takes = took, min(self._took, took)
            return self._counted

    def counted_at(self, now: datetime) -> datetime:
        """When the last count began, by the clock that shows ``now``; ``now`` before the first."""
        return now if self._counted is None else now - timedelta(seconds=self._seconds() - self._begun)
