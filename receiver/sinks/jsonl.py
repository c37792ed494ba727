"""Notifications as lines of a file, for a consumer on the same machine.

    jsonl:events.jsonl               in the data folder
    jsonl:///var/spool/events.jsonl  anywhere else

The file only grows at its end. Whoever reads it may rename it away at any time; a new one is begun.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Self
from urllib.parse import unquote

from receiver.errors import Misconfigured, Unavailable
from receiver.folders import make_folder, sync_folder
from receiver.models import Notification
from receiver.options import PartOptions
from receiver.words import Outcome

# The lines carry links that open assets: for the owner and the group, not for everybody.
FILE_MODE = 0o640


class JsonlSink:
    """Appends each notification as one line, written and fsynced when ``publish`` returns.

    What waits at the same time shares one write and one fsync. A repeat, like a publish that was
    cancelled or timed out, may leave the same line twice. A line that a crash cut short stays as it is,
    and the next one starts on a line of its own.
    """

    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Line] = deque()
        self._synced: tuple[int, int] | None = None  # the file whose name is known to be on the disk
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None: the end
        # One thread, so writes come one after the other; its own, so that a disk that hangs here uses
        # up no thread that others need; a daemon, since exit waits for every thread of an executor.
        threading.Thread(target=self._run, name="jsonl-sink", daemon=True).start()

    @classmethod
    def from_url(cls, url: str, options: PartOptions) -> Self:
        """``jsonl:path``, relative to the data folder, or ``jsonl:///absolute/path``."""
        return cls(options.data_dir / _path_in(url, options.name), timeout_seconds=options.timeout_seconds)

    async def publish(self, notification: Notification) -> None:
        """Append one line; it is on the disk when this returns. Raises Unavailable."""
        line = _Line(notification.body + b"\n")
        self._waiting.append(line)
        try:
            await self._in_thread(line)
        finally:
            with suppress(ValueError, IndexError):  # taken already, or the thread is taking just now
                self._waiting.remove(line)  # given up before it was written: not written later either

    async def ping(self) -> None:
        """Prove that the file can be opened for writing and fsynced, making it where there is none."""
        await self._in_thread(None)

    async def aclose(self) -> None:
        # Not waited for: nothing is in flight any more, or it hangs in the kernel.
        self._jobs.put(None)

    async def _in_thread(self, line: "_Line | None") -> None:
        async with _translated(self._path, self._timeout_seconds):
            done: Future[None] = Future()
            self._jobs.put((done, line))
            await asyncio.wrap_future(done)

    def _run(self) -> None:
        while job := self._jobs.get():
            done, line = job
            if not done.set_running_or_notify_cancel():  # given up before its turn came
                continue
            try:
                self._flush(line)
            except Exception as exc:  # noqa: BLE001 - it is for whoever asked
                done.set_exception(exc)
            else:
                done.set_result(None)

    def _flush(self, line: "_Line | None") -> None:
        """Write all that waits. ``line`` came before this call, so afterwards it is settled."""
        batch = list(_taken_from(self._waiting))
        if batch or line is None:
            try:
                self._append(b"".join(each.text for each in batch))
            except OSError as exc:
                for each in batch:
                    each.failure = exc
                if line is None:
                    raise
        if line is not None and line.failure is not None:
            raise line.failure

    def _append(self, text: bytes) -> None:
        file = _open(self._path)
        try:
            info = os.fstat(file)
            if text:
                _write(file, _mending(file, info.st_size) + text)
            os.fsync(file)
            if self._synced != (info.st_dev, info.st_ino):  # new to us: its name must last, too
                sync_folder(self._path.parent)
                self._synced = (info.st_dev, info.st_ino)
        finally:
            os.close(file)


class _Line:
    """One line on its way from the loop to the thread, and what became of it."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.failure: OSError | None = None


_Job = tuple[Future[None], _Line | None]


def _path_in(url: str, name: str) -> Path:
    rest = url.partition(":")[2]
    path = unquote(rest.removeprefix("//"))
    has_host = rest.startswith("//") and not path.startswith("/")
    if has_host or not path or "\0" in path or set(rest) & set("?#"):
        raise Misconfigured(
            f"sink {name}: write jsonl:FILE (in the data folder) or jsonl:///FOLDER/FILE, "
            "without a host and without options; encode ? and # as %3F and %23"
        )
    return Path(path)


def _taken_from(waiting: deque[_Line]) -> list[_Line]:
    taken = []
    with suppress(IndexError):  # another thread may add, so "until it is empty" has to be tried
        while True:
            taken.append(waiting.popleft())
    return taken


@asynccontextmanager
async def _translated(path: Path, timeout_seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except TimeoutError as exc:  # an OSError, too: this one first
        raise Unavailable(f"{path.name}: the disk did not answer in time", outcome=Outcome.TIMEOUT) from exc
    except OSError as exc:
        raise Unavailable(
            f"{path.name}: cannot be written: {exc.strerror}", outcome=Outcome.STORAGE_FAILED
        ) from exc


def _open(path: Path) -> int:
    # Readable as well, to see how the last line ended.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        return os.open(path, flags, FILE_MODE)


def _mending(file: int, size: int) -> bytes:
    """What ends a line that a crash cut short; nothing where the last line is whole."""
    whole = size == 0 or os.pread(file, 1, size - 1) == b"\n"
    return b"" if whole else b"\n"


def _write(file: int, text: bytes) -> None:
    # One write in all but one case: a disk that fills up takes a part, and the next write says so.
    left = memoryview(text)
    while left:
        left = left[os.write(file, left) :]
