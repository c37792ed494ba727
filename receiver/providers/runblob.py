"""Runblob: images and films of many models, each family with a path and names of its own.

Documented at https://docs.runblob.io (api-reference); the page behind each fact is named beside it.
"""

from collections.abc import Mapping

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, SigningKeys, StatusRequest
from receiver.urls import path_part

# nanobanana/status
_STATES = {
    "pending": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
    "success true": ReportState.COMPLETED,  # ``success`` of veo3/webhooks as docs.runblob.com has it
    "success false": ReportState.FAILED,
}
_ID_KEYS = ("task_uuid", "generation_id", "task_id")  # of images, of films, and of docs.runblob.com
# By how the model's name begins. Nano Banana's is documented (nanobanana/status), and the others are named
# as the paths by which their tasks are ordered: an assumption.
_FAMILIES = {
    "chatgpt": "chatgpt-images",
    "gpt": "chatgpt-images",
    "sora": "sora",
    "veo": "veo",
    "kling": "kling",
}
_NANO_BANANA = "gemini"


class Runblob:
    """Reads Runblob's callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="runblob",
        title="Runblob",
        base_url="https://platform.runblob.io",
        pushes=True,
        # nanobanana/webhooks has the shorter time; sora/webhooks and chatgpt-images/webhooks the retries
        callback_rules="HTTPS, any 2xx within 5 s; five tries, at least 30 s apart, by most pages.",
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=120,  # assumption: images take 7 to 30 s (nanobanana/generate)
        poll_spacing_seconds=10,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        image, film = task.get("result_image_url"), task.get("video_url")
        return payload.build_report(
            task_id=next(filter(None, (payload.task_id(task.get(key)) for key in _ID_KEYS)), None),
            word=_word(task),
            states=_STATES,
            files=(payload.file_of(image, "image"), payload.file_of(film, "video")),
            named=([image, film],),  # there always is one
            error=payload.error_of(
                task.get("error"),  # veo3/webhooks
                message=task.get("message") or task.get("error_message"),
            ),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest:
        families = (family for start, family in _FAMILIES.items() if (model or "").startswith(start))
        return StatusRequest(path=f"/v1/{next(families, _NANO_BANANA)}/generations/{path_part(task_id)}")


def _word(task: Mapping[str, object]) -> str | None:
    if isinstance(success := task.get("success"), bool):
        return f"success {success}".lower()
    return payload.text(task.get("status"), 100)
