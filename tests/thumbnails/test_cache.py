"""Thumbnails are kept whole, within bounds, and somewhere even without a disk."""

import os
from pathlib import Path

import pytest

from receiver.thumbnails import cache as cache_module
from receiver.thumbnails.cache import ThumbnailCache


def image(size: int, filling: int = 0) -> bytes:
    """What looks like a WebP file of so many bytes."""
    return b"RIFF" + (size - 8).to_bytes(4, "little") + b"WEBP" + bytes([filling]) * (size - 12)


def name(number: int) -> str:
    return f"{number:064x}"[::-1] + "-320.webp"


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MOST_BYTES", 160_000)
    monkeypatch.setattr(cache_module, "ROOM_BYTES", 10_000)


@pytest.mark.usefixtures("small")
async def test_it_never_holds_more_than_it_may_and_the_oldest_go_first(tmp_path: Path) -> None:
    sharing = [ThumbnailCache(tmp_path), ThumbnailCache(tmp_path)]  # as two processes would
    for number in range(400):
        await sharing[number % 2].put(name(number), image(1_000))
        place = tmp_path / name(number)[:2] / name(number)
        os.utime(place, (number, number))
        assert kept_bytes(tmp_path) <= 160_000
    assert await sharing[0].get(name(399)) is not None
    assert await sharing[0].get(name(0)) is None


@pytest.mark.usefixtures("small")
async def test_it_takes_out_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "ab"
    folder.mkdir()
    (folder / "a-photo-of-somebody.webp").write_bytes(image(200_000))
    (folder / "draft-left").write_bytes(b"half")
    os.utime(folder / "draft-left", (0, 0))
    await ThumbnailCache(tmp_path).put(name(1), image(1_000))
    assert (folder / "a-photo-of-somebody.webp").exists()
    assert not (folder / "draft-left").exists()  # of a process that was killed long ago


async def test_half_a_file_is_none(tmp_path: Path) -> None:
    kept = ThumbnailCache(tmp_path)
    await kept.put(name(1), image(5_000))
    place = tmp_path / name(1)[:2] / name(1)
    assert await kept.get(name(1)) == image(5_000)
    for damaged in (image(5_000)[:3_000], b"", b"<svg/>"):
        place.write_bytes(damaged)
        assert await kept.get(name(1)) is None


async def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    kept = ThumbnailCache(tmp_path / "thumbs")
    await kept.put(name(1), image(5_000))
    place = tmp_path / "thumbs" / name(1)[:2] / name(1)
    (tmp_path / "elsewhere").write_bytes(image(6_000))
    place.unlink()
    place.symlink_to(tmp_path / "elsewhere")
    assert await kept.get(name(1)) is None


async def test_without_a_folder_the_newest_few_are_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "MOST_MEMORY_BYTES", 10_000)
    (tmp_path / "thumbs").write_text("no folder")
    kept = ThumbnailCache(tmp_path / "thumbs")
    for number in range(20):
        await kept.put(name(number), image(1_000, number))
    assert [number for number in range(20) if await kept.get(name(number))] == [*range(10, 20)]
