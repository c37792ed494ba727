"""Thumbnails that were made, in a folder of their own that is bounded; in memory where there can be none.

What lies there can be made anew, so nothing is flushed to the disk, and it belongs in no backup.
"""

import asyncio
import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import structlog

from receiver.folders import open_own_file

MOST_BYTES = 1_000_000_000
ROOM_BYTES = MOST_BYTES // 16  # written by one process between two looks at all that is there
MOST_MEMORY_BYTES = 4_000_000
STALE_SECONDS = 3600.0  # after which a file that was never finished is nobody's

_NAME = re.compile(r"[0-9a-f]{64}-[0-9]{1,5}\.webp")
_DRAFT = "draft-"
_WEBP_HEAD = 12

log = structlog.get_logger()


class ThumbnailCache:
    """Keeps images by name, the hash of the original and the edge: ``<sha256>-<pixels>.webp``.

    Several processes may share the folder: each looks at all of it after so much of its own, and takes the
    oldest out.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._unseen = ROOM_BYTES  # written since the last look; at first there was none
        self._memory: OrderedDict[str, bytes] = OrderedDict()  # where the folder cannot be had

    async def get(self, name: str) -> bytes | None:
        """An image that is there, and whole."""
        return self._memory.get(name) or await asyncio.to_thread(self._read, name)

    async def put(self, name: str, image: bytes) -> None:
        """Keep an image, as far as that is possible."""
        try:
            await asyncio.to_thread(self._write, name, image)
        except OSError as exc:
            if not self._memory:
                log.warning("thumbnails.not_kept", reason=exc.strerror)
            self._remember(name, image)

    def _remember(self, name: str, image: bytes) -> None:
        self._memory[name] = image
        while sum(map(len, self._memory.values())) > MOST_MEMORY_BYTES:
            self._memory.popitem(last=False)

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _read(self, name: str) -> bytes | None:
        with suppress(OSError), os.fdopen(open_own_file(self._path(name)), "rb") as file:
            image = file.read()
            if is_whole(image):
                return image
        return None

    def _write(self, name: str, image: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=_DRAFT, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(image)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        with self._lock:
            self._unseen += len(image)
            if self._unseen >= ROOM_BYTES:
                self._unseen = 0
                self._make_room()

    def _make_room(self) -> None:
        """Take the oldest out until two rooms are free, and what nobody finished."""
        found = []
        for path in self._folder.glob("??/*"):
            with suppress(OSError):
                status = path.stat(follow_symlinks=False)
                if _NAME.fullmatch(path.name):
                    found.append((status.st_mtime, status.st_size, path))
                elif path.name.startswith(_DRAFT) and status.st_mtime < time.time() - STALE_SECONDS:
                    path.unlink()
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= MOST_BYTES - 2 * ROOM_BYTES:
                break
            with suppress(OSError):
                path.unlink()
                total -= size


def is_whole(image: bytes) -> bool:
    """Whether it is a WebP file to its end: a machine that lost its power may have left half of one."""
    is_webp = image[:4] == b"RIFF" and image[8:_WEBP_HEAD] == b"WEBP"
    return is_webp and int.from_bytes(image[4:8], "little") + 8 == len(image)
