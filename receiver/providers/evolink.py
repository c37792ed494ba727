"""Evolink: tasks of many models whose results are a list of links.

Documented at https://docs.evolink.ai (api-manual) and in https://github.com/Evolink-AI (docs/callbacks.md).
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, SigningKeys, StatusRequest
from receiver.urls import path_part

_STATES = {
    "pending": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,  # this and the next: public clients
    "cancelled": ReportState.FAILED,
}


class Evolink:
    """Reads Evolink's callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="evolink",
        title="Evolink",
        base_url="https://api.evolink.ai",
        pushes=True,
        callback_rules="HTTPS, any 2xx, quickly; how it retries is not documented.",
        link_life_seconds=24 * 3600,  # its public skills
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=10,  # public clients: 2 to 10 s
        polls_per_minute=30,  # assumption: not documented
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        results = task.get("results")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("status"), 100),
            states=_STATES,
            files=map(payload.file_of, payload.items(results)),
            named=(results,),
            error=payload.error_of(task.get("error")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/v1/tasks/{path_part(task_id)}")
