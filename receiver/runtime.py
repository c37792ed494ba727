"""Opens all that the settings ask for, and closes it in reverse: the one file that knows all the others."""

import asyncio
import errno
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import msgspec
import structlog

from receiver import plugins
from receiver.asset_links import LinkMaker, PresignedLinks, PublicLinks, SignedLinks
from receiver.clock import Clock
from receiver.commit_probe import CommitProbe
from receiver.config.fields import key_variable
from receiver.config.settings import Settings, SinkSettings
from receiver.errors import Misconfigured, Unavailable
from receiver.fetching.client import GuardedClient, open_plain_client
from receiver.fetching.copies import Copies
from receiver.fetching.download import DownloadLimits
from receiver.fetching.fetcher import AssetFetcher, AssetLimits, Fetcher
from receiver.fetching.key_sets import KeySet
from receiver.folders import take_folder
from receiver.health.alerts import Alerter, service_name
from receiver.health.examination import Examination
from receiver.health.facts import Limits
from receiver.health.lines import rule_of
from receiver.health.look import HealthLook
from receiver.health.watch import LOOK_SECONDS, Watch
from receiver.ingest import Ingest, KeySource, Secrets
from receiver.lanes import LEFT, LaneLoop, Lanes
from receiver.lazy_map import LazyMap
from receiver.loops import (
    ALERTS,
    ASK_SECONDS,
    FILES,
    HELD,
    HISTORY,
    REPLAY,
    UPKEEP,
    Loops,
    alert_loop,
    history_loop,
    sink_lane,
)
from receiver.metrics import Metrics, RecentCount
from receiver.models import (
    AssetLinks,
    Backlog,
    CreditPrice,
    GatewayCallbacks,
    GatewayLinks,
    MessageFormat,
    Route,
    SeriesName,
    SinkState,
    Stats,
    Work,
    poll_lane,
)
from receiver.options import PluginOptions, StoreOptions
from receiver.polling.reconciler import Reconciler, confirmation, told_in_parts
from receiver.polling.status_client import StatusClient
from receiver.polling.turns import SharedTurns
from receiver.ports import (
    EVERY_KIND,
    MISSED,
    BlobStore,
    LinkingBlobs,
    Provider,
    SharedRecord,
    SigningBlobs,
    Sink,
    Store,
)
from receiver.relay import Relay, SinkPolicy
from receiver.replay import Replayer
from receiver.settings_audit import note_settings
from receiver.task_waiters import TaskWaiters
from receiver.thumbnails.cache import ThumbnailCache
from receiver.thumbnails.thumbnailer import Thumbnailer
from receiver.time_series import PROVIDER, SINK, TimeSeries, gauges_of
from receiver.tokens import Tokens
from receiver.tracing import Traces
from receiver.worker import Loop, Wake, Worker

if TYPE_CHECKING:
    from receiver.gateway.catalog import Catalog
    from receiver.gateway.gateway import Gateway

# What each process runs that is to run it at all, whoever else does.
_EVERYWHERE = frozenset({FILES, ALERTS, HISTORY})

_OF_NO_LANE = frozenset({FILES, HISTORY})  # nobody has to know who runs it

ENDED = "ended "  # with a task's mark, the word that tells other processes of its end
ALERT_TIMEOUT_SECONDS = 10.0
PROMPT = timedelta(seconds=1)  # within which all is drained where nothing hangs
TRY_SECONDS = 10.0  # of the asset store, at a start
DRAIN_SECONDS = 4.0  # after as long for requests: the platforms give 10 s at least
FLUSH_SECONDS = 0.5  # for spans where draining took all of that


# Where there can be no data folder, as on a read-only root file system, downloads go by the system's own.
_NO_FOLDER = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR})


