"""Ed25519 for the played providers that sign by a private key, by PyNaCl. A key is made of a text."""

import base64
import hashlib

from nacl.signing import SigningKey


def sign(secret: str, message: bytes) -> bytes:
    return _key(secret).sign(message).signature


def key_set(secret: str) -> dict[str, object]:
    """The key set (RFC 8037) with the public key."""
    x = base64.urlsafe_b64encode(bytes(_key(secret).verify_key)).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "simulated", "x": x}]}


def _key(secret: str) -> SigningKey:
    return SigningKey(hashlib.sha256(secret.encode()).digest())
