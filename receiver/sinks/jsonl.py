"""Notifications as lines of a file, for a consumer on the same machine.

    jsonl:events.jsonl               in the data folder
    jsonl:///var/spool/events.jsonl  anywhere else
    jsonl:///dev/stdout              a standard stream, a FIFO or a terminal

A file only grows at its end. Whoever reads it may rename it away at any time and then read it to its end: a
line that could have come too late for that is written again to the new file. Copying and truncating it loses
what comes in between. What is no file cannot be synced: a line is written once, and whoever reads it has it.
"""

import asyncio
import errno
import os
import re
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Self
from urllib.parse import unquote

from receiver.errors import Misconfigured, Unavailable
from receiver.folders import make_folder, open_own, sync_folder, try_folder
from receiver.models import Notification, Outcome
from receiver.options import PluginOptions

# The lines carry links that open assets: for the owner and the group, not for everybody.
FILE_MODE = 0o640
# Of the time that a publish has, a pipe's reader has this much: then there is time to say what it took.
PIPE_SHARE = 0.9
MOST_RENAMES = 10  # of the file while it is written to, before that counts as a failure

# How each of our lines begins, and how a whole one looks. A crash may have cut a file's first line short, or
# left zeros in its place.
_BEGINNING = re.compile(rb'[\0\s]*(?:\{ *"|\Z)')
_WHOLE_LINE = re.compile(rb'^\0*\{ *".*\}\r?$', re.MULTILINE)
_HEAD_BYTES = 4096
_TAIL_BYTES = 1 << 20  # an event has a few KB, and with a hundred files some dozen

_SHARED = (Path("/dev"), Path("/proc"))  # where a file is another's on purpose, such as the log of our output
_STANDARD_STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}


