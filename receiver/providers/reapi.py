"""reAPI: polling only, flat answers, the kind of a file told by the key that holds its link.

Documented at https://reapi.ai/docs ; the page behind each fact is named beside it.
"""

from collections.abc import Iterator

from receiver import payload
from receiver.models import (
    Callback,
    ProviderFacts,
    RemoteFile,
    Report,
    ReportState,
    SigningKeys,
    StatusRequest,
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

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it sends nothing
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        output, word = task.get("output"), payload.text(task.get("status"), 100)
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=word,
            states=_STATES,
            files=_files(output),
            named=(output,),
            error=payload.error_of(task.get("error")),  # codes of five digits, such as 80006: docs/api/errors
        )

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
