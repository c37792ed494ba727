"""Plans: what would be done again, counted and pinned to what there was, before anybody does it.

A plan is no row. It says what to send to which door: the filter, the moment behind which everything is left
alone, and an id by which it is done once, however often it is sent.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import Rejected, Unavailable
from receiver.models import Stage, Tally, TaskKey, WorkFilter
from receiver.problem_types import ProblemType
from receiver.replay import check_can_match
from receiver.runtime import Runtime
from receiver.web.endpoints import Audience, Endpoint, unless_left
from receiver.web.filters import (
    MAX_BODY_BYTES,
    TIMES,
    Filter,
    FilterShown,
    Sinks,
    check_provider,
    check_sinks,
    shown_filter,
    work_filter,
)
from receiver.web.shapes import Moment, Rate, reply, shape, text_or_none

LIFE = timedelta(minutes=15)
AHEAD = timedelta(minutes=1)  # that another machine's clock may be
COUNT_SECONDS = 1.5
EXAMPLES = 5

_MADE = re.compile(r"(?:rpl|rqe)_([0-9a-f]{12})[0-9a-f]{20}")


class PlanAct(StrEnum):
    """What can be planned: the stages of a replay, and to send dead letters after all."""

    NOTIFY = "notify"
    FETCH = "fetch"
    REPROCESS = "reprocess"
    POLL = "poll"
    REQUEUE = "requeue"

    @property
    def stage(self) -> Stage | None:
        return None if self is PlanAct.REQUEUE else Stage(self.value)

    @property
    def prefix(self) -> str:
        """How the ids of it begin."""
        return "rqe" if self is PlanAct.REQUEUE else "rpl"


class NewPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be planned. ``sinks`` and ``rate`` are as for ``POST /replays``."""

    act: PlanAct
    filter: Filter
    sinks: Sinks = ()
    rate: Rate | None = None

    def __post_init__(self) -> None:
        if self.sinks and self.act not in {PlanAct.NOTIFY, PlanAct.REQUEUE}:
            raise ValueError("`sinks` can only be named with the acts notify and requeue")
        if self.rate is not None and self.act is PlanAct.REQUEUE:
            raise ValueError("`rate` can not be named with the act requeue: sinks take what they can")
        if stage := self.act.stage:
            check_can_match(stage, self.filter.state, self.filter.type)


class Example(msgspec.Struct, frozen=True, kw_only=True):
    provider: str
    task_id: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, and where, for a plan to be done: once, however often it is sent."""

    method: str
    path: str
    body: Mapping[str, Any]


class PlanShown(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done now. Of ``count`` there are so many at least where it is not ``is_exact``.

    ``by`` counts them by provider, state and sink; a sink whose filter names owners may want some of them,
    which is null. ``expected_seconds`` is null where it is as fast as others take them.
    """

    id: str
    act: PlanAct
    filter: FilterShown
    sinks: tuple[str, ...]
    rate: float | None
    up_to: Moment
    expires_at: Moment
    count: int
    is_exact: bool
    by: Mapping[str, Mapping[str, int | None]]
    down: tuple[str, ...]  # sinks that take nothing now
    examples: list[Example]
    expected_seconds: float | None
    command: str
    then: Step


async def make(runtime: Runtime, request: Request, asked: NewPlan) -> Response:
    """Plan something; nothing is done, and nothing is kept."""
    check_provider(runtime, asked.filter.provider)
    check_sinks(runtime, asked.sinks)
    return reply(await unless_left(request, _plan(runtime, asked)))


async def _plan(runtime: Runtime, asked: NewPlan) -> PlanShown:
    act, wanted, sinks = asked.act, work_filter(asked.filter), tuple(dict.fromkeys(asked.sinks))
    up_to = runtime.clock.now()
    tally = await count(runtime, act, wanted, sinks, up_to)
    told = addressed(runtime, act, sinks)
    return PlanShown(
        id=(id_ := runtime.clock.new_id(act.prefix)),
        act=act,
        filter=shown_filter(wanted),
        sinks=told,
        rate=asked.rate,
        up_to=text_or_none(up_to) or "",
        expires_at=text_or_none(up_to + LIFE) or "",
        count=tally.count,
        is_exact=tally.is_whole,
        by=parts(runtime, act, tally, wanted, sinks),
        down=tuple(name for name in told if runtime.relay.is_down(name)),
        examples=await _examples_shown(runtime, act, wanted, sinks, up_to),
        expected_seconds=expected_seconds(runtime, act, tally, asked.rate),
        command=command(act, wanted, sinks, asked.rate),
        then=step(act, id_, wanted, sinks, asked.rate, up_to),
    )


async def _examples_shown(
    runtime: Runtime, act: PlanAct, wanted: WorkFilter, sinks: Sequence[str], up_to: datetime
) -> list[Example]:
    try:
        found = await examples(runtime, act, wanted, sinks, up_to)
    except Unavailable:  # they took too long, and are no more than examples
        return []
    return [shape(Example, each) for each in found]


async def count(
    runtime: Runtime, act: PlanAct, wanted: WorkFilter, sinks: Sequence[str], up_to: datetime
) -> Tally:
    """How much it is about, as far as that can be counted in the time that a person waits."""
    if act.stage is None:
        sinks = addressed(runtime, act, sinks)
        return await runtime.store.tally_dead(wanted, sinks, up_to, COUNT_SECONDS)
    return await runtime.store.tally_matches(act.stage, wanted, up_to, COUNT_SECONDS)


