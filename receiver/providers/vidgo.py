"""Vidgo: image, video and music tasks, one envelope, unsigned callbacks.

Documented at https://docs.vidgo.ai/api-manual ; the page behind each fact is named beside it, and for the
documents' shape in ``receiver.unified``.
"""

from receiver import unified
from receiver.models import Callback, Passage, ProviderFacts, SigningKeys
from receiver.unified_orders import order_facts


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

    orders = order_facts(
        (
            Passage(method="POST", path="/api/common/upload/stream"),  # file-series/upload-stream
            Passage(method="POST", path="/api/common/upload/base64"),  # file-series/upload-base64
            Passage(method="POST", path="/api/common/upload/url"),  # file-series/upload-url
            Passage(method="GET", path="/api/user/balance"),  # assumption: a sibling has it
        ),
        nests_files=False,
        callback_is_status=True,  # task-management/webhooks
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    parse = staticmethod(unified.read)
    status_request = staticmethod(unified.status_request)
