"""A real PostgreSQL server: a database for one run of tests, and in it a schema for each that wants one."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

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


def url_of(database: str) -> str:
    """The server's URL for another database; all parameters in its query."""
    known: dict[str, Any] = conninfo_to_dict(URL) | {"dbname": database}
    return "postgresql://?" + "&".join(
        f"{name}={quote(str(value), safe='')}" for name, value in known.items()
    )
