"""Backends look at tasks: a list, and one task with its whole history."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.config.parsers import MOST_KEYS
from receiver.models import (
    AssetState,
    Event,
    EventType,
    Outcome,
    Task,
    TaskFilter,
    TaskReference,
    TaskState,
    Via,
)
from receiver.runtime import Runtime
from receiver.task_waiters import MOST_SECONDS
from receiver.web.auth import bound_owners, listed_owner, may_act_for
from receiver.web.costs import CostShown, cost_shown
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint
from receiver.web.filters import When, check_metadata, check_provider, check_span, unknown_task
from receiver.web.history import AttemptShown, DeliveryShown, NotificationShown
from receiver.web.shapes import Id, Limit, Moment, reply, shape, text_or_none


class TasksQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to list. Times are RFC 3339 and compare with when the task was submitted.

    ``metadata.KEY=VALUE`` is for the keys in RECEIVER_METADATA_INDEX; a value is as JSON writes it, a string
    without quotes.
    """

    provider: str | None = None
    state: TaskState | None = None
    owner: str | None = None
    since: When | None = None
    until: When | None = None
    task_id: Id | None = None
    submission_id: Id | None = None
    event_id: Id | None = None  # or <event id>.<revision>
    delivery_id: Id | None = None
    notification_id: Id | None = None
    metadata: Annotated[dict[str, str], msgspec.Meta(max_length=MOST_KEYS)] = {}
    limit: Limit = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        check_span(self.since, self.until)


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many seconds to wait for the task's end, 60 at most, if it has not ended."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)] = 0


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """One task in a list."""

    provider: str
    task_id: str
    state: TaskState
    owner: str
    model: str | None
    submission_id: str
    submitted_at: Moment
    ended_at: Moment | None
    assets_stored: int
    assets_total: int


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tasks, the newest first.

    It may be short, or empty, and still not be the last: only one without a ``next_cursor`` is.
    """

    tasks: list[TaskRow]
    next_cursor: str | None


class ErrorShown(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task failed: the provider's own words, or an outcome's name."""

    code: str | None
    message: str | None


class AssetShown(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a task; ``url`` is a signed link, set once the file is stored."""

    index: int
    state: AssetState
    kind: str
    outcome: Outcome | None
    attempts: int
    deadline_at: Moment
    settled_at: Moment | None
    url: str | None
    key: str | None
    media_type: str | None
    bytes: int | None
    width: int | None
    height: int | None
    sha256: str | None


class PollShown(msgspec.Struct, frozen=True, kw_only=True):
    """How far asking the provider has come: how often so far, what it last said, when it is asked next.

    ``due_at`` is unset where the provider cannot be asked.
    """

    asked: int
    outcome: Outcome | None
    detail: str | None
    asked_at: Moment | None
    due_at: Moment | None


class LeftOutShown(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a history is not shown. It lies between the first of each kind and the others."""

    deliveries: int
    notifications: int
    attempts: int


class TaskShown(msgspec.Struct, frozen=True, kw_only=True):
    """One task with its history.

    Of deliveries, notifications and attempts it has the first and the newest, 500 of each at most;
    ``left_out`` says how many there are besides, and each kind has a door of its own with all of them.
    """

    provider: str
    task_id: str
    state: TaskState
    waiting_on: str | None
    submission_id: str
    owner: str
    model: str | None
    metadata: dict[str, Any]
    submitted_at: Moment
    bound_at: Moment | None
    received_at: Moment | None
    ended_at: Moment | None
    via: Via | None
    event_id: str | None
    type: EventType | None
    revision: int | None
    error: ErrorShown | None
    cost: CostShown | None
    poll: PollShown | None
    assets: list[AssetShown]
    deliveries: list[DeliveryShown]
    notifications: list[NotificationShown]
    attempts: list[AttemptShown]
    left_out: LeftOutShown


async def list_page(runtime: Runtime, request: Request, query: TasksQuery) -> Response:
    """A page of tasks."""
    check_provider(runtime, query.provider)
    check_metadata(runtime, query.metadata)
    ids = {name: getattr(query, name) for name in TaskReference.__struct_fields__}
    reference = TaskReference(**ids) if any(ids.values()) else None
    wanted = TaskFilter(
        provider=query.provider,
        state=query.state,
        # By an id nobody needs to name the owner, not even with a token of several owners.
        owner=query.owner if reference else listed_owner(request, query.owner),
        owners=bound_owners(request) if reference else (),
        since=query.since,
        until=query.until,
        reference=reference,
        metadata=query.metadata,
    )
    page = await runtime.store.list_tasks(wanted, query.limit, opened(runtime, "tasks", query.cursor))
    rows = [shape(TaskRow, task) for task in page.tasks]
    return reply(TaskList(tasks=rows, next_cursor=sealed(runtime, "tasks", page.next_cursor)))


async def show(runtime: Runtime, request: Request, query: TaskQuery) -> Response:
    """One task with its whole history, at once or when it has ended."""
    task = await _find(runtime, request)
    if query.wait and not _has_ended(task.event):

        async def has_ended() -> bool:
            return _has_ended(await runtime.store.get_event(task.provider, task.task_id))

        of = task.provider, task.task_id
        await runtime.task_waiters.wait(of, request.state.caller, query.wait, has_ended)
        task = await _find(runtime, request)
    assets = task.event.assets if task.event else ()
    links = await runtime.links.links(task.provider, task.task_id, assets, runtime.clock.now())
    return reply(shown(runtime, task, links))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/tasks",
        summary="List tasks, the newest first",
        audience=Audience.BACKEND,
        takes=TasksQuery,
        gives={200: TaskList},
        refuses=(400, 401, 503),
        answer=list_page,
    ),
    Endpoint(
        method="GET",
        path="/tasks/{provider}/{task_id:path}",
        summary="Show one task with its whole history, at once or when it has ended",
        audience=Audience.BACKEND,
        takes=TaskQuery,
        gives={200: TaskShown},
        refuses=(400, 401, 404, 503),
        answer=show,
    ),
)


