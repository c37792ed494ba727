"""A real PostgreSQL server: a database for one run of tests, and in it a schema for each that wants one.

Most want a record that is empty and may be anywhere. For those one is migrated once, and emptied for each:
a tenth of the time of another schema.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from receiver.clock import Clock
from receiver.options import StoreOptions
from receiver.stores.postgres.connections import SCHEMA, Database
from receiver.stores.postgres.store import prepare
from tests.support.missing import missing

URL = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


@contextmanager
def scratch_database() -> Iterator[str]:
    """The URL of a new database, which is dropped at the end, whoever is in it."""
    name = f"receiver_test_{uuid.uuid4().hex}"
    try:
        root = psycopg.connect(URL, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as exc:
        missing(f"no PostgreSQL answers: {type(exc).__name__}")
    with root:
        root.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0".encode())
        try:
            yield url_of(name)
        finally:
            root.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def scratch_schema(database: str) -> Iterator[str]:
    """The URL of a new schema, which is empty, and dropped at the end."""
    name = f"s{uuid.uuid4().hex}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
        try:
            yield f"{database}&options={quote(f'-csearch_path={name}')}"
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


SIZES = "SELECT name, pg_relation_size(name::regclass) FROM unnest(%s::text[]) name"
LARGE_BYTES = 8192  # a page


class ScratchRecord:
    """A record in a database of its own, which is made again what it was when it was new."""

    def __init__(self, url: str) -> None:
        self.url = url
        prepare(Database(url), StoreOptions(data_dir=Path(), clock=Clock()))
        self._connection = self.connect()
        self._tables = self._names("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        sequences = self._names("SELECT sequencename FROM pg_sequences WHERE schemaname = current_schema()")
        self._at_first = {table: rows for table in self._tables if (rows := self._copy(table))}
        restart = [f"SELECT setval('{sequence}', 1, false)" for sequence in sequences]
        self._restart = "; ".join(restart).encode()

    def connect(self) -> psycopg.Connection:
        """A connection beside those of a store, in autocommit."""
        return psycopg.connect(self.url, autocommit=True, options=f"-csearch_path={SCHEMA}")

    def empty(self) -> None:
        """Take away all that was recorded. No store has it open."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 10000")  # of a store that is still closing
            sizes = cursor.execute(SIZES, [self._tables]).fetchall()
            # To delete is quicker, but who looks for what is due goes past all that was deleted.
            clear = [
                f"{'TRUNCATE' if size > LARGE_BYTES else 'DELETE FROM'} {table}" for table, size in sizes
            ]
            cursor.execute("; ".join(clear).encode())
            for table, rows in self._at_first.items():
                with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(rows)
        self.restart()

    def restart(self) -> None:
        """Number from 1 again."""
        self._connection.execute(self._restart)

    def close(self) -> None:
        self._connection.close()

    def _names(self, query: str) -> list[str]:
        return [name for (name,) in self._connection.execute(query.encode()).fetchall()]

    def _copy(self, table: str) -> bytes:
        with self._connection.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
            return b"".join(copy)


@contextmanager
def scratch_record() -> Iterator[ScratchRecord]:
    """A migrated record in a database of its own."""
    with scratch_database() as url, closing(ScratchRecord(url)) as record:
        yield record


def url_of(database: str) -> str:
    """The server's URL for another database; all parameters in its query."""
    known: dict[str, Any] = conninfo_to_dict(URL) | {"dbname": database}
    return "postgresql://?" + "&".join(
        f"{name}={quote(str(value), safe='')}" for name, value in known.items()
    )


def slow_down_flushes(url: str, *, milliseconds: float) -> None:
    """Have each flush of this database take longer, as on a slower disk: 100 ms at most."""
    with psycopg.connect(url, autocommit=True) as root:
        for name, value in (("commit_delay", round(milliseconds * 1000)), ("commit_siblings", 0)):
            root.execute(f"ALTER DATABASE {root.info.dbname} SET {name} = {value}".encode())
