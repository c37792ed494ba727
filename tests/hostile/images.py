"""Files that a hostile host could send for images, and what becomes of each."""

import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from receiver.models import Outcome
from tests.support.image_bytes import (
    AVIF_BRANDS,
    animated,
    avif,
    box,
    canvas,
    chunk,
    frame,
    gif,
    gif_frame,
    items,
    jpeg_size,
    jxl,
    png,
    riff,
    vp8,
    vp8l,
)
from tests.support.media_host import picture

STORED, REFUSED, CUT, HUGE = Outcome.STORED, Outcome.NOT_AN_IMAGE, Outcome.TRUNCATED, Outcome.TOO_MANY_PIXELS
MAX_PIXELS = 100_000_000
MEGABYTE = 1_000_000

IDAT, IEND = chunk(b"IDAT", zlib.compress(b"\0" * 200)), chunk(b"IEND", b"")
PNG_START, JPEG_START, JPEG_END = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd9"
SCAN = b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11\0\x3f\0" + b"\x12\x34" * 20
HTML, SCRIPT, ZIP = b"<html><script>alert(1)</script>", b"*/=1;alert(1)//", b"PK\x03\x04" + b"\0" * 26
STILL = vp8l(64, 48)


class Case(NamedTuple):
    """A file, made when it is asked for."""

    make: Callable[[], bytes]
    outcome: Outcome
    extension: str = ""  # of one that is stored: what it is taken for, and served as


def _ihdr(body: bytes, *, checksum: int = 0) -> bytes:
    """A PNG with this header, whose checksum is off by so much."""
    crc = zlib.crc32(b"IHDR" + body) ^ checksum
    return PNG_START + struct.pack(">I", len(body)) + b"IHDR" + body + struct.pack(">I", crc) + IDAT + IEND


def _whole_bomb() -> bytes:
    """A valid PNG of 60,000 x 60,000 pixels, all black, put together without unpacking it anywhere."""
    row = 1 + 60_000 // 8
    size = row * 60_000
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = block.compress(b"\0" * row * 600) + block.flush(zlib.Z_FULL_FLUSH)
    adler = (size % 65521) << 16 | 1  # of nothing but zeros
    packed = b"\x78\xda" + part * 100 + b"\x03\0" + struct.pack(">I", adler)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    return PNG_START + header + chunk(b"IDAT", packed) + IEND


def _flat(width: int, height: int) -> bytes:
    """An honest PNG that is packed as tightly as can be."""
    return png(width, height, chunk(b"IDAT", zlib.compress(b"\0" * (1 + width * 3) * height, 9)), IEND)


def _sized(data: bytes, size: int) -> bytes:
    """A RIFF file whose own account of its size is another one."""
    return data[:4] + struct.pack("<I", size) + data[8:]


def _cut_webp(data: bytes, size: int) -> bytes:
    """Cut, and every length made to fit."""
    part = data[:size]
    return part[:4] + struct.pack("<I", size - 8) + part[8:16] + struct.pack("<I", size - 20) + part[20:]


def _moving(*chunks: tuple[bytes, bytes]) -> bytes:
    return riff((b"VP8X", canvas(64, 48)), (b"ANIM", b"\0" * 6), *chunks)


def _associations(count: int, entry: bytes) -> bytes:
    return box(b"ipma", struct.pack(">II", 0, count) + entry * count)


def _two_sizes() -> bytes:
    """One image that is described twice."""
    return items((8, 8), (9, 9)).replace(struct.pack(">HBH", 2, 1, 2), struct.pack(">HBH", 1, 1, 2))


def _located(sizes: int, places: bytes) -> bytes:
    """The description of one item, with an ``iloc`` of this content."""
    start = items((8, 8))
    start = start[: start.index(b"iloc") - 4]
    return start + box(b"iloc", struct.pack(">IHH", 0, sizes, 65_535) + places)


def _references(count: int) -> bytes:
    """One image made of the next, and so on."""
    return b"".join(box(b"dimg", struct.pack(">HHH", n, 1, n + 1)) for n in range(1, count + 1))


def _sequence(moov: bytes) -> bytes:
    """An AVIF of moving pictures, with 500 bytes for them."""
    still = avif(MDAT, meta=items((8, 8)))
    return still.replace(b"avif\0\0\0\0avif", b"avis\0\0\0\0avis") + moov + box(b"mdat", b"x" * 500)


