"""What keeps a page from being used by others: its headers, its cookies, and what a form must come with.

A request that changes something passes three locks: the cookie is ``SameSite=Strict``, the browser says that
the request is of this origin, and the form holds a mark that only this session's pages have.
"""

import base64
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from receiver.config.parsers import is_here
from receiver.config.settings import Settings
from receiver.tokens import MAC_BYTES, Tokens

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # With "no-referrer" browsers would send forms with "Origin: null".
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex",
}
NEVER_KEPT = {"cache-control": "no-store"}

LOOKS = ("auto", "light", "dark")  # how a browser shows the pages; kept in a cookie of its own
LOOK_COOKIE = "receiver-look"
LOOK_SECONDS = 365 * 86_400

_OURS = re.compile(r"/admin/[!-\[\]-~]*")  # printable ASCII without a backslash


class CookiePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How the session's cookie is set. Its name makes a browser refuse one that another site has set."""

    name: str
    is_secure: bool

    def holding(self, value: str, seconds: int) -> str:
        """A ``Set-Cookie`` that keeps ``value`` so long; 0 takes the cookie away."""
        secure = " Secure;" if self.is_secure else ""
        return f"{self.name}={value}; Path=/; Max-Age={seconds};{secure} HttpOnly; SameSite=Strict"


def cookie_policy(settings: Settings) -> CookiePolicy | None:
    """By the public URL, not by what a proxy says; None where a cookie would travel in the open."""
    place = urlsplit(settings.public_url)
    if place.scheme == "https":
        return CookiePolicy(name="__Host-receiver", is_secure=True)
    return CookiePolicy(name="receiver", is_secure=False) if is_here(place.hostname or "") else None


def look_cookie(look: str) -> str:
    """The ``Set-Cookie`` of how the pages look; it says nothing about anybody."""
    return f"{LOOK_COOKIE}={look}; Path=/; Max-Age={LOOK_SECONDS}; HttpOnly; SameSite=Lax"


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a request was made by a page of ours.

    By ``Sec-Fetch-Site``; browsers that send none (by plain http to a name) say the page's ``Origin``.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return bool(origin.netloc) and origin.netloc.lower() == headers.get("host", "").lower()


def may_lack_cookie(headers: Mapping[str, str]) -> bool:
    """Whether a browser may have kept a Strict cookie back: the request came from another site's page."""
    return headers.get("sec-fetch-site", "cross-site") in {"cross-site", "same-site"}


def page_of_ours(path: str | None) -> str | None:
    """``path`` where it is one of the pages, with its query, as a place to be sent to; else None."""
    return path if path and len(path) <= 2000 and _OURS.fullmatch(path) else None


def masked(mark: str) -> str:
    """A form's mark, other in each page: pages are compressed, and what repeats in them could be guessed."""
    plain, pad = base64.urlsafe_b64decode(mark), os.urandom(MAC_BYTES)
    return base64.urlsafe_b64encode(pad + _xor(plain, pad)).decode()


def is_marked(tokens: Tokens, session_id: str, text: str) -> bool:
    """Whether a form was of a page of this session."""
    try:
        both = base64.urlsafe_b64decode(text)
    except ValueError:
        return False
    if len(both) != 2 * MAC_BYTES:
        return False
    mark = base64.urlsafe_b64encode(_xor(both[:MAC_BYTES], both[MAC_BYTES:])).decode()
    return tokens.check_form(session_id, mark)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
