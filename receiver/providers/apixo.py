"""APIXO: results as JSON text inside the JSON, and a status endpoint that wants the model.

Documented at https://apixo.ai/docs ; the page behind each fact is named beside it.
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, SigningKeys, StatusRequest
from receiver.urls import path_part

# api-reference/status-task; the outer ``code`` and ``message`` say success even for a failed task.
_STATES = {
    "pending": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "success": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}


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
