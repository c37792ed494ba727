"""The gateway's parts over one open record, opened and drained together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import structlog

from receiver.asset_links import LinkMaker
from receiver.clock import Clock
from receiver.fetching.client import GuardedClient
from receiver.gateway.catalog import OLDER_TODO, Catalog, older_catalogs
from receiver.gateway.orders import CountOrder, OrderDesk
from receiver.gateway.quotes import Quotes
from receiver.gateway.relay import CallbackRelay
from receiver.gateway.status import StatusDesk
from receiver.gateway.tokens import TokenBook
from receiver.gateway.upstream import Upstream
from receiver.ingest import Ingest
from receiver.models import Access, GatewayCheck
from receiver.polling.status_client import StatusClient
from receiver.ports import OrderProvider, Provider, Store
from receiver.tokens import Tokens

log = structlog.get_logger()


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of it."""

    public_url: str
    answer_seconds: float
    gives_own_links: bool
    relays: bool
    callback_secrets: Sequence[str]
    check: GatewayCheck


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """What the door calls."""

    providers: Mapping[str, OrderProvider]
    upstreams: Mapping[str, Upstream]
    orders: OrderDesk
    status: StatusDesk
    quotes: Quotes
    tokens: TokenBook


@asynccontextmanager
async def open_gateway(  # noqa: PLR0913 - by keyword, each a thing of its own
    *,
    options: GatewayOptions,
    catalogs: Mapping[str, Catalog],
    providers: Mapping[str, Provider],
    accesses: Mapping[str, Access],
    store: Store,
    status_client: StatusClient,
    ingest: Ingest,
    links: LinkMaker,
    tokens: Tokens,
    clock: Clock,
    wake: Callable[[str], None],
    count: CountOrder,
    relay_client: GuardedClient,
) -> AsyncIterator[Gateway]:
    """Open connections to every provider that takes orders. Whoever leaves has drained the orders before."""
    for said in older_catalogs(catalogs):
        log.warning("gateway.catalog_older", said=said, todo=OLDER_TODO)
    takers = {name: each for name, each in providers.items() if isinstance(each, OrderProvider)}
    async with AsyncExitStack() as stack:
        upstreams = {name: Upstream(accesses[name].url(each.facts)) for name, each in takers.items()}
        for upstream in upstreams.values():
            stack.push_async_callback(upstream.aclose)
        status = StatusDesk(
            store=store,
            providers=takers,
            status_client=status_client,
            ingest=ingest,
            links=links,
            clock=clock,
            gives_own_links=options.gives_own_links,
        )
        stack.push_async_callback(relay_client.aclose)
        if options.relays:
            relay = CallbackRelay(
                store=store,
                status=status,
                client=relay_client,
                clock=clock,
                secrets=options.callback_secrets,
            )
            stack.push_async_callback(_end, asyncio.create_task(relay.run(), name="callbacks"))
        yield Gateway(
            providers=takers,
            upstreams=upstreams,
            orders=OrderDesk(
                store=store,
                upstreams=upstreams,
                tokens=tokens,
                clock=clock,
                public_url=options.public_url,
                wake=wake,
                wake_for_early=ingest.wake_for_early,
                answer_seconds=options.answer_seconds,
                count=count,
            ),
            status=status,
            quotes=Quotes(catalogs, options.check),
            tokens=TokenBook(store, clock),
        )


async def _end(task: "asyncio.Task[None]") -> None:
    """What it was telling is told again after its lease, here or elsewhere."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
