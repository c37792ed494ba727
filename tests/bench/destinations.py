"""A bucket and five kinds of sinks, each away once while thousands of tasks go wrong; then the ledger.

    python -m tests.bench.destinations --tasks 10000

One `receiver serve` on SQLite keeps its files in a bucket of SeaweedFS and tells a webhook, a Redis
stream, a RabbitMQ queue, a NATS stream and a queue of SQS (Moto's) of every end. A backend orders at the
four played providers, with everything that goes wrong there: callbacks are lost, doubled, reordered, late
and forged, tasks fail, links are dead or die. Meanwhile one engine after the other is frozen or killed
for some seconds, and goes on. What is then not as it must be is told: a task that has another end on
record than at its provider, one that a sink was not told of, or under two ids; a file that is missing in
the bucket, torn or nobody's; anything that waits; a repeat in Redis or NATS, which drop them. Everything
is on loopback.

Prints how far it is, and the figures. Exits 1 when anything is not as it must be.
"""

import argparse
import asyncio
import hashlib
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from botocore.exceptions import BotoCoreError

from receiver.simulator import Faults, SimulatorOptions
from tests.e2e.ledger import PROVIDERS, Shop, asking, key_of, told_wrongly
from tests.e2e.service import ADMIN_TOKEN, Consumer, Receiver, bearer, consumer
from tests.support.nats import NatsServer
from tests.support.rabbitmq import RabbitNode
from tests.support.s3 import S3Server, seaweedfs
from tests.support.sink_hosts import RedisServer
from tests.support.sqs import SqsServer
from tests.support.waiting import until
from tests.support.watched_providers import watched_providers

BUCKET = "s3://images/bench"
ORDERS_AT_ONCE = 48
POLLS_PER_MINUTE = 3000
AWAY_SECONDS = (4.0, 10.0)  # around the time that one publish may take
START_SECONDS = 120.0
REQUEST_SECONDS = 60.0
REST_SECONDS = 1800.0
TALK_SECONDS = 15.0
CONSUME_SECONDS = 2.0
DROPS_REPEATS = ("redis", "nats")


