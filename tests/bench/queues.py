"""Events per second into RabbitMQ and NATS by the sinks, beside the bare drivers with a confirm for each.

    python -m tests.bench.queues --events 2000 --rounds 3

Into the RabbitMQ of this machine (or TEST_AMQP_URL) and a nats-server of its own, by turns in one run: the
same bytes, persistent, into a durable queue and a stream on disk. The sinks get them in batches, as from the
relay. Exits 1 when a target is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import nats
from aiormq import Connection
from pamqp.commands import Basic

from receiver.fetching.client import open_plain_client
from receiver.loops import BATCHES_AT_ONCE
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.ports import BatchSink
from receiver.sink_circuit import MOST_IN_BATCH
from receiver.sinks.amqp import AmqpSink
from receiver.sinks.nats import NatsSink
from receiver.testing import sample_notification as notification
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.nats import NatsServer
from tests.support.rabbitmq import Rabbit, shared_rabbit

Publish = Callable[[Notification], Awaitable[object]]
ALONE = 1000  # events that the bare drivers send


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        server, rabbit = NatsServer(Path(name)), shared_rabbit()
        server.start()
        try:
            wait_for_quiet()
            with foreign() as cores:
                rows = asyncio.run(_compare(server, rabbit, Path(name), args.events, args.rounds))
        finally:
            server.stop()
            rabbit.clear()
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=args.json)


async def _compare(server: NatsServer, rabbit: Rabbit, folder: Path, events: int, rounds: int) -> list[Row]:
    rows = []
    async with open_plain_client() as http:
        options = PluginOptions(name="bench", data_dir=folder, http=http)
        for name, kind, url, bare in (
            ("NATS", NatsSink, server.url, _bare_nats),
            ("RabbitMQ", AmqpSink, rabbit.url, _bare_amqp),
        ):
            ours, theirs = [], []
            for number in range(rounds):
                sink = kind.from_url(url, options)
                ours.append(await _rate_of_batches(sink, _events(f"ours{number}", events)))
                await sink.aclose()
                theirs.append(await bare(server, rabbit, _events(f"bare{number}", events)))
            rows += [
                Row(
                    measure=f"events to {name}, beside one by one",
                    unit="events/s",
                    ours=ours,
                    yardstick="the bare driver",
                    theirs=theirs,
                    target=3.0,
                ),
                Row(measure=f"events to {name}", unit="events/s", ours=ours, target=5000),
            ]
    return rows


def _events(prefix: str, count: int) -> list[Notification]:
    return [notification(f"evt_{prefix}_{number}") for number in range(count)]


async def _rate_of_batches(sink: BatchSink, messages: Sequence[Notification]) -> float:
    """Events per second, with two batches under way."""
    await sink.publish(notification(f"{messages[0].event_id}_first"))  # connects
    batches = iter(
        [messages[first : first + MOST_IN_BATCH] for first in range(0, len(messages), MOST_IN_BATCH)]
    )

    async def keep_on() -> None:
        for batch in batches:
            ends = await sink.publish_many(batch)
            assert not any(ends), ends

    began = time.monotonic()
    await asyncio.gather(*(keep_on() for _ in range(BATCHES_AT_ONCE)))
    return len(messages) / (time.monotonic() - began)


async def _rate(publish: Publish, messages: Sequence[Notification]) -> float:
    """Events per second, one after the other."""
    await publish(notification(f"{messages[0].event_id}_first"))  # connects
    began = time.monotonic()
    for message in messages:
        await publish(message)
    return len(messages) / (time.monotonic() - began)


async def _bare_nats(server: NatsServer, _: Rabbit, messages: Sequence[Notification]) -> float:
    client = await nats.connect(f"nats://127.0.0.1:{server.port}")
    jetstream = client.jetstream()
    try:
        return await _rate(
            lambda each: jetstream.publish("events", each.body, headers={"Nats-Msg-Id": each.dedupe_key}),
            messages[:ALONE],
        )
    finally:
        await client.close()


async def _bare_amqp(_: NatsServer, rabbit: Rabbit, messages: Sequence[Notification]) -> float:
    connection = Connection(f"{rabbit.root}/")
    await connection.connect()
    channel = await connection.channel()
    try:
        return await _rate(
            lambda each: channel.basic_publish(
                each.body, routing_key=rabbit.queue, properties=Basic.Properties(delivery_mode=2)
            ),
            messages[:ALONE],
        )
    finally:
        await connection.close()


if __name__ == "__main__":
    sys.exit(main())
