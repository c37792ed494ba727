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


def avif(*boxes: bytes, meta: bytes = b"") -> bytes:
    return box(b"ftyp", b"avif\0\0\0\0avif") + box(b"meta", b"\0" * 4 + meta) + b"".join(boxes)
