"""The operators' door: is it alive, is it ready, and what do its numbers say."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.challenge import KEY_CHARACTERS, NONCE_CHARACTERS, Challenge, place_of, prove
from receiver.config.bearer import parse_bearer
from receiver.errors import Unavailable
from receiver.health.lines import HealthReport, Line, Severity
from receiver.loops import sink_lane
from receiver.metrics import CONTENT_TYPE
from receiver.models import OutboxState, Stats, poll_lane
from receiver.runtime import Runtime
from receiver.times import in_words
from receiver.web.auth import Role, require
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.shapes import Moment, reply, shape
from receiver.worker import RUNNING, STANDBY

NONE = "none"  # no loop runs in this process, as it was told
ELSEWHERE = "elsewhere: "
WELL = frozenset({"ok", RUNNING, STANDBY, NONE, ELSEWHERE + RUNNING})


class Alive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: str
    proof: str | None = None  # of knowing the token that a challenge is about
    place: str | None = None  # where this end of the connection is, which the proof covers


class Challenged(msgspec.Struct, frozen=True, kw_only=True):
    """A question whether one of our tokens is known here: see ``receiver.challenge``."""

    nonce: Annotated[str, msgspec.Meta(max_length=NONCE_CHARACTERS)] | None = None
    key: Annotated[str, msgspec.Meta(max_length=KEY_CHARACTERS)] | None = None


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Every part by name: ``ok``, ``running``, ``running, but ...``, or what is wrong with it.

    Of several processes on one record, each says how another runs what it does not: ``elsewhere: running``
    and so on. One that only answers requests says ``work``: ``none``.

    What is wrong, a balance or a disk, is for admins, as are the ``lines`` of ``/admin/health.json``;
    everybody else reads ``troubled``, ``stopped`` or ``failing``.
    """

    status: str
    parts: dict[str, str]
    lines: list["LineShown"] | msgspec.UnsetType = msgspec.UNSET


