"""Films and recordings whose first bytes are no magic number."""

import struct
from functools import partial
from pathlib import Path

import pytest

from receiver.fetching import media
from receiver.fetching.media import MediaInfo
from receiver.models import Outcome
from tests.support import inspecting
from tests.support.image_bytes import box, riff

KINDS = frozenset({media.AUDIO, media.VIDEO})

ID3 = b"ID3\x04\0\0\0\0\0\x0a" + b"\0" * 10
FORMAT = (b"fmt ", b"\1\0\1\0" + struct.pack("<II", 8000, 16_000) + b"\2\0\x10\0")

inspect = partial(inspecting.inspect, kinds=KINDS, max_pixels=1)
outcome_of = partial(inspecting.outcome_of, kinds=KINDS, max_pixels=1)


def adts(length: int = 20, *, checksum: bool = False) -> bytes:
    """A frame of AAC, of so many bytes."""
    head = bytes([0xFF, 0xF0 if checksum else 0xF1, 0x50, 0x80 | length >> 11, length >> 3 & 255])
    return (head + bytes([(length & 7) << 5 | 0x1F, 0xFC])).ljust(length, b"x")


def rf64(name: bytes = b"RF64", sound: int = 100) -> bytes:
    rest = struct.pack("<QQQI", 4 + 36 + 24 + 8 + sound, sound, sound // 2, 0)
    head = name + b"\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28) + rest
    return head + riff(FORMAT)[12:] + b"data\xff\xff\xff\xff" + b"x" * sound


@pytest.mark.parametrize("second", [0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2])
def test_an_mp3_of_every_version_is_known_by_its_first_frame(tmp_path: Path, second: int) -> None:
    frame = bytes([0xFF, second, 0x40, 0xC4]) + b"x" * 400
    for data in (frame, ID3 + frame):
        assert inspect(tmp_path, data) == MediaInfo(media_type="audio/mpeg", extension="mp3")


@pytest.mark.parametrize(
    ("data", "media_type", "extension"),
    [
        (adts() * 3, "audio/aac", "aac"),
        (adts(checksum=True) * 3, "audio/aac", "aac"),
        (ID3 + adts() * 3, "audio/aac", "aac"),
        (adts(2000), "audio/aac", "aac"),
        (ID3 + b"fLaC" + b"x" * 100, "audio/flac", "flac"),
        (rf64(), "audio/wav", "wav"),
        (rf64(b"BW64"), "audio/wav", "wav"),
        (rf64() + b"\n", "audio/wav", "wav"),
        (b"OggS\0\2" + b"\0" * 20 + b"\1\x13OpusHead" + b"\1\1" + b"\0" * 50, "audio/ogg", "opus"),
        (b"OggS\0\2" + b"\0" * 20 + b"\1\x1e\1vorbis" + b"\0" * 50, "audio/ogg", "ogg"),
        (b"\x1a\x45\xdf\xa3\x9fB\x82\x88matroska" + b"\0" * 50, "video/matroska", "mkv"),
        (b"\x1a\x45\xdf\xa3\x9fB\x82\x84webm" + b"\0" * 50, "video/webm", "webm"),
        (box(b"wide", b"") + box(b"mdat", b"x" * 90) + box(b"moov", b"x" * 40), "video/quicktime", "mov"),
        (box(b"mdat", b"x" * 90) + box(b"moov", b"x" * 40), "video/quicktime", "mov"),
        (box(b"moov", b"x" * 90) + box(b"mdat", b"x" * 40), "video/quicktime", "mov"),
        (box(b"free", b"") + box(b"moov", b"x" * 90) + box(b"mdat", b"x" * 40), "video/quicktime", "mov"),
        (b"\0\0\0\1mdat\0\0\0\0\0\0\0\x20" + b"x" * 16 + box(b"moov", b"x"), "video/quicktime", "mov"),
    ],
)
def test_a_recording_or_a_film_is_known_by_its_bytes(
    tmp_path: Path, data: bytes, media_type: str, extension: str
) -> None:
    assert inspect(tmp_path, data) == MediaInfo(media_type=media_type, extension=extension)


@pytest.mark.parametrize(
    "data",
    [
        "a text with a byte order mark".encode("utf-16"),
        b"\xff\xfe" + b"x" * 100,
        b"\xff\xeb\x40\xc4" + b"x" * 100,  # of a version that is none
        b"\xff\xfd\x40\xc4" + b"x" * 100,  # of another layer
        b"\xff\xfb\xf0\xc4" + b"x" * 100,  # of no bit rate
        b"\xff\xfb\x4c\xc4" + b"x" * 100,  # of no sample rate
        adts() + b"x" * 100,
        b"\xff\xf1\x50\x80\0\x1f\xfc" + b"x" * 100,  # shorter than its header
        b"ID3 is a tag",
        b"The free tier has ended",
        b"The wide world",
        b'{"a":"moov"}',
        b"<!--mdat-->",
        b"RF64 is a format",
        b"\0\0\0\x08ftyp",
    ],
)
def test_what_is_neither_is_not_taken_for_one(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.NOT_AN_IMAGE


@pytest.mark.parametrize(
    "data",
    [
        rf64()[:-1],
        box(b"wide", b"") + box(b"mdat", b"x" * 90),
        (box(b"wide", b"") + box(b"mdat", b"x" * 90) + box(b"moov", b"x" * 40))[:-1],
        (box(b"moov", b"x" * 90) + box(b"mdat", b"x" * 40))[:-1],
        box(b"moov", b"x" * 90),
        box(b"moov", b"") + box(b"mdat", b"x") + box(b"moof", b"x" * 40)[:-1],
    ],
    ids=range(6),
)
def test_one_that_is_cut_short_is_found_out(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.TRUNCATED


@pytest.mark.parametrize("tail", [b"\n", b"\0" * 4, b"\0" * 100, b"appended by somebody", b"\xff" * 16])
def test_a_tail_behind_a_film_does_no_harm(tmp_path: Path, tail: bytes) -> None:
    film = box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", b"x" * 50) + box(b"mdat", b"x" * 200)
    assert inspect(tmp_path, film + tail).extension == "mp4"
