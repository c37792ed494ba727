"""How many events a second the relay takes to Redis and to a file, beside a loop that only adds entries.

    python -m tests.bench.relay

A run is a whole service that has one sink and one event of one stored file for each of so many tasks due at
it, its log at ``info``; it is over when the last event is settled. By turns in the same rounds: the relay to
Redis, the same messages by ``XADD`` one by one (each waits for its answer) and in pipelines of 100, and the
relay to a file of lines. Redis is the one that the tests know (``TEST_REDIS_URL``), and so is PostgreSQL
(``TEST_POSTGRES_URL``), where there is one. Afterwards the stream, the file and the record must have each
event once. The processor time is our whole process's, and of that the event loop's.

Exits 1 when they have not, or when a target is missed.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import uvloop

from receiver.clock import Clock
from receiver.config.settings import load_settings
from receiver.logs import configure_logs
from receiver.models import Outcome, Route, Settlement, StoredFile, Work
from receiver.options import StoreOptions
from receiver.record.store import RecordStore
from receiver.runtime import open_runtime
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.bench.ingest import benchmark_task
from tests.bench.record import recording
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.postgres import URL as POSTGRES
from tests.support.postgres import scratch_database
from tests.support.sink_hosts import SharedRedis

ALONE = 2000  # events that the loops without us add
PIPELINED = 100
TOGETHER = 500
LOOK_SECONDS = 0.02  # until looking again whether all is settled
FILE = StoredFile(key="k", media_type="image/png", bytes=1_482_113, width=1024, height=1024, sha256="0" * 64)
STATES = "SELECT state, count(*) FROM outbox WHERE sink = :sink GROUP BY state"


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """Events a second, and the microseconds of processor time for each: ours, and the event loop's of it."""

    rate: float
    busy: float
    loop: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Each way once: the relay's, and events a second of the loops without us."""

    redis: Relayed
    one_by_one: float
    pipelined: float
    jsonl: Relayed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="of each run of the relay")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sqlite-only", action="store_true")
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    rows = []
    with ExitStack() as stack:
        cores = stack.enter_context(foreign())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        configure_logs("info", "json", stack.enter_context((folder / "log").open("w")))
        urls = {"SQLite": "sqlite:receiver.db"}
        if not chosen.sqlite_only and _postgres_answers():
            urls["PostgreSQL"] = stack.enter_context(scratch_database())
        for engine, url in urls.items():
            rounds = [
                uvloop.run(measure(url, folder, chosen.events, number)) for number in range(chosen.rounds)
            ]
            rows += rows_of(engine, rounds)
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


def rows_of(engine: str, rounds: Sequence[Round]) -> list[Row]:
    is_default = engine == "SQLite"
    redis = [each.redis.rate for each in rounds]
    rows = [
        Row(
            measure=f"{engine}: relay to Redis, beside one by one",
            unit="events/s",
            ours=redis,
            yardstick="XADD",
            theirs=[each.one_by_one for each in rounds],
            target=5.0 if is_default else None,
        ),
        Row(
            measure=f"{engine}: relay to Redis, beside pipelines",
            unit="events/s",
            ours=redis,
            yardstick="pipelines of 100 XADD",
            theirs=[each.pipelined for each in rounds],
        ),
    ]
    ways = {"Redis": [each.redis for each in rounds], "a file": [each.jsonl for each in rounds]}
    for name, runs in ways.items():
        rate, busy, loop = zip(*map(msgspec.structs.astuple, runs), strict=True)
        target = 20_000 if is_default else None
        rows += [
            Row(measure=f"{engine}: relay to {name}", unit="events/s", ours=rate, target=target),
            Row(measure=f"{engine}: processor time to {name}", unit="us an event", ours=busy),
            Row(measure=f"{engine}: of that the event loop's", unit="us an event", ours=loop),
        ]
    return rows


def _postgres_answers() -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(POSTGRES, connect_timeout=5).close()
        return True
    return False


