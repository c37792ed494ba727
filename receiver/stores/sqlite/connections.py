"""Read-only connections."""

import sqlite3
from pathlib import Path


def connect_read_only(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """A connection for reading, from any one thread at a time.

    It never checkpoints, not even as the last to leave: that is for the one writer to do.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_seconds, check_same_thread=False)
