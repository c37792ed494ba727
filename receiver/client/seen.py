"""Which events were handled, so that their repeats are not."""

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Protocol

DAY_SECONDS = 86_400


class Seen(Protocol):
    """The ``dedupe_key`` of each event that was handled. A ``set`` is one, until the process ends.

    Both methods may be called by several threads.
    """

    def __contains__(self, key: str, /) -> bool:
        """Whether it was handled."""

    def add(self, key: str, /) -> None:
        """Note that it was; on the disk when this returns, if it is to outlive a crash."""


class SqliteSeen:
    """What was handled, in a file of SQLite that processes of one machine may share.

    Keys are kept for ``days``: repeats of an event come within a day or two.
    """

    def __init__(self, path: str | Path, *, days: float = 30) -> None:
        self._days = days
        self._alone = threading.Lock()
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS seen (key TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID"
        )
        self._db.execute("DELETE FROM seen WHERE at < ?", (int(time.time() - days * DAY_SECONDS),))

    def __contains__(self, key: str, /) -> bool:
        with self._alone, closing(self._db.execute("SELECT 1 FROM seen WHERE key = ?", (key,))) as rows:
            return rows.fetchone() is not None

    def add(self, key: str, /) -> None:
        """It is on the disk when this returns."""
        with self._alone:
            self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, int(time.time())))

    def close(self) -> None:
        """Close the file."""
        with self._alone:
            self._db.close()
