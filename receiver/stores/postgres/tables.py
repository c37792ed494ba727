"""All that is in the schema, to be moved to another store, or from one into a new schema."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from math import inf
from typing import Any

import psycopg

from receiver.errors import Misconfigured, Unavailable
from receiver.models import TableCopy
from receiver.options import StoreOptions
from receiver.ports import RecordTables
from receiver.record import tables
from receiver.record.tables import TABLES, Table
from receiver.stores.postgres.arrays import escape, unescape_rows
from receiver.stores.postgres.connections import LOCK_MS, WRITING, Database, Patience, PgConnection, lock
from receiver.stores.postgres.cursor import PostgresCursor
from receiver.stores.postgres.failures import trouble, unopened
from receiver.stores.postgres.schema import MIGRATIONS

READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

# A move takes as long as it takes, and tells of itself by another name than a service.
HELD = f"""
SET LOCAL application_name = 'receiver move'; SET LOCAL lock_timeout = {LOCK_MS};
SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL synchronous_commit = on; {lock(WRITING)}
"""

ENDING_SECONDS = 2.0
SECONDS_BETWEEN_LOOKS = 0.05

# A service keeps its connections as long as it runs, though which schema one of them works in is not to be
# seen; and behind a pooler it has a lane at least.
SERVICES = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
    AND application_name = 'receiver' AND pid <> pg_backend_pid())
    OR EXISTS (SELECT FROM lanes WHERE until > clock_timestamp())
"""

# The next number of a new row, behind all that there are. A sequence is no part of the transaction.
NUMBERED = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = current_schema() AND column_name = 'number' AND is_identity = 'YES'
"""
NEXT_NUMBER = """
SELECT setval(pg_get_serial_sequence('{table}', 'number'), max(number)) FROM {table} HAVING max(number) > 0
"""


class PostgresTables:
    """Implements ``record.tables.NewTables``, and so ``ports.RecordTables``.

    Rows go both ways by COPY: each is in memory only while it passes.
    """

    def __init__(self, connection: PgConnection) -> None:
        self._connection = connection
        self.cursor = PostgresCursor(connection)

    def count(self, table: str) -> int:
        with _translated(table):
            (number,) = self.cursor.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - a name of ours
        return int(number)

    def read(
        self, table: str, columns: Sequence[str], key: Sequence[str]
    ) -> Generator[Sequence[Any], None, None]:
        rows = f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - names of ours
        with _translated(table), self._connection.cursor() as cursor:
            found = cursor.execute(f"{rows} LIMIT 0".encode()).description or ()
            with cursor.copy(f"COPY ({rows} ORDER BY {', '.join(key)}) TO STDOUT".encode()) as copy:
                copy.set_types([column.type_code for column in found])
                for row in copy.rows():
                    yield unescape_rows([row])[0]

    def clear(self, table: Table) -> None:
        with _translated(table.name):
            self._connection.execute(f"DELETE FROM {table.name}".encode())  # noqa: S608 - as above

    def write(self, table: Table, rows: Iterable[Sequence[Any]]) -> None:
        into = f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN".encode()
        with _translated(table.name), self._connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in rows:
                copy.write_row([escape(value) if type(value) is str else value for value in row])

    def make_ready(self) -> None:
        """What a record has besides rows: where its numbers go on, and what the planner must know of it.

        Asking for the tables sends the cursor's last changes.
        """
        for (table,) in self.cursor.execute(NUMBERED).fetchall():
            self.cursor.execute(NEXT_NUMBER.format(table=table))
        self.cursor.execute(f"ANALYZE {', '.join(table.name for table in TABLES)}")


@contextmanager
def hold(url: str) -> Iterator[RecordTables]:
    """See ``ports.MovableRecord``: the lock of all who write, held to the end of one transaction."""
    with _held(url) as connection:
        yield PostgresTables(connection)


def fill(
    url: str, options: StoreOptions, source: RecordTables, progress: Callable[[int, int], None]
) -> list[TableCopy]:
    """See ``ports.MovableRecord``: one transaction."""
    with _held(url) as connection:
        new = PostgresTables(connection)
        copies = tables.fill(new, source, options.clock.now(), progress)
        new.make_ready()
    return copies


@contextmanager
def _held(url: str) -> Iterator[PgConnection]:
    """A transaction in which nobody else writes: READ COMMITTED, or it would look back behind the lock."""
    with closing(_connect(url)) as connection, _translated("the record"), connection.transaction():
        connection.execute(f"{READ_COMMITTED}; {Database(url).there}; {HELD}".encode())
        _refuse_services(connection)
        _refuse_newer(connection)
        yield connection


def _refuse_newer(connection: PgConnection) -> None:
    """What a newer release has added would be left behind, though this one can go on beside it."""
    applied = {name for (name,) in connection.execute("SELECT name FROM schema_migrations").fetchall()}
    if newer := sorted(applied - {migration.name for migration in MIGRATIONS}):
        raise Misconfigured(
            f"a newer release has added to the PostgreSQL database (it has {', '.join(newer)}):"
            " move it with that release"
        )


def _refuse_services(connection: PgConnection) -> None:
    """Wait a moment for those that have just ended: a server lists their connections a little longer."""
    deadline = time.monotonic() + ENDING_SECONDS
    while connection.execute(SERVICES).fetchone() == (True,):
        if time.monotonic() > deadline:
            raise Unavailable(
                "a receiver has the PostgreSQL database open: stop every service on it first (one that was"
                " killed is seen for ten more seconds)"
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)
        connection.execute("SELECT pg_stat_clear_snapshot()")  # else a transaction sees always the same


def _connect(url: str) -> PgConnection:
    try:
        connection = Database(url).connect()
    except psycopg.Error as exc:
        raise unopened(exc) from exc
    connection.patience = Patience(inf)  # one statement may be about all rows
    return connection


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.LockNotAvailable as exc:
        raise Unavailable(
            "a receiver is writing to the PostgreSQL database: stop every service on it first"
        ) from exc
    except psycopg.Error as exc:
        raise Unavailable(f"{what} cannot be moved now: PostgreSQL says {trouble(exc)}") from exc
