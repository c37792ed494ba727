"""What the words on the pages mean, and where the manual says more."""

from starlette.responses import Response

from receiver import manual
from receiver.web.pages.visits import Access, Page, Visit

STATES = (
    ("submitted", "The order is logged, and no end has come yet."),
    ("fetching", "The provider has finished; its files are being fetched."),
    ("completed", "Every file is stored."),
    ("partial", "Some files are stored, others could not be had."),
    ("failed", "The provider failed it, no file could be had, or no end ever came (lost)."),
)
WORDS = (
    ("submission", "Our record that we asked for a task: the proof that it is ours."),
    ("reservation", "A submission that was logged before its order, and has no task yet."),
    ("delivery", "One callback, or one answer of a provider, as it was kept."),
    ("event", "What a task's end means; one for each task."),
    ("sink", "Where events go: a webhook, a queue, a file."),
    ("dead letter", "An event that a sink did not take for so long that it was given up."),
    ("replay", "People have a stage done again, on purpose."),
    ("early", "A callback whose submission is not in the log yet."),
)


async def show(visit: Visit) -> Response:
    """Words, and the chapters of the manual."""
    chapters = list(manual.chapters().values())
    return visit.page("help.html", states=STATES, words=WORDS, chapters=chapters)


PAGES = (Page(path="/admin/help", answer=show, access=Access.VIEWER, menu="Help"),)
