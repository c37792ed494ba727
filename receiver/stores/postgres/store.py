"""The record in a PostgreSQL database: how it is opened and its schema brought up to date."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Self

import psycopg
import structlog

from receiver.clock import Clock
from receiver.errors import Misconfigured, Unavailable
from receiver.models import Lane, LaneClaim, ServerSeen, TableCopy
from receiver.options import LEAST_CONNECTIONS, StoreOptions
from receiver.ports import EVERY_KIND, RecordTables
from receiver.record import metadata
from receiver.record.cursor import Cursor
from receiver.record.readers import Purpose, Readers
from receiver.record.store import RecordStore, free_leases
from receiver.record.writer import Writer
from receiver.stores.postgres import tables
from receiver.stores.postgres.connections import (
    CLOSING_SECONDS,
    MIGRATING,
    WRITING,
    Database,
    Patience,
    PgConnection,
    PostgresReads,
    PostgresWrites,
    lock,
)
from receiver.stores.postgres.dialect import metadata_value
from receiver.stores.postgres.failures import trouble, unopened
from receiver.stores.postgres.fleet import Fleet
from receiver.stores.postgres.schema import MIGRATIONS, Migration
from receiver.stores.postgres.server_clock import NOW, follow_server, seconds_behind
from receiver.times import to_text

log = structlog.get_logger()

# Of a server's settings. Whatever "synchronous_commit" is, each writing transaction turns it on for itself.
MUST_BE_ON = {
    "fsync": "a crash of its machine loses what was answered with 200, and may damage the record",
    "full_page_writes": "a crash of its machine may damage the record",
}

LOWEST_VERSION = 13
MIGRATION_SECONDS = 3600.0  # one waits for another's, too

# Before "0.4.0 side by side" there is no such column.
APPLIED = """
SELECT name, coalesce((to_jsonb(done) ->> 'is_additive')::boolean, FALSE) FROM schema_migrations done
"""
NOTE_ADDITIVE = "UPDATE schema_migrations SET is_additive = TRUE WHERE name = %s"

INDEXES = """
SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND starts_with(indexname, :prefix)
"""


class PostgresStore(RecordStore):
    """Implements ``ports.Store`` and ``ports.SharedRecord``. Build it with ``open``."""

    def __init__(self, database: Database, writer: Writer, options: StoreOptions) -> None:
        super().__init__(
            writer, Readers(partial(PostgresReads, database), trouble, threads(options.connections)), options
        )
        self._patience = database.patience
        self._fleet = Fleet(database, self._holder, options.clock)

    @classmethod
    async def open(cls, url: str, options: StoreOptions) -> Self:
        """Migrate and open ``postgresql://…`` in any form that libpq reads."""
        try:
            database = Database(url)
            await asyncio.to_thread(prepare, database, options)
            writes = await asyncio.to_thread(PostgresWrites, database)
        except psycopg.Error as exc:
            raise unopened(exc) from exc
        store = cls(database, Writer(writes, options.observe), options)
        try:
            await store._make_ready(keep_indexes)
        except BaseException:
            await store.aclose()
            raise
        return store

    def tell(self, word: str) -> None:
        self._fleet.tell(word)

    def listen(self, heard: Callable[[str], None]) -> None:
        self._fleet.listen(heard)

    async def hold_lanes(self, claims: Sequence[LaneClaim], seconds: float) -> Mapping[str, Lane]:
        return await self._fleet.hold_lanes(claims, seconds)

    async def list_lanes(self) -> Mapping[str, str | None]:
        return await self._fleet.list_lanes()

    async def leave_lanes(self, names: Sequence[str]) -> None:
        await self._fleet.leave_lanes(names)

    async def take_turn(self, lane: str, gap_seconds: float) -> bool:
        return await self._fleet.take_turn(lane, gap_seconds)

    async def close_lane(self, lane: str, seconds: float) -> None:
        await self._fleet.close_lane(lane, seconds)

    async def aclose(self) -> None:
        """Hand on what this process has leased, and close. A killed one's leases run out."""
        self._patience.seconds = CLOSING_SECONDS
        with suppress(Unavailable):
            await self._writer.write(lambda c: free_leases(c, self._options.clock.now(), f"{self._holder}/"))
            self._fleet.tell(EVERY_KIND)
        await self._fleet.aclose()
        await super().aclose()

    @staticmethod
    async def examine_server(url: str, clock: Clock) -> ServerSeen:
        """See ``ports.ServerRecord``."""
        try:
            return await asyncio.to_thread(examine, Database(url), clock)
        except psycopg.Error as exc:
            raise unopened(exc) from exc

    @staticmethod
    def hold(url: str, data_dir: Path) -> AbstractContextManager[RecordTables]:  # noqa: ARG004
        """See ``ports.MovableRecord``, as the next."""
        return tables.hold(url)

    @staticmethod
    def fill(
        url: str, options: StoreOptions, source: RecordTables, progress: Callable[[int, int], None]
    ) -> list[TableCopy]:
        return tables.fill(url, options, source, progress)

    @classmethod
    async def pending_migrations(cls, url: str, data_dir: Path) -> list[str] | None:  # noqa: ARG003
        """The names of those that opening would apply; None where there is no record yet."""
        try:
            return await asyncio.to_thread(pending, Database(url))
        except psycopg.Error as exc:
            raise unopened(exc) from exc