log = structlog.get_logger()


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is open, by the name of its job."""

    settings: Settings
    work: Collection[Work]  # what this process does besides answering requests
    clock: Clock
    metrics: Metrics
    time_series: TimeSeries
    stats: RecentCount[Stats]
    health: HealthLook
    examination: Examination
    watch: Watch  # of what only whoever looks again and again knows
    commit_probe: CommitProbe
    providers: Mapping[str, Provider]
    tokens: Tokens
    store: Store
    blobs: BlobStore
    thumbnails: Thumbnailer
    links: LinkMaker
    sinks: Mapping[str, Sink]
    status_client: StatusClient
    relay: Relay
    ingest: Ingest
    worker: Worker
    task_waiters: TaskWaiters
    traces: Traces | None  # None: nobody wants any
    gateway: "Gateway | None"  # None: nothing is ordered through this process
    elsewhere: Callable[[], Mapping[str, str]]  # how the loops are that others on this record run


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, work: Collection[Work] = frozenset(Work), clock: Clock | None = None
) -> AsyncIterator[Runtime]:
    """Open every part, start the loops of ``work``, and on leaving drain them and close all in reverse.

    Raises Misconfigured when a part cannot be opened. ``settings`` must hold its secrets by now (see
    ``credentials``).
    """
    async with AsyncExitStack() as stack:
        parts = await _open_parts(settings, work, clock or Clock(), stack)
        runtime = _assemble(parts, work)
        if settings.gateway:
            gateway = await _open_gateway(parts, runtime, stack)
            runtime = msgspec.structs.replace(runtime, gateway=gateway)
        await note_settings(runtime.store, settings, runtime.clock.now())
        runtime.worker.start()
        watching = asyncio.create_task(_keep_watching(runtime.watch), name="watch")
        try:
            yield runtime
        finally:
            watching.cancel()
            runtime.task_waiters.stop()
            stopped_at = runtime.clock.uptime()
            end_at = stopped_at + timedelta(seconds=DRAIN_SECONDS)
            drains = [runtime.worker.drain(DRAIN_SECONDS)]
            if runtime.gateway is not None:
                drains.append(runtime.gateway.orders.drain(DRAIN_SECONDS))
            await asyncio.gather(*drains)
            if runtime.clock.uptime() - stopped_at < PROMPT:  # else the store may be silent, too
                with suppress(Unavailable):
                    await runtime.time_series.write()
            if runtime.traces is not None:
                left_seconds = (end_at - runtime.clock.uptime()).total_seconds()
                await runtime.traces.aclose(max(left_seconds, FLUSH_SECONDS))


async def _keep_watching(watch: Watch) -> None:
    while True:
        watch.look()
        await asyncio.sleep(LOOK_SECONDS)


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts that are opened first; the loops are made of them."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    providers: Mapping[str, Provider]
    tokens: Tokens
    signed: Mapping[str, KeySource]
    status_client: StatusClient
    catalogs: Mapping[str, "Catalog"]  # of what may be ordered here
    store: Store
    blobs: BlobStore
    thumbnails: Thumbnailer
    sinks: Mapping[str, Sink]
    links: LinkMaker
    traces: Traces | None
    fetcher: Fetcher | None  # where files are fetched
    alert_sink: Sink | None  # who is told of what is wrong


async def _open_parts(
    settings: Settings, work: Collection[Work], clock: Clock, stack: AsyncExitStack
) -> _Parts:
    providers = plugins.load_providers(settings.own_providers)
    metrics = Metrics(providers, [sink.name for sink in settings.sinks])
    http = await stack.enter_async_context(open_plain_client())
    signed = _key_sources(settings, clock, stack)
    tokens = Tokens(settings.secrets)
    status_client = StatusClient(
        providers=providers,
        accesses=settings.providers,
        http=http,
        clock=clock,
        timeout_seconds=ASK_SECONDS,
        keys={
            name: {each: key for key in access.api_keys for each in tokens.name_key(key)}
            for name, access in settings.providers.items()
            if access.api_keys
        },
    )
    catalogs = _load_catalogs(settings)
    store = await _open_store(settings, clock, metrics, status_client, providers, catalogs, stack)
    blobs = make_blobs(settings, http)
    stack.push_async_callback(blobs.aclose)
    thumbnails = Thumbnailer(blobs, ThumbnailCache(settings.data_dir / "thumbs"))
    stack.push_async_callback(thumbnails.aclose)
    fetcher = None
    if Work.ASSETS in work:
        await blobs.sweep()
        await _try_blobs(blobs)
        fetcher = await _open_fetcher(settings, clock, blobs, store, stack)
    sinks: dict[str, Sink] = {}
    for wanted in settings.sinks:
        sinks[wanted.name] = make_sink(settings, wanted, http)
        stack.push_async_callback(sinks[wanted.name].aclose)
    alert_sink = make_alert_sink(settings, http)
    if alert_sink is not None:
        stack.push_async_callback(alert_sink.aclose)
    return _Parts(
        settings=settings,
        clock=clock,
        metrics=metrics,
        providers=providers,
        tokens=tokens,
        signed=signed,
        status_client=status_client,
        catalogs=catalogs,
        store=store,
        blobs=blobs,
        thumbnails=thumbnails,
        links=make_links(settings, tokens, blobs, clock),
        sinks=sinks,
        traces=Traces(plugins.load_tracer()(), store, clock) if settings.tracing == "otlp" else None,
        fetcher=fetcher,
        alert_sink=alert_sink,
    )


def _key_sources(settings: Settings, clock: Clock, stack: AsyncExitStack) -> dict[str, KeySource]:
    """What callbacks must be signed with, of each provider for which that is set. Raises Misconfigured."""
    accesses = settings.providers.items()
    signed: dict[str, KeySource] = {
        name: Secrets(access.webhook_secrets) for name, access in accesses if access.webhook_secrets
    }
    urls = {name: access.webhook_keys_url for name, access in accesses if access.webhook_keys_url}
    if urls:
        make = plugins.load_public_key()
        client = GuardedClient(opened=settings.allow_networks)
        stack.push_async_callback(client.aclose)
        signed |= {name: KeySet(url, client=client, clock=clock, make=make) for name, url in urls.items()}
    return signed


async def _try_blobs(blobs: BlobStore) -> None:
    """Say now what would keep files out. Callbacks can be taken all the same."""
    try:
        async with asyncio.timeout(TRY_SECONDS):
            await blobs.ping()
    except Unavailable as exc:
        log.error("assets.unusable", reason=str(exc))  # noqa: TRY400 - not our fault, and told in words
    except TimeoutError:
        log.error("assets.unusable", reason=f"no answer in {TRY_SECONDS:g} s")  # noqa: TRY400


async def _open_store(
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    status_client: StatusClient,
    providers: Mapping[str, Provider],
    catalogs: Mapping[str, "Catalog"],
    stack: AsyncExitStack,
) -> Store:
    accesses = settings.providers

    def why_unpolled(name: str) -> str:
        said, facts = f"no {key_variable(name)} is set", providers[name].facts
        return said if facts.pushes else f"{said}, and {facts.title} sends no callbacks"

    options = StoreOptions(
        data_dir=settings.data_dir,
        clock=clock,
        routes=[sink.route for sink in settings.sinks],
        connections=settings.database_connections,
        early_limit=settings.early_limit,
        link_copies=settings.asset_link_copies,
        first_poll_seconds=LazyMap(
            accesses, lambda name: accesses[name].first_seconds(providers[name].facts)
        ),
        link_life_seconds=LazyMap(providers, lambda name: providers[name].facts.link_life_seconds),
        confirms=confirmation(settings.confirm, status_client, told_in_parts(providers, status_client)),
        unpolled=LazyMap([name for name in accesses if not status_client.can_ask(name)], why_unpolled),
        metadata_keys=settings.metadata_index,
        credit_prices=_credit_prices(catalogs),
        observe=metrics.commit,
    )
    kind: type[Store] = plugins.load("stores", settings.database_scheme)
    store = await kind.open(settings.database_url, options)
    stack.push_async_callback(store.aclose)
    return store


def _load_catalogs(settings: Settings) -> Mapping[str, "Catalog"]:
    """Rules and prices of what may be ordered; none where there is no gateway. Raises Misconfigured."""
    if not settings.gateway:
        return {}
    module = importlib.import_module("receiver.gateway.catalog")
    catalogs: Mapping[str, Catalog] = module.load_catalogs(settings.gateway_catalog)
    return catalogs


def _credit_prices(catalogs: Mapping[str, "Catalog"]) -> Mapping[str, CreditPrice]:
    """What orders cost by what their providers say that they took."""
    if not catalogs:
        return {}
    found: Mapping[str, CreditPrice] = importlib.import_module("receiver.gateway.prices").credit_prices(
        catalogs
    )
    return found


async def _open_fetcher(
    settings: Settings, clock: Clock, blobs: BlobStore, store: Store, stack: AsyncExitStack
) -> Fetcher:
    client = GuardedClient(opened=settings.allow_networks)
    stack.push_async_callback(client.aclose)
    staging = await asyncio.to_thread(_take_staging, settings.data_dir, stack)
    download = DownloadLimits(
        max_bytes=settings.asset_max_bytes, deadline_seconds=settings.asset_timeout_seconds
    )
    return Fetcher(
        client=client,
        blobs=blobs,
        clock=clock,
        staging=staging,
        limits=AssetLimits(
            download=download,
            max_task_bytes=settings.task_max_bytes,
            max_pixels=settings.asset_max_pixels,
            kinds=settings.asset_types,
        ),
        bodies=store.list_end_bodies,
        hosts=settings.asset_hosts,
        copies=(
            Copies(store.find_copy, blobs)
            if settings.asset_link_copies and isinstance(blobs, LinkingBlobs)
            else None
        ),
    )


def _take_staging(data_dir: Path, stack: AsyncExitStack) -> Path:
    """A folder for downloads on their way, emptied of what a process that is gone has left there."""
    try:
        folder, handle = take_folder(data_dir, "incoming")
    except OSError as exc:
        if exc.errno in _NO_FOLDER:
            with suppress(OSError):
                return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-")))
        # A full disk, say: the service starts all the same, and each download says what is wrong.
        return data_dir / "incoming"
    stack.callback(os.close, handle)
    return folder


def _assemble(parts: _Parts, work: Collection[Work]) -> Runtime:
    def wake(kind: str, *, is_due: bool = False) -> None:  # for what the worker's own loops are made of
        worker.wake(kind, is_due=is_due)

    def states() -> Mapping[str, str]:
        return worker.status()

    shared = parts.store if isinstance(parts.store, SharedRecord) else None
    task_waiters = TaskWaiters(tell=_tell_ends(shared) if shared else None)
    ingest = Ingest(
        store=parts.store,
        providers=parts.providers,
        tokens=parts.tokens,
        allow_untokened=parts.settings.allow_untokened,
        wake=wake,
        tell_due=partial(wake, is_due=True),
        signed=parts.signed,
        count_unsigned=parts.metrics.unsigned,
        in_parts=told_in_parts(parts.providers, parts.status_client),
        task_ended=task_waiters.notify,
    )
    relay = _relay(parts)
    turns = SharedTurns(shared, parts.status_client) if shared else None
    lanes: Lanes | None = None

    def elsewhere() -> Mapping[str, str]:
        return lanes.elsewhere(_all_lanes(parts)) if lanes else {}

    def is_mine(key: str) -> bool:
        # While the database is away nobody has a lane, and that is what everybody must be able to tell.
        return lanes is None or lanes.holds(ALERTS) or rule_of(key) == "store"

    watch = Watch(parts.clock, parts.metrics.callback_counts)
    commit_probe = CommitProbe(parts.store.ping, time.monotonic)
    health = _health(parts, relay, watch, commit_probe, states, elsewhere)
    alerter = _alerter(parts, health, is_mine)
    loops = _loops(parts, work, ingest, relay, wake, task_waiters, turns)
    if alerter is not None and Work.UPKEEP in work:
        loops = [*loops, alert_loop(alerter)]
    gauges = (
        partial(_gauges, parts, RecentCount(parts.store.count_stats, time.monotonic))
        if Work.UPKEEP in work
        else None
    )
    time_series = TimeSeries(
        parts.store, parts.clock, parts.metrics.totals, gauges, partial(_downs, parts, relay)
    )
    loops = [*loops, history_loop(time_series)]
    if shared is not None and turns is not None:
        names = [loop.name for loop in loops if loop.name not in _OF_NO_LANE]
        lanes = Lanes(shared, names, parts.clock, turns, states)
        loops = [lanes, *(loop if loop.name in _EVERYWHERE else LaneLoop(loop, lanes) for loop in loops)]

    def crashed(loop: str) -> None:
        parts.metrics.loop_restarted(loop)
        watch.crashed(loop)

    worker = Worker(loops, count_restart=crashed, tell=shared.tell if shared else None)
    if shared is not None and lanes is not None:
        shared.listen(_hearing(worker, task_waiters, lanes))
    return Runtime(
        settings=parts.settings,
        work=work,
        clock=parts.clock,
        metrics=parts.metrics,
        time_series=time_series,
        stats=RecentCount(parts.store.count_stats, time.monotonic),
        health=health,
        examination=Examination(),
        watch=watch,
        commit_probe=commit_probe,
        providers=parts.providers,
        tokens=parts.tokens,
        store=parts.store,
        blobs=parts.blobs,
        thumbnails=parts.thumbnails,
        links=parts.links,
        sinks=parts.sinks,
        status_client=parts.status_client,
        relay=relay,
        ingest=ingest,
        worker=worker,
        task_waiters=task_waiters,
        traces=parts.traces,
        gateway=None,
        elsewhere=elsewhere,
    )


async def _open_gateway(parts: _Parts, runtime: Runtime, stack: AsyncExitStack) -> "Gateway":
    # Imported where it is wanted only: without it nothing is there, and nothing is slower.
    module = importlib.import_module("receiver.gateway.gateway")
    settings = parts.settings
    gateway: Gateway = await stack.enter_async_context(
        module.open_gateway(
            options=module.GatewayOptions(
                public_url=settings.public_url,
                answer_seconds=settings.gateway_answer_seconds,
                gives_own_links=settings.gateway_links is GatewayLinks.OURS,
                relays=settings.gateway_callbacks is GatewayCallbacks.RELAY and Work.RELAY in runtime.work,
                callback_secrets=(settings.gateway_callback_secret or "").split(","),
                check=settings.gateway_check,
            ),
            catalogs=parts.catalogs,
            relay_client=GuardedClient(opened=settings.allow_networks),
            providers=parts.providers,
            accesses=settings.providers,
            store=parts.store,
            status_client=parts.status_client,
            ingest=runtime.ingest,
            links=parts.links,
            tokens=parts.tokens,
            clock=parts.clock,
            wake=runtime.worker.wake,
            count=parts.metrics.order,
        )
    )
    return gateway


def _health(
    parts: _Parts,
    relay: Relay,
    watch: Watch,
    commit_probe: CommitProbe,
    states: Callable[[], Mapping[str, str]],
    elsewhere: Callable[[], Mapping[str, str]],
) -> HealthLook:
    settings, store, clock = parts.settings, parts.store, parts.clock
    lost_after = timedelta(seconds=settings.lost_after_seconds)

    async def count() -> Backlog:
        now = clock.now()
        return await store.count_backlog(now, now - lost_after, list(parts.providers))

    return HealthLook(
        clock=clock,
        limits=Limits(
            lost_after_seconds=settings.lost_after_seconds,
            early_limit=settings.early_limit,
            retention_days=settings.retention_days,
        ),
        watch=watch,
        check_store=commit_probe.check,
        backlog=RecentCount(count, time.monotonic).get,
        states=states,
        elsewhere=elsewhere,
        relay=relay,
        status_client=parts.status_client,
        providers=parts.providers,
        sinks=parts.sinks,
        data_dir=settings.data_dir,
    )


def _alerter(parts: _Parts, health: HealthLook, is_mine: Callable[[str], bool]) -> Alerter | None:
    if parts.alert_sink is None:
        return None
    return Alerter(
        store=parts.store,
        sink=parts.alert_sink,
        look=health.look,
        clock=parts.clock,
        is_mine=is_mine,
        service=service_name(parts.settings.public_url),
        overview=f"{parts.settings.public_url}/admin/" if parts.settings.pages else None,
        as_slack=parts.settings.alert_format == "slack",
    )


def _downs(parts: _Parts, relay: Relay) -> Mapping[tuple[str, str], bool]:
    """Which circuits are open, as far as this process knows."""
    closed = {SinkState.OK, SinkState.FAILING}
    asked = [name for name in parts.providers if parts.status_client.can_ask(name)]
    return {
        **{(SINK, name): relay.state(name) not in closed for name in parts.sinks},
        **{(PROVIDER, name): parts.status_client.problem(name) is not None for name in asked},
    }


async def _gauges(parts: _Parts, stats: RecentCount[Stats]) -> Mapping[SeriesName, float]:
    counted = await stats.get()
    now = parts.clock.now()
    try:
        free = shutil.disk_usage(parts.settings.data_dir).free
    except OSError:
        free = None
    return gauges_of(counted, stats.counted_at(now), free)


def _all_lanes(parts: _Parts) -> list[str]:
    """The lanes that some process must have, with these settings."""
    asked = [poll_lane(name) for name in parts.providers if parts.status_client.can_ask(name)]
    return [*asked, HELD, *map(sink_lane, parts.sinks), REPLAY, UPKEEP]


def _tell_ends(shared: SharedRecord) -> Callable[[str], None]:
    return lambda mark: shared.tell(ENDED + mark)


def _hearing(worker: Worker, task_waiters: TaskWaiters, lanes: Lanes) -> Callable[[str], None]:
    """What to do about a word of another process."""

    def heard(word: str) -> None:
        if word.startswith(ENDED):
            task_waiters.hear(word.removeprefix(ENDED))
        elif word in {LEFT, MISSED}:
            lanes.look()
        else:
            worker.wake_here(word)
        if word == MISSED:
            worker.wake_here(EVERY_KIND)
            task_waiters.wake_all()

    return heard


def _loops(
    parts: _Parts,
    work: Collection[Work],
    ingest: Ingest,
    relay: Relay,
    wake: Wake,
    task_waiters: TaskWaiters,
    turns: SharedTurns | None,
) -> Sequence[Loop]:
    store, clock, status_client, providers = parts.store, parts.clock, parts.status_client, parts.providers
    reconciler = Reconciler(
        store=store,
        status_client=status_client,
        ingest=ingest,
        providers=providers,
        clock=clock,
        lost_after_seconds=parts.settings.lost_after_seconds,
        turns=turns,
    )
    loops = Loops(
        settings=parts.settings,
        clock=clock,
        metrics=parts.metrics,
        store=store,
        tell_due=partial(wake, is_due=True),
        task_ended=task_waiters.notify,
        traces=parts.traces,
    )
    wanted: list[Loop] = []
    if parts.fetcher is not None:
        wanted.append(loops.files(AssetFetcher(store=store, fetcher=parts.fetcher, renew=reconciler.renew)))
    if Work.POLL in work:
        asked = [name for name in providers if status_client.can_ask(name)]
        wanted += [loops.polls(name, status_client, reconciler) for name in asked]
        wanted.append(loops.held(reconciler))
    if Work.RELAY in work:
        wanted += loops.sinks(relay)
    if Work.UPKEEP in work:
        replayer = Replayer(
            store=store, providers=providers, clock=clock, wake=wake, in_parts=ingest.in_parts
        )
        wanted.append(loops.replays(replayer))
        wanted.append(loops.upkeep())
    return wanted


def _relay(parts: _Parts) -> Relay:
    settings, clock = parts.settings, parts.clock
    return Relay(
        store=parts.store,
        sinks=parts.sinks,
        policies={
            sink.name: SinkPolicy(timeout_seconds=sink.timeout_seconds, max_age_seconds=sink.max_age_seconds)
            for sink in settings.sinks
        },
        source=settings.public_url,
        links=parts.links,
        clock=clock,
        traces=parts.traces,
    )


def check_drivers(settings: Settings) -> None:
    """Import what the settings name. Raises Misconfigured naming every part without its driver at once."""
    wanted: list[tuple[plugins.Kind, str]] = [
        ("stores", settings.database_scheme),
        ("blobs", settings.assets_scheme),
        *(("sinks", sink.scheme) for sink in settings.sinks),
    ]
    problems: list[str] = []
    loads: list[Callable[[], object]] = [partial(plugins.load, *each) for each in dict.fromkeys(wanted)]
    if settings.tracing == "otlp":
        loads.append(plugins.load_tracer)
    if any(access.webhook_keys_url for access in settings.providers.values()):
        loads.append(plugins.load_public_key)
    for load in loads:
        try:
            load()
        except Misconfigured as exc:
            problems += exc.problems
    if problems:
        raise Misconfigured(*problems)


def make_blobs(settings: Settings, http: httpx2.AsyncClient) -> BlobStore:
    """The asset store. Raises Misconfigured."""
    kind: type[BlobStore] = plugins.load("blobs", settings.assets_scheme)
    options = PluginOptions(
        name="RECEIVER_ASSETS_URL", data_dir=settings.data_dir, http=http, aws=settings.aws
    )
    return kind.from_url(settings.assets_url, options)


def make_links(settings: Settings, tokens: Tokens, blobs: BlobStore, clock: Clock) -> LinkMaker:
    """What makes links to stored files. Raises Misconfigured."""
    life_seconds = settings.link_ttl_seconds
    if settings.asset_base_url is not None:
        return PublicLinks(settings.asset_base_url)
    if settings.asset_links is not AssetLinks.PRESIGNED:
        return SignedLinks(tokens, settings.public_url, life_seconds=life_seconds, clock=clock)
    if not isinstance(blobs, SigningBlobs):
        raise Misconfigured(
            f"RECEIVER_ASSET_LINKS=presigned: an asset store {settings.assets_scheme}:… signs no links;"
            " set RECEIVER_ASSETS_URL=s3://…, or unset RECEIVER_ASSET_LINKS"
        )
    return PresignedLinks(blobs, life_seconds=life_seconds)


def make_sink(settings: Settings, sink: SinkSettings, http: httpx2.AsyncClient) -> Sink:
    """One sink. Raises Misconfigured."""
    kind: type[Sink] = plugins.load("sinks", sink.scheme)
    options = PluginOptions(
        name=sink.name,
        data_dir=settings.data_dir,
        http=http,
        secret=sink.secret,
        timeout_seconds=sink.timeout_seconds,
        format=sink.format,
        aws=settings.aws,
    )
    return kind.from_url(sink.url, options)


def make_alert_sink(settings: Settings, http: httpx2.AsyncClient) -> Sink | None:
    """Who is told of what is wrong, by the same client as webhooks. Raises Misconfigured."""
    if settings.alert_url is None:
        return None
    wanted = SinkSettings(
        name="alerts",
        url=settings.alert_url,
        route=Route(sink="alerts"),
        secret=settings.alert_secret,
        format=MessageFormat.JSON,
        timeout_seconds=ALERT_TIMEOUT_SECONDS,
        concurrency=1,
        max_age_seconds=0.0,
    )
    try:
        return make_sink(settings, wanted, http)
    except Misconfigured as exc:
        problems = (problem.removeprefix("sink alerts: its ") for problem in exc.problems)
        raise Misconfigured(*(f"RECEIVER_ALERT_URL: its {problem}" for problem in problems)) from None
