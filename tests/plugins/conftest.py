"""What every test of a record is followed by."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.postgres import ScratchRecord
from tests.support.recount import check_counts, is_record


@pytest.fixture(autouse=True)
def counted_right(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Whatever a test did to its record, the counts are right when it ends."""
    path = tmp_path / "receiver.db"
    there = "postgres_record" in request.fixturenames
    record: ScratchRecord | None = request.getfixturevalue("postgres_record") if there else None
    yield
    if record is not None:
        with closing(record.connect()) as connection:
            check_counts(connection)
    if path.is_file() and is_record(path):
        with closing(sqlite3.connect(path)) as db:
            check_counts(db)
