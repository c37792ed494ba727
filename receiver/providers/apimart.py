"""APIMart: polling only, links that are text in one revision and a list in another.

Documented at https://docs.apimart.ai/en/api-reference/tasks/status .
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, SigningKeys, StatusRequest
from receiver.urls import path_part

_STATES = {
    "pending": ReportState.PROGRESS,
    "submitted": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
    "cancelled": ReportState.FAILED,
}


class Apimart:
    """Reads APIMart's status answers; a callback of the same shape would be understood too."""

    facts = ProviderFacts(
        name="apimart",
        title="APIMart",
        base_url="https://api.apimart.ai",
        pushes=False,  # no page mentions callbacks
        callback_rules="None: APIMart sends no callbacks, its tasks are polled.",
        link_life_seconds=24 * 3600,  # ``expires_at`` of the page's example
        first_poll_seconds=10,  # assumption: images take at least that long
        poll_spacing_seconds=5,  # assumption: not documented
        polls_per_minute=60,  # assumption: not documented
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it sends nothing
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(payload.mapping(document).get("data"))
        result = task.get("result")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("status"), 100),
            states=_STATES,
            files=payload.named_files(result),
            named=(result,),
            error=payload.error_of(task.get("error")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/v1/tasks/{path_part(task_id)}")
