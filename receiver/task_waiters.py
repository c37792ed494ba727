"""Requests that wait for a task's end, until the end wakes them."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress

from receiver.errors import Unavailable

MOST_SECONDS = 60
MOST_WAITING = 512
MOST_OF_ONE = 256  # with one token
FALLBACK_SECONDS = 10.0  # a wake-up is a hint, the store is the truth
RETRY_AFTER_SECONDS = 5


class TaskWaiters:
    """Waiting requests by task; each costs a place here and nothing else.

    ``tell`` hands a task's mark to other processes, which ``hear`` it: a mark tells nothing of the task.
    """

    def __init__(
        self,
        *,
        tell: Callable[[str], None] | None = None,
        most_waiting: int = MOST_WAITING,
        most_of_one: int = MOST_OF_ONE,
        fallback_seconds: float = FALLBACK_SECONDS,
    ) -> None:
        self._tell = tell
        self.most_waiting = most_waiting
        self.most_of_one = most_of_one
        self.fallback_seconds = fallback_seconds
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)  # by the task's mark
        self._places: Counter[str] = Counter()  # by who waits
        self._is_stopping = False

    @property
    def places(self) -> int:
        """How many wait."""
        return self._places.total()

    def notify(self, provider: str, task_id: str | None) -> None:
        """Wake those who wait for this task: it may have ended."""
        if self._tell is None and not self._waiting:
            return
        mark = _mark((provider, task_id or ""))
        self.hear(mark)
        if self._tell is not None:
            self._tell(mark)

    def hear(self, mark: str) -> None:
        """Wake those who wait for the task of this mark."""
        for awake in self._waiting.get(mark, ()):
            awake.set()

    def wake_all(self) -> None:
        """Let everybody look."""
        for mark in self._waiting:
            self.hear(mark)

    def stop(self) -> None:
        """Let nobody wait any more."""
        self._is_stopping = True
        self.wake_all()

    async def wait(
        self, task: tuple[str, str], who: str, seconds: float, has_ended: Callable[[], Awaitable[bool]]
    ) -> None:
        """Return once the task has ended, the time is up, or all is stopped.

        Raises Unavailable where too many wait, in all or with this token: with an answer at once, clients
        that ask again at once would never rest.
        """
        if self.places >= self.most_waiting or self._places[who] >= self.most_of_one:
            raise Unavailable("too many wait for tasks", retry_after_seconds=RETRY_AFTER_SECONDS)
        loop, awake = asyncio.get_running_loop(), asyncio.Event()
        until = loop.time() + seconds
        self._places[who] += 1
        mark = _mark(task)
        self._waiting[mark].add(awake)
        try:
            while not self._is_stopping and not await has_ended() and loop.time() < until:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(until - loop.time(), self.fallback_seconds)):
                        await awake.wait()
                awake.clear()
        finally:
            self._waiting[mark].discard(awake)
            if not self._waiting[mark]:
                del self._waiting[mark]
            self._places[who] -= 1
            if not self._places[who]:
                del self._places[who]


def _mark(task: tuple[str, str]) -> str:
    return hashlib.blake2b("/".join(task).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
