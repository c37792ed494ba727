"""Connections that read, by purpose: look-ups wait behind no list, and no read outlives who asked for it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from receiver.errors import Unavailable
from receiver.models import Outcome
from receiver.record.cursor import Cursor

T = TypeVar("T")
Query = Callable[[Cursor], T]

MOST_SECONDS = 5.0  # from asking to the answer: beyond it whoever asked is told to come again
RETRY_AFTER_SECONDS = 5.0
INTERRUPT_SECONDS = 0.05
PAGE_SECONDS = 0.25  # the same of one part of a page, once it has begun
PAUSE_SECONDS = 1.0  # the longest that reads under way are waited for


class Purpose(StrEnum):
    """What a read is for; each has threads of its own."""

    DUE = "due"  # what the loops ask before every step
    LOOK_UP = "look-up"  # one thing by its key
    LIST = "list"  # many, for somebody who may leave
    WORK = "work"  # many, for a loop
    PAGE = "page"  # a part of a page, for a person who looks at the rest meanwhile


# Those that may take long.
LONG = frozenset({Purpose.LIST, Purpose.WORK, Purpose.PAGE})

THREADS: Mapping[Purpose, int] = {
    Purpose.DUE: 1,
    Purpose.LOOK_UP: 4,
    Purpose.LIST: 2,
    Purpose.WORK: 1,
    Purpose.PAGE: 2,
}


class ReadConnection(Protocol):
    """One connection that only reads, in the words of its engine; one thread at a time uses it."""

    def run(self, query: Query[T], /) -> T:
        """What ``query`` returns. Raises the engine's own errors."""

    def end(self) -> None:
        """Give up what ``run`` may have left open; nobody interrupts it any more."""

    def interrupt(self) -> None:
        """Have what runs fail soon; called from another thread while something runs."""

    def close(self) -> None: ...


class Readers:
    """Runs queries on read-only connections, one for each thread."""

    def __init__(
        self,
        connect: Callable[[], ReadConnection],
        trouble: Callable[[Exception], str | None],
        threads: Mapping[Purpose, int] = THREADS,
    ) -> None:
        """``trouble`` is the engine's own name for what it could not do, and None for anything else."""
        self._connect = connect
        self._trouble = trouble
        self._pools = {
            purpose: ThreadPoolExecutor(number, thread_name_prefix=f"receiver-{purpose}")
            for purpose, number in threads.items()
        }
        self._is_closing = False
        self._local = threading.local()
        self._connections: list[ReadConnection] = []
        # A thread is handed one long read at a time, so that few are under way when no more may begin.
        self._places = {purpose: asyncio.Semaphore(threads[purpose]) for purpose in LONG}
        self._may_begin = asyncio.Event()
        self._may_begin.set()
        self._under_way: set[Future[Any]] = set()

    async def read(self, query: Query[T], purpose: Purpose) -> T:
        """What ``query`` returns. It ends when the caller is cancelled, and after ``MOST_SECONDS``.

        A part of a page ends after ``PAGE_SECONDS``.

        Raises Unavailable: the file cannot be read now, or not in that time.
        """
        self._refuse_when_closing()
        read = _Read(query)
        try:
            async with asyncio.timeout(MOST_SECONDS):
                if purpose not in LONG:
                    return await asyncio.wrap_future(self._pools[purpose].submit(self._run, read))
                async with self._places[purpose]:
                    await self._may_begin.wait()
                    self._refuse_when_closing()
                    future = self._pools[purpose].submit(self._run, read)
                    self._under_way.add(future)
                    future.add_done_callback(self._under_way.discard)  # by the thread, whoever waits
                    async with asyncio.timeout(PAGE_SECONDS if purpose is Purpose.PAGE else None):
                        return await asyncio.wrap_future(future)
        except TimeoutError as exc:
            raise Unavailable(
                "the database could not be read in time", retry_after_seconds=RETRY_AFTER_SECONDS
            ) from exc
        finally:
            _end(read)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Let no long read begin, and wait a while for those under way."""
        self._may_begin.clear()
        try:
            await asyncio.to_thread(wait, self._under_way.copy(), PAUSE_SECONDS)
            yield
        finally:
            self._may_begin.set()

    async def aclose(self) -> None:
        """End every read, and close. Later ones are refused."""
        self._is_closing = True
        ended = asyncio.gather(*(asyncio.to_thread(pool.shutdown) for pool in self._pools.values()))
        while not ended.done():  # a read may begin just after it would have been interrupted
            for connection in self._connections.copy():
                connection.interrupt()
            await asyncio.wait([ended], timeout=INTERRUPT_SECONDS)
        for connection in self._connections:
            connection.close()

    def _run(self, read: "_Read[T]") -> T:
        self._refuse_when_closing()
        try:
            return read.run(self._connection())
        except Exception as exc:
            if trouble := self._trouble(exc):
                raise Unavailable(
                    f"the database cannot be read now ({trouble})", outcome=Outcome.STORAGE_FAILED
                ) from exc
            raise

    def _connection(self) -> ReadConnection:
        """The thread's own."""
        if not hasattr(self._local, "connection"):
            # Closed by the thread that closes the store, when the reading threads have ended.
            self._local.connection = self._connect()
            self._connections.append(self._local.connection)
        connection: ReadConnection = self._local.connection
        return connection

    def _refuse_when_closing(self) -> None:
        if self._is_closing:
            raise Unavailable("the database is being closed", outcome=Outcome.STORAGE_FAILED)


class _Read(Generic[T]):
    """One read, which can be ended from another thread, and nothing else with it."""

    def __init__(self, query: Query[T]) -> None:
        self._query = query
        self._lock = threading.Lock()
        self._connection: ReadConnection | None = None  # while it runs
        self._is_wanted = True

    def run(self, connection: ReadConnection) -> T:
        with self._lock:
            if not self._is_wanted:  # its thread had taken it, and not begun
                raise Unavailable("nobody waits for this any more")
            self._connection = connection
        try:
            return connection.run(self._query)
        finally:
            with self._lock:
                self._connection = None
            connection.end()

    def interrupt(self) -> bool:
        """Whether it was running: between two statements of it an interrupt is lost."""
        with self._lock:
            self._is_wanted = False
            if self._connection is not None:
                self._connection.interrupt()
            return self._connection is not None


def _end(read: _Read[Any]) -> None:
    """See to it that a read ends which nobody waits for any more; one that has ended is left alone."""
    if read.interrupt():
        asyncio.get_running_loop().call_later(INTERRUPT_SECONDS, _end, read)
