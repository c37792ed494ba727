"""Tasks as a list or a grid, by what they are asked for; the address is the filter."""

import asyncio
from datetime import datetime, timedelta
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from receiver.models import Asset, TaskFilter, TaskPage, TaskState
from receiver.times import to_text
from receiver.web.cursors import opened, sealed
from receiver.web.pages.filters import Fields
from receiver.web.pages.thumbs import has_thumbnail
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
    covers, failures = await _tiles(visit, page) if page and is_grid else ({}, {})
    given = {name: text for name in FILTERS if (text := visit.query.get(name))}
    older = sealed(runtime, "tasks", page.next_cursor) if page else None
    return visit.page(
        "tasks.html",
        400 if fields.problems else 200,
        page=page,
        plan_of=_plan_of(wanted, page, visit.now),
        covers=covers,
        failures=failures,
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


def _plan_of(wanted: TaskFilter, page: TaskPage | None, now: datetime) -> dict[str, str]:
    """The filter of a plan that is about this list, with absolute times, and about nothing that came since.

    Another process, which logs tasks too, may be ahead of this one's clock.
    """
    until = wanted.until
    if until is None:
        logged_at = (task.submitted_at for task in (page.tasks if page else ()))
        until = max([now, *logged_at]) + timedelta(milliseconds=1)
    fields = {
        "state": wanted.state,
        "provider": wanted.provider,
        "owner": wanted.owner,
        "logged_since": to_text(wanted.since) if wanted.since else None,
        "logged_until": to_text(until),
    }
    return {name: text for name, text in fields.items() if text}


class Cover(msgspec.Struct, frozen=True, kw_only=True):
    """The file by which a task is known in a grid."""

    asset: Asset
    has_picture: bool


async def _tiles(visit: Visit, page: TaskPage) -> tuple[dict[str, Cover], dict[str, str | None]]:
    """By the submissions' ids: the file that stands for a task, and why a task failed.

    The file is the first that there is a picture of, else the first that is stored.
    """
    pages = visit.runtime.store.pages
    stored = [task.submission_id for task in page.tasks if task.assets_stored]
    failed = [task.submission_id for task in page.tasks if task.state == TaskState.FAILED]
    files, failures = await asyncio.gather(
        visit.known(pages.list_first_files(stored)), visit.known(pages.list_failures(failed))
    )
    covers = {}
    for submission_id, assets in (files or {}).items():
        drawn = next((asset for asset in assets if has_thumbnail(visit, asset)), None)
        covers[submission_id] = Cover(asset=drawn or assets[0], has_picture=drawn is not None)
    return covers, failures or {}


def address(given: dict[str, str], **changes: str) -> str:
    """Where the same list is with other filters."""
    query = {name: text for name, text in {**given, **changes}.items() if text}
    return f"/admin/tasks?{urlencode(query)}" if query else "/admin/tasks"


PAGES = (Page(path="/admin/tasks", answer=show, access=Access.VIEWER, menu="Tasks"),)
