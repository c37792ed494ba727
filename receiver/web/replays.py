"""Admins do a stage again for what a filter matches: start a replay, look at it, pause, resume, cancel it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import (
    Act,
    Actor,
    AuditEntry,
    Replay,
    ReplayState,
    Stage,
    audit_entry,
    new_replay,
)
from receiver.problem_types import ProblemType
from receiver.replay import check_can_match
from receiver.runtime import Runtime
from receiver.times import from_text, to_text
from receiver.web.auth import actor_of
from receiver.web.endpoints import Audience, Endpoint, Nothing, unless_left
from receiver.web.filters import (
    MAX_BODY_BYTES,
    Filter,
    FilterShown,
    Sinks,
    When,
    check_provider,
    check_sinks,
    check_span,
    clauses,
    filter_shown,
    in_words,
    shown_filter,
    work_filter,
)
from receiver.web.plans import check_time
from receiver.web.shapes import Limit, Moment, Rate, Reason, ReplayId, reply, shape

log = structlog.get_logger()


# What an act makes of a replay.
CHANGES = {
    Act.REPLAY_PAUSED: ReplayState.PAUSED,
    Act.REPLAY_RESUMED: ReplayState.RUNNING,
    Act.REPLAY_CANCELLED: ReplayState.CANCELLED,
}


class NewReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do again, and for which work. Without ``sinks`` each event goes to those that want it."""

    filter: Filter
    stage: Stage
    sinks: Sinks = ()  # with notify only
    rate: Rate | None = None  # matches a second
    dry_run: bool = False  # only count what matches
    id: ReplayId | None = None  # of what is to be begun once, however often this is sent
    up_to: When | None = None  # what came later is left alone; without it, what comes after now
    reason: Reason = ""  # for the audit

    def __post_init__(self) -> None:
        if self.sinks and self.stage is not Stage.NOTIFY:
            raise ValueError("`sinks` can only be named with the stage notify")
        check_can_match(self.stage, self.filter.state, self.filter.type)
        check_span(None, self.up_to)


class ReplaysQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many replays to list, the newest first."""

    limit: Limit = 50


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay would do now; ``sinks`` are those that may be sent something."""

    dry_run: bool
    matched: int
    stage: Stage
    filter: FilterShown
    sinks: tuple[str, ...]
    rate: float | None


class ReplayShown(msgspec.Struct, frozen=True, kw_only=True):
    """One replay: what was asked for, by whom, and how far it is.

    Of ``matched`` pieces it has ``looked_at`` so many; that ``queued`` notifications, files or polls, of
    which so many have ``settled``, counted by their outcome in ``results``.
    """

    id: str
    stage: Stage
    filter: FilterShown
    sinks: tuple[str, ...]
    rate: float | None
    state: ReplayState
    requested_by: str
    created_at: Moment
    finished_at: Moment | None
    matched: int
    looked_at: int
    queued: int
    settled: int
    results: Mapping[str, int]


class ReplayList(msgspec.Struct, frozen=True, kw_only=True):
    replays: list[ReplayShown]


async def start(runtime: Runtime, request: Request, asked: NewReplay) -> Response:
    """Start a replay, or only say what it would match."""
    check_provider(runtime, asked.filter.provider)
    check_sinks(runtime, asked.sinks)
    if asked.dry_run:
        return reply(await unless_left(request, _plan(runtime, asked)))
    replay = _replay(runtime, request, asked)
    known = await runtime.store.get_replay(asked.id) if asked.id else None
    if known is None:
        check_time(replay.id, asked.up_to, runtime.clock.now())
        known = await begin(runtime, replay, actor_of(request), asked.reason)
    _check_same(replay, known, up_to=asked.up_to)
    return reply(_shown(known), 202)


def _check_same(asked: Replay, known: Replay, *, up_to: datetime | None) -> None:
    """Raises Rejected (422) where a replay that is there already is about something else."""
    names = ("stage", "filter", "sinks", "rate", *(["created_at"] if up_to else []))
    if any(getattr(asked, name) != getattr(known, name) for name in names):
        raise Rejected(
            ProblemType.KEY_REUSED,
            "A replay with this id is there, and is about something else. Give each one an id of its own.",
        )


async def begin(runtime: Runtime, replay: Replay, actor: Actor, reason: str = "") -> Replay:
    """Count what a new replay matches, and start it; or the one that has its id."""
    matched = await runtime.store.count_matches(replay.stage, replay.filter, replay.created_at)
    replay = msgspec.structs.replace(replay, matched=matched)
    found = await runtime.store.start_replay(replay, _started(runtime, replay, actor, reason))
    if found is not replay:  # somebody was first
        return found
    runtime.worker.wake("replay")
    log.info(
        "replay.requested",
        who=replay.requested_by,
        replay_id=replay.id,
        stage=replay.stage,
        clauses=clauses(replay.filter),
        task_ids=len(replay.filter.task_ids),
        sinks=replay.sinks,
        rate=replay.rate,
        matched=replay.matched,
    )
    return replay


