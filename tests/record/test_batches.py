"""Deliveries that are recorded together come to what they come to one by one: receipts and every row."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.models import EventType, Recording, Report, Route
from receiver.options import StoreOptions
from receiver.record import deliveries, polls, retention, submissions, tasks
from receiver.record.cursor import Cursor
from receiver.record.recording import record_all
from receiver.record.rows import ByKeys
from receiver.record.rules import DeliveryRow, SubmissionRow
from receiver.stores.postgres.connections import Database, PgConnection
from receiver.stores.postgres.cursor import PostgresCursor
from receiver.stores.sqlite.migrations import migrate
from receiver.testing import TurnableClock
from tests.support.factories import (
    NOW,
    answer,
    completed,
    confirms_weak,
    failed,
    later,
    progress,
    recording,
    submission,
    unclear,
)
from tests.support.postgres import ScratchRecord

OPTIONS = StoreOptions(
    data_dir=Path(),
    clock=TurnableClock(NOW),
    routes=(Route(sink="all"), Route(sink="failures", types=frozenset({EventType.FAILED.value}))),
    first_poll_seconds={"vidgo": 30},
    confirms=confirms_weak,
    unpolled={"apixo": "no key"},
    early_limit=6,
)
SUBMISSIONS = {f"sub_{number}": owner for number, owner in enumerate(["ann", "ann", "bob", "bob"])}
LOST = "sub_lost"  # its token proves that it was given out, and the log does not know it
TASKS = ("t1", "t2", "t3")
TABLES = (
    *("submissions", "deliveries", "events", "assets", "outbox"),
    *("polls", "ownerless", "unended", "retention"),
    "counts WHERE number <> 0",  # one that there was for a moment leaves a 0 behind
)

Step = Callable[[Cursor], object]

times = st.sampled_from([NOW, later(1), later(3600)])
reports = st.one_of(
    st.builds(completed, st.sampled_from(TASKS), files=st.integers(0, 2)),
    st.builds(failed, st.sampled_from(TASKS)),
    st.builds(progress, st.sampled_from(TASKS)),
    st.builds(unclear, st.sampled_from([*TASKS, None])),
)
tokens = st.sampled_from([None, None, LOST, *SUBMISSIONS])
LARGE = b" " * 70_000


def callback(report: Report, token: str | None, at: datetime, kind: str, provider: str) -> Recording:
    body = f"{report}/{kind}".encode() + (LARGE if kind == "large" else b"")
    return recording(
        report, body=body, submission_id=token, received_at=at, provider=provider, weak=kind == "weak"
    )


def flood(report: Report, token: str | None, count: int) -> list[Recording]:
    """More bodies of a kind than may be kept."""
    return [
        recording(report, body=f"{report}/{number}".encode(), submission_id=token, weak=True)
        for number in range(count)
    ]


callbacks = st.builds(
    callback,
    reports,
    tokens,
    times,
    st.sampled_from(["plain", "weak", "weak", "large"]),
    st.sampled_from(["vidgo", "vidgo", "vidgo", "apixo"]),
)
answers = st.builds(lambda report, at: answer(report, received_at=at), reports, times)
ones = st.builds(lambda one: [one], st.one_of(callbacks, callbacks, answers))
floods = st.builds(flood, reports, tokens, st.sampled_from([8, 22, 104]))
batches: st.SearchStrategy[list[Recording]] = st.lists(
    st.one_of(*[ones] * 8, floods), min_size=1, max_size=12
).map(lambda runs: list(chain.from_iterable(runs)))


class Logged(NamedTuple):
    """A submission that is logged meanwhile."""

    task_id: str | None
    id: str

    def __call__(self, db: Cursor) -> object:
        if db.execute("SELECT 1 FROM submissions WHERE id = ?", (self.id,)).fetchone():
            return None
        logged = submission(self.task_id, owner=SUBMISSIONS.get(self.id, "ann"), id_=self.id)
        return submissions.log_submission(db, logged, OPTIONS)


def expire(db: Cursor) -> object:
    return deliveries.expire_early(db, later(2), 10)


def purge(db: Cursor) -> object:
    return retention.purge(db, later(9999), 100, now=later(9999))


def forget(db: Cursor) -> object:
    return polls.follow_deliveries(db, NOW, 5)


def lease(db: Cursor) -> object:
    due = polls.lease_polls(db, "vidgo", later(60), later(90), "x", limit=50, held_only=False)
    return sorted(due, key=lambda work: work.submission_id)  # those of one moment come in any order


logs = st.builds(Logged, st.sampled_from([None, None, *TASKS]), st.sampled_from([*SUBMISSIONS, LOST]))
steps: st.SearchStrategy[Step] = st.one_of(logs, st.sampled_from([expire, purge, forget, lease]))
lives = st.lists(st.one_of(batches, steps), min_size=1, max_size=10)


Life = Sequence[list[Recording] | Step]
Told = tuple[list[str], dict[str, list[object]]]
Live = Callable[..., Told]


@cache
def empty_record() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.db"
        migrate(path)
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")  # a copy in memory has no other file
            return db.serialize()


def live_on_sqlite(life: Life, *, together: bool) -> Told:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(empty_record())
        return live(connection.cursor(), life, together=together)


def live_on_postgres(record: ScratchRecord, connection: PgConnection, life: Life, *, together: bool) -> Told:
    """In a transaction that is taken back: what was empty is empty again."""
    record.restart()
    with connection.transaction(force_rollback=True):
        return live(PostgresCursor(connection), life, together=together)


def live(db: Cursor, life: Life, *, together: bool) -> Told:
    """What deliveries came to, and what the record then says."""
    ends: list[str] = []
    for each in life:
        if callable(each):
            ends.append(str(each(db)))
            continue
        for batch in [each] if together else [[one] for one in each]:
            ends += map(told, record_all(db, batch, OPTIONS))
    tables = {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in TABLES}
    return ends, tables


def told(end: object) -> str:
    return f"{type(end).__name__}: {end}"


@pytest.fixture
def on_postgres(postgres_record: ScratchRecord) -> Iterator[Live]:
    database = Database(postgres_record.url)
    with closing(database.connect()) as connection:
        connection.execute(f"SET search_path = {database.schema}")
        yield partial(live_on_postgres, postgres_record, connection)


@settings(max_examples=60, deadline=None)
@given(lives)
def test_together_or_one_by_one_all_ends_the_same(life: list[list[Recording] | Step]) -> None:
    assert live_on_sqlite(life, together=True) == live_on_sqlite(life, together=False)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=lives)
def test_on_postgresql_all_ends_as_on_sqlite(on_postgres: Live, life: list[list[Recording] | Step]) -> None:
    on_sqlite = live_on_sqlite(life, together=True)

    assert on_postgres(life, together=True) == on_sqlite
    assert on_postgres(life, together=False) == on_sqlite


def test_so_do_three_bodies_that_all_came_before() -> None:
    bodies = flood(progress("t1"), "sub_0", 3)

    def logged(db: Cursor) -> object:
        return submissions.log_submission(db, submission("t1", id_="sub_0"), OPTIONS)

    life: list[list[Recording] | Step] = [logged, bodies, [*bodies, *bodies]]

    assert live_on_sqlite(life, together=True) == live_on_sqlite(life, together=False)


def test_however_many_bind_their_reservations_together_they_are_looked_up_as_often() -> None:
    assert len(reads_of_binding(8)) == len(reads_of_binding(3))


def reads_of_binding(count: int) -> list[str]:
    """The statements that read for so many first callbacks of reserved submissions, recorded together."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(empty_record())
        db = connection.cursor()
        for number in range(count):
            submissions.log_submission(db, submission(None, id_=f"sub_{number}"), OPTIONS)
        said: list[str] = []
        connection.set_trace_callback(said.append)
        record_all(
            db,
            [recording(failed(f"t{number}"), submission_id=f"sub_{number}") for number in range(count)],
            OPTIONS,
        )
    return [statement for statement in said if statement.lstrip().startswith(("SELECT", "WITH"))]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("query", "key", "kind"),
    [
        (tasks.BY_ID, ("sub_1",), SubmissionRow),
        (tasks.BY_TASK, ("vidgo", "t1"), SubmissionRow),
        (deliveries.BY_KEY, ("vidgo", "t1", "", "x"), DeliveryRow),
        (deliveries.OPEN_OF_TASK, ("vidgo", "t1"), DeliveryRow),
    ],
)
def test_what_is_read_by_its_place_is_selected_in_the_order_of_the_fields(
    query: ByKeys, key: tuple[str, ...], kind: type[msgspec.Struct], count: int
) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(empty_record())
        columns = connection.execute(*query.of([key] * count)).description

    assert tuple(name for name, *_ in columns) == kind.__struct_fields__
