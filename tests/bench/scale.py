"""How long lists, counts and claims take with a million tasks, and callbacks beside none.

    python -m tests.bench.scale [--tasks 5000000] [--engine SQLite]

On SQLite and on PostgreSQL two records are filled by SQL with tasks that have ended, of which the last 2,000
have a file, a notification and a question that still wait. Each thing is done 40 times on both, by turns; of
the larger one its 95th percentile is told, too. On SQLite callbacks are then acknowledged by turns with
the large record and with an empty one. Filling takes half a minute and half a gigabyte for a million tasks.
PostgreSQL is the one that the tests know (``TEST_POSTGRES_URL``). Exits 1 when a list takes 20 ms or a count
50 ms at its 95th percentile, or callbacks come to less than 0.9 of those on an empty record.
"""

import argparse
import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from receiver.clock import Clock
from receiver.models import Route, SubmissionFilter, TaskFilter, TaskState, WorkFilter
from receiver.options import StoreOptions
from receiver.record.store import RecordStore
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.bench.ingest import (
    callback_path,
    load,
    log_submissions,
    receiver_server,
    silent_media_host,
    write_load,
)
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.postgres import scratch_database

SMALL = 10_000
TIMES = 40
LIST_MS, COUNT_MS, CLAIM_MS = 20.0, 50.0, 20.0
ACKS = 0.9
ROUNDS, SECONDS = 3, 3
ACKS_A_SECOND = 12_000

SERIES = {
    "PostgreSQL": """
        SELECT i, to_char(timestamp '2026-01-01' + i * interval '10 seconds',
            'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at FROM generate_series(1, {tasks}) i
    """,
    "SQLite": """
        WITH RECURSIVE series (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM series WHERE i < {tasks})
        SELECT i, strftime('%Y-%m-%dT%H:%M:%S.000000Z', 1767225600 + 10 * i, 'unixepoch') AS at FROM series
    """,
}

FILL = """
CREATE TEMPORARY TABLE n AS SELECT i, at, i > {tasks} - 2000 AS waits,
    CASE WHEN i % 50 = 7 THEN 'vidgo' ELSE 'apixo' END AS provider FROM ({series}) AS series;
INSERT INTO submissions (id, provider, owner, task_id, metadata, created_at, bound_at)
    SELECT 'sub_' || i, provider, CASE WHEN i % 400000 = 5 THEN 'rare' ELSE 'user-' || (i % 400) END,
        'task-' || i, '{{"key":"' || i || '"}}', at, at FROM n;
INSERT INTO events (number, id, via, fingerprint, received_at, type, ended_at)
    SELECT i, 'evt_' || i, 'callback', 'f', at,
        CASE WHEN i % 50 > 0 THEN 'task.completed' ELSE 'task.failed' END, at FROM n;
INSERT INTO failures SELECT provider, 'task.failed', i FROM n WHERE i % 50 = 0;
INSERT INTO deliveries (provider, task_id, claim, digest, submission, via, proof, verdict, received_at,
        last_seen_at, body)
    SELECT provider, 'task-' || i, '', 'd' || i, i, 'callback', 'provider', 'accepted', at, at, {body} FROM n;
INSERT INTO assets (event, position, kind, state, outcome, due_at, deadline_at, provider, host_hash, key,
        media_type, bytes)
    SELECT i, 0, 'image', CASE WHEN waits THEN 'pending' ELSE 'stored' END,
        CASE WHEN NOT waits THEN 'stored' END, at, at, provider, i % 10,
        CASE WHEN NOT waits THEN provider || '/task-' || i || '/0.png' END,
        CASE WHEN NOT waits THEN 'image/png' END, CASE WHEN NOT waits THEN 14000 END FROM n;
INSERT INTO links SELECT i, 0, 'https://cdn.example.com/' || i FROM n WHERE waits;
INSERT INTO outbox (event, sink, revision, state, outcome, due_at, created_at, settled_at)
    SELECT i, 'all', 1, CASE WHEN waits THEN 'pending' WHEN i % 100 = 0 THEN 'dead' ELSE 'delivered' END,
        CASE WHEN NOT waits THEN 'refused' END, at, at, CASE WHEN NOT waits THEN at END FROM n;
INSERT INTO polls (number, provider, due_at) SELECT i, provider, at FROM n WHERE waits;
UPDATE retention SET polls_to = {tasks}
"""

Act = Callable[[RecordStore], Awaitable[object]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="in the larger one")
    parser.add_argument("--engine", choices=sorted(SERIES), help="one of them alone")
    add_json(parser)
    chosen = parser.parse_args()
    engines = [chosen.engine] if chosen.engine else ["SQLite", "PostgreSQL"]
    wait_for_quiet()
    rows = []
    with foreign() as cores:
        for engine in engines:
            with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
                rows += asyncio.run(compare(engine, Path(folder), chosen.tasks))
                if engine == "SQLite" and shutil.which("wrk"):
                    rows.append(acknowledged(Path(folder), chosen.tasks))
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def compare(engine: str, folder: Path, tasks: int) -> list[Row]:
    with ExitStack() as stack:
        stores = [await filled(stack, engine, folder / str(size), size) for size in (SMALL, tasks)]
        rows = []
        for name, act in acts(Clock()).items():
            small, large = await times(stores, act)
            rows.append(row(f"{name}, {engine}", small, large))
        for store in stores:
            await store.aclose()
        return rows


def row(measure: str, small: list[float], large: list[float]) -> Row:
    """Milliseconds at the 95th percentile of the large record; the small one's go to standard error."""
    print(f"{measure}: {percentile_95(small):.2f} ms with {SMALL:,} tasks", file=sys.stderr)
    limit = CLAIM_MS if "claim" in measure else COUNT_MS if "count" in measure else LIST_MS
    return Row(
        measure=measure,
        unit="ms p95",
        ours=[percentile_95(large)],
        target=limit,
        at_most=True,
    )


