"""One reservation: what it may belong to, and what is done about it."""

from datetime import timedelta

import msgspec
from starlette.responses import Response

from receiver.errors import Rejected
from receiver.models import Submission
from receiver.problem_types import ProblemType
from receiver.urls import path_part
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit
from receiver.web.submissions import Binding, bind_task

MOST_LIKELY = 5
BEFORE, AFTER = timedelta(minutes=5), timedelta(hours=24)  # of when it was logged, a callback may be its own


async def show(visit: Visit) -> Response:
    """One that waits for its task; a bound one leads on to that."""
    row = await _find(visit)
    if row.task_id is not None:
        return visit.redirect(_place(row))
    likely = None
    if row.withdrawn_at is None:
        since, until = row.created_at - BEFORE, row.created_at + AFTER
        reading = visit.runtime.store.pages.list_likely(row.provider, since, until, MOST_LIKELY)
        likely = await visit.known(reading)
    return visit.page("submission.html", row=row, likely=likely, chosen=visit.query.get("task_id"))


async def bind(visit: Visit) -> Response:
    """Tie it to the task that was typed, as a backend does."""
    row = await _find(visit)
    try:
        binding = msgspec.convert({"task_id": visit.form.get("task_id")}, Binding)
    except msgspec.ValidationError as exc:
        raise Refusal(
            400, "Not bound", "Go back and give the id that the provider has for the task."
        ) from exc
    bound = await bind_task(visit.runtime, row.id, binding.task_id, visit.actor, visit.form.get("reason"))
    visit.note("submission.bound", submission_id=row.id, provider=row.provider, task_id=bound.task_id)
    return visit.redirect(_place(bound))


async def _find(visit: Visit) -> Submission:
    row = await visit.runtime.store.pages.get_submission(visit.request.path_params["id"])
    if row is None:
        raise Rejected(ProblemType.UNKNOWN_SUBMISSION, "No submission has this id.")
    return row


def _place(row: Submission) -> str:
    return f"/admin/tasks/{path_part(row.provider)}/{path_part(row.task_id or '')}"


PAGES = (
    Page(path="/admin/submissions/{id}", answer=show, access=Access.VIEWER),
    Page(path="/admin/submissions/{id}/bind", answer=bind, access=Access.ADMIN, method="POST"),
)
