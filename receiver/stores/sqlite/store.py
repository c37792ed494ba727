"""The Store port on one SQLite file: every method one transaction, one line of dispatch.

Writes go to the writer thread, reads to read-only connections in a few threads. A lock file beside the
database keeps a second process out, so everything leased by a process before us is free at start.
"""

import asyncio
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

from receiver.errors import Misconfigured, Unavailable
from receiver.leased import AssetWork, OutboxWork, PollWork, Settlement
from receiver.models import (
    Event,
    Receipt,
    RecordCopy,
    Recording,
    Stats,
    Submission,
    Task,
    TaskFilter,
    TaskPage,
)
from receiver.options import StoreOptions
from receiver.ports import Due
from receiver.repairs import DeadLetterPage, KeptDelivery, Replay, ReplayWork, Requeued, WorkFilter
from receiver.stores.sqlite import (
    backup,
    counting,
    dead_letters,
    matching,
    owning,
    polling,
    recording,
    replaying,
    retention,
    settling,
    stepping,
    viewing,
)
from receiver.stores.sqlite.migrations import migrate, pending
from receiver.stores.sqlite.writer import Writer
from receiver.words import Outcome, ReplayState, Stage, Verdict

T = TypeVar("T")
READERS = 4
READ_BUSY_SECONDS = 3.0
INTERRUPT_SECONDS = 0.05

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


