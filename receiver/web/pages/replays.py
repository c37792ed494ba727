"""Replays: what was done again, for whom, and how far it is."""

import structlog
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import Act, Replay, ReplayState
from receiver.problem_types import ProblemType
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.replays import change, clauses_in_words

log = structlog.get_logger()

ROWS = 50
NO_MORE = 286  # by which htmx knows that it need not ask again


async def show_list(visit: Visit) -> Response:
    """The newest."""
    replays = await visit.known(visit.runtime.store.pages.list_replays(ROWS))
    rows = [(replay, clauses_in_words(replay)) for replay in replays] if replays is not None else None
    return visit.page("replays.html", rows=rows)


async def show(visit: Visit) -> Response:
    """One."""
    replay = await _find(visit)
    return visit.page("replay.html", replay=replay, about=clauses_in_words(replay))


async def show_progress(visit: Visit) -> Response:
    """How far one is, for the page that shows it already; when it is over that is not asked any more."""
    replay = await _find(visit)
    is_over = replay.state not in {ReplayState.RUNNING, ReplayState.PAUSED}
    status = NO_MORE if is_over else 200
    about = clauses_in_words(replay)
    return visit.part("replay_progress.html", f"Replay {replay.id}", status, replay=replay, about=about)


async def pause(visit: Visit) -> Response:
    """Queue no more until it is resumed."""
    return await _change(visit, Act.REPLAY_PAUSED)


async def resume(visit: Visit) -> Response:
    """Go on where it was paused."""
    return await _change(visit, Act.REPLAY_RESUMED)


async def cancel(visit: Visit) -> Response:
    """End it for good, once its number and a reason are typed."""
    replay = await _find(visit)
    if visit.form.get("number").replace(",", "") != str(replay.matched):
        raise Refusal(400, "Not done", f"Go back and type {replay.matched}, so that it is meant.")
    reason = " ".join(visit.form.get("reason").split())[:200]
    if not reason:
        raise Refusal(400, "Not done", "Go back and say why: the reason is written to the log.")
    said_name = visit.actor.said_name or None
    log.info("plan.done", who=visit.caller, said_name=said_name, act="cancel", plan=replay.id, reason=reason)
    return await _change(visit, Act.REPLAY_CANCELLED, reason)


async def _find(visit: Visit) -> Replay:
    replay = await visit.runtime.store.pages.get_replay(visit.request.path_params["id"])
    if replay is None:
        raise Rejected(ProblemType.UNKNOWN_REPLAY, "No replay has this id.")
    return replay


async def _change(visit: Visit, act: Act, reason: str = "") -> Response:
    replay = await change(visit.runtime, visit.actor, visit.request.path_params["id"], act, reason)
    return visit.redirect(f"/admin/replays/{replay.id}")


PAGES = (
    Page(path="/admin/replays", answer=show_list, access=Access.VIEWER, menu="Replays"),
    Page(path="/admin/replays/{id}", answer=show, access=Access.VIEWER),
    Page(path="/admin/parts/replays/{id}", answer=show_progress, access=Access.VIEWER, is_part=True),
    *(
        Page(path=f"/admin/replays/{{id}}/{act.__name__}", answer=act, access=Access.ADMIN, method="POST")
        for act in (pause, resume, cancel)
    ),
)
