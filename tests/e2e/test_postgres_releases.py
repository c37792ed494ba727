"""A rolling deploy on PostgreSQL: the next release migrates the record while this one goes on."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from receiver.errors import Misconfigured
from receiver.stores.postgres import PostgresStore
from receiver.stores.postgres.connections import Database
from receiver.stores.postgres.schema import MIGRATIONS, Migration
from receiver.stores.postgres.store import migrate
from tests.contracts.opening import store_options
from tests.e2e.service import receiver
from tests.support.postgres import scratch_database
from tests.support.waiting import until

NEXT = Migration(
    "9.0.0",
    """
    ALTER TABLE submissions ADD COLUMN cost BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE outbox ADD COLUMN tries BIGINT;
    ALTER TABLE deliveries ADD COLUMN note_more TEXT NOT NULL DEFAULT '';
    CREATE TABLE prices (model TEXT PRIMARY KEY, cost BIGINT NOT NULL);
    CREATE INDEX events_next ON events (type);
    """,
    is_additive=True,
)


@pytest.fixture
def url() -> Iterator[str]:
    with scratch_database() as url:
        yield url


def migrate_to_the_next(url: str, folder: Path, migration: Migration) -> None:
    database = Database(url)
    with closing(database.connect()) as connection:
        migrate(connection, database, store_options(folder), (*MIGRATIONS, migration))


async def test_a_service_goes_on_and_starts_again_beside_the_next_release(url: str, tmp_path: Path) -> None:
    async with receiver(tmp_path, {"RECEIVER_DATABASE_URL": url}) as service:
        finished: list[str] = []
        ended = asyncio.Event()

        async def load() -> None:
            while not ended.is_set():
                finished.append(f"task-{len(finished)}")
                await service.finish(finished[-1])

        loading = asyncio.create_task(load())
        await until(lambda: len(finished) > 10)
        await asyncio.to_thread(migrate_to_the_next, url, tmp_path, NEXT)
        seen = len(finished)
        await until(lambda: len(finished) > seen + 10)
        ended.set()
        await loading
        await until(lambda: service.told() == sorted(finished))

        await service.stop()
        await service.start()
        await service.finish("last")

        await until(lambda: "last" in service.told())
        warned = [line for line in service.output().splitlines() if "store.newer_schema" in line]
        assert [json.loads(line)["migrations"] for line in warned] == [["9.0.0"]]
        assert "store.failed" not in service.output()


async def test_beside_what_it_cannot_go_on_with_a_release_does_not_start(url: str, tmp_path: Path) -> None:
    breaking = NEXT._replace(is_additive=False)
    await asyncio.to_thread(migrate_to_the_next, url, tmp_path, breaking)

    with pytest.raises(Misconfigured, match=r"changed by a newer release \(it has 9\.0\.0\)"):
        await PostgresStore.open(url, store_options(tmp_path))
    with pytest.raises(Misconfigured, match="newer release"):
        await PostgresStore.pending_migrations(url, tmp_path)


async def test_what_the_next_release_added_is_not_left_behind_by_a_move(url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(migrate_to_the_next, url, tmp_path, NEXT)

    with (
        pytest.raises(
            Misconfigured, match=r"a newer release has added .*9\.0\.0.* move it with that release"
        ),
        PostgresStore.hold(url, tmp_path),
    ):
        pass


async def test_a_migration_waits_for_who_is_writing(url: str, tmp_path: Path) -> None:
    """Else the two could each wait for a table that the other one has."""
    await (await PostgresStore.open(url, store_options(tmp_path))).aclose()
    database = Database(url)
    with psycopg.connect(url) as writer:
        writer.execute(database.begin_writing)
        migrating = asyncio.create_task(asyncio.to_thread(migrate_to_the_next, url, tmp_path, NEXT))
        with psycopg.connect(url, autocommit=True) as other:
            waits = """SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
                WHERE datname = current_database() AND NOT granted"""
            await until(lambda: other.execute(waits).fetchone())
        writer.rollback()
        await migrating
