"""APIXO: results as JSON text inside the JSON, and a status endpoint that wants the model.

Documented at https://apixo.ai/docs ; the page behind each fact is named beside it.
"""

import json
from collections.abc import Mapping
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
    Report,
    ReportState,
    SigningKeys,
    StatusRequest,
    StatusView,
)
from receiver.urls import path_part

# api-reference/status-task; the outer ``code`` and ``message`` say success even for a failed task.
_STATES = {
    "pending": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "success": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}

_WORDS: Mapping[Progress, str] = {
    Progress.BOUND: "pending",
    Progress.SUBMITTED: "processing",
    Progress.FETCHING: "processing",
    Progress.FINISHED: "success",
    Progress.FAILED: "failed",
}

# The errors page has these for what it has; the others are the names of their HTTP statuses.
_MESSAGES: Mapping[RefusalKind, str] = {
    RefusalKind.NO_CREDENTIAL: "Unauthorized",
    RefusalKind.NOT_BEARER: "Unauthorized",
    RefusalKind.WRONG_CREDENTIAL: "Unauthorized",
    RefusalKind.NOT_ALLOWED: "Forbidden",
    RefusalKind.OVER_BUDGET: "Payment Required",
    RefusalKind.NOT_FOUND: "Not Found",
    RefusalKind.OTHER_BODY: "Conflict",
    RefusalKind.STILL_OPEN: "Conflict",
    RefusalKind.UNAVAILABLE: "Service Unavailable",
    RefusalKind.UNKNOWN_OUTCOME: "Gateway Timeout",
}


def refuse(refusal: GatewayRefusal) -> object:
    """A refusal of the gateway's, as the errors page has them."""
    message = _MESSAGES.get(refusal.kind, "Invalid request")
    return {"code": refusal.status, "message": message, "data": {"error": refusal.message}}


def submitted(task_id: str, _at: datetime) -> object:
    """The answer to an order: api-reference/generate-task."""
    return _envelope({"taskId": task_id})


def status(view: StatusView) -> object:
    """A status answer: api-reference/status-task."""
    data: dict[str, object] = {"taskId": view.task_id, "state": _WORDS[view.progress]}
    if view.progress is Progress.FINISHED:
        data["resultJson"] = json.dumps({"resultUrls": [file.url for file in view.files]})
    if view.progress is Progress.FAILED:
        data |= {"failCode": view.error_code, "failMsg": view.error_message}
    data["createTime"] = _milliseconds(view.created_at)
    if view.ended_at is not None and view.progress in {Progress.FINISHED, Progress.FAILED}:
        data["completeTime"] = _milliseconds(view.ended_at)
        data["costTime"] = max(0, _milliseconds(view.ended_at) - _milliseconds(view.created_at))
    return _envelope(data)


def _envelope(data: object) -> object:
    return {"code": 200, "message": "success", "data": data}


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


class Apixo:
    """Reads APIXO's callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="apixo",
        title="APIXO",
        base_url="https://api.apixo.ai",  # api-reference; the version is part of each path here
        pushes=True,
        callback_rules=(  # api-reference/webhooks
            "HTTPS, a public address, exactly 200 within 30 s; up to three retries with growing delays."
        ),
        link_life_seconds=24 * 3600,  # api-reference/response-format
        first_poll_seconds=300,  # guides/best-practices: quality images give up after 3 min
        poll_spacing_seconds=15,  # guides/best-practices: 3 to 15 s, by kind of task
        polls_per_minute=5,  # api-reference: 10 requests a minute on the free plan, submissions included
    )

    orders = OrderFacts(
        order_paths=("/api/v1/generateTask/{model}",),  # api-reference/generate-task
        status_paths=("/api/v1/statusTask/{model}?taskId={task_id}",),
        # Its own public client asks for it.
        passages=(Passage(method="GET", path="/api/v1/apikeys/current-balance"),),
        model_at=None,
        has_callbacks=True,
        sets={"request_type": "callback"},  # else it ignores the URL
        task_id_at=(("data", "taskId"),),
        has_codes=True,
        callback_is_status=True,  # api-reference/webhooks
        refuse=refuse,
        submitted=submitted,
        status=status,
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        data = payload.mapping(outer.get("data")) or outer
        # ``resultJson`` is text by the documentation, an object in one public client's experience. It says
        # nothing about kinds; the links' extensions do.
        links = payload.mapping(payload.embedded(data.get("resultJson"))).get("resultUrls")
        return payload.build_report(
            task_id=payload.task_id(data.get("taskId")),
            word=payload.text(data.get("state"), 100),
            states=_STATES,
            files=map(payload.file_of, payload.items(links)),
            # Where no link can be read there are files all the same: asking again may show them.
            named=(data,),
            # An open set with two vocabularies, CONTENT_VIOLATION and SensitiveContent (errors pages).
            error=payload.error_of(
                data.get("error"), number=data.get("failCode"), message=data.get("failMsg")
            ),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest | None:
        if not model:
            return None
        path = f"/api/v1/statusTask/{path_part(model)}"
        return StatusRequest(path=path, query={"taskId": task_id})
