"""How many events a second the relay takes to Redis and to a file, beside a loop that only adds entries.

    python -m tests.bench.relay

A record is filled with events of one stored file each, for so many sinks as there are runs. A run is a whole
service that has one of these sinks, its log at ``info``, and that is over when the last event is settled. By
turns in the same rounds: the relay to Redis, the same messages by ``XADD`` one by one (each waits for its
answer) and in pipelines of 100, and the relay to a file of lines. Redis is the one that the tests know
(``TEST_REDIS_URL``), and so is PostgreSQL (``TEST_POSTGRES_URL``), where there is one. Afterwards the stream,
the file and the record must have each event once.

Exits 1 when they have not.
"""

import argparse
import asyncio
import json
import statistics
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
from tests.support.postgres import URL as POSTGRES
from tests.support.postgres import scratch_database
from tests.support.sink_hosts import SharedRedis

ALONE = 2000  # events that the loops without us add
PIPELINED = 100
TOGETHER = 500
FILE = StoredFile(key="k", media_type="image/png", bytes=1_482_113, width=1024, height=1024, sha256="0" * 64)
STATES = "SELECT state, count(*) FROM outbox WHERE sink = :sink GROUP BY state"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Events a second in each way."""

    redis: float
    one_by_one: float
    pipelined: float
    jsonl: float

    def __str__(self) -> str:
        return (
            f"relay to Redis {self.redis:,.0f}/s, XADD one by one {self.one_by_one:,.0f}/s"
            f" ({self.redis / self.one_by_one:.1f} times), in pipelines {self.pipelined:,.0f}/s;"
            f" relay to a file {self.jsonl:,.0f}/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="of each run of the relay")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sqlite-only", action="store_true")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        configure_logs("info", "json", stack.enter_context((folder / "log").open("w")))
        urls = {"SQLite": "sqlite:receiver.db"}
        if not chosen.sqlite_only and _postgres_answers():
            urls["PostgreSQL"] = stack.enter_context(scratch_database())
        for engine, url in urls.items():
            uvloop.run(fill(url, folder, chosen.events, chosen.rounds))
            rounds = []
            for number in range(chosen.rounds):
                rounds.append(uvloop.run(measure(url, folder, chosen.events, number)))
                print(f"{engine}, round {number + 1}: {rounds[-1]}", flush=True)
            print(f"{engine}, median: {median(rounds)}")


def _postgres_answers() -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(POSTGRES, connect_timeout=5).close()
        return True
    return False


def median(rounds: Sequence[Round]) -> Round:
    names = Round.__struct_fields__
    return Round(**{name: statistics.median(getattr(each, name) for each in rounds) for name in names})


async def fill(url: str, folder: Path, events: int, rounds: int) -> None:
    """Events that have ended, each due at every sink."""
    clock = Clock()
    sinks = [f"{kind}{number}" for kind in ("redis", "jsonl") for number in range(rounds)]
    store = await open_store(url, folder, sinks)
    logged = [benchmark_task(clock, clock.now(), number) for number in range(events)]
    await asyncio.gather(*map(store.log_submission, logged))
    await asyncio.gather(*(store.record(recording(each, of_submissions=False)) for each in logged))
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
    host = SharedRedis()
    try:
        redis = events / await relayed(url, folder, f"redis{number}", host.url)
        bodies = host.received()
        check_each_once(bodies, events)
        host.client.delete(host.stream)
        one_by_one, pipelined = add_one_by_one(host, bodies), add_pipelined(host, bodies)
    finally:
        host.close()
    lines = folder / f"{url.partition(':')[0]}{number}.jsonl"
    jsonl = events / await relayed(url, folder, f"jsonl{number}", f"jsonl://{lines}")
    check_each_once(lines.read_bytes().splitlines(), events)
    return Round(redis=redis, one_by_one=one_by_one, pipelined=pipelined, jsonl=jsonl)


async def relayed(url: str, folder: Path, sink: str, sink_url: str) -> float:
    """Seconds until a service with this sink has settled all that is due at it."""
    settings = load_settings(
        {
            "RECEIVER_DATA_DIR": str(folder),
            "RECEIVER_DATABASE_URL": url,
            "RECEIVER_SECRET": "only-for-this-bench",
            f"RECEIVER_SINK_{sink.upper()}": sink_url,
        }
    )
    async with open_runtime(settings, work={Work.RELAY}) as runtime:
        began = time.monotonic()
        while await runtime.store.next_due_at("outbox", sink) is not None:
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - began
    store = await open_store(url, folder, ())
    states = await store._read(lambda db: db.execute(STATES, {"sink": sink}).fetchall())
    await store.aclose()
    if [state for state, _ in states] != ["delivered"]:
        sys.exit(f"{sink}: not all is delivered: {states}")
    return seconds


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
    main()
