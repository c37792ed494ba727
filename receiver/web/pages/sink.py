"""One sink: how it takes events, what waits for it and why, and a test event."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from receiver.config.disclosure import disclose
from receiver.config.fields import SINK_FIELDS
from receiver.config.parsers import filter_text
from receiver.envelope import render_test
from receiver.health.remedies import remedy
from receiver.models import NOT_SET, OutboxState, SinkState, Stats
from receiver.relay import SinkAnswer
from receiver.web.pages.charts import read_charts
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.sinks import check_is_set, send_test

MOST_COUNTED = 10_000
TEST_PAUSE_SECONDS = 10.0
PLOTS = ("notifications", "sent_seconds", "waiting_events", "dead_letters")


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink has not got: counts, and what the last tries came to; None where that is not known now."""

    waiting: int = 0
    dead: int = 0
    oldest_at: datetime | None = None
    waiting_outcomes: dict[str, int] | None = None
    dead_outcomes: dict[str, int] | None = None


async def show(visit: Visit) -> Response:
    """How it is now."""
    return await _show(visit)


async def test(visit: Visit) -> Response:
    """Send it a test event, and show what came back."""
    name = visit.request.path_params["name"]
    check_is_set(visit.runtime, name)
    visit.pauses.begin(f"test {name}", TEST_PAUSE_SECONDS)
    return await _show(visit, await send_test(visit.runtime, name, visit.actor))


async def _show(visit: Visit, tested: SinkAnswer | None = None) -> Response:
    runtime, name = visit.runtime, visit.request.path_params["name"]
    stats = await visit.known(runtime.stats.get())
    sink = next((sink for sink in runtime.settings.sinks if sink.name == name), None)
    if sink is None:
        return await _show_unset(visit, name, stats)
    seen = runtime.health.sink(name)
    is_well = seen.state is SinkState.OK
    return visit.page(
        "sink.html",
        name=name,
        charts=await read_charts(visit, *PLOTS, has_tables=True, sink=name),
        sink=sink,
        gets=filter_text(sink.route) or "everything",
        seen=seen,
        last=runtime.relay.answers.get(name),
        again_at=_later(runtime.relay.tried_again_at(name), visit.now),
        todo=None if is_well else remedy(name, seen.outcome),
        backlog=await _backlog(visit, name, stats),
        settings=_settings(visit, name),
        tested=tested,
        tested_todo=remedy(name, tested.outcome) if tested else None,
        example=_example(visit, name) if visit.is_admin else "",
    )


async def _show_unset(visit: Visit, name: str, stats: Stats | None) -> Response:
    """A sink that is not set any more and is owed something. Raises Rejected (404) for all others."""
    counts = stats.outbox.get(name, {}) if stats else {}
    if not counts.get(NOT_SET) and not counts.get(OutboxState.DEAD):
        check_is_set(visit.runtime, name)
    backlog, others = await _backlog(visit, name, stats), sorted(visit.runtime.sinks)
    charts = await read_charts(visit, *PLOTS, has_tables=True, sink=name)
    return visit.page("sink.html", name=name, sink=None, backlog=backlog, others=others, charts=charts)


async def _backlog(visit: Visit, name: str, stats: Stats | None) -> Backlog | None:
    if stats is None:
        return None
    pages, counts = visit.runtime.store.pages, stats.outbox.get(name, {})
    return Backlog(
        waiting=counts.get(OutboxState.PENDING, 0) or counts.get(NOT_SET, 0),
        dead=counts.get(OutboxState.DEAD, 0),
        oldest_at=stats.oldest_waiting_at.get(name),
        waiting_outcomes=await visit.known(pages.count_waiting_outcomes(name, MOST_COUNTED)),
        dead_outcomes=await visit.known(pages.count_dead_outcomes(name, MOST_COUNTED)),
    )


def _later(moment: datetime | None, now: datetime) -> datetime | None:
    return moment if moment and moment > now else None


def _settings(visit: Visit, name: str) -> list[tuple[str, str, str]]:
    """What is set for it, without secrets and what may be one: each variable, its text, what it means."""
    shown = disclose(visit.runtime.settings, None)
    rows = [(field.variable.replace("<NAME>", name.upper()), field.help) for field in SINK_FIELDS]
    return [(variable, shown.get(variable, ""), meaning) for variable, meaning in rows]


def _example(visit: Visit, name: str) -> str:
    """The test event as it would be sent now."""
    source = visit.runtime.settings.public_url
    return msgspec.json.format(render_test("test_…", name, source=source, now=visit.now).body).decode()


PAGES = (
    Page(path="/admin/sinks/{name}", answer=show, access=Access.VIEWER),
    Page(path="/admin/sinks/{name}/test", answer=test, access=Access.ADMIN, method="POST"),
)
