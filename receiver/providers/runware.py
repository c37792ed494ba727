"""Runware: one post for each image of an order, so the whole is asked for.

Documented at https://runware.ai/docs ; the page behind each fact is named beside it. That a post has the same
items as an answer is an assumption: its page shows none.
"""

from collections.abc import Iterator, Mapping, Sequence

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

# platform/task-polling; an older one has "pending"
_STATES = {
    "pending": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "success": ReportState.COMPLETED,
    "error": ReportState.FAILED,
}
_KINDS = {"imageURL": "image", "videoURL": "video", "audioURL": "audio", "modelURL": "model"}


class Runware:
    """Reads Runware's callbacks and its answers to ``getResponse``, which have items under ``data``."""

    facts = ProviderFacts(
        name="runware",
        title="Runware",
        base_url="https://api.runware.ai",
        pushes=True,
        callback_rules="HTTPS, any 2xx, or it is sent again; one post for each result.",  # platform/webhooks
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=60,  # assumption: images take seconds, and films minutes
        poll_spacing_seconds=5,  # "1 to 2 s" and growing (platform/task-polling)
        polls_per_minute=60,  # assumption: not documented
        tells_all=False,
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - tokens in URLs are its way
        return False

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        items = [*map(payload.mapping, payload.items(outer.get("data")))] or [outer]
        errors = [*map(payload.mapping, payload.items(outer.get("errors")))]
        ids = [payload.task_id(each.get("taskUUID")) for each in (*items, *errors)]
        return payload.build_report(
            task_id=next(filter(None, ids), None),
            word=_word(items, errors),
            states=_STATES,
            files=_files(items),
            named=(items,),  # there always are some
            error=payload.error_of(errors[0] if errors else items[0].get("error")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about in the same way
    ) -> StatusRequest:
        return StatusRequest(path="/v1", body=[{"taskType": "getResponse", "taskUUID": task_id}])


def _word(items: Sequence[Mapping[str, object]], errors: Sequence[object]) -> str | None:
    """The state of the whole: what runs is not over, and one image is a success, whatever failed beside it.

    An item without a state is over, if it names a file.
    """
    words = ["success" if _has_file(each) and "status" not in each else each.get("status") for each in items]
    found = [word for word in (payload.text(word, 100) for word in words) if word]
    if errors:
        found.append("error")
    unknown = [word for word in found if word not in _STATES]
    return next((word for word in (*unknown, *_STATES) if word in found), None)


def _has_file(item: Mapping[str, object]) -> bool:
    return any(payload.text(item.get(key)) for key in _KINDS)


def _files(items: Sequence[Mapping[str, object]]) -> Iterator[RemoteFile | None]:
    for item in items:
        for key, kind in _KINDS.items():
            yield payload.file_of(item.get(key), kind)