def _moov(samples: int, *, size: tuple[int, int] = (8, 8), length: int = 50, chunk_samples: int = 9) -> bytes:
    """The index of so many frames of so many bytes each, in one piece at the very end."""
    entry = box(b"av01", b"\0" * 24 + struct.pack(">HH", *size) + b"\0" * 50)
    tables = [
        box(b"stsd", struct.pack(">II", 0, 1) + entry),
        box(b"stsz", struct.pack(">III", 0, length, samples)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, chunk_samples, 1)),
    ]
    moov = b""
    for _ in range(2):  # the second time with the place that follows from the length
        place = len(avif(MDAT, meta=items((8, 8)))) + len(moov) + 8
        offsets = box(b"stco", struct.pack(">III", 0, 1, place))
        index = box(b"mdia", box(b"minf", box(b"stbl", b"".join(tables) + offsets)))
        moov = box(b"moov", box(b"trak", index))
    return moov


MDAT = box(b"mdat", b"x" * 50)
PITM = box(b"pitm", struct.pack(">IH", 0, 1))
JXL_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
AVIF = picture("AVIF")

LIES: dict[str, Case] = {
    "png: 60,000 x 60,000 and nothing else": Case(lambda: png(60_000, 60_000), HUGE),
    "png: 60,000 x 60,000 and whole": Case(_whole_bomb, HUGE),
    "png: 2^31-1 squared": Case(lambda: png(2**31 - 1, 2**31 - 1, IDAT, IEND), HUGE),
    "png: 2^32-1 squared": Case(lambda: png(2**32 - 1, 2**32 - 1, IDAT, IEND), HUGE),
    "png: one pixel wide, 2^32-1 high": Case(lambda: png(1, 2**32 - 1, IDAT, IEND), HUGE),
    "png: one pixel over the limit": Case(lambda: png(10_000, 10_001, IDAT, IEND), HUGE),
    "png: pixels packed as tightly as can be": Case(lambda: _flat(3_000, 1_000), STORED, "png"),
    "png: 9,999 x 9,999 of 200 bytes": Case(lambda: png(9_999, 9_999, IDAT, IEND), REFUSED),
    "png: no width": Case(lambda: png(0, 8, IDAT, IEND), REFUSED),
    "png: no height": Case(lambda: png(8, 0, IDAT, IEND), REFUSED),
    "png: no size": Case(lambda: png(0, 0, IDAT, IEND), REFUSED),
    "png: a header whose checksum is wrong": Case(
        lambda: _ihdr(struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), checksum=1), REFUSED
    ),
    "png: a header too short": Case(lambda: _ihdr(struct.pack(">IIBB", 8, 8, 8, 2)), REFUSED),
    "png: a header too long": Case(lambda: _ihdr(struct.pack(">IIBBBBBB", 8, 8, 8, 2, 0, 0, 0, 0)), REFUSED),
    "png: a header of nothing": Case(lambda: _ihdr(b""), REFUSED),
    "png: pixels of 3 bits": Case(lambda: _ihdr(struct.pack(">IIBBBBB", 8, 8, 3, 2, 0, 0, 0)), REFUSED),
    "png: colours of type 5": Case(lambda: _ihdr(struct.pack(">IIBBBBB", 8, 8, 8, 5, 0, 0, 0)), REFUSED),
    "png: no header": Case(lambda: PNG_START + IDAT + IEND, REFUSED),
    "png: a second header": Case(lambda: png(8, 8, png(9_000, 9_000)[8:], IDAT, IEND), REFUSED),
    "png: no pixels": Case(lambda: png(8, 8, IEND), REFUSED),
    "png: an end with something in it": Case(lambda: png(8, 8, IDAT, chunk(b"IEND", b"x")), REFUSED),
    "png: a chunk of 2^32-1 bytes": Case(lambda: png(8, 8, b"\xff\xff\xff\xffIDAT"), CUT),
    "png: a huge frame": Case(
        lambda: png(8, 8, chunk(b"fcTL", struct.pack(">III", 0, 60_000, 60_000) + b"\0" * 14), IDAT, IEND),
        HUGE,
    ),
    "png: 100,000 frames": Case(
        lambda: png(1, 1, chunk(b"fcTL", struct.pack(">III", 0, 1, 1) + b"\0" * 14) * 100_000, IDAT, IEND),
        HUGE,
    ),
    "jpeg: 65,535 x 65,535": Case(lambda: JPEG_START + jpeg_size(65_535, 65_535) + SCAN + JPEG_END, HUGE),
    "jpeg: no width": Case(lambda: JPEG_START + jpeg_size(0, 8) + SCAN + JPEG_END, REFUSED),
    "jpeg: no height": Case(lambda: JPEG_START + jpeg_size(8, 0) + SCAN + JPEG_END, REFUSED),
    "jpeg: no size": Case(lambda: JPEG_START + SCAN + JPEG_END, REFUSED),
    "jpeg: pixels before their size": Case(lambda: JPEG_START + SCAN + jpeg_size(8, 8) + JPEG_END, REFUSED),
    "jpeg: two sizes": Case(
        lambda: JPEG_START + jpeg_size(8, 8) + jpeg_size(9_000, 9_000) + SCAN + JPEG_END, REFUSED
    ),
    "jpeg: a second size behind the pixels": Case(
        lambda: JPEG_START + jpeg_size(8, 8) + SCAN + jpeg_size(9_000, 9_000) + SCAN + JPEG_END, REFUSED
    ),
    "jpeg: a second size that is huge": Case(
        lambda: JPEG_START + jpeg_size(8, 8) + jpeg_size(65_535, 65_535) + SCAN + JPEG_END, HUGE
    ),
    "jpeg: a size of a wrong length": Case(
        lambda: JPEG_START + b"\xff\xc0\0\x04" + jpeg_size(8, 8)[4:] + SCAN + JPEG_END, REFUSED
    ),
    "jpeg: a size with room for two components more": Case(
        lambda: JPEG_START + b"\xff\xc0\0\x11" + jpeg_size(8, 8, 1)[4:] + b"\0" * 6 + SCAN + JPEG_END, REFUSED
    ),
    "jpeg: a marker that is none": Case(
        lambda: JPEG_START + b"\xff\x3c\0\2" + jpeg_size(8, 8) + SCAN + JPEG_END, REFUSED
    ),
    "jpeg: stray bytes, which every decoder passes over": Case(
        lambda: JPEG_START + jpeg_size(8, 8) + b"\0\xe1\0\2" + SCAN + JPEG_END, STORED, "jpg"
    ),
    "jpeg: nothing but stray bytes": Case(lambda: JPEG_START + b"\xff\0" * 500, REFUSED),
    "jpeg: 1,000 scans": Case(lambda: JPEG_START + jpeg_size(8, 8) + SCAN * 1_000 + JPEG_END, STORED, "jpg"),
    "jpeg: 1,001 scans": Case(lambda: JPEG_START + jpeg_size(8, 8) + SCAN * 1_001 + JPEG_END, REFUSED),
    "jpeg: a segment of 65,535 bytes": Case(
        lambda: JPEG_START + b"\xff\xe1\xff\xff" + jpeg_size(8, 8) + SCAN + JPEG_END, CUT
    ),
    "jpeg: a segment of no length": Case(
        lambda: JPEG_START + b"\xff\xe1\0\0" + jpeg_size(8, 8) + SCAN + JPEG_END, REFUSED
    ),
    "jpeg: no pixels": Case(lambda: JPEG_START + jpeg_size(8, 8) + JPEG_END, REFUSED),
    "jpeg: nothing": Case(lambda: JPEG_START + JPEG_END, REFUSED),
    "gif: 65,535 x 65,535": Case(lambda: gif(65_535, 65_535, gif_frame(1, 1), b"\x3b"), HUGE),
    "gif: a frame larger than the canvas": Case(lambda: gif(1, 1, gif_frame(65_535, 65_535), b"\x3b"), HUGE),
    "gif: 100,000 frames": Case(lambda: gif(1, 1, gif_frame(1, 1) * 100_000, b"\x3b"), HUGE),
    "gif: 2,000 frames": Case(lambda: gif(1, 1, gif_frame(1, 1) * 2_000, b"\x3b"), STORED, "gif"),
    "gif: no size": Case(lambda: gif(0, 0, gif_frame(1, 1), b"\x3b"), REFUSED),
    "gif: no pixels": Case(lambda: gif(8, 8, b"\x3b"), REFUSED),
    "gif: a frame of no bytes": Case(lambda: gif(8, 8, gif_frame(8, 8)[:11], b"\0\x3b"), REFUSED),
    "gif: a block of no known type": Case(lambda: gif(8, 8, gif_frame(8, 8), b"\x77"), REFUSED),
    "gif: a colour table beyond the end": Case(lambda: b"GIF89a\x08\0\x08\0\xf7\0\0" + b"\0" * 100, CUT),
    "webp: a canvas smaller than its pixels": Case(
        lambda: riff((b"VP8X", canvas(1, 1)), (b"VP8L", vp8l(9_000, 9_000))), REFUSED
    ),
    "webp: a canvas larger than its pixels": Case(
        lambda: riff((b"VP8X", canvas(9_000, 9_000)), (b"VP8L", STILL)), REFUSED
    ),
    "webp: a canvas of 2^24 squared": Case(
        lambda: riff((b"VP8X", canvas(2**24, 2**24)), (b"VP8L", STILL)), HUGE
    ),
    "webp: pixels of 16,383 squared": Case(lambda: riff((b"VP8L", vp8l(16_383, 16_383))), HUGE),
    "webp: lossy pixels of 16,383 squared": Case(lambda: riff((b"VP8 ", vp8(16_383, 16_383))), HUGE),
    "webp: no width": Case(lambda: riff((b"VP8 ", vp8(0, 8))), REFUSED),
    "webp: pixels without a start code": Case(lambda: riff((b"VP8 ", b"\x08" * 10)), REFUSED),
    "webp: a frame that needs another": Case(lambda: riff((b"VP8 ", b"\x01" + vp8(8, 8)[1:])), REFUSED),
    "webp: a first part longer than all": Case(
        lambda: riff((b"VP8 ", b"\xe0\xff\xff" + vp8(8, 8)[3:])), REFUSED
    ),
    "webp: pixels of no bytes": Case(lambda: riff((b"VP8L", b"")), CUT),
    "webp: pixels without a signature": Case(lambda: riff((b"VP8L", b"\0" + STILL[1:])), REFUSED),
    "webp: pixels of another version": Case(
        lambda: riff((b"VP8L", STILL[:4] + bytes([STILL[4] | 0xE0]) + STILL[5:])), REFUSED
    ),
    "webp: a canvas and no pixels": Case(lambda: riff((b"VP8X", canvas(64, 48))), REFUSED),
    "webp: a frame of nothing": Case(lambda: _moving((b"ANMF", b"\0" * 16)), REFUSED),
    "webp: a frame that holds no pixels": Case(lambda: _moving(frame(64, 48, (b"XXXX", b""))), REFUSED),
    "webp: a frame of another size": Case(lambda: _moving(frame(8, 8, (b"VP8L", STILL))), REFUSED),
    "webp: a frame larger than the canvas": Case(
        lambda: _moving(frame(800, 800, (b"VP8L", vp8l(800, 800)))), REFUSED
    ),
    "webp: a frame that is huge": Case(
        lambda: _moving(frame(16_383, 16_383, (b"VP8L", vp8l(16_383, 16_383)))), HUGE
    ),
    "webp: a frame without a canvas": Case(lambda: riff(frame(64, 48, (b"VP8L", STILL))), REFUSED),
    "webp: a frame as it should be": Case(lambda: _moving(frame(64, 48, (b"VP8L", STILL))), STORED, "webp"),
    "webp: 100,000 frames": Case(
        lambda: riff((b"VP8X", canvas(1, 1)), *[frame(1, 1, (b"VP8L", vp8l(1, 1)))] * 30_000), HUGE
    ),
    "webp: a size too large": Case(lambda: _sized(riff((b"VP8L", STILL)), 1000), CUT),
    "webp: a size too small": Case(lambda: _sized(riff((b"VP8L", STILL)), 16), REFUSED),
    "webp: a size of nothing": Case(lambda: _sized(riff((b"VP8L", STILL)), 0), REFUSED),
    "webp: a size of 2^32-1": Case(lambda: _sized(riff((b"VP8L", STILL)), 2**32 - 1), CUT),
    "webp: a chunk longer than the file": Case(
        lambda: _sized(riff((b"VP8L", STILL)).replace(b"\x0d\0\0\0", b"\xff\xff\xff\xff"), 26), REFUSED
    ),
    "avif: 60,000 x 60,000": Case(lambda: avif(MDAT, meta=items((60_000, 60_000))), HUGE),
    "avif: a part that is huge": Case(lambda: avif(MDAT, meta=items((8, 8), (60_000, 60_000))), HUGE),
    "avif: as it should be": Case(lambda: avif(MDAT, meta=items((8, 8))), STORED, "avif"),
    "avif: no width": Case(lambda: avif(MDAT, meta=items((0, 8))), REFUSED),
    "avif: no size": Case(lambda: avif(MDAT), REFUSED),
    "avif: no pixels": Case(lambda: avif(meta=items((8, 8))), CUT),
    "avif: a box without an end": Case(
        lambda: avif(b"\0\0\0\0mdat" + b"x" * 50, meta=items((8, 8))), STORED, "avif"
    ),
    "avif: pixels beyond the end": Case(lambda: avif(MDAT, meta=items((8, 8), length=51)), CUT),
    "avif: pixels of no length": Case(lambda: avif(MDAT, meta=items((8, 8), length=0)), REFUSED),
    "avif: no such image": Case(lambda: avif(MDAT, meta=items((8, 8), primary=2)), REFUSED),
    "avif: two sizes of one image": Case(lambda: avif(MDAT, meta=_two_sizes()), REFUSED),
    "avif: two descriptions of one kind": Case(lambda: avif(MDAT, meta=items((8, 8)) * 2), REFUSED),
    "avif: a box shorter than its header": Case(
        lambda: AVIF_BRANDS + b"\0\0\0\x04free" + avif(MDAT, meta=items((8, 8)))[20:], REFUSED
    ),
    "avif: a box of 2^64-1 bytes": Case(
        lambda: AVIF_BRANDS + b"\0\0\0\x01free" + b"\xff" * 8 + avif(MDAT, meta=items((8, 8)))[20:], CUT
    ),
    "avif: moving pictures without an index": Case(lambda: _sequence(b""), REFUSED),
    "avif: 2^32-1 frames": Case(lambda: _sequence(_moov(2**32 - 1)), HUGE),
    "avif: a frame that is huge": Case(lambda: _sequence(_moov(1, size=(60_000, 60_000))), HUGE),
    "avif: frames beyond the end": Case(lambda: _sequence(_moov(9, length=100)), CUT),
    "avif: frames that are nowhere": Case(lambda: _sequence(_moov(9, chunk_samples=8)), REFUSED),
    "avif: frames as they should be": Case(lambda: _sequence(_moov(9)), STORED, "avif"),
    "jxl: 2^30 squared": Case(lambda: jxl(2**30, 2**30), HUGE),
    "jxl: 60,000 squared in a container": Case(
        lambda: JXL_CONTAINER + box(b"jxlc", jxl(60_000, 60_000)), HUGE
    ),
    "jxl: a container of nothing": Case(lambda: JXL_CONTAINER, CUT),
    "jxl: a container of something else": Case(lambda: JXL_CONTAINER + box(b"jxlc", HTML), REFUSED),
    "jxl: parts without a last one": Case(
        lambda: JXL_CONTAINER + box(b"jxlp", b"\0\0\0\0" + jxl(8, 8)) * 3, CUT
    ),
    "jxl: two bytes": Case(lambda: b"\xff\x0a", CUT),
}

