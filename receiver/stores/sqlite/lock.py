"""Which file a URL names, and the lock beside it that keeps a second process out."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from receiver.errors import Misconfigured, Unavailable
from receiver.folders import open_own

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


def path_of(url: str, data_dir: Path) -> Path:
    """The file that ``sqlite:PATH`` names; a relative path starts at the data folder."""
    name = url.removeprefix("sqlite:")
    if name.startswith("//"):
        name = "/" + name.lstrip("/")
    if not name:
        raise Misconfigured("the database URL names no file: write sqlite:receiver.db")
    return data_dir / name


def take_lock(path: Path) -> int:
    """The lock of the file's one process: a descriptor that ends it when it is closed.

    Raises Unavailable while another process has it, and Misconfigured where the folder cannot be used.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = open_own(lock_path, os.O_RDWR | os.O_CREAT)
        # Prompts, raw bodies and media links lie in it: nobody else's to read, whatever the folder allows.
        os.close(open_own(path, os.O_RDWR | os.O_CREAT))
    except OSError as exc:
        said = f"the data folder {path.parent} cannot be written: {exc.strerror}"
        raise (Unavailable(said) if exc.errno in _PASSING else Misconfigured(said)) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise Unavailable(
            f"{path} is in use by another receiver (process {holder}): SQLite means one process. "
            "Stop it first, or set RECEIVER_DATA_DIR to another folder"
        ) from exc
    with suppress(OSError):  # it is for the message above; the lock holds on a full disk, too
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