class JsonlSink:
    """Appends each notification as one line, written and fsynced when ``publish`` returns.

    What waits at the same time shares one write and one fsync. A repeat, like a publish that was
    cancelled or timed out, or a file that is renamed away, may leave the same line twice. A line that a
    crash cut short stays as it is, and the next one starts on a line of its own.
    """

    def __init__(self, path: Path, *, timeout_seconds: float, follows_links: bool = True) -> None:
        self._path = path
        self._follows_links = follows_links
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[_Lines] = deque()
        self._file = _File(path, follows_links=follows_links)
        self._pipe = _Pipe(path)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()  # None: the end
        # One thread, so writes come one after the other; its own, so that a disk that hangs here uses
        # up no thread that others need; a daemon, since exit waits for every thread of an executor.
        threading.Thread(target=self._run, name="jsonl-sink", daemon=True).start()

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``jsonl:path``, relative to the data folder, or ``jsonl:///absolute/path``.

        Raises Misconfigured also for a file that holds something else than such lines.
        """
        rest = url.partition(":")[2]
        text = unquote(rest.removeprefix("//"))
        has_host = rest.startswith("//") and not text.startswith("/")
        if has_host or not text or "\0" in text or set(rest) & set("?#"):
            raise Misconfigured(
                f"sink {options.name}: write jsonl:FILE (in the data folder) or jsonl:///FOLDER/FILE, "
                "without a host and without options; encode ? and # as %3F and %23"
            )
        path = Path(text)
        try:
            _check_place(options.data_dir / path)
        except OSError as exc:
            raise Misconfigured(f"sink {options.name}: {path} is not written to: {exc.strerror}") from exc
        return cls(
            options.data_dir / path,
            timeout_seconds=options.timeout_seconds,
            follows_links=path.is_absolute(),  # as somebody chose it; what lies in our folder is ours alone
        )

    async def publish(self, notification: Notification) -> None:
        """Append one line; it is on the disk when this returns. Raises Unavailable."""
        await self._append(self._lines([notification]))

    async def publish_many(self, notifications: Sequence[Notification]) -> list[Unavailable | None]:
        """Append a line for each, all in one write. Raises Unavailable, though some may be there then.

        Where a pipe's reader is slow, those that it took in time are not among those that are Unavailable.
        """
        lines = self._lines(notifications)
        try:
            await self._append(lines)
        except Unavailable as exc:
            if not lines.taken:
                raise
            return [None] * lines.taken + [exc] * (len(notifications) - lines.taken)
        return [None] * len(notifications)

    async def ping(self) -> None:
        """Prove that the file can be opened and fsynced, or be made (none is left); that a pipe is read."""
        await self._in_thread(None)

    async def aclose(self) -> None:
        # Not waited for: nothing is in flight any more, or it hangs in the kernel.
        self._jobs.put(None)

    def _lines(self, notifications: Sequence[Notification]) -> "_Lines":
        give_up_at = time.monotonic() + PIPE_SHARE * self._timeout_seconds
        return _Lines([each.body + b"\n" for each in notifications], give_up_at)

    async def _append(self, lines: "_Lines") -> None:
        self._waiting.append(lines)
        try:
            await self._in_thread(lines)
        finally:
            with suppress(ValueError, IndexError):  # taken already, or the thread is taking just now
                self._waiting.remove(lines)  # given up before they were written: not written later either

    async def _in_thread(self, lines: "_Lines | None") -> None:
        name = self._path.name
        try:
            async with asyncio.timeout(self._timeout_seconds):
                done: Future[None] = Future()
                self._jobs.put((done, lines))
                await asyncio.wrap_future(done)
        except TimeoutError as exc:  # an OSError, too: this one first
            raise Unavailable(f"{name}: it took no line in time", outcome=Outcome.TIMEOUT) from exc
        except BrokenPipeError as exc:
            raise Unavailable(f"{name}: nobody reads it", outcome=Outcome.CONNECT_FAILED) from exc
        except OSError as exc:
            detail = f"{name}: cannot be written: {exc.strerror}"
            raise Unavailable(detail, outcome=Outcome.STORAGE_FAILED) from exc

    def _run(self) -> None:
        while job := self._jobs.get():
            done, lines = job
            if not done.set_running_or_notify_cancel():  # given up before its turn came
                continue
            try:
                self._flush(lines)
            except Exception as exc:  # noqa: BLE001 - it is for whoever asked
                done.set_exception(exc)
            else:
                done.set_result(None)
        self._pipe.close()

    def _flush(self, lines: "_Lines | None") -> None:
        """Have ``lines`` written, with all that waits; or see whether any could be."""
        if lines is not None:
            if (
                not lines.is_settled
            ):  # else whoever comes behind them may take long, and has a call of its own
                self._write_waiting()
            if lines.failure is not None:
                raise lines.failure
        elif self._leads_to_pipe():  # a ping
            self._pipe.append([], time.monotonic())
        else:
            self._file.try_out()

    def _write_waiting(self) -> None:
        batch: list[_Lines] = []
        with suppress(IndexError):  # another thread may add, so "until it is empty" has to be tried
            while True:
                batch.append(self._waiting.popleft())
        if batch:
            taken, failure = self._write(batch)
            for each in batch:
                each.settle(taken, failure)
                taken -= each.taken

    def _write(self, batch: "Sequence[_Lines]") -> tuple[int, OSError | None]:
        """How many lines were taken, from the first on, and why no more."""
        lines = [line for each in batch for line in each.lines]
        try:
            if self._leads_to_pipe():
                self._pipe.append(lines, min(each.give_up_at for each in batch))
            else:
                self._pipe.close()
                self._file.append(b"".join(lines))
        except _SlowReader as exc:
            return exc.taken, exc
        except OSError as exc:
            return 0, exc
        return len(lines), None

    def _leads_to_pipe(self) -> bool:
        """Whether the path is something to write to that cannot be synced; follows /dev/stdout."""
        try:
            mode = self._path.stat(follow_symlinks=self._follows_links).st_mode
        except OSError:  # not there yet; or the attempt to open it will tell
            return False
        return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class _File:
    """A file that keeps its name from before a line is written until it is on the disk."""

    def __init__(self, path: Path, *, follows_links: bool) -> None:
        self._path = path
        self._follows_links = follows_links
        self._named: tuple[int, int] | None = None  # the file whose name is known to be on the disk

    def append(self, text: bytes) -> None:
        for _ in range(MOST_RENAMES):
            if self._append(text):
                return
        raise OSError(errno.EAGAIN, "it was renamed away each time it was written to")

    def try_out(self) -> None:
        """Open and sync the file; where there is none, try an unnamed one in its folder."""
        try:
            file = self._open(os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            try_folder(self._path.parent)
            return
        try:
            _refuse_what_takes_no_lines(self._path, file, os.fstat(file))
            os.fsync(file)
        finally:
            os.close(file)

    def _append(self, text: bytes) -> bool:
        """Append, and say whether the file still has its name: else its reader may have passed its end."""
        file = self._open_or_make()
        try:
            info = os.fstat(file)
            _refuse_what_takes_no_lines(self._path, file, info)
            if text:
                is_whole = info.st_size == 0 or os.pread(file, 1, info.st_size - 1) == b"\n"
                # A crash may have cut the last line short; it ends there.
                _write(file, text if is_whole else b"\n" + text)
            os.fsync(file)
            # An empty file is new, though it may have the number of one that is gone.
            if info.st_size == 0 or self._named != (info.st_dev, info.st_ino):
                sync_folder(self._path.parent)
                self._named = (info.st_dev, info.st_ino)
            try:
                return os.path.samestat(self._path.stat(follow_symlinks=self._follows_links), info)
            except FileNotFoundError:
                return False
        finally:
            os.close(file)

    def _open_or_make(self) -> int:
        # Readable as well, to see how the last line ended.
        flags = os.O_RDWR | os.O_APPEND
        try:
            return self._open(flags)
        except FileNotFoundError:
            make_folder(self._path.parent)
        try:
            file = self._open(flags | os.O_CREAT | os.O_EXCL)
        except FileExistsError:  # somebody was quicker, or it is a link that leads to nothing yet
            return self._open(flags | os.O_CREAT)
        if self._follows_links:  # its place was chosen for a consumer, who may be in the group only
            os.fchmod(file, FILE_MODE)
        return file

    def _open(self, flags: int) -> int:
        opens = os.open if self._follows_links else open_own
        return opens(self._path, flags, FILE_MODE)


class _Pipe:
    """A FIFO, a terminal or a standard stream: written once, as nothing can be synced there.

    It stays open between lines: the reader of a FIFO is at its end once nobody has it open for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._is_torn = False  # the last line that was written was not written whole

    def append(self, lines: Sequence[bytes], give_up_at: float) -> None:
        """Raises _SlowReader when it was not ready for all by then, on the clock that only runs forward."""
        if self._file is not None and _is_broken(self._file):
            self.close()
        try:
            self._file = _open_pipe(self._path) if self._file is None else self._file
            if _is_broken(self._file):
                raise BrokenPipeError(errno.EPIPE, "nobody reads it")
            self._write(self._file, lines, give_up_at)
        except _SlowReader:
            raise  # it may go on
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._is_torn = None, False

    def _write(self, file: int, lines: Sequence[bytes], give_up_at: float) -> None:
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        for number, line in enumerate(lines):
            left = memoryview(b"\n" + line if self._is_torn else line)
            while left:
                seconds = give_up_at - time.monotonic()
                if seconds <= 0 or not poll.poll(seconds * 1000):
                    raise _SlowReader(taken=number)
                with suppress(BlockingIOError):  # others write to it, too
                    # So much is taken whole, and without a wait once there is room.
                    left = left[os.write(file, left[: select.PIPE_BUF]) :]
                    self._is_torn = bool(left)


