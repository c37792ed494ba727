"""Who is logged in, and the end of it."""

import structlog
from starlette.responses import Response

from receiver.models import Act, audit_entry
from receiver.web.pages.visits import Access, Page, Visit

log = structlog.get_logger()


async def show(visit: Visit) -> Response:
    """Every session to admins, to viewers those of their token."""
    listed = await visit.runtime.store.pages.list_sessions(visit.now)
    sessions = [(each, name) for each in listed if (name := visit.log_ins.name_of(each))]
    if not visit.is_admin:
        mine = visit.visitor.session.token if visit.visitor else ""
        sessions = [(each, name) for each, name in sessions if each.token == mine]
    return visit.page("sessions.html", sessions=sessions)


async def end(visit: Visit) -> Response:
    """End one, or all."""
    entry = audit_entry(Act.SESSIONS_ENDED, visit.actor, visit.now)
    if visit.form.get("all") == "true":
        ended = await visit.runtime.store.end_all_sessions(visit.now, entry)
    else:
        ended = await visit.runtime.store.end_sessions(visit.form.get_all("id"), entry)
    log.info("sessions.ended", who=visit.visitor.name if visit.visitor else None, ended=ended)
    return visit.redirect("/admin/sessions")


PAGES = (
    Page(path="/admin/sessions", answer=show, access=Access.VIEWER, menu="Log-ins"),
    Page(path="/admin/sessions/end", answer=end, access=Access.ADMIN, method="POST"),
)
