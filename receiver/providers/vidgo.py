"""Vidgo: image, video and music tasks, one envelope, unsigned callbacks.

Documented at https://docs.vidgo.ai/api-manual ; the page behind each fact is named beside it.
"""

from collections.abc import Iterator

from receiver import payload
from receiver.models import Callback, ProviderFacts, RemoteFile, Report, StatusRequest
from receiver.words import ReportState

# task-management/status and task-management/webhooks; the outer ``code`` is 200 even for a failed task.
_STATES = {
    "not_started": ReportState.PROGRESS,
    "running": ReportState.PROGRESS,
    "finished": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}

# music-series/query-music-detail: these models are asked about at another path.
_MUSIC_MODELS = frozenset(
    {
        "generate-music",
        "extend-music",
        "upload-and-cover-audio",
        "upload-and-extend-audio",
        "add-instrumental",
        "add-vocals",
        "replace-section",
        "get-timestamped-lyrics",
        "generate-lyrics",
        "boost-music-style",
        "convert-to-wav",
        "separate-vocals",
        "upload-and-separate-vocals",
        "stem-split",
        "generate-music-cover",
        "generate-persona",
        "create-music-video",
    }
)

# music-series/music-webhook: the keys of a music item that hold one link, and what kind of file it is.
_LINK_KEYS = {"audio_url": "audio", "image_url": "image", "video_url": "video", "wav_url": "audio"}
# The same page: keys whose value is JSON text with a link for each stem or cover.
_TEXT_KEYS = {
    "separate_vocals": "audio",
    "vocal_removal": "audio",
    "stem_split": "audio",
    "generate_cover": "image",
}
_MUSIC_KEYS = _LINK_KEYS.keys() | _TEXT_KEYS.keys()


class Vidgo:
    """Reads Vidgo's callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="vidgo",
        title="Vidgo",
        base_url="https://api.vidgo.ai",  # quickstart
        pushes=True,
        callback_rules=(  # task-management/webhooks
            "HTTPS, at most 2048 characters, a public address, any 2xx within 10 s; "
            "three retries after 1, 2 and 4 s, then never again."
        ),
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=15,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
    )

    def verify(self, callback: Callback) -> bool:  # noqa: ARG002 - Vidgo documents no signature
        return False

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        data = payload.mapping(outer.get("data")) or outer
        return payload.conclude(
            task_id=payload.task_id(data.get("task_id")),
            word=payload.text(data.get("status"), 100),
            states=_STATES,
            files=(file for item in payload.items(data.get("files")) for file in _files_of(item)),
            error_message=payload.text(data.get("error_message")),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest:
        if model in _MUSIC_MODELS:
            # The page requires ``task_id`` but does not show where it goes; a query string is assumed.
            return StatusRequest(path="/api/generate/detail/music", query={"task_id": task_id})
        return StatusRequest(path=f"/api/generate/status/{payload.path_part(task_id)}")


def _files_of(item: object) -> Iterator[RemoteFile | None]:
    """Every link of one item of ``files``: one for an image or video, several for music, none for lyrics."""
    fields = payload.mapping(item)
    yield payload.remote_file(fields.get("file_url"), fields.get("file_type"))
    if _MUSIC_KEYS.isdisjoint(fields):
        return
    # In our order, not in the item's: callback and status answer must name the files alike.
    for key, kind in _LINK_KEYS.items():
        yield payload.remote_file(fields.get(key), kind)
    for key, kind in _TEXT_KEYS.items():
        for link in payload.links(payload.embedded(fields.get(key))):
            yield payload.remote_file(link, kind)
