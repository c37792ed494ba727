"""APIDot: image, video, music and 3D tasks; files in any of several places, no promise to retry.

The facts come from the source of its site, https://github.com/coolhackboy/apidot , and the company's
https://github.com/APIDotAI/gpt-image-2-api and https://github.com/APIDotAI/apidot-examples ; those of the
documents' shape are in ``receiver.unified``.
"""

from receiver import unified
from receiver.models import Callback, Passage, ProviderFacts, SigningKeys
from receiver.unified_orders import order_facts


class Apidot:
    """Reads APIDot's callbacks and status answers."""

    facts = ProviderFacts(
        name="apidot",
        title="APIDot",
        base_url="https://api.apidot.ai",  # gpt-image-2-api, README
        pushes=True,
        callback_rules=(  # the site's webhooks page and dashboard; apidot-examples, webhooks/express-webhook
            "Any 2xx, quickly; the same callback may come again, even months later at the press of a button, "
            "and whether a lost one is ever repeated by itself is not documented."
        ),
        link_life_seconds=3 * 24 * 3600,  # the site's dashboard
        first_poll_seconds=300,  # assumption: the callback has normally come by then
        poll_spacing_seconds=10,  # apidot-examples, polling/task-status.md: 5 to 10 s
        polls_per_minute=30,  # assumption: a limit exists (429 rate_limited), its value is not given
    )

    orders = order_facts(
        (
            # Assumption: a sibling with the same paths has these.
            Passage(method="POST", path="/api/common/upload/stream"),
            Passage(method="POST", path="/api/common/upload/base64"),
            Passage(method="POST", path="/api/common/upload/url"),
            Passage(method="GET", path="/api/user/balance"),
        ),
        nests_files=True,
        callback_is_status=False,  # its receivers and its examples of answers differ
    )

    def verify(self, callback: Callback, keys: SigningKeys) -> bool:  # noqa: ARG002 - it documents none
        return False

    parse = staticmethod(unified.read)
    status_request = staticmethod(unified.status_request)
