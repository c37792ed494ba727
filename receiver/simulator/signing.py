"""How the played providers sign their callbacks, each in its own way, right or wrong.

Written from the providers' pages and not from ``receiver.signing``, which has to agree with it.
"""

import base64
import hashlib
import hmac
import importlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from receiver.simulator.model import PlayedTask

# Of whole accounts; the two others sign with what an order brings.
SECRETS: Mapping[str, str] = {
    "replicate": "whsec_c2ltdWxhdGVkIHJlcGxpY2F0ZSBzZWNyZXQ=",
    "wavespeed": "whsec_simulated-wavespeed-secret",
    "kie": "simulated-kie-secret",
}
# Of whole accounts, too, and known to nobody: what of them is public is at ``key_set_of``.
_PRIVATE: Mapping[str, str] = {"fal": "simulated-fal-private-key"}
_WRONG = "whsec_d3JvbmcgYXMgYSBzZWNyZXQgY2FuIGJl"

Sign = Callable[[bytes, datetime], Mapping[str, str]]


def signer_of(task: PlayedTask) -> Sign:
    """What makes the headers of each attempt at a task's callback; none where nothing is signed."""
    secret = task.order.secret or SECRETS.get(task.provider) or _PRIVATE.get(task.provider)
    sign = _SIGNERS.get(task.provider)
    if secret is None or sign is None:
        return unsigned
    used = _WRONG if task.fate.bad_signature else secret
    return lambda body, at: sign(used, task.id, body, str(int(at.timestamp())))


def key_set_of(provider: str) -> object:
    """The public keys of a provider that signs by a private one."""
    return _private_keys().key_set(_PRIVATE[provider])


def _private_keys() -> Any:
    return importlib.import_module("receiver.simulator.private_keys")  # its package may be missing


def unsigned(_body: bytes, _at: datetime) -> Mapping[str, str]:
    """No headers at all, as of who knows no secret."""
    return {}


def _replicate(secret: str, _task_id: str, body: bytes, moment: str) -> Mapping[str, str]:
    """https://replicate.com/docs/topics/webhooks/verify-webhook"""
    key, name = base64.b64decode(secret.removeprefix("whsec_")), f"msg_{uuid4().hex}"
    made = hmac.digest(key, b"%b.%b.%b" % (name.encode(), moment.encode(), body), "sha256")
    return _standard(name, moment, f"v1,{base64.b64encode(made).decode()}")


def _wavespeed(secret: str, _task_id: str, body: bytes, moment: str) -> Mapping[str, str]:
    """https://wavespeed.ai/docs/verify-webhooks : the key is not decoded."""
    key, name = secret.removeprefix("whsec_").encode(), f"msg_{uuid4().hex}"
    made = hmac.digest(key, b"%b.%b.%b" % (name.encode(), moment.encode(), body), "sha256")
    return _standard(name, moment, f"v3,{made.hex()}")


def _standard(name: str, moment: str, signature: str) -> Mapping[str, str]:
    return {"webhook-id": name, "webhook-timestamp": moment, "webhook-signature": signature}


def _kie(secret: str, task_id: str, _body: bytes, moment: str) -> Mapping[str, str]:
    """https://docs.kie.ai/common-api/webhook-verification"""
    made = hmac.digest(secret.encode(), f"{task_id}.{moment}".encode(), "sha256")
    return {"X-Webhook-Timestamp": moment, "X-Webhook-Signature": base64.b64encode(made).decode()}


def _bfl(secret: str, _task_id: str, body: bytes, _moment: str) -> Mapping[str, str]:
    """https://github.com/black-forest-labs/skills (webhook-integration.md)"""
    return {"X-BFL-Signature": f"sha256={hmac.digest(secret.encode(), body, 'sha256').hex()}"}


def _piapi(secret: str, _task_id: str, _body: bytes, _moment: str) -> Mapping[str, str]:
    """https://piapi.ai/docs/unified-webhook"""
    return {"x-webhook-secret": secret}


def _fal(secret: str, task_id: str, body: bytes, moment: str) -> Mapping[str, str]:
    """https://fal.ai/docs/model-apis/model-endpoints/webhooks , as public receivers have it."""
    lines = (task_id, "simulated-user", moment, hashlib.sha256(body).hexdigest())
    names = ("Request-Id", "User-Id", "Timestamp", "Signature")
    made = _private_keys().sign(secret, "\n".join(lines).encode()).hex()
    return {f"X-Fal-Webhook-{name}": text for name, text in zip(names, (*lines[:3], made), strict=True)}


_SIGNERS: Mapping[str, Callable[[str, str, bytes, str], Mapping[str, str]]] = {
    "replicate": _replicate,
    "wavespeed": _wavespeed,
    "kie": _kie,
    "bfl": _bfl,
    "piapi": _piapi,
    "fal": _fal,
}
