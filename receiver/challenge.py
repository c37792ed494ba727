"""Who answers proves that it knows a token before it is sent one: an HMAC over a number that was never used.

The token itself is the key, so whoever knows it, by whichever setting, can ask and answer. The answer is
given only to who shows by ``key`` that the token is known: strangers get nothing to try guesses on.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable

import msgspec

KEY_CHARACTERS = 16
NONCE_CHARACTERS = 32


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: ``key`` says which token is meant, to those who know it."""

    nonce: str
    key: str


def make_challenge(token: str) -> Challenge:
    nonce = secrets.token_hex(NONCE_CHARACTERS // 2)
    return Challenge(nonce=nonce, key=_mac(token, "key", nonce)[:KEY_CHARACTERS])


def prove(tokens: Iterable[str], challenge: Challenge) -> str | None:
    """The proof that one of ``tokens`` is the one that is meant; None where none is."""
    key = challenge.key.encode("utf-8", "replace")
    known = [
        token
        for token in tokens
        if hmac.compare_digest(key, _mac(token, "key", challenge.nonce)[:KEY_CHARACTERS].encode())
    ]
    return _mac(known[0], "proof", challenge.nonce) if known else None


def is_proven(token: str, challenge: Challenge, proof: object) -> bool:
    """Whether whoever answered so knows the token."""
    expected = _mac(token, "proof", challenge.nonce).encode()
    return isinstance(proof, str) and hmac.compare_digest(proof.encode("utf-8", "replace"), expected)


def _mac(token: str, purpose: str, nonce: str) -> str:
    message = f"receiver.{purpose}.{nonce}".encode("utf-8", "surrogatepass")
    return hmac.new(token.encode(), message, hashlib.sha256).hexdigest()
