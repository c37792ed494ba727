"""Who is asking: a backend or an admin, by Bearer token, compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable
from enum import IntEnum

import msgspec
from starlette.requests import Request

from receiver.config.bearer import acts_for, parse_bearer
from receiver.errors import Rejected
from receiver.models import CLI_AGENT, Actor, Door
from receiver.problem_types import ProblemType


class Role(IntEnum):
    """What a caller may do; each may do what the ones before it may."""

    STRANGER = 0
    BACKEND = 1
    ADMIN = 2


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever sent a request, as far as its token shows."""

    role: Role
    # For the record: the role, and the token's name, or where its hash begins, such as "admin 1a2b3c4d".
    name: str
    owners: tuple[str, ...] = ()  # whom it may act for; none: everybody


class Guard:
    """Knows the tokens, by their hashes only."""

    def __init__(self, api_tokens: Iterable[str], admin_tokens: Iterable[str]) -> None:
        roles = ((Role.BACKEND, api_tokens), (Role.ADMIN, admin_tokens))
        self._known: list[tuple[bytes, Caller]] = []
        for role, token in ((role, parse_bearer(text)) for role, texts in roles for text in texts):
            digest = _hash(token.token.encode())
            shown = token.name or digest.hex()[:8]  # tells one token from another, and gives none away
            caller = Caller(role=role, name=f"{role.name.lower()} {shown}", owners=token.owners)
            self._known.append((digest, caller))

    def identify(self, authorization: str | None) -> Caller:
        """The caller that an ``Authorization`` header shows, with the highest role of its token.

        Every token is compared, whichever matches, so that the time tells nothing about them.
        """
        scheme, _, token = (authorization or "").partition(" ")
        given = _hash(token.strip().encode("latin-1", "replace"))  # headers are read as Latin-1
        matches = [caller for known, caller in self._known if hmac.compare_digest(given, known)]
        if not matches or scheme.lower() != "bearer":
            return _STRANGER
        return max(matches, key=lambda caller: caller.role)


def actor_of(request: Request) -> Actor:
    """Who acts by the API, for the audit."""
    agent = request.headers.get("user-agent", "")
    door = Door.CLI if agent.startswith(f"{CLI_AGENT}/") else Door.API
    return Actor(who=request.state.caller, role=request.state.role.name.lower(), door=door)


def require(role: Role, needed: Role) -> None:
    """Raises Rejected: 401 for a stranger, whatever is wrong; 403 for a role that is not enough."""
    if role >= needed:
        return
    if role is Role.STRANGER:
        raise Rejected(ProblemType.NOT_AUTHORISED, "Send a valid token as 'Authorization: Bearer TOKEN'.")
    raise Rejected(ProblemType.NOT_ALLOWED, "This needs an admin's token.")


def may_act_for(request: Request, owner: str) -> bool:
    """Whether this request's token may see and change what belongs to an owner. An admin's may do all."""
    return request.state.role is Role.ADMIN or acts_for(request.state.owners, owner)


def require_owner(request: Request, owner: str) -> None:
    """Raises Rejected (403) where the token is not for this owner."""
    if not may_act_for(request, owner):
        raise Rejected(ProblemType.NOT_ALLOWED, "This token is bound to other owners.")


def bound_owners(request: Request) -> tuple[str, ...]:
    """The owners, or how their names begin, that the request's token is bound to; none is everybody."""
    return () if request.state.role is Role.ADMIN else request.state.owners


def listed_owner(request: Request, asked: str | None) -> str | None:
    """The owner to list for: the one asked for, or the only one that the token is bound to; None is all.

    Raises Rejected: 403 for another's, 400 where one has to be asked for.
    """
    owners = bound_owners(request)
    if asked is not None:
        require_owner(request, asked)
    if asked is not None or not owners:
        return asked
    if len(owners) == 1 and not owners[0].endswith("*"):
        return owners[0]
    raise Rejected(
        ProblemType.OWNER_NEEDED, "This token is bound to several owners: add `owner=` with one of them."
    )


_STRANGER = Caller(role=Role.STRANGER, name="stranger")


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
