"""Waiting, in tests, for what comes true in its own time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Found = TypeVar("Found")

# From one look, which may be a request, to the next: short at first, then a twentieth of what was waited.
LEAST_PAUSE_SECONDS = 0.01
MOST_PAUSE_SECONDS = 0.1
# Only what never comes true takes so long: where many tests share few cores, anything else may take ten.
PATIENCE_SECONDS = 60.0


@overload
async def until(look: Callable[[], Awaitable[Found | None]], seconds: float = PATIENCE_SECONDS) -> Found: ...


@overload
async def until(look: Callable[[], Found | None], seconds: float = PATIENCE_SECONDS) -> Found: ...


async def until(look: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Look, which may take awaiting, until there is something; hand it over."""
    began = time.monotonic()
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(_pause(time.monotonic() - began, seconds))


def wait_until(look: Callable[[], Found | None], seconds: float = PATIENCE_SECONDS) -> Found:
    """The same where no loop runs."""
    began = time.monotonic()
    while not (found := look()):
        time.sleep(_pause(time.monotonic() - began, seconds))
    return found


def _pause(waited: float, seconds: float) -> float:
    """How long until the next look; fails where the time is over."""
    assert waited < seconds, f"it did not come true within {seconds:g} s"
    return min(MOST_PAUSE_SECONDS, max(LEAST_PAUSE_SECONDS, waited / 20))


async def everyone_in() -> None:
    """Let the tasks of connections that were just taken begin: one cancelled before that closes nothing."""
    for _ in range(5):
        await asyncio.sleep(0)
