"""Tasks as a list or a grid, by what they are asked for; the address is the filter."""

from urllib.parse import urlencode

from starlette.responses import Response

from receiver.models import TaskFilter, TaskState
from receiver.web.cursors import opened, sealed
from receiver.web.pages.filters import Fields
from receiver.web.pages.visits import Access, Page, Visit

ROWS, TILES = 50, 48
FILTERS = ("state", "provider", "owner", "since", "until", "view")


async def show(visit: Visit) -> Response:
    """A page of tasks, the newest first."""
    runtime, fields = visit.runtime, Fields(visit.query, visit.now)
    is_grid = visit.query.get("view") == "grid"
    wanted = TaskFilter(
        state=fields.word("state", TaskState),
        provider=fields.known("provider", runtime.providers),
        owner=fields.text("owner"),
        since=fields.moment("since"),
        until=fields.moment("until"),
    )
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        fields.problems["until"] = "later than since"
    page = None
    if not fields.problems:
        cursor = opened(runtime, "tasks", visit.query.get("cursor") or None)
        reading = runtime.store.pages.list_tasks(wanted, TILES if is_grid else ROWS, cursor)
        page = await visit.known(reading)
    given = {name: text for name in FILTERS if (text := visit.query.get(name))}
    older = sealed(runtime, "tasks", page.next_cursor) if page else None
    return visit.page(
        "tasks.html",
        400 if fields.problems else 200,
        page=page,
        given=given,
        problems=fields.problems,
        states=[state.value for state in TaskState],
        providers=sorted(runtime.providers),
        older=address(given, cursor=older) if older else None,
        is_full=page is not None and len(page.tasks) >= (TILES if is_grid else ROWS),
        is_grid=is_grid,
        other_view=address(given, view="list" if is_grid else "grid"),
        without=[(name, address(given, **{name: ""})) for name in given if name != "view"],
    )


def address(given: dict[str, str], **changes: str) -> str:
    """Where the same list is with other filters."""
    query = {name: text for name, text in {**given, **changes}.items() if text}
    return f"/admin/tasks?{urlencode(query)}" if query else "/admin/tasks"


PAGES = (Page(path="/admin/tasks", answer=show, access=Access.VIEWER, menu="Tasks"),)
