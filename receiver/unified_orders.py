"""Orders at Vidgo and APIDot: where they go, how they are answered, and documents of ours in the same form.

Both document the same paths and the same answer. No page of Vidgo's shows its envelope of an error: public
clients of it read ``error.message`` or ``detail``, and APIDot's own client takes a ``code`` that is neither 0
nor 200 for one (apidot-examples, node/gpt-image-2).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

from receiver.models import (
    GatewayRefusal,
    OrderFacts,
    Passage,
    Progress,
    RefusalKind,
    RemoteFile,
    StatusView,
)

_STATUS = "/api/generate/status/{task_id}"
_MUSIC_STATUS = "/api/generate/detail/music?task_id={task_id}"

# The words of APIDot's errors page, and of our own where it has none.
_AUTHENTICATION, _INVALID = "authentication_error", "invalid_request"
_TYPES: Mapping[RefusalKind, str] = {
    RefusalKind.NO_CREDENTIAL: _AUTHENTICATION,
    RefusalKind.NOT_BEARER: _AUTHENTICATION,
    RefusalKind.WRONG_CREDENTIAL: _AUTHENTICATION,
    RefusalKind.NOT_ALLOWED: _AUTHENTICATION,
    RefusalKind.OVER_BUDGET: "insufficient_credits",
    RefusalKind.NOT_FOUND: "not_found",
    RefusalKind.UNAVAILABLE: "unavailable",
    RefusalKind.UNKNOWN_OUTCOME: "unknown_outcome",
}

_STATES: Mapping[Progress, tuple[str, int]] = {
    Progress.BOUND: ("not_started", 0),
    Progress.SUBMITTED: ("running", 0),
    Progress.FETCHING: ("running", 99),
    Progress.FINISHED: ("finished", 100),
    Progress.FAILED: ("failed", 0),
}


def order_facts(passages: Sequence[Passage], *, nests_files: bool, callback_is_status: bool) -> OrderFacts:
    """One of the two; ``nests_files`` says that its clients may look for files in ``output``, too."""
    return OrderFacts(
        order_paths=("/api/generate/submit",),  # Vidgo, quickstart; APIDot, gpt-image-2-api
        status_paths=(_STATUS, _MUSIC_STATUS),
        passages=tuple(passages),
        model_at=("model",),
        has_callbacks=True,
        task_id_at=(("data", "task_id"), ("task_id",)),  # APIDot's own receivers look at both
        has_codes=True,
        callback_is_status=callback_is_status,
        refuse=refuse,
        submitted=submitted,
        status=partial(status, nests_files=nests_files),
    )


def refuse(refusal: GatewayRefusal) -> object:
    """A refusal as each kind of client reads it."""
    kind = _TYPES.get(refusal.kind, _INVALID)
    return {
        "code": refusal.status,
        "message": refusal.message,
        "error": {"type": kind, "message": refusal.message},
        "detail": refusal.message,
    }


def submitted(task_id: str, at: datetime) -> object:
    """The answer to an order."""
    return {
        "code": 200,
        "data": {"task_id": task_id, "status": "not_started", "created_time": _without_zone(at)},
    }


def status(view: StatusView, *, nests_files: bool) -> object:
    """A status answer."""
    word, progress = _STATES[view.progress]
    files = [_file(file) for file in view.files] if view.progress is Progress.FINISHED else []
    data: dict[str, object] = {
        "task_id": view.task_id,
        "status": word,
        "files": files,
        "created_time": _without_zone(view.created_at),
        "progress": progress,
        "error_message": view.error_message if view.progress is Progress.FAILED else None,
    }
    if nests_files:
        data["output"] = {"files": files}
    return {"code": 200, "data": data}


def _file(file: RemoteFile) -> object:
    return {"file_url": file.url, "file_type": file.kind}


def _without_zone(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")  # as both documentations show it
