"""Who is asking: a backend or an admin, by Bearer token, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable
from enum import IntEnum

import msgspec

from receiver.errors import Rejected


class Role(IntEnum):
    """What a caller may do; each may do what the ones before it may."""

    STRANGER = 0
    BACKEND = 1
    ADMIN = 2


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever sent a request, as far as its token shows."""

    role: Role
    name: str  # for the record: the role, and where the token's hash begins, such as "admin 1a2b3c4d"


class Guard:
    """Knows the tokens, by their hashes only."""

    def __init__(self, api_tokens: Iterable[str], admin_tokens: Iterable[str]) -> None:
        backends = [(_hash(token.encode()), Role.BACKEND) for token in api_tokens]
        admins = [(_hash(token.encode()), Role.ADMIN) for token in admin_tokens]
        self._known = backends + admins

    def identify(self, authorization: str | None) -> Caller:
        """Who the ``Authorization`` header shows, with the highest role that its token has.

        Every token is compared, whichever matches, so that the time tells nothing about them.
        """
        scheme, _, token = (authorization or "").partition(" ")
        given = _hash(token.strip().encode("latin-1", "replace"))  # headers are read as Latin-1
        matches = [role for known, role in self._known if hmac.compare_digest(given, known)]
        role = max(matches, default=Role.STRANGER) if scheme.lower() == "bearer" else Role.STRANGER
        return Caller(role=role, name=_name(role, given))


def require(role: Role, needed: Role) -> None:
    """Raises Rejected: 401 for a stranger, whatever is wrong; 403 for a role that is not enough."""
    if role >= needed:
        return
    if role is Role.STRANGER:
        raise Rejected(401, "Not authorised", "Send a valid token as 'Authorization: Bearer TOKEN'.")
    raise Rejected(403, "Not allowed", "This needs an admin's token.")


def _name(role: Role, given: bytes) -> str:
    """Tells one token from another, and gives none away."""
    return f"{role.name.lower()} {given.hex()[:8]}" if role else "stranger"


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
