"""A record on SQLite in which nothing is kept yet, migrated once and copied for each test that begins so.

That takes an eighth of the time of migrating; what a migration does has tests of its own.
"""

import tempfile
from functools import cache
from pathlib import Path

from receiver.stores.sqlite.migrations import migrate


def lay_blank_record(folder: Path, name: str = "receiver.db") -> None:
    """Put one where there is none yet. The folder is made if need be, as the service would make it."""
    path = folder / name
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(_blank())
        path.chmod(0o600)


@cache
def _blank() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "receiver.db"
        migrate(path)
        return path.read_bytes()
