"""The one process that draws: started when there is something to draw, and ended when it does not answer."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec
import structlog

import receiver
from receiver.errors import Unavailable
from receiver.thumbnails.wire import ANSWER, DRAW_NICE, JOB, START_NICE, Answer

START_SECONDS = 30.0
RESTART_SECONDS = 60.0  # after a process that could not be started
# By the clock, where nobody leaves it much; what it may use of a processor it bounds itself (``draw``).
DRAWN_SECONDS = 60.0
READ_SECONDS = 20.0  # until all of a file has come from where it is stored
END_SECONDS = 1.0  # between the end of its input and SIGKILL
MOST_ANSWER_BYTES = 4 * 1024 * 1024  # beyond it, it is not our program that answers

# It gives way from its first moment on, before anything is imported, and all the way once it can draw.
_PROGRAM = (
    f"import os, sys; os.nice({START_NICE}); sys.path += sys.argv[1:]; "
    "from receiver.thumbnails.draw import main; main()"
)

log = structlog.get_logger()


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be drawn of a file of so many bytes."""

    edge: int  # pixels
    most_bytes: int  # of the image, if that can be had
    file_bytes: int


class ProcessDied(Exception):
    """It ended, or was ended, over a file."""


_NOT_STARTED = (OSError, ProcessDied, TimeoutError)


def pillow_folder() -> Path | None:
    """Where Pillow is installed; None where it is not. Nothing of it is loaded."""
    found = find_spec("PIL")
    return Path(found.origin).parents[1] if found and found.origin else None


class DrawingProcess:
    """Draws one file at a time, in a process that lives from the first to the ``end`` after the last."""

    def __init__(self, pillow: Path | None) -> None:
        self._folders = {str(pillow), str(Path(receiver.__file__).parents[1])}
        self._process: Process | None = None
        self._closed_until = 0.0

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    async def draw(self, job: Job, file: AsyncIterator[bytes]) -> tuple[Answer, bytes]:
        """What the process made of a file, and the image.

        Raises what reading the file raises, ProcessDied, and Unavailable where no process can be started, or
        where the file does not come. Whatever it raises, and where it is cancelled, the process is ended.
        """
        try:
            first = await anext(file, b"")  # a file that is not there is no reason to end anything
            await self._be_there()
            return await self._ask(job, first, file)
        except FileNotFoundError:
            raise
        except BaseException:
            await self.end(at_once=True)
            raise
        finally:
            if isinstance(file, AsyncGenerator):
                await file.aclose()

    async def _be_there(self) -> None:
        if self._process is not None and self._process.returncode is None:
            return
        await self.end()
        now = asyncio.get_running_loop().time()
        if now < self._closed_until:
            raise Unavailable("no process that draws can be started", retry_after_seconds=RESTART_SECONDS)
        try:
            try:
                await self._start()
            except _NOT_STARTED:  # something may have ended it that has nothing to do with it
                await self.end(at_once=True)
                await self._start()
        except _NOT_STARTED as exc:
            self._closed_until = now + RESTART_SECONDS
            log.error("thumbnails.unusable", reason=type(exc).__name__)  # noqa: TRY400 - told in words
            raise Unavailable(
                "the process that draws did not start", retry_after_seconds=RESTART_SECONDS
            ) from exc

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, *self._folders),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        _give_way(self._process.pid, START_NICE)
        async with asyncio.timeout(START_SECONDS):
            await _answer(self._process)
        _give_way(self._process.pid, DRAW_NICE)

    async def _ask(self, job: Job, first: bytes, file: AsyncIterator[bytes]) -> tuple[Answer, bytes]:
        assert self._process is not None  # noqa: S101 - for mypy
        try:
            async with asyncio.timeout(READ_SECONDS):
                await _send(self._process, job, first, file)
        except TimeoutError as exc:
            raise Unavailable("the file did not come in time") from exc
        try:
            async with asyncio.timeout(DRAWN_SECONDS):
                return await _answer(self._process)
        except TimeoutError as exc:
            raise ProcessDied("it took too long") from exc

    async def end(self, *, at_once: bool = False) -> None:
        """End the process, if there is one, and wait until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - for mypy
        process.stdin.close()
        try:
            if not at_once:
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await process.stdout.read()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.stdout.read()  # to its end, which the pipe has with the process
            await process.wait()


def _give_way(pid: int, nice: int) -> None:
    """Let the session of a process be as nice as the process is itself.

    Linux shares a processor out among sessions first (``man 7 sched``: autogroup), and how nice a process is
    says nothing to other sessions. In the service's own session it would give way to the service alone, and
    not to the kernel's threads that a commit waits for.
    """
    with suppress(OSError):  # another system, or one that shares otherwise
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))


async def _send(process: Process, job: Job, first: bytes, file: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - for mypy
    sent = len(first)
    try:
        process.stdin.write(JOB.pack(job.edge, job.most_bytes, job.file_bytes) + first)
        async for part in file:
            sent += len(part)
            process.stdin.write(part)
            await process.stdin.drain()
        await process.stdin.drain()
    except OSError as exc:  # a broken pipe
        raise ProcessDied("it took nothing more") from exc
    if sent != job.file_bytes:
        raise Unavailable("the file is not as long as it was")


async def _answer(process: Process) -> tuple[Answer, bytes]:
    assert process.stdout is not None  # noqa: S101 - for mypy
    try:
        kind, size = ANSWER.unpack(await process.stdout.readexactly(ANSWER.size))
        if size > MOST_ANSWER_BYTES:
            raise ProcessDied("it answered too much")
        return Answer(kind), await process.stdout.readexactly(size)
    except (EOFError, ValueError, OSError) as exc:
        raise ProcessDied("it ended") from exc