async def examples(
    runtime: Runtime, act: PlanAct, wanted: WorkFilter, sinks: Sequence[str], up_to: datetime
) -> list[TaskKey]:
    """Some of the tasks that it is about."""
    pages = runtime.store.pages
    if act.stage is None:
        return await pages.list_dead_examples(wanted, addressed(runtime, act, sinks), up_to, EXAMPLES)
    return await pages.list_examples(act.stage, wanted, up_to, EXAMPLES)


def addressed(runtime: Runtime, act: PlanAct, sinks: Sequence[str]) -> tuple[str, ...]:
    """The sinks that may be sent something."""
    if act not in {PlanAct.NOTIFY, PlanAct.REQUEUE}:
        return ()
    return tuple(sinks) or tuple(runtime.sinks)


def parts(
    runtime: Runtime, act: PlanAct, tally: Tally, wanted: WorkFilter, sinks: Sequence[str]
) -> dict[str, dict[str, int | None]]:
    """A tally by provider, by state and by sink."""
    by: dict[str, dict[str, int | None]] = {
        "provider": dict(_sums((each.provider, each.count) for each in tally.parts)),
        "state": dict(_sums((each.state or "none", each.count) for each in tally.parts)),
    }
    if act is PlanAct.REQUEUE:
        by["sink"] = dict(_sums((each.sink or "", each.count) for each in tally.parts))
    if act is PlanAct.NOTIFY:
        by["sink"] = {name: _told(runtime, name, tally, wanted, sinks) for name in sinks or runtime.sinks}
    return by


def _sums(counted: Iterable[tuple[str, int]]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for name, number in counted:
        sums[name] += number
    return sums


def _told(runtime: Runtime, sink: str, tally: Tally, wanted: WorkFilter, sinks: Sequence[str]) -> int | None:
    """How many events a sink would get; None where that depends on whose they are."""
    route = next(each.route for each in runtime.settings.sinks if each.name == sink)
    if sink in sinks:  # who is named gets them all
        return tally.count
    if route.owners and wanted.owner is None:
        return None
    owner = wanted.owner or ""
    return sum(each.count for each in tally.parts if route.wants(each.provider, f"task.{each.state}", owner))


def expected_seconds(runtime: Runtime, act: PlanAct, tally: Tally, rate: float | None) -> float | None:
    """How long it would take where something of ours sets the pace: its rate, or how often we may ask."""
    seconds = [tally.count / rate] if rate else []
    if act is PlanAct.POLL:
        asked = _sums((each.provider, each.count) for each in tally.parts)
        accesses, providers = runtime.settings.providers, runtime.providers
        seconds += [
            60 * number / accesses[name].per_minute(providers[name].facts) for name, number in asked.items()
        ]
    return round(max(seconds), 1) if seconds else None


def command(act: PlanAct, wanted: WorkFilter, sinks: Sequence[str], rate: float | None) -> str:
    """The same at a terminal, without single tasks, of which there may be many."""
    words = ["receiver dead requeue"] if act.stage is None else [f"receiver replay --stage {act}"]
    named = {
        "provider": wanted.provider,
        "owner": wanted.owner,
        "state": wanted.state,
        "type": wanted.type,
        **{name.replace("_", "-"): text_or_none(getattr(wanted, name)) for name in TIMES},
    }
    words += [f"--{name} {shlex.quote(value)}" for name, value in named.items() if value]
    words += [f"--sink {sink}" for sink in sinks]
    return " ".join(words + ([f"--rate {rate:g}"] if rate else []))


def step(
    act: PlanAct, id_: str, wanted: WorkFilter, sinks: Sequence[str], rate: float | None, up_to: datetime
) -> Step:
    """What does a plan."""
    body: dict[str, Any] = {"id": id_, "up_to": text_or_none(up_to), "filter": shown_filter(wanted)}
    body |= {"sinks": list(sinks)} if sinks else {}
    if act.stage is None:
        return Step(method="POST", path="/dead-letters/requeue", body=body)
    body |= {"stage": act.value} | ({"rate": rate} if rate else {})
    return Step(method="POST", path="/replays", body=body)


def check_time(id_: str, up_to: datetime | None, now: datetime) -> None:
    """Raises Rejected (409) for what was planned too long ago, or is to be about what is to come."""
    made = _MADE.fullmatch(id_)
    # In seconds: an id that somebody made up may lie behind the end of the calendar.
    age = now.timestamp() - int(made[1], 16) / 1000 if made else 0
    if not -AHEAD.total_seconds() <= age <= LIFE.total_seconds():
        raise Rejected(
            ProblemType.PLAN_OVER, "A plan is good for 15 minutes, and its id is as old. Plan it anew."
        )
    if up_to is not None and up_to > now + AHEAD:
        raise Rejected(ProblemType.PLAN_OVER, "`up_to` is still to come.")


ENDPOINTS = (
    Endpoint(
        method="POST",
        path="/plans",
        summary="Plan a replay or a requeue: count it and pin it, and do nothing",
        audience=Audience.ADMIN,
        takes=NewPlan,
        gives={200: PlanShown},
        refuses=(400, 401, 403, 408, 413, 415, 503),
        answer=make,
        max_body_bytes=MAX_BODY_BYTES,
    ),
)