class SqliteStore:
    """Implements ``ports.Store`` and ``ports.FileRecord``. Build it with ``open``."""

    def __init__(self, path: Path, lock: int, writer: Writer, options: StoreOptions) -> None:
        self._path = path
        self._lock = lock
        self._writer = writer
        self._options = options
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="receiver-reader")
        # What the loops ask is found at once, and must not wait behind those who look through whole tables.
        self._loops_reader = ThreadPoolExecutor(1, thread_name_prefix="receiver-due")
        self._is_closing = False
        self._local = threading.local()
        self._open_readers: list[sqlite3.Connection] = []

    @classmethod
    async def open(cls, url: str, options: StoreOptions) -> Self:
        """Lock, migrate and open ``sqlite:PATH``, making the file where there is none."""
        path = path_of(url, options.data_dir)
        lock = await asyncio.to_thread(_take_lock, path)
        try:
            await asyncio.to_thread(migrate, path)
            writer = Writer(path, options.observe)
            store = cls(path, lock, writer, options)
            await store._writer.write(lambda c: free_all_leases(c, options.clock.now()))
            if options.routes:  # whoever opens the record for a look around knows of no sinks
                await store._writer.write(
                    lambda c: stepping.withdraw_unsendable(c, options.clock.now(), options)
                )
        except BaseException as exc:
            os.close(lock)
            error = exc if isinstance(exc, sqlite3.Error) else exc.__cause__
            if isinstance(error, sqlite3.Error):
                raise backup.unopened(path, error) from exc
            raise
        return store

    @classmethod
    async def pending_migrations(cls, url: str, data_dir: Path) -> list[str] | None:
        return await asyncio.to_thread(pending, path_of(url, data_dir))

    # --- the file, whoever has it open: ``ports.FileRecord`` -------------------------------------------

    @staticmethod
    def file_of(url: str, data_dir: Path) -> Path:
        return path_of(url, data_dir)

    @staticmethod
    def examine(path: Path, most_seconds: float) -> bool:
        return backup.examine(path, most_seconds)

    @staticmethod
    def copy_record(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
        backup.copy_record(source, target, progress)

    @staticmethod
    def check_copy(source: Path, target: Path) -> RecordCopy:
        return backup.check_copy(source, target)

    @staticmethod
    def stored_files(copy: Path) -> Iterator[tuple[str, int]]:
        return backup.stored_files(copy)

    # --- writes ---------------------------------------------------------------------------------------

    async def record(self, record: Recording) -> Receipt:
        return await self._writer.write(lambda c: recording.record(c, record, self._options))

    async def log_submission(self, submission: Submission) -> tuple[Submission, bool]:
        return await self._writer.write(lambda c: owning.log_submission(c, submission, self._options))

    async def bind_submission(self, submission_id: str, task_id: str, now: datetime) -> Submission:
        return await self._writer.write(
            lambda c: owning.bind_submission(c, submission_id, task_id, now, self._options)
        )

    async def withdraw_submission(self, submission_id: str, now: datetime) -> Submission:
        return await self._writer.write(lambda c: owning.withdraw_submission(c, submission_id, now))

    async def lease_assets(
        self, now: datetime, lease_until: datetime, limit: int, *, retries_first: bool = False
    ) -> list[AssetWork]:
        lease = self._options.clock.new_id("lease")
        return await self._writer.write(
            lambda c: settling.lease_assets(
                c, now, lease_until, lease, limit=limit, retries_first=retries_first
            )
        )

    async def settle_asset(self, work: AssetWork, settlement: Settlement) -> bool:
        return await self._writer.write(
            lambda c: settling.settle_asset(c, work, settlement, self._options.routes)
        )

    async def lease_outbox(
        self, sink: str, now: datetime, lease_until: datetime, limit: int
    ) -> list[OutboxWork]:
        lease = self._options.clock.new_id("lease")
        return await self._writer.write(
            lambda c: settling.lease_outbox(c, sink, now, lease_until, lease, limit)
        )

    async def settle_outbox(self, work: OutboxWork, settlement: Settlement) -> bool:
        return await self._writer.write(lambda c: settling.settle_outbox(c, work, settlement))

    async def lease_polls(
        self, provider: str, now: datetime, lease_until: datetime, limit: int
    ) -> list[PollWork]:
        lease = self._options.clock.new_id("lease")
        return await self._writer.write(
            lambda c: polling.lease_polls(c, provider, now, lease_until, lease, limit)
        )

    async def settle_poll(self, work: PollWork, settlement: Settlement) -> bool:
        return await self._writer.write(lambda c: polling.settle_poll(c, work, settlement))

    async def forget_polls(self, now: datetime, limit: int) -> int:
        return await self._writer.write(lambda c: polling.forget_polls(c, now, limit))

    async def start_replay(self, replay: Replay) -> Replay:
        matched, up_to = await self._read(lambda c: matching.measure(c, replay))
        return await self._writer.write(lambda c: replaying.start(c, replay, matched, up_to))

    async def lease_replays(self, now: datetime, lease_until: datetime, limit: int) -> list[ReplayWork]:
        lease = self._options.clock.new_id("lease")
        return await self._writer.write(
            lambda c: replaying.lease_replays(c, now, lease_until, lease, limit, self._options.routes)
        )

    async def step_replay(self, work: ReplayWork, limit: int, now: datetime, next_at: datetime) -> bool:
        rows = await self._read(lambda c: matching.next_matches(c, work, limit))
        found = [number for (number,) in rows]
        return await self._writer.write(
            lambda c: stepping.step(
                c,
                work,
                found,
                is_last=len(found) < limit,
                now=now,
                next_at=next_at,
                options=self._options,
            )
        )

    async def reprocess(
        self, work: ReplayWork, read: Sequence[KeptDelivery], now: datetime, next_at: datetime
    ) -> bool:
        return await self._writer.write(
            lambda c: stepping.reprocess(c, work, read, now=now, next_at=next_at, options=self._options)
        )

    async def change_replay(self, replay_id: str, state: ReplayState, now: datetime) -> Replay:
        return await self._writer.write(
            lambda c: stepping.change_replay(c, replay_id, state, now, self._options)
        )

    async def withdraw_pieces(self, work: ReplayWork, now: datetime, lease_until: datetime) -> bool:
        return await self._writer.write(
            lambda c: stepping.withdraw_pieces(c, work, now, lease_until, self._options)
        )

    async def requeue_dead(
        self, wanted: WorkFilter, sinks: Sequence[str], now: datetime, limit: int, *, after: str | None = None
    ) -> Requeued:
        found = await self._read(lambda c: dead_letters.find_dead(c, wanted, sinks, limit, after))
        revived = await self._writer.write(lambda c: dead_letters.revive(c, found, now))
        return dead_letters.requeued(found, limit, revived)

    async def expire_early(self, received_before: datetime, limit: int) -> int:
        return await self._writer.write(lambda c: owning.expire_early(c, received_before, limit))

    async def purge(self, before: datetime, limit: int) -> int:
        return await self._writer.write(
            lambda c: retention.purge(c, before, limit, now=self._options.clock.now())
        )

    async def ping(self) -> None:
        await self._writer.write(_beat)

    # --- reads ----------------------------------------------------------------------------------------

    async def next_due_at(self, kind: Due, name: str = "") -> datetime | None:
        return await self._read(lambda c: counting.next_due_at(c, kind, name), self._loops_reader)

    async def get_submission(self, submission_id: str) -> Submission | None:
        return await self._read(lambda c: viewing.get_submission(c, submission_id))

    async def list_submissions(
        self, *, provider: str | None, owner: str | None, limit: int, bound: bool | None = None
    ) -> list[Submission]:
        return await self._read(lambda c: viewing.list_submissions(c, provider, owner, limit, bound=bound))

    async def list_unbound(
        self, logged_from: datetime, logged_before: datetime, limit: int
    ) -> tuple[int, list[Submission]]:
        return await self._read(
            lambda c: viewing.list_unbound(c, logged_from, logged_before, limit), self._loops_reader
        )

    async def get_task(self, provider: str, task_id: str) -> Task | None:
        return await self._read(lambda c: viewing.get_task(c, provider, task_id, self._options.unpolled))

    async def get_verdicts(self, provider: str, task_id: str) -> frozenset[Verdict] | None:
        return await self._read(lambda c: viewing.get_verdicts(c, provider, task_id), self._loops_reader)

    async def get_event(self, provider: str, task_id: str) -> Event | None:
        return await self._read(lambda c: viewing.get_event(c, provider, task_id))

    async def list_links(self, provider: str, task_id: str) -> list[str]:
        return await self._read(lambda c: viewing.list_links(c, provider, task_id), self._loops_reader)

    async def list_tasks(self, wanted: TaskFilter, limit: int, cursor: str | None) -> TaskPage:
        return await self._read(lambda c: viewing.list_tasks(c, wanted, limit, cursor))

    async def count_matches(self, stage: Stage, wanted: WorkFilter) -> int:
        return await self._read(lambda c: matching.count(c, matching.ROWS[stage], wanted))

    async def list_kept(self, work: ReplayWork, limit: int) -> list[KeptDelivery]:
        return await self._read(lambda c: stepping.list_kept(c, work, limit))

    async def get_replay(self, replay_id: str) -> Replay | None:
        return await self._read(lambda c: replaying.get_replay(c, replay_id))

    async def list_replays(self, limit: int) -> list[Replay]:
        return await self._read(lambda c: replaying.list_replays(c, limit))

    async def list_dead(
        self, wanted: WorkFilter, sink: str | None, limit: int, cursor: str | None
    ) -> DeadLetterPage:
        return await self._read(lambda c: dead_letters.list_dead(c, wanted, sink, limit, cursor))

    async def count_dead(self, wanted: WorkFilter, sinks: Sequence[str]) -> int:
        return await self._read(lambda c: dead_letters.count_dead(c, wanted, sinks))

    async def count_stats(self) -> Stats:
        return await self._read(lambda c: counting.count_stats(c, self._options.clock.now()))

    async def aclose(self) -> None:
        self._is_closing = True
        pools = (self._readers, self._loops_reader)
        ended = asyncio.gather(*(asyncio.to_thread(pool.shutdown) for pool in pools))
        while not ended.done():  # a read may begin just after it would have been interrupted
            for connection in self._open_readers.copy():
                connection.interrupt()
            await asyncio.wait([ended], timeout=INTERRUPT_SECONDS)
        for connection in self._open_readers:
            connection.close()
        await self._writer.aclose()  # the last to leave: SQLite then folds the WAL into the file
        os.close(self._lock)

    async def _read(self, query: Callable[[sqlite3.Cursor], T], pool: ThreadPoolExecutor | None = None) -> T:
        self._refuse_when_closing()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool or self._readers, self._run_read, query)

    def _run_read(self, query: Callable[[sqlite3.Cursor], T]) -> T:
        self._refuse_when_closing()
        try:
            if not hasattr(self._local, "cursor"):
                # Closed by the thread that closes the store, when the reading threads have ended.
                connection = viewing.connect_read_only(self._path, READ_BUSY_SECONDS)
                self._open_readers.append(connection)
                self._local.cursor = connection.cursor()
            return query(self._local.cursor)
        except sqlite3.Error as exc:
            name = getattr(exc, "sqlite_errorname", type(exc).__name__)
            raise Unavailable(
                f"the database cannot be read now ({name})", outcome=Outcome.STORAGE_FAILED
            ) from exc

    def _refuse_when_closing(self) -> None:
        if self._is_closing:
            raise Unavailable("the database is being closed", outcome=Outcome.STORAGE_FAILED)


