"""Images put together byte by byte: right in every part but those that a test is about."""

import struct
import zlib
from io import BytesIO

from PIL import Image

SIZE = (64, 48)


def animated(format_name: str, frames: int = 3) -> bytes:
    # Each frame another shade: equal ones would be merged.
    shades = [Image.new("RGB", SIZE, (n % 256, n // 256, 80)) for n in range(frames)]
    file = BytesIO()
    shades[0].save(file, format_name, save_all=True, append_images=shades[1:], duration=20)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def riff(*chunks: tuple[bytes, bytes], form: bytes = b"WEBP") -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + form + body


def vp8l(width: int, height: int) -> bytes:
    return b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\0" * 8


def canvas(width: int, height: int) -> bytes:
    return b"\x02\0\0\0" + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


def gif(width: int, height: int, *blocks: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"".join(blocks)


def gif_frame(width: int, height: int) -> bytes:
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x00\x00"


def box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + name + body


def vp8(width: int, height: int) -> bytes:
    return b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)


def frame(width: int, height: int, *chunks: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """One of an animated WebP, with what it claims to measure and what it holds."""
    return b"ANMF", b"\0" * 6 + canvas(width, height)[4:] + b"\0" * 4 + riff(*chunks)[12:]


def jpeg_size(width: int, height: int, components: int = 3, marker: int = 0xC0) -> bytes:
    length = 8 + 3 * components
    start = struct.pack(">BBHBHHB", 0xFF, marker, length, 8, height, width, components)
    return start + b"\x01\x11\x00" * components


AVIF_BRANDS = box(b"ftyp", b"avif\0\0\0\0avif")


def avif(*boxes: bytes, meta: bytes = b"") -> bytes:
    return AVIF_BRANDS + box(b"meta", b"\0" * 4 + meta) + b"".join(boxes)


def items(*sizes: tuple[int, int], primary: int = 1, more: bytes = b"", length: int = 50) -> bytes:
    """An AVIF's description of items of these sizes, all of whose pixels begin the first box behind it."""
    numbers = range(1, len(sizes) + 1)
    properties = b"".join(box(b"ispe", struct.pack(">III", 0, *size)) for size in sizes)
    links = b"".join(struct.pack(">HBH", number, 1, number) for number in numbers)
    association = box(b"ipma", struct.pack(">II", 1, len(sizes)) + links)
    start = box(b"pitm", struct.pack(">IH", 0, primary)) + box(
        b"iprp", box(b"ipco", properties) + association
    )
    places = 16 + 14 * len(sizes)
    place = len(avif(meta=start + b"\0" * places + more)) + 8
    located = b"".join(struct.pack(">HHHII", number, 0, 1, place, length) for number in numbers)
    return start + box(b"iloc", struct.pack(">IHH", 0, 0x4400, len(sizes)) + located) + more


def jxl(width: int, height: int) -> bytes:
    """The beginning of a JPEG XL codestream."""
    bits, place = 0, 0
    # Large, then each length in 30 bits, and between them no ratio.
    for value, count in ((0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30)):
        bits |= value << place
        place += count
    return b"\xff\x0a" + bits.to_bytes(20, "little")