# Two files in one: stored as what the bytes are by their magic, and served as nothing else.
POLYGLOTS: dict[str, Case] = {
    "gif and script, as it is often written": Case(lambda: b"GIF89a/*" + b"\0" * 20 + SCRIPT, REFUSED),
    "gif and script, and a valid gif": Case(
        lambda: gif(0x2A2F, 8, b"\x21\xfe" + bytes([len(SCRIPT)]) + SCRIPT + b"\0", gif_frame(8, 8), b"\x3b"),
        STORED,
        "gif",
    ),
    "gif and archive": Case(lambda: gif(8, 8, gif_frame(8, 8), b"\x3b") + ZIP, STORED, "gif"),
    "png and archive": Case(lambda: picture("PNG") + ZIP, STORED, "png"),
    "png and script in a comment": Case(
        lambda: png(8, 8, chunk(b"tEXt", b"Comment\0" + HTML), IDAT, IEND), STORED, "png"
    ),
    "jpeg and html in a comment": Case(
        lambda: JPEG_START + b"\xff\xfe" + struct.pack(">H", 2 + len(HTML)) + HTML + picture("JPEG")[2:],
        STORED,
        "jpg",
    ),
    "jpeg and php behind it": Case(lambda: picture("JPEG") + b"<?php system($_GET[0]);", STORED, "jpg"),
    "jpeg and another jpeg": Case(lambda: picture("JPEG") + picture("JPEG", (8, 8)), STORED, "jpg"),
    "webp and html in a chunk": Case(lambda: riff((b"VP8L", STILL), (b"XXXX", HTML)), STORED, "webp"),
    "pdf and jpeg": Case(lambda: b"%PDF-1.7\n" + picture("JPEG"), REFUSED),
    "archive and png": Case(lambda: ZIP + picture("PNG"), REFUSED),
    "html and png": Case(lambda: HTML + picture("PNG"), REFUSED),
    "png's magic and html": Case(lambda: PNG_START + HTML * 20, REFUSED),
    "jpeg's magic and html": Case(lambda: b"\xff\xd8\xff" + HTML * 20, REFUSED),
    "webp's magic and html": Case(lambda: b"RIFF\x40\0\0\0WEBP" + HTML * 20, REFUSED),
    "avif's magic and html": Case(lambda: box(b"ftyp", b"avif\0\0\0\0avif") + HTML * 20, CUT),
    "svg": Case(lambda: b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', REFUSED),
    "svg with entities": Case(
        lambda: b'<!DOCTYPE svg [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><svg>&b;</svg>', REFUSED
    ),
    "html": Case(lambda: HTML, REFUSED),
    "pdf": Case(lambda: b"%PDF-1.7\n%%EOF", REFUSED),
    "postscript": Case(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", REFUSED),
    "tiff": Case(lambda: b"II*\0\x08\0\0\0" + b"\0" * 100, REFUSED),
    "bmp": Case(lambda: b"BM" + b"\0" * 100, REFUSED),
    "icon": Case(lambda: b"\0\0\1\0\1\0" + picture("PNG"), REFUSED),
    "photoshop": Case(lambda: b"8BPS\0\1" + b"\0" * 100, REFUSED),
    "heic without an image": Case(lambda: box(b"ftyp", b"heic\0\0\0\0mif1heic") + MDAT, REFUSED),
    "video": Case(lambda: box(b"ftyp", b"isom\0\0\0\0mp42") + box(b"moov", b"x") + MDAT, REFUSED),
    "program": Case(lambda: b"\x7fELF" + b"\0" * 100, REFUSED),
    "json": Case(lambda: b'{"code": 403}', REFUSED),
    "nothing": Case(lambda: b"", CUT),
}

# Cut, with the lengths around the cut made to fit, so that only the inside can tell.
CUTS: dict[str, Case] = {
    "png: cut and ended": Case(lambda: picture("PNG")[:500] + IEND, CUT),
    "jpeg: cut within a segment and ended": Case(lambda: picture("JPEG")[:100] + JPEG_END, CUT),
    "webp: cut within its first part, every length made to fit": Case(
        lambda: _cut_webp(picture("WEBP"), 40), REFUSED
    ),
    "webp: cut, the file's length made to fit": Case(lambda: _sized(picture("WEBP")[:100], 92), REFUSED),
    "gif: cut and ended": Case(lambda: picture("GIF")[:1000] + b"\0\x3b", CUT),
    "avif: cut before its pixels": Case(lambda: AVIF[: AVIF.index(b"mdat") - 4], CUT),
    "avif: cut within its pixels": Case(lambda: AVIF[:-1], CUT),
    "webp animation: cut between frames": Case(lambda: animated("WEBP")[:-60], CUT),
}

# A megabyte each of as many parts as there can be: without bounds, up to 1.4 s of work.
COSTLY: dict[str, Case] = {
    "png: empty chunks": Case(lambda: png(1, 1, chunk(b"tEXt", b"") * (MEGABYTE // 12)), REFUSED),
    "png: empty pixels": Case(lambda: png(1, 1, chunk(b"IDAT", b"") * (MEGABYTE // 12)), REFUSED),
    "gif: blocks of one byte": Case(lambda: gif(1, 1, b"\x21\xfe" + b"\x01x" * (MEGABYTE // 2)), REFUSED),
    "gif: empty extensions": Case(lambda: gif(1, 1, b"\x21\xfe\0" * (MEGABYTE // 3)), REFUSED),
    "gif: stray ends": Case(lambda: gif(1, 1, b"\0" * MEGABYTE), REFUSED),
    "gif: 80,000 frames": Case(lambda: gif(1, 1, gif_frame(1, 1) * 70_000), HUGE),
    "jpeg: fill bytes": Case(lambda: b"\xff\xd8" + b"\xff" * MEGABYTE, REFUSED),
    "jpeg: empty scans": Case(
        lambda: JPEG_START + jpeg_size(1, 1) + b"\xff\xda\0\x02" * (MEGABYTE // 4), REFUSED
    ),
    "jpeg: empty scans, and much behind them": Case(
        lambda: JPEG_START + jpeg_size(1, 1) + b"\xff\xda\0\x02" * 100_000 + b"x" * 600_000, REFUSED
    ),
    "jpeg: restarts": Case(lambda: JPEG_START + b"\xff\xd0" * (MEGABYTE // 2), REFUSED),
    "jpeg: empty segments": Case(lambda: JPEG_START + b"\xff\xe0\0\x02" * (MEGABYTE // 4), REFUSED),
    "jpeg: restarts within a scan": Case(
        lambda: JPEG_START + jpeg_size(1, 1) + SCAN + b"\xff\xd0" * (MEGABYTE // 2), CUT
    ),
    "jpeg: stuffed bytes": Case(
        lambda: JPEG_START + jpeg_size(1, 1) + SCAN + b"\xff\0" * (MEGABYTE // 2), CUT
    ),
    "webp: empty chunks": Case(lambda: riff(*[(b"XXXX", b"")] * (MEGABYTE // 8)), REFUSED),
    "webp: empty frames": Case(lambda: _moving(*[(b"ANMF", b"\0" * 16)] * (MEGABYTE // 24)), REFUSED),
    "webp: empty chunks in a frame": Case(
        lambda: _moving((b"ANMF", b"\0" * 16 + b"XXXX\0\0\0\0" * (MEGABYTE // 8))), REFUSED
    ),
    "avif: empty boxes": Case(
        lambda: AVIF_BRANDS + box(b"free", b"") * (MEGABYTE // 8) + avif(MDAT, meta=items((8, 8)))[20:],
        REFUSED,
    ),
    "avif: empty boxes behind the pixels": Case(
        lambda: avif(MDAT, box(b"free", b"") * (MEGABYTE // 8), meta=items((8, 8))), STORED, "avif"
    ),
    "avif: a long description": Case(lambda: avif(MDAT, meta=box(b"free", b"") * (MEGABYTE // 8)), REFUSED),
    "avif: as many boxes as fit": Case(lambda: avif(MDAT, meta=box(b"free", b"") * 16_000), REFUSED),
    "avif: as many brands as fit": Case(
        lambda: box(b"ftyp", b"avif\0\0\0\0" + b"xxxx" * 32_000) + box(b"meta", b"\0" * 4) + MDAT, REFUSED
    ),
    "avif: as many associations as fit": Case(
        lambda: avif(MDAT, meta=PITM + box(b"iprp", _associations(500, b"\0\1\xff" + b"\1" * 255) * 8)),
        REFUSED,
    ),
    "avif: as many items without properties as fit": Case(
        lambda: avif(MDAT, meta=PITM + box(b"iprp", _associations(43_000, b"\0\1\0") * 8)), REFUSED
    ),
    "avif: as many sizes as fit": Case(lambda: avif(MDAT, meta=items(*[(1, 1)] * 6_000)), HUGE),
    "avif: as many properties as fit": Case(
        lambda: avif(MDAT, meta=PITM + box(b"iprp", box(b"ipco", box(b"colr", b"") * (MEGABYTE // 8)))),
        REFUSED,
    ),
    "avif: parts of no bytes": Case(
        lambda: avif(
            MDAT, box(b"free", b"x" * 100_000), meta=_located(0, struct.pack(">HHH", 1, 0, 65_535) * 20_000)
        ),
        REFUSED,
    ),
    "avif: as many references as fit": Case(
        lambda: avif(MDAT, meta=items((8, 8), more=box(b"iref", b"\0" * 4 + _references(9_000)))),
        STORED,
        "avif",
    ),
}

CASES = LIES | POLYGLOTS | CUTS | COSTLY
