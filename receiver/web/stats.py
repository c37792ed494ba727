"""Admins see how much there is of everything."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.runtime import Runtime
from receiver.times import to_text
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.shapes import Moment, reply, shape


class StatsShown(msgspec.Struct, frozen=True, kw_only=True):
    """How much there was of everything at ``counted_at``, and how old the oldest of it is.

    Where counting takes longer than a quarter of a second, twice in a row, one count stands for twenty times
    as long as that, ten minutes at most.
    """

    counted_at: Moment
    submissions: int
    tasks: dict[str, int]
    deliveries: dict[str, int]
    assets: dict[str, int]
    linked: int
    outbox: dict[str, dict[str, int]]
    oldest_undelivered_at: Moment | None
    oldest_undownloaded_at: Moment | None
    next_deadline_at: Moment | None
    unbound: dict[str, int]
    unknown_orders: dict[str, int]
    polls: dict[str, dict[str, int]]
    wal_bytes: int | None


async def show_stats(runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """Counts of everything, shared with the metrics."""
    stats = await runtime.stats.get(anew=True)
    counted_at = runtime.stats.counted_at(runtime.clock.now())
    return reply(shape(StatsShown, stats, counted_at=to_text(counted_at)))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/stats",
        summary="Count everything",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: StatsShown},
        refuses=(401, 403, 503),
        answer=show_stats,
    ),
)
