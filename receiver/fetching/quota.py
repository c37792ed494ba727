"""The limit on the bytes of all files of one task together, counted while they come."""

from collections.abc import Iterator
from contextlib import contextmanager

from receiver.errors import FetchFailed
from receiver.models import AssetWork, Outcome


class _Task:
    """How many bytes its files may still take, and how many users that number has."""

    __slots__ = ("holders", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.holders = 0


class Share:
    """One file's part of its task's bytes."""

    __slots__ = ("_max_bytes", "_task", "taken")

    def __init__(self, task: _Task, max_bytes: int) -> None:
        self._task = task
        self._max_bytes = max_bytes
        self.taken = 0

    def take(self, size: int) -> None:
        """Take ``size`` bytes. Where fewer are left, give back all that was taken and raise FetchFailed."""
        if size > self._task.left:
            self.give_back()  # at once, so that others that come at this moment have it
            detail = f"its task's files have more than {self._max_bytes} bytes together"
            raise FetchFailed(Outcome.TASK_TOO_LARGE, detail)
        self._task.left -= size
        self.taken += size

    def give_back(self) -> None:
        self._task.left += self.taken
        self.taken = 0


class Quotas:
    """Counts the bytes of each task that has a file under way; the record knows those of all others.

    Files of one task may come at the same time, so it is not enough that each of them alone has room.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._tasks: dict[tuple[str, str], _Task] = {}

    @contextmanager
    def hold(self, work: AssetWork) -> Iterator[_Task]:
        """Keep the count of a file's task until the block is left: by then its bytes are on record."""
        key = work.provider, work.task_id
        task = self._tasks.setdefault(key, _Task(self._max_bytes - work.stored_bytes))
        task.holders += 1
        try:
            yield task
        finally:
            task.holders -= 1
            if not task.holders:
                del self._tasks[key]

    @contextmanager
    def share(self, work: AssetWork) -> Iterator[Share]:
        """A file's share, given back if the file fails. Raises FetchFailed where nothing is left."""
        with self.hold(work) as task:
            share = Share(task, self._max_bytes)
            try:
                share.take(1)  # before anybody is asked for the file: it has at least one
                share.give_back()
                yield share
            except BaseException:
                share.give_back()
                raise
