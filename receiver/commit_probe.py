"""Whether the store commits, tried once for everybody who asks."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from receiver.errors import Unavailable

STANDS_SECONDS = 1.0  # how long what was found stands
PATIENCE_SECONDS = 2.0  # for a commit


class CommitProbe:
    """What the last trial of a commit has shown.

    Each is a commit, fsynced, and strangers may ask: so one serves all who ask meanwhile and for a second
    after it, however many they are.
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
            if self._seconds() >= self._stands_until:
                self._found = await self._try()
                self._stands_until = self._seconds() + STANDS_SECONDS
            return self._found

    async def _try(self) -> str:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._ping()
        except TimeoutError:
            return f"no commit within {PATIENCE_SECONDS:g} seconds"
        except Unavailable as exc:
            return str(exc)
        return "ok"
