import struct
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from receiver.config.fields import FIELDS
from receiver.errors import FetchFailed, NoFileYet
from receiver.fetching import media
from receiver.fetching.media import MediaInfo, MediaKind
from receiver.models import Outcome
from tests.support import inspecting
from tests.support.image_bytes import (
    SIZE,
    animated,
    box,
    canvas,
    chunk,
    gif,
    gif_frame,
    png,
    riff,
    vp8l,
)
from tests.support.media_host import picture
from tests.support.places import SAMPLES

IMAGES = frozenset({media.IMAGE})
FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "AVIF"]

FOLDER = SAMPLES / "images"
PROGRESSIVE = picture("JPEG", SIZE, progressive=True)
LOSSLESS_WEBP = picture("WEBP", SIZE, lossless=True)


inspect = partial(inspecting.inspect, kinds=IMAGES, max_pixels=1_000_000)
outcome_of = partial(inspecting.outcome_of, kinds=IMAGES, max_pixels=1_000_000)


@pytest.mark.parametrize(
    ("data", "is_page"),
    [
        (b"<html>", True),
        (b"<?xml version='1.0'?><Error/>", True),
        (b"{}", True),
        ("später".encode("latin-1"), True),
        (b"<?xml version='1.0'?>\n<SVG/>", False),
        (b"<html>\0", False),
        (b"\x1f\x8b\x08\0\0\0\0\0", False),
        (b"", False),
        (b"GIF89a", False),
    ],
)
def test_a_page_that_may_stand_in_for_a_file_is_told_from_other_bytes(
    tmp_path: Path, data: bytes, *, is_page: bool
) -> None:
    with pytest.raises(FetchFailed) as caught:
        inspect(tmp_path, data)
    assert isinstance(caught.value, NoFileYet) == is_page


# --- what is what ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_name", "media_type", "extension"),
    [
        ("PNG", "image/png", "png"),
        ("JPEG", "image/jpeg", "jpg"),
        ("WEBP", "image/webp", "webp"),
        ("GIF", "image/gif", "gif"),
        ("AVIF", "image/avif", "avif"),
    ],
)
def test_an_image_is_known_by_its_bytes(
    tmp_path: Path, format_name: str, media_type: str, extension: str
) -> None:
    for size in (SIZE, (1, 1), (301, 200)):
        info = inspect(tmp_path, picture(format_name, size))
        assert info == MediaInfo(media_type=media_type, extension=extension, width=size[0], height=size[1])


@pytest.mark.parametrize(
    "data",
    [PROGRESSIVE, LOSSLESS_WEBP, picture("JPEG", SIZE, exif=b"Exif\0\0" + b"x" * 60_000)]
    + [animated(name) for name in ("GIF", "WEBP", "PNG", "AVIF")]
    + [picture("PNG", SIZE, interlace=1), picture("WEBP", SIZE, icc_profile=b"x" * 999)],
    ids=len,
)
def test_every_way_to_make_an_image_is_understood(tmp_path: Path, data: bytes) -> None:
    info = inspect(tmp_path, data)
    assert (info.width, info.height) == SIZE


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_the_size_is_that_of_the_stored_pixels(tmp_path: Path, format_name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    data = picture(format_name, SIZE, exif=exif.tobytes())
    info = inspect(tmp_path, data)
    assert (info.width, info.height) == SIZE == Image.open(BytesIO(data)).size


@pytest.mark.parametrize(
    "data",
    [
        b"<!doctype html><title>Sign in</title>",
        b"<html>\x89PNG\r\n\x1a\n",
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b'<!DOCTYPE svg [<!ENTITY a "&b;&b;">]><svg>&a;</svg>',
        b'{"error": "expired"}',
        b"\xef\xbb\xbf<svg/>",
        b" " + picture("PNG"),
        b"\n" + picture("JPEG"),
        b"%PDF-1.7\n" + picture("JPEG"),
        b"PK\x03\x04" + picture("PNG"),
        b"BM" + b"\0" * 100,
        b"II*\0" + b"\0" * 100,
        b"P6 1 1 255 abc",
        b"\0\0\1\0" + b"\0" * 100,
        b"MZ" + b"\0" * 100,
        box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", b"\0" * 40),
        b"RIFF\x04\0\0\0AVI ",
        b"\x89PNG",
        b"\xff\xd8",
        b"x",
    ],
    ids=len,
)
def test_what_is_no_image_is_refused_whatever_it_carries(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.NOT_AN_IMAGE


def test_an_empty_file_ends_early(tmp_path: Path) -> None:
    assert outcome_of(tmp_path, b"") is Outcome.TRUNCATED


def test_a_file_that_cannot_be_read_is_our_own_failure(tmp_path: Path) -> None:
    with pytest.raises(FetchFailed) as caught:
        media.inspect(tmp_path / "missing", allowed_kinds=IMAGES, max_pixels=1)
    assert caught.value.outcome is Outcome.STORAGE_FAILED


# --- whole or cut ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        *(picture(name) for name in FORMATS),
        PROGRESSIVE,
        LOSSLESS_WEBP,
        *(animated(n) for n in ("GIF", "WEBP", "PNG")),
    ],
    ids=[*FORMATS, "progressive", "lossless", "animated GIF", "animated WEBP", "animated PNG"],
)
def test_a_cut_image_is_never_taken_for_a_whole_one(tmp_path: Path, data: bytes) -> None:
    refused = {Outcome.TRUNCATED, Outcome.NOT_AN_IMAGE}
    for end in {*range(min(len(data), 600)), *range(0, len(data), 97), len(data) - 2, len(data) - 1}:
        assert outcome_of(tmp_path, data[:end]) in refused, end
    for part in (0.3, 0.5, 0.9, 0.99):
        assert outcome_of(tmp_path, data[: int(len(data) * part)]) is Outcome.TRUNCATED
    assert outcome_of(tmp_path, data) is None


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_tail_behind_the_end_does_no_harm(tmp_path: Path, format_name: str) -> None:
    for tail in (b"\0" * 4, b"\0" * 100, b"\n", b"\r\n", b"PK\x05\x06 appended"):
        assert outcome_of(tmp_path, picture(format_name) + tail) is None


