"""Callbacks that did not count, and why not."""

from collections.abc import Awaitable
from datetime import timedelta
from urllib.parse import urlencode

from starlette.responses import Response

from receiver.models import RefusalFilter, RefusalReason, Verdict
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


TURNED_AWAY = "turned-away"  # in the place of a verdict: nothing of them was recorded but how many came

TABS = [*(verdict.value for verdict in REASONS), TURNED_AWAY]

# Why a callback was turned away, and what to do about it.
REFUSALS = {
    RefusalReason.TOKEN_MISSING: "No token in the URL: the provider was given another one, or by a stranger.",
    RefusalReason.TOKEN_WRONG: "Not a URL of ours: it was cut, RECEIVER_SECRET changed, or by a stranger.",
    RefusalReason.SIGNATURE_WRONG: "Not signed right, at a URL that anybody can write: by a stranger.",
    RefusalReason.SIGNATURE_WRONG_TOKEN_RIGHT: "Our own URL, and not signed right: correct the provider's"
    " webhook secret here, or this machine's clock.",
    RefusalReason.TOKEN_OF_ANOTHER_TASK: "A URL of another task; it is kept, and listed under refused.",
    RefusalReason.UNKNOWN_PROVIDER: "The path names no provider that is known here.",
    RefusalReason.METHOD: "Not a POST.",
    RefusalReason.NOT_JSON: "Not JSON and no form, from somebody who proved nothing.",
    RefusalReason.TOO_LARGE: "Larger than RECEIVER_MAX_BODY_BYTES.",
    RefusalReason.TOO_SLOW: "The body did not come within RECEIVER_BODY_TIMEOUT_SECONDS.",
    RefusalReason.BAD_REQUEST: "A body that is compressed, or framed against the rules of HTTP.",
    RefusalReason.UNAVAILABLE: "It could not be recorded then: senders were told to come again.",
    RefusalReason.INTERNAL_ERROR: "A fault of the receiver: its log says more.",
}


async def show(visit: Visit) -> Response:
    """Those of one verdict, the newest first; or what was turned away."""
    if visit.query.get("verdict") == TURNED_AWAY:
        return await show_turned_away(visit)
    runtime, fields = visit.runtime, Fields(visit.query, visit.now)
    verdict = fields.word("verdict", Verdict) or Verdict.EARLY
    if verdict not in REASONS:
        fields.problems["verdict"] = f"one of: {', '.join(REASONS)}"
    page = counts = None
    if not fields.problems:
        cursor = opened(runtime, "deliveries", visit.query.get("cursor") or None)
        page = await visit.known(runtime.store.pages.list_odd(verdict, ROWS, cursor))
        counts = await visit.known(_count(visit))
    older = sealed(runtime, "deliveries", page.next_cursor) if page else None
    return visit.page(
        "deliveries.html",
        400 if fields.problems else 200,
        verdict=verdict,
        verdicts=TABS,
        reason=REASONS.get(verdict, ""),
        page=page,
        counts=counts,
        most=MOST_COUNTED,
        problems=fields.problems,
        early_until=timedelta(seconds=runtime.settings.early_ttl_seconds),
        older=f"/admin/deliveries?{urlencode({'verdict': verdict, 'cursor': older})}" if older else None,
    )


async def show_turned_away(visit: Visit) -> Response:
    """By hour and reason."""
    runtime, fields = visit.runtime, Fields(visit.query, visit.now)
    wanted = RefusalFilter(since=fields.moment("since"), until=fields.moment("until"))
    page = counts = None
    if not fields.problems:
        cursor = opened(runtime, "refusals", visit.query.get("cursor") or None)
        page = await visit.known(runtime.store.pages.list_refusals(wanted, ROWS, cursor))
        counts = await visit.known(_count(visit))
    query = {name: visit.query.get(name) for name in ("verdict", "since", "until") if visit.query.get(name)}
    older = sealed(runtime, "refusals", page.next_cursor) if page else None
    return visit.page(
        "turned_away.html",
        400 if fields.problems else 200,
        verdict=TURNED_AWAY,
        verdicts=TABS,
        page=page,
        counts=counts,
        most=MOST_COUNTED,
        reasons=REFUSALS,
        problems=fields.problems,
        older=f"/admin/deliveries?{urlencode(query | {'cursor': older})}" if older else None,
    )


def _count(visit: Visit) -> Awaitable[dict[Verdict, int]]:
    return visit.runtime.store.pages.count_odd(list(REASONS), MOST_COUNTED)


PAGES = (Page(path="/admin/deliveries", answer=show, access=Access.VIEWER, menu="Did not count"),)
