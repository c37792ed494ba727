"""Connections to the database: how values travel, the one that writes, and those that only read."""

import time
from collections.abc import Callable, Generator
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, pq
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

from receiver.record.cursor import Cursor
from receiver.stores.postgres.arrays import register_arrays
from receiver.stores.postgres.cursor import PostgresCursor
from receiver.stores.postgres.failures import NoAnswer, is_outage, trouble

T = TypeVar("T")

PREPARE_AFTER = 2  # runs of a statement
CONNECT_SECONDS = 3  # a provider waits 10 s at least: refuse in time for its retry
LOCK_MS = 3_000
WRITE_MS = 5_000  # of one statement
READ_MS = 5_000
# A silent server ends no statement by itself, and a dead way there ends no wait. Who comes behind a write of
# others waits for this and then for a connection: less than a provider does.
ANSWER_SECONDS = 5.5
CLOSING_SECONDS = 2.0  # the same at the end, for which platforms give 10 s
CANCEL_SECONDS = 1.0

# Of a connection that is in no use now: a router in between that forgets it is told of it, or found out.
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}

SCHEMA = "receiver"  # where the record is, unless the URL's options set a search path

# The record's statements are written for an engine that knows only loops over indexes: planned otherwise, on
# tables that are small or that no statistics tell of yet, a prepared one would read large tables whole later.
PLANS = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""

# The first halves of advisory locks; the other is the schema's, for a database may have several.
WRITING, MIGRATING = 0x72656300, 0x72656301


# Ends once all is on the disk that was committed before. A transaction that adds nothing to the server's
# log would not wait for it, so this one adds a message that nobody reads.
FLUSH = f"""
BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = {WRITE_MS};
SELECT pg_logical_emit_message(true, 'receiver', ''); COMMIT
"""


class _FlagDumper(Int8Dumper):
    def dump(self, obj: Any) -> Any:
        return super().dump(int(obj))


class _SumLoader(Loader):
    """A sum of integers is ``numeric`` there."""

    def load(self, data: Any) -> int:
        return int(bytes(data))


