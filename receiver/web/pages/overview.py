"""The first page: what is wrong now, what it costs, and where to look."""

from starlette.responses import Response

from receiver.health.lines import Line, number, rule_of
from receiver.models import OutboxState, Stats
from receiver.web.health import WELL, in_short
from receiver.web.pages.visits import Access, Page, Visit

MOST_DYING = 10

# Where the rows are that a line of health is about.
PLACES = {
    "sink": "/admin/sinks",
    "events_waiting": "/admin/sinks",
    "sinks_not_set": "/admin/sinks",
    "dead_letters": "/admin/dead-letters",
    "provider": "/admin/providers",
    "no_key": "/admin/providers",
    "silent": "/admin/providers",
    "links_dying": "/admin/assets",
    "files_waiting": "/admin/assets",
    "lost": "/admin/tasks?state=failed&since=24h",
    "unbound": "/admin/submissions",
    "early": "/admin/deliveries?verdict=early",
    "refused": "/admin/deliveries?verdict=refused",
    "unrecognised": "/admin/deliveries?verdict=unrecognised",
    "replays_paused": "/admin/replays",
    "replays_stalled": "/admin/replays",
}


async def show(visit: Visit) -> Response:
    """What is wrong, then what waits, then what runs."""
    runtime = visit.runtime
    report = await runtime.health.look()
    stats = await visit.known(runtime.stats.get())
    dying = await visit.known(runtime.store.pages.list_pending_files(MOST_DYING))
    states = {"store": await runtime.commit_probe.check(), **runtime.worker.status()}
    states |= {name: f"elsewhere: {state}" for name, state in runtime.elsewhere().items()}
    shown = {name: state if visit.is_admin else in_short(state) for name, state in states.items()}
    parts = [(name, state, states[name] in WELL) for name, state in shown.items()]
    return visit.page(
        "overview.html",
        report=report,
        lines=[(line, PLACES.get(rule_of(line.key)), _touched(line)) for line in report.lines],
        waiting=_waiting(stats) if stats else None,
        given_up=_given_up(stats) if stats else None,
        dying=dying,
        parts=sorted(parts, key=lambda part: part[2]),
    )


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


PAGES = (Page(path="/admin/", answer=show, access=Access.VIEWER, menu="Overview"),)
