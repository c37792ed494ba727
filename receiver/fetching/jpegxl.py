"""The size of a JPEG XL, bare or in its container, and as far as can be seen whether it is whole."""

from receiver.errors import FetchFailed
from receiver.fetching.formats import Bytes, Frames, malformed
from receiver.fetching.isobmff import boxes
from receiver.models import Outcome

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

_HEAD_BYTES = 12  # the longest size takes two bytes of signature and 69 bits
_RATIOS = {1: (1, 1), 2: (6, 5), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_LENGTH_BITS = (9, 13, 18, 30)


def image_frames(data: Bytes) -> Frames:
    """The size that the header claims.

    How long a bare codestream is shows only to a decoder; a container says it.
    """
    if data.some(0, 2) == CODESTREAM:
        yield _size(data.at(0, _HEAD_BYTES))
        return
    head = b""
    for box in boxes(data):
        if box.name == b"jxlc":  # all of the codestream in one box
            yield _size(data.at(box.start, _HEAD_BYTES))
            return
        if box.name == b"jxlp":
            number = int.from_bytes(data.at(box.start, 4), "big")
            head = head or data.at(box.start + 4, _HEAD_BYTES)
            if number >> 31:  # the last one
                yield _size(head)
                return
    raise FetchFailed(Outcome.TRUNCATED, "the file ends before its pixels do")


def _size(head: bytes) -> tuple[int, int]:
    if not head.startswith(CODESTREAM):
        raise malformed("its pixels are no JPEG XL's")
    bits = _Bits(head[2:])
    is_small = bits.take(1)
    height = _length(bits, is_small)
    ratio = bits.take(3)
    if not ratio:
        return _length(bits, is_small), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _length(bits: "_Bits", is_small: int) -> int:
    if is_small:
        return (bits.take(5) + 1) * 8
    return bits.take(_LENGTH_BITS[bits.take(2)]) + 1


class _Bits:
    """Bits of a number that begins with its lowest."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._left & (1 << count) - 1
        self._left >>= count
        return value