class _SlowReader(TimeoutError):
    """It took these lines of a pipe in time, and no more."""

    def __init__(self, taken: int) -> None:
        super().__init__(errno.ETIMEDOUT, "its reader takes nothing")
        self.taken = taken


class _Lines:
    """One line, or several, on the way from the loop to the thread, and what became of them."""

    def __init__(self, lines: Sequence[bytes], give_up_at: float) -> None:
        self.lines = lines
        self.give_up_at = give_up_at  # where they go to a pipe
        self.is_settled = False
        self.taken = 0  # so many of them, from the first on
        self.failure: OSError | None = None  # why not the others

    def settle(self, taken: int, failure: OSError | None) -> None:
        self.taken = min(taken, len(self.lines))
        self.failure = failure if self.taken < len(self.lines) else None
        self.is_settled = True


_Job = tuple[Future[None], _Lines | None]


def _check_place(path: Path) -> None:
    """Raises OSError where a file takes no lines; what else is wrong with it, the first use finds out."""
    try:
        # Not blocking, for what is no file; a link is followed, as nothing is written.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        info = os.fstat(file)
        if stat.S_ISREG(info.st_mode):
            _refuse_what_takes_no_lines(path, file, info)
    finally:
        os.close(file)


def _refuse_what_takes_no_lines(path: Path, file: int, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is neither a file nor a pipe")
    # A database would write over our lines, and of anything else they would make a ruin.
    begins = _BEGINNING.match(os.pread(file, _HEAD_BYTES, 0))  # with such a line, or is empty
    holds_lines = begins or _WHOLE_LINE.search(
        os.pread(file, _TAIL_BYTES, max(0, info.st_size - _TAIL_BYTES))
    )
    if not holds_lines and not any(map(path.is_relative_to, _SHARED)):
        raise OSError(errno.EINVAL, "it holds no lines of JSON: give the sink a file of its own")


def _open_pipe(path: Path) -> int:
    # Not blocking: opening a FIFO would wait for its reader. No reader is ENXIO.
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        if str(path) in _STANDARD_STREAMS and exc.errno in (errno.ENXIO, errno.EACCES):
            # A socket, as under systemd, or a pipe that another user made: neither can be opened anew.
            return os.dup(_STANDARD_STREAMS[str(path)])
        if exc.errno == errno.ENXIO:
            raise BrokenPipeError(errno.EPIPE, "nobody reads it") from exc
        raise


def _is_broken(file: int) -> bool:
    """Whether nobody reads it any more."""
    poll = select.poll()
    poll.register(file, 0)
    return bool(poll.poll(0))  # only failures are told unasked


def _write(file: int, text: bytes) -> None:
    # One write in all but one case: a disk that fills up takes a part, and the next write says so.
    left = memoryview(text)
    while left:
        left = left[os.write(file, left) :]
