"""Backends log what they asked providers for: reserve, bind, look up."""

import hashlib
import unicodedata
from typing import Annotated, Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import Act, Actor, Submission, SubmissionFilter, audit_entry
from receiver.payload import task_id as usable_task_id
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.traceparent import read_traceparent
from receiver.urls import callback_url
from receiver.web.auth import Role, actor_of, listed_owner, may_act_for, require_owner
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.filters import When, check_provider, check_span
from receiver.web.shapes import Limit, Moment, TaskId, reply, shape

log = structlog.get_logger()

MAX_METADATA_BYTES = 4096
MAX_REQUEST_BYTES = 65_536
MAX_BODY_BYTES = 4 * MAX_REQUEST_BYTES  # with blanks, and Cyrillic in escapes takes three times as much
MAX_NESTING = 32  # so that whoever renders it later cannot run out of stack

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NewSubmission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backend says when it logs a submission. Without ``task_id`` it reserves one."""

    provider: Name
    owner: Name  # the caller's user or tenant
    model: Name | None = None
    task_id: TaskId | None = None
    request: Any = None  # any JSON value, at most 64 KiB
    metadata: dict[str, Any] = {}  # at most 4 KiB, handed on to consumers
    key: Name | None = None  # the caller's own: the same key again is the same reservation

    def __post_init__(self) -> None:
        if self.key is not None and self.task_id is not None:
            raise ValueError("`key` is for a reservation; what has a `task_id` is known by that")
        _check_printable("owner", self.owner)
        _check_printable("model", self.model)
        _check_task_id(self.task_id)
        _check_size("metadata", self.metadata, MAX_METADATA_BYTES)
        _check_size("request", self.request, MAX_REQUEST_BYTES)


class Binding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which task a reserved submission turned out to be."""

    task_id: TaskId

    def __post_init__(self) -> None:
        _check_task_id(self.task_id)


class SubmissionsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which submissions to list, the newest first. Times are RFC 3339 and compare with ``created_at``."""

    provider: str | None = None
    owner: str | None = None
    bound: bool | None = None  # false: reservations that wait for a task
    since: When | None = None
    until: When | None = None
    limit: Limit = 50
    cursor: str | None = None

    def __post_init__(self) -> None:
        check_span(self.since, self.until)


class SubmissionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One submission in a list."""

    id: str
    provider: str
    owner: str
    task_id: str | None
    model: str | None
    created_at: Moment
    bound_at: Moment | None
    withdrawn_at: Moment | None


class SubmissionShown(SubmissionRow, frozen=True, kw_only=True):
    """One submission with everything that was logged, and the URL its callback may come to."""

    request: Any
    metadata: dict[str, Any]
    callback_url: str
    traceparent: str | None  # of the trace that it belongs to


class SubmissionList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of submissions, the newest first.

    It may be short, or empty, and still not be the last: only one without a ``next_cursor`` is.
    """

    submissions: list[SubmissionRow]
    next_cursor: str | None


async def add(runtime: Runtime, request: Request, new: NewSubmission) -> Response:
    """Log a submission; the same task of the same owner, or the same key, again changes nothing."""
    check_provider(runtime, new.provider)
    require_owner(request, new.owner)
    caller = request.state.caller
    traceparent = read_traceparent(request.headers.getlist("traceparent"))
    if runtime.traces is None:
        row, created = await _log(runtime, new, caller, traceparent)
    else:
        with runtime.traces.submission(new.provider, traceparent) as span:
            row, created = await _log(runtime, new, caller, span.traceparent)
            span.task_id, span.outcome = row.task_id, "logged" if created else "known"
    if created and row.task_id is not None:
        runtime.ingest.wake_for_early(row.provider)
    return reply(_shown(runtime, row), 201 if created else 200)


async def _log(
    runtime: Runtime, new: NewSubmission, caller: str, traceparent: str | None
) -> tuple[Submission, bool]:
    now = runtime.clock.now()
    submission = Submission(
        id=runtime.clock.new_id("sub"),
        provider=new.provider,
        owner=new.owner,
        task_id=new.task_id,
        model=new.model,
        request=new.request,
        metadata=new.metadata,
        created_at=now,
        bound_at=now if new.task_id is not None else None,
        traceparent=traceparent,
        key=None if new.key is None else _key_of(caller, new.key),
    )
    row, created = await runtime.store.log_submission(submission)
    if not created and row.owner != new.owner:
        raise Rejected(ProblemType.TASK_LOGGED, "This task was logged before, for somebody else.")
    return row, created


async def bind(runtime: Runtime, request: Request, binding: Binding) -> Response:
    """Tie a reserved submission to its task; the same task again changes nothing."""
    found = await _find(runtime, request)
    actor = actor_of(request) if request.state.role is Role.ADMIN else None  # to backends it is everyday work
    return reply(_shown(runtime, await bind_task(runtime, found.id, binding.task_id, actor)))


async def bind_task(
    runtime: Runtime, submission_id: str, task_id: str, actor: Actor | None, reason: str = ""
) -> Submission:
    """The same for whoever may do it; noted in the audit where there is an actor. Raises Rejected."""
    now, entry = runtime.clock.now(), None
    if actor is not None:
        entry = audit_entry(Act.SUBMISSION_BOUND, actor, now, target=submission_id, reason=reason)
    row = await runtime.store.bind_submission(submission_id, task_id, now, entry)
    if row.task_id != task_id:
        raise Rejected(ProblemType.ALREADY_BOUND, "This submission is bound to another task.")
    runtime.ingest.wake_for_early(row.provider)
    return row


async def show(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """One submission."""
    return reply(_shown(runtime, await _find(runtime, request)))


async def list_page(runtime: Runtime, request: Request, query: SubmissionsQuery) -> Response:
    """A page of submissions."""
    check_provider(runtime, query.provider)
    wanted = SubmissionFilter(
        provider=query.provider,
        owner=listed_owner(request, query.owner),
        bound=query.bound,
        since=query.since,
        until=query.until,
    )
    page = await runtime.store.list_submissions(
        wanted, query.limit, opened(runtime, "submissions", query.cursor)
    )
    rows = [shape(SubmissionRow, row) for row in page.submissions]
    return reply(
        SubmissionList(submissions=rows, next_cursor=sealed(runtime, "submissions", page.next_cursor))
    )


async def withdraw(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Wait for no task of a reservation any more: its order failed."""
    found = await _find(runtime, request)
    actor = actor_of(request) if request.state.role is Role.ADMIN else None  # to backends it is everyday work
    await withdraw_one(runtime, found.id, actor, request.state.caller)
    return Response(status_code=204)


