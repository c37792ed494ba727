"""Who did what by hand, when, by which door, and why; also as a file."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from receiver.escapes import encode_harmless
from receiver.models import Act, AuditFilter, AuditPage, AuditRow
from receiver.web.audit import shown
from receiver.web.cursors import opened, sealed
from receiver.web.filters import in_words
from receiver.web.pages.filters import Fields
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.rendering import number
from receiver.web.pages.security import HEADERS, NEVER_KEPT
from receiver.web.pages.visits import Access, Page, Visit

ROWS = 50
ROWS_AT_ONCE = 500  # of a download
FIELDS = ("who", "act", "target", "since", "until")

# What acts were about that are about no rows of the record.
_ABOUT = {
    Act.LOGGED_IN: "these pages",
    Act.LOGIN_FAILED: "these pages",
    Act.LOGIN_LINK_MADE: "these pages",
    Act.SESSIONS_ENDED: "log-ins",
    Act.SETTINGS_CHANGED: "settings",
}


async def show(visit: Visit) -> Response:
    """A page of it, the newest first."""
    wanted, problems = _wanted(visit)
    page = older = None
    if not problems:
        cursor = opened(visit.runtime, "audit", visit.query.get("cursor") or None)
        page = await visit.known(visit.runtime.store.pages.list_audit(wanted, ROWS, cursor))
        older = sealed(visit.runtime, "audit", page.next_cursor) if page else None
    given = {name: text for name in FIELDS if (text := visit.query.get(name))}
    return visit.page(
        "audit.html",
        400 if problems else 200,
        acts=list(Act),
        given=given,
        problems=problems,
        rows=[(each, _target(each), _about(each), _done(each)) for each in page.entries] if page else page,
        older=f"/admin/audit?{urlencode({**given, 'cursor': older})}" if older else None,
        download=f"/admin/audit.jsonl?{urlencode(given)}",
    )


def _about(entry: AuditRow) -> str:
    """What an act was about, beside its target; of settings the hashes say nothing to people."""
    if entry.act in _ABOUT:
        return _ABOUT[entry.act]
    return in_words(entry.filter) or ("" if entry.target else "all")


def _target(entry: AuditRow) -> str:
    return "" if entry.act is Act.SETTINGS_CHANGED else entry.target or ""


def _done(entry: AuditRow) -> str:
    """How many an act was about, beside how many it was to be."""
    if entry.done is not None:
        return number(entry.done) + (f" of {number(entry.planned)}" if entry.planned is not None else "")
    if entry.planned is not None:
        return f"{number(entry.planned)} planned"
    return "1"


async def download(visit: Visit) -> Response:
    """All that matches, the newest first, as JSON Lines: each as the API lists it."""
    wanted, problems = _wanted(visit)
    if problems:
        name, words = next(iter(problems.items()))
        raise Refusal(400, "This cannot be had", f"{name} must be {words}.")
    first = await visit.runtime.store.list_audit(wanted, ROWS_AT_ONCE, None)
    headers = {**HEADERS, **NEVER_KEPT, "content-disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(_lines(visit, wanted, first), 200, headers, media_type="application/jsonl")


async def _lines(visit: Visit, wanted: AuditFilter, page: AuditPage) -> AsyncIterator[bytes]:
    while True:
        yield b"".join(encode_harmless(shown(each)) + b"\n" for each in page.entries)
        if page.next_cursor is None:
            return
        page = await visit.runtime.store.list_audit(wanted, ROWS_AT_ONCE, page.next_cursor)


def _wanted(visit: Visit) -> tuple[AuditFilter, dict[str, str]]:
    """What a form asks for, and what is wrong with it."""
    fields = Fields(visit.query, visit.now)
    wanted = AuditFilter(
        who=fields.text("who"),
        act=fields.word("act", Act),
        target=fields.text("target"),
        since=fields.moment("since"),
        until=fields.moment("until"),
    )
    return wanted, fields.problems


PAGES = (
    Page(path="/admin/audit", answer=show, access=Access.ADMIN, menu="Audit"),
    Page(path="/admin/audit.jsonl", answer=download, access=Access.ADMIN, is_file=True),
)