def free_all_leases(db: sqlite3.Cursor, now: datetime) -> None:
    """What an earlier process was working on is due again."""
    settling.free_leases(db, now)
    polling.free_leases(db, now)
    replaying.free_leases(db, now)


def path_of(url: str, data_dir: Path) -> Path:
    """The file that ``sqlite:PATH`` names; a relative path starts at the data folder."""
    name = url.removeprefix("sqlite:")
    if name.startswith("//"):
        name = "/" + name.lstrip("/")
    if not name:
        raise Misconfigured("the database URL names no file: write sqlite:receiver.db")
    return data_dir / name


def _take_lock(path: Path) -> int:
    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        # Prompts, raw bodies and media links lie in it: nobody else's to read, whatever the folder allows.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as exc:
        said = f"the data folder {path.parent} cannot be written: {exc.strerror}"
        raise (Unavailable(said) if exc.errno in _PASSING else Misconfigured(said)) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise Misconfigured(
            f"{path} is in use by another receiver (process {holder}): SQLite means one process. "
            "Stop it first, or set RECEIVER_DATA_DIR to another folder"
        ) from exc
    with suppress(OSError):  # it is for the message above; the lock holds on a full disk, too
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _beat(db: sqlite3.Cursor) -> None:
    db.execute("UPDATE heartbeat SET beats = beats + 1")
