"""Every page there is, in the order of the menu."""

from starlette.routing import Route

from receiver.runtime import Runtime
from receiver.web.pages import (
    deliveries,
    files,
    find,
    login,
    overview,
    plans,
    providers,
    replays,
    sessions,
    settings,
    sinks,
    submissions,
    task,
    tasks,
)
from receiver.web.pages import (
    help as help_page,
)
from receiver.web.pages.door import PageDoor
from receiver.web.pages.log_ins import LogIns
from receiver.web.pages.visits import Page

PAGES: tuple[Page, ...] = (
    *overview.PAGES,
    *tasks.PAGES,
    *task.PAGES,
    *files.PAGES,
    *submissions.PAGES,
    *deliveries.PAGES,
    *sinks.PAGES,
    *providers.PAGES,
    *replays.PAGES,
    *plans.PAGES,
    *settings.PAGES,
    *sessions.PAGES,
    *help_page.PAGES,
    *find.PAGES,
    *login.PAGES,
)


def page_routes(runtime: Runtime) -> list[Route]:
    """Their routes; none where the settings want no pages."""
    if not runtime.settings.pages:
        return []
    log_ins = LogIns(runtime.settings, runtime.tokens, runtime.store, runtime.clock)
    return PageDoor(runtime, log_ins, PAGES).routes()
