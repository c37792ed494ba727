"""OpenAI: events that say of a background response or a batch that it ended, and nothing of what it made.

The answer about it says that, so it is asked for first. Documented at https://developers.openai.com/api/docs
(guides/webhooks, guides/background, guides/batch, guides/image-generation).
"""

from collections.abc import Iterator, Mapping

from receiver import payload, signing
from receiver.models import ProviderFacts, RemoteFile, Report, ReportState, Signing, StatusRequest
from receiver.urls import path_part

# Types of events, and the states of what they are about behind its ``object``: they share their words.
_STATES = {
    "response.queued": ReportState.PROGRESS,
    "response.in_progress": ReportState.PROGRESS,
    "response.completed": ReportState.COMPLETED,
    "response.failed": ReportState.FAILED,
    "response.cancelled": ReportState.FAILED,
    "response.incomplete": ReportState.FAILED,
    "batch.validating": ReportState.PROGRESS,
    "batch.in_progress": ReportState.PROGRESS,
    "batch.finalizing": ReportState.PROGRESS,
    "batch.cancelling": ReportState.PROGRESS,
    "batch.completed": ReportState.COMPLETED,
    "batch.failed": ReportState.FAILED,
    "batch.expired": ReportState.FAILED,
    "batch.cancelled": ReportState.FAILED,
}
# A response holds its images as base64: that much for some ten of them.
_MOST_BYTES = 32 * 2**20


class Openai:
    """Reads OpenAI's events, and its answers about responses and batches.

    The images of a response stand in it as base64, and are stored from there. Those of a batch are in a file
    of OpenAI's, which is not fetched: such a task ends without files, as one that made text does.
    """

    facts = ProviderFacts(
        name="openai",
        title="OpenAI",
        base_url="https://api.openai.com",
        pushes=True,
        callback_rules="HTTPS, any 2xx; one URL for all tasks of a project, and retries for 72 hours.",
        link_life_seconds=24 * 3600,  # it has no links: so long its images may take to be stored
        first_poll_seconds=600,  # assumption: retries come long after, and answers have images in them
        poll_spacing_seconds=60,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
        tells_all=False,  # an event says nothing of what was made
        signing=Signing.BASE64,  # Standard Webhooks, ``whsec_`` of the project's endpoint (guides/webhooks)
    )

    verify = staticmethod(signing.is_standard)

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        task = payload.mapping(outer.get("data")) or outer
        errors = payload.items(payload.mapping(task.get("errors")).get("data"))  # of a batch
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=_word(outer, task),
            states=_STATES,
            files=_images(task),
            named=(task,),
            is_fileless=lambda _: True,
            error=payload.error_of(
                task.get("error") or next(iter(errors), None),
                message=payload.mapping(task.get("incomplete_details")).get("reason"),
            ),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - the id says what it is
    ) -> StatusRequest:
        if task_id.startswith("batch_"):
            return StatusRequest(path=f"/v1/batches/{path_part(task_id)}")
        return StatusRequest(path=f"/v1/responses/{path_part(task_id)}", most_bytes=_MOST_BYTES)


def _images(task: Mapping[str, object]) -> Iterator[RemoteFile | None]:
    """What calls of the image tool made."""
    for item in payload.items(task.get("output")):
        call = payload.mapping(item)
        if call.get("type") == "image_generation_call":
            yield payload.base64_file(call.get("result"), "image")


def _word(outer: Mapping[str, object], task: Mapping[str, object]) -> str | None:
    if task is not outer:
        return payload.text(outer.get("type"), 100)
    kind, state = payload.text(outer.get("object"), 50), payload.text(outer.get("status"), 50)
    return f"{kind}.{state}" if kind and state else None
