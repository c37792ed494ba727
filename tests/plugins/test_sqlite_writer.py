"""The writer: what waits together is done together, and what is refused has written nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from receiver.errors import ReceiverError, Unavailable
from receiver.record.cursor import Cursor
from receiver.record.writer import Writer
from receiver.stores.sqlite.connections import SqliteWrites


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
