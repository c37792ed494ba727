"""Backends look at all that happened to one task: its deliveries, notifications and attempts, in pages."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.models import HistoryPage, OutboxState, Outcome, Proof, Verdict, Via
from receiver.runtime import Runtime
from receiver.web.auth import may_act_for
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.filters import unknown_task
from receiver.web.shapes import Limit, Moment, reply, shape

T = TypeVar("T")
Lister = Callable[[str, str, int, str | None], Awaitable[HistoryPage[T] | None]]


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a task's history to list."""

    limit: Limit = 50
    cursor: str | None = None


class DeliveryShown(msgspec.Struct, frozen=True, kw_only=True):
    """One callback or poll answer; ``seen`` counts identical ones."""

    id: str
    via: Via
    proof: Proof
    verdict: Verdict
    provider_state: str | None
    note: str | None
    bytes: int
    seen: int
    received_at: Moment
    last_seen_at: Moment


class NotificationShown(msgspec.Struct, frozen=True, kw_only=True):
    """The task's event on its way to one sink; ``outcome`` and ``detail`` are the last try's."""

    id: str
    sink: str
    state: OutboxState
    revision: int
    replay_id: str | None
    attempts: int
    outcome: Outcome | None
    detail: str | None
    due_at: Moment
    settled_at: Moment | None


class AttemptShown(msgspec.Struct, frozen=True, kw_only=True):
    """Tries at a file or a sink that ended alike, in a row; number, seconds, detail are the last one's."""

    target: str
    number: int
    times: int
    outcome: Outcome
    started_at: Moment
    last_started_at: Moment
    seconds: float
    detail: str | None


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a task's deliveries, the newest first; the last one has no ``next_cursor``."""

    deliveries: list[DeliveryShown]
    next_cursor: str | None


class NotificationList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a task's notifications, the newest first; the last one has no ``next_cursor``."""

    notifications: list[NotificationShown]
    next_cursor: str | None


class AttemptList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the attempts at a task's files and sinks, newest first; the last has no ``next_cursor``."""

    attempts: list[AttemptShown]
    next_cursor: str | None


async def list_deliveries(runtime: Runtime, request: Request, query: HistoryQuery) -> Response:
    """A page of a task's deliveries."""
    page = await _page(runtime, "deliveries", runtime.store.list_deliveries, request, query)
    rows = [shape(DeliveryShown, row) for row in page.rows]
    return reply(DeliveryList(deliveries=rows, next_cursor=page.next_cursor))


async def list_notifications(runtime: Runtime, request: Request, query: HistoryQuery) -> Response:
    """A page of a task's notifications."""
    page = await _page(runtime, "notifications", runtime.store.list_notifications, request, query)
    rows = [shape(NotificationShown, row) for row in page.rows]
    return reply(NotificationList(notifications=rows, next_cursor=page.next_cursor))


async def list_attempts(runtime: Runtime, request: Request, query: HistoryQuery) -> Response:
    """A page of the attempts at a task's files and sinks."""
    page = await _page(runtime, "attempts", runtime.store.list_attempts, request, query)
    rows = [shape(AttemptShown, row) for row in page.rows]
    return reply(AttemptList(attempts=rows, next_cursor=page.next_cursor))


# Not below /tasks/{provider}/{task_id}: an id may hold slashes, and end in any of these words.
ENDPOINTS: tuple[Endpoint[Any], ...] = tuple(
    Endpoint(
        method="GET",
        path=f"/{noun}/{{provider}}/{{task_id:path}}",
        summary=summary,
        audience=Audience.BACKEND,
        takes=HistoryQuery,
        gives={200: gives},
        refuses=(400, 401, 404, 503),
        answer=answer,
    )
    for noun, summary, gives, answer in (
        ("deliveries", "List a task's deliveries, the newest first", DeliveryList, list_deliveries),
        (
            "notifications",
            "List a task's notifications, the newest first",
            NotificationList,
            list_notifications,
        ),
        ("attempts", "List the attempts for a task, the newest first", AttemptList, list_attempts),
    )
)


async def _page(
    runtime: Runtime, noun: str, list_page: Lister[T], request: Request, query: HistoryQuery
) -> HistoryPage[T]:
    name = request.path_params["provider"], request.path_params["task_id"]
    if request.state.owners:  # a token of some owners only
        # First of all: what is wrong with a cursor is said of known tasks only.
        task = await runtime.store.get_task(*name)
        if task is None or not may_act_for(request, task.submission.owner):
            raise unknown_task(runtime, name[0])
    page = await list_page(*name, query.limit, opened(runtime, noun, query.cursor))
    if page is None:
        raise unknown_task(runtime, name[0])
    return msgspec.structs.replace(page, next_cursor=sealed(runtime, noun, page.next_cursor))
