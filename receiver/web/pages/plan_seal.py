"""A plan as text that a form holds: signed for one log-in and a quarter of an hour."""

import base64
import re
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from receiver.web.pages.refusals import Refusal, not_allowed
from receiver.web.pages.visits import Visit

P = TypeVar("P", bound=msgspec.Struct)

FRESH = timedelta(minutes=10)  # a log-in that is older gives its token again for what is large
MOST_CHARACTERS = 6_000  # of an address


def seal(visit: Visit, plan: msgspec.Struct, until: datetime) -> str:
    """The text of a new plan, good for so long. Raises Refusal where it is too long for an address."""
    payload = base64.urlsafe_b64encode(msgspec.json.encode(plan)).decode().rstrip("=")
    if len(payload) > MOST_CHARACTERS:
        raise Refusal(400, "Too much to plan", "The ids that were picked are long: pick fewer.")
    expires = int(until.timestamp())
    return f"{payload}.{expires}.{visit.runtime.tokens.sign_ticket('plan', _of(visit, payload), expires)}"


def unseal(visit: Visit, text: str, kind: type[P]) -> P:
    """The plan in a text of ours, for this log-in. Raises Refusal."""
    payload, _, rest = text.partition(".")
    expires, _, signature = rest.partition(".")
    is_number = re.fullmatch(r"[0-9]{1,12}", expires) is not None
    tokens = visit.runtime.tokens
    if not is_number or not tokens.check_ticket("plan", _of(visit, payload), int(expires), signature):
        raise not_allowed("This plan is of another log-in. Plan it anew.")
    if visit.now.timestamp() >= int(expires):
        raise Refusal(409, "This plan is over", "A plan is good for 15 minutes. Plan it anew.")
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=kind)
    except msgspec.ValidationError as exc:
        raise not_allowed("This plan is of another kind. Plan it anew.") from exc


def check_consent(visit: Visit, wanted: str) -> None:
    """What a large or a grave plan wants typed: its number, a reason, and the token again. Raises Refusal."""
    if visit.form.get("number").replace(",", "").lower() != wanted:
        raise Refusal(400, "Not done", f"Go back and type {wanted}, so that it is meant.")
    if not visit.form.get("reason"):
        raise Refusal(400, "Not done", "Go back and say why: the reason is written to the audit.")
    if is_fresh(visit):
        return
    if wait_seconds := visit.log_ins.wrong.wait_seconds(visit.peer):
        raise Refusal(429, "Too many wrong tokens", "Wait a little.", retry_after_seconds=wait_seconds)
    person = visit.log_ins.recognise(visit.form.get("token"))
    if person is None or person.role is not visit.role:
        visit.log_ins.wrong.note(visit.peer)
        raise not_allowed("Your log-in is older than 10 minutes: go back and give your token once more.")


def is_fresh(visit: Visit) -> bool:
    """Whether the log-in is young enough to be believed without the token."""
    return visit.visitor is not None and visit.now - visit.visitor.session.created_at < FRESH


def _of(visit: Visit, payload: str) -> str:
    return f"{visit.visitor.secret if visit.visitor else ''}.{payload}"
