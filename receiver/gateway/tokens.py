"""The gateway's tokens: made once, and looked up without asking the record for each request."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from receiver.clock import Clock
from receiver.models import GatewayToken
from receiver.ports import Store
from receiver.tokens import hash_of_token

# What is known may be so old: for so long a token that was revoked elsewhere lets in here.
FRESH = timedelta(seconds=2)


class TokenBook:
    """Knows the tokens as they were at most ``FRESH`` ago. All are read at once: strangers cost no reads."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._by_hash: Mapping[str, GatewayToken] = {}
        self._read_at: timedelta | None = None
        self._reading = asyncio.Lock()

    async def find(self, shown: str) -> GatewayToken | None:
        """The token that was shown, if it lets in. Raises Unavailable where that cannot be known.

        It is looked up by its hash, so that the time says nothing about it.
        """
        await self._refresh()
        token = self._by_hash.get(hash_of_token(shown))
        return token if token is not None and token.is_good(self._clock.now()) else None

    def forget(self) -> None:
        """Read again before the next is let in: one was made or revoked by this process."""
        self._read_at = None

    async def _refresh(self) -> None:
        if self._is_fresh():
            return
        async with self._reading:
            if self._is_fresh():  # by whoever read meanwhile
                return
            began = self._clock.uptime()
            self._by_hash = {each.hash: each for each in await self._store.list_gateway_tokens()}
            self._read_at = began

    def _is_fresh(self) -> bool:
        return self._read_at is not None and self._clock.uptime() < self._read_at + FRESH
