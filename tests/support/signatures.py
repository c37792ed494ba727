"""Callbacks signed as each provider documents it, by code of its own, and what forgers make of them."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from nacl.signing import SigningKey

from receiver.models import Callback, SigningKeys
from receiver.signing.ed25519 import public_key

SECRET, OLD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_bm90IHRoZSByaWdodCBvbmUgYXQgYWxs"
KEY, ANOTHER_KEY = SigningKey(b"\x07" * 32), SigningKey(b"\x08" * 32)
SIGNED_AT = datetime.fromtimestamp(1758798328, UTC)
MOMENT = str(int(SIGNED_AT.timestamp()))

Sign = Callable[[bytes], Mapping[str, str]]
Verify = Callable[[Callback, SigningKeys], bool]


def callback(headers: Mapping[str, str], body: bytes, at: datetime = SIGNED_AT) -> Callback:
    return Callback(provider="p", token=None, body=body, headers=headers, received_at=at)


def standard(body: bytes, secret: str = SECRET, moment: str = MOMENT) -> Mapping[str, str]:
    """Standard Webhooks, as Replicate has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.digest(key, f"msg_1.{moment}.".encode() + body, "sha256")
    return _three("v1," + base64.b64encode(made).decode(), moment)


def wavespeed(body: bytes, secret: str = SECRET) -> Mapping[str, str]:
    """The same headers, another key and another encoding."""
    key = secret.removeprefix("whsec_").encode()
    return _three("v3," + hmac.digest(key, f"msg_1.{MOMENT}.".encode() + body, "sha256").hex(), MOMENT)


def _three(signature: str, moment: str) -> Mapping[str, str]:
    return {"webhook-id": "msg_1", "webhook-timestamp": moment, "webhook-signature": signature}


def bfl(body: bytes, secret: str = SECRET) -> Mapping[str, str]:
    return {"x-bfl-signature": "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()}


def kie(task_id: str, secret: str = SECRET, moment: str = MOMENT) -> Mapping[str, str]:
    made = hmac.digest(secret.encode(), f"{task_id}.{moment}".encode(), "sha256")
    return {"x-webhook-timestamp": moment, "x-webhook-signature": base64.b64encode(made).decode()}


def by_key(
    prefix: str, subject: str, body: bytes, key: SigningKey = KEY, moment: str = MOMENT
) -> Mapping[str, str]:
    """fal's and Ideogram's: four lines, Ed25519."""
    lines = {f"{prefix}{subject}": "t-1", f"{prefix}user-id": "user-1", f"{prefix}timestamp": moment}
    message = "\n".join((*lines.values(), hashlib.sha256(body).hexdigest())).encode()
    return lines | {f"{prefix}signature": key.sign(message).signature.hex()}


BY_SECRETS = SigningKeys(secrets=(OLD_SECRET, SECRET))
BY_KEY = SigningKeys(fits=public_key(bytes(KEY.verify_key)))


def forgeries(
    right: Mapping[str, str], body: bytes, *, covers_body: bool = True, has_time: bool = True
) -> Iterator[Callback]:
    """Requests that look much like a right one."""
    for name, value in right.items():
        yield callback({other: text for other, text in right.items() if other != name}, body)
        for wrong in ("", value[:-1], value + "0", value[:-2] + ("00" if value[-2:] != "00" else "11")):
            yield callback({**right, name: wrong}, body)
        if name != "webhook-signature":  # a list already
            yield callback({**right, name: f"{value}, {value}"}, body)  # sent twice
    if covers_body:
        yield callback(right, body + b" ")
        yield callback(right, body.replace(b":", b": ", 1))
        yield callback(right, b"")
    if has_time:
        for seconds in (301, -301, 86_400):
            yield callback(right, body, SIGNED_AT + timedelta(seconds=seconds))
