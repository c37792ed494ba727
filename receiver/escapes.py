"""What comes from outside, made harmless for whoever reads it: terminals, and readers of lines.

A terminal obeys control characters: C0, DEL and C1, of which U+009B alone begins a command. Characters that
turn the direction of text show one word as another. JSON escapes C0 by itself, and lets the others stand; and
three line ends of Unicode, at which readers that split lines as Python's ``splitlines`` does find half a
document. Escaped, JSON says the same.
"""

import re
from typing import Any

import msgspec

# What JSON leaves as it is, in UTF-8: DEL, C1, line ends and what turns the direction. No other character has
# these bytes, and outside of texts JSON has none of them.
_HARMFUL = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


def printable(text: str) -> str:
    """Ids, owners and error texts come from outside; a control character in them stays a picture."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def encode_harmless(value: Any) -> bytes:
    """``value`` as JSON that is one line, and moves no cursor."""
    return escape_json(msgspec.json.encode(value))


def escape_json(document: bytes) -> bytes:
    """JSON, or lines of it, that says the same with nothing harmful in its texts."""
    if document.isascii() and b"\x7f" not in document:
        return document
    return _HARMFUL.sub(_as_escape, document)


def _as_escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())
