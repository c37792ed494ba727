"""What the admin pages ask the record, statement by statement: found by keys, however large the record is."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest

from receiver.record.backlog import NEWEST_DELIVERY
from receiver.runtime import Runtime
from receiver.stores.sqlite import connections
from tests.plugins.test_sqlite_lists import scanned
from tests.support import filled_pages
from tests.support.filled_pages import fill
from tests.web.test_pages import every_page

# What these hold is gone when it has been done, is few by its nature, or is read up to a limit.
OF_A_FEW = re.compile(
    r"SCAN (unended|\w+ USING (COVERING )?INDEX"
    r" (assets_deadlines|outbox_pending|outbox_dead|submissions_unbound|polls_due|deliveries_unrecognised))$"
)
READS = re.compile(r"\s*(SELECT|WITH)\b")


@pytest.fixture
def environment() -> dict[str, str]:
    return filled_pages.ENVIRONMENT


@pytest.fixture(autouse=True)
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is read from the record from now on, with its values."""
    noted: list[str] = []
    connect = connections.connect_read_only

    def connect_and_note(*given: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*given)  # type: ignore[arg-type]
        connection.set_trace_callback(noted.append)
        return connection

    monkeypatch.setattr(connections, "connect_read_only", connect_and_note)
    return noted


@pytest.fixture
def record(runtime: Runtime) -> Iterator[sqlite3.Cursor]:
    with closing(sqlite3.connect(runtime.settings.data_dir / "receiver.db")) as connection:
        yield connection.cursor()


async def test_no_page_looks_through_a_table_that_grows(
    runtime: Runtime,
    backend: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    person: httpx2.AsyncClient,
    statements: list[str],
    record: sqlite3.Cursor,
) -> None:
    await fill(runtime, backend, admin)
    asked = {}
    for place in [*await every_page(runtime), "/admin/find?q=task-op", "/admin/find?q=nobody"]:
        statements.clear()
        assert (await person.get(place)).status_code in {200, 303, 404}, place
        asked.update({re.sub(r"'[^']*'|\d+", "?", sql): sql for sql in statements if READS.match(sql)})
    assert len(asked) > 50
    wholly_read = {}
    for sql in asked.values():
        if sql.strip() != NEWEST_DELIVERY.strip():  # one row from the end
            plan = [row[3] for row in record.execute(f"EXPLAIN QUERY PLAN {sql}")]
            wholly_read[sql] = [line for line in plan if scanned([line]) and not OF_A_FEW.match(line)]
    assert {sql: lines for sql, lines in wholly_read.items() if lines} == {}
