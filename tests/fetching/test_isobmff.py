"""AVIF and HEIC as encoders make them: their size, and whether all of what is shown is there."""

import struct
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from receiver.fetching import media
from receiver.fetching.media import MediaInfo
from receiver.models import Outcome
from tests.support import inspecting
from tests.support.image_bytes import AVIF_BRANDS, SIZE, animated, avif, box, items
from tests.support.media_host import picture
from tests.support.places import SAMPLES

IMAGES = SAMPLES / "images"
ALL_KINDS = media.KINDS
TAILS = (b"\n", b"\0" * 4, b"\0" * 8, b"\0" * 1000, b"\r\n", b"PK\x05\x06 appended", b"<!-- cached -->")
PROFILE = bytes(range(256)) * 1200  # 300 kB

inspect = partial(inspecting.inspect, kinds=ALL_KINDS, max_pixels=1_000_000)
outcome_of = partial(inspecting.outcome_of, kinds=ALL_KINDS, max_pixels=1_000_000)


def turned(orientation: int) -> bytes:
    """What a camera says of how it was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def size_of(folder: Path, data: bytes) -> tuple[int | None, int | None]:
    info = inspect(folder, data)
    return info.width, info.height


MADE: dict[str, bytes] = {
    "plain": picture("AVIF"),
    "turned": picture("AVIF", exif=turned(6)),
    "with a large profile": picture("AVIF", icc_profile=PROFILE),
    "with much metadata": picture("AVIF", xmp=b"<x/>" + PROFILE),
    "animated": animated("AVIF", 20),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("tail", TAILS, ids=range(len(TAILS)))
def test_a_tail_behind_an_avif_does_no_harm(tmp_path: Path, name: str, tail: bytes) -> None:
    assert size_of(tmp_path, MADE[name] + tail) == SIZE


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_that_is_to_be_turned_or_mirrored_has_the_size_of_its_pixels(
    tmp_path: Path, orientation: int
) -> None:
    data = picture("AVIF", exif=turned(orientation))
    assert (b"irot" in data or b"imir" in data) == (orientation != 1)
    assert size_of(tmp_path, data) == SIZE == Image.open(BytesIO(data)).size


@pytest.mark.parametrize("name", MADE)
def test_every_way_to_make_an_avif_is_understood(tmp_path: Path, name: str) -> None:
    assert size_of(tmp_path, MADE[name]) == SIZE


def test_transparency_is_a_part_of_the_image(tmp_path: Path) -> None:
    shown = Image.effect_noise(SIZE, 90).convert("RGB")
    shown.putalpha(Image.effect_noise(SIZE, 50))
    made = BytesIO()
    shown.save(made, "AVIF")
    assert size_of(tmp_path, made.getvalue()) == SIZE
    assert outcome_of(tmp_path, made.getvalue()[:-1]) is Outcome.TRUNCATED


@pytest.mark.parametrize("name", MADE)
def test_an_avif_that_is_cut_anywhere_is_found_out(tmp_path: Path, name: str) -> None:
    data = MADE[name]
    step = 1 if len(data) < 20_000 else 31
    ends = {*range(0, min(len(data), 2000), step), *range(0, len(data), 997 * step), *_box_ends(data)}
    outcomes = {outcome_of(tmp_path, data[:end]) for end in ends if 32 < end < len(data)}
    # One that ends with a box, but before the description, may as well be something else.
    assert outcomes <= {Outcome.TRUNCATED, Outcome.NOT_AN_IMAGE}
    assert outcome_of(tmp_path, data[:-1]) is Outcome.TRUNCATED
    assert outcome_of(tmp_path, data[: len(data) // 2]) is Outcome.TRUNCATED


def _box_ends(data: bytes) -> list[int]:
    ends, offset = [], 0
    while offset < len(data):
        offset += int.from_bytes(data[offset : offset + 4], "big")
        ends.append(offset)
    return ends[:-1]


def test_pixels_may_lie_anywhere_in_the_file(tmp_path: Path) -> None:
    """Before the description, in it, in a box without an end, and in several pieces."""
    start = b"\0" * 4 + items((8, 6))
    start = start[: start.index(b"iloc") - 4]
    before = AVIF_BRANDS + box(b"mdat", b"x" * 50)
    located = struct.pack(">IHHHHHIIII", 0, 0x4400, 1, 1, 0, 2, 28, 20, 48, 30)
    assert size_of(tmp_path, before + box(b"meta", start + box(b"iloc", located))) == (8, 6)
    beyond = located[:-1] + b"\xff"
    assert outcome_of(tmp_path, before + box(b"meta", start + box(b"iloc", beyond))) is Outcome.TRUNCATED
    inside = struct.pack(">IHHHHHHII", 1 << 24, 0x4400, 1, 1, 1, 0, 1, 3, 7) + box(b"idat", b"x" * 10)
    assert size_of(tmp_path, avif(meta=start[4:] + _iloc(inside))) == (8, 6)
    outside = inside.replace(struct.pack(">II", 3, 7), struct.pack(">II", 3, 8))
    assert outcome_of(tmp_path, avif(meta=start[4:] + _iloc(outside))) is Outcome.NOT_AN_IMAGE
    assert size_of(tmp_path, avif(b"\0\0\0\0mdat" + b"x" * 50, meta=items((8, 6)))) == (8, 6)


def _iloc(content: bytes) -> bytes:
    """The content up to an ``idat`` box as an ``iloc``, and that box behind it."""
    place = content.index(b"idat") - 4
    return box(b"iloc", content[:place]) + content[place:]


def test_an_image_of_many_tiles_has_the_size_of_the_whole_and_needs_each_of_them(tmp_path: Path) -> None:
    tiles = box(b"iref", b"\0" * 4 + box(b"dimg", struct.pack(">HHHH", 1, 2, 2, 3)))
    data = avif(box(b"mdat", b"x" * 50), meta=items((128, 64), (64, 64), (64, 64), more=tiles))
    assert size_of(tmp_path, data) == (128, 64)
    place = struct.pack(">HHH", 3, 0, 1)
    lost = data.replace(place + data[data.index(place) + 6 :][:4], place + b"\0\1\0\0")
    assert outcome_of(tmp_path, lost) is Outcome.TRUNCATED


def test_a_thumbnail_that_is_cut_harms_nobody(tmp_path: Path) -> None:
    small = box(b"iref", b"\0" * 4 + box(b"thmb", struct.pack(">HHH", 2, 1, 1)))
    data = avif(box(b"mdat", b"x" * 50), meta=items((64, 64), (8, 8), more=small))
    place = struct.pack(">HHH", 2, 0, 1)
    lost = data.replace(place + data[data.index(place) + 6 :][:4], place + b"\0\1\0\0")
    assert lost != data
    assert size_of(tmp_path, lost) == (64, 64)


def test_a_provenance_manifest_is_passed_over(tmp_path: Path) -> None:
    manifest = box(b"uuid", b"\xd8\xfe\xc3\xd6" * 4 + b"jumb" * 30_000)
    assert size_of(tmp_path, picture("AVIF") + manifest) == SIZE
    start = items((8, 6))
    start = start[: start.index(b"iloc") - 4]
    located = box(b"iloc", struct.pack(">IHHHHHII", 0, 0x4400, 1, 1, 0, 1, 28, 50))
    data = AVIF_BRANDS + box(b"mdat", b"x" * 50) + manifest + box(b"meta", b"\0" * 4 + start + located)
    assert size_of(tmp_path, data) == (8, 6)
    assert outcome_of(tmp_path, data[: 78 + 1000]) is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("name", "size"), [("still.heic", (64, 48)), ("turned.heic", (64, 48)), ("cropped.heic", (97, 61))]
)
def test_a_heic_has_the_size_of_its_picture_without_padding(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    data = (IMAGES / name).read_bytes()
    for tail in (b"", *TAILS):
        assert inspect(tmp_path, data + tail) == MediaInfo(
            media_type="image/heic", extension="heic", width=size[0], height=size[1]
        )
    for end in range(40, len(data)):
        assert outcome_of(tmp_path, data[:end]) in {Outcome.TRUNCATED, Outcome.NOT_AN_IMAGE}


def test_a_crop_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    data = (IMAGES / "cropped.heic").read_bytes()
    place = data.index(b"clap") + 4
    assert size_of(tmp_path, data[:place] + struct.pack(">I", 1000) + data[place + 4 :]) == (98, 64)
