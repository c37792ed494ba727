"""Admins look at notifications that were given up, and have them sent after all, or to another sink."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver import models
from receiver.errors import Rejected
from receiver.models import Act, Actor, AuditRow, EventType, OutboxState, Outcome, WorkFilter, audit_entry
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.times import from_text, to_text
from receiver.web.auth import actor_of
from receiver.web.cursors import opened, sealed
from receiver.web.endpoints import Audience, Endpoint, unless_left
from receiver.web.filters import (
    MAX_BODY_BYTES,
    Filter,
    Sinks,
    When,
    check_provider,
    check_sinks,
    check_span,
    clauses,
    filter_shown,
    work_filter,
)
from receiver.web.plans import check_time
from receiver.web.shapes import Limit, Moment, Reason, RequeueId, reply, shape, text_or_none

BATCH = 500  # changed in one transaction, so that callbacks need not wait for a long one
FOUND_AT_ONCE = 20_000

# What the audit has of an act that is many writes, until its end and then.
BEGUN, DONE = "begun", "done"

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
    id: RequeueId | None = None  # of what is to be done once, however often this is sent
    up_to: When | None = None  # what died later is left alone; without it, what dies after now
    reason: Reason = ""  # for the audit

    def __post_init__(self) -> None:
        check_span(None, self.up_to)


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
    """How many are due again; of a dry run, how many would be. Where the id was there, how many had been."""

    id: str | None = None
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
    wanted, now = work_filter(asked.filter), runtime.clock.now()
    # Those of a sink that is not set any more stay: nobody would ever send them.
    sinks = asked.sinks or tuple(runtime.sinks)
    if asked.id is None or await runtime.store.get_act(asked.id) is None:
        check_time(asked.id or "", asked.up_to, now)
    matched = await unless_left(request, runtime.store.count_dead(wanted, sinks, asked.up_to))
    if asked.dry_run:
        return reply(Requeued(dry_run=True, matched=matched))
    task = Requeuing(
        id=asked.id or runtime.clock.new_id("rqe"), filter=wanted, sinks=sinks, up_to=asked.up_to or now
    )
    requeued = await requeue_dead(runtime, actor_of(request), task, matched, reason=asked.reason)
    return reply(Requeued(id=task.id, requeued=requeued))


class DeadOf(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters of one sink that had died by ``up_to``."""

    sink: str
    filter: WorkFilter
    up_to: datetime


class Requeuing(msgspec.Struct, frozen=True, kw_only=True):
    """Dead letters that are to be sent after all, once: those that had died by ``up_to``."""

    id: str
    filter: WorkFilter
    sinks: tuple[str, ...]
    up_to: datetime


async def requeue_dead(
    runtime: Runtime, actor: Actor, task: Requeuing, matched: int, *, reason: str = ""
) -> int:
    """Make dead letters due again, the oldest first; how many that were, and where it was done, had been.

    What a crash has interrupted goes on. Raises Rejected (422) where its id is of something else.
    """
    about = filter_shown(task.filter) | {"sinks": list(task.sinks)}
    up_to = {"up_to": text_or_none(task.up_to)}
    entry = await _begin(
        runtime, Act.DEAD_REQUEUED, actor, about | up_to, planned=matched, reason=reason, key=task.id
    )
    found = dict(entry.filter or {})
    died_by = from_text(str(found.pop("up_to", to_text(task.up_to))))
    if entry.act is not Act.DEAD_REQUEUED or found != about:
        raise Rejected(ProblemType.KEY_REUSED, "This id is of something else. Give each its own.")
    if entry.result == DONE:
        return entry.done or 0
    requeued, cursor = 0, None
    try:
        while True:
            batch = await runtime.store.find_dead(
                task.filter, task.sinks, BATCH, after=cursor, died_by=died_by
            )
            requeued += await runtime.store.revive_dead(
                batch.keys, runtime.clock.now(), task.id, died_by=died_by
            )
            if (cursor := batch.cursor) is None:
                break
    finally:  # also where the store gives up in the middle: what is due again is due
        runtime.worker.wake("sink")
        log.info(
            "dead_letters.requeued",
            who=actor.who,
            clauses=clauses(task.filter),
            task_ids=len(task.filter.task_ids),
            sinks=task.sinks,
            requeued=requeued,
        )
    ended = await runtime.store.end_act(task.id, DONE)
    return ended.done or 0 if ended else requeued


async def move(runtime: Runtime, request: Request, asked: Move) -> Response:
    """Give what is undelivered at a sink that is not set to another one, or only say how much that is."""
    check_sinks(runtime, [asked.to])
    check_unset(runtime, asked.sink)
    if asked.dry_run:
        waiting, dead = await count_undelivered(runtime, asked.sink)
        return reply(Moved(dry_run=True, waiting=waiting, dead=dead))
    return reply(await move_unset(runtime, actor_of(request), asked.sink, asked.to))


async def move_unset(
    runtime: Runtime,
    actor: Actor,
    sink: str,
    to: str,
    planned: int | None = None,
    reason: str = "",
) -> Moved:
    """Give all that is undelivered at a sink that is not set to one that is."""
    store, now = runtime.store, runtime.clock.now
    about = {"sink": sink, "to": to}
    act = await _key_of(runtime, Act.DEAD_MOVED, actor, about, planned, reason)

    async def steps() -> AsyncIterator[models.Moved]:
        async for entries in _batches(runtime, sink):
            yield await store.move_undelivered(entries, sink, to, now(), act)

    return await _move(runtime, actor, sink, to, act, steps())


