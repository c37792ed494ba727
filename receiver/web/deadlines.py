"""A deadline for each of many short reads, at the price of one timer for all."""

import asyncio
from types import TracebackType


class Deadlines:
    """Hands out deadlines of ``timeout_seconds``, up to a twentieth of it late.

    A timer of its own for every request, made and cancelled, costs more than all else that a request
    asks of us; nearly always the body is there before the deadline would be looked at once.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._running: dict[Deadline, float] = {}  # from the earliest to the latest: all last as long
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> "Deadline":
        """A context manager that raises TimeoutError out of whatever its task awaits in it."""
        return Deadline(self)

    def add(self, deadline: "Deadline") -> None:
        loop = asyncio.get_running_loop()
        self._running[deadline] = loop.time() + self.timeout_seconds
        if self._timer is None:
            self._timer = loop.call_later(self.timeout_seconds / 20, self._tick, loop)

    def remove(self, deadline: "Deadline") -> None:
        self._running.pop(deadline, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for deadline in [each for each, ends_at in self._running.items() if ends_at <= now]:
            deadline.expire()
        again = bool(self._running)
        self._timer = loop.call_later(self.timeout_seconds / 20, self._tick, loop) if again else None


class Deadline:
    """One task's deadline; as ``asyncio.timeout`` does, it tells its own cancellation from others'."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task that it can interrupt")
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if not self._expired:
            return
        # Somebody else's cancellation, at shutdown, wins over ours.
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Raise TimeoutError now, out of whatever is awaited."""
        if self._expired:  # once is enough: two cancellations would not be told from others'
            return
        self._deadlines.remove(self)
        self._expired = True
        self._task.cancel()
