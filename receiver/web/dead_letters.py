"""Admins look at notifications that were given up, and have them sent after all."""

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.runtime import Runtime
from receiver.web.endpoints import Audience, Endpoint, unless_left
from receiver.web.filters import (
    MAX_BODY_BYTES,
    Filter,
    Sinks,
    check_provider,
    check_sinks,
    clauses,
    work_filter,
)
from receiver.web.shapes import Limit, Moment, reply, shape
from receiver.words import EventType, Outcome

BATCH = 500  # revived in one transaction, so that callbacks need not wait for a long one

log = structlog.get_logger()


class DeadLettersQuery(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to list; ``task_ids`` may be repeated."""

    sink: str | None = None
    limit: Limit = 50
    cursor: str | None = None


class Requeue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to send again. Without ``sinks`` those of every sink that is set."""

    filter: Filter
    sinks: Sinks = ()
    dry_run: bool = False  # only count what matches


class DeadLetterRow(msgspec.Struct, frozen=True, kw_only=True):
    """One notification that was given up; ``outcome`` and ``detail`` are those of its last attempt."""

    id: str
    sink: str
    event_id: str
    provider: str
    task_id: str
    owner: str
    type: EventType
    revision: int
    replay_id: str | None
    attempts: int
    outcome: Outcome
    detail: str | None
    created_at: Moment
    settled_at: Moment


class DeadLetterList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of dead letters, the newest first.

    It may be short, or empty, and still not be the last: only one without a ``next_cursor`` is.
    """

    dead_letters: list[DeadLetterRow]
    next_cursor: str | None


class Requeued(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many are due again; of a dry run, how many would be."""

    requeued: int | None = None
    dry_run: bool = False
    matched: int | None = None


async def list_page(runtime: Runtime, _: Request, query: DeadLettersQuery) -> Response:
    """A page of dead letters."""
    check_provider(runtime, query.provider)
    check_sinks(runtime, [query.sink] if query.sink else [])
    page = await runtime.store.list_dead(work_filter(query), query.sink, query.limit, query.cursor)
    rows = [shape(DeadLetterRow, letter) for letter in page.dead_letters]
    return reply(DeadLetterList(dead_letters=rows, next_cursor=page.next_cursor))


async def requeue(runtime: Runtime, request: Request, asked: Requeue) -> Response:
    """Make dead letters due again, as new ones are, or only say how many there are."""
    check_provider(runtime, asked.filter.provider)
    check_sinks(runtime, asked.sinks)
    wanted = work_filter(asked.filter)
    # Those of a sink that is not set any more stay: nobody would ever send them.
    sinks = asked.sinks or tuple(runtime.sinks)
    matched = await unless_left(request, runtime.store.count_dead(wanted, sinks))
    if asked.dry_run:
        return reply(Requeued(dry_run=True, matched=matched))
    requeued, cursor = 0, None
    try:
        while requeued < matched:  # no more than there were at first, for some may die meanwhile
            now, limit = runtime.clock.now(), min(BATCH, matched - requeued)
            step = await runtime.store.requeue_dead(wanted, sinks, now, limit, after=cursor)
            requeued, cursor = requeued + step.count, step.cursor
            if cursor is None:
                break
    finally:  # also where the store gives up in the middle: what is due again is due
        runtime.worker.wake("sink")
        log.info(
            "dead_letters.requeued",
            who=request.state.caller,
            clauses=clauses(asked.filter),
            task_ids=len(asked.filter.task_ids),
            sinks=asked.sinks,
            requeued=requeued,
        )
    return reply(Requeued(requeued=requeued))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/dead-letters",
        summary="List notifications that were given up, the newest first",
        audience=Audience.ADMIN,
        takes=DeadLettersQuery,
        gives={200: DeadLetterList},
        refuses=(400, 401, 403, 503),
        answer=list_page,
    ),
    Endpoint(
        method="POST",
        path="/dead-letters/requeue",
        summary="Send notifications that were given up after all",
        audience=Audience.ADMIN,
        takes=Requeue,
        gives={200: Requeued},
        refuses=(400, 401, 403, 408, 413, 415, 503),
        answer=requeue,
        max_body_bytes=MAX_BODY_BYTES,
    ),
)
