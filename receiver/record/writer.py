"""One thread that owns the write connection, and commits together what waits together.

Coroutines hand in functions that take its cursor. What waits is gathered on the loop and handed over at
once; the thread runs it inside one transaction and resolves the futures only after that is durable: the
price of durability is shared by everyone who waits (group commit).
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import structlog

from receiver.errors import ReceiverError, Unavailable
from receiver.models import Outcome
from receiver.record.cursor import Cursor

log = structlog.get_logger()

T = TypeVar("T")
Item = TypeVar("Item")
Work = Callable[[Cursor], T]
WorkForAll = Callable[[Cursor, Sequence[Item]], Sequence[T | ReceiverError]]
Observer = Callable[[int, float], None]  # rows committed together, seconds

MOST_TOGETHER = 512
MOST_WAITING = 20_000
RETRY_AFTER_SECONDS = 2.0


class WriteConnection(Protocol):
    """The one connection of a ``Writer``, in the words of its engine. Only the writer's thread uses it."""

    @property
    def cursor(self) -> Cursor:
        """The one cursor of all that is written: making one costs half a statement.

        What is wrong with a change may be raised by what comes after it, at the latest by a RELEASE or by
        ``commit``.
        """

    @property
    def changes(self) -> int:
        """How many rows have been changed so far."""

    @property
    def in_transaction(self) -> bool:
        """Whether one has begun that can still be committed or rolled back."""

    def begin(self, *, is_durable: bool = True) -> None:
        """Without ``is_durable`` a loss of power may take back what was committed, until the next that is."""

    def commit(self) -> None:
        """Return once it is durable, where it is to be.

        May raise, still in the transaction, what is wrong with a change before it.
        """

    def roll_back(self) -> None: ...

    def trouble(self, exc: Exception) -> str | None:
        """The engine's own name for what it could not do, never contents of rows; None for a bug of ours."""

    def is_outage(self, exc: Exception) -> bool:
        """Whether nothing can be committed now, whoever's work it came of, so that nobody's is tried."""

    def reopen(self) -> None:
        """Have a new connection after a failure, or at the next ``begin``."""

    def close(self) -> None: ...


class _Job:
    """An item waiting for its commit, what is to be done with it, and the coroutine that waits for it."""

    __slots__ = ("error", "future", "is_durable", "item", "result", "work")

    def __init__(
        self, work: WorkForAll[Any, Any], item: Any, future: "asyncio.Future[Any]", *, is_durable: bool
    ) -> None:
        self.work = work
        self.is_durable = is_durable
        self.item = item
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def end(self, end: Any) -> None:
        self.result, self.error = (None, end) if isinstance(end, Exception) else (end, None)


