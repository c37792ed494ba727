"""What is moved is all that a record has, in every engine."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from receiver.record.tables import TABLES
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite.migrations import migrate
from tests.contracts.opening import store_options
from tests.support.postgres import scratch_database

# What an engine keeps for itself: its migrations, who runs what, who is logged in, what was told.
OWN = {"_sqlite_migrations", "schema_migrations", "lanes", "sessions", "login_codes", "alerts"}

Columns = dict[str, tuple[set[str], tuple[str, ...]]]  # by table: all of them, and those of its primary key

NAMED: Columns = {table.name: (set(table.columns), table.key) for table in TABLES}

SQLITE = """
SELECT t.name, c.name, c.pk FROM sqlite_schema t, pragma_table_info(t.name) c
WHERE t.type = 'table' ORDER BY t.name, c.pk
"""
POSTGRES = """
SELECT c.relname, a.attname, coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relnamespace = 'receiver'::regnamespace AND c.relkind = 'r' ORDER BY 1, 3
"""


@pytest.fixture
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


def columns(rows: list[tuple[str, str, int]]) -> Columns:
    found: Columns = {}
    for table, column, place in rows:
        names, key = found.get(table, (set(), ()))
        found[table] = (names | {column}, (*key, column) if place else key)
    return {table: each for table, each in found.items() if table not in OWN}


def test_no_column_of_a_sqlite_record_is_left_out(tmp_path: Path) -> None:
    migrate(tmp_path / "receiver.db")

    with closing(sqlite3.connect(tmp_path / "receiver.db")) as db:
        assert columns(db.execute(SQLITE).fetchall()) == NAMED


async def test_no_column_of_a_postgresql_record_is_left_out(database: str, tmp_path: Path) -> None:
    await (await PostgresStore.open(database, store_options(tmp_path))).aclose()

    with psycopg.connect(database) as db:
        assert columns(db.execute(POSTGRES).fetchall()) == NAMED