async def fill(url: str, folder: Path, tasks: range, sink: str | None) -> None:
    """Events of these tasks that have ended, each due at the sink, if any."""
    clock = Clock()
    store = await open_store(url, folder, [sink] if sink else [])
    for first in range(0, len(tasks), TOGETHER):  # the store refuses what would wait too long
        few = [benchmark_task(clock, clock.now(), number) for number in tasks[first : first + TOGETHER]]
        await asyncio.gather(*map(store.log_submission, few))
        await asyncio.gather(*(store.record(recording(each, of_submissions=False)) for each in few))
    now = clock.now()
    stored = Settlement(outcome=Outcome.STORED, started_at=now, settled_at=now, file=FILE)
    while works := await store.lease_assets(now, now + timedelta(seconds=600), TOGETHER):
        await asyncio.gather(*(store.settle_asset(each, stored) for each in works))
    await store.aclose()


async def open_store(url: str, folder: Path, sinks: Sequence[str]) -> RecordStore:
    routes = tuple(Route(sink=sink) for sink in sinks)
    options = StoreOptions(data_dir=folder, clock=Clock(), routes=routes)
    if url.startswith("sqlite:"):
        return await SqliteStore.open(url, options)
    return await PostgresStore.open(url, options)


async def measure(url: str, folder: Path, events: int, number: int) -> Round:
    tasks = range(2 * number * events, 2 * (number + 1) * events)
    first, second = tasks[:events], tasks[events:]
    host = SharedRedis()
    try:
        redis = await relayed(url, folder, first, f"redis{number}", host.url)
        bodies = host.received()
        check_each_once(bodies, events)
        host.client.delete(host.stream)
        one_by_one, pipelined = add_one_by_one(host, bodies), add_pipelined(host, bodies)
    finally:
        host.close()
    lines = folder / f"{url.partition(':')[0]}{number}.jsonl"
    jsonl = await relayed(url, folder, second, f"jsonl{number}", f"jsonl://{lines}")
    check_each_once(lines.read_bytes().splitlines(), events)
    return Round(redis=redis, one_by_one=one_by_one, pipelined=pipelined, jsonl=jsonl)


async def relayed(url: str, folder: Path, tasks: range, sink: str, sink_url: str) -> Relayed:
    """The events of these tasks, which a service with this sink has settled."""
    await fill(url, folder, tasks, sink)
    settings = load_settings(
        {
            "RECEIVER_DATA_DIR": str(folder),
            "RECEIVER_DATABASE_URL": url,
            "RECEIVER_SECRET": "only-for-this-bench",
            f"RECEIVER_SINK_{sink.upper()}": sink_url,
        }
    )
    async with open_runtime(settings, work={Work.RELAY}) as runtime:
        began, busy, loop = time.monotonic(), time.process_time(), time.thread_time()
        while await runtime.store.next_due_at("outbox", sink) is not None:
            await asyncio.sleep(LOOK_SECONDS)
        seconds = time.monotonic() - began
        busy, loop = time.process_time() - busy, time.thread_time() - loop
    store = await open_store(url, folder, ())
    states = await store._read(lambda db: db.execute(STATES, {"sink": sink}).fetchall())
    await store.aclose()
    if [state for state, _ in states] != ["delivered"]:
        sys.exit(f"{sink}: not all is delivered: {states}")
    events = len(tasks)
    return Relayed(rate=events / seconds, busy=busy / events * 1e6, loop=loop / events * 1e6)


def check_each_once(bodies: Sequence[bytes], events: int) -> None:
    ids = Counter(json.loads(body)["id"] for body in bodies)
    if (len(ids), ids.total()) != (events, events):
        sys.exit(f"{events} events came as {len(ids)} in {ids.total()} messages")


def add_one_by_one(host: SharedRedis, bodies: Sequence[bytes]) -> float:
    """Entries a second."""
    began = time.monotonic()
    for number, body in enumerate(bodies[:ALONE]):
        host.client.xadd(host.stream, fields_of(number, body))
    return len(bodies[:ALONE]) / (time.monotonic() - began)


def add_pipelined(host: SharedRedis, bodies: Sequence[bytes]) -> float:
    """The same in pipelines."""
    began = time.monotonic()
    for first in range(0, len(bodies), PIPELINED):
        with host.client.pipeline(transaction=False) as pipeline:
            for number, body in enumerate(bodies[first : first + PIPELINED]):
                pipeline.xadd(host.stream, fields_of(number, body))
            pipeline.execute()
    return len(bodies) / (time.monotonic() - began)


def fields_of(number: int, body: bytes) -> Any:
    return {"id": f"evt_{number:032x}", "type": "task.completed", "event": body}


if __name__ == "__main__":
    sys.exit(main())
