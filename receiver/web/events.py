"""Admins follow what is told: every message as it is queued for sinks, in order."""

from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.envelope import render
from receiver.models import EventType, OutboxWork, Route
from receiver.runtime import Runtime
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.filters import check_provider
from receiver.web.shapes import Limit, reply

LIST = "events"


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which messages to show: those behind ``cursor``, or without one the ``last`` that there are.

    ``limit`` is how many are looked at.
    """

    provider: str | None = None
    owner: str | None = None
    type: EventType | None = None
    last: Annotated[int, msgspec.Meta(ge=0, le=200)] = 0
    limit: Limit = 50
    cursor: str | None = None


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """Messages as sinks get them, the oldest first, each once however many sinks want it.

    There may be none, and more behind ``next_cursor``; later ones come behind it, too.
    """

    events: list[dict[str, Any]]
    next_cursor: str


async def list_events(runtime: Runtime, _request: Request, query: EventsQuery) -> Response:
    """What was queued since, and where to go on."""
    check_provider(runtime, query.provider)
    wanted = Route(
        sink=LIST,
        providers=_only(query.provider),
        owners=_only(query.owner),
        types=_only(query.type),
    )
    cursor = opened(runtime, LIST, query.cursor)
    page = await runtime.store.list_announced(cursor, wanted, query.limit, last=query.last)
    events = [await _message(runtime, work) for work in page.works]
    return reply(EventList(events=events, next_cursor=sealed(runtime, LIST, page.cursor) or ""))


def _only(value: str | None) -> frozenset[str]:
    """A route wants all where nothing is named."""
    return frozenset() if value is None else frozenset({value})


async def _message(runtime: Runtime, work: OutboxWork) -> dict[str, Any]:
    event = work.event
    links = await runtime.links.links(event.provider, event.task_id, event.assets, work.created_at)
    body = render(work, source=runtime.settings.public_url, links=links).body
    return msgspec.json.decode(body, type=dict[str, Any])


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/events",
        summary="Follow what is told to sinks",
        audience=Audience.ADMIN,
        takes=EventsQuery,
        gives={200: EventList},
        refuses=(400, 401, 403, 503),
        answer=list_events,
    ),
)