class LineShown(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, by a ``key`` that stays as long as it lasts.

    ``images`` are the files, or tasks of one file at least, that it touches, 10,001 standing for more than
    10,000; null is everything that comes. ``command`` shows more, or mends it.
    """

    key: str
    severity: Severity
    since: Moment | None
    cause: str
    images: int | None
    step: str
    command: str | None


class HealthShown(msgspec.Struct, frozen=True, kw_only=True):
    """All that is wrong at ``as_of``, the most severe first, and of that what touches most images.

    ``status`` is the worst severity of a line, or ``ok``; ``looked_at`` names the rules, ``unknown`` those
    whose facts could not be read in time.
    """

    status: str
    as_of: Moment
    lines: list[LineShown]
    looked_at: list[str]
    unknown: list[str]
    last_delivery_at: Moment | None


async def show_alive(runtime: Runtime, request: Request, asked: Challenged) -> Response:
    """Tell that the process answers; nothing else, or a slow disk would get it restarted.

    A caller that shows that it knows a token of ours gets the proof that we know it, too.
    """
    if not asked.nonce or not asked.key:
        return reply(Alive(status="ok"))
    texts = (*runtime.settings.api_tokens, *runtime.settings.admin_tokens)
    tokens = [parse_bearer(text).token for text in texts]
    place = place_of(request.scope.get("server"))
    proof = prove(tokens, Challenge(nonce=asked.nonce, key=asked.key), place)
    return reply(Alive(status="ok", proof=proof, place=place if proof else None))


async def show_ready(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Whether a commit works, or did a second ago, and the loops run; admins see more of each part."""
    parts = {"store": await runtime.commit_probe.check(), **runtime.worker.status()}
    if not runtime.work:
        parts["work"] = NONE
    others = {name: f"{ELSEWHERE}{state}" for name, state in runtime.elsewhere().items()}
    # A sink that asked us to stop, or a provider that refuses us, takes nothing away from the others.
    is_ready = all(
        state in WELL or state.startswith((f"{RUNNING}, but ", "stopped")) for state in parts.values()
    )
    parts |= others  # whatever they are: this process can answer requests
    status, code = ("ready", 200) if is_ready else ("not ready", 503)
    if request.state.role is not Role.ADMIN:
        shown = {name: in_short(state) for name, state in parts.items()}
        return reply(Readiness(status=status, parts=shown), code)
    parts |= await _with_waiting(runtime, parts)
    report = await runtime.health.look()
    return reply(Readiness(status=status, parts=parts, lines=_lines(report)), code)


async def show_health(runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """What is wrong now, and what to do about it."""
    report = await runtime.health.look()
    return reply(
        shape(
            HealthShown,
            report,
            status=worst(report.lines),
            lines=_lines(report),
            looked_at=list(report.looked_at),
            unknown=list(report.unknown),
        )
    )


def worst(lines: Sequence[Line]) -> str:
    """The worst severity among lines, or ``ok``."""
    return min((line.severity for line in lines), key=lambda severity: severity.rank, default="ok")


async def show_metrics(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Everything that is counted, for Prometheus."""
    if runtime.settings.metrics_private:
        require(request.state.role, Role.ADMIN)
    status_client = runtime.status_client
    troubled = {
        name: status_client.problem(name) is not None
        for name in runtime.providers
        if status_client.can_ask(name)
    }
    sinks_down = {name: runtime.relay.is_down(name) for name in runtime.sinks}
    elsewhere = runtime.elsewhere()
    troubled |= {name: True for name in troubled if elsewhere.get(poll_lane(name), RUNNING) != RUNNING}
    sinks_down |= {name: True for name in sinks_down if elsewhere.get(sink_lane(name), RUNNING) != RUNNING}
    stats, report = await asyncio.gather(_stats(runtime), runtime.health.look())
    counted_at = runtime.stats.counted_at(runtime.clock.now())
    numbers = runtime.metrics.render(stats, counted_at, troubled, sinks_down, report.lines)
    return Response(numbers, headers={"content-type": CONTENT_TYPE})


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/healthz",
        summary="Tell that the process lives",
        audience=Audience.ANYONE,
        takes=Challenged,
        gives={200: Alive},
        refuses=(400,),
        answer=show_alive,
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        summary="Tell whether a commit works and the loops run",
        audience=Audience.ANYONE,
        takes=Nothing,
        gives={200: Readiness, 503: Readiness},
        answer=show_ready,
    ),
    Endpoint(
        method="GET",
        path="/admin/health.json",
        summary="Tell what is wrong now, and what to do about it",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: HealthShown},
        refuses=(401, 403),
        answer=show_health,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        summary="Show the numbers, for Prometheus",
        audience=Audience.SETTING,
        takes=Nothing,
        gives={200: "text/plain"},
        refuses=(401, 403),
        answer=show_metrics,
    ),
)


def _lines(report: HealthReport) -> list[LineShown]:
    return [shape(LineShown, line) for line in report.lines]


async def _stats(runtime: Runtime) -> Stats | None:
    """The store's counts; None while it is away, when the other numbers are wanted all the more."""
    try:
        return await runtime.stats.get()
    except Unavailable:
        return None


async def _with_waiting(runtime: Runtime, parts: Mapping[str, str]) -> dict[str, str]:
    """The sinks that are not well, and what waits for them."""
    troubled = [name for name in runtime.sinks if parts.get(f"sink {name}", RUNNING) not in WELL]
    stats = await _stats(runtime) if troubled else None
    if stats is None:
        return {}
    shown = {}
    for name in troubled:
        shown[f"sink {name}"] = parts[f"sink {name}"]
        if number := stats.outbox.get(name, {}).get(OutboxState.PENDING, 0):
            age = (runtime.clock.now() - stats.oldest_waiting_at[name]).total_seconds()
            shown[f"sink {name}"] += f" ({number:,} waiting, the oldest for {in_words(age)})"
    return shown


def in_short(state: str) -> str:
    """How a part is, for whoever is no admin."""
    if state in WELL:
        return state
    if state.startswith(ELSEWHERE):
        return ELSEWHERE + in_short(state.removeprefix(ELSEWHERE))
    if state.startswith("running, but "):
        return "running, but troubled"
    return "stopped" if state.startswith("stopped") else "failing"
