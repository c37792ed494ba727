"""Rows become values by the names of their columns, and values become parameters by theirs."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from receiver.models import EventType, Outcome
from receiver.record import rows


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One field of each sort that a column is made from."""

    name: str
    outcome: Outcome | None
    at: datetime
    ended_at: datetime | None
    is_held: bool
    seconds: float
    body: bytes
    sinks: tuple[str, ...]
    metadata: Mapping[str, object]
    request: object | None
    lease: str = "none"


WHEN = datetime(2026, 11, 29, 1, 2, 3, 400_000, UTC)
KEPT = Kept(
    name="null",  # as a word it is no missing value
    outcome=Outcome.GONE,
    at=WHEN,
    ended_at=None,
    is_held=True,
    seconds=0.5,
    body=b"\x00{",
    sinks=("a", "b"),
    metadata={"null": "null", "n": 1},
    request=["x", {"at": "2026-11-29T01:02:03Z"}],
)
COLUMNS = [name for name in Kept.__struct_fields__ if name != "lease"]


@pytest.fixture
def db() -> Iterator[sqlite3.Cursor]:
    with closing(sqlite3.connect(":memory:")) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE kept ({', '.join(COLUMNS)})")
        yield cursor


def keep(db: sqlite3.Cursor, *kept: Kept) -> None:
    names = ", ".join(f":{name}" for name in COLUMNS)
    db.executemany(f"INSERT INTO kept VALUES ({names})", [rows.parameters_of(each) for each in kept])


def test_what_was_kept_comes_back_whatever_the_order_of_the_columns(db: sqlite3.Cursor) -> None:
    keep(db, KEPT)
    for names in (COLUMNS, COLUMNS[::-1]):
        db.execute(f"SELECT 7 AS number, {', '.join(names)} FROM kept")
        assert rows.read_one(db, Kept) == KEPT


def test_fields_that_are_no_columns_are_handed_in(db: sqlite3.Cursor) -> None:
    keep(db, KEPT, KEPT)
    found = rows.read_all(db.execute("SELECT * FROM kept"), Kept, lease="mine")
    assert found == [msgspec.structs.replace(KEPT, lease="mine")] * 2


def test_nothing_found_is_no_value(db: sqlite3.Cursor) -> None:
    assert rows.read_one(db.execute("SELECT * FROM kept"), Kept) is None
    assert rows.read_all(db.execute("SELECT * FROM kept"), Kept) == []


def test_a_missing_column_is_an_error_and_not_a_guess(db: sqlite3.Cursor) -> None:
    keep(db, KEPT)
    with pytest.raises(msgspec.ValidationError, match="`is_held`"):
        rows.read_one(db.execute("SELECT name, outcome, at, ended_at FROM kept"), Kept)


def test_a_word_that_is_no_state_is_an_error() -> None:
    row = rows.parameters_of(KEPT, outcome="sunny")
    with pytest.raises(msgspec.ValidationError, match="sunny"):
        rows.to_value(row, Kept)


def test_times_are_kept_in_utc_and_sort_as_text() -> None:
    berlin = timezone(timedelta(hours=1))
    moments = [WHEN - timedelta(microseconds=400_000), WHEN, (WHEN + timedelta(seconds=9)).astimezone(berlin)]
    texts = [rows.to_column(moment) for moment in moments]
    assert texts == ["2026-11-29T01:02:03.000Z", "2026-11-29T01:02:03.400Z", "2026-11-29T01:02:12.400Z"]


def test_parameters_are_what_every_driver_takes() -> None:
    given = rows.parameters(type=EventType.FAILED, is_held=False, number=3, nothing=None, wanted={"a": (1,)})
    assert given == {"type": "task.failed", "is_held": 0, "number": 3, "nothing": None, "wanted": '{"a":[1]}'}
    assert {type(value) for value in given.values()} == {str, int, type(None)}
