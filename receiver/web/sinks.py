"""Admins see how each sink takes events, and send one a test event."""

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from receiver.config.parsers import filter_text
from receiver.health.look import sink_state_told
from receiver.loops import sink_lane
from receiver.models import Act, Actor, OutboxState, Outcome, SinkState, Stats, audit_entry
from receiver.problem_types import ProblemType
from receiver.relay import SinkAnswer
from receiver.runtime import Runtime
from receiver.web.auth import actor_of
from receiver.web.endpoints import Audience, Endpoint, Nothing
from receiver.web.problems import UnknownInPath
from receiver.web.shapes import Moment, reply, shape, text_or_none
from receiver.worker import RUNNING

log = structlog.get_logger()


class SinkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One sink as it is set, without its URL, which may hold a password; and how it takes events.

    ``outcome``, ``detail`` and ``ended_at`` are those of the last event that this process sent it since its
    start; where another sends to it and all is not well, ``detail`` is what that says of it.
    """

    name: str
    scheme: str
    filter: str
    state: SinkState
    waiting: int
    oldest_waiting_at: Moment | None
    outcome: Outcome | None
    detail: str | None
    ended_at: Moment | None


class SinkList(msgspec.Struct, frozen=True, kw_only=True):
    """Every sink that is set."""

    sinks: list[SinkRow]


class SinkTested(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a test event; the record knows nothing of it."""

    sink: str
    event_id: str
    outcome: Outcome
    detail: str | None
    seconds: float
    ended_at: Moment


async def list_sinks(runtime: Runtime, _request: Request, _: Nothing) -> Response:
    """All sinks, with what waits for each."""
    return reply(SinkList(sinks=sink_rows(runtime, await runtime.stats.get(anew=True))))


def sink_rows(runtime: Runtime, stats: Stats) -> list[SinkRow]:
    """Every sink that is set, with what these counts say waits for it."""
    relay, elsewhere = runtime.relay, runtime.elsewhere()
    rows = []
    for sink in runtime.settings.sinks:
        last = relay.answers.get(sink.name)
        told = elsewhere.get(sink_lane(sink.name), RUNNING)
        rows.append(
            SinkRow(
                name=sink.name,
                scheme=sink.scheme,
                filter=filter_text(sink.route),
                state=relay.state(sink.name) if told == RUNNING else sink_state_told(told),
                waiting=stats.outbox.get(sink.name, {}).get(OutboxState.PENDING, 0),
                oldest_waiting_at=text_or_none(stats.oldest_waiting_at.get(sink.name)),
                outcome=last.outcome if last else None,
                detail=told if told != RUNNING else last.detail if last else None,
                ended_at=text_or_none(last.ended_at if last else None),
            )
        )
    return rows


async def test(runtime: Runtime, request: Request, _: Nothing) -> Response:
    """Send a test event, and wait for what comes back."""
    name = request.path_params["name"]
    answer = await send_test(runtime, name, actor_of(request))
    return reply(shape(SinkTested, answer, sink=name))


async def send_test(runtime: Runtime, name: str, actor: Actor) -> SinkAnswer:
    """The same for whoever may do it. Raises Rejected (404) for a sink that is not set."""
    check_is_set(runtime, name)
    await runtime.store.note_act(
        audit_entry(Act.SINK_TESTED, actor, runtime.clock.now(), target=f"sink {name}")
    )
    answer = await runtime.relay.test(name)
    log.info(
        "sink.tested",
        who=actor.who,
        sink=name,
        event_id=answer.event_id,
        outcome=answer.outcome.value,
        detail=answer.detail,
    )
    return answer


def check_is_set(runtime: Runtime, name: str) -> None:
    """Raises Rejected (404) for a sink that is not set."""
    if name not in runtime.sinks:
        known = ", ".join(runtime.sinks)
        raise UnknownInPath(ProblemType.UNKNOWN_SINK, f"No sink of this name is set; there are {known}.")


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/sinks",
        summary="List sinks, and how each takes events",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: SinkList},
        refuses=(401, 403, 503),
        answer=list_sinks,
    ),
    Endpoint(
        method="POST",
        path="/sinks/{name}/test",
        summary="Send a sink a test event, and say what came back",
        audience=Audience.ADMIN,
        takes=Nothing,
        gives={200: SinkTested},
        refuses=(401, 403, 404, 408, 413, 415, 503),
        answer=test,
    ),
)
