"""Callbacks that did not count, and why not."""

from datetime import timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from receiver.models import Verdict
from receiver.web.cursors import opened, sealed
from receiver.web.pages.filters import Fields
from receiver.web.pages.visits import Access, Page, Visit

ROWS = 50
MOST_COUNTED = 10_001

# Why they did not count, and what would make them.
REASONS = {
    Verdict.EARLY: "Its submission is not in the log yet. It counts within a second of being logged.",
    Verdict.UNOWNED: "No submission ever came. Log it, and the provider is asked about its task.",
    Verdict.REFUSED: "It came by a URL of another task: look for a backend that uses one URL twice.",
    Verdict.CONFLICT: "It contradicts the end that came first. That one stands.",
    Verdict.UNRECOGNISED: "It is authentic and was not understood. A release that reads it can read it again:"
    " receiver replay --stage reprocess.",
    Verdict.UNCONFIRMED: "It came on weak proof, and counts once the provider says the same.",
}


async def show(visit: Visit) -> Response:
    """Those of one verdict, the newest first."""
    runtime, fields = visit.runtime, Fields(visit.query, visit.now)
    verdict = fields.word("verdict", Verdict) or Verdict.EARLY
    if verdict not in REASONS:
        fields.problems["verdict"] = f"one of: {', '.join(REASONS)}"
    page = counts = None
    if not fields.problems:
        cursor = opened(runtime, "deliveries", visit.query.get("cursor") or None)
        page = await visit.known(runtime.store.pages.list_odd(verdict, ROWS, cursor))
        counts = await visit.known(runtime.store.pages.count_odd(list(REASONS), MOST_COUNTED))
    older = sealed(runtime, "deliveries", page.next_cursor) if page else None
    return visit.page(
        "deliveries.html",
        400 if fields.problems else 200,
        verdict=verdict,
        verdicts=list(REASONS),
        reason=REASONS.get(verdict, ""),
        page=page,
        counts=counts,
        most=MOST_COUNTED,
        problems=fields.problems,
        early_until=timedelta(seconds=runtime.settings.early_ttl_seconds),
        older=f"/admin/deliveries?{urlencode({'verdict': verdict, 'cursor': older})}" if older else None,
    )


PAGES = (Page(path="/admin/deliveries", answer=show, access=Access.VIEWER, menu="Did not count"),)
