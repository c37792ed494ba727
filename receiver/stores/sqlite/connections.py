"""Connections to the file: the one that writes, and those that only read."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from receiver.stores.sqlite.wal import LONG_BYTES

T = TypeVar("T")

# By a script: SQLite does what it says while it prepares it, and a statement is prepared once and kept.
_SYNCHRONOUS = {True: "PRAGMA synchronous = FULL", False: "PRAGMA synchronous = NORMAL"}

BUSY_TIMEOUT_MS = 3_000  # a provider waits 10 s at least: refuse in time for its retry


class SqliteWrites:
    """Implements ``record.writer.WriteConnection``; it does every checkpoint, too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self.connection = connect(self._path)
        self.cursor = self.connection.cursor()
        self._is_durable = True

    @property
    def changes(self) -> int:
        return self.connection.total_changes

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def begin(self, *, is_durable: bool = True) -> None:
        # A script would commit what a rollback that failed has left open.
        if is_durable is not self._is_durable and not self.in_transaction:
            self.connection.executescript(_SYNCHRONOUS[is_durable])
            self._is_durable = is_durable
        self.cursor.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.cursor.execute("COMMIT")

    def roll_back(self) -> None:
        if self.connection.in_transaction:
            self.cursor.execute("ROLLBACK")

    def trouble(self, exc: Exception) -> str | None:
        return trouble(exc)

    def is_outage(self, exc: Exception) -> bool:  # noqa: ARG002
        return False  # a full disk may still have room for less

    def reopen(self) -> None:
        # After an I/O error the connection's idea of the file may be wrong; a new one reads it afresh.
        old = self.connection
        self._open()
        with suppress(sqlite3.Error):
            old.close()

    def close(self) -> None:
        self.connection.close()


class SqliteReads:
    """Implements ``record.readers.ReadConnection``."""

    def __init__(self, path: Path, busy_seconds: float) -> None:
        self._connection = connect_read_only(path, busy_seconds)

    def run(self, query: Callable[[sqlite3.Cursor], T]) -> T:
        with closing(self._connection.cursor()) as cursor:  # a statement left open would hold its snapshot
            return query(cursor)

    def end(self) -> None:
        if self._connection.in_transaction:  # interrupted at its very end
            with suppress(sqlite3.Error):
                self._connection.rollback()

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """The write connection: durable before it answers."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL may lose an answered callback on power loss
    # Foreign keys are declared for the reader of the file and not enforced: nothing else writes here, no
    # referenced row is ever deleted, and looking each one up again would cost a tenth of the throughput.
    # KiB. What of a large record is not in here the system has in its own cache: 64 MiB cost memory and
    # spared nothing that could be measured, with random tasks of a file of 285 MiB.
    connection.execute("PRAGMA cache_size = -16384")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages: hot pages are copied back less often
    connection.execute(f"PRAGMA journal_size_limit = {LONG_BYTES}")  # once it is begun anew
    return connection


def connect_read_only(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection for reading, from any one thread at a time.

    It never checkpoints, not even as the last to leave: that is for the one writer to do.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_seconds, check_same_thread=False)


def trouble(exc: Exception) -> str | None:
    """SQLite's own names (SQLITE_FULL, SQLITE_BUSY, SQLITE_IOERR_FSYNC), never contents of rows."""
    if not isinstance(exc, sqlite3.Error):
        return None
    return getattr(exc, "sqlite_errorname", type(exc).__name__)
