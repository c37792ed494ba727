"""Waiting, in tests, for what comes true in its own time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Found = TypeVar("Found")

PAUSE_SECONDS = 0.01


@overload
async def until(look: Callable[[], Awaitable[Found | None]], seconds: float = 10.0) -> Found: ...


@overload
async def until(look: Callable[[], Found | None], seconds: float = 10.0) -> Found: ...


async def until(look: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Look, which may take awaiting, until there is something; hand it over."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        await asyncio.sleep(PAUSE_SECONDS)


def wait_until(look: Callable[[], Found | None], seconds: float = 10.0) -> Found:
    """The same where no loop runs."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"it did not come true within {seconds:g} s"
        time.sleep(PAUSE_SECONDS)
    return found


async def everyone_in() -> None:
    """Let the tasks of connections that were just taken begin: one cancelled before that closes nothing."""
    for _ in range(5):
        await asyncio.sleep(0)
