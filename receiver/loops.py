"""All loops, and what each one runs: files, polls, sinks, replays, upkeep."""

import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial

import msgspec

from receiver.clock import Clock
from receiver.config.settings import Settings, SinkSettings
from receiver.fetching.fetcher import AssetFetcher
from receiver.health.alerts import ALERT_SECONDS, Alerter
from receiver.metrics import Metrics
from receiver.models import (
    AssetWork,
    FetchLoad,
    FetchShare,
    OutboxWork,
    Outcome,
    PollWork,
    ReplayWork,
    Settlement,
    SinkOrder,
    poll_lane,
)
from receiver.polling.reconciler import Reconciler
from receiver.polling.status_client import StatusClient
from receiver.ports import SharedRecord, Store
from receiver.relay import Relay
from receiver.replay import Replayer
from receiver.time_series import WRITE_SECONDS, TimeSeries
from receiver.times import from_text
from receiver.tracing import Traces
from receiver.upkeep import Upkeep
from receiver.worker import BREATH_SECONDS, EMPTY_SECONDS, LeaseLoop, PeriodicLoop

# Names of loops, by which they are woken, shown, and had by one process of several (but for files).
FILES, HELD, REPLAY, UPKEEP, ALERTS = "assets", "held", "replay", "upkeep", "alerts"
HISTORY = "history"
# A process that was frozen stores no file in the last part of its lease: it may freeze again while it does.
KEPT_FOR = 3 / 4
LEASE_GRACE_SECONDS = 30.0  # beyond the longest a piece of work may take
UPKEEP_SECONDS = 30.0
ASK_SECONDS = 10.0  # the longest that one question to a provider may take
TURNS = 4  # in every so many looks for files, one that was tried before has a place for itself
# Of fewer places for files, a second one that is kept free would be missed, or a third.
MANY_PLACES = 4
VERY_MANY_PLACES = 8
RECENT_TURNS = 256  # of those who fetch files, so many are told apart by when they had the last one
MOST_PROVEN = 32  # hosts that sent a whole file lately
POLLS_AT_ONCE = 4  # questions to one provider
REPLAYS_AT_ONCE = 4
ORDERED_SECONDS = 0.001  # between two looks at a sink that has an order
# To one sink: while one is on its way, the one before is settled and the next one claimed. More would only
# make them smaller, and repeat more after a crash.
BATCHES_AT_ONCE = 2


