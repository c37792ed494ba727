"""What of a document from outside an admin may read: no link, no secret, no long text."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from receiver import payload

MOST_CHARACTERS = 200
MOST_DEPTH = 20

# What ends a sentence or a clause behind an address is no part of it.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]*[^\s\"'<>.,:;!?]|data:[^\s\"'<>]*[^\s\"'<>.,:;!?]")
SECRET_KEY = re.compile(r"token|secret|key|sign|auth|password|credential|cookie", re.IGNORECASE)
PROMPT_KEY = re.compile(r"prompt|text|caption|description|message|input|lyric", re.IGNORECASE)
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}$")


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """The same document without what nobody may read: links, secrets by their keys, and long texts.

    What lies below such a key is hidden with it, and so is what is written as JSON in a text.
    """
    if depth > MOST_DEPTH:
        return "[nested deeply]"
    if isinstance(value, Mapping):
        return {
            _short(redact_text(str(name))): redact(each, _key_of(str(name), key), depth + 1)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(each, key, depth + 1) for each in value]
    return value if value is None or isinstance(value, bool) else _redact_one(value, key, depth)


def _key_of(name: str, outer: str) -> str:
    """By which key a value is judged: by that of what it lies in, where that one is private."""
    return outer if SECRET_KEY.search(outer) or PROMPT_KEY.search(outer) else name


def _redact_one(value: Any, key: str, depth: int) -> Any:
    if SECRET_KEY.search(key):
        return "[hidden]"
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] in {"{", "["} and isinstance(inner := payload.embedded(value), dict | list):
        return redact(inner, key, depth + 1)
    if PROMPT_KEY.search(key) and value:
        return f"[{len(value):,} characters]"
    return _short(redact_text(value)) if len(value) <= MOST_CHARACTERS else f"[{len(value):,} characters]"


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"[{len(text):,} characters]"


def redact_text(text: str) -> str:
    """A text with each URL in it as its host and ending."""
    return _URL.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    if match[0].startswith("data:"):
        return "[data]"
    try:
        place = urlsplit(match[0])
        host = place.hostname or "no host"
    except ValueError:
        return "[link]"
    ending = _EXTENSION.search(place.path)
    return f"[link: {host}{', ' + ending[0] if ending else ''}]"
