"""What stands in the way of a start on PostgreSQL is told in one line, with what to do about it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from receiver.errors import Misconfigured, ReceiverError, Unavailable
from receiver.stores.postgres import PostgresStore
from receiver.stores.postgres.schema import MIGRATIONS
from tests.contracts.opening import store_options
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, SECRET
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.postgres_cluster import PASSWORD, Cluster, postgres_cluster
from tests.support.sink_hosts import free_port


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as cluster:
        cluster.create("record")
        cluster.create("tls")
        cluster.create("replica")
        cluster.create("closed")
        cluster.create("ascii", "ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        cluster.do(
            "ALTER DATABASE replica SET default_transaction_read_only = on",
            f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'",
            f"CREATE ROLE crowd LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0",
            "REVOKE CONNECT ON DATABASE closed FROM PUBLIC",
        )
        yield cluster


async def refused(url: str, folder: Path) -> ReceiverError:
    """Why it does not open, as at a start and as doctor is told; no word of it is secret."""
    with pytest.raises(ReceiverError) as told:
        await PostgresStore.open(url, store_options(folder))
    assert PASSWORD not in str(told.value)
    assert "127.0.0.1" not in str(told.value)
    return told.value


# --- what an operator must mend -----------------------------------------------------------------------

LASTING: dict[str, tuple[Callable[[Cluster], str], str]] = {
    "a wrong password": (lambda c: c.url("record").replace(PASSWORD, "old"), "(InvalidPassword 28P01)"),
    "no password": (lambda c: c.url("record").replace(f":{PASSWORD}", ""), "(password missing)"),
    "nobody's name": (lambda c: c.url("record").replace("app:", "nobody:"), "(InvalidPassword 28P01)"),
    "no TLS": (
        lambda c: c.url("tls", sslmode="disable"),
        "(InvalidAuthorizationSpecification 28000): the server does not let this user in",
    ),
    "no database": (lambda c: c.url("nowhere"), "(InvalidCatalogName 3D000)"),
    "no schema": (lambda c: c.url("record", options="-csearch_path=mine"), "(InvalidSchemaName 3F000)"),
    "no right to connect": (
        lambda c: c.url("closed").replace("app:", "guest:"),
        "(InsufficientPrivilege 42501): the user lacks a right",
    ),
    "no right to make a schema": (
        lambda c: c.url("record").replace("app:", "guest:"),
        "(InsufficientPrivilege 42501): the user lacks a right",
    ),
    "an option that no server has": (
        lambda c: c.url("record", options="-cnothing=1"),
        "(UndefinedObject 42704): the server, or a pooler",
    ),
    "a replica": (lambda c: c.url("replica"), "(ReadOnlySqlTransaction 25006): it can only be read"),
    "a certificate that nobody vouches for": (
        lambda c: c.url("record", sslmode="verify-full", sslrootcert="system"),
        "(TLS failed): the server and RECEIVER_DATABASE_URL",
    ),
    "a root certificate that is not there": (
        lambda c: c.url("record", sslmode="verify-full", sslrootcert="/nowhere"),
        "(TLS failed): the server and RECEIVER_DATABASE_URL",
    ),
    "bytes instead of letters": (lambda c: c.url("ascii"), "is encoded in SQL_ASCII: make one in UTF-8"),
    "a URL that nobody reads": (lambda c: "postgresql://[::1/record", "(ProgrammingError): libpq"),
    "a word that no option has": (
        lambda c: c.url("record", sslmode="often"),
        "(ProgrammingError): libpq does not read the URL",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LASTING)
async def test_what_waiting_does_not_mend_ends_the_start_with_what_to_do(
    cluster: Cluster, case: str, tmp_path: Path
) -> None:
    url, words = LASTING[case]

    told = await refused(url(cluster), tmp_path)

    assert isinstance(told, Misconfigured), told
    assert words in str(told)


async def test_a_server_that_is_too_old_is_told_by_its_version(cluster: Cluster, tmp_path: Path) -> None:
    async with before(cluster, rewriting(b"server_version\x0015.", b"server_version\x0012.")) as url:
        told = await refused(url, tmp_path)

    assert isinstance(told, Misconfigured)
    assert str(told) == "the database server is PostgreSQL 12: 13 or later is needed"


async def test_what_answers_and_is_no_server_is_told(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        told = await refused(f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/record", tmp_path)

    assert isinstance(told, Misconfigured)
    assert "(no PostgreSQL): what answers is no PostgreSQL server" in str(told)


async def test_a_server_that_is_gone_in_the_middle_of_tls_may_be_back_soon(tmp_path: Path) -> None:
    """As one that crashes or is restarted is; it says nothing about TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(b"\0\0\0\x08\x04\xd2\x16\x2f"))  # may we speak TLS?
        writer.write(b"S")
        await reader.read(1)
        await reader.read(1 << 16)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/record?sslmode=require"
        told = await refused(url, tmp_path)

    assert isinstance(told, Unavailable)
    assert "(connection lost)" in str(told)


