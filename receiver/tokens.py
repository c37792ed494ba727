"""Callback tokens, asset links, cookies, sealed cursors: HMACs under the receiver's secrets, with rotation.

The first secret signs, every secret verifies. A token says what it is for (``s`` for one submission,
``p`` for one provider) and its MAC covers that, the provider and the submission, so none can be used
as another. Checking needs no database: a forged token costs us one or two hashes.

A cursor of the store's is sealed for its caller, as it holds the number of a row: what a caller was given
twice tells how much everybody did in between. It is encrypted as SIV does it (RFC 5297, with HMAC-SHA256 for
both functions): its MAC, which covers the list that it is of, is the nonce of the key stream.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

import msgspec

from receiver.models import TOKEN_MARK, Proof

MAC_BYTES = 24  # 192 bits: no guess succeeds, and the text stays short
MAC_CHARACTERS = MAC_BYTES // 3 * 4  # in base64
SEALED_BYTES = 24  # of every cursor, so that its length says nothing
_BLOCK_BYTES = 64  # of SHA-256
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


class TokenClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid callback token proves."""

    proof: Proof
    submission_id: str | None = None


class Tokens:
    """Makes and checks tokens. ``secrets`` are tried in order; each has at least 16 characters."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [_Key(_encoded(secret)) for secret in secrets]
        self._of_providers: dict[str, list[bytes]] = {}

    def for_submission(self, provider: str, submission_id: str) -> str:
        """The token that binds a callback to one submission."""
        return f"s.{submission_id}.{self._sign('submission', provider, submission_id)}"

    def for_provider(self, provider: str) -> str:
        """The token that every callback of one provider may carry."""
        return f"p.{self._sign('provider', provider)}"

    def check(self, provider: str, token: str) -> TokenClaim | None:
        """What ``token`` proves at this provider's door, or None. Never raises."""
        match token.split("."):
            case ["s", submission_id, mac]:
                if self._verify(mac, "submission", provider, submission_id):
                    return TokenClaim(proof=Proof.SUBMISSION, submission_id=submission_id)
            case ["p", mac]:
                # Worked out once: every callback without a submission's token asks for the same.
                if provider not in self._of_providers:
                    self._of_providers[provider] = self._macs("provider", provider)
                if _matches(mac, self._of_providers[provider]):
                    return TokenClaim(proof=Proof.PROVIDER)
        return None

    def sign_link(self, provider: str, task_id: str, index: int, expires: int) -> str:
        """The signature of an asset link that dies at ``expires`` (Unix seconds)."""
        return self._sign("asset", provider, task_id, str(index), str(expires))

    def check_link(self, provider: str, task_id: str, index: int, expires: int, signature: str) -> bool:
        """Whether the signature is ours. Whether the link is still alive is the caller's to ask."""
        return self._verify(signature, "asset", provider, task_id, str(index), str(expires))

    def sign_ticket(self, kind: str, ticket: str, expires: int) -> str:
        """The signature of a session's cookie or a one-time code that dies at ``expires`` (Unix seconds)."""
        return self._sign(kind, ticket, str(expires))

    def check_ticket(self, kind: str, ticket: str, expires: int, signature: str) -> bool:
        """Whether it is ours. Whether it is still good is for the record to say."""
        return self._verify(signature, kind, ticket, str(expires))

    def mark_form(self, session_id: str) -> str:
        """What a form of a session's pages holds, so that no other site's form is taken for it."""
        return self._sign("form", session_id)

    def check_form(self, session_id: str, mark: str) -> bool:
        """Whether a form was of a page of this session."""
        return self._verify(mark, "form", session_id)

    def name_bearer(self, token: str) -> list[str]:
        """Hashes of a bearer token, one under each secret: what is kept of it. The first is today's."""
        return self._names("bearer", token)

    def name_key(self, key: str) -> list[str]:
        """Eight hexadecimal digits of a hash of a provider's key, under each secret; today's first."""
        return [hashlib.sha256(_encoded(mac)).hexdigest()[:8] for mac in self._names("upstream key", key)]

    def seal_cursor(self, list_name: str, cursor: str) -> str:
        """A cursor of one list that tells its caller nothing, of at most ``SEALED_BYTES`` of ASCII."""
        plain = cursor.encode("ascii").ljust(SEALED_BYTES, b"\0")
        if len(plain) > SEALED_BYTES:
            raise ValueError(f"a cursor has at most {SEALED_BYTES} bytes")
        mac = self._sign("cursor", list_name, cursor)
        return mac + base64.urlsafe_b64encode(_masked(self._keys[0], mac, plain)).decode()

    def open_cursor(self, list_name: str, sealed: str) -> str | None:
        """What was sealed for this list, or None. Never raises."""
        mac = sealed[:MAC_CHARACTERS]
        try:
            hidden = base64.urlsafe_b64decode(sealed[MAC_CHARACTERS:])
        except ValueError:
            return None
        if len(hidden) != SEALED_BYTES:
            return None
        for key in self._keys:
            cursor = _masked(key, mac, hidden).rstrip(b"\0").decode("latin-1")
            if _matches(mac, [_mac(key, ("cursor", list_name, cursor)).encode()]):
                return cursor
        return None

    def _names(self, *parts: str) -> list[str]:
        return [_mac(key, parts) for key in self._keys]

    def _sign(self, *parts: str) -> str:
        return _mac(self._keys[0], parts)

    def _verify(self, mac: str, *parts: str) -> bool:
        return _matches(mac, self._macs(*parts))

    def _macs(self, *parts: str) -> list[bytes]:
        return [name.encode() for name in self._names(*parts)]


def _matches(mac: str, expected: list[bytes]) -> bool:
    given = _encoded(mac)
    if len(given) != MAC_CHARACTERS:  # no secret, and only what is equally long is compared in constant time
        return False
    # Every one is compared even after a match, so the time tells nothing about which key it was.
    matches = [hmac.compare_digest(given, each) for each in expected]
    return any(matches)


class _Key:
    """HMAC-SHA256 (RFC 2104) under one key, whose two halves are worked out once.

    The library's own object takes more than twice as long to copy, and every link and callback has a MAC.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) > _BLOCK_BYTES:
            key = hashlib.sha256(key).digest()
        key = key.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(key.translate(_INNER))
        self._outer = hashlib.sha256(key.translate(_OUTER))

    def digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


def _mac(key: _Key, parts: tuple[str, ...]) -> str:
    # Each part goes in with its length in bytes, so that no two lists of parts give the same message.
    text = "".join([f"{len(part)}:{part}" for part in parts])
    message = (
        text.encode()
        if text.isascii()
        else b"".join([b"%d:%s" % (len(part), part) for part in map(_encoded, parts)])
    )
    return base64.urlsafe_b64encode(key.digest(message)[:MAC_BYTES]).decode()


def _masked(key: _Key, mac: str, text: bytes) -> bytes:
    """Text under the key stream of a MAC; the same again takes it off."""
    stream = key.digest(b"stream:" + _encoded(mac))
    return bytes(one ^ other for one, other in zip(text, stream, strict=False))


def _encoded(text: str) -> bytes:
    # A forged token and a non-UTF-8 path can hold lone surrogates, which plain UTF-8 refuses.
    return text.encode("utf-8", "surrogatepass")


def make_gateway_token() -> tuple[str, str]:
    """A new token of the gateway, and its hash, which is what is kept of it."""
    token = TOKEN_MARK + secrets.token_urlsafe(32)
    return token, hash_of_token(token)


def hash_of_token(token: str) -> str:
    """What is kept of such a token. Under no secret: 256 random bits are not guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
