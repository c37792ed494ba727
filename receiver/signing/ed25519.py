"""Ed25519 (RFC 8032) by PyNaCl: whether a public key made a signature."""

from collections.abc import Callable

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey


def public_key(raw: bytes) -> Callable[[bytes, bytes], bool]:
    """Whether (signature, message) is this key's; ``raw`` has 32 bytes. What it returns never raises."""
    key = VerifyKey(raw)

    def fits(signature: bytes, message: bytes) -> bool:
        try:
            key.verify(message, signature)
        except CryptoError:
            return False
        return True

    return fits
