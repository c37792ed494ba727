"""Folders made so that they last, and names in them that do: fsynced, where the file system can do that."""

import errno
import os
from pathlib import Path

# What file systems say that cannot sync a folder: SMB, some of FUSE, some network shares. Nothing is there to
# be synced then; the file itself has been. Anything else (EIO, ENOSPC) is a failure.
_CANNOT = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last, as far as its file system lets anybody. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and what it lies in; each new name is made to last in its parent. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(missing):
        sync_folder(place.parent)
