"""The structure of media files, walked to the end without decoding anything.

Each ``*_frames`` yields the size in pixels that the header claims, then that of every frame it passes,
and returns only at the format's own end. A tail behind it is left alone: phones and CDNs append things.
Claims that contradict each other are refused, for decoders differ in which of them they believe.
Hostile files cost little: every step is bounded, and so is the number of steps, by the file's size.
"""

import io
import mmap
import re
import zlib
from collections.abc import Iterator
from struct import unpack
from typing import BinaryIO

from receiver.errors import FetchFailed
from receiver.models import Outcome

Frames = Iterator[tuple[int, int]]

FREE_READS = 20_000  # of one file, whatever its size: enough for every part of the longest animation
BYTES_PER_READ = 128  # of a file that has more; the blocks of an honest GIF are 255 bytes long
MAX_SCANS = 1_000  # of a JPEG; honest ones have about ten
MAX_FRAMES = 2_000  # of one animation

_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by colour type
_DEFLATE_AT_BEST = 1032  # bytes out of one byte in
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_JPEG_MARKER_IN_PIXELS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Bytes:
    """A file read in places, never beyond its end, and not for ever."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = file.seek(0, io.SEEK_END)
        self._file = file
        self._reads_left = FREE_READS + self.size // BYTES_PER_READ

    def at(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes; a file that has not so many ends early."""
        if offset + count > self.size:
            raise FetchFailed(Outcome.TRUNCATED, "the file ends early")
        return self.some(offset, count)

    def some(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise malformed("it is made of too many parts")
        self._file.seek(offset)
        return self._file.read(count)

    def mapped(self) -> mmap.mmap:
        """All of it, for a reader that needs it in one piece; to be closed."""
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)


def malformed(reason: str) -> FetchFailed:
    """The failure of a file that breaks its format's rules."""
    return FetchFailed(Outcome.NOT_AN_IMAGE, f"not a valid file of its format: {reason}")


def png_frames(data: Bytes) -> Frames:
    header = data.at(8, 25)
    if header[:8] != b"\0\0\0\x0dIHDR" or zlib.crc32(header[4:21]) != int.from_bytes(header[21:], "big"):
        raise malformed("its header is damaged")
    width, height, depth, colours = unpack(">IIBB", header[8:18])
    if depth not in (1, 2, 4, 8, 16) or colours not in _PNG_SAMPLES:
        raise malformed("its pixels are of no known kind")
    yield width, height
    offset, name, packed = 33, b"", 0
    while name != b"IEND":
        length, name = unpack(">I4s", data.at(offset, 8))
        data.at(offset + 8 + length, 4)  # the checksum, and with it the whole chunk, is there
        if not name.isalpha() or name == b"IHDR" or (name == b"IEND" and length):
            raise malformed("a chunk is out of place")
        if name == b"IDAT":
            packed += length
        elif name == b"fcTL":
            yield unpack(">II", data.at(offset + 12, 8))
        offset += 12 + length
    if width * height * depth * _PNG_SAMPLES[colours] // 8 > packed * _DEFLATE_AT_BEST:
        raise malformed("it has fewer pixels than it claims")


def jpeg_frames(data: Bytes) -> Frames:
    offset, sizes, scans = 2, 0, 0
    while True:
        offset = _next_jpeg_segment(data, offset)
        marker = data.at(offset, 2)[1]
        if marker == 0xD9:
            break
        offset += 2
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if marker < 0xC0:
            raise malformed("a marker is of no known type")
        if marker in _JPEG_SIZES:
            yield _jpeg_size(data, offset)
            sizes += 1
        length = int.from_bytes(data.at(offset, 2), "big")
        if length < 2:
            raise malformed("a segment is shorter than its length")
        offset += length
        if marker == 0xDA:
            scans += 1
            offset = _end_of_jpeg_scan(data, offset)
        if sizes > 1 or scans > MAX_SCANS or (scans and not sizes):
            raise malformed("it has several sizes, too many scans, or pixels before their size")
    if not scans:
        raise malformed("it has no pixels")


