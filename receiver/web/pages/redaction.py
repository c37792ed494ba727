"""What of a document from outside an admin may read: no link, no secret, no long text."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

MOST_CHARACTERS = 200
MOST_DEPTH = 20

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]+")
_SECRET_KEY = re.compile(r"token|secret|key|sign|auth|password|credential|cookie", re.IGNORECASE)
_PROMPT_KEY = re.compile(r"prompt|text|caption|description|message|input|lyric", re.IGNORECASE)
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,5}$")


def redact(value: Any, key: str = "", depth: int = 0) -> Any:
    """The same document without what nobody may read: links, secrets by their keys, and long texts."""
    if depth > MOST_DEPTH:
        return "[nested deeply]"
    if isinstance(value, Mapping):
        return {redact_text(str(name)): redact(each, str(name), depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redact(each, key, depth + 1) for each in value]
    return value if value is None or isinstance(value, bool) else _redact_one(value, key)


def _redact_one(value: Any, key: str) -> Any:
    if _SECRET_KEY.search(key):
        return "[hidden]"
    if not isinstance(value, str):
        return value
    if len(value) > MOST_CHARACTERS or (_PROMPT_KEY.search(key) and value):
        return f"[{len(value):,} characters]"
    return redact_text(value)


def redact_text(text: str) -> str:
    """A text with each URL in it as its host and ending."""
    return _URL.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    try:
        place = urlsplit(match[0])
        host = place.hostname or "no host"
    except ValueError:
        return "[link]"
    ending = _EXTENSION.search(place.path)
    return f"[link: {host}{', ' + ending[0] if ending else ''}]"
