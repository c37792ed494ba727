"""Looks at what may hang, one at a time: who asks meanwhile waits for the same look, for so long at most."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Found = TypeVar("Found")


class OneLook(Generic[Found]):
    """A look that is never begun again while it lasts.

    A look that has hung once would else take another thread each time, as nothing can end it.
    """

    def __init__(self) -> None:
        self._looking: asyncio.Task[Found] | None = None

    async def within(self, seconds: float, look: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
        """What it finds, or raises; TimeoutError where that takes longer, and then it goes on."""
        if self._looking is None:
            self._looking = asyncio.create_task(look())
            self._looking.add_done_callback(self._forget)
        looking = self._looking
        done, _ = await asyncio.wait({looking}, timeout=seconds)
        if not done:
            raise TimeoutError
        return looking.result()

    def _forget(self, _: "asyncio.Task[Found]") -> None:
        self._looking = None
