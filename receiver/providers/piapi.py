"""PiAPI (GoAPI): many models' tasks in one envelope, a secret in clear, progress among its posts.

Documented at https://piapi.ai/docs (unified-webhook, and each model's page "get task").
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, Signing, SigningKeys, StatusRequest
from receiver.signing import secret_fits
from receiver.urls import path_part

# The pages write them with a capital or without.
_STATES = {
    "pending": ReportState.PROGRESS,
    "staged": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}


class Piapi:
    """Reads PiAPI's callbacks and status answers, which have the task under ``data``."""

    facts = ProviderFacts(
        name="piapi",
        title="PiAPI",
        base_url="https://api.piapi.ai",
        pushes=True,
        callback_rules="HTTPS, any 2xx; how it retries is not documented.",
        link_life_seconds=24 * 3600,  # assumption: files are deleted after a time that is not given
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=15,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
        signing=Signing.TEXT,
        signs_body=False,
        key_header="x-api-key",
        key_prefix="",
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        """The ``webhook_config.secret`` of the order comes back in a header; it stands in the body, too."""
        return secret_fits(keys.secrets, callback.headers.get("x-webhook-secret", ""))

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        task = payload.mapping(outer.get("data")) or outer
        output, error = task.get("output"), payload.mapping(task.get("error"))
        word = payload.text(task.get("status"), 100)
        return payload.build_report(
            task_id=payload.task_id(task.get("task_id")),
            word=word.lower() if word else None,
            states=_STATES,
            files=payload.named_files(output),  # its shape is each model's own
            named=(output,),
            error=payload.error_of(
                task.get("error"),
                # A task without an error has one all the same, of code 0 and without words.
                message=error.get("message") or error.get("raw_message"),
            ),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/api/v1/task/{path_part(task_id)}")
