"""The record in one SQLite file: how it is opened and closed, and what people do with the file.

A lock file beside the
database keeps a second process out: who holds it knows that whoever leased anything before is gone, and need
not wait for those leases to run out.
"""

import asyncio
import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from receiver.errors import Misconfigured, Unavailable
from receiver.folders import open_own
from receiver.models import RecordCopy, Stats
from receiver.options import StoreOptions
from receiver.record import metadata
from receiver.record.cursor import Cursor
from receiver.record.leases import EVERYBODY
from receiver.record.readers import LONG, Purpose, Query, Readers
from receiver.record.store import RecordStore, free_leases
from receiver.record.writer import Writer
from receiver.stores.sqlite import backup, wal
from receiver.stores.sqlite.connections import SqliteReads, SqliteWrites, trouble
from receiver.stores.sqlite.migrations import migrate, pending

T = TypeVar("T")

INDEXES = "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB :pattern"

BUSY_SECONDS = 3.0  # a read waits so long for the file

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


class SqliteStore(RecordStore):
    """Implements ``ports.Store`` and ``ports.FileRecord``. Build it with ``open``."""

    def __init__(self, path: Path, lock: int, writer: Writer, options: StoreOptions) -> None:
        super().__init__(writer, Readers(partial(SqliteReads, path, BUSY_SECONDS), trouble), options)
        self._path = path
        self._lock = lock
        self._wal = wal.LogKeeper(path, self._readers, self.ping)

    @classmethod
    async def open(cls, url: str, options: StoreOptions) -> Self:
        """Lock, migrate and open ``sqlite:PATH``, making the file where there is none."""
        path = path_of(url, options.data_dir)
        lock = await asyncio.to_thread(_take_lock, path)
        try:
            await asyncio.to_thread(migrate, path)
            writer = Writer(SqliteWrites(path), options.observe)
            store = cls(path, lock, writer, options)
            # The lock is ours: of all who ever held a lease nobody is alive.
            await store._writer.write(lambda c: free_leases(c, options.clock.now(), EVERYBODY))
            await store._make_ready(keep_indexes)
        except BaseException as exc:
            os.close(lock)
            error = exc if isinstance(exc, sqlite3.Error) else exc.__cause__
            if isinstance(error, sqlite3.Error):
                raise backup.unopened(path, error) from exc
            raise
        return store

    @classmethod
    async def pending_migrations(cls, url: str, data_dir: Path) -> list[str] | None:
        return await asyncio.to_thread(pending, path_of(url, data_dir))

    # --- the file, whoever has it open: ``ports.FileRecord`` -------------------------------------------

    @staticmethod
    def file_of(url: str, data_dir: Path) -> Path:
        return path_of(url, data_dir)

    @staticmethod
    def examine(path: Path, most_seconds: float) -> bool:
        return backup.examine(path, most_seconds)

    @staticmethod
    def copy_record(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
        backup.copy_record(source, target, progress)

    @staticmethod
    def check_copy(source: Path, target: Path) -> RecordCopy:
        return backup.check_copy(source, target)

    @staticmethod
    def log_bytes(path: Path) -> int:
        return wal.log_bytes(path)

    @staticmethod
    def stored_files(copy: Path) -> Iterator[tuple[str, int]]:
        return backup.stored_files(copy)

    async def count_stats(self) -> Stats:
        return msgspec.structs.replace(await super().count_stats(), wal_bytes=wal.log_bytes(self._path))

    async def aclose(self) -> None:
        await self._wal.aclose()
        await super().aclose()  # the writer is the last to leave: SQLite then folds the WAL into the file
        os.close(self._lock)

    async def _read(self, query: Query[T], purpose: Purpose = Purpose.LOOK_UP) -> T:
        if purpose in LONG:
            self._wal.look()
        return await super()._read(query, purpose)


def keep_indexes(db: Cursor, keys: Sequence[str]) -> None:
    """Have an index for each of these keys of metadata, and no other."""
    have = [name for (name,) in db.execute(INDEXES, {"pattern": f"{metadata.PREFIX}*"}).fetchall()]
    values = {metadata.index_of(key): metadata.value_of(key, "") for key in keys}
    wanted = {name: f"({value}) WHERE {value} IS NOT NULL" for name, value in values.items()}
    metadata.keep_indexes(db, have, wanted)


def path_of(url: str, data_dir: Path) -> Path:
    """The file that ``sqlite:PATH`` names; a relative path starts at the data folder."""
    name = url.removeprefix("sqlite:")
    if name.startswith("//"):
        name = "/" + name.lstrip("/")
    if not name:
        raise Misconfigured("the database URL names no file: write sqlite:receiver.db")
    return data_dir / name


def _take_lock(path: Path) -> int:
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
