"""What a provider's answer to an order means, and its status documents with links of ours in them."""

import json
import re
from collections.abc import Mapping

import msgspec

from receiver import payload
from receiver.errors import Rejected
from receiver.gateway.splice import value_at
from receiver.links import link_name
from receiver.models import OrderFacts, OrderState

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_LINKS = (b"http", b"\\u0068", b"\\/")  # a string without any of these holds no link, however it is written
REQUEST_TIMEOUT = 408


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an order, by its answer."""

    state: OrderState
    task_id: str | None = None
    outcome: str | None = None  # why it is not bound


def judge(facts: OrderFacts, status: int, body: bytes) -> Judgement:
    """Bound, refused or unknown. A task id in a good answer counts before all else: it is paid for."""
    if not 200 <= status < 300:
        is_refused = 400 <= status < 500 and status != REQUEST_TIMEOUT
        state = OrderState.REFUSED if is_refused else OrderState.UNKNOWN
        return Judgement(state=state, outcome=f"status_{status}")
    try:
        document = payload.decode(body)
    except Rejected:
        return Judgement(state=OrderState.UNKNOWN, outcome="not_json")
    for place in facts.task_id_at:
        if (task_id := payload.task_id(value_at(document, place))) is not None:
            return Judgement(state=OrderState.BOUND, task_id=task_id)
    if says_error(facts, document):
        return Judgement(state=OrderState.REFUSED, outcome="error_in_answer")
    return Judgement(state=OrderState.UNKNOWN, outcome="no_task_id")


def says_error(facts: OrderFacts, document: object) -> bool:
    """Whether a document with a good HTTP status says all the same that nothing was ordered."""
    fields = payload.mapping(document)
    if not facts.has_codes:
        return bool(fields.get("error"))
    code = fields.get("code")
    return isinstance(code, int) and not isinstance(code, bool) and code not in {0, 200}


def with_links(document: bytes, ours: Mapping[str, str]) -> bytes:
    """The document with each string that is a known link replaced by ours, and nothing else of it changed.

    ``ours`` are by the provider's links. One that was signed anew since is known by all before its query.
    Text that is JSON itself is looked through, too.
    """
    names = {link_name(theirs): link for theirs, link in ours.items()}
    return _replaced(document, {**names, **ours}) if ours else document


def _replaced(document: bytes, ours: Mapping[str, str]) -> bytes:
    def of_ours(found: re.Match[bytes]) -> bytes:
        if not any(sign in found[0] for sign in _LINKS):
            return found[0]
        text = str(json.loads(found[0]))
        link = payload.trimmed(text)
        mine = ours.get(link) or ours.get(link_name(link))
        if mine is not None:
            return json.dumps(mine).encode()
        if text.lstrip()[:1] in {"{", "["}:
            inner = _replaced(text.encode("utf-8", "surrogatepass"), ours)
            return json.dumps(inner.decode("utf-8", "surrogatepass"), ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            )
        return found[0]

    return _STRING.sub(of_ours, document)
