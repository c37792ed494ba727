"""The record in one SQLite file: how it is opened and closed, and what people do with the file.

A lock file beside the
database keeps a second process out: who holds it knows that whoever leased anything before is gone, and need
not wait for those leases to run out.
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from receiver.models import Backlog, RecordCopy, Replica, Stats, TableCopy
from receiver.options import StoreOptions
from receiver.ports import RecordTables
from receiver.record import metadata
from receiver.record.cursor import Cursor
from receiver.record.leases import EVERYBODY
from receiver.record.readers import LONG, Purpose, Query, Readers
from receiver.record.store import RecordStore, free_leases
from receiver.record.writer import Writer
from receiver.stores.sqlite import backup, litestream, tables, wal
from receiver.stores.sqlite.connections import SqliteReads, SqliteWrites, trouble
from receiver.stores.sqlite.lock import path_of, take_lock
from receiver.stores.sqlite.migrations import migrate, pending

T = TypeVar("T")

INDEXES = "SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB :pattern"

BUSY_SECONDS = 3.0  # a read waits so long for the file


class SqliteStore(RecordStore):
    """Implements ``ports.Store``, ``FileRecord`` and ``MovableRecord``. Build it with ``open``."""

    def __init__(self, path: Path, lock: int, writer: Writer, options: StoreOptions) -> None:
        super().__init__(writer, Readers(partial(SqliteReads, path, BUSY_SECONDS), trouble), options)
        self._path = path
        self._lock = lock
        self._wal = wal.LogKeeper(path, self._readers, self.ping)

    @classmethod
    async def open(cls, url: str, options: StoreOptions) -> Self:
        """Lock, migrate and open ``sqlite:PATH``, making the file where there is none."""
        path = path_of(url, options.data_dir)
        lock = await asyncio.to_thread(take_lock, path)
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
    def replica_of(path: Path) -> Replica | None:
        return litestream.replica_of(path)

    @staticmethod
    def stored_files(copy: Path) -> Iterator[tuple[str, int]]:
        return backup.stored_files(copy)

    # --- all of it, while nobody has it open: ``ports.MovableRecord`` -------------------------------------

    @staticmethod
    def hold(url: str, data_dir: Path) -> AbstractContextManager[RecordTables]:
        return tables.hold(path_of(url, data_dir))

    @staticmethod
    def fill(
        url: str, options: StoreOptions, source: RecordTables, progress: Callable[[int, int], None]
    ) -> list[TableCopy]:
        return tables.fill(path_of(url, options.data_dir), options, source, progress)

    async def count_stats(self) -> Stats:
        return msgspec.structs.replace(await super().count_stats(), wal_bytes=wal.log_bytes(self._path))

    async def count_backlog(
        self, now: datetime, lost_before: datetime, providers: Collection[str]
    ) -> Backlog:
        counted = await super().count_backlog(now, lost_before, providers)
        return msgspec.structs.replace(counted, wal_bytes=wal.log_bytes(self._path))

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
