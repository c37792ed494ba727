"""JPEG XL as encoders make it."""

from functools import partial
from pathlib import Path

import pytest

from receiver.errors import FetchFailed
from receiver.fetching import media
from receiver.fetching.media import MediaInfo
from receiver.models import Outcome
from tests.support import inspecting
from tests.support.image_bytes import jxl
from tests.support.places import SAMPLES

IMAGES = SAMPLES / "images"

inspect = partial(inspecting.inspect, kinds=frozenset({media.IMAGE}), max_pixels=1_000_000_000)


@pytest.mark.parametrize(
    ("name", "size"), [("bare.jxl", (301, 200)), ("boxed.jxl", (64, 48)), ("jpeg-inside.jxl", (64, 48))]
)
def test_a_jpeg_xl_is_known_by_its_bytes(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    for tail in (b"", b"\n", b"\0" * 100):
        info = inspect(tmp_path, (IMAGES / name).read_bytes() + tail)
        assert info == MediaInfo(media_type="image/jxl", extension="jxl", width=size[0], height=size[1])


@pytest.mark.parametrize("name", ["boxed.jxl", "jpeg-inside.jxl"])
def test_a_jpeg_xl_in_a_container_that_is_cut_is_found_out(tmp_path: Path, name: str) -> None:
    data = (IMAGES / name).read_bytes()
    for end in range(12, len(data)):
        with pytest.raises(FetchFailed) as caught:
            inspect(tmp_path, data[:end])
        assert caught.value.outcome is Outcome.TRUNCATED


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (jxl(1, 1), (1, 1)),
        (jxl(9_000, 700), (9_000, 700)),
        (b"\xff\x0a" + (0b001_00111_1).to_bytes(20, "little"), (64, 64)),  # eight times eight, and square
        (b"\xff\x0a" + (0b00101_000_00111_1).to_bytes(20, "little"), (48, 64)),
        (b"\xff\x0a" + (0b101_0001000110111_01_0).to_bytes(20, "little"), (1009, 568)),  # 16 to 9
    ],
    ids=range(5),
)
def test_each_way_to_write_a_size_is_read(tmp_path: Path, head: bytes, size: tuple[int, int]) -> None:
    info = inspect(tmp_path, head)
    assert (info.width, info.height) == size
