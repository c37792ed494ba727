"""WaveSpeedAI: signed with the headers of Standard Webhooks and a scheme of its own.

Documented at https://wavespeed.ai/docs ; the page behind each fact is named beside it.
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, Signing, SigningKeys, StatusRequest
from receiver.signing import WHSEC, hex_bytes, hmac_fits, listed, standard_message, text_keys
from receiver.urls import path_part

# what-are-predictions
_STATES = {
    "created": ReportState.PROGRESS,
    "processing": ReportState.PROGRESS,
    "completed": ReportState.COMPLETED,
    "failed": ReportState.FAILED,
}


class Wavespeed:
    """Reads WaveSpeed's callbacks, and its status answers, which have an envelope around the same."""

    facts = ProviderFacts(
        name="wavespeed",
        title="WaveSpeed",
        base_url="https://api.wavespeed.ai",  # get-result; the version is part of each path here
        pushes=True,
        callback_rules="HTTPS, any 2xx; how it retries is not documented.",  # how-to-use-webhooks
        link_life_seconds=24 * 3600,  # assumption: not documented
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=10,  # assumption: not documented
        polls_per_minute=60,  # assumption: not documented
        signing=Signing.TEXT,
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        """HMAC of ``id.time.body`` in hexadecimal behind ``v3,`` (verify-webhooks).

        The key is the text behind ``whsec_`` as it is: "do not base64 decode it".
        """
        claims = listed(callback.headers.get("webhook-signature", ""), "v3,", hex_bytes)
        if not claims or (message := standard_message(callback)) is None:
            return False
        return hmac_fits(text_keys(keys, WHSEC), message, claims)

    def parse(self, document: object) -> Report:
        outer = payload.mapping(document)
        task = payload.mapping(outer.get("data")) or outer
        outputs = task.get("outputs")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("status"), 100),
            states=_STATES,
            files=map(payload.file_of, payload.items(outputs)),
            named=(outputs,),
            error=payload.error_of(task.get("error")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        # As ``urls.get`` of a task has it; the page get-result has the shorter one.
        shorter = f"/api/v3/predictions/{path_part(task_id)}"
        return StatusRequest(path=f"{shorter}/result", otherwise=StatusRequest(path=shorter))