async def list_newest(runtime: Runtime, _: Request, query: ReplaysQuery) -> Response:
    """The newest replays."""
    replays = await runtime.store.list_replays(query.limit)
    return reply(ReplayList(replays=[_shown(replay) for replay in replays]))


async def show(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """One replay."""
    replay = await runtime.store.get_replay(request.path_params["id"])
    if replay is None:
        raise Rejected(ProblemType.UNKNOWN_REPLAY, "No replay has this id.")
    return reply(_shown(replay))


async def pause(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Queue no more until it is resumed; what is queued goes on."""
    return await _change(runtime, request, Act.REPLAY_PAUSED)


async def resume(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Go on where it was paused."""
    return await _change(runtime, request, Act.REPLAY_RESUMED)


async def cancel(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """End it for good, and take back what it queued and nobody has begun."""
    return await _change(runtime, request, Act.REPLAY_CANCELLED)


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        method="POST",
        path="/replays",
        summary="Do a stage again for everything that a filter matches",
        audience=Audience.ADMIN,
        takes=NewReplay,
        gives={202: ReplayShown, 200: ReplayPlan},
        refuses=(400, 401, 403, 408, 409, 413, 415, 422, 503),
        answer=start,
        max_body_bytes=MAX_BODY_BYTES,
    ),
    Endpoint(
        method="GET",
        path="/replays",
        summary="List the newest replays",
        audience=Audience.ADMIN,
        takes=ReplaysQuery,
        gives={200: ReplayList},
        refuses=(400, 401, 403, 503),
        answer=list_newest,
    ),
    Endpoint(
        method="GET",
        path="/replays/{id}",
        summary="Show how far one replay is",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: ReplayShown},
        refuses=(401, 403, 404, 503),
        answer=show,
    ),
    *(
        Endpoint(
            method="POST",
            path=f"/replays/{{id}}/{answer.__name__}",
            summary=summary,
            audience=Audience.ADMIN,
            takes=Nothing,
            gives={200: ReplayShown},
            refuses=(400, 401, 403, 404, 408, 409, 413, 415, 503),
            answer=answer,
        )
        for answer, summary in (
            (pause, "Pause a running replay"),
            (resume, "Let a paused replay go on"),
            (cancel, "End a replay, and take back what it queued"),
        )
    ),
)


async def _plan(runtime: Runtime, asked: NewReplay) -> ReplayPlan:
    wanted = work_filter(asked.filter)
    every = tuple(runtime.sinks) if asked.stage is Stage.NOTIFY else ()
    return ReplayPlan(
        dry_run=True,
        matched=await runtime.store.count_matches(asked.stage, wanted, runtime.clock.now()),
        stage=asked.stage,
        filter=shown_filter(wanted),
        sinks=asked.sinks or every,
        rate=asked.rate,
    )


def _replay(runtime: Runtime, request: Request, asked: NewReplay) -> Replay:
    """As it is before its first step; the store counts what it matches."""
    return new_replay(
        id=asked.id or runtime.clock.new_id("rpl"),
        stage=asked.stage,
        filter=work_filter(asked.filter),
        sinks=tuple(dict.fromkeys(asked.sinks)),
        rate=asked.rate,
        requested_by=request.state.caller,
        created_at=_to_the_millisecond(asked.up_to or runtime.clock.now()),
    )


def _started(runtime: Runtime, replay: Replay, actor: Actor, reason: str) -> AuditEntry:
    about = filter_shown(replay.filter) | {"stage": replay.stage.value}
    return audit_entry(
        Act.REPLAY_STARTED,
        actor,
        runtime.clock.now(),
        reason=reason,
        target=replay.id,
        filter=about | ({"sinks": list(replay.sinks)} if replay.sinks else {}),
        planned=replay.matched,
        key=replay.id,
    )


def _to_the_millisecond(moment: datetime) -> datetime:
    """As the record keeps it, so that both can be compared."""
    return from_text(to_text(moment))


async def _change(runtime: Runtime, request: Request, act: Act) -> Response:
    return reply(_shown(await change(runtime, actor_of(request), request.path_params["id"], act)))


async def change(runtime: Runtime, actor: Actor, replay_id: str, act: Act, reason: str = "") -> Replay:
    """Pause, resume or cancel a replay. Raises Rejected."""
    now = runtime.clock.now()
    entry = audit_entry(act, actor, now, target=replay_id, reason=reason)
    replay = await runtime.store.change_replay(replay_id, CHANGES[act], now, entry)
    runtime.worker.wake("replay")
    log.info(act.value, who=actor.who, replay_id=replay.id, stage=replay.stage, state=replay.state)
    return replay


def _shown(replay: Replay) -> ReplayShown:
    return shape(ReplayShown, replay, filter=shown_filter(replay.filter))


def clauses_in_words(replay: Replay) -> str:
    """What a replay is about, as it would be typed: ``state=failed since=2026-11-29T14:00:00.000Z``."""
    return in_words(filter_shown(replay.filter)) or "everything"