def percentile_95(spent: list[float]) -> float:
    return 1000 * sorted(spent)[len(spent) * 95 // 100 - 1]


async def filled(stack: ExitStack, engine: str, folder: Path, tasks: int) -> RecordStore:
    return await opened(await filled_record(stack, engine, folder, tasks), folder)


async def filled_record(stack: ExitStack, engine: str, folder: Path, tasks: int) -> str:
    """The URL of a new record with so many tasks, which has its files in this folder."""
    folder.mkdir()
    url = "sqlite:receiver.db" if engine == "SQLite" else stack.enter_context(scratch_database())
    await (await opened(url, folder)).aclose()
    if engine == "SQLite":
        await asyncio.to_thread(fill_file, folder / "receiver.db", tasks)
    else:
        await asyncio.to_thread(fill_server, url, tasks)
    return url


async def opened(url: str, folder: Path) -> RecordStore:
    options = StoreOptions(
        data_dir=folder, clock=Clock(), routes=(Route(sink="all"),), metadata_keys=("key",)
    )
    store = SqliteStore if url.startswith("sqlite:") else PostgresStore
    return await store.open(url, options)


def statements(engine: str, tasks: int) -> list[str]:
    series = SERIES[engine].format(tasks=tasks)
    body = "x'7b7d'" if engine == "SQLite" else "'{}'"
    return FILL.format(tasks=tasks, series=series, body=body).split(";\n")


def fill_file(path: Path, tasks: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    # Nothing of it has to last: a journal would be as large as the record, and be written twice.
    for pragma in ("temp_store = MEMORY", "journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
        connection.execute(f"PRAGMA {pragma}")
    with without_triggers(connection):
        for statement in statements("SQLite", tasks):
            connection.execute(statement)
    connection.execute("ANALYZE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


@contextmanager
def without_triggers(connection: sqlite3.Connection) -> Iterator[None]:
    """What is filled in has ended: it is counted below its mark, not row by row."""
    triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    connection.execute("BEGIN")
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    yield
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("COMMIT")


def fill_server(url: str, tasks: int) -> None:
    tables = ("submissions", "events", "deliveries")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = receiver")
        for table in tables:
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
        for statement in statements("PostgreSQL", tasks):
            connection.execute(statement.encode())
        for table in tables:
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())
        connection.execute("VACUUM ANALYZE")


async def times(stores: list[RecordStore], act: Act) -> list[list[float]]:
    spent: list[list[float]] = [[] for _ in stores]
    for _ in range(TIMES):
        for store, taken in zip(stores, spent, strict=True):
            started = time.perf_counter()
            await act(store)
            taken.append(time.perf_counter() - started)
    return spent


def acknowledged(folder: Path, tasks: int) -> Row:
    """Callbacks a second with the large record, and with one that was empty, by turns."""
    empty = folder / "empty"
    empty.mkdir()
    rates: dict[Path, list[float]] = {folder / str(tasks): [], empty: []}
    count = ACKS_A_SECOND * SECONDS * ROUNDS
    with ExitStack() as stack:
        media = stack.enter_context(silent_media_host())
        for place in rates:
            asyncio.run(log_submissions(place, count))
        servers = {place: stack.enter_context(receiver_server(place, "info")) for place in rates}
        for number in range(ROUNDS):
            script = write_load(folder, media, number * count // ROUNDS)
            for place, server in servers.items():
                rates[place].append(load(server + callback_path(), script, SECONDS).rate)
    ours, theirs = rates.values()
    return Row(
        measure=f"acks with {tasks:,} tasks, SQLite",
        unit="/s",
        ours=ours,
        yardstick="with none",
        theirs=theirs,
        target=ACKS,
    )


def acts(clock: Clock) -> dict[str, Act]:
    now = clock.now()
    until = now + timedelta(hours=1)

    def tasks(**wanted: Any) -> Act:
        return lambda store: store.list_tasks(TaskFilter(**wanted), 50, None)

    return {
        "list tasks": tasks(),
        "list tasks that failed": tasks(state=TaskState.FAILED),
        "list an owner's tasks": tasks(owner="user-17"),
        "list a rare owner's tasks": tasks(owner="rare"),
        "list a rare owner's failed tasks": tasks(owner="rare", state=TaskState.FAILED),
        "list a provider's tasks": tasks(provider="vidgo"),
        "list a provider's failed, of none": tasks(provider="vidgo", state=TaskState.FAILED),
        "list tasks by metadata": tasks(metadata={"key": "777"}),
        "list tasks since": tasks(since=now - timedelta(days=3650)),
        "list submissions": lambda store: store.list_submissions(SubmissionFilter(), 50, None),
        "list dead letters": lambda store: store.list_dead(WorkFilter(), None, 50, None),
        "list a task's deliveries": lambda store: store.list_deliveries("apixo", "task-500", 50, None),
        "get a task": lambda store: store.get_task("apixo", "task-500"),
        "count everything": lambda store: store.count_stats(),
        "count what waits": lambda store: store.count_backlog(now, now - timedelta(days=1), ["apixo"]),
        "when the next file is due": lambda store: store.next_due_at("assets"),
        "claim 8 files": lambda store: store.lease_assets(now, until, 8),
        "claim 8 notifications": lambda store: store.lease_outbox("all", now, until, 8),
        "claim 8 questions": lambda store: store.lease_polls("apixo", now, until, 8),
    }


if __name__ == "__main__":
    sys.exit(main())
