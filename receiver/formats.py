"""The structure of media files, walked to the end without decoding anything.

Each ``*_frames`` yields the size in pixels that the header claims, then that of every frame it passes,
and returns only at the format's own end. A tail behind it is left alone: phones and CDNs append things.
Hostile files cost little: every step is bounded, and so is the number of steps.
"""

import io
import re
from collections.abc import Iterator
from struct import unpack
from typing import BinaryIO

import imagesize

from receiver.errors import FetchFailed
from receiver.models import Outcome

Frames = Iterator[tuple[int, int]]

MAX_READS = 500_000  # parts of one file; honest ones have far fewer
MAX_META_BYTES = 1 << 20  # of an AVIF's description; honest ones have a few hundred

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Bytes:
    """A file read in places, never beyond its end, and not for ever."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = file.seek(0, io.SEEK_END)
        self._file = file
        self._reads = 0

    def at(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes; a file that has not so many ends early."""
        if offset + count > self.size:
            raise FetchFailed(Outcome.TRUNCATED, "the file ends early")
        return self.some(offset, count)

    def some(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise malformed("it is made of too many parts")
        self._file.seek(offset)
        return self._file.read(count)


def malformed(reason: str) -> FetchFailed:
    """The failure of a file that breaks its format's rules."""
    return FetchFailed(Outcome.NOT_AN_IMAGE, f"not a valid file of its format: {reason}")


def png_frames(data: Bytes) -> Frames:
    offset, names = 8, set[bytes]()
    while b"IEND" not in names:
        length, name = unpack(">I4s", data.at(offset, 8))
        data.at(offset + 8 + length, 4)  # the checksum, and with it the whole chunk, is there
        if not name.isalpha() or (name == b"IHDR") != (offset == 8):
            raise malformed("a chunk is out of place")
        if name == b"IHDR":
            yield unpack(">II", data.at(offset + 8, 8))
        if name == b"fcTL":
            yield unpack(">II", data.at(offset + 12, 8))
        names.add(name)
        offset += 12 + length
    if b"IDAT" not in names:
        raise malformed("it has no pixels")


def jpeg_frames(data: Bytes) -> Frames:
    offset, scans = 2, 0
    while True:
        fill, marker = data.at(offset, 2)
        if fill != 0xFF:
            raise malformed("a marker is missing")
        if marker == 0xD9:
            break
        offset += 1 if marker == 0xFF else 2
        if marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD7:
            continue
        if marker in _JPEG_SIZES:
            height, width = unpack(">HH", data.at(offset + 3, 4))
            yield width, height
        offset += int.from_bytes(data.at(offset, 2), "big")
        if marker == 0xDA:
            scans += 1
            offset = _next_jpeg_marker(data, offset)
    if not scans:
        raise malformed("it has no pixels")


def _next_jpeg_marker(data: Bytes, offset: int) -> int:
    while True:
        part = data.some(offset, 1 << 16)
        if found := _JPEG_MARKER.search(part):
            return offset + found.start()
        if offset + len(part) >= data.size:
            raise FetchFailed(Outcome.TRUNCATED, "the file ends in the middle of its pixels")
        offset += len(part) - 1  # a marker may lie across the border


def gif_frames(data: Bytes) -> Frames:
    width, height, flags = unpack("<HHB", data.at(6, 5))
    yield width, height
    offset, frames = 13 + _colours(flags), 0
    while (block := data.at(offset, 1)) != b"\x3b":
        match block:
            case b"\x2c":
                left, top, width, height, flags = unpack("<HHHHB", data.at(offset + 1, 9))
                yield left + width, top + height
                offset = _after_blocks(data, offset + 11 + _colours(flags))
                frames += 1
            case b"\x21":
                offset = _after_blocks(data, offset + 2)
            case b"\x00":  # a stray terminator: every viewer passes over it
                offset += 1
            case _:
                raise malformed("a block is of no known type")
    if not frames:
        raise malformed("it has no pixels")


def _colours(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: Bytes, offset: int) -> int:
    while length := data.at(offset, 1)[0]:
        offset += 1 + length
    return offset + 1


def webp_frames(data: Bytes) -> Frames:
    end = check_riff(data)
    pixels = False
    for name, body, length in _webp_chunks(data, 12, end):
        if name == b"VP8X":
            canvas = data.at(body + 4, 6)
            yield int.from_bytes(canvas[:3], "little") + 1, int.from_bytes(canvas[3:], "little") + 1
        elif name == b"ANMF":
            for inner, place, _ in _webp_chunks(data, body + 16, body + length):
                yield from _webp_bitstream(data, inner, place)
            pixels = True
        elif name in (b"VP8 ", b"VP8L"):
            yield from _webp_bitstream(data, name, body)
            pixels = True
    if not pixels:
        raise malformed("it has no pixels")


def _webp_chunks(data: Bytes, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while offset + 8 <= end:
        name, length = unpack("<4sI", data.at(offset, 8))
        if offset + 8 + length > end:
            raise malformed("a chunk is longer than what holds it")
        yield name, offset + 8, length
        offset += 8 + length + (length & 1)


def _webp_bitstream(data: Bytes, name: bytes, body: int) -> Frames:
    # The frame's own size, since the canvas around it may claim a smaller one.
    if name == b"VP8 ":
        width, height = unpack("<HH", data.at(body + 6, 4))
        yield width & 0x3FFF, height & 0x3FFF
    elif name == b"VP8L":
        bits = int.from_bytes(data.at(body + 1, 4), "little")
        yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def check_riff(data: Bytes) -> int:
    """Where a RIFF file (WebP, WAV) ends by its own account."""
    end = 8 + int.from_bytes(data.at(4, 4), "little")
    data.at(end, 0)
    return end


def avif_frames(data: Bytes) -> Frames:
    header = _avif_header(data)
    # Two boxes and nothing else are looked into, so what imagesize has to chew on is bounded.
    size = imagesize.get(io.BytesIO(header), exif_rotation=False)
    if min(size) < 0:
        raise malformed("its description has no size in pixels")
    yield size
    names = {name for name, _, _ in boxes(data)}
    if b"mdat" not in names and b"idat" not in header:
        raise FetchFailed(Outcome.TRUNCATED, "the file ends before its pixels")


def _avif_header(data: Bytes) -> bytes:
    found: dict[bytes, bytes] = {}
    for name, start, end in boxes(data):
        if name in (b"ftyp", b"meta") and name not in found:
            found[name] = data.some(start, min(end - start, MAX_META_BYTES))
        if len(found) == 2:
            break
    return found.get(b"ftyp", b"") + found.get(b"meta", b"")


def boxes(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """The outermost boxes of an ISO file: name, start, end."""
    offset = 0
    while offset < data.size:
        length, name = unpack(">I4s", data.at(offset, 8))
        least = 8
        if length == 1:
            length, least = int.from_bytes(data.at(offset + 8, 8), "big"), 16
        elif length == 0:
            length = data.size - offset
        if length < least:
            raise malformed("a box is shorter than its header")
        data.at(offset + length, 0)
        yield name, offset, offset + length
        offset += length
