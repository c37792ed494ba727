"""What a kill leaves of a SQLite record: its files as they are, opened elsewhere."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from receiver.ports import Store
from receiver.stores.sqlite import SqliteStore
from tests.contracts.opening import store_options
from tests.contracts.store_kills import KillsContract, Left, OpenObserved


class Files(Left):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def find(self, *queries: str) -> list[list[Any]]:
        with tempfile.TemporaryDirectory() as image:
            for name in ("receiver.db", "receiver.db-wal"):
                shutil.copy(self._folder / name, image)
            with closing(sqlite3.connect(Path(image) / "receiver.db")) as db:
                return [db.execute(query).fetchall() for query in queries]


@pytest.fixture
def left(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def open_observed(tmp_path: Path) -> OpenObserved:
    async def open_observed(observe: Callable[[int, float], None]) -> Store:
        options = replace(store_options(tmp_path), observe=observe)
        return await SqliteStore.open("sqlite:receiver.db", options)

    return open_observed


@pytest.mark.slow  # a copy of the files for each commit
class TestSqliteKills(KillsContract):
    """What is committed, and when that is said."""
