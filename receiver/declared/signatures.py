"""How a declared provider signs, and why a callback is not signed right.

Each scheme is put together from the parts in ``receiver.signing``, as a coded adapter's is.
"""

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from receiver.models import Callback, Signing, SigningKeys
from receiver.signing import (
    ED25519_BYTES,
    MOST_CLAIMS,
    SHA256_BYTES,
    WINDOW_SECONDS,
    base64_bytes,
    header_values,
    hex_bytes,
    hmac_fits,
    is_fresh,
    is_standard,
    listed,
    secret_fits,
    text_keys,
    whsec_keys,
)

BODY, BODY_SHA256 = "body", "body_sha256"
_PLACE = re.compile(r"\{([^{}]*)\}")
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]*")
_FIELD_ENDS = re.compile(r" *[,;] *")


class Scheme(StrEnum):
    HMAC = "hmac-sha256"
    ED25519 = "ed25519"
    SECRET = "secret"  # noqa: S105 - the word for one that is sent in clear
    STANDARD = "standard-webhooks"


class Encoding(StrEnum):
    HEX = "hex"
    BASE64 = "base64"


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed: texts, and names of headers, by turns; ``body`` and ``body_sha256`` are no headers."""

    texts: tuple[bytes, ...]  # one more than there are names
    names: tuple[str, ...]

    @property
    def has_body(self) -> bool:
        return BODY in self.names or BODY_SHA256 in self.names

    def build(self, callback: Callback) -> bytes | None:
        """The bytes that were signed; None where a header is missing."""
        made = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            if (value := _value(callback, name)) is None:
                return None
            made += (value, text)
        return b"".join(made)


def parse_message(text: str) -> Message:
    """Read a template such as ``{webhook-id}.{body}``. Raises ValueError."""
    texts, names = _PLACE.split(text)[::2], [name.lower() for name in _PLACE.findall(text)]
    known = all(name in {BODY, BODY_SHA256} or _HEADER.fullmatch(name) for name in names)
    if not names or not known or any("{" in each or "}" in each for each in texts):
        raise ValueError(text)
    return Message(texts=tuple(each.encode() for each in texts), names=tuple(names))


def _value(callback: Callback, name: str) -> bytes | None:
    if name == BODY:
        return callback.body
    if name == BODY_SHA256:
        return hashlib.sha256(callback.body).hexdigest().encode()
    values = header_values(callback, [name])
    return values[0] if values else None


def _fields(text: str) -> dict[str, str]:
    """The fields in a list by blanks; one that is there several times is none."""
    found: dict[str, str] = {}
    for entry in text.split(" ", MOST_CLAIMS)[:MOST_CLAIMS]:
        name, _, value = entry.partition("=")
        found[name.lower()] = "" if name.lower() in found else value
    return found


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's way to sign."""

    scheme: Scheme
    header: str = ""
    prefix: str = ""
    encoding: Encoding = Encoding.HEX
    several: bool = False  # the header is a list by blanks
    fields: bool = False  # or one of fields by commas: those are what ``message`` and ``timestamp`` name
    message: Message | None = None
    key: Signing = Signing.TEXT  # of an HMAC
    secret_prefix: str = ""  # what stands before a secret that is text, and is no part of its key
    timestamp: str = ""  # the header, or the field, with the time
    window_seconds: int = WINDOW_SECONDS
    keys_url: str | None = None

    @property
    def signing(self) -> Signing:
        """With what it is checked."""
        match self.scheme:
            case Scheme.ED25519:
                return Signing.KEYS
            case Scheme.STANDARD:
                return Signing.BASE64
            case Scheme.SECRET:
                return Signing.TEXT
            case Scheme.HMAC:
                return self.key

    @property
    def signs_body(self) -> bool:
        if self.scheme is Scheme.STANDARD:
            return True
        return self.message is not None and self.message.has_body

    def fault(self, callback: Callback, keys: SigningKeys) -> str | None:
        """Why it is not signed right, in words for people; None where it is. Never raises."""
        if self.scheme is Scheme.STANDARD:
            return None if is_standard(callback, keys) else "it is not signed as Standard Webhooks says"
        given = callback.headers.get(self.header, "")
        if not given:
            return f"there is no header {self.header}"
        if self.scheme is Scheme.SECRET:
            fits = given.startswith(self.prefix) and secret_fits(
                keys.secrets, given.removeprefix(self.prefix)
            )
            return None if fits else f"{self.header} has not the secret"
        return self._fault_of(given, callback, keys)

    def sent_at(self, callback: Callback) -> str:
        """The time in it, as it was sent; empty where there is none."""
        if self.fields:
            given = callback.headers.get(self.header, "")
            return _fields(_FIELD_ENDS.sub(" ", given)).get(self.timestamp, "")
        return callback.headers.get(self.timestamp, "")

    def _fault_of(self, given: str, callback: Callback, keys: SigningKeys) -> str | None:
        if self.fields:
            given = _FIELD_ENDS.sub(" ", given)
            callback = msgspec.structs.replace(callback, headers=_fields(given))
        claims = self._claims(given)
        if not claims:
            behind = f" behind {self.prefix}" if self.prefix else ""
            return f"{self.header} has no {self.encoding} of {self._bytes} bytes{behind}"
        if self.timestamp and not is_fresh(callback, self.timestamp, self.window_seconds):
            return f"{self.timestamp} is no time within {self.window_seconds} s of now"
        message = self.message.build(callback) if self.message else None
        if message is None:
            return "a header that is signed is missing"
        return None if self._fits(keys, message, claims) else "no key makes this signature of this message"

    def _claims(self, given: str) -> Sequence[bytes]:
        if self.several or self.fields:
            return listed(given, self.prefix, self._decode)
        claim = self._decode(given.removeprefix(self.prefix)) if given.startswith(self.prefix) else None
        return [] if claim is None else [claim]

    @property
    def _bytes(self) -> int:
        return ED25519_BYTES if self.scheme is Scheme.ED25519 else SHA256_BYTES

    def _decode(self, text: str) -> bytes | None:
        decode = base64_bytes if self.encoding is Encoding.BASE64 else hex_bytes
        return decode(text, self._bytes)

    def _fits(self, keys: SigningKeys, message: bytes, claims: Sequence[bytes]) -> bool:
        if self.scheme is Scheme.ED25519:
            return keys.fits(claims[0], message)  # one: a stranger must make us compute little
        if self.key is Signing.BASE64:
            return hmac_fits(whsec_keys(keys), message, claims)
        return hmac_fits(text_keys(keys, self.secret_prefix), message, claims)
