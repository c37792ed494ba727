"""Sinks and how they take events, and what was given up."""

from urllib.parse import urlencode

from starlette.responses import Response

from receiver.models import NOT_SET, OutboxState
from receiver.web.cursors import opened, sealed
from receiver.web.pages.charts import read_charts
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.sinks import sink_rows

ROWS = 50
MOST_COUNTED = 2_000  # each is a row to be fetched: five times as many take 60 ms of a large record

PLOTS = ("notifications", "sent_seconds", "waiting_events", "dead_letters")


async def show(visit: Visit) -> Response:
    """Every sink that is set, and those that are not any more and are owed something."""
    runtime = visit.runtime
    stats = await visit.known(runtime.stats.get())
    rows = sink_rows(runtime, stats) if stats else None
    outbox = stats.outbox if stats else {}
    dead = {name: states.get(OutboxState.DEAD, 0) for name, states in outbox.items()}
    owed = {name: states.get(NOT_SET, 0) for name, states in outbox.items()}
    unset = {
        name: (owed[name], dead[name])
        for name in outbox
        if name not in runtime.sinks and (owed[name] or dead[name])
    }
    charts = await read_charts(visit, *PLOTS)
    return visit.page("sinks.html", charts=charts, rows=rows, dead=dead, unset=unset)


async def show_dead(visit: Visit) -> Response:
    """Dead letters, the newest first, of one sink or of all."""
    runtime, sink = visit.runtime, visit.query.get("sink") or None
    pages, cursor = runtime.store.pages, opened(runtime, "dead-letters", visit.query.get("cursor") or None)
    page = await visit.known(pages.list_dead(sink, ROWS, cursor))
    outcomes = await visit.known(pages.count_dead_outcomes(sink, MOST_COUNTED))
    older = sealed(runtime, "dead-letters", page.next_cursor) if page else None
    query = {"sink": sink, "cursor": older} if sink else {"cursor": older}
    return visit.page(
        "dead_letters.html",
        page=page,
        sink=sink,
        sinks=sorted(runtime.sinks),
        outcomes=outcomes,
        counted=MOST_COUNTED,
        is_part=sum((outcomes or {}).values()) >= MOST_COUNTED,
        older=f"/admin/dead-letters?{urlencode(query)}" if older else None,
    )


PAGES = (
    Page(path="/admin/sinks", answer=show, access=Access.VIEWER, menu="Sinks"),
    Page(path="/admin/dead-letters", answer=show_dead, access=Access.VIEWER, menu="Dead letters"),
)
