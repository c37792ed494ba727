"""A bearer token as it is configured: it may have a name for logs, and owners that it may act for."""

import re
from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

# NAME:TOKEN, and behind a name perhaps @OWNER or @OWNER|OWNER. What has no name is a token and nothing else.
_NAMED = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_-]{0,31}):(?P<token>[!-~]+?)(?:@(?P<owners>[^@]+))?")
MIN_TOKEN_CHARACTERS = 16


class BearerToken(msgspec.Struct, frozen=True, kw_only=True):
    """One value of ``RECEIVER_API_TOKENS``, ``RECEIVER_ADMIN_TOKENS`` or ``RECEIVER_VIEWER_TOKENS``.

    ``owners`` are owners' names, or how names begin where they end in ``*``; none is every owner.
    """

    name: str | None
    token: str
    owners: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"BearerToken(name={self.name!r})"  # so that no log and no traceback shows it


def parse_bearer(text: str) -> BearerToken:
    """``TOKEN``, ``NAME:TOKEN`` or ``NAME:TOKEN@OWNER|OWNER``; in owners ``%2C`` stands for a comma.

    Raises ValueError where the token is too short, an owner is empty, or it ends in an escaped ``*``: that
    would be many owners to us, and one to who wrote it.
    """
    match = _NAMED.fullmatch(text)
    if match is None:
        found = BearerToken(name=None, token=text)
    else:
        listed = match["owners"].split("|") if match["owners"] else []
        if any(unquote(each).endswith("*") and not each.endswith("*") for each in listed):
            raise ValueError(text)
        found = BearerToken(name=match["name"], token=match["token"], owners=tuple(map(unquote, listed)))
    if len(found.token) < MIN_TOKEN_CHARACTERS or not all(found.owners):
        raise ValueError(text)
    return found


def acts_for(owners: Sequence[str], owner: str) -> bool:
    """Whether a token that is bound to ``owners`` may act for one."""
    return not owners or any(
        owner.startswith(each[:-1]) if each.endswith("*") else owner == each for each in owners
    )
