"""The first page: what is wrong now."""

from starlette.responses import Response

from receiver.web.health import WELL
from receiver.web.pages.visits import Access, Page, Visit


async def show(visit: Visit) -> Response:
    """How every part is."""
    runtime = visit.runtime
    states = {"store": await runtime.commit_probe.check(), **runtime.worker.status()}
    states |= {name: f"elsewhere: {state}" for name, state in runtime.elsewhere().items()}
    parts = [(name, state, state in WELL) for name, state in states.items()]
    return visit.page("overview.html", parts=sorted(parts, key=lambda part: part[2]))


PAGES = (Page(path="/admin/", answer=show, access=Access.VIEWER, menu="Overview"),)
