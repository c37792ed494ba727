"""All that is in the file, to be moved to another store, or from one into a new file."""

import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from receiver.models import TableCopy
from receiver.options import StoreOptions
from receiver.ports import RecordTables
from receiver.record import tables
from receiver.record.tables import Table
from receiver.stores.sqlite.backup import translated
from receiver.stores.sqlite.connections import connect, connect_read_only
from receiver.stores.sqlite.lock import take_lock

BUSY_TIMEOUT_SECONDS = 30.0


class SqliteTables:
    """Implements ``record.tables.NewTables``, and so ``ports.RecordTables``."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self.cursor = connection.cursor()

    def count(self, table: str) -> int:
        with translated(self._path):
            (number,) = self.cursor.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - a name of ours
        return int(number)

    def read(
        self, table: str, columns: Sequence[str], key: Sequence[str]
    ) -> Generator[Sequence[Any], None, None]:
        with translated(self._path), closing(self._connection.cursor()) as cursor:
            yield from cursor.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {', '.join(key)}")  # noqa: S608

    def clear(self, table: Table) -> None:
        with translated(self._path):
            self.cursor.execute(f"DELETE FROM {table.name}")  # noqa: S608 - as above

    def write(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        values = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({values})"  # noqa: S608
        with translated(self._path):
            self.cursor.executemany(statement, rows)


@contextmanager
def hold(path: Path) -> Iterator[RecordTables]:
    """See ``ports.MovableRecord``: the lock of the file's one process, and one view of what is in it."""
    with _locked(path), closing(connect_read_only(path, BUSY_TIMEOUT_SECONDS)) as connection:
        connection.execute("BEGIN")
        yield SqliteTables(path, connection)


def fill(
    path: Path, options: StoreOptions, source: RecordTables, progress: Callable[[int, int], None]
) -> list[TableCopy]:
    """See ``ports.MovableRecord``: one transaction, which a crash leaves without a trace in the log."""
    with _locked(path), translated(path), closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        copies = tables.fill(SqliteTables(path, connection), source, options.clock.now(), progress)
        connection.execute("COMMIT")
    return copies


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = take_lock(path)
    try:
        yield
    finally:
        os.close(lock)
