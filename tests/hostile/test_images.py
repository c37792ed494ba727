"""Every hostile file, inspected as a download is: what becomes of it and what that costs."""

import time
import tracemalloc
from pathlib import Path

import pytest

from receiver.errors import FetchFailed
from receiver.fetching import media
from receiver.models import Outcome
from tests.hostile.images import CASES, COSTLY, MAX_PIXELS, MEGABYTE

MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def inspect(path: Path) -> tuple[Outcome, str]:
    """The outcome, and of an image that would be stored its extension."""
    try:
        info = media.inspect(path, allowed_kinds=frozenset({media.IMAGE}), max_pixels=MAX_PIXELS)
    except FetchFailed as exc:
        return exc.outcome, ""
    assert info.media_type == MEDIA_TYPES[info.extension]
    assert info.width
    assert info.height
    return Outcome.STORED, info.extension


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_comes_to_its_outcome(path: Path, name: str) -> None:
    case = CASES[name]
    path.write_bytes(case.make())
    assert inspect(path) == (case.outcome, case.extension)


@pytest.mark.parametrize("name", CASES)
def test_no_hostile_file_takes_long(path: Path, name: str) -> None:
    data = CASES[name].make()
    path.write_bytes(data)
    seconds = []
    for _ in range(3):  # the best of them: a busy machine is slow at times, a costly file is always
        began = time.process_time()
        inspect(path)
        seconds.append(time.process_time() - began)
    # A tenth of a second on a fast machine; what is costly takes seconds on any.
    assert min(seconds) < 0.2 * max(1.0, len(data) / MEGABYTE)


@pytest.mark.parametrize("name", CASES)
def test_no_hostile_file_takes_much_memory(path: Path, name: str) -> None:
    path.write_bytes(CASES[name].make())
    tracemalloc.start()
    try:
        inspect(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_the_costly_files_are_as_large_as_they_claim() -> None:
    assert all(100_000 < len(case.make()) < 1.1 * MEGABYTE for case in COSTLY.values())
