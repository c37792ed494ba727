"""Black Forest Labs (FLUX): one image per task, whose link lives ten minutes; an HMAC of the body.

Documented in https://github.com/black-forest-labs/skills (skills/bfl-api/references, webhook-integration.md
and polling-patterns.md); the states of moderated tasks are those of public clients.
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, Signing, SigningKeys, StatusRequest
from receiver.signing import hex_bytes, hmac_fits, text_keys

_STATES = {
    "Pending": ReportState.PROGRESS,
    "Ready": ReportState.COMPLETED,
    "Error": ReportState.FAILED,
    "Failed": ReportState.FAILED,
    "Request Moderated": ReportState.FAILED,
    "Content Moderated": ReportState.FAILED,
}
_PREFIX = "sha256="


class Bfl:
    """Reads Black Forest Labs' callbacks and status answers, which share one body."""

    facts = ProviderFacts(
        name="bfl",
        title="Black Forest Labs",
        base_url="https://api.bfl.ai",
        pushes=True,
        callback_rules="HTTPS, any 2xx within 30 s; three retries after 1, 5 and 30 s.",
        link_life_seconds=600,
        first_poll_seconds=60,  # before the link dies, with time to spare
        poll_spacing_seconds=10,  # assumption: samples ask more often
        polls_per_minute=60,  # assumption: not documented
        signing=Signing.TEXT,  # ``webhook_secret`` of each order
        key_header="x-key",
        key_prefix="",
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:
        """HMAC of the body in hexadecimal behind a prefix. Nothing in it says when it was made."""
        text = callback.headers.get("x-bfl-signature", "")
        claim = hex_bytes(text.removeprefix(_PREFIX)) if text.startswith(_PREFIX) else None
        return claim is not None and hmac_fits(text_keys(keys), callback.body, [claim])

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        sample = payload.mapping(task.get("result")).get("sample")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("status"), 100),
            states=_STATES,
            files=(payload.file_of(sample, "image"),),
            named=([sample],),  # there always is one
            error=payload.error_of(task.get("error"), message=task.get("message")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        # At the address where it was ordered: a region's own has its own tasks (polling-patterns.md).
        return StatusRequest(path="/v1/get_result", query={"id": task_id})
