"""Callback bodies that are JSON, or a form that carries it, told apart by their looks alone.

No Content-Type is asked: senders get it wrong, and a body that is read again later has come without one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal
from urllib.parse import unquote_to_bytes

import msgspec

from receiver import payload
from receiver.errors import Rejected

MOST_FORM_BYTES = 262_144  # of one whose percent signs have to be read, which costs some 100 ns each
MOST_FIELDS = 200
_WHOLE = "payload"  # a field of this name is the document, as GitHub, Slack and Buildkite send it

_NAME = rb"[\w.$:*%+\[\]-]+"
_PAIRS = re.compile(rb"%b=[!-%%'-~]*(?:&%b=[!-%%'-~]*)*" % (_NAME, _NAME))
_BOUNDARY = re.compile(rb"--[!-~]{1,70}(?=\r\n)")  # RFC 2046, 5.1.1
_PART_NAME = re.compile(rb'[; ]name="([^"\r\n]*)"')
_PART_FILE = re.compile(rb"[; ]filename\*?=")

_peeked: dict[Literal["last"], tuple[bytes, object]] = {}


class _Text(msgspec.Struct, frozen=True):
    """A field as it stands in the body."""

    name: str
    text: str
    is_file: bool = False  # or has no name: then it counts if it is an object


class _Field(msgspec.Struct, frozen=True):
    name: str
    value: object  # text, or the object or array that it is as JSON


def peek(body: bytes) -> object:
    """The same as ``decode``, for a check of what is read right after it: that gets this very document."""
    document = decode(body)
    _peeked["last"] = (body, document)
    return document


def decode(body: bytes) -> object:
    """The document in a callback's body. Raises Rejected (NOT_JSON) where it is neither JSON nor a form.

    Of a form it is what a field ``payload`` has, the one object among the parts of a multipart, or else an
    object of all fields: texts, JSON where one is an object or an array, a list where one comes several
    times. Files beside them are passed over. Where they have too many values together to be read at a bounded
    price, as one document may have, they all stay texts.
    """
    # Whatever was looked into is held no longer; on another thread, too, this never raises.
    if (last := _peeked.pop("last", None)) is not None and last[0] is body:
        return last[1]
    try:
        return payload.decode(body)
    except Rejected:
        try:
            texts = [*(_parts(body) if body.startswith(b"--") else _pairs(body))]
        except ValueError:  # UnicodeDecodeError is one
            texts = []
        fields = [*_read(texts)]
        if not fields:
            raise
    return _document(fields, is_multipart=body.startswith(b"--"))


def _pairs(body: bytes) -> Iterator[_Text]:
    """The fields of ``application/x-www-form-urlencoded``; none where it does not look like that."""
    form = body.strip(b"\r\n")
    if len(form) > MOST_FORM_BYTES or form.count(b"&") >= MOST_FIELDS or not _PAIRS.fullmatch(form):
        return
    for pair in form.split(b"&"):
        name, _, value = (unquote_to_bytes(each.replace(b"+", b" ")) for each in pair.partition(b"="))
        yield _Text(name.decode(), value.decode())


def _parts(body: bytes) -> Iterator[_Text]:
    """The fields of ``multipart/form-data``; none where it is cut or does not look like that."""
    boundary = _BOUNDARY.match(body)
    if boundary is None:
        return
    inside, end, _ = body.rpartition(b"\r\n%b--" % boundary[0])
    if not end:
        return
    parts = inside[boundary.end() + 2 :].split(b"\r\n%b\r\n" % boundary[0])
    if len(parts) > MOST_FIELDS:
        return
    for part in parts:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _PART_NAME.search(head)
        yield _Text(
            name[1].decode() if name else "",
            value.decode("utf-8", "replace"),
            is_file=name is None or _PART_FILE.search(head) is not None,
        )


def _read(texts: Sequence[_Text]) -> Iterator[_Field]:
    """The fields, each as the object or array that it may be; anything else stays text, digits too."""
    encoded = [each.text.encode() if each.text.lstrip().startswith(("{", "[")) else b"" for each in texts]
    # One that is too wide by itself is not read anyway.
    is_wide = payload.is_wide(b"".join(each for each in encoded if not payload.is_wide(each)))
    for each, document in zip(texts, encoded, strict=True):
        found = payload.embedded(each.text) if document and not is_wide else None
        value = each.text if found is None else found
        if isinstance(value, dict) or not each.is_file:
            yield _Field(each.name, value)


def _document(fields: list[_Field], *, is_multipart: bool) -> object:
    whole = [field.value for field in fields if field.name == _WHOLE]
    if not whole and is_multipart:
        whole = [field.value for field in fields if isinstance(field.value, dict)]
    if len(whole) == 1 and isinstance(whole[0], dict | list):
        return whole[0]
    found: dict[str, list[object]] = {}
    for field in fields:
        found.setdefault(field.name, []).append(field.value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
