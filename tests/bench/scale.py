"""How long lists, counts and claims on PostgreSQL take with a million tasks, beside ten thousand.

    python -m tests.bench.scale

Two records are filled by SQL with tasks that have ended, of which the last 2,000 have a file, a notification
and a question that still wait. Each thing is done 40 times on both, by turns, and the medians are compared.
Filling takes some minutes and 2 GB. Needs a PostgreSQL that the tests know (``TEST_POSTGRES_URL``). Exits 1
when anything takes more than twice as long on the larger one: 1.3 is the aim, on a machine that is quiet.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from receiver.clock import Clock
from receiver.models import Route, SubmissionFilter, TaskFilter, TaskState, WorkFilter
from receiver.options import StoreOptions
from receiver.stores.postgres import PostgresStore
from tests.support.postgres import scratch_database

SMALL = 10_000
TIMES = 40
MOST = 2.0

FILL = """
SET search_path = receiver;
ALTER TABLE submissions DISABLE TRIGGER USER;
ALTER TABLE events DISABLE TRIGGER USER;
ALTER TABLE deliveries DISABLE TRIGGER USER;
CREATE TEMPORARY TABLE n AS SELECT i, i > {tasks} - 2000 AS waits,
    CASE WHEN i % 50 = 7 THEN 'vidgo' ELSE 'apixo' END AS provider,
    to_char(timestamp '2026-01-01' + i * interval '10 seconds', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at
    FROM generate_series(1, {tasks}) i;
INSERT INTO submissions (id, provider, owner, task_id, metadata, created_at, bound_at)
    SELECT 'sub_' || i, provider, 'user-' || i % 400, 'task-' || i, '{{"key":"' || i || '"}}', at, at FROM n;
INSERT INTO events (number, id, via, fingerprint, received_at, type, ended_at)
    SELECT i, 'evt_' || i, 'callback', 'f', at,
        CASE WHEN i % 50 > 0 THEN 'task.completed' ELSE 'task.failed' END, at FROM n;
INSERT INTO deliveries (provider, task_id, claim, digest, submission, via, proof, verdict, received_at,
        last_seen_at, body)
    SELECT provider, 'task-' || i, '', 'd' || i, i, 'callback', 'provider', 'accepted', at, at, '{{}}' FROM n;
INSERT INTO assets (event, position, url, kind, state, outcome, due_at, deadline_at, provider, host_hash)
    SELECT i, 0, 'https://cdn.example.com/' || i, 'image', CASE WHEN waits THEN 'pending' ELSE 'stored' END,
        CASE WHEN NOT waits THEN 'stored' END, at, at, provider, i % 10 FROM n;
INSERT INTO outbox (event, sink, revision, state, outcome, due_at, created_at, settled_at)
    SELECT i, 'all', 1, CASE WHEN waits THEN 'pending' WHEN i % 100 = 0 THEN 'dead' ELSE 'delivered' END,
        CASE WHEN NOT waits THEN 'refused' END, at, at, CASE WHEN NOT waits THEN at END FROM n;
INSERT INTO polls (number, provider, due_at) SELECT i, provider, at FROM n WHERE waits;
UPDATE retention SET polls_to = {tasks};
ALTER TABLE submissions ENABLE TRIGGER USER;
ALTER TABLE events ENABLE TRIGGER USER;
ALTER TABLE deliveries ENABLE TRIGGER USER;
VACUUM ANALYZE
"""

Act = Callable[[PostgresStore], Awaitable[object]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="in the larger one")
    tasks = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as folder, scratch_database() as small, scratch_database() as large:
        return asyncio.run(compare(Path(folder), {small: SMALL, large: tasks}))


async def compare(folder: Path, sizes: Mapping[str, int]) -> int:
    options = StoreOptions(
        data_dir=folder, clock=Clock(), routes=(Route(sink="all"),), metadata_keys=("key",)
    )
    stores = [await PostgresStore.open(url, options) for url in sizes]
    for url, tasks in sizes.items():
        await asyncio.to_thread(fill, url, tasks)
    worst = 0.0
    for name, act in acts(Clock()).items():
        small, large = await medians(stores, act)
        worst = max(worst, large / small)
        print(f"{name:28} {small * 1e3:7.2f} ms {large * 1e3:7.2f} ms {large / small:5.2f}", flush=True)
    for store in stores:
        await store.aclose()
    return 0 if worst <= MOST else 1


def fill(url: str, tasks: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FILL.format(tasks=tasks).split(";\n"):
            connection.execute(statement.encode())


async def medians(stores: list[PostgresStore], act: Act) -> list[float]:
    spent: list[list[float]] = [[] for _ in stores]
    for _ in range(TIMES):
        for store, times in zip(stores, spent, strict=True):
            started = time.perf_counter()
            await act(store)
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in spent]


def acts(clock: Clock) -> dict[str, Act]:
    now = clock.now()
    until = now + timedelta(hours=1)

    def tasks(**wanted: Any) -> Act:
        return lambda store: store.list_tasks(TaskFilter(**wanted), 50, None)

    return {
        "list tasks": tasks(),
        "list tasks that failed": tasks(state=TaskState.FAILED),
        "list an owner's tasks": tasks(owner="user-17"),
        "list a provider's tasks": tasks(provider="vidgo"),
        "list tasks by metadata": tasks(metadata={"key": "777"}),
        "list tasks since": tasks(since=now - timedelta(days=3650)),
        "list submissions": lambda store: store.list_submissions(SubmissionFilter(), 50, None),
        "list dead letters": lambda store: store.list_dead(WorkFilter(), None, 50, None),
        "list a task's deliveries": lambda store: store.list_deliveries("apixo", "task-500", 50, None),
        "get a task": lambda store: store.get_task("apixo", "task-500"),
        "count everything": lambda store: store.count_stats(),
        "when the next file is due": lambda store: store.next_due_at("assets"),
        "claim 8 files": lambda store: store.lease_assets(now, until, 8),
        "claim 8 notifications": lambda store: store.lease_outbox("all", now, until, 8),
        "claim 8 questions": lambda store: store.lease_polls("apixo", now, until, 8),
    }


if __name__ == "__main__":
    sys.exit(main())
