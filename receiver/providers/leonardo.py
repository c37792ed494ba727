"""Leonardo: posts to one URL for a whole account, with a key in clear.

Documented at https://docs.leonardo.ai (docs/guide-to-the-webhook-callback-feature); the shape of a callback
is what public clients of it check.
"""

from collections.abc import Iterator, Mapping

from receiver import payload
from receiver.models import (
    Callback,
    ProviderFacts,
    RemoteFile,
    Report,
    ReportState,
    Signing,
    SigningKeys,
    StatusRequest,
)
from receiver.signing import secret_fits
from receiver.urls import path_part

_STATES = {
    "PENDING": ReportState.PROGRESS,
    "COMPLETE": ReportState.COMPLETED,
    "FAILED": ReportState.FAILED,
}
_BEARER = "Bearer "


class Leonardo:
    """Reads Leonardo's callbacks about images, and its status answers."""

    facts = ProviderFacts(
        name="leonardo",
        title="Leonardo",
        base_url="https://cloud.leonardo.ai",
        pushes=True,
        callback_rules="HTTPS, any 2xx; one URL for all tasks of an API key, and retries are not documented.",
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=120,  # assumption: failures may send no callback
        poll_spacing_seconds=10,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
        signing=Signing.TEXT,
        signs_body=False,
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        """The webhook callback key of the production API key, as a bearer token."""
        header = callback.headers.get("authorization", "")
        return header.startswith(_BEARER) and secret_fits(keys.secrets, header.removeprefix(_BEARER))

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        task = payload.mapping(payload.mapping(outer.get("data")).get("object"))
        images = task.get("images")
        if not task:
            task = payload.mapping(outer.get("generations_by_pk"))  # of a status answer
            images = task.get("generated_images")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=_word(outer, task),
            states=_STATES,
            files=_files(images),
            named=(images,),
            error=payload.error_of(task.get("error")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/api/rest/v1/generations/{path_part(task_id)}")


def _word(outer: Mapping[str, object], task: Mapping[str, object]) -> str | None:
    """The state; none of events about something else, such as ``post_processing.complete``."""
    event = payload.text(outer.get("type"), 100)
    is_image = event is None or event.startswith("image_generation.")
    return payload.text(task.get("status"), 100) if is_image else None


def _files(images: object) -> Iterator[RemoteFile | None]:
    for image in payload.items(images):
        yield payload.file_of(image)
        yield payload.remote_file(payload.mapping(image).get("motionMP4URL"), "video")