async def test_a_record_of_a_newer_release_is_left_alone(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.create("newer")
    await (await PostgresStore.open(url, store_options(tmp_path))).aclose()
    cluster.do("INSERT INTO receiver.schema_migrations VALUES ('9.0.0', 'some day')", database="newer")

    told = await refused(url, tmp_path)

    assert isinstance(told, Misconfigured)
    assert "was changed by a newer release (it has 9.0.0)" in str(told)


async def test_a_record_of_an_older_release_is_brought_up_to_date_with_all_that_is_in_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    url, before = cluster.create("older"), MIGRATIONS[:1]
    with psycopg.connect(url, options="-csearch_path=receiver") as app:
        app.execute("CREATE SCHEMA receiver")
        for name, script, _ in before:
            app.execute(script.encode())
            app.execute("INSERT INTO schema_migrations VALUES (%s, '2026-11-01')", (name,))
        app.execute(
            "INSERT INTO submissions (id, provider, owner, task_id, metadata, created_at)"
            " VALUES ('sub_1', 'vidgo', 'user-17', 't1', '{}', '2026-11-01T00:00:00.000000Z')"
        )
    missing = [migration.name for migration in MIGRATIONS[1:]]
    assert await PostgresStore.pending_migrations(url, tmp_path) == missing

    store = await PostgresStore.open(url, store_options(tmp_path))

    assert await PostgresStore.pending_migrations(url, tmp_path) == []
    assert (await store.get_submission("sub_1")) is not None
    await store.aclose()


# --- what passes --------------------------------------------------------------------------------------

PASSING: dict[str, tuple[Callable[[Cluster], str], str]] = {
    "too many connections": (
        lambda c: c.url("record").replace("app:", "crowd:"),
        "(TooManyConnections 53300): all connections that the server allows are taken",
    ),
    "nobody listens": (
        lambda c: c.url("record", port=free_port()),
        "(connection refused): nothing listens there",
    ),
    "a host without an address": (
        lambda c: c.url("record").replace("127.0.0.1", "database.invalid"),
        "(unknown host): its name has no address",
    ),
    "no host that takes writes": (
        lambda c: c.url("replica", target_session_attrs="read-write"),
        "(no writable host): none of the URL's hosts takes writes now",
    ),
}


@pytest.mark.parametrize("case", PASSING)
async def test_what_may_pass_is_tried_again(cluster: Cluster, case: str, tmp_path: Path) -> None:
    url, words = PASSING[case]

    told = await refused(url(cluster), tmp_path)

    assert isinstance(told, Unavailable), told
    assert words in str(told)


async def test_words_in_another_language_are_no_reason_to_give_up(cluster: Cluster, tmp_path: Path) -> None:
    words = b"password authentication failed"
    async with before(cluster, rewriting(words, b"Passwort-Anmeldung fehlgeschl.")) as url:
        told = await refused(url.replace(PASSWORD, "old"), tmp_path)

    assert isinstance(told, Unavailable)
    assert str(told).endswith("(OperationalError): look at the server's log, and try again")


# --- the commands -------------------------------------------------------------------------------------


def run(folder: Path, url: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "receiver", *command],
        cwd=folder,
        env=os.environ
        | {
            "DATABASE_URL": url,
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_end_with_2_where_somebody_must_act_and_with_1_where_not(
    cluster: Cluster, tmp_path: Path
) -> None:
    lasting = run(tmp_path, cluster.url("nowhere"), "migrate")
    passing = run(tmp_path, cluster.url("record", port=free_port()), "migrate")

    assert (lasting.returncode, lasting.stderr.count("\n")) == (2, 1), lasting.stderr
    assert (
        "the database cannot be opened (InvalidCatalogName 3D000): there is no such database"
        in lasting.stderr
    )
    assert (passing.returncode, passing.stderr.count("\n")) == (1, 1), passing.stderr
    assert "the database cannot be reached (connection refused): nothing listens there" in passing.stderr


def test_doctor_names_the_failure_and_what_to_do(cluster: Cluster, tmp_path: Path) -> None:
    told = run(tmp_path, cluster.url("replica"), "doctor", "--json")

    (record,) = (each for each in json.loads(told.stdout)["checks"] if each["name"] == "record")
    assert record["state"] == "fail"
    assert "(ReadOnlySqlTransaction 25006): it can only be read" in record["detail"]
    assert record["todo"] == "do as it says, then look again"
    assert PASSWORD not in told.stdout + told.stderr


# --- what needs no more -------------------------------------------------------------------------------


async def test_tls_that_is_required_takes_a_certificate_that_nobody_vouches_for(
    cluster: Cluster, tmp_path: Path
) -> None:
    url = cluster.url("tls", sslmode="require").replace("postgresql:", "postgres:")

    store = await PostgresStore.open(url, store_options(tmp_path))
    await store.ping()
    await store.aclose()

    assert cluster.do("SELECT count(*) FROM receiver.tasks", database="tls") == [(0,)]


async def test_of_two_hosts_the_one_is_taken_that_takes_writes(cluster: Cluster, tmp_path: Path) -> None:
    cluster.create("pair")
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{cluster.port}"
    url = f"postgresql://app:{PASSWORD}@{hosts}/pair?target_session_attrs=read-write"

    store = await PostgresStore.open(url, store_options(tmp_path))
    await store.ping()
    await store.aclose()


async def test_a_user_of_the_tables_alone_needs_no_right_to_make_any(
    cluster: Cluster, tmp_path: Path
) -> None:
    await (await PostgresStore.open(cluster.create("shared"), store_options(tmp_path))).aclose()
    cluster.do(
        "GRANT USAGE ON SCHEMA receiver TO guest",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA receiver TO guest",
        database="shared",
    )

    store = await PostgresStore.open(cluster.url("shared").replace("app:", "guest:"), store_options(tmp_path))
    await store.ping()
    await store.aclose()


async def test_of_those_that_start_at_once_one_makes_the_schema(cluster: Cluster, tmp_path: Path) -> None:
    url = cluster.create("together")

    stores = await asyncio.gather(*(PostgresStore.open(url, store_options(tmp_path)) for _ in range(6)))
    await asyncio.gather(*(store.ping() for store in stores))
    await asyncio.gather(*(store.aclose() for store in stores))

    made = cluster.do(
        "SELECT count(*), count(DISTINCT name) FROM receiver.schema_migrations", database="together"
    )
    assert made[0][0] == made[0][1] >= 1


@asynccontextmanager
async def before(cluster: Cluster, fault: Fault) -> AsyncIterator[str]:
    """The URL of a proxy before the server, without TLS, that does this to its answers."""
    async with fault_proxy(cluster.port) as proxy:
        proxy.fault = fault
        yield cluster.url("record", port=proxy.port, sslmode="disable")


def rewriting(old: bytes, new: bytes) -> Fault:
    async def fault(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await theirs.read(2**16):
            writer.write(piece.replace(old, new))
            await writer.drain()

    return fault
