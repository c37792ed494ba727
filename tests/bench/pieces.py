"""How many files and notifications a second are claimed and settled: by one worker, and by two on PostgreSQL.

    python -m tests.bench.pieces

A record is filled with tasks that have one file each, and one sink that wants them all. A worker is a process
that claims 64 pieces, settles them at once, and goes on until there are no more: first files, then the
notifications that these made. Nothing is fetched or sent, so it is the record that is measured. Afterwards
the history must have each piece once, with one attempt. Needs a PostgreSQL that the tests know
(``TEST_POSTGRES_URL``). Exits 1 when the history differs, a worker does less than 3,000 a second, or two do
less than 1.6 times as many as one.
"""

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

from receiver.clock import Clock
from receiver.models import Outcome, Route, Settlement, StoredFile
from receiver.options import StoreOptions
from receiver.record.store import RecordStore
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.bench.ingest import benchmark_task
from tests.bench.record import recording
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.postgres import scratch_database

TOGETHER = 64
KINDS = ("files", "notifications")
A_SECOND = 3000.0
TWO = 1.6
SINK = "all"
FILE = StoredFile(key="k", media_type="image/png", bytes=10, width=1, height=1, sha256="0" * 64)
ATTEMPTS = "SELECT count(*), count(DISTINCT event || target), max(times) FROM attempts"

Span = tuple[int, float, float]  # pieces, and from when to when, by the clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=4000, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    is_right = True
    rates: dict[tuple[str, int, str], list[float]] = {}
    with foreign() as cores:
        for _ in range(chosen.rounds):
            for where, workers in (("SQLite", 1), ("PostgreSQL", 1), ("PostgreSQL", 2)):
                found, once = run(where, chosen.tasks, workers)
                is_right = is_right and once
                for kind, rate in zip(KINDS, found, strict=True):
                    rates.setdefault((where, workers, kind), []).append(rate)
    return report(Result(rows=rows_of(rates), foreign_cores=cores[0], holds=is_right), as_json=chosen.json)


def rows_of(rates: Mapping[tuple[str, int, str], list[float]]) -> list[Row]:
    alone = [
        Row(measure=f"{kind} by one, {where}", unit="/s", ours=rates[where, 1, kind], target=A_SECOND)
        for where in ("SQLite", "PostgreSQL")
        for kind in KINDS
    ]
    together = [
        Row(
            measure=f"{kind} by two, PostgreSQL",
            unit="/s",
            ours=rates["PostgreSQL", 2, kind],
            yardstick="by one",
            theirs=rates["PostgreSQL", 1, kind],
            target=TWO,
        )
        for kind in KINDS
    ]
    return alone + together


def run(where: str, tasks: int, workers: int) -> tuple[list[float], bool]:
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder, scratch_database() as server:
        url = server if where == "PostgreSQL" else "sqlite:receiver.db"
        return asyncio.run(measure(url, Path(folder), tasks, workers))


async def measure(url: str, folder: Path, tasks: int, workers: int) -> tuple[list[float], bool]:
    """Pieces a second of each kind, and whether each was worked on once."""
    store, clock = await open_store(url, folder), Clock()
    logged = [benchmark_task(clock, clock.now(), number) for number in range(tasks)]
    await asyncio.gather(*map(store.log_submission, logged))
    await asyncio.gather(*(store.record(recording(each, of_submissions=False)) for each in logged))
    await store.aclose()
    rates = []
    loop, context = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        for kind in KINDS:
            given = [loop.run_in_executor(pool, work, url, folder, kind) for _ in range(workers)]
            rates.append(rate_of(await asyncio.gather(*given), tasks))
    store = await open_store(url, folder)
    ((rows, different, times),) = await store._read(lambda db: db.execute(ATTEMPTS).fetchall())
    await store.aclose()
    return rates, (rows, different, times) == (2 * tasks, 2 * tasks, 1)


def rate_of(spans: Sequence[Span], tasks: int) -> float:
    assert sum(pieces for pieces, _, _ in spans) == tasks
    return tasks / (max(end for _, _, end in spans) - min(start for _, start, _ in spans))


async def open_store(url: str, folder: Path) -> RecordStore:
    options = StoreOptions(data_dir=folder, clock=Clock(), routes=(Route(sink=SINK),))
    if url.startswith("sqlite:"):
        return await SqliteStore.open(url, options)
    return await PostgresStore.open(url, options)


def work(url: str, folder: Path, kind: str) -> Span:
    """Claim and settle until there is nothing more."""
    return asyncio.run(_work(url, folder, kind))


async def _work(url: str, folder: Path, kind: str) -> Span:
    store, clock = await open_store(url, folder), Clock()
    start, pieces = time.time(), 0
    while count := await (_files(store, clock) if kind == "files" else _notifications(store, clock)):
        pieces += count
    end = time.time()
    await store.aclose()
    return pieces, start, end


async def _files(store: RecordStore, clock: Clock) -> int:
    now = clock.now()
    works = await store.lease_assets(now, now + timedelta(seconds=60), TOGETHER)
    settlement = Settlement(outcome=Outcome.STORED, started_at=now, settled_at=now, file=FILE)
    settled = await asyncio.gather(*(store.settle_asset(each, settlement) for each in works))
    assert all(settled)
    return len(works)


async def _notifications(store: RecordStore, clock: Clock) -> int:
    now = clock.now()
    works = await store.lease_outbox(SINK, now, now + timedelta(seconds=60), TOGETHER)
    settlement = Settlement(outcome=Outcome.DELIVERED, started_at=now, settled_at=now)
    settled = await store.settle_outbox_batch([(each, settlement) for each in works])
    assert settled == [True] * len(works)
    return len(works)


if __name__ == "__main__":
    sys.exit(main())
