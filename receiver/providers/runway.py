"""Runway: polling only, a version in a header.

Documented at https://docs.dev.runwayml.com (api, and assets/outputs for how long links live).
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, SigningKeys, StatusRequest
from receiver.urls import path_part

_STATES = {
    "PENDING": ReportState.PROGRESS,
    "THROTTLED": ReportState.PROGRESS,
    "RUNNING": ReportState.PROGRESS,
    "SUCCEEDED": ReportState.COMPLETED,
    "FAILED": ReportState.FAILED,
    "CANCELLED": ReportState.FAILED,
}
_VERSION = {"X-Runway-Version": "2024-11-06"}  # without one every question is refused


class Runway:
    """Reads Runway's task answers; a callback of the same shape would be understood too."""

    facts = ProviderFacts(
        name="runway",
        title="Runway",
        base_url="https://api.dev.runwayml.com",
        pushes=False,  # no page mentions callbacks
        callback_rules="None: Runway sends no callbacks, its tasks are polled.",
        link_life_seconds=24 * 3600,  # assets/outputs: 24 to 48 h
        first_poll_seconds=15,  # assumption: films take at least that long
        poll_spacing_seconds=5,  # as the page of tasks asks for
        polls_per_minute=60,  # assumption: not documented
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it sends nothing
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        output = task.get("output")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("status"), 100),
            states=_STATES,
            files=map(payload.file_of, payload.items(output)),
            named=(output,),
            error=payload.error_of(
                task.get("error"), number=task.get("failureCode"), message=task.get("failure")
            ),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/v1/tasks/{path_part(task_id)}", headers=_VERSION)
