"""Reservations that no task was bound to: an order that may be paid for and gone."""

from datetime import timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from receiver.models import SubmissionFilter
from receiver.web.cursors import opened, sealed
from receiver.web.pages.filters import Fields
from receiver.web.pages.visits import Access, Page, Visit

ROWS = 50
USUAL = timedelta(hours=1)  # younger ones are as a rule on their way


async def show(visit: Visit) -> Response:
    """The newest of them, of a provider or an owner."""
    runtime, fields = visit.runtime, Fields(visit.query, visit.now)
    wanted = SubmissionFilter(
        bound=False,
        provider=fields.known("provider", runtime.providers),
        owner=fields.text("owner"),
        until=fields.moment("until"),
    )
    page = stats = None
    if not fields.problems:
        cursor = opened(runtime, "submissions", visit.query.get("cursor") or None)
        page = await visit.known(runtime.store.pages.list_submissions(wanted, ROWS, cursor))
        stats = await visit.known(runtime.stats.get())
    given = {name: text for name in ("provider", "owner", "until") if (text := visit.query.get(name))}
    older = sealed(runtime, "submissions", page.next_cursor) if page else None
    return visit.page(
        "submissions.html",
        400 if fields.problems else 200,
        page=page,
        given=given,
        problems=fields.problems,
        providers=sorted(runtime.providers),
        ages=stats.unbound if stats else None,
        usual=visit.now - USUAL,
        older=f"/admin/submissions?{urlencode({**given, 'cursor': older})}" if older else None,
    )


PAGES = (Page(path="/admin/submissions", answer=show, access=Access.VIEWER, menu="Reservations"),)