async def _find(runtime: Runtime, request: Request) -> Task:
    """The task that a path names; another owner's is as unknown as none. Raises Rejected (404)."""
    task = await runtime.store.get_task(request.path_params["provider"], request.path_params["task_id"])
    if task is None or not may_act_for(request, task.submission.owner):
        raise unknown_task(runtime, request.path_params["provider"])
    return task


def _has_ended(event: Event | None) -> bool:
    """Whether the end of every file is known; then consumers are told."""
    return event is not None and event.type is not None


def shown(runtime: Runtime, task: Task, links: Mapping[int, str]) -> TaskShown:
    """A task as it is told, with links to its files, by their index, where any are to be told."""
    submission, event = task.submission, task.event
    assets = event.assets if event else ()
    due_at = task.poll.due_at if task.poll and runtime.status_client.can_ask(task.provider) else None
    return shape(
        TaskShown,
        task,
        submission_id=submission.id,
        owner=submission.owner,
        model=submission.model,
        metadata=dict(submission.metadata),
        submitted_at=text_or_none(submission.created_at),
        bound_at=text_or_none(submission.bound_at),
        received_at=text_or_none(event.received_at) if event else None,
        ended_at=text_or_none(event.ended_at) if event else None,
        via=event.via if event else None,
        event_id=event.id if event else None,
        type=event.type if event else None,
        revision=event.revision if event else None,
        error=_error(event) if event else None,
        cost=cost_shown(task.cost),
        poll=shape(PollShown, task.poll, due_at=text_or_none(due_at)) if task.poll else None,
        assets=[shape(AssetShown, asset, url=links.get(asset.index)) for asset in assets],
        deliveries=[shape(DeliveryShown, delivery) for delivery in task.deliveries],
        notifications=[shape(NotificationShown, entry) for entry in task.notifications],
        attempts=[shape(AttemptShown, attempt) for attempt in task.attempts],
        left_out=shape(LeftOutShown, task.left_out),
    )


def _error(event: Event) -> ErrorShown | None:
    if event.error_code is None and event.error_message is None:
        return None
    return ErrorShown(code=event.error_code, message=event.error_message)
