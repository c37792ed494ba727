"""Replays: what was done again, for whom, and how far it is."""

from starlette.responses import Response

from receiver.errors import Rejected
from receiver.problem_types import ProblemType
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.replays import clauses_in_words

ROWS = 50


async def show_list(visit: Visit) -> Response:
    """The newest."""
    replays = await visit.known(visit.runtime.store.pages.list_replays(ROWS))
    rows = [(replay, clauses_in_words(replay)) for replay in replays] if replays is not None else None
    return visit.page("replays.html", rows=rows)


async def show(visit: Visit) -> Response:
    """One."""
    replay = await visit.runtime.store.pages.get_replay(visit.request.path_params["id"])
    if replay is None:
        raise Rejected(ProblemType.UNKNOWN_REPLAY, "No replay has this id.")
    return visit.page("replay.html", replay=replay, about=clauses_in_words(replay))


PAGES = (
    Page(path="/admin/replays", answer=show_list, access=Access.VIEWER, menu="Replays"),
    Page(path="/admin/replays/{id}", answer=show, access=Access.VIEWER),
)
