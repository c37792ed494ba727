"""Makes text from outside harmless for terminals and for readers of lines.

A terminal obeys control characters: C0, DEL and C1, of which U+009B alone begins a command. Characters that
turn the direction of text show one word as another. Three line ends of Unicode split a document for readers
that split lines like Python's ``splitlines``. JSON escapes only C0 by itself; with the others escaped, it
means the same.
"""

import re
from typing import Any

import msgspec

# What JSON leaves as it is, in UTF-8: DEL, C1, line ends and what turns the direction. No other character has
# these bytes, and outside of texts JSON has none of them.
_HARMFUL = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def printable(text: str) -> str:
    """The text with every control character as an escape: ids, owners and errors come from outside."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def encode_harmless(value: Any) -> bytes:
    """``value`` as JSON on one line, without characters that a terminal obeys."""
    return escape_json(msgspec.json.encode(value))


def escape_json(document: bytes) -> bytes:
    """The same JSON, or lines of it, with every harmful character in its texts escaped."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return _HARMFUL.sub(_as_escape, document)


def _as_escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())
