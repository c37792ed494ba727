"""Content codings: finds the one that a label names, and unpacks a body as it comes, in bounded pieces.

Object stores hand out whatever Content-Encoding the uploader wrote (``base64``, ``UTF-8``, ``none``), so a
label that names no coding is ignored: the bytes are as they are.
"""

import zlib
from collections.abc import Generator, Iterator
from enum import Enum, auto

from receiver.errors import FetchFailed
from receiver.models import Outcome

PIECE_BYTES = 256 * 1024  # what one step makes at most, however well it was packed
MOST_MEMBERS = 10_000  # of one gzip; honest ones have 64 KiB in each, hostile ones nothing in 20 bytes

_UNPACKED = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_NOT_UNPACKED = frozenset({"compress", "br", "zstd", "dcb", "dcz"})  # not in every standard library
_GZIP_MAGIC = b"\x1f\x8b"


def coding_of(label: str) -> str | None:
    """The coding that a Content-Encoding names; None where the bytes are as they are.

    Raises FetchFailed (NOT_AN_IMAGE) for a coding that is not unpacked here, and for several.
    """
    words = [word.partition(";")[0].strip().lower() for word in label.split(",")]
    codings = [word for word in words if word in _UNPACKED or word in _NOT_UNPACKED]
    if not codings:
        return None
    if len(codings) > 1:
        raise _refused("packed more than once, though plain bytes were asked for")
    if codings[0] in _NOT_UNPACKED:
        raise _refused(f"packed ({codings[0]}), though plain bytes were asked for")
    return _UNPACKED[codings[0]]


class Unpacker:
    """Unpacks one body. A body that is labelled gzip but does not begin like gzip is handed on as it is.

    ``deflate`` is read with and without its zlib wrapper, as both are sent. Bytes after the end of the
    packed data are ignored, unless they are more gzip.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._state = _State.FIRST
        self._held = b""  # too little yet to tell what it is
        self._inflater = zlib.decompressobj()
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack the next bytes, in pieces of at most PIECE_BYTES; the iterator must be read to its end.

        Raises FetchFailed (NOT_AN_IMAGE) where they cannot be unpacked.
        """
        data, self._held = self._held + data, b""
        while data and self._state is not _State.OVER:
            if self._state is _State.PLAIN:
                yield data
                return
            if self._state is _State.WITHIN:
                data = yield from self._inflate(data)
            elif len(data) < len(_GZIP_MAGIC):
                self._held = data
                return
            else:
                self._state = self._begin(data)

    def finish(self) -> bytes:
        """What is left once the body is over. Raises FetchFailed (TRUNCATED) where it ends too early."""
        if self._state is _State.WITHIN:
            raise FetchFailed(Outcome.TRUNCATED, f"the body ends before its {self._coding} does")
        return self._held if self._state is _State.FIRST else b""

    def _begin(self, data: bytes) -> "_State":
        is_first = self._state is _State.FIRST
        if self._coding == "gzip":
            if not data.startswith(_GZIP_MAGIC):
                return _State.PLAIN if is_first else _State.OVER
            self._members += 1
            if self._members > MOST_MEMBERS:
                raise FetchFailed(Outcome.TOO_LARGE, f"gzip of more than {MOST_MEMBERS} parts")
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            return _State.WITHIN
        if not is_first:
            return _State.OVER
        # RFC 1950, section 2.2: method 8, a window of at most 32 KiB, and a check of both bytes.
        is_zlib = data[0] & 0x8F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        return _State.WITHIN

    def _inflate(self, data: bytes) -> Generator[bytes, None, bytes]:
        """Unpack to the end of the data, or of what is packed; returns what follows that."""
        inflater, is_full = self._inflater, False
        while not inflater.eof and (data or is_full):  # a full piece may leave more of it within
            try:
                piece = inflater.decompress(data, PIECE_BYTES)
            except zlib.error as exc:
                raise _refused(f"no {self._coding}, though it says so") from exc
            data, is_full = inflater.unconsumed_tail, len(piece) == PIECE_BYTES
            if piece:
                yield piece
        if inflater.eof:
            self._state = _State.NEXT
        return inflater.unused_data


class _State(Enum):
    """The place in a body."""

    FIRST = auto()  # before anything
    WITHIN = auto()  # packed data
    NEXT = auto()  # behind packed data: more of it may follow
    PLAIN = auto()  # it was not packed at all
    OVER = auto()  # what comes now is ignored


def _refused(words: str) -> FetchFailed:
    return FetchFailed(Outcome.NOT_AN_IMAGE, f"the body is {words}")
