"""Whether the store commits, tried once for everybody who asks."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from receiver.errors import Unavailable

STANDS_SECONDS = 1.0  # how long a result counts
PATIENCE_SECONDS = 2.0  # for a commit


class CommitProbe:
    """Tries a commit, fsynced, and remembers the result for a second.

    Strangers may ask, however many: one trial serves all who ask meanwhile and for a second after it.
    """

    def __init__(self, ping: Callable[[], Awaitable[None]], seconds: Callable[[], float]) -> None:
        self._ping = ping
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._stands_until = -math.inf
        self._found = ""

    async def check(self) -> str:
        """``ok``, or what is wrong with it; a second old at most."""
        async with self._lock:
            if self._seconds() < self._stands_until:
                return self._found
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._ping()
                self._found = "ok"
            except TimeoutError:
                self._found = f"no commit within {PATIENCE_SECONDS:g} seconds"
            except Unavailable as exc:
                self._found = str(exc)
            self._stands_until = self._seconds() + STANDS_SECONDS
            return self._found
