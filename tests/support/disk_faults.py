"""Folders on a disk that behaves as network shares and dying disks do."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_fsync = os.fsync


@contextmanager
def folders_that_cannot_be_synced(number: int) -> Iterator[list[str]]:
    """Every fsync of a folder fails with this error, and of a file does not; the folders that were tried."""
    tried: list[str] = []

    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            tried.append(str(Path(f"/proc/self/fd/{file}").readlink()))
            raise OSError(number, os.strerror(number))
        _fsync(file)

    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield tried
    finally:
        os.fsync = _fsync