async def move_dead(
    runtime: Runtime, actor: Actor, dead: DeadOf, to: str, matched: int, *, reason: str = ""
) -> Moved:
    """Give up to ``matched`` dead letters of a sink to another one, the oldest first."""
    store, now = runtime.store, runtime.clock.now
    about = filter_shown(dead.filter) | {"sink": dead.sink, "to": to, "up_to": text_or_none(dead.up_to)}
    act = await _key_of(runtime, Act.DEAD_MOVED, actor, about, matched, reason)

    async def steps() -> AsyncIterator[models.Moved]:
        async for keys in _found(runtime, dead, matched):
            yield await store.move_dead(keys, to, now(), act)

    return await _move(runtime, actor, dead.sink, to, act, steps())


async def _move(
    runtime: Runtime, actor: Actor, sink: str, to: str, act: str, steps: AsyncIterator[models.Moved]
) -> Moved:
    moved = had = 0
    try:
        async for step in steps:
            moved, had = moved + step.moved, had + step.had
    finally:  # also where the store gives up in the middle: what is moved is moved
        runtime.worker.wake("sink")
        log.info("dead_letters.moved", who=actor.who, sink=sink, to=to, moved=moved, had=had)
    await runtime.store.end_act(act, DONE)
    return Moved(moved=moved, had=had)


async def drop(runtime: Runtime, request: Request, asked: Drop) -> Response:
    """Forget what is undelivered at a sink that is not set, or only say how much that is."""
    check_unset(runtime, asked.sink)
    if asked.dry_run:
        waiting, dead = await count_undelivered(runtime, asked.sink)
        return reply(Dropped(dry_run=True, waiting=waiting, dead=dead))
    return reply(Dropped(dropped=await drop_unset(runtime, actor_of(request), asked.sink)))


async def drop_unset(
    runtime: Runtime, actor: Actor, sink: str, planned: int | None = None, reason: str = ""
) -> int:
    """Forget all that is undelivered at a sink that is not set; how many that was."""
    act = await _key_of(runtime, Act.DEAD_DROPPED, actor, {"sink": sink}, planned, reason)

    async def steps() -> AsyncIterator[int]:
        async for entries in _batches(runtime, sink):
            yield await runtime.store.drop_undelivered(entries, sink, act)

    return await _drop(runtime, actor, sink, act, steps())


async def drop_dead(runtime: Runtime, actor: Actor, dead: DeadOf, matched: int, *, reason: str = "") -> int:
    """Forget up to ``matched`` dead letters of a sink, the oldest first; how many that was."""
    about = filter_shown(dead.filter) | {"sink": dead.sink, "up_to": text_or_none(dead.up_to)}
    act = await _key_of(runtime, Act.DEAD_DROPPED, actor, about, matched, reason)

    async def steps() -> AsyncIterator[int]:
        async for keys in _found(runtime, dead, matched):
            yield await runtime.store.drop_dead(keys, act)

    return await _drop(runtime, actor, dead.sink, act, steps())


async def _drop(runtime: Runtime, actor: Actor, sink: str, act: str, steps: AsyncIterator[int]) -> int:
    dropped = 0
    try:
        async for step in steps:
            dropped += step
    finally:
        log.info("dead_letters.dropped", who=actor.who, sink=sink, dropped=dropped)
    await runtime.store.end_act(act, DONE)
    return dropped


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
        refuses=(400, 401, 403, 408, 409, 413, 415, 422, 503),
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


async def _key_of(
    runtime: Runtime, act: Act, actor: Actor, about: Mapping[str, Any], planned: int | None, reason: str
) -> str:
    """Note that an act begins; the key by which its writes count."""
    return (await _begin(runtime, act, actor, about, planned=planned, reason=reason)).target or ""


async def _begin(
    runtime: Runtime,
    act: Act,
    actor: Actor,
    about: Mapping[str, Any],
    *,
    planned: int | None = None,
    reason: str = "",
    key: str | None = None,
) -> AuditRow:
    """Note that an act of many writes begins, which count in its entry by its key; or find that it has."""
    key = key or runtime.clock.new_id("act")
    entry = audit_entry(
        act,
        actor,
        runtime.clock.now(),
        reason=reason,
        target=key,
        filter=about,
        planned=planned,
        done=0,
        result=BEGUN,
        key=key,
    )
    await runtime.store.note_act(entry)
    found = await runtime.store.get_act(key)
    assert found is not None, "entries are never deleted"  # noqa: S101
    return found


def check_unset(runtime: Runtime, sink: str) -> None:
    """Raises Rejected (409) for a sink that is set."""
    if sink in runtime.sinks:
        raise Rejected(
            ProblemType.SINK_SET,
            "Its notifications are on their way, and its dead letters can be requeued.",
        )


async def _found(runtime: Runtime, dead: DeadOf, matched: int) -> AsyncIterator[Sequence[str]]:
    """The keys of up to ``matched`` dead letters, the oldest first, in batches."""
    found_so_far, cursor = 0, None
    while found_so_far < matched:
        limit = min(BATCH, matched - found_so_far)
        found = await runtime.store.find_dead(
            dead.filter, [dead.sink], limit, after=cursor, died_by=dead.up_to
        )
        yield found.keys
        found_so_far += len(found.keys)
        if (cursor := found.cursor) is None:
            return


async def count_undelivered(runtime: Runtime, sink: str) -> tuple[int, int]:
    """How many notifications wait for a sink, and how many dead letters it has."""
    counts = (await runtime.store.count_unset_sinks()).get(sink, {})
    return counts.get(OutboxState.PENDING, 0), counts.get(OutboxState.DEAD, 0)


async def _batches(runtime: Runtime, sink: str) -> AsyncIterator[list[str]]:
    """What is undelivered at a sink, until nothing is: whoever takes a batch takes it away."""
    while found := await runtime.store.list_undelivered(sink, FOUND_AT_ONCE):
        for start in range(0, len(found), BATCH):
            yield found[start : start + BATCH]
