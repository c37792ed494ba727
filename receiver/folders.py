"""Folders and names that last through a crash, and files that are opened without following links."""

import errno
import fcntl
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

# The errors of file systems that cannot sync a folder: SMB, some of FUSE, some network shares. There is
# nothing to sync then; the file itself has been synced. Anything else (EIO, ENOSPC) is a failure.
_CANNOT = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})

# The errors of O_NOFOLLOW at a link.
_LINKS = frozenset({errno.ELOOP, errno.EMLINK})

_UNFINISHED = re.compile("tmp_[0-9a-f]{32}")  # the names of files on their way: see ``Clock.new_id``

MOST_FOLDERS = 64  # that processes have beside each other


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last (fsync), as far as its file system can. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


def open_own(path: str | Path, flags: int, mode: int = 0o600) -> int:
    """Open a file, but never the target of a link in its place. Raises OSError."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW, mode)
    except OSError as exc:
        if exc.errno in _LINKS:
            raise OSError(exc.errno, "it is a link, which is not followed") from exc
        raise


def open_own_file(path: str | Path) -> int:
    """Open a file to be read, if it is one. Raises OSError.

    Whoever owns the folder can put a FIFO in its place, which would wait for ever to be written to.
    """
    descriptor = open_own(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    return descriptor


def try_folder(folder: Path) -> None:
    """Write and read an unnamed file in a folder, or in the place where it would be made. Raises OSError."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"ping")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        if file.read() != b"ping":
            raise OSError(errno.EIO, "what was written is not what was read")


def take_folder(parent: Path, name: str) -> tuple[Path, int]:
    """A folder for this process alone, with nothing unfinished in it, and the handle that keeps others out.

    It is ``name``, or ``name.2`` and so on where processes that live have those. Unfinished files in it were
    left by one that is gone: a lock ends with whoever holds it, however that ends. Where the file system has
    no locks, it is the first. Raises OSError.
    """
    for number in range(1, MOST_FOLDERS + 1):
        folder = parent / (name if number == 1 else f"{name}.{number}")
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        except OSError as exc:
            if exc.errno not in _CANNOT | {errno.ENOLCK}:
                os.close(handle)
                raise
        empty_folder(folder)
        return folder, handle
    raise BlockingIOError(errno.EAGAIN, "too many processes have a folder there")


def empty_folder(folder: Path) -> None:
    """Remove the unfinished files in a folder, as far as that is possible.

    Nothing else: the data folder may lie among others' things, one of which has the name of ours.
    """
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, and make each new name last. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(missing):
        sync_folder(place.parent)
