r"""An order's body changed by a splice of bytes: only named members at its top, and nothing else of it.

Key order, blanks, ``1.0``, large integers and escapes elsewhere stay as they came. A key is compared as it
decodes, so ``"callback\u005furl"`` is ``callback_url``.
"""

import json
import re
from collections.abc import Mapping
from typing import NoReturn

import msgspec

from receiver.payload import decode_whole

# Possessive, so that a string of many megabytes is gone through once and nothing is kept to come back to.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BLANKS = re.compile(rb"[ \t\n\r]*+")
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]', re.DOTALL)
_SCALAR = re.compile(rb"[^,}\]\s]++")


class NotAnOrder(Exception):
    """A body that cannot be an order; the message says why, and nothing of what is in it."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object as bytes and as values, with where the value of each member at its top stands."""

    body: bytes
    values: Mapping[str, object]
    spans: Mapping[str, tuple[int, int]]


def read_document(body: bytes) -> Document:
    """Read an order's body. Raises NotAnOrder where two parsers could read two orders from it."""
    values = _decoded(body)
    if not isinstance(values, dict):
        _refuse("the body must be one JSON object")
    start = _skip(body, 0)
    spans = _members(body, start, "the body")
    if isinstance(values.get("input"), dict):
        _members(body, spans["input"][0], "`input`")
    return Document(body=body, values=values, spans=spans)


def splice(document: Document, changes: Mapping[str, object]) -> bytes:
    """The body with these members at its top, each replaced where it stands or put in front of all others."""
    body, spans = document.body, document.spans
    pieces, end = [], len(body)
    for name in sorted(changes.keys() & spans.keys(), key=spans.__getitem__, reverse=True):
        value_start, value_end = spans[name]
        pieces += [body[value_end:end], _encoded(changes[name])]
        end = value_start
    added = [_encoded(name) + b":" + _encoded(value) for name, value in changes.items() if name not in spans]
    inside = body.index(b"{") + 1
    if added and spans:
        added.append(b"")  # a comma behind the last
    pieces += [body[inside:end], b",".join(added), body[:inside]]
    return b"".join(reversed(pieces))


def value_at(values: object, place: tuple[str, ...]) -> object:
    """What stands at a place of a document; None where nothing does."""
    for name in place:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _decoded(body: bytes) -> object:
    if body.startswith(b"\xef\xbb\xbf"):
        _refuse("the body begins with a byte order mark: send plain UTF-8")
    try:
        return decode_whole(body)
    except RecursionError:
        _refuse("the body is nested too deeply")
    except ValueError:
        _refuse("the body is not one JSON document in UTF-8, or has more values than are read")


def _members(body: bytes, at: int, where: str) -> dict[str, tuple[int, int]]:
    """Where the values of the object at a place stand, by name. It is known to be valid JSON."""
    spans: dict[str, tuple[int, int]] = {}
    at = _skip(body, at + 1)
    while body[at] != 0x7D:  # }
        key = _STRING.match(body, at)
        assert key is not None, "a key follows, in valid JSON"  # noqa: S101
        name = str(json.loads(key[0]))
        if name in spans:
            _refuse(f"{where} has a key twice: which of the two counts depends on who reads it")
        start = _skip(body, _skip(body, key.end()) + 1)
        at = _value_end(body, start)
        spans[name] = start, at
        at = _skip(body, at)
        if body[at] == 0x2C:  # ,
            at = _skip(body, at + 1)
    return spans


def _value_end(body: bytes, start: int) -> int:
    if body[start] not in b"{[":
        found = (_STRING if body[start] == 0x22 else _SCALAR).match(body, start)  # 0x22 is "
        assert found is not None, "a value follows, in valid JSON"  # noqa: S101
        return found.end()
    depth = 0
    for token in _BRACKETS.finditer(body, start):
        first = body[token.start()]
        if first == 0x22:
            continue
        depth += 1 if first in b"{[" else -1
        if depth == 0:
            return token.end()
    raise AssertionError("brackets are closed, in valid JSON")


def _skip(body: bytes, at: int) -> int:
    found = _BLANKS.match(body, at)
    assert found is not None, "it matches nothing, too"  # noqa: S101
    return found.end()


def _encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def _refuse(why: str) -> NoReturn:
    raise NotAnOrder(why)