class Loops(msgspec.Struct, frozen=True, kw_only=True):
    """Makes the loops. Each sink and each provider has its own, so that a dead one holds up no other."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    store: Store
    tell_due: Callable[[str], None]
    task_ended: Callable[[str, str], None]
    traces: Traces | None

    def files(self, assets: AssetFetcher) -> LeaseLoop[AssetWork]:
        turns = itertools.cycle([False] * (TURNS - 1) + [True])
        is_shared = isinstance(self.store, SharedRecord)
        recent: deque[FetchShare] = deque(maxlen=RECENT_TURNS)
        running = Counter[FetchShare]()  # from the lease on: a look may come before what was leased has begun
        proven = ProvenHosts()

        async def lease(now: datetime, until: datetime, limit: int) -> list[AssetWork]:
            void_at = self.clock.uptime() + KEPT_FOR * (until - now) if is_shared else None
            works = await self.store.lease_assets(now, until, limit, retries_first=next(turns), load=load())
            shares = [(work.provider, work.host_hash) for work in works]
            recent.extend(shares)
            running.update(shares)
            return [msgspec.structs.replace(work, void_at=void_at) for work in works]

        async def next_due_at() -> datetime | None:
            return await self.store.next_due_at("assets", load=load())

        def load() -> FetchLoad:
            places = self.settings.asset_concurrency
            return fetch_load(running.copy(), tuple(recent), places, proven=tuple(proven))

        async def fetch(work: AssetWork) -> None:
            share = work.provider, work.host_hash
            try:
                settlement = await assets.run(work)
            finally:
                running[share] -= 1
                if not running[share]:
                    del running[share]
            proven.learn(share, settlement.outcome)
            size = settlement.file.bytes if settlement.file and settlement.outcome is Outcome.STORED else 0
            self.metrics.asset(work.provider, settlement.outcome, size)
            if settlement.file and work.received_at and work.replay_id is None:
                self.metrics.stored((settlement.settled_at - work.received_at).total_seconds())
            self.tell_due("sink")  # it may have been the event's last
            self.task_ended(work.provider, work.task_id)
            if self.traces is not None:
                await self.traces.fetch(work, settlement)

        return LeaseLoop(
            FILES,
            lease=lease,
            run=fetch,
            next_due_at=next_due_at,
            concurrency=self.settings.asset_concurrency,
            # A dead link, the provider asked for another, and that one fetched.
            lease_seconds=2 * self.settings.asset_timeout_seconds + ASK_SECONDS + LEASE_GRACE_SECONDS,
            clock=self.clock,
            note=assets.disk_problem,
        )

    def polls(
        self, provider: str, status_client: StatusClient, reconciler: Reconciler
    ) -> LeaseLoop[PollWork]:
        async def ask(work: PollWork) -> None:
            settlement = await reconciler.run(work)
            self.metrics.poll(provider, settlement.outcome)
            if self.traces is not None:
                await self.traces.poll(work, settlement)

        return LeaseLoop(
            poll_lane(provider),
            lease=partial(reconciler.lease, provider),
            run=ask,
            next_due_at=partial(reconciler.next_due_at, provider),
            concurrency=POLLS_AT_ONCE,
            lease_seconds=ASK_SECONDS + LEASE_GRACE_SECONDS,
            clock=self.clock,
            note=partial(status_client.problem, provider),
        )

    def held(self, reconciler: Reconciler) -> PeriodicLoop:
        return PeriodicLoop(HELD, run=reconciler.judge_unasked, every_seconds=UPKEEP_SECONDS)

    def sinks(self, relay: Relay) -> list[LeaseLoop[Sequence[OutboxWork]]]:
        return [self._sink(sink, relay) for sink in self.settings.sinks]

    def _sink(self, sink: SinkSettings, relay: Relay) -> LeaseLoop[Sequence[OutboxWork]]:
        async def publish(works: Sequence[OutboxWork]) -> None:
            settlements = await relay.run(works)
            for outcome, count in Counter(each.outcome for each in settlements).items():
                self.metrics.notifications(sink.name, outcome, count)
            self.metrics.sent(sink.name, sent_seconds(works, settlements))

        def stopped() -> str | None:
            reason = relay.stopped.get(sink.name)
            return f"stopped: {reason}" if reason else None

        breath_seconds, empty_seconds = BREATH_SECONDS, EMPTY_SECONDS
        if sink.order is not SinkOrder.NONE:
            # The next of a line is due once the one before it has ended. A look that finds only such as wait
            # for others finds none of them again, so it is no reason to wait.
            breath_seconds = empty_seconds = ORDERED_SECONDS
        return LeaseLoop(
            sink_lane(sink.name),
            lease=partial(relay.lease, sink.name),
            run=publish,
            next_due_at=partial(relay.next_due_at, sink.name),
            concurrency=min(sink.concurrency, BATCHES_AT_ONCE)
            if relay.in_batches(sink.name)
            else sink.concurrency,
            lease_seconds=sink.timeout_seconds + LEASE_GRACE_SECONDS,
            clock=self.clock,
            stopped=stopped,
            note=partial(relay.problem, sink.name),
            breath_seconds=breath_seconds,
            empty_seconds=empty_seconds,
            has_more=partial(relay.has_more, sink.name),
        )

    def replays(self, replayer: Replayer) -> LeaseLoop[ReplayWork]:
        return LeaseLoop(
            REPLAY,
            lease=replayer.lease,
            run=replayer.run,
            next_due_at=partial(self.store.next_due_at, "replays"),
            concurrency=REPLAYS_AT_ONCE,
            lease_seconds=LEASE_GRACE_SECONDS,
            clock=self.clock,
        )

    def upkeep(self) -> PeriodicLoop:
        upkeep = Upkeep(
            store=self.store,
            clock=self.clock,
            early_ttl_seconds=self.settings.early_ttl_seconds,
            retention_days=self.settings.retention_days,
            lost_after_seconds=self.settings.lost_after_seconds,
        )
        return PeriodicLoop(UPKEEP, run=upkeep.run, every_seconds=UPKEEP_SECONDS, note=upkeep.note)


def alert_loop(alerter: Alerter) -> PeriodicLoop:
    """Each process runs it, and one of all tells."""
    return PeriodicLoop(ALERTS, run=alerter.run, every_seconds=ALERT_SECONDS)


def history_loop(time_series: TimeSeries) -> PeriodicLoop:
    """Each process runs it, whatever else it does, for what it counts itself."""
    return PeriodicLoop(HISTORY, run=time_series.write, every_seconds=WRITE_SECONDS)


def sink_lane(sink: str) -> str:
    """The name of the lane, and of the loop, on which a sink is sent to."""
    return f"sink {sink}"


class ProvenHosts:
    """The hosts that sent a whole file lately, from the one that did so first on.

    Hosts that hang may be very many, in one callback's links even; of those that work a provider has few.
    """

    def __init__(self) -> None:
        self._shares: dict[FetchShare, None] = {}

    def __iter__(self) -> Iterator[FetchShare]:
        return iter(self._shares)

    def learn(self, share: FetchShare, outcome: Outcome) -> None:
        """How fetching a file ended; by what a link is to blame for, the host is no less proven."""
        if outcome in {Outcome.STORED, Outcome.LINKED}:
            self._shares.pop(share, None)
            self._shares[share] = None
            if len(self._shares) > MOST_PROVEN:
                del self._shares[next(iter(self._shares))]
        elif outcome in {Outcome.TIMEOUT, Outcome.TOO_SLOW}:
            self._shares.pop(share, None)


def sent_seconds(works: Sequence[OutboxWork], settlements: Sequence[Settlement]) -> list[float]:
    """How long after its callback each event was delivered; what is sent again says nothing of that."""
    return [
        (settlement.settled_at - from_text(work.event.received_at)).total_seconds()
        for work, settlement in zip(works, settlements, strict=True)
        if settlement.outcome is Outcome.DELIVERED and work.revision == 1 and work.replay_id is None
    ]


def fetch_load(
    running: Mapping[FetchShare, int],
    recent: Sequence[FetchShare],
    places: int,
    *,
    proven: Collection[FetchShare] = (),
) -> FetchLoad:
    """The files under way, and the most that one provider and one host may have of ``places``.

    However long a host hangs, one place stays free for other hosts, and another for other providers. However
    many hosts hang, one stays free for those that are proven, where there are enough.
    """
    for_others = 2 if places >= MANY_PLACES else 1 if places > 1 else 0
    load = FetchLoad(
        running=running,
        recent=recent,
        proven=proven,
        most_of_provider=places - (for_others > 1),
        most_of_host=places - for_others,
    )
    if places < VERY_MANY_PLACES:
        return load
    of_host = load.most_of_host
    return msgspec.structs.replace(load, most_of_unproven=of_host, most_of_unproven_host=of_host - 1)
