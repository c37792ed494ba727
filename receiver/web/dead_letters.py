"""Admins look at notifications that were given up, and have them sent after all, or to another sink."""

from collections.abc import AsyncIterator, Sequence

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import EventType, OutboxState, Outcome, WorkFilter
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.web.cursors import opened, sealed
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

BATCH = 500  # changed in one transaction, so that callbacks need not wait for a long one
FOUND_AT_ONCE = 20_000

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


class Move(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is undelivered at ``sink``, which is not set any more, is to go to ``to``, which is."""

    sink: str
    to: str
    dry_run: bool = False  # only count it


class Drop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is undelivered at ``sink``, which is not set any more, is to be forgotten."""

    sink: str
    dry_run: bool = False  # only count it


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


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many notifications are due at the other sink, and how many it had already: those are gone.

    Of a dry run, how many wait, and how many dead letters there are.
    """

    moved: int | None = None
    had: int | None = None
    dry_run: bool = False
    waiting: int | None = None
    dead: int | None = None


class Dropped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many notifications are gone; of a dry run, how many wait, and how many dead letters there are."""

    dropped: int | None = None
    dry_run: bool = False
    waiting: int | None = None
    dead: int | None = None


async def list_page(runtime: Runtime, _: Request, query: DeadLettersQuery) -> Response:
    """A page of dead letters."""
    check_provider(runtime, query.provider)
    sink = query.sink
    if sink is not None and sink not in await runtime.store.count_unset_sinks():
        check_sinks(runtime, [sink])
    cursor = opened(runtime, "dead-letters", query.cursor)
    page = await runtime.store.list_dead(work_filter(query), query.sink, query.limit, cursor)
    rows = [shape(DeadLetterRow, letter) for letter in page.dead_letters]
    return reply(
        DeadLetterList(dead_letters=rows, next_cursor=sealed(runtime, "dead-letters", page.next_cursor))
    )


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
    return reply(Requeued(requeued=await requeue_dead(runtime, request.state.caller, wanted, sinks, matched)))


async def requeue_dead(
    runtime: Runtime, who: str, wanted: WorkFilter, sinks: Sequence[str], matched: int
) -> int:
    """Make up to ``matched`` dead letters due again, the oldest first; how many that were."""
    requeued, cursor = 0, None
    try:
        while requeued < matched:  # no more than there were at first, for some may die meanwhile
            limit = min(BATCH, matched - requeued)
            found = await runtime.store.find_dead(wanted, sinks, limit, after=cursor)
            requeued += await runtime.store.revive_dead(found.keys, runtime.clock.now())
            if (cursor := found.cursor) is None:
                break
    finally:  # also where the store gives up in the middle: what is due again is due
        runtime.worker.wake("sink")
        log.info(
            "dead_letters.requeued",
            who=who,
            clauses=clauses(wanted),
            task_ids=len(wanted.task_ids),
            sinks=sinks,
            requeued=requeued,
        )
    return requeued


async def move(runtime: Runtime, request: Request, asked: Move) -> Response:
    """Give what is undelivered at a sink that is not set to another one, or only say how much that is."""
    check_sinks(runtime, [asked.to])
    _check_unset(runtime, asked.sink)
    if asked.dry_run:
        waiting, dead = await _undelivered(runtime, asked.sink)
        return reply(Moved(dry_run=True, waiting=waiting, dead=dead))
    moved = had = 0
    try:
        async for entries in _batches(runtime, asked.sink):
            now = runtime.clock.now()
            step = await runtime.store.move_undelivered(entries, asked.sink, asked.to, now)
            moved, had = moved + step.moved, had + step.had
    finally:  # also where the store gives up in the middle: what is moved is moved
        runtime.worker.wake("sink")
        who = request.state.caller
        log.info("dead_letters.moved", who=who, sink=asked.sink, to=asked.to, moved=moved, had=had)
    return reply(Moved(moved=moved, had=had))


async def drop(runtime: Runtime, request: Request, asked: Drop) -> Response:
    """Forget what is undelivered at a sink that is not set, or only say how much that is."""
    _check_unset(runtime, asked.sink)
    if asked.dry_run:
        waiting, dead = await _undelivered(runtime, asked.sink)
        return reply(Dropped(dry_run=True, waiting=waiting, dead=dead))
    dropped = 0
    try:
        async for entries in _batches(runtime, asked.sink):
            dropped += await runtime.store.drop_undelivered(entries, asked.sink)
    finally:
        log.info("dead_letters.dropped", who=request.state.caller, sink=asked.sink, dropped=dropped)
    return reply(Dropped(dropped=dropped))


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
    Endpoint(
        method="POST",
        path="/dead-letters/move",
        summary="Give what is undelivered at a sink that is not set to another one",
        audience=Audience.ADMIN,
        takes=Move,
        gives={200: Moved},
        refuses=(400, 401, 403, 408, 409, 413, 415, 503),
        answer=move,
    ),
    Endpoint(
        method="POST",
        path="/dead-letters/drop",
        summary="Forget what is undelivered at a sink that is not set",
        audience=Audience.ADMIN,
        takes=Drop,
        gives={200: Dropped},
        refuses=(400, 401, 403, 408, 409, 413, 415, 503),
        answer=drop,
    ),
)


def _check_unset(runtime: Runtime, sink: str) -> None:
    if sink in runtime.sinks:
        raise Rejected(
            ProblemType.SINK_SET,
            "Its notifications are on their way, and its dead letters can be requeued.",
        )


async def _undelivered(runtime: Runtime, sink: str) -> tuple[int, int]:
    """How many notifications wait for a sink, and how many dead letters it has."""
    counts = (await runtime.store.count_unset_sinks()).get(sink, {})
    return counts.get(OutboxState.PENDING, 0), counts.get(OutboxState.DEAD, 0)


async def _batches(runtime: Runtime, sink: str) -> AsyncIterator[list[str]]:
    """What is undelivered at a sink, until nothing is: whoever takes a batch takes it away."""
    while found := await runtime.store.list_undelivered(sink, FOUND_AT_ONCE):
        for start in range(0, len(found), BATCH):
            yield found[start : start + BATCH]
