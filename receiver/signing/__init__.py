"""Pieces of which adapters make the check of a signature: pure, over raw bytes, and none of them raises.

An adapter builds the message by its provider's rule, reads from the headers what is claimed, and asks whether
any key fits. Several secrets count at a time, so that one can be replaced by another. What is compared is
bytes, in constant time. Cheap looks come first, so that a stranger makes us hash nothing for nothing.
"""

import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from receiver.models import Callback, SigningKeys

WINDOW_SECONDS = 300  # each way, as the reference libraries of Standard Webhooks have it
MOST_CLAIMS = 8  # signatures in one header; a sender that replaces its secret has two
SHA256_BYTES = 32
ED25519_BYTES = 64
WHSEC = "whsec_"
MOST_SECONDS_DIGITS = 12
_KEPT_KEYS = 64  # secrets of so many providers: decoding them anew takes longer than the HMAC


# --- what is signed -------------------------------------------------------------------------------


def is_fresh(callback: Callback, header: str, window_seconds: float = WINDOW_SECONDS) -> bool:
    """Whether the header has a time in whole Unix seconds that is near enough to now, before or after."""
    text = callback.headers.get(header, "")
    if len(text) > MOST_SECONDS_DIGITS or not (text.isascii() and text.isdigit()):
        return False
    return abs(callback.received_at.timestamp() - int(text)) <= window_seconds


def header_values(callback: Callback, names: Sequence[str]) -> list[bytes] | None:
    """The values of these headers as they were sent; None where one is missing or empty."""
    headers = callback.headers
    values = [headers.get(name, "").encode("latin-1", "replace") for name in names]
    return values if all(values) else None


# --- what is claimed ------------------------------------------------------------------------------


def hex_bytes(text: str, length: int = SHA256_BYTES) -> bytes | None:
    """Hexadecimal digits of exactly so many bytes, and nothing besides; in either case."""
    if len(text) != 2 * length:
        return None
    try:
        return binascii.unhexlify(text)  # which takes no white space, as ``bytes.fromhex`` does
    except ValueError:
        return None


def base64_bytes(text: str, length: int = SHA256_BYTES) -> bytes | None:
    """Standard base64 of exactly so many bytes, padded, and nothing besides."""
    try:
        found = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
    return found if len(found) == length else None


def listed(text: str, prefix: str, decode: Callable[[str], bytes | None]) -> list[bytes]:
    """The signatures in a list by blanks that begin with ``prefix``: others are of unknown versions."""
    return [
        signature
        for entry in text.split(" ", MOST_CLAIMS)[:MOST_CLAIMS]
        if entry.startswith(prefix) and (signature := decode(entry[len(prefix) :])) is not None
    ]


# --- whether a key fits ---------------------------------------------------------------------------


def hmac_fits(keys: Iterable[bytes], message: bytes, claims: Sequence[bytes]) -> bool:
    """Whether one of the claims is the HMAC-SHA256 of the message under one of the keys."""
    if not claims:
        return False
    fits = False
    for key in keys:
        made = hmac.digest(key, message, "sha256")
        for claim in claims:
            fits |= hmac.compare_digest(made, claim)
    return fits


def secret_fits(secrets: Iterable[str], given: str) -> bool:
    """Whether a header carries one of the secrets in clear."""
    claim = hashlib.sha256(given.encode("utf-8", "replace")).digest()  # of one length, whatever was sent
    fits = False
    for secret in secrets:
        fits |= hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), claim)
    return fits


def text_keys(keys: SigningKeys, prefix: str = "") -> tuple[bytes, ...]:
    """Secrets that are keys as they are written, without what may stand before them."""
    return _text_keys(keys.secrets, prefix)


@lru_cache(_KEPT_KEYS)
def _text_keys(secrets: tuple[str, ...], prefix: str) -> tuple[bytes, ...]:
    return tuple(secret.removeprefix(prefix).encode() for secret in secrets)


def whsec_keys(keys: SigningKeys) -> tuple[bytes, ...]:
    """Secrets that are base64 behind ``whsec_``; what is none of that fits nothing."""
    return _whsec_keys(keys.secrets)


@lru_cache(_KEPT_KEYS)
def _whsec_keys(secrets: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(key for key in map(whsec_key, secrets) if key is not None)


def whsec_key(secret: str) -> bytes | None:
    """The key in a secret of Standard Webhooks, with prefix and padding or without; None if broken."""
    text = secret.removeprefix(WHSEC)
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True) or None
    except ValueError:
        return None


# --- schemes that several providers share ---------------------------------------------------------


def standard_message(callback: Callback) -> bytes | None:
    """What Standard Webhooks signs, ``id.timestamp.body``; None where the time is not near enough.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    names = ("webhook-id", "webhook-timestamp")
    if not is_fresh(callback, "webhook-timestamp") or (values := header_values(callback, names)) is None:
        return None
    return b".".join((*values, callback.body))


def is_standard(callback: Callback, keys: SigningKeys) -> bool:
    """Whether it is signed as Standard Webhooks says: base64 behind ``v1,``, several by blanks."""
    claims = listed(callback.headers.get("webhook-signature", ""), "v1,", base64_bytes)
    if not claims or (message := standard_message(callback)) is None:
        return False
    return hmac_fits(whsec_keys(keys), message, claims)


def is_signed_by_key(callback: Callback, keys: SigningKeys, prefix: str, subject: str) -> bool:
    """Whether a public key fits as fal and Ideogram have it, whose headers begin with ``prefix``.

    Ed25519 over four lines: ``subject`` (the header that names the task), user id, timestamp, and the
    SHA-256 of the body in lower-case hexadecimal; the signature is hexadecimal, too.
    """
    signature = hex_bytes(callback.headers.get(f"{prefix}signature", ""), ED25519_BYTES)
    if signature is None or not is_fresh(callback, f"{prefix}timestamp"):
        return False
    names = (f"{prefix}{subject}", f"{prefix}user-id", f"{prefix}timestamp")
    if (values := header_values(callback, names)) is None:
        return False
    digest = hashlib.sha256(callback.body).hexdigest().encode()
    return keys.fits(signature, b"\n".join((*values, digest)))
