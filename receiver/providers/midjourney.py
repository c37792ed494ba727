"""Midjourney by one of the many proxies that speak as midjourney-proxy does: a post for every per cent.

Documented in https://github.com/novicezk/midjourney-proxy (docs/api.md), and by resellers such as
https://docs.crazyrouter.com (reference/callback).
"""

from receiver import payload
from receiver.models import Callback, ProviderFacts, Report, ReportState, SigningKeys, StatusRequest
from receiver.urls import path_part

_STATES = {
    "NOT_START": ReportState.PROGRESS,
    "SUBMITTED": ReportState.PROGRESS,
    "MODAL": ReportState.PROGRESS,  # it waits for words of whoever ordered it
    "IN_PROGRESS": ReportState.PROGRESS,
    "SUCCESS": ReportState.COMPLETED,
    "FAILURE": ReportState.FAILED,
    "CANCEL": ReportState.FAILED,
}
_OF_WORDS = {"DESCRIBE", "SHORTEN"}  # what they make is no image


class Midjourney:
    """Reads such a proxy's callbacks and status answers, which share one body.

    Everybody has an address of their own, or their reseller's, which ``MIDJOURNEY_BASE_URL`` names. Without
    it nobody is asked, and nobody gets the key.
    """

    facts = ProviderFacts(
        name="midjourney",
        title="Midjourney proxies",
        base_url="https://midjourney.invalid",  # a name that can never be (RFC 6761)
        pushes=True,
        callback_rules="a post for every change, by notifyHook; how it retries is not documented.",
        link_life_seconds=24 * 3600,  # assumption: links of Discord's run out after about a day
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=10,  # assumption: not documented
        polls_per_minute=30,  # assumption: not documented
        key_header="mj-api-secret",
        key_prefix="",
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    def parse(self, document: object) -> Report:
        task = payload.mapping(document)
        # While a task runs it names an unfinished image, which is none of its files.
        image, film = task.get("imageUrl"), task.get("videoUrl")
        return payload.build_report(
            task_id=payload.task_id(task.get("id")),
            word=payload.text(task.get("status"), 100),
            states=_STATES,
            files=(payload.file_of(image, "image"), payload.file_of(film, "video")),
            named=([image, film],),  # there always is one
            is_fileless=lambda _: payload.text(task.get("action"), 100) in _OF_WORDS,
            error=payload.error_of(task.get("failReason")),
        )

    def status_request(
        self,
        task_id: str,
        model: str | None,  # noqa: ARG002 - every model is asked about at the same path
    ) -> StatusRequest:
        return StatusRequest(path=f"/mj/task/{path_part(task_id)}/fetch")
