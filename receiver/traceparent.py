"""The header ``traceparent`` of W3C Trace Context: which trace something belongs to, and its parent there.

    VERSION-TRACE_ID-PARENT_ID-FLAGS   00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01

All of it is lower-case hexadecimal. The rules are those of the recommendation (level 1, 2021-11-23, 3.2 and
4.3): what breaks them is passed over, as if no header had come.
"""

import re
from collections.abc import Sequence

# Of version 00, or one that came later: it may have more fields behind these, and no version is ff.
_FORM = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<parent>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-[!-~]*)?"
)
_SAMPLED = 0x01


def read_traceparent(headers: Sequence[str]) -> str | None:
    """The one usable ``traceparent`` of a request, in version 00; None where there is none.

    One of a later version is read as far as we understand it: of its flags only the last bit is known.
    """
    found = _FORM.fullmatch(headers[0].strip(" \t")) if len(headers) == 1 else None
    if found is None:
        return None
    if found["version"] == "00":
        return None if found["more"] else found[0]
    flags = int(found["flags"], 16) & _SAMPLED
    return f"00-{found['trace']}-{found['parent']}-{flags:02x}"
