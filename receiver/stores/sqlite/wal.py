"""The write-ahead log, kept short beside reads that overlap.

SQLite begins the log anew when all of it has been copied into the file and nobody reads from it any more.
Where one list begins before another has ended, that moment never comes by itself, and the log grows for as
long as they do. So when it is long, lists wait until those under way have ended, and two small commits find
the moment: after the first the log is copied, as after every commit; the second begins it anew. A checkpoint
that truncates would be simpler; but beside Litestream it holds up every write until it gives up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from receiver.errors import Unavailable
from receiver.record.readers import Readers

log = structlog.get_logger()

LONG_BYTES = 64 * 2**20
MOST_TRIES = 20  # a look-up that is under way just then takes the moment away
PATIENCE_SECONDS = 60.0  # where another program reads the file, it is not for us to say when it ends


def log_bytes(path: Path) -> int:
    """How large the log of the database at ``path`` is; there is none while nobody has that open."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0


class LogKeeper:
    """Sees to it, whenever something is read for long, that the log stays short."""

    def __init__(self, path: Path, readers: Readers, commit: Callable[[], Awaitable[None]]) -> None:
        self._path = path
        self._readers = readers
        self._commit = commit
        self._shortening: asyncio.Task[None] | None = None
        self._rests_until = 0.0

    def look(self) -> None:
        """To be called before each long read."""
        now = asyncio.get_running_loop().time()
        is_at_it = self._shortening is not None and not self._shortening.done()
        if not is_at_it and now >= self._rests_until and log_bytes(self._path) > LONG_BYTES:
            self._shortening = asyncio.create_task(self._shorten())

    async def aclose(self) -> None:
        if self._shortening is not None:
            self._shortening.cancel()
            await asyncio.gather(self._shortening, return_exceptions=True)

    async def _shorten(self) -> None:
        loop = asyncio.get_running_loop()
        began, before = loop.time(), log_bytes(self._path)
        with suppress(Unavailable):  # nothing can be committed now, and so the log does not grow
            async with self._readers.paused():
                for _ in range(MOST_TRIES):
                    await self._commit()
                    if log_bytes(self._path) <= LONG_BYTES:
                        break
        after, seconds = log_bytes(self._path), round(loop.time() - began, 3)
        if after > LONG_BYTES:
            self._rests_until = loop.time() + PATIENCE_SECONDS
            log.info("wal.long", bytes=after, seconds=seconds)
        else:
            log.debug("wal.shortened", bytes=before, seconds=seconds)
