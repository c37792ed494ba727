"""reAPI: polling only, flat answers, the kind of a file told by the key that holds its link.

Documented at https://reapi.ai/docs ; the page behind each fact is named beside it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from receiver import payload
from receiver.models import (
    Callback,
    GatewayRefusal,
    OrderFacts,
    Passage,
    Progress,
    ProviderFacts,
    RefusalKind,
    RemoteFile,
    Report,
    ReportState,
    SigningKeys,
    StatusRequest,
    StatusView,
)
from receiver.urls import path_part

# docs/api/tasks
_STATES = {
    "processing": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
    # Third parties' public clients take these for ends as well.
    "cancelled": ReportState.FAILED,
    "expired": ReportState.FAILED,
    "error": ReportState.FAILED,
}
_LIST_KEYS = {"image_urls": "image", "video_urls": "video", "audio_urls": "audio"}

# docs/api/errors has those of five digits that begin with 1 and 2; those with 99 are a family of ours.
_CODES: Mapping[RefusalKind, int] = {
    RefusalKind.NO_CREDENTIAL: 10001,
    RefusalKind.NOT_BEARER: 10002,
    RefusalKind.WRONG_CREDENTIAL: 10003,
    RefusalKind.NOT_ALLOWED: 99403,
    RefusalKind.NO_PROMPT: 20002,
    RefusalKind.OVER_BUDGET: 99402,
    RefusalKind.NOT_FOUND: 99404,
    RefusalKind.OTHER_BODY: 99422,
    RefusalKind.STILL_OPEN: 99409,
    RefusalKind.UNAVAILABLE: 99503,
    RefusalKind.UNKNOWN_OUTCOME: 99504,
}
_INVALID = 99400
_LOST = 99408
_WORDS: Mapping[Progress, str] = {Progress.FINISHED: "completed", Progress.FAILED: "failed"}


def refuse(refusal: GatewayRefusal) -> object:
    """A refusal of the gateway's: docs/api/errors."""
    code = _CODES.get(refusal.kind, _INVALID)
    return {"error": {"code": code, "message": refusal.message, "request_id": f"req_{refusal.request_id}"}}


def submitted(task_id: str, at: datetime) -> object:
    """The answer to an order: docs/api/images."""
    return {"id": task_id, "status": "processing", "created_at": int(at.timestamp())}


def status(view: StatusView) -> object:
    """A task answer: docs/api/tasks."""
    is_finished, is_failed = view.progress is Progress.FINISHED, view.progress is Progress.FAILED
    return {
        "id": view.task_id,
        "model": view.model,
        "status": _WORDS.get(view.progress, "processing"),
        "created_at": int(view.created_at.timestamp()),
        "output": _output(view) if is_finished else None,
        "error": {"code": _number(view.error_code), "message": view.error_message} if is_failed else None,
    }


def _output(view: StatusView) -> Mapping[str, list[str]]:
    urls = {key: [file.url for file in view.files if file.kind == kind] for key, kind in _LIST_KEYS.items()}
    return {key: found for key, found in urls.items() if found} or {"image_urls": []}


def _number(code: str | None) -> int:
    return int(code) if code is not None and code.isdecimal() else _LOST


class Reapi:
    """Reads reAPI's task answers; a callback of the same shape would be understood too."""

    facts = ProviderFacts(
        name="reapi",
        title="reAPI",
        base_url="https://reapi.ai",  # docs/api; the version is part of each path here
        pushes=False,  # no page mentions callbacks
        callback_rules="None: reAPI sends no callbacks, its tasks are polled.",
        link_life_seconds=7 * 24 * 3600,  # https://reapi.ai/models/gpt-image-2
        first_poll_seconds=5,  # assumption: images take at least that long
        poll_spacing_seconds=3,  # docs/api: 1 to 2 s; reAPI's public skill: 2 to 3 s
        polls_per_minute=60,  # assumption: 429 with Retry-After exists, its limit is not given
    )

    orders = OrderFacts(
        order_paths=(  # docs/api; audio: third parties' public clients
            "/api/v1/images/generations",
            "/api/v1/videos/generations",
            "/api/v1/audio/generations",
        ),
        status_paths=("/api/v1/tasks/{task_id}",),
        passages=(Passage(method="GET", path="/api/v1/balance"),),  # a public client asks for it
        model_at=("model",),
        has_callbacks=False,
        task_id_at=(("id",), ("task_id",)),
        has_codes=False,
        callback_is_status=True,
        refuse=refuse,
        submitted=submitted,
        status=status,
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it sends nothing
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        output, word = task.get("output"), payload.text(task.get("status"), 100)
        report = payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=word,
            states=_STATES,
            files=_files(output),
            named=(output,),
            error=payload.error_of(task.get("error")),  # codes of five digits, such as 80006: docs/api/errors
        )
        # Not documented, but read by clients of others.
        return payload.with_credits(report, payload.mapping(task.get("usage")).get("credits"))

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/api/v1/tasks/{path_part(task_id)}")


def _files(output: object) -> Iterator[RemoteFile | None]:
    """The links of ``output`` in order. ``tracks`` repeats ``audio_urls`` with titles (the public skill)."""
    found = payload.mapping(output)
    for key, kind in _LIST_KEYS.items():
        for url in payload.items(found.get(key)):
            yield payload.file_of(url, kind)
    for track in payload.items(found.get("tracks")):
        yield payload.file_of(track, "audio")
    yield payload.remote_file(found.get("last_frame_url"), "image")  # some video models: docs/api/tasks
