"""A film of one picture: an MP4 whose only sample is a JPEG, shown for some seconds."""

from struct import pack

SECONDS = 3
TICKS = 1_000  # a second, in the film's own time

_MATRIX = pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mp4(picture: bytes, width: int, height: int) -> bytes:
    """Motion JPEG in an ISO base media file, as ISO/IEC 14496-12 and -14 have it."""
    kind = _box(b"ftyp", b"isom", pack(">I", 512), b"isom", b"mp41")
    # The index comes first and says where the picture is, so its own length is asked for with any place.
    place = len(kind) + len(_moov(picture, width, height, 0)) + 8
    return kind + _moov(picture, width, height, place) + _box(b"mdat", picture)


def _moov(picture: bytes, width: int, height: int, place: int) -> bytes:
    length = SECONDS * TICKS
    header = (
        pack(">IIIIIIHHII", 0, 0, 0, TICKS, length, 0x10000, 0x100, 0, 0, 0)
        + _MATRIX
        + pack(">6II", *[0] * 6, 2)
    )
    track = pack(">IIIIIIIIHHHH", 7, 0, 0, 1, 0, length, 0, 0, 0, 0, 0, 0) + _MATRIX
    track += pack(">II", width << 16, height << 16)
    decoder = pack(">BB3sII", 0x6C, 0x11, b"\0\0\0", 0, 0)  # 6C: JPEG; 11: a stream of pictures
    stream = pack(">HB", 1, 0) + _descriptor(4, decoder) + _descriptor(6, b"\x02")
    looks = pack(">6xH16xHHIIIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    entry = _box(b"mp4v", looks, _box(b"esds", pack(">I", 0), _descriptor(3, stream)))
    media = _box(
        b"mdia",
        _box(b"mdhd", pack(">IIIIIHH", 0, 0, 0, TICKS, length, 0x55C4, 0)),
        _box(b"hdlr", pack(">II4s3I", 0, 0, b"vide", 0, 0, 0), b"film\0"),
        _box(
            b"minf",
            _box(b"vmhd", pack(">IHHHH", 1, 0, 0, 0, 0)),
            # The picture is in this very file.
            _box(b"dinf", _box(b"dref", pack(">II", 0, 1), _box(b"url ", pack(">I", 1)))),
            _box(
                b"stbl",
                _box(b"stsd", pack(">II", 0, 1), entry),
                _box(b"stts", pack(">4I", 0, 1, 1, SECONDS * TICKS)),
                _box(b"stsc", pack(">5I", 0, 1, 1, 1, 1)),
                _box(b"stsz", pack(">3I", 0, len(picture), 1)),
                _box(b"stco", pack(">3I", 0, 1, place)),
            ),
        ),
    )
    return _box(b"moov", _box(b"mvhd", header), _box(b"trak", _box(b"tkhd", track), media))


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return pack(">I4s", 8 + len(content), name) + content


def _descriptor(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content
