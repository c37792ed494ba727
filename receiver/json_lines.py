"""JSON that is one line to every reader.

JSON lets three line ends of Unicode stand in a text as they are: U+0085, U+2028 and U+2029. Readers that
split lines as Python's ``splitlines`` does then find half a document. Escaped they say the same.
"""

from typing import Any

import msgspec

# In UTF-8; no other character has these bytes, and outside of texts JSON has none but ASCII.
_LINE_ENDS = (
    ("\N{LINE SEPARATOR}".encode(), rb"\u2028"),
    ("\N{PARAGRAPH SEPARATOR}".encode(), rb"\u2029"),
    ("\N{NEXT LINE}".encode(), rb"\u0085"),
)


def encode_line(value: Any) -> bytes:
    """``value`` as JSON without a line end in it."""
    return escape_line_ends(msgspec.json.encode(value))


def escape_line_ends(document: bytes) -> bytes:
    """JSON, or lines of it, in which no text holds a line end."""
    if document.isascii():
        return document
    for raw, escaped in _LINE_ENDS:
        document = document.replace(raw, escaped)
    return document
