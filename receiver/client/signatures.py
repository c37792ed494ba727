"""Signed messages, as Standard Webhooks has them: the signature is checked over the raw bytes.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import os
import re
import time
from collections.abc import Mapping, Sequence

from receiver.client.errors import Reason, VerificationError
from receiver.client.events import Event, read_event

SECRET_VARIABLE = "RECEIVER_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
MOST_SIGNATURES = 8  # in one header; a sender that replaces its secret has two

_SECONDS = re.compile(r"[0-9]{1,12}")


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Sequence[str] | None = None,
    *,
    tolerance: int = 300,
) -> Event:
    """The event of a webhook that is signed with one of the secrets, at most ``tolerance`` seconds ago.

    ``body`` is the bytes as they came. Without ``secret`` what is in ``RECEIVER_WEBHOOK_SECRET`` counts: two
    of them, by a blank or comma, while one replaces the other. Raises VerificationError, which says what is
    wrong, and ValueError where no secret is given or one is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    keys = [key_of(each) for each in _secrets(secret)]
    id_, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    claims = given.get("webhook-signature", "").split(" ", MOST_SIGNATURES)[:MOST_SIGNATURES]
    if not (id_ and claims[0]):
        raise VerificationError(Reason.SIGNATURE, "it is not signed; does the sink have a _SECRET?")
    _check_time(timestamp, tolerance)
    if not _fits(keys, id_, timestamp, body, claims):
        raise VerificationError(Reason.SIGNATURE, "no secret fits, or the body is not as it was sent")
    return read_event(body)


def key_of(secret: str) -> bytes:
    """The key in a secret as ``receiver sinks secret`` prints it. Raises ValueError."""
    text = secret.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("a webhook secret is base64 behind whsec_, as `receiver sinks secret` prints it")
    return key


def sign(key: bytes, id_: str, timestamp: str, body: bytes) -> str:
    """One signature of a message, of version 1."""
    message = b".".join((id_.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def _secrets(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        given = re.split(r"[\s,]+", os.environ.get(SECRET_VARIABLE, ""))
    secrets = [each for each in ([given] if isinstance(given, str) else given) if each]
    if not secrets:
        raise ValueError(f"no secret to verify by: give one, or set {SECRET_VARIABLE}")
    return secrets


def _check_time(timestamp: str, tolerance: int) -> None:
    if not _SECONDS.fullmatch(timestamp):
        raise VerificationError(Reason.TIME, "webhook-timestamp is no time in whole seconds")
    late = time.time() - int(timestamp)
    if abs(late) > tolerance:
        which = "old" if late > 0 else "far ahead"
        raise VerificationError(Reason.TIME, f"it is {abs(late):.0f} seconds {which}: compare both clocks")


def _fits(keys: Sequence[bytes], id_: str, timestamp: str, body: bytes, claims: Sequence[str]) -> bool:
    fits = False
    for key in keys:
        made = sign(key, id_, timestamp, body).encode()
        for claim in claims:
            fits |= hmac.compare_digest(made, claim.encode("utf-8", "replace"))
    return fits
