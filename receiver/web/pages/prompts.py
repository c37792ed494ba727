"""What an order asked for in words: shown to an admin who says why, once, and noted first."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import Response

from receiver.models import Act, audit_entry
from receiver.web.filters import unknown_task
from receiver.web.pages.redaction import PROMPT_KEY, SECRET_KEY, redact_text
from receiver.web.pages.refusals import Refusal
from receiver.web.pages.visits import Access, Page, Visit

MOST_TEXTS = 20
MOST_DEPTH = 20

_ONCE = re.compile("act_[0-9a-f]{32}")


async def reveal(visit: Visit) -> Response:
    """Note who wants to read it and why; then show it. Sent again, it is neither noted nor shown."""
    provider, task_id = visit.request.path_params["provider"], visit.request.path_params["task_id"]
    reason, once = visit.form.get("reason"), visit.form.get("once")
    if not reason.strip() or not _ONCE.fullmatch(once):
        raise Refusal(400, "Not shown", "Go back and say why: the reason is kept in the audit.")
    store = visit.runtime.store
    task = await store.pages.get_task(provider, task_id)
    if task is None:
        raise unknown_task(visit.runtime, provider)
    entry = audit_entry(
        Act.PROMPT_REVEALED, visit.actor, visit.now, reason=reason, target=f"{provider}/{task_id}", key=once
    )
    if not await store.note_act(entry):
        raise Refusal(
            409, "Shown already", "It is shown once for each reason. Load the task anew and say why again."
        )
    return visit.page("prompt.html", task=task, texts=list(texts_of(task.submission.request))[:MOST_TEXTS])


def texts_of(
    value: Any, name: str = "", *, is_private: bool = False, depth: int = 0
) -> Iterator[tuple[str, str]]:
    """The texts of an order under keys such as ``prompt``, each with where it stands, and without links."""
    if depth > MOST_DEPTH:
        return
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not SECRET_KEY.search(str(key)):
                below = is_private or PROMPT_KEY.search(str(key)) is not None
                yield from texts_of(each, f"{name}.{key}".strip("."), is_private=below, depth=depth + 1)
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from texts_of(each, f"{name}[{place}]", is_private=is_private, depth=depth + 1)
    elif isinstance(value, str) and value and is_private:
        yield redact_text(name), redact_text(value)


PAGES = (
    Page(path="/admin/prompts/{provider}/{task_id:path}", answer=reveal, access=Access.ADMIN, method="POST"),
)