def _jpeg_size(data: Bytes, offset: int) -> tuple[int, int]:
    length, height, width, components = unpack(">HxHHB", data.at(offset, 8))
    if length != 8 + 3 * components:
        raise malformed("its header is of a wrong length")
    return width, height


def _next_jpeg_segment(data: Bytes, offset: int) -> int:
    """Where the next marker is. Every decoder passes over fill and stray bytes before it."""
    if _JPEG_MARKER.match(data.at(offset, 2)):
        return offset
    found = _find(data, _JPEG_MARKER, offset)
    if found is None:
        raise malformed("a marker is missing")
    return found


def _end_of_jpeg_scan(data: Bytes, offset: int) -> int:
    found = _find(data, _JPEG_MARKER_IN_PIXELS, offset)
    if found is None:
        raise FetchFailed(Outcome.TRUNCATED, "the file ends in the middle of its pixels")
    return found


def _find(data: Bytes, marker: re.Pattern[bytes], offset: int) -> int | None:
    """Where a marker of two bytes is, from ``offset`` on."""
    while True:
        part = data.some(offset, 1 << 16)
        if found := marker.search(part):
            return offset + found.start()
        if offset + len(part) >= data.size:
            return None
        offset += len(part) - 1  # it may lie across the border


def gif_frames(data: Bytes) -> Frames:
    width, height, flags = unpack("<HHB", data.at(6, 5))
    yield width, height
    offset, frames = 13 + _colours(flags), 0
    while (block := data.at(offset, 1)) != b"\x3b":
        match block:
            case b"\x2c":
                left, top, width, height, flags = unpack("<HHHHB", data.at(offset + 1, 9))
                yield left + width, top + height
                start = offset + 11 + _colours(flags)
                offset = _after_blocks(data, start)
                frames += offset > start + 1  # one without a byte of pixels does not count
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
    canvas, pixels = None, False
    for name, body, length in _webp_chunks(data, 12, check_riff(data)):
        if name == b"VP8X":
            canvas = _webp_canvas(data, body)
            yield canvas
        elif name == b"ANMF":
            yield from _webp_animation_frame(data, body, length, canvas)
            pixels = True
        elif name in (b"VP8 ", b"VP8L"):
            size = _webp_bitstream(data, name, body, length)
            yield size
            if canvas not in (None, size):
                raise malformed("its pixels are not of the size it claims")
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


def _webp_canvas(data: Bytes, place: int) -> tuple[int, int]:
    width, high_width, height, high_height = unpack("<HBHB", data.at(place + 4, 6))
    return width + (high_width << 16) + 1, height + (high_height << 16) + 1


def _webp_animation_frame(data: Bytes, body: int, length: int, canvas: tuple[int, int] | None) -> Frames:
    claimed = _webp_canvas(data, body + 2)  # the same six bytes, after the frame's place on the canvas
    found = None
    for name, place, size in _webp_chunks(data, body + 16, body + length):
        if name in (b"VP8 ", b"VP8L"):
            found = _webp_bitstream(data, name, place, size)
            yield found
    if canvas is None or found != claimed or found[0] > canvas[0] or found[1] > canvas[1]:
        raise malformed("a frame is not of the size it claims, or larger than the canvas")


def _webp_bitstream(data: Bytes, name: bytes, body: int, length: int) -> tuple[int, int]:
    # The frame's own size, since the canvas around it may claim a smaller one.
    if name == b"VP8 ":
        tag, high_tag, code, width, height = unpack("<HB3sHH", data.at(body, 10))
        first_part_bytes = (tag | high_tag << 16) >> 5
        if tag & 1 or code != b"\x9d\x01\x2a" or length < 10 + first_part_bytes:
            raise malformed("its pixels are no WebP's")
        return width & 0x3FFF, height & 0x3FFF
    signature, bits = unpack("<BI", data.at(body, 5))
    if signature != 0x2F or bits >> 29 or length < 5:
        raise malformed("its pixels are no WebP's")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def check_riff(data: Bytes) -> int:
    """Where a RIFF file (WebP, WAV) ends by its own account."""
    end = 8 + int.from_bytes(data.at(4, 4), "little")
    data.at(end, 0)
    return end