@pytest.mark.parametrize("stray", [b"\0", b"\0\0\0\0", b"\r\n", b"\xff", b"\xff\xff", b"\xff\0", b"stray"])
def test_stray_bytes_before_a_segment_harm_nobody(tmp_path: Path, stray: bytes) -> None:
    """Pillow, browsers and all others that use libjpeg pass over them."""
    data = picture("JPEG", comment=b"made up", icc_profile=b"x" * 70_000)
    for place in _segments(data):
        strewn = data[:place] + stray + data[place:]
        Image.open(BytesIO(strewn)).load()
        info = inspect(tmp_path, strewn)
        assert (info.width, info.height) == SIZE
        assert outcome_of(tmp_path, strewn[:-2]) is Outcome.TRUNCATED


def _segments(data: bytes) -> list[int]:
    """Where each segment behind the first begins, down to the pixels."""
    places, offset = [], 2
    while data[offset + 1] != 0xDA:
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        places.append(offset)
    return places


@pytest.mark.parametrize("format_name", FORMATS[:3])
def test_large_profiles_and_metadata_harm_nobody(tmp_path: Path, format_name: str) -> None:
    xmp = b"<x/>" * (10_000 if format_name == "JPEG" else 100_000)  # a segment has no room for more
    exif = b"Exif\0\0" + b"x" * 60_000
    data = picture(format_name, SIZE, icc_profile=bytes(range(256)) * 1200, exif=exif, xmp=xmp)
    info = inspect(tmp_path, data)
    assert (info.width, info.height) == SIZE


def test_a_manifest_of_provenance_harms_nobody(tmp_path: Path) -> None:
    sealed = picture("PNG")
    sealed = sealed[:33] + chunk(b"caBX", b"jumb" * 50_000) + sealed[33:]
    segment = b"\xff\xeb" + struct.pack(">H", 60_002) + b"jumb" * 15_000
    photo = picture("JPEG")
    image = picture("WEBP")[12:]
    for data in (
        sealed,
        photo[:2] + segment * 3 + photo[2:],
        _riff(image + b"C2PA\x40\x0d\x03\0" + b"x" * 200_000),
    ):
        info = inspect(tmp_path, data)
        assert (info.width, info.height) == SIZE


def _riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def test_a_photo_with_more_of_them_behind_it_has_the_size_of_the_first(tmp_path: Path) -> None:
    file = BytesIO()
    shades = [Image.new("RGB", size, "teal") for size in (SIZE, (16, 12))]
    shades[0].save(file, "MPO", save_all=True, append_images=shades[1:])
    info = inspect(tmp_path, file.getvalue())
    assert (info.extension, info.width, info.height) == ("jpg", *SIZE)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_webp_may_leave_the_last_padding_out_of_its_length(tmp_path: Path, missing: int) -> None:
    data = riff((b"VP8L", vp8l(64, 48)))  # 13 bytes, and one to make them even
    short = data[:4] + struct.pack("<I", len(data) - 8 - 1) + data[8 : len(data) - missing]
    info = inspect(tmp_path, short)
    assert (info.width, info.height) == SIZE


def test_an_end_marker_within_a_thumbnail_does_not_count(tmp_path: Path) -> None:
    data = picture("JPEG", SIZE, exif=b"Exif\0\0" + picture("JPEG", (8, 8)))
    assert outcome_of(tmp_path, data) is None
    assert outcome_of(tmp_path, data[:-2]) is Outcome.TRUNCATED


