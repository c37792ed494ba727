"""Replicate: predictions whose output is text, a list or an object; signed by Standard Webhooks.

Documented at https://replicate.com/docs/topics ; the page behind each fact is named beside it.
"""

from receiver import payload, signing
from receiver.models import ProviderFacts, Report, ReportState, Signing, StatusRequest
from receiver.urls import path_part

# predictions/lifecycle
_STATES = {
    "starting": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "succeeded": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
    "canceled": ReportState.FAILED,
    "aborted": ReportState.FAILED,
}


class Replicate:
    """Reads Replicate's callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="replicate",
        title="Replicate",
        base_url="https://api.replicate.com",  # reference/http; the version is part of each path here
        pushes=True,
        callback_rules=(  # webhooks/receive-webhook
            "HTTPS, any 2xx within a few seconds; only the end is retried, for about a minute."
        ),
        link_life_seconds=3600,  # predictions/data-retention
        first_poll_seconds=120,  # the last retry comes about a minute after the end
        poll_spacing_seconds=10,  # assumption: not documented
        polls_per_minute=60,  # assumption, far below the 3000 a minute of reference/http
        signing=Signing.BASE64,  # webhooks/verify-webhook
    )

    verify = staticmethod(signing.is_standard)

    def parse(self, document: object) -> Report:
        prediction = payload.mapping(document)
        output = prediction.get("output")
        return payload.build_report(
            task_id=payload.task_id(prediction.get("id")),
            word=payload.text(prediction.get("status"), 100),
            states=_STATES,
            # What an output looks like is each model's own: all links in it are results.
            files=map(payload.remote_file, payload.links(output)),
            named=(output,),
            is_fileless=_is_words,
            error=payload.error_of(prediction.get("error")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/v1/predictions/{path_part(task_id)}")


def _is_words(output: object) -> bool:
    """Whether it is the text of a language model, whole or in pieces; files may also come as ``data:``."""
    pieces = [output] if isinstance(output, str) else payload.items(output)
    are_texts = all(isinstance(each, str) and not each.startswith("data:") for each in pieces)
    return are_texts and any(map(payload.text, pieces))
