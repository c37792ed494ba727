"""An empty record on each engine, for what must come to the same on all of them."""

import shutil
import sqlite3
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.support.blank_record import lay_blank_record
from tests.support.postgres import ScratchRecord

ENGINES = ("sqlite", "postgres")

# For a test of what a door passes on from a record: where text, pages or filters could come out otherwise.
on_both_engines = pytest.mark.parametrize("engine", ENGINES, indirect=True)


class Place(Protocol):
    """Where a record is kept."""

    async def open(self, options: StoreOptions) -> Store:
        """Open it; again and again, if wanted."""

    def connect(self) -> sqlite3.Connection | psycopg.Connection:
        """A connection of one's own, in autocommit."""

    def empty(self) -> None:
        """Take away all that was recorded. No store has it open."""


class SqlitePlace:
    def __init__(self, folder: Path, kind: type[SqliteStore] = SqliteStore) -> None:
        self._folder = folder
        self._kind = kind

    async def open(self, options: StoreOptions) -> Store:
        lay_blank_record(self._folder)
        return await self._kind.open(f"sqlite:{self._folder}/receiver.db", options)

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._folder / "receiver.db", isolation_level=None)

    def empty(self) -> None:
        shutil.rmtree(self._folder)


class PostgresPlace:
    def __init__(self, record: ScratchRecord, kind: type[PostgresStore] = PostgresStore) -> None:
        self._record = record
        self._kind = kind

    async def open(self, options: StoreOptions) -> Store:
        return await self._kind.open(self._record.url, options)

    def connect(self) -> psycopg.Connection:
        return self._record.connect()

    def empty(self) -> None:
        self._record.empty()


def place_on(engine: str, request: pytest.FixtureRequest) -> Place:
    """An empty place for a test's record."""
    if engine == "sqlite":
        return SqlitePlace(request.getfixturevalue("tmp_path"))
    return PostgresPlace(request.getfixturevalue("postgres_record"))
