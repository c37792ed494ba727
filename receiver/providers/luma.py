"""Luma (Dream Machine): a post for every change, and exactly 200 wanted within five seconds.

Documented at https://docs.lumalabs.ai (changelog/callbacks-and-credits-balance); the shape of a generation is
that of its API reference and of public clients.
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

_STATES = {
    "queued": ReportState.PROGRESS,
    "dreaming": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}


class Luma:
    """Reads Luma's callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="luma",
        title="Luma",
        base_url="https://api.lumalabs.ai",
        pushes=True,
        callback_rules="HTTPS, exactly 200 within 5 s; three retries 100 ms apart, then never again.",
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=15,  # assumption: public clients ask every 3 to 12 s
        polls_per_minute=30,  # assumption: not documented
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        assets = task.get("assets")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("state"), 100),
            states=_STATES,
            files=_files(assets),
            named=([assets],),  # there always are some
            error=payload.error_of(task.get("error"), message=task.get("failure_reason")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/dream-machine/v1/generations/{path_part(task_id)}")


def _files(assets: object) -> Iterator[RemoteFile | None]:
    found = payload.mapping(assets)
    yield payload.file_of(found.get("video"), "video")
    yield payload.file_of(found.get("image"), "image")
