"""A service proves that it knows a token before the token is sent to it: an HMAC over a fresh number.

The token itself is the key, so whoever knows it, by whichever setting, can ask and answer. Only a caller that
shows by ``key`` that it knows the token gets an answer: strangers get nothing to try guesses on. The proof
covers the place at which the service was reached: otherwise a listener in between could have another service,
which does know the token, answer for it.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from contextlib import suppress

import msgspec

KEY_CHARACTERS = 16
NONCE_CHARACTERS = 32


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """The question; ``key`` says which token is meant, to those who know it."""

    nonce: str
    key: str


def make_challenge(token: str) -> Challenge:
    nonce = secrets.token_hex(NONCE_CHARACTERS // 2)
    return Challenge(nonce=nonce, key=_mac(token, "key", nonce)[:KEY_CHARACTERS])


def place_of(address: object) -> str:
    """One end of a connection in the form that both ends use; ``address`` begins with a host and a port."""
    if not isinstance(address, tuple | list) or len(address) < 2:
        return "unknown"
    host, port = str(address[0]), address[1]
    with suppress(ValueError):  # no address, such as a test's
        number = ipaddress.ip_address(host)
        host = str(getattr(number, "ipv4_mapped", None) or number)
    return f"{host} {port}"


def prove(tokens: Iterable[str], challenge: Challenge, place: str) -> str | None:
    """The proof that the token that is meant is known at ``place``; None where it is none of ``tokens``."""
    key = challenge.key.encode("utf-8", "replace")
    known = [
        token
        for token in tokens
        if hmac.compare_digest(key, _mac(token, "key", challenge.nonce)[:KEY_CHARACTERS].encode())
    ]
    return _proof(known[0], challenge, place) if known else None


def is_proven(token: str, challenge: Challenge, proof: object, place: str) -> bool:
    """Whether the proof shows that its sender knows the token and was reached at ``place``."""
    expected = _proof(token, challenge, place).encode()
    return isinstance(proof, str) and hmac.compare_digest(proof.encode("utf-8", "replace"), expected)


def _proof(token: str, challenge: Challenge, place: str) -> str:
    return _mac(token, "proof", f"{challenge.nonce}.{place}")


def _mac(token: str, purpose: str, nonce: str) -> str:
    message = f"receiver.{purpose}.{nonce}".encode("utf-8", "surrogatepass")
    return hmac.new(token.encode(), message, hashlib.sha256).hexdigest()