def threads(connections: int) -> dict[Purpose, int]:
    """How many of a process's connections read for which purpose; look-ups have most of what is to spare."""
    spare = connections - LEAST_CONNECTIONS
    lists = spare // 3
    return {
        Purpose.DUE: 1,
        Purpose.LOOK_UP: 1 + spare - lists,
        Purpose.LIST: 1 + lists,
        Purpose.WORK: 1,
        Purpose.PAGE: 1,
    }


def prepare(database: Database, options: StoreOptions) -> None:
    """Bring the schema up to date, and say what of the server is not fit for it."""
    with closing(database.connect()) as connection:
        check_server(connection)
        check_writable(connection)
        connection.patience = Patience(MIGRATION_SECONDS)
        migrate(connection, database, options)
        for weakness in weaknesses(connection):
            log.error("store.not_durable", reason=weakness)
        follow_server(options.clock, behind(connection, options.clock))


def check_server(connection: PgConnection) -> None:
    """Raises Misconfigured where the record cannot be kept, whoever asks."""
    if connection.info.server_version < LOWEST_VERSION * 10_000:
        raise Misconfigured(
            f"the database server is PostgreSQL {connection.info.server_version // 10_000}:"
            f" {LOWEST_VERSION} or later is needed"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise Misconfigured(
            f"the database is encoded in {encoding}: make one in UTF-8 (`createdb -E UTF8 -T template0 ...`)"
        )


def check_writable(connection: PgConnection) -> None:
    """Raises psycopg's ReadOnlySqlTransaction before anything is tried that may seem to work."""
    if connection.execute("SHOW transaction_read_only").fetchone() == ("on",):
        raise psycopg.errors.ReadOnlySqlTransaction


def migrate(
    connection: PgConnection,
    database: Database,
    options: StoreOptions,
    migrations: Sequence[Migration] = MIGRATIONS,
) -> None:
    """Apply what is missing, each step in a transaction, one process after the other."""
    if database.schema:
        # Not even asked for where it is there: that takes a right that a mere user of it may lack.
        there = connection.execute("SELECT to_regnamespace(%s)", (database.schema,)).fetchone()
        if there == (None,):
            with connection.transaction():  # "IF NOT EXISTS" fails where another makes it meanwhile
                connection.execute(
                    f"SELECT pg_advisory_xact_lock({MIGRATING}, hashtext('{database.schema}'))"
                )
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {database.schema}")
    for name, script, is_additive in migrations:
        with connection.transaction():
            connection.execute(f"{database.there}; {lock(MIGRATING)}")
            if name not in (_applied(connection) or ()):
                connection.execute(lock(WRITING))  # or it and a service could wait for each other's tables
                connection.execute(script.encode())
                now = to_text(options.clock.now())
                connection.execute("INSERT INTO schema_migrations VALUES (%s, %s)", (name, now))
                if is_additive:
                    connection.execute(NOTE_ADDITIVE, (name,))
    with connection.transaction():
        connection.execute(database.there)
        if newer := _newer(_applied(connection) or {}, migrations):
            log.warning("store.newer_schema", migrations=newer)


def pending(database: Database) -> list[str] | None:
    with closing(database.connect()) as connection, connection.transaction():
        connection.execute(database.there)
        applied = _applied(connection)
    if applied is None:
        return None
    _newer(applied, MIGRATIONS)
    return [migration.name for migration in MIGRATIONS if migration.name not in applied]


def examine(database: Database, clock: Clock) -> ServerSeen:
    with closing(database.connect()) as connection:
        check_server(connection)
        check_writable(connection)
        return ServerSeen(
            weaknesses=weaknesses(connection),
            seconds_behind=behind(connection, clock),
            is_pooled=connection.is_pooled,
        )


def behind(connection: PgConnection, clock: Clock) -> float:
    before = clock.now()
    (there,) = connection.execute(NOW).fetchone() or (before,)
    return seconds_behind(there, before, clock.now())


def weaknesses(connection: PgConnection) -> list[str]:
    """What of the server's settings may lose what was answered with 200."""
    shown = {name: connection.execute(f"SHOW {name}".encode()).fetchone() for name in MUST_BE_ON}
    return [f"{name} is off: {why}" for name, why in MUST_BE_ON.items() if shown[name] == ("off",)]


def _applied(connection: PgConnection) -> dict[str, bool] | None:
    """What was applied, and whether it is additive; None where there is no record yet."""
    (table,) = connection.execute("SELECT to_regclass('schema_migrations')::text").fetchone() or (None,)
    if table is None:
        return None
    return dict(connection.execute(APPLIED).fetchall())


def _newer(applied: Mapping[str, bool], migrations: Sequence[Migration]) -> list[str]:
    """What a newer release has applied. Raises Misconfigured where this one cannot go on beside it."""
    newer = sorted(applied.keys() - {migration.name for migration in migrations})
    if breaking := [name for name in newer if not applied[name]]:
        raise Misconfigured(
            f"the database was changed by a newer release (it has {', '.join(breaking)}): "
            "run that release, or restore a dump that was made before"
        )
    return newer


def keep_indexes(db: Cursor, keys: Sequence[str]) -> None:
    """Have an index for each of these keys of metadata, and no other."""
    have = [name for (name,) in db.execute(INDEXES, {"prefix": metadata.PREFIX}).fetchall()]
    values = {_index_of(key): metadata_value("metadata", key) for key in keys}
    wanted = {
        name: f"({beginning}, number) WHERE {value} IS NOT NULL"
        for name, (value, beginning) in values.items()
    }
    metadata.keep_indexes(db, have, wanted)


def _index_of(key: str) -> str:
    """A name has 63 bytes there, and a key may have more."""
    return metadata.PREFIX + hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
