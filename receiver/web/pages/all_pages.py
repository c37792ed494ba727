"""Every page there is, in the order of the menu."""

from receiver.runtime import Runtime
from receiver.web.pages import (
    audit,
    clearing,
    costs,
    deliveries,
    doctor,
    files,
    find,
    history,
    login,
    overview,
    plans,
    prompts,
    provider,
    providers,
    replays,
    sessions,
    settings,
    sink,
    sinks,
    submission,
    submissions,
    task,
    tasks,
    thumbs,
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
    *prompts.PAGES,
    *thumbs.PAGES,
    *files.PAGES,
    *submissions.PAGES,
    *submission.PAGES,
    *deliveries.PAGES,
    *sinks.PAGES,
    *sink.PAGES,
    *providers.PAGES,
    *provider.PAGES,
    *costs.PAGES,
    *replays.PAGES,
    *plans.PAGES,
    *clearing.PAGES,
    *history.PAGES,
    *doctor.PAGES,
    *settings.PAGES,
    *audit.PAGES,
    *sessions.PAGES,
    *help_page.PAGES,
    *find.PAGES,
    *login.PAGES,
)


def page_door(runtime: Runtime) -> PageDoor:
    """The door to all of them."""
    log_ins = LogIns(runtime.settings, runtime.tokens, runtime.store, runtime.clock)
    return PageDoor(runtime, log_ins, PAGES)
