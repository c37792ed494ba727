"""Kling, and the many resellers that speak as it does: a post for every change of a task.

Documented at https://app.klingai.com (document-api/apiReference, callbackProtocol), and by resellers that
pass it on, such as https://apidoc.cometapi.com (callback-url-doc-866305, api/video/kling/individual-queries).
"""

from collections.abc import Iterator, Mapping

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

_STATES = {
    "submitted": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "succeed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}
_KINDS = {"images": "image", "videos": "video", "audios": "audio"}


class Kling:
    """Reads Kling's callbacks, and its status answers, which have an envelope around the same.

    Kling's own key is a token that its client makes anew every half hour; resellers' keys stay, and
    ``KLING_BASE_URL`` names their address, with what stands before ``/v1`` there.
    """

    facts = ProviderFacts(
        name="kling",
        title="Kling",
        base_url="https://api.klingai.com",
        pushes=True,
        callback_rules="HTTPS; a post for every change, and how it retries is not documented.",
        link_life_seconds=24 * 3600,  # resellers differ; Kling's own live 30 days (callbackProtocol)
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=15,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        task = payload.mapping(outer.get("data")) or outer
        result = payload.mapping(task.get("task_result"))
        return payload.build_report(
            task_id=payload.task_id(task.get("task_id")),
            word=payload.text(task.get("task_status"), 100),
            states=_STATES,
            files=_files(result),
            named=(task.get("task_result"),),
            error=payload.error_of(task.get("task_status_msg")),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest:
        # ``videos/image2video/kling-v2`` says under which path it was ordered; without that it is an image,
        # or else a film made from words.
        parts = [path_part(part) for part in (model or "").split("/") if part]
        if len(parts) > 2:
            return StatusRequest(path=f"/v1/{parts[0]}/{parts[1]}/{path_part(task_id)}")
        film = StatusRequest(path=f"/v1/videos/text2video/{path_part(task_id)}")
        return StatusRequest(path=f"/v1/images/generations/{path_part(task_id)}", otherwise=film)


def _files(result: Mapping[str, object]) -> Iterator[RemoteFile | None]:
    """In the order of ``index``, which is that of the list; ``parent_video`` is what was worked on."""
    for key, kind in _KINDS.items():
        for item in payload.items(result.get(key)):
            yield payload.file_of(item, kind)