@pytest.mark.parametrize(
    "data",
    [
        png(8, 8, chunk(b"IEND", b"")),
        png(8, 8, png(8, 8)[8:], chunk(b"IDAT", b"x"), chunk(b"IEND", b"")),
        png(0, 8, chunk(b"IDAT", b"x"), chunk(b"IEND", b"")),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x") + chunk(b"IEND", b""),
        png(8, 8, b"\0" * 1000),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff" + b"\0" * 1000,
        b"\xff\xd8\xff\xe0\0\0" + b"\xff" * 1000,
        gif(8, 8, b"\x3b"),
        gif(8, 8, b"/*<script>*/"),
        riff(),
        riff((b"VP8X", canvas(8, 8))),
        b"RIFF\x14\0\0\0WEBPVP8L\xff\xff\0\0" + b"\0" * 8,
        box(b"ftyp", b"avif\0\0\0\0avif") + box(b"mdat", b"x"),
        box(b"ftyp", b"avif\0\0\0\0avif") + box(b"meta", b"\xff" * 200) + box(b"mdat", b"x"),
        box(b"ftyp", b"avif\0\0\0\0avif") + b"\0\0\0\x02meta" + b"\0" * 50,
    ],
    ids=len,
)
def test_a_file_that_breaks_its_format_is_no_image(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.NOT_AN_IMAGE


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(
        [
            *(picture(name, (16, 12)) for name in FORMATS),
            *(animated(name) for name in ("WEBP", "GIF", "AVIF")),
            *(path.read_bytes() for path in sorted(FOLDER.iterdir())),
        ]
    ),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6),
    end=st.floats(0, 1),
)
def test_no_damage_makes_the_inspection_fail_in_another_way(
    tmp_path: Path, which: bytes, changes: list[tuple[float, bytes]], end: float
) -> None:
    data = bytearray(which)
    for place, piece in changes:
        start = int(place * len(data))
        data[start : start + len(piece)] = piece
    expected = {None, Outcome.TRUNCATED, Outcome.NOT_AN_IMAGE, Outcome.TOO_MANY_PIXELS}
    assert outcome_of(tmp_path, bytes(data)) in expected
    assert outcome_of(tmp_path, bytes(data[: int(end * len(data))])) in expected


# --- bombs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        png(60_000, 60_000),
        png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", b"x"), chunk(b"IEND", b"")),
        png(8, 8, chunk(b"fcTL", struct.pack(">III", 0, 60_000, 60_000) + b"\0" * 14)),
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03" + b"\0" * 9,
        gif(65_535, 65_535, gif_frame(1, 1), b"\x3b"),
        gif(40_000, 1_000, gif_frame(1, 1), b"\x3b"),
        gif(1, 1, gif_frame(65_535, 65_535), b"\x3b"),
        riff((b"VP8L", vp8l(16_383, 16_383))),
        riff((b"VP8X", canvas(2**24, 2**24)), (b"VP8L", vp8l(1, 1))),
        riff((b"VP8X", canvas(1, 1)), (b"VP8L", vp8l(16_383, 16_383))),
        riff((b"VP8X", canvas(1, 1)), (b"ANMF", b"\0" * 16 + riff((b"VP8L", vp8l(16_383, 16_383)))[12:])),
        riff((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383))),
        picture("AVIF", (8, 8)).replace(struct.pack(">II", 8, 8), struct.pack(">II", 60_000, 60_000)),
    ],
    ids=len,
)
def test_too_many_pixels_are_refused_by_what_any_header_claims(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data, max_pixels=30_000_000) is Outcome.TOO_MANY_PIXELS


def test_the_limit_of_pixels_itself_is_allowed(tmp_path: Path) -> None:
    assert outcome_of(tmp_path, picture(), max_pixels=SIZE[0] * SIZE[1]) is None
    assert outcome_of(tmp_path, picture(), max_pixels=SIZE[0] * SIZE[1] - 1) is Outcome.TOO_MANY_PIXELS


def test_scaling_bits_are_not_taken_for_size(tmp_path: Path) -> None:
    data = riff((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 64 | 0x4000, 48 | 0x8000)))
    info = inspect(tmp_path, data)
    assert (info.width, info.height) == SIZE


@pytest.mark.parametrize(
    "data",
    [
        gif(1, 1, gif_frame(1, 1) * 100_000, b"\x3b"),
        riff((b"VP8X", canvas(1, 1)), *[(b"ANMF", b"\0" * 16 + riff((b"VP8L", vp8l(1, 1)))[12:])] * 10_000),
        png(1, 1, chunk(b"fcTL", struct.pack(">III", 0, 1, 1) + b"\0" * 14) * 10_000),
    ],
    ids=len,
)
def test_too_many_frames_are_too_many_pixels(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data) is Outcome.TOO_MANY_PIXELS