class Patience:
    """How long a connection waits for an answer; it may end while one is waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class PgConnection(Connection[tuple[Any, ...]]):
    """Waits for no answer longer than its patience lasts. What got none is closed, and raises NoAnswer."""

    patience = Patience(ANSWER_SECONDS)
    is_pooled = False  # a pooler is in between

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        return super().wait(self._in_time(gen), *args, **options)

    def _in_time(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        began = time.monotonic()
        ready = None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            ready = yield wanted
            if (
                not ready and time.monotonic() > began + self.patience.seconds
            ):  # the driver looks up ten times a second
                self.pgconn.finish()
                raise NoAnswer


class Database:
    """Where the record is, and how transactions on it begin.

    All that is set is set for one transaction: behind a pooler the next one may run on another connection.
    Statements are prepared only where no pooler is in between.
    """

    def __init__(self, url: str) -> None:
        """Raises psycopg.ProgrammingError for a URL that libpq does not read."""
        self.patience = Patience(ANSWER_SECONDS)
        given = conninfo_to_dict(url)
        self.conninfo = make_conninfo(
            url, **{name: value for name, value in _KEEPALIVE.items() if name not in given}
        )
        options = str(given.get("options", ""))
        self.schema = None if "search_path" in options else SCHEMA
        self.there = f"SET LOCAL search_path = {SCHEMA}" if self.schema else "SELECT 1"
        self.begin_writing = f"""
        BEGIN; {self.there}; {PLANS}; SET LOCAL plan_cache_mode = force_generic_plan;
        SET LOCAL lock_timeout = {LOCK_MS}; SET LOCAL statement_timeout = {WRITE_MS};
        SET LOCAL idle_in_transaction_session_timeout = {WRITE_MS}; SET LOCAL synchronous_commit = off;
        {lock(WRITING)}
        """
        self.begin_reading = f"""
        BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {self.there}; {PLANS};
        SET LOCAL statement_timeout = {READ_MS}
        """

    def connect(self) -> PgConnection:
        """A connection for one thread, in autocommit. Raises psycopg.Error."""
        connection = PgConnection.connect(
            self.conninfo,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="receiver",
            prepare_threshold=None,
        )
        # A pooler names another process than the one that does the work, and may change that: there nothing
        # can be prepared.
        process = connection.execute("SELECT pg_backend_pid()").fetchone()
        connection.is_pooled = process != (connection.info.backend_pid,)
        if not connection.is_pooled:
            connection.prepare_threshold = PREPARE_AFTER
        connection.patience = self.patience
        adapters = connection.adapters
        adapters.register_dumper(str, StrDumper)  # the driver's own, in C: the cursor sees to U+0000
        adapters.register_dumper(int, Int8Dumper)
        adapters.register_dumper(bool, _FlagDumper)
        register_arrays(adapters)
        adapters.register_loader("numeric", _SumLoader)
        return connection


def lock(what: int) -> str:
    """Wait for the advisory lock of this schema that ends with the transaction."""
    return f"SELECT pg_advisory_xact_lock({what}, hashtext(current_schema()))"


class _Replanning:
    """When a connection's plans are made anew: each time that twice as many transactions have ended.

    A server plans a prepared statement for the tables as they are. While they are new and small the wrong one
    of two indexes looks as good as the right one, and until statistics are gathered, a minute later, the plan
    would stay.
    """

    def __init__(self) -> None:
        self._ended = 0

    def after_one_more(self, connection: PgConnection) -> None:
        self._ended += 1
        if connection.prepare_threshold is not None and self._ended.bit_count() == 1:
            connection.execute("DISCARD PLANS")


class PostgresWrites:
    """Implements ``record.writer.WriteConnection``.

    One lock, taken with the transaction and held to its end, makes all writers of the database one after the
    other: what SQLite's single writer guarantees holds between processes, too. Nobody decides on rows that
    another one is changing, no two wait for each other, and numbers rise in the order of commits.

    The flush to the disk, which takes longest, comes after that lock, so that others write meanwhile.
    What they read by then may not be on the disk yet; but the server's log is one sequence, and each of them
    waits until it is there as far as their own commit, which comes later. So whatever is answered, sent or
    fetched is of what no crash takes back. Only who merely looks may see something a moment too early.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._replanning = _Replanning()
        self._connection = database.connect()
        self.cursor: PostgresCursor = PostgresCursor(self._connection)

    @property
    def changes(self) -> int:
        return self.cursor.changes

    @property
    def in_transaction(self) -> bool:
        status = self._connection.info.transaction_status
        return status in {pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR}

    def begin(self, *, is_durable: bool = True) -> None:  # noqa: ARG002 - a lease's holder may outlive the server
        if not self._connection.closed:
            try:
                self._connection.execute(self._database.begin_writing)
            except NoAnswer:
                raise
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
            else:
                return
        # Nothing was under way: a connection that was cut while idle loses nothing.
        self._connection = self._database.connect()
        self.cursor = PostgresCursor(self._connection)
        self._connection.execute(self._database.begin_writing)

    def commit(self) -> None:
        # One that an error has ended is committed without an error, as a ROLLBACK.
        if self.cursor.end("COMMIT") != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction
        try:
            self._connection.execute(FLUSH)
        except psycopg.Error:
            self._connection.close()  # or what is committed would be taken for something to do again
            raise
        self._replanning.after_one_more(self._connection)

    def roll_back(self) -> None:
        self.cursor.forget_waiting()
        if self.in_transaction:
            self._connection.execute("ROLLBACK")

    def trouble(self, exc: Exception) -> str | None:
        return trouble(exc)

    def is_outage(self, exc: Exception) -> bool:
        return is_outage(exc)

    def reopen(self) -> None:
        self.close()  # the next one is made when it is wanted: who waits for it waits once

    def close(self) -> None:
        with suppress(psycopg.Error):
            self._connection.close()


class PostgresReads:
    """Implements ``record.readers.ReadConnection``: each query sees one moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._replanning = _Replanning()
        self._connection: PgConnection | None = None
        self._cancelling: Thread | None = None

    def run(self, query: Callable[[Cursor], T]) -> T:
        return query(PostgresCursor(self._begin()))

    def _begin(self) -> PgConnection:
        if self._connection is not None:
            with suppress(psycopg.OperationalError):  # one that was cut while idle is replaced
                self._connection.execute(self._database.begin_reading)
                return self._connection
            self.close()
        self._connection = self._database.connect()
        self._connection.execute(self._database.begin_reading)
        return self._connection

    def end(self) -> None:
        if self._cancelling is not None:  # or it would hit what comes next
            self._cancelling.join()
            self._cancelling = None
        if self._connection is not None and not self._connection.closed:
            try:
                self._connection.execute("COMMIT")  # at a ROLLBACK the driver forgets what it has prepared
                self._replanning.after_one_more(self._connection)
            except psycopg.Error:
                self._connection.close()

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None and (self._cancelling is None or not self._cancelling.is_alive()):
            # By a thread of its own: a server that is silent would hold up who asks, which is the loop.
            self._cancelling = Thread(target=_cancel, args=(connection,), name="receiver-cancel", daemon=True)
            self._cancelling.start()

    def close(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()


def _cancel(connection: PgConnection) -> None:
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=CANCEL_SECONDS)
