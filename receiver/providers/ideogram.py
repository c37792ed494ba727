"""Ideogram: images of one generation, some of which may be held back; signed by a private key.

Documented at https://developer.ideogram.ai ; the page behind each fact is named beside it.
"""

from collections.abc import Mapping

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, Signing, SigningKeys, StatusRequest
from receiver.signing import is_signed_by_key
from receiver.urls import path_part

_UNSAFE = "unsafe"
# api-reference/generate-images/get-generation
_STATES = {
    "pending": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
    _UNSAFE: ReportState.FAILED,  # our word: no image of it may be had
}


class Ideogram:
    """Reads Ideogram's callbacks and status answers; a callback is sent for a success, and names no state."""

    facts = ProviderFacts(
        name="ideogram",
        title="Ideogram",
        base_url="https://api.ideogram.ai",
        pushes=True,
        callback_rules="HTTPS, any 2xx; a few retries, and repeats are possible.",  # ideogram-api/webhooks
        link_life_seconds=24 * 3600,  # ideogram-api/webhooks
        first_poll_seconds=120,  # assumption: failures may send no callback
        poll_spacing_seconds=10,  # assumption: not documented
        polls_per_minute=30,  # assumption: a limit for each organisation exists (get-generation)
        signing=Signing.KEYS,
        keys_url="https://api.ideogram.ai/v1/.well-known/jwks.json",
        key_header="Api-Key",
        key_prefix="",
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        return is_signed_by_key(callback, keys, "x-ideogram-webhook-", "generation-id")

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        images = task.get("data")
        return payload.build_report(
            task_id=payload.task_id(task.get("generation_id")),
            word=_word(task),
            states=_STATES,
            files=map(payload.file_of, payload.items(images)),
            named=(images,),
            error=payload.error_of(
                task.get("error"), number=_held_back(task), message=task.get("failure_reason")
            ),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        part = path_part(task_id)
        newer = StatusRequest(path=f"/v2/generations/{part}")  # of what was ordered by a /v2 path
        return StatusRequest(path=f"/v1/generations/{part}", otherwise=newer)


def _word(task: Mapping[str, object]) -> str | None:
    if _held_back(task):
        return _UNSAFE
    return payload.text(task.get("status"), 100) or ("completed" if "data" in task else None)


def _held_back(task: Mapping[str, object]) -> str | None:
    """Why there is no image: each has ``is_image_safe: false``, and no link (responses-and-metadata)."""
    images = [payload.mapping(each) for each in payload.items(task.get("data"))]
    held = [image.get("is_image_safe") is False and not image.get("url") for image in images]
    return "is_image_safe" if held and all(held) else None
