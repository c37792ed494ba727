"""`receiver move`: all of a record or none of it, proved, and only while nobody works with it."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from receiver.clock import Clock
from receiver.config.credentials import ensure_credentials
from receiver.config.settings import load_settings
from receiver.ports import Store
from receiver.record.tables import HAPPENED, TABLES
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.contracts.opening import store_options
from tests.support.cli_callers import run
from tests.support.earlier_releases import make_first_release
from tests.support.factories import completed, failed, later, recording, submission
from tests.support.postgres import scratch_database, scratch_schema

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


@pytest.fixture
def there(database: str) -> Iterator[str]:
    """An empty schema, by the URL that commands get."""
    with scratch_schema(database) as url:
        yield url


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """The data folder that every command of this file finds."""
    folder = tmp_path / "receiver-data"
    async with opened(folder) as store:
        await fill(store)
    return folder


@asynccontextmanager
async def opened(folder: Path, url: str = "sqlite:receiver.db") -> AsyncIterator[Store]:
    store_class = SqliteStore if url.startswith("sqlite:") else PostgresStore
    store = await store_class.open(url, store_options(folder))
    try:
        yield store
    finally:
        await store.aclose()


async def fill(store: Store) -> None:
    for number in range(3):
        await store.log_submission(submission(f"t{number}"))
        await store.record(recording(completed(f"t{number}", files=2)))
    await store.log_submission(submission("t3"))
    await store.record(recording(failed("t3")))
    await store.record(recording(completed("early")))
    while await store.follow_deliveries(later(0), 10):
        pass  # what nobody asks about any more is gone, as it would be with the next start
    await store.log_submission(submission("t4"))


async def moved(*arguments: str, **environ: str) -> dict[str, Any]:
    result = await asyncio.to_thread(run, "move", *arguments, "--json", **environ)
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


async def refused(code: int, *arguments: str, **environ: str) -> str:
    """What is said of a move that is not made: in words, and with no URL, for that may hold a password."""
    result = await asyncio.to_thread(run, "move", *arguments, **environ)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert "://" not in result.stderr.replace("://…", "")
    return " ".join(result.stderr.split())


def rows_on_postgresql(url: str) -> dict[str, int]:
    with psycopg.connect(url) as db:
        counts = {
            table.name: db.execute(f"SELECT count(*) FROM {table.name}".encode()).fetchone()
            for table in TABLES
        }
    return {name: count[0] for name, count in counts.items() if count}


async def test_there_and_back_every_table_has_the_same_hash(data: Path, there: str) -> None:
    forth = await moved("--to", there)
    back = await moved("--to", "sqlite:back.db", "--from", there)

    assert (forth["source"], forth["target"]) == ("sqlite", "postgresql")
    assert (back["source"], back["target"]) == ("postgresql", "sqlite")
    assert [table["name"] for table in forth["tables"]] == [table.name for table in TABLES]
    assert back["tables"] == forth["tables"]
    rows = {table["name"]: table["rows"] for table in forth["tables"]}
    assert rows == rows_on_postgresql(there)
    assert (rows["submissions"], rows["deliveries"], rows["assets"], rows["unended"]) == (5, 5, 6, 4)
    with closing(sqlite3.connect(data / "back.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (data / "back.db").stat().st_mode & 0o077 == 0


async def test_what_was_leased_is_due_for_whoever_opens_it(data: Path, there: str) -> None:
    async with opened(data) as store:
        await store.log_submission(submission("t5"))
        assert len(await store.lease_assets(later(1), later(10**9), 4)) == 4
        assert len(await store.lease_outbox("all", later(1), later(10**9), 4)) == 1
        assert len(await store.lease_polls("vidgo", later(4000), later(10**9), 1)) == 1

    # A service that ends hands on what it has: this is one that was killed.
    with closing(sqlite3.connect(data / "receiver.db")) as db:
        assert db.execute("SELECT count(lease) FROM assets").fetchone() == (4,)
    await moved("--to", there)
    async with opened(data, there) as store:
        now = Clock().now()
        assert len(await store.lease_assets(now, later(10**9), 10)) == 6
        assert len(await store.lease_outbox("all", now, later(10**9), 10)) == 1
        assert len(await store.lease_polls("vidgo", now, later(10**9), 10)) == 2


async def test_the_old_record_stays_as_it_is(data: Path, there: str) -> None:
    before = (data / "receiver.db").read_bytes()

    await moved("--to", there)

    assert (data / "receiver.db").read_bytes() == before


async def test_a_person_reads_what_was_moved_and_what_to_do_next(data: Path, there: str) -> None:
    ensure_credentials(load_settings({"RECEIVER_DATA_DIR": str(data)}))

    result = await asyncio.to_thread(run, "move", "--to", there)

    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    for words in (
        "submissions 5",
        "from sqlite to postgresql",
        "every table was read back, and is the same by count and hash",
        "not touched: they stay where RECEIVER_ASSETS_URL points",
        "Set RECEIVER_SECRET, RECEIVER_API_TOKENS and RECEIVER_ADMIN_TOKENS to the secrets in",
        "receiver-data/credentials.json",
    ):
        assert words in said
    assert there not in result.output


async def test_no_record_is_moved_away_from_under_a_service(data: Path, there: str) -> None:
    async with opened(data):
        assert "is in use by another receiver" in await refused(1, "--to", there)
    with psycopg.connect(there) as db:
        assert db.execute("SELECT to_regclass('submissions')").fetchone() == (None,)

    await moved("--to", there)
    async with opened(data, there):
        said = await refused(1, "--to", "sqlite:back.db", RECEIVER_DATABASE_URL=there)
    assert "a receiver has the PostgreSQL database open" in said
    with psycopg.connect(there) as db:  # as behind a pooler, where no connection tells whose it is
        db.execute("INSERT INTO lanes VALUES ('upkeep', 'process_1', now() + interval '10 s')")
    assert "a receiver has the PostgreSQL database open" in await refused(
        1, "--to", "sqlite:back.db", "--from", there
    )
    assert not (data / "back.db").exists()


async def test_no_record_is_moved_in_under_a_service(data: Path, there: str) -> None:
    async with opened(data, there), opened(data, "sqlite:busy.db"):
        assert "a receiver has the PostgreSQL database open" in await refused(1, "--to", there)
        assert "is in use by another receiver" in await refused(1, "--to", "sqlite:busy.db")

    assert {rows_on_postgresql(there)[table.name] for table in HAPPENED} == {0}


async def test_a_record_is_never_mixed_with_another(data: Path, there: str) -> None:
    for url in (there, "sqlite:other.db"):
        async with opened(data, url) as store:
            await store.log_submission(submission("another"))

        assert "holds a record already (its table submissions has rows)" in await refused(2, "--to", url)

        async with opened(data, url) as store:
            assert (await store.count_stats()).submissions == 1


async def test_what_breaks_off_leaves_nothing_and_can_be_done_again(data: Path, there: str) -> None:
    async with opened(data, there), opened(data, "sqlite:new.db"):
        pass
    with psycopg.connect(there) as server, closing(sqlite3.connect(data / "new.db")) as file:
        server.execute("ALTER TABLE outbox ADD CONSTRAINT never CHECK (number < 0)")
        file.execute("CREATE TRIGGER never BEFORE INSERT ON outbox BEGIN SELECT raise(ABORT, 'never'); END")

    said = await refused(1, "--to", there), await refused(1, "--to", "sqlite:new.db")

    assert "outbox cannot be moved now: PostgreSQL says CheckViolation 23514" in said[0]
    assert "the database cannot be copied now: never" in said[1]
    assert {rows_on_postgresql(there)[table.name] for table in HAPPENED} == {0}
    with psycopg.connect(there) as server, closing(sqlite3.connect(data / "new.db")) as file:
        assert file.execute("SELECT count(*) FROM submissions").fetchone() == (0,)
        server.execute("ALTER TABLE outbox DROP CONSTRAINT never")
        file.execute("DROP TRIGGER never")
    assert (await moved("--to", there))["tables"] == (await moved("--to", "sqlite:new.db"))["tables"]


async def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(data: Path, there: str) -> None:
    async with opened(data, there), opened(data, "sqlite:new.db"):
        pass
    with psycopg.connect(there) as server, closing(sqlite3.connect(data / "new.db")) as file:
        server.execute(
            "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN NEW.seen := NEW.seen + 1; RETURN NEW; END $$"
        )
        server.execute(
            "CREATE TRIGGER change BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION change()"
        )
        file.execute(
            "CREATE TRIGGER change AFTER INSERT ON deliveries BEGIN"
            " DELETE FROM deliveries WHERE number = new.number AND number = 2; END"
        )

    for url in (there, "sqlite:new.db"):
        said = await refused(1, "--to", url)
        assert "the table deliveries did not arrive as it was (5 rows with" in said
        async with opened(data, url) as store:
            assert (await store.count_stats()).submissions == 0


async def test_what_cannot_be_moved_is_told(data: Path, there: str, tmp_path: Path) -> None:
    assert "names the database that the record is in" in await refused(2, "--to", "sqlite:./receiver.db")
    assert "names the database that the record is in" in await refused(2, "--to", there, "--from", there)
    assert "is not known" in await refused(2, "--to", "mysql://host/db")
    assert "no record in the database to move from (sqlite) found" in await refused(
        3, "--to", there, "--from", "sqlite:none.db"
    )
    assert not (data / "none.db").exists()
    nowhere = "postgresql://someone:hunter2@127.0.0.1:9/none"
    for arguments in (("--to", nowhere), ("--to", "sqlite:new.db", "--from", nowhere)):
        said = await refused(1, *arguments)
        assert "the database cannot be reached" in said
        assert "hunter2" not in said
    make_first_release(data / "first.db")
    assert "has the schema of an earlier release" in await refused(
        2, "--to", there, "--from", "sqlite:first.db"
    )
    assert "holds a record of an earlier release" in await refused(2, "--to", "sqlite:first.db")
