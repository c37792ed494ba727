"""Whether Litestream keeps up with the record, by what it leaves beside the file.

Its folder ``.NAME-litestream`` has one file for each change that it took from the write-ahead log, and keeps
them until five minutes after they were put together in the bucket (Litestream 0.5.17); while it cannot put
anything there, all stay. The tables that it makes are no sign of it: they stay in a record that was restored,
and in one that nobody copies any more.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from receiver.models import Replica


def replica_of(path: Path) -> Replica | None:
    """How far its copy of the database at ``path`` is behind; None where it never ran or cannot be seen."""
    changes = sorted(_times(path.with_name(f".{path.name}-litestream").glob("ltx/0/*.ltx")))
    written = max(_times([path, path.with_name(f"{path.name}-wal")]), default=0.0)
    if not changes:
        return None
    # It keeps its newest change for good, however old.
    unsent = time.time() - changes[0] if len(changes) > 1 else 0.0
    return Replica(
        program="Litestream",
        behind_seconds=max(written - changes[-1], 0.0),
        unsent_seconds=max(unsent, 0.0),
    )


def _times(paths: Iterator[Path] | list[Path]) -> Iterator[float]:
    with suppress(OSError):  # the folder is another user's
        for path in paths:
            with suppress(OSError):  # it is gone again
                yield path.stat().st_mtime