async def withdraw_one(
    runtime: Runtime, submission_id: str, actor: Actor | None, who: str, reason: str = ""
) -> None:
    """The same for whoever may do it; noted in the audit where there is an actor. Raises Rejected."""
    now, entry = runtime.clock.now(), None
    if actor is not None:
        entry = audit_entry(Act.SUBMISSION_WITHDRAWN, actor, now, target=submission_id, reason=reason)
    row = await runtime.store.withdraw_submission(submission_id, now, entry)
    log.info("submission.withdrawn", submission_id=row.id, provider=row.provider, who=who)


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/submissions",
        summary="Log a submission, or reserve one",
        audience=Audience.BACKEND,
        takes=NewSubmission,
        gives={201: SubmissionShown, 200: SubmissionShown},
        refuses=(400, 401, 408, 409, 413, 415, 422, 503),
        answer=add,
        max_body_bytes=MAX_BODY_BYTES,
        headers={"traceparent": "W3C Trace Context: the trace that goes on with the task's events."},
    ),
    Endpoint(
        method="GET",
        path="/submissions",
        summary="List submissions, the newest first",
        audience=Audience.BACKEND,
        takes=SubmissionsQuery,
        gives={200: SubmissionList},
        refuses=(400, 401, 503),
        answer=list_page,
    ),
    Endpoint(
        method="GET",
        path="/submissions/{id}",
        summary="Show one submission",
        audience=Audience.BACKEND,
        takes=Nothing,
        gives={200: SubmissionShown},
        refuses=(401, 404, 503),
        answer=show,
    ),
    Endpoint(
        method="PATCH",
        path="/submissions/{id}",
        summary="Bind a reserved submission to its task",
        audience=Audience.BACKEND,
        takes=Binding,
        gives={200: SubmissionShown},
        refuses=(400, 401, 404, 408, 409, 413, 415, 503),
        answer=bind,
    ),
    Endpoint(
        method="DELETE",
        path="/submissions/{id}",
        summary="Withdraw a reservation that no task was bound to",
        audience=Audience.BACKEND,
        takes=Nothing,
        gives={204: None},
        refuses=(400, 401, 404, 408, 409, 413, 415, 503),
        answer=withdraw,
    ),
)


async def _find(runtime: Runtime, request: Request) -> Submission:
    """The submission that a path names; another owner's is as unknown as none. Raises Rejected (404)."""
    row = await runtime.store.get_submission(request.path_params["id"])
    if row is None or not may_act_for(request, row.owner):
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    return row


def _shown(runtime: Runtime, row: Submission) -> SubmissionShown:
    token = runtime.tokens.for_submission(row.provider, row.id)
    url = callback_url(runtime.settings.public_url, row.provider, token)
    return shape(SubmissionShown, row, metadata=dict(row.metadata), callback_url=url)


def _key_of(caller: str, key: str) -> str:
    """A caller's key as it is kept: of a fixed length, and another one than any other caller's."""
    return hashlib.sha256(msgspec.json.encode([caller, key])).hexdigest()


def _check_printable(name: str, text: str | None) -> None:
    if any(unicodedata.category(character) == "Cc" for character in text or ""):
        raise ValueError(f"`{name}` holds a control character")


def _check_task_id(text: str | None) -> None:
    """The same rule as for ids in callbacks, or the two could never meet."""
    if text is not None and usable_task_id(text) != text:
        raise ValueError("`task_id` holds a control character")


def _check_size(name: str, value: object, max_bytes: int) -> None:
    # The size first: it is told at once, and bounds all that has to be looked through after it.
    if len(msgspec.json.encode(value)) > max_bytes:
        raise ValueError(f"`{name}` may have at most {max_bytes} bytes of JSON")
    level = [value]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = inner
    if any(isinstance(each, dict | list) for each in level):
        raise ValueError(f"`{name}` is nested more than {MAX_NESTING} levels deep")
