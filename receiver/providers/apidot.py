"""APIDot: image, video, audio and 3D tasks; files in any of three places, no promise to retry.

Its documentation pages were not to be had; the facts come from the company's own repositories,
https://github.com/APIDotAI/gpt-image-2-api and https://github.com/APIDotAI/apidot-examples .
"""

from collections.abc import Mapping

from receiver import payload
from receiver.models import Callback, ProviderFacts, RemoteFile, Report, StatusRequest
from receiver.words import ReportState

# apidot-examples, polling/task-status.md; ``running`` is assumed. The outer ``code`` is 0 or 200 and says
# nothing about the task.
_STATES = {
    "not_started": ReportState.PROGRESS,
    "running": ReportState.PROGRESS,
    "finished": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}


class Apidot:
    """Reads APIDot's callbacks and status answers."""

    facts = ProviderFacts(
        name="apidot",
        title="APIDot",
        base_url="https://api.apidot.ai",  # gpt-image-2-api, README
        pushes=True,
        callback_rules=(  # gpt-image-2-api, README; apidot-examples, webhooks/express-webhook/README.md
            "Any 2xx, quickly; the same callback may come twice, and whether a lost one is ever repeated "
            "is not documented."
        ),
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=10,  # apidot-examples, polling/task-status.md: 5 to 10 s
        polls_per_minute=30,  # assumption: a limit exists (429 rate_limited), its value is not given
    )

    def verify(self, callback: Callback) -> bool:  # noqa: ARG002 - APIDot documents no signature
        return False

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        data = payload.mapping(outer.get("data"))

        # Field by field, as the company's own receivers do: the envelope, or a part of it, may be missing.
        def field(name: str) -> object:
            inner = data.get(name)
            return outer.get(name) if inner is None else inner

        return payload.conclude(
            task_id=payload.task_id(field("task_id")),
            word=payload.text(field("status"), 100),
            states=_STATES,
            files=_files(outer, data),
            error_message=payload.text(field("error_message")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/api/generate/status/{payload.path_part(task_id)}")


def _files(outer: Mapping[str, object], data: Mapping[str, object]) -> list[RemoteFile]:
    """The files of the first place that names any.

    The documented status answer has them in ``data.output.files`` (gpt-image-2-api, curl/generate.md), the
    official receivers read ``data.files`` or ``files`` (webhooks/express-webhook/server.mjs).
    """
    places = (
        data.get("files"),
        payload.mapping(data.get("output")).get("files"),
        outer.get("files"),
        payload.mapping(outer.get("output")).get("files"),
    )
    return next((files for place in places if (files := _read(place))), [])


def _read(place: object) -> list[RemoteFile]:
    found = []
    for item in payload.items(place):
        fields = payload.mapping(item)
        # image, audio and model (a .glb) are shown in the examples; other words pass through.
        if file := payload.remote_file(fields.get("file_url"), fields.get("file_type")):
            found.append(file)
    return found
