"""What order at a sink costs, without any, by task, and by few and many owners: events a second to a file.

And the processor time of an event, which says the same on a busy machine.

    python -m tests.bench.order

A run is a whole service with one sink, at which so many events are due when it starts; it is over when the
last is settled. Without and with an order by turns in the same rounds; afterwards each event must be there
once, and where that was asked for those of an owner in their order.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import msgspec
import uvloop

from receiver.clock import Clock
from receiver.config.settings import load_settings
from receiver.logs import configure_logs
from receiver.models import Route, SinkOrder, Work
from receiver.options import StoreOptions
from receiver.record.store import RecordStore
from receiver.runtime import open_runtime
from receiver.stores.postgres import PostgresStore
from receiver.stores.sqlite import SqliteStore
from tests.bench.relay import LOOK_SECONDS, TOGETHER
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.factories import failed, recording, submission
from tests.support.postgres import scratch_database

UNORDERED = "no order"
WAYS = (
    (UNORDERED, SinkOrder.NONE, 1000),
    ("by task", SinkOrder.TASK, 1000),
    ("by owner, 1,000 owners", SinkOrder.OWNER, 1000),
    ("by owner, 10 owners", SinkOrder.OWNER, 10),
    ("by owner, one owner", SinkOrder.OWNER, 1),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL, not on SQLite")
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    rates: defaultdict[str, list[float]] = defaultdict(list)
    costs: defaultdict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        cores = stack.enter_context(foreign())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        configure_logs("info", "json", stack.enter_context((folder / "log").open("w")))
        url = stack.enter_context(scratch_database()) if chosen.postgres else "sqlite:receiver.db"
        for number in range(chosen.rounds):
            for way, (name, order, owners) in enumerate(WAYS):
                sink = f"s{number}w{way}"
                rate, cost = uvloop.run(relayed(url, folder, sink, order, owners, chosen.events))
                rates[name].append(rate)
                costs[name].append(cost)
    rows = [
        Row(measure=f"{measure}, {name}", unit=unit, ours=each, yardstick=UNORDERED, theirs=found[UNORDERED])
        for found, measure, unit in (
            (rates, "relay to a file", "events/s"),
            (costs, "processor time of one", "us"),
        )
        for name, each in found.items()
        if name != UNORDERED
    ]
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def open_store(url: str, folder: Path, route: Route) -> RecordStore:
    options = StoreOptions(data_dir=folder, clock=Clock(), routes=[route])
    kind = SqliteStore if url.startswith("sqlite:") else PostgresStore
    return await kind.open(url, options)


async def relayed(
    url: str, folder: Path, sink: str, order: SinkOrder, owners: int, events: int
) -> tuple[float, float]:
    """Events a second, and microseconds of processor time for each; the database's own are not in them."""
    store, now = await open_store(url, folder, Route(sink=sink, order=order)), Clock().now()
    names = [f"{sink}-{number}" for number in range(events)]
    for first in range(0, events, TOGETHER):  # the store refuses what would wait too long
        few = range(first, min(first + TOGETHER, events))
        rows = [submission(names[number], owner=f"user-{number % owners}") for number in few]
        await asyncio.gather(
            *(store.log_submission(msgspec.structs.replace(row, created_at=now)) for row in rows)
        )
        for number in few:  # numbers in the order of the names
            await store.record(recording(failed(names[number]), received_at=now))
    await store.aclose()
    lines = folder / f"{sink}.jsonl"
    settings = load_settings(
        {
            "RECEIVER_DATA_DIR": str(folder),
            "RECEIVER_DATABASE_URL": url,
            "RECEIVER_SECRET": "only-for-this-bench",
            f"RECEIVER_SINK_{sink.upper()}": f"jsonl://{lines}",
            f"RECEIVER_SINK_{sink.upper()}_ORDER": order.value,
        }
    )
    async with open_runtime(settings, work={Work.RELAY}) as runtime:
        began, spent = time.monotonic(), time.process_time()
        while await runtime.store.next_due_at("outbox", sink) is not None:
            await asyncio.sleep(LOOK_SECONDS)
        seconds, spent = time.monotonic() - began, time.process_time() - spent
    check(lines, events, is_by_owner=order is SinkOrder.OWNER)
    return events / seconds, spent / events * 1e6


def check(lines: Path, events: int, *, is_by_owner: bool) -> None:
    """Each event is there once, and where that was asked for those of an owner are in their order."""
    told: defaultdict[str, list[int]] = defaultdict(list)
    for line in lines.read_bytes().splitlines():
        data = json.loads(line)["data"]
        told[data["owner"]].append(int(data["task_id"].rpartition("-")[2]))
    if sum(map(len, told.values())) != events or len({n for each in told.values() for n in each}) != events:
        sys.exit(f"{lines.name}: not each event came once")
    if is_by_owner and any(each != sorted(each) for each in told.values()):
        sys.exit(f"{lines.name}: events of one owner came in another order")


if __name__ == "__main__":
    sys.exit(main())