class Writer:
    """Runs functions against the write connection. Start it inside the event loop that uses it."""

    def __init__(self, connection: WriteConnection, observe: Observer | None) -> None:
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[list[_Job]] = queue.SimpleQueue()
        self._waiting: list[_Job] = []
        self._gathering = False  # a batch is being gathered or committed; the next one follows it
        self._closed = False
        self._trouble: str | None = None  # why nothing can be committed now
        self._connection = connection
        self._thread = threading.Thread(target=self._run, name="receiver-writer", daemon=True)
        self._thread.start()

    async def write(self, work: Work[T], *, is_durable: bool = True) -> T:
        """Run ``work`` in a transaction; what it returned, once that is durable.

        Without ``is_durable`` a loss of power may take back all of it, as long as nothing durable was
        written since.

        ``work`` must be a function of the database alone: after a neighbour's failure it is run again.
        A ReceiverError that it raises before its first write is its answer and hurts nobody else.
        """
        self._check_room()
        return await self._enqueue(self._do_each, work, is_durable=is_durable)

    async def write_batched(self, work: WorkForAll[Item, T], item: Item) -> T:
        """Run ``work`` once for all items that wait for it in a row, ``item`` among them.

        ``work`` returns what became of each, in their order. A ReceiverError among these is raised here, and
        says that nothing was written for its item.
        """
        self._check_room()
        # A caller that goes away cancels only its future: the thread commits the work all the same.
        return await self._enqueue(work, item)

    async def write_each(self, work: WorkForAll[Item, T], items: Sequence[Item]) -> list[T | Exception]:
        """Do the same for several items; what became of each, in their order, errors among it."""
        self._check_room()
        futures = [self._enqueue(work, item) for item in items]
        ends: Sequence[Any] = await asyncio.gather(*futures, return_exceptions=True)
        return list(ends)  # nobody but us could have cancelled one of them

    async def aclose(self) -> None:
        """Commit what waits, checkpoint, close. Later writes are refused."""
        if not self._closed:
            self._closed = True
            self._queue.put(self._waiting)
            self._waiting = []
            self._queue.put([])
            await asyncio.to_thread(self._thread.join)

    def _check_room(self) -> None:
        if self._closed or len(self._waiting) >= MOST_WAITING:
            raise Unavailable("too much is waiting to be stored", retry_after_seconds=RETRY_AFTER_SECONDS)

    def _enqueue(
        self, work: WorkForAll[Item, T], item: Item, *, is_durable: bool = True
    ) -> "asyncio.Future[T]":
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Job(work, item, future, is_durable=is_durable))
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._hand_over, 0)
        return future

    def _hand_over(self, seen: int) -> None:
        """Give the thread all that waits, once the loop has nothing to add right away.

        So one commit serves everybody who is here, and the thread finds the interpreter idle.
        """
        if seen < len(self._waiting) < MOST_TOGETHER:
            self._loop.call_soon(self._hand_over, len(self._waiting))
            return
        batch, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
        self._gathering = bool(batch)
        if batch:
            self._queue.put(batch)

    def _run(self) -> None:
        while batch := self._queue.get():
            started = time.perf_counter()
            try:
                if not self._try_together(batch):
                    self._try_each_alone(batch)
                self._tell(None)
                if self._observe:
                    self._observe(len(batch), time.perf_counter() - started)
            except Exception as exc:  # noqa: BLE001 - this thread must outlive everything, or all would wait for ever
                for job in batch:
                    job.end(self._translate(exc))
                with suppress(Exception):  # short of memory it may be anything
                    self._tell(self._connection.trouble(exc) or type(exc).__name__)
                    self._connection.roll_back()
                with suppress(Exception):
                    self._connection.reopen()
            self._loop.call_soon_threadsafe(self._resolve, batch)
        self._connection.close()

    def _try_together(self, batch: list[_Job]) -> bool:
        """The usual way: no savepoints. False when a row was bad; then nothing was written."""
        connection = self._connection
        # After a failure the next commit is to show that the disk takes it.
        connection.begin(is_durable=self._trouble is not None or any(job.is_durable for job in batch))
        try:
            for work, jobs in groupby(batch, key=attrgetter("work")):
                self._do(work, list(jobs))
            connection.commit()
        except Exception as exc:
            if connection.is_outage(exc) or not connection.in_transaction:
                raise
            connection.roll_back()  # whose fault it was shows when each is tried alone
            return False
        return True

    def _try_each_alone(self, batch: list[_Job]) -> None:
        """The careful way after a bad row: it alone fails, its neighbours are committed."""
        connection = self._connection
        connection.begin()
        cursor = connection.cursor
        for job in batch:
            cursor.execute("SAVEPOINT job")
            try:
                self._do(job.work, [job])
                cursor.execute("RELEASE job")
            except Exception as exc:
                # Given up as a whole: the disk is full, the server is gone.
                if not connection.in_transaction or connection.is_outage(exc):
                    raise
                job.end(self._translate(exc))
                cursor.execute("ROLLBACK TO job")
                cursor.execute("RELEASE job")
        connection.commit()

    def _do(self, work: WorkForAll[Any, Any], jobs: list[_Job]) -> None:
        changes = self._connection.changes
        ends = work(self._connection.cursor, [job.item for job in jobs])
        if isinstance(ends[-1], ReceiverError) and all(isinstance(end, ReceiverError) for end in ends):
            self._check_untouched(changes)
        for job, end in zip(jobs, ends, strict=True):
            job.end(end)

    def _do_each(self, db: Cursor, works: Sequence[Work[T]]) -> list[T | ReceiverError]:
        """Do what has nothing in common, one after the other."""
        ends: list[T | ReceiverError] = []
        for work in works:
            changes = self._connection.changes
            try:
                ends.append(work(db))
            except ReceiverError as exc:
                self._check_untouched(changes)
                ends.append(exc)
        return ends

    def _check_untouched(self, changes: int) -> None:
        """Raise where what was refused has written before: committed, it would be there all the same."""
        if self._connection.changes != changes:
            raise RuntimeError(
                "what was refused had written already; a rule must refuse before the first write"
            )

    def _resolve(self, batch: list[_Job]) -> None:
        for job in batch:
            if job.future.done():  # cancelled
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        self._loop.call_soon(self._hand_over, 0)

    def _translate(self, exc: Exception) -> Exception:
        """What the engine could not do is Unavailable; anything else is a bug and stays what it is."""
        trouble = self._connection.trouble(exc)
        if trouble is None:
            return exc
        unavailable = Unavailable(
            f"the database cannot commit now ({trouble})",
            outcome=Outcome.STORAGE_FAILED,
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
        unavailable.__cause__ = exc
        return unavailable

    def _tell(self, trouble: str | None) -> None:
        """One line when nothing can be committed any more, whyever, and one when it can again."""
        if trouble and not self._trouble:
            log.error("store.failed", reason=trouble)
            self._trouble = trouble
        elif self._trouble and not trouble:
            log.info("store.recovered", after=self._trouble)
            self._trouble = None
