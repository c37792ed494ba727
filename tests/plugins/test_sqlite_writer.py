"""The writer: what waits together is done together, and what is refused has written nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from receiver.errors import ReceiverError, Unavailable
from receiver.models import Outcome
from receiver.record.cursor import Cursor
from receiver.record.writer import Writer
from receiver.stores.sqlite import SqliteStore
from receiver.stores.sqlite.connections import SqliteWrites
from tests.contracts.opening import store_options
from tests.contracts.store import ROUTES
from tests.support.factories import NOW, completed, later, recording, settlement, submission


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Writer]:
    writer = Writer(SqliteWrites(tmp_path / "w.db"), None)
    await writer.write(lambda db: db.execute("CREATE TABLE notes (note TEXT NOT NULL)"))
    yield writer
    await writer.aclose()


async def notes(writer: Writer) -> list[str]:
    return await writer.write(
        lambda db: [note for (note,) in db.execute("SELECT note FROM notes").fetchall()]
    )


def keep(db: Cursor, note: str) -> None:
    db.execute("INSERT INTO notes VALUES (?)", (note,))


class Batches:
    """Work for all that waits in a row for it, and what it was given together."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def keep_all(self, db: Cursor, given: Sequence[str]) -> list[str | ReceiverError]:
        self.seen.append(list(given))
        for note in given:
            if note == "bad":
                raise ZeroDivisionError
        for note in given:
            if not note.startswith("no"):
                keep(db, note)
        return [Unavailable(note) if note.startswith("no") else note.upper() for note in given]


async def test_what_waits_in_a_row_for_the_same_is_handed_over_as_one_list(writer: Writer) -> None:
    batches = Batches()

    ends = await asyncio.gather(
        writer.write_batched(batches.keep_all, "a"),
        writer.write_batched(batches.keep_all, "b"),
        writer.write(lambda db: keep(db, "c")),
        writer.write_batched(batches.keep_all, "d"),
    )

    assert list(ends) == ["A", "B", None, "D"]
    assert batches.seen == [["a", "b"], ["d"]]
    assert await notes(writer) == ["a", "b", "c", "d"]


async def test_a_refusal_is_raised_to_its_own_caller_and_the_others_are_committed(writer: Writer) -> None:
    batches = Batches()

    ends = await asyncio.gather(
        *(writer.write_batched(batches.keep_all, note) for note in ("a", "no room", "b")),
        return_exceptions=True,
    )

    assert [ends[0], ends[2]] == ["A", "B"]
    assert isinstance(ends[1], Unavailable)
    assert await notes(writer) == ["a", "b"]


async def test_after_a_bug_in_one_each_is_tried_alone_and_the_others_are_committed(writer: Writer) -> None:
    batches = Batches()

    ends = await asyncio.gather(
        *(writer.write_batched(batches.keep_all, note) for note in ("a", "bad", "b")), return_exceptions=True
    )

    assert [ends[0], ends[2]] == ["A", "B"]
    assert isinstance(ends[1], ZeroDivisionError)
    assert batches.seen == [["a", "bad", "b"], ["a"], ["bad"], ["b"]]
    assert await notes(writer) == ["a", "b"]


async def test_what_refuses_after_it_has_written_is_a_bug_and_is_taken_back(writer: Writer) -> None:
    def write_and_refuse(db: Cursor) -> None:
        keep(db, "half")
        raise Unavailable("too late")

    ends = await asyncio.gather(
        writer.write(lambda db: keep(db, "before")),
        writer.write(write_and_refuse),
        writer.write(lambda db: keep(db, "after")),
        return_exceptions=True,
    )

    assert [ends[0], ends[2]] == [None, None]
    assert isinstance(ends[1], RuntimeError)
    assert "refuse before the first write" in str(ends[1])
    assert await notes(writer) == ["before", "after"]


async def test_so_is_what_refuses_all_and_has_written(writer: Writer) -> None:
    def write_and_refuse(db: Cursor, given: Sequence[str]) -> list[ReceiverError | None]:
        for note in given:
            keep(db, note)
        return [Unavailable("too late") for _ in given]

    ends = await asyncio.gather(
        *(writer.write_batched(write_and_refuse, note) for note in ("a", "b")), return_exceptions=True
    )

    assert [type(end) for end in ends] == [RuntimeError, RuntimeError]
    assert await notes(writer) == []


# --- what is flushed --------------------------------------------------------------------------------


class WatchedWrites(SqliteWrites):
    """Notes of each transaction whether its commit flushes the log, in SQLite's own number: FULL is 2."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.levels: list[int] = []

    def begin(self, *, is_durable: bool = True) -> None:
        super().begin(is_durable=is_durable)
        # Each in other words: SQLite answers while it prepares a statement, and that is kept.
        question = f"PRAGMA synchronous -- {len(self.levels)}"
        self.levels += self.connection.execute(question).fetchone()


async def test_only_what_need_not_be_durable_is_committed_without_a_flush(tmp_path: Path) -> None:
    writes = WatchedWrites(tmp_path / "w.db")
    writer = Writer(writes, None)
    await writer.write(lambda db: db.execute("CREATE TABLE notes (note TEXT NOT NULL)"))
    await writer.write(lambda db: keep(db, "a"), is_durable=False)
    await asyncio.gather(
        writer.write(lambda db: keep(db, "b"), is_durable=False), writer.write(lambda db: keep(db, "c"))
    )
    await writer.write_batched(Batches().keep_all, "d")
    assert writes.levels == [2, 1, 2, 2]
    assert await notes(writer) == ["a", "b", "c", "d"]
    await writer.aclose()


async def test_after_a_failure_each_commit_is_flushed_until_one_has_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        writes.connection.execute("no statement")

    writes = WatchedWrites(tmp_path / "w.db")
    writer = Writer(writes, None)
    await writer.write(lambda db: db.execute("CREATE TABLE notes (note TEXT NOT NULL)"))
    with monkeypatch.context() as patch:
        patch.setattr(writes, "commit", fail)
        with pytest.raises(Unavailable):
            await writer.write(lambda db: keep(db, "a"), is_durable=False)
    writes.levels.clear()
    await writer.write(lambda db: keep(db, "b"), is_durable=False)
    await writer.write(lambda db: keep(db, "c"), is_durable=False)
    assert writes.levels == [2, 1]
    assert await notes(writer) == ["b", "c"]
    await writer.aclose()


async def test_leases_are_committed_without_a_flush_and_what_comes_of_them_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[WatchedWrites] = []

    def open_writes(path: Path) -> WatchedWrites:
        opened.append(WatchedWrites(path))
        return opened[-1]

    monkeypatch.setattr("receiver.stores.sqlite.store.SqliteWrites", open_writes)
    store = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))
    (writes,) = opened
    await store.log_submission(submission("t1"))
    writes.levels.clear()

    await store.record(recording(completed("t1")))
    (file,) = await store.lease_assets(NOW, later(60), 1)
    await store.settle_asset(file, settlement(Outcome.NOT_AN_IMAGE))
    (entry, *_) = await store.lease_outbox(ROUTES[0].sink, later(1), later(60), 1)
    assert await store.settle_outbox_batch([(entry, settlement(Outcome.DELIVERED))]) == [True]
    assert writes.levels == [2, 1, 2, 1, 2]
    await store.aclose()
