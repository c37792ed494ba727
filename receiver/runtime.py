"""From settings to everything opened, and closed in reverse: the one file that knows all the others."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
import msgspec

from receiver import plugins
from receiver.assets import AssetLimits, Assets, Fetcher
from receiver.clock import Clock
from receiver.download import DownloadLimits
from receiver.ingest import Ingest
from receiver.metrics import Metrics, RecentStats
from receiver.models import AssetWork, OutboxWork
from receiver.network import GuardedClient, open_plain_client
from receiver.ports import BlobStore, PartOptions, Provider, Sink, Store, StoreOptions
from receiver.relay import Relay, SinkPolicy, link_maker
from receiver.settings import Settings, SinkSettings
from receiver.tokens import Tokens
from receiver.upkeep import Upkeep
from receiver.worker import Chore, Lane, Worker

DRAIN_SECONDS = 4.0  # after as long for requests: the platforms give 10 s at least
LEASE_GRACE_SECONDS = 30.0  # beyond the longest a piece of work may take
UPKEEP_SECONDS = 30.0


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is open, by the name of its job."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    stats: RecentStats
    providers: Mapping[str, Provider]
    tokens: Tokens
    store: Store
    blobs: BlobStore
    sinks: Mapping[str, Sink]
    ingest: Ingest
    worker: Worker


@asynccontextmanager
async def open_runtime(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Runtime]:
    """Open every part, start the loops, and on leaving drain them and close everything in reverse.

    Raises Misconfigured when a part cannot be opened. ``settings`` must hold its secrets by now (see
    ``credentials``).
    """
    async with AsyncExitStack() as stack:
        parts = await _open_parts(settings, clock or Clock(), stack)
        parts.worker.start()
        try:
            yield parts
        finally:
            await parts.worker.drain(DRAIN_SECONDS)


async def _open_parts(settings: Settings, clock: Clock, stack: AsyncExitStack) -> Runtime:
    providers = plugins.load_providers()
    metrics = Metrics(providers, [sink.name for sink in settings.sinks])
    tokens = Tokens(settings.secrets)
    http = await stack.enter_async_context(open_plain_client())
    store = await _open_store(settings, clock, metrics, stack)
    blobs = await _open_blobs(settings, http, stack)
    sinks = await _open_sinks(settings, http, stack)
    fetcher = await _open_fetcher(settings, clock, blobs, stack)
    relay = _relay(settings, clock, store, sinks, tokens)
    worker = _worker(settings, clock, metrics, store, fetcher, relay)
    ingest = Ingest(
        store=store,
        providers=providers,
        tokens=tokens,
        allow_untokened=settings.allow_untokened,
        wake=worker.wake,
    )
    return Runtime(
        settings=settings,
        clock=clock,
        metrics=metrics,
        stats=RecentStats(store.count_stats, time.monotonic),
        providers=providers,
        tokens=tokens,
        store=store,
        blobs=blobs,
        sinks=sinks,
        ingest=ingest,
        worker=worker,
    )


async def _open_store(settings: Settings, clock: Clock, metrics: Metrics, stack: AsyncExitStack) -> Store:
    options = StoreOptions(
        data_dir=settings.data_dir,
        clock=clock,
        routes=[sink.route for sink in settings.sinks],
        early_limit=settings.early_limit,
        early_ttl_seconds=settings.early_ttl_seconds,
        observe=metrics.commit,
    )
    kind: type[Store] = plugins.load("stores", settings.database_scheme)
    store = await kind.open(settings.database_url, options)
    stack.push_async_callback(store.aclose)
    return store


async def _open_blobs(settings: Settings, http: httpx2.AsyncClient, stack: AsyncExitStack) -> BlobStore:
    kind: type[BlobStore] = plugins.load("blobs", settings.assets_scheme)
    options = PartOptions(name=settings.assets_scheme, data_dir=settings.data_dir, http=http)
    blobs = kind.from_url(settings.assets_url, options)
    stack.push_async_callback(blobs.aclose)
    await blobs.sweep()
    return blobs


async def _open_sinks(settings: Settings, http: httpx2.AsyncClient, stack: AsyncExitStack) -> dict[str, Sink]:
    sinks: dict[str, Sink] = {}
    for wanted in settings.sinks:
        kind: type[Sink] = plugins.load("sinks", wanted.scheme)
        options = PartOptions(
            name=wanted.name,
            data_dir=settings.data_dir,
            http=http,
            secret=wanted.secret,
            timeout_seconds=wanted.timeout_seconds,
        )
        sinks[wanted.name] = kind.from_url(wanted.url, options)
        stack.push_async_callback(sinks[wanted.name].aclose)
    return sinks


async def _open_fetcher(settings: Settings, clock: Clock, blobs: BlobStore, stack: AsyncExitStack) -> Fetcher:
    client = GuardedClient(opened=settings.allow_networks)
    stack.push_async_callback(client.aclose)
    staging = settings.data_dir / "incoming"
    # The store's lock is ours by now, so whatever lies here was left by a process that is gone.
    await asyncio.to_thread(_empty, staging)
    download = DownloadLimits(
        max_bytes=settings.asset_max_bytes, deadline_seconds=settings.asset_timeout_seconds
    )
    return Fetcher(
        client=client,
        blobs=blobs,
        clock=clock,
        staging=staging,
        limits=AssetLimits(
            download=download, max_pixels=settings.asset_max_pixels, kinds=settings.asset_types
        ),
        hosts=settings.asset_hosts,
    )


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _relay(
    settings: Settings, clock: Clock, store: Store, sinks: Mapping[str, Sink], tokens: Tokens
) -> Relay:
    return Relay(
        store=store,
        sinks=sinks,
        policies={sink.name: _policy(sink) for sink in settings.sinks},
        source=settings.public_url,
        link=link_maker(tokens, settings.public_url, life_seconds=settings.link_ttl_seconds),
        clock=clock,
    )


def _policy(sink: SinkSettings) -> SinkPolicy:
    return SinkPolicy(
        timeout_seconds=sink.timeout_seconds,
        concurrency=sink.concurrency,
        max_attempts=sink.max_attempts,
    )


def _worker(
    settings: Settings, clock: Clock, metrics: Metrics, store: Store, fetcher: Fetcher, relay: Relay
) -> Worker:
    """One lane for files, one for each sink, so that a slow or dead one holds up no other."""
    lanes: list[Lane[OutboxWork]] = [
        _sink_lane(sink, clock, metrics, store, relay) for sink in settings.sinks
    ]

    assets = Assets(store=store, fetcher=fetcher)

    async def fetch(work: AssetWork) -> None:
        settlement = await assets.run(work)
        metrics.asset(work.provider, settlement.outcome, settlement.file.bytes if settlement.file else 0)
        for lane in lanes:  # it may have been the event's last
            lane.wake()

    files: Lane[AssetWork] = Lane(
        "assets",
        lease=store.lease_assets,
        run=fetch,
        next_due_at=partial(store.next_due_at, None),
        concurrency=settings.asset_concurrency,
        lease_seconds=settings.asset_timeout_seconds + LEASE_GRACE_SECONDS,
        clock=clock,
    )
    upkeep = Upkeep(
        store=store,
        clock=clock,
        early_ttl_seconds=settings.early_ttl_seconds,
        retention_days=settings.retention_days,
    )
    chore = Chore("upkeep", run=upkeep.run, every_seconds=UPKEEP_SECONDS)
    loops: Sequence[Lane[AssetWork] | Lane[OutboxWork] | Chore] = [files, *lanes, chore]
    return Worker(loops, count_restart=metrics.loop_restarted)


def _sink_lane(
    sink: SinkSettings, clock: Clock, metrics: Metrics, store: Store, relay: Relay
) -> Lane[OutboxWork]:
    async def publish(work: OutboxWork) -> None:
        settlement = await relay.run(work)
        metrics.notification(sink.name, settlement.outcome)

    return Lane(
        f"sink {sink.name}",
        lease=partial(store.lease_outbox, sink.name),
        run=publish,
        next_due_at=partial(store.next_due_at, sink.name),
        concurrency=sink.concurrency,
        lease_seconds=sink.timeout_seconds + LEASE_GRACE_SECONDS,
        clock=clock,
        stopped=lambda: _stopped(relay, sink.name),
    )


def _stopped(relay: Relay, sink: str) -> str | None:
    reason = relay.stopped.get(sink)
    return f"stopped: {reason}" if reason else None
