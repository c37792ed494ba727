"""What the product makes of the bytes of a file; each test module says once which kinds it wants."""

from pathlib import Path

from receiver.errors import FetchFailed
from receiver.fetching import media
from receiver.fetching.media import MediaInfo
from receiver.models import Outcome


def inspect(folder: Path, data: bytes, *, kinds: frozenset[str], max_pixels: int) -> MediaInfo:
    path = folder / "file"
    path.write_bytes(data)
    return media.inspect(path, allowed_kinds=kinds, max_pixels=max_pixels)


def outcome_of(folder: Path, data: bytes, *, kinds: frozenset[str], max_pixels: int) -> Outcome | None:
    """Why it is not stored, if it is not."""
    try:
        inspect(folder, data, kinds=kinds, max_pixels=max_pixels)
    except FetchFailed as exc:
        return exc.outcome
    return None
