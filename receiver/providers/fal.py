"""fal.ai: results whose shape is each model's own, a status apart from them, signed by a private key.

Documented at https://fal.ai/docs ; the page behind each fact is named beside it. What is signed, and in which
order, is what public receivers agree on, such as https://github.com/smarenkov/fal-ai-webhook-verification .
"""

from collections.abc import Mapping

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, Signing, SigningKeys, StatusRequest
from receiver.signing import is_signed_by_key
from receiver.urls import path_part

_STATES = {
    "IN_QUEUE": ReportState.PROGRESS,  # documentation/model-apis/inference/queue
    "IN_PROGRESS": ReportState.PROGRESS,
    "COMPLETED": ReportState.COMPLETED,  # of a status, where a failure is one, too
    "OK": ReportState.COMPLETED,  # of a callback: model-apis/model-endpoints/webhooks
    "ERROR": ReportState.FAILED,
}
_FILE_KEYS = {"images", "image", "videos", "video", "audio", "audio_file", "model_mesh"}
_WORD_KEYS = {"output", "text"}  # of language models and transcriptions


class Fal:
    """Reads fal's callbacks, and its status answers with the results that belong to them."""

    facts = ProviderFacts(
        name="fal",
        title="fal.ai",
        base_url="https://queue.fal.run",  # api-reference/inference-api
        pushes=True,
        callback_rules="HTTPS, any 2xx within 15 s; ten tries over two hours.",  # model-endpoints/webhooks
        link_life_seconds=24 * 3600,  # assumption: it is set for each order (data-retention)
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=15,  # assumption: not documented
        polls_per_minute=60,  # assumption: not documented
        signing=Signing.KEYS,
        keys_url="https://rest.fal.ai/.well-known/jwks.json",
        key_prefix="Key ",  # api-reference/inference-api
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        return is_signed_by_key(callback, keys, "x-fal-webhook-", "request-id")

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        answer = payload.mapping(outer.get("answer")) or outer
        result = outer.get("results") if answer is not outer else outer.get("payload")
        fields = payload.mapping(result)
        return payload.build_report(
            # ``gateway_request_id`` is another one after a retry of fal's own; this is what was ordered.
            task_id=payload.task_id(answer.get("request_id")),
            word=_word(answer, fields),
            states=_STATES,
            files=payload.named_files(result),
            named=(result,),
            is_fileless=_is_words,
            error=lambda: payload.error_of(
                answer.get("error"),
                number=fields.get("error_type") or answer.get("error_type"),
                message=_reason(fields.get("detail")),
            ),
        )

    def status_request(self, task_id: str, model: str | None) -> StatusRequest | None:
        # Owner and app, without the path behind them (api-reference/inference-api).
        parts = [path_part(part) for part in (model or "").split("/") if part]
        if len(parts) < 2:
            return None
        path = f"/{parts[0]}/{parts[1]}/requests/{path_part(task_id)}"
        return StatusRequest(path=f"{path}/status", results=StatusRequest(path=path))


def _word(answer: Mapping[str, object], result: Mapping[str, object]) -> str | None:
    """The state; of a run that ended badly ``ERROR``, as callbacks have it.

    Errors of a run have an ``error_type`` (documentation/model-apis/request-errors), those of a model a list
    as their ``detail`` (model-apis/errors).
    """
    word = payload.text(answer.get("status"), 100)
    is_bad = answer.get("error") or result.get("error_type") or isinstance(result.get("detail"), list)
    return "ERROR" if word == "COMPLETED" and is_bad else word


def _reason(detail: object) -> object:
    first = next(iter(payload.items(detail)), None)
    return payload.mapping(first).get("msg") or detail


def _is_words(result: object) -> bool:
    fields = payload.mapping(result)
    return _FILE_KEYS.isdisjoint(fields) and any(payload.text(fields.get(key)) for key in _WORD_KEYS)
