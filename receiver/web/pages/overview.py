"""The first page: what is wrong now, what it costs, and where to look."""

from typing import Any

from starlette.responses import Response

from receiver.health.lines import Line, number
from receiver.models import CostFilter, OutboxState, Stats
from receiver.web import health
from receiver.web.endpoints import Nothing
from receiver.web.health import WELL, in_short
from receiver.web.pages.charts import read_charts
from receiver.web.pages.costs import today_in_words
from receiver.web.pages.security import HEADERS, NEVER_KEPT
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.pages.wrongs import place_of

MOST_DYING = 10
PLOTS = ("callbacks", "answer_seconds", "sent_seconds", "files", "notifications", "waiting_events")


async def show(visit: Visit) -> Response:
    """What is wrong, then what waits, then what runs."""
    runtime = visit.runtime
    counts = await _counts(visit)
    dying = await visit.known(runtime.store.pages.list_pending_files(MOST_DYING))
    states = {"store": await runtime.commit_probe.check(), **runtime.worker.status()}
    states |= {name: f"elsewhere: {state}" for name, state in runtime.elsewhere().items()}
    shown = {name: state if visit.is_admin else in_short(state) for name, state in states.items()}
    charts = await read_charts(visit, *PLOTS)
    parts = [(name, state, states[name] in WELL) for name, state in shown.items()]
    return visit.page(
        "overview.html",
        **await _health(visit),
        **counts,
        dying=dying,
        charts=charts,
        parts=sorted(parts, key=lambda part: part[2]),
    )


async def show_health(visit: Visit) -> Response:
    """What is wrong now, for the page that shows it already."""
    return visit.part("health_list.html", "What is wrong now", **await _health(visit))


async def show_counts(visit: Visit) -> Response:
    """What waits and what was given up, likewise."""
    return visit.part("counts.html", "What waits", **await _counts(visit))


async def show_json(visit: Visit) -> Response:
    """The same lines for programs, and for people whose browser has a log-in."""
    answer = await health.show_health(visit.runtime, visit.request, Nothing())
    answer.headers.update({**HEADERS, **NEVER_KEPT})
    return answer


async def _health(visit: Visit) -> dict[str, Any]:
    report = await visit.runtime.health.look()
    lost_after = visit.runtime.settings.lost_after_seconds
    lines = [(line, place_of(line, lost_after), _touched(line)) for line in report.lines]
    return {"report": report, "lines": lines}


async def _counts(visit: Visit) -> dict[str, Any]:
    stats = await visit.known(visit.runtime.stats.get(glance=True))
    return {
        "waiting": _waiting(stats) if stats else None,
        "given_up": _given_up(stats) if stats else None,
        "costs": await _costs(visit),
    }


async def _costs(visit: Visit) -> str | None:
    """What was ordered today, in UTC, and where its money stands; None where nothing is ordered here."""
    if not visit.runtime.settings.gateway:
        return None
    today = CostFilter(since=visit.now.date().isoformat())
    sums = await visit.known(visit.runtime.store.pages.sum_costs(today, (), 1))
    return today_in_words(sums[0]) if sums else "not known now"


def _touched(line: Line) -> str:
    if line.images is None:
        return "everything that comes"
    return f"{number(line.images)} {'image' if line.images == 1 else 'images'}" if line.images else ""


def _waiting(stats: Stats) -> list[tuple[str, int, str]]:
    """What waits for something: its name, how much, and where it is listed."""
    sinks = {name: states.get(OutboxState.PENDING, 0) for name, states in stats.outbox.items()}
    return [
        *((f"for sink {name}", count, "/admin/sinks") for name, count in sinks.items()),
        ("files to fetch", stats.assets.get("pending", 0), "/admin/assets"),
        ("tasks without an end", stats.tasks.get("submitted", 0), "/admin/tasks?state=submitted"),
        ("early callbacks", stats.deliveries.get("early", 0), "/admin/deliveries?verdict=early"),
        ("reservations without a task", sum(stats.unbound.values()), "/admin/submissions"),
    ]


def _given_up(stats: Stats) -> list[tuple[str, int, str]]:
    dead = sum(states.get(OutboxState.DEAD, 0) for states in stats.outbox.values())
    return [
        ("dead letters", dead, "/admin/dead-letters"),
        ("partial tasks", stats.tasks.get("partial", 0), "/admin/tasks?state=partial"),
        ("failed tasks", stats.tasks.get("failed", 0), "/admin/tasks?state=failed"),
    ]


PAGES = (
    Page(path="/admin/", answer=show, access=Access.VIEWER, menu="Overview"),
    Page(path="/admin/parts/health", answer=show_health, access=Access.VIEWER, is_part=True),
    Page(path="/admin/parts/counts", answer=show_counts, access=Access.VIEWER, is_part=True),
    Page(path="/admin/health.json", answer=show_json, access=Access.VIEWER, is_part=True, is_shared=True),
)