class Outage(NamedTuple):
    """What happens to an engine for a while."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]


class Engines(NamedTuple):
    """All that the service writes to."""

    bucket: S3Server
    hook: Consumer
    redis: RedisServer
    rabbit: RabbitNode
    nats: NatsServer
    sqs: SqsServer

    def settings(self) -> dict[str, str]:
        sinks = {
            "HOOK": self.hook.url,
            "REDIS": self.redis.url,
            "RABBIT": self.rabbit.url,
            "NATS": self.nats.url,
            "SQS": self.sqs.url,
        }
        named = {f"RECEIVER_SINK_{name}": url for name, url in sinks.items()}
        times = {f"RECEIVER_SINK_{name}_TIMEOUT_SECONDS": "5" for name in sinks}
        return {**named, **times, **self.bucket.environment, "RECEIVER_ASSETS_URL": BUCKET}

    def outages(self) -> list[Outage]:
        return [
            Outage("redis killed", self.redis.stop, self.redis.start),
            Outage("bucket frozen", self.bucket.freeze, self.bucket.thaw),
            Outage("rabbitmq killed", self.rabbit.stop, self.rabbit.start),
            Outage("nats killed", self.nats.stop, self.nats.start),
            Outage("sqs frozen", self.sqs.freeze, self.sqs.thaw),
            Outage("redis frozen", self.redis.freeze, self.redis.thaw),
            Outage("rabbitmq frozen", self.rabbit.freeze, self.rabbit.thaw),
            Outage("nats frozen", self.nats.freeze, self.nats.thaw),
        ]

    def told(self) -> Mapping[str, list[bytes]]:
        """What has arrived, by sink."""
        return {
            "hook": list(self.hook.bodies),
            "redis": self.redis.received(),
            "rabbit": self.rabbit.received(),
            "nats": self.nats.received(),
            "sqs": self.sqs.received(),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=30.0, help="tasks a second, at most")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="receiver-destinations-") as folder:
        wrong = asyncio.run(run(Path(folder), tasks=chosen.tasks, rate=chosen.rate, seed=chosen.seed))
    print(f"minutes {(time.monotonic() - began) / 60:.1f}; not as it must be: {len(wrong)}")
    print("\n".join(f"  {line}" for line in wrong[:30]))
    return 1 if wrong else 0


async def run(folder: Path, *, tasks: int, rate: float, seed: int) -> list[str]:
    """Play it; what is not as it must be."""
    async with AsyncExitStack() as stack:
        engines = await stack.enter_async_context(running(folder))
        providers_url, _ = await stack.enter_async_context(watched_providers(world(seed)))
        service = await stack.enter_async_context(serving(folder / "service", engines, providers_url))
        orders = await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=providers_url,
                trust_env=False,
                timeout=REQUEST_SECONDS,
                limits=httpx2.Limits(keepalive_expiry=2.0),  # less than the simulator keeps an idle one
            )
        )
        shop = Shop(service, orders)
        done: list[int] = []
        beside = [asyncio.create_task(talk(service, done)), asyncio.create_task(consume(engines.sqs))]
        async with asyncio.TaskGroup() as group:
            group.create_task(trouble(engines, done, tasks, random.Random(seed)))
            await order(shop, done, tasks, rate)
        await until(lambda: shop.is_at_rest(tasks), REST_SECONDS)
        for task in beside:
            task.cancel()
        truth = {f"{task['provider']}/{task['task_id']}": task for task in await shop.truth()}
        told = await asyncio.to_thread(engines.told)
        wrong = judge(truth, await shop.tasks(), told)
        await service.stop()
        wrong += list(not_in_bucket(truth, engines.bucket))
        wrong += list(unfinished(service.data / "receiver.db"))
        return wrong


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Engines]:
    """Every engine, each in processes of its own; none of them runs on afterwards."""
    places = {name: folder / name for name in ("bucket", "redis", "rabbit", "nats", "sqs", "service")}
    for place in places.values():
        place.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        hook = await stack.enter_async_context(consumer())
        await hook.start()
        bucket = stack.enter_context(seaweedfs(places["bucket"]))
        servers = (
            RedisServer(places["redis"]),
            RabbitNode(places["rabbit"]),
            NatsServer(places["nats"]),
            SqsServer(places["sqs"]),
        )
        for server in servers:
            stack.callback(server.stop)
            await asyncio.to_thread(server.start)
        yield Engines(bucket, hook, *servers)


def world(seed: int) -> SimulatorOptions:
    return SimulatorOptions(
        task_seconds=1.0,
        keys={name: key_of(name) for name in PROVIDERS},
        picture_pixels=64,
        faults=Faults(
            seed=seed, drop=0.2, duplicate=0.3, reorder=0.2, delay=1.0, fail=0.05,
            dead_links=0.05, error_in_200=0.05, dying_links=120.0, rate_limit=POLLS_PER_MINUTE,
        ),
    )  # fmt: skip


@asynccontextmanager
async def serving(folder: Path, engines: Engines, providers_url: str) -> AsyncIterator[Receiver]:
    settings = asking(providers_url, first_poll_seconds=3.0, polls_per_minute=POLLS_PER_MINUTE)
    service = Receiver(folder, settings | engines.settings())
    try:
        service.launch()
        await until(service.is_ready, START_SECONDS)
        yield service
    finally:
        service.discard()
        await service.http.aclose()


async def order(shop: Shop, done: list[int], tasks: int, rate: float) -> None:
    began = time.monotonic()
    numbers = iter(range(tasks))

    async def work() -> None:
        for number in numbers:
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            await shop.order(number)
            done.append(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(ORDERS_AT_ONCE):
            group.create_task(work())


async def trouble(engines: Engines, done: Sequence[int], tasks: int, chance: random.Random) -> None:
    """One outage after the other, spread over the orders."""
    outages = engines.outages()
    for place, outage in enumerate(outages, start=1):
        while len(done) < tasks * place / (len(outages) + 1):
            await asyncio.sleep(0.1)
        seconds = chance.uniform(*AWAY_SECONDS)
        print(f"{outage.name} for {seconds:.0f} s", flush=True)
        await asyncio.to_thread(outage.begin)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(outage.end)


async def consume(sqs: SqsServer) -> None:
    """Take what is in the queue, as a consumer does: Moto is slow with a long one."""
    while True:
        await asyncio.sleep(CONSUME_SECONDS)
        with suppress(BotoCoreError):  # it is away
            await asyncio.to_thread(sqs.received)


async def talk(service: Receiver, done: Sequence[int]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(TALK_SECONDS)
        stats = (await service.http.get("/stats", headers=bearer(ADMIN_TOKEN))).json()
        waiting = {name: sink.get("pending", 0) for name, sink in stats["outbox"].items()}
        print(f"{time.monotonic() - began:6.0f} s: {len(done):,} ordered, to be told: {waiting}", flush=True)


def judge(
    truth: Mapping[str, Any], tasks: Mapping[str, Any], told: Mapping[str, Sequence[bytes]]
) -> list[str]:
    wrong = told_wrongly(truth, tasks, {sink: list(map(json.loads, bodies)) for sink, bodies in told.items()})
    print(f"tasks {len(truth):,}; told again:", end=" ")
    for sink, bodies in told.items():
        ids: dict[str, set[bytes]] = {}
        for body in bodies:
            ids.setdefault(json.loads(body)["id"], set()).add(body)
        again = len(bodies) - len(ids)
        print(f"{sink} {again}", end=" ")
        if again and sink in DROPS_REPEATS:
            wrong.append(f"sink {sink} was told {again} events again")
        wrong += [f"sink {sink}: {id_} came with other bytes" for id_, each in ids.items() if len(each) > 1]
    print()
    return wrong


def not_in_bucket(truth: Mapping[str, Any], bucket: S3Server) -> Iterator[str]:
    wanted = Counter(file["sha256"] for task in truth.values() for file in task["files"])
    store = bucket.store()
    keys = bucket.keys("bench")
    there = Counter(hashlib.sha256(bytes(store.get(key).bytes())).hexdigest() for key in keys)
    print(f"files in the bucket {len(keys):,}")
    if missing := wanted - there:
        yield f"{missing.total()} files are missing in the bucket"
    if strange := there - wanted:
        yield f"{strange.total()} files in the bucket are torn, or nobody's"


def unfinished(database: Path) -> Iterator[str]:
    with closing(sqlite3.connect(database)) as connection:
        for table in ("assets", "outbox"):
            counts = dict(
                connection.execute(f"SELECT state, count(*) FROM {table} GROUP BY state").fetchall()
            )
            for state in ("pending", "dead"):
                if count := counts.get(state):
                    yield f"{count} of {table} are {state}"


if __name__ == "__main__":
    sys.exit(main())