@pytest.mark.parametrize(
    "make",
    [
        lambda: png(1, 1, chunk(b"tEXt", b"") * 2_000_000),
        lambda: gif(1, 1, b"\x21\xfe" + b"\x01x" * 10_000_000),
        lambda: b"\xff\xd8\xff" + b"\xff" * 20_000_000,
        lambda: b"\xff\xd8\xff\xda\0\x02" + b"\xff\0" * 10_000_000,
        lambda: riff(*[(b"XXXX", b"")] * 2_000_000),
        lambda: box(b"ftyp", b"avif\0\0\0\0avif") + box(b"free", b"") * 2_000_000,
        lambda: box(b"ftyp", b"avif\0\0\0\0avif") + box(b"meta", b"\0" * 4 + box(b"free", b"") * 2_000_000),
        lambda: (
            box(b"ftyp", b"avif\0\0\0\0avif")
            + box(
                b"meta",
                b"\0" * 4 + box(b"iprp", box(b"ipma", b"\1\0\0\0\0\x1e\x84\x80" + b"\0" * 20_000_000)),
            )
        ),
    ],
    ids=["png", "gif", "jpeg fill", "jpeg scan", "webp", "avif", "avif meta", "avif ipma"],
)
def test_twenty_megabytes_of_malice_take_little_time(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(make())
    began = time.process_time()
    with pytest.raises(FetchFailed):
        media.inspect(path, allowed_kinds=IMAGES, max_pixels=1000)
    assert time.process_time() - began < 2  # a tenth of a second here; without bounds it would be minutes


# --- other kinds ----------------------------------------------------------------------------------

MP4 = box(b"ftyp", b"isom\0\0\x02\0isomiso2avc1mp41") + box(b"moov", b"x" * 50) + box(b"mdat", b"x" * 200)
WAV = riff((b"fmt ", b"x" * 16), (b"data", b"x" * 100), form=b"WAVE")
GLB = b"glTF\x02\0\0\0" + struct.pack("<I", 100) + b"x" * 88


@pytest.mark.parametrize(
    ("data", "kind", "extension"),
    [
        (MP4, media.VIDEO, "mp4"),
        (MP4.replace(b"ftypisom", b"ftypqt  "), media.VIDEO, "mov"),
        (MP4.replace(b"ftypisom", b"ftypM4A "), media.AUDIO, "m4a"),
        (b"\x1a\x45\xdf\xa3" + b"x" * 100, media.VIDEO, "webm"),
        (WAV, media.AUDIO, "wav"),
        (b"RIFF\xff\xff\xff\xffWAVEfmt ", media.AUDIO, "wav"),
        (b"ID3\x04" + b"x" * 100, media.AUDIO, "mp3"),
        (b"\xff\xfb\x90\x00" + b"x" * 100, media.AUDIO, "mp3"),
        (b"OggS" + b"x" * 100, media.AUDIO, "ogg"),
        (b"fLaC" + b"x" * 100, media.AUDIO, "flac"),
        (GLB, media.MODEL, "glb"),
    ],
    ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_another_kind_is_stored_only_where_it_is_allowed(
    tmp_path: Path, data: bytes, kind: str, extension: str
) -> None:
    info = inspect(tmp_path, data, kinds=frozenset({media.IMAGE, kind}))
    assert (info.extension, info.width, info.height) == (extension, None, None)
    assert info.media_type.startswith(kind)
    assert outcome_of(tmp_path, data, kinds=media.KINDS - {kind}) is Outcome.NOT_AN_IMAGE


@pytest.mark.parametrize("data", [MP4[:-1], MP4[:80], MP4[:24], WAV[:-1], GLB[:-1]], ids=len)
def test_another_kind_that_is_cut_short_is_found_out(tmp_path: Path, data: bytes) -> None:
    assert outcome_of(tmp_path, data, kinds=media.KINDS) is Outcome.TRUNCATED


def test_an_image_may_be_left_out_too(tmp_path: Path) -> None:
    assert outcome_of(tmp_path, picture(), kinds=frozenset({media.VIDEO})) is Outcome.NOT_AN_IMAGE


def test_the_settings_table_names_every_format_that_is_stored() -> None:
    (field,) = [field for field in FIELDS if field.variable == "RECEIVER_ASSET_TYPES"]
    kinds = [value for value in vars(media).values() if isinstance(value, MediaKind)]
    for kind in media.KINDS:
        listed = field.help.partition(f"{kind} (")[2].partition(")")[0].split(", ")
        assert set(listed) == {each.extension for each in kinds if each.kind == kind}
