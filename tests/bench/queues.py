"""Events per second into RabbitMQ and NATS by the sinks, beside the bare drivers with a confirm for each.

    python -m tests.bench.queues --events 2000 --rounds 3

Into the RabbitMQ of this machine (or TEST_AMQP_URL) and a nats-server of its own, by turns in one run: the
same bytes, persistent, into a durable queue and a stream on disk. The aim is three times as many.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import nats
from aiormq import Connection
from pamqp.commands import Basic

from receiver.fetching.client import open_plain_client
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.ports import Sink
from receiver.sinks.amqp import AmqpSink
from receiver.sinks.nats import NatsSink
from receiver.testing import sample_notification as notification
from tests.support.nats import NatsServer
from tests.support.rabbitmq import Rabbit, shared_rabbit

Publish = Callable[[Notification], Awaitable[object]]
CONCURRENCY = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        server, rabbit = NatsServer(Path(name)), shared_rabbit()
        server.start()
        try:
            asyncio.run(_compare(server, rabbit, Path(name), args.events, args.rounds))
        finally:
            server.stop()
            rabbit.clear()


async def _compare(server: NatsServer, rabbit: Rabbit, folder: Path, events: int, rounds: int) -> None:
    async with open_plain_client() as http:
        options = PluginOptions(name="bench", data_dir=folder, http=http)
        for kind, url, bare in (
            (NatsSink, server.url, _bare_nats),
            (AmqpSink, rabbit.url, _bare_amqp),
        ):
            ratios = []
            for number in range(rounds):
                sink: Sink = kind.from_url(url, options)
                ours = await _rate(sink.publish, _events(f"ours{number}", events), CONCURRENCY)
                await sink.aclose()
                theirs = await bare(server, rabbit, _events(f"bare{number}", events))
                ratios.append(ours / theirs)
                print(f"{kind.__name__}: {ours:.0f} events/s, one by one {theirs:.0f}, {ours / theirs:.1f} x")
            print(f"{kind.__name__}: median {statistics.median(ratios):.1f} x (aim 3)")


def _events(prefix: str, count: int) -> list[Notification]:
    return [notification(f"evt_{prefix}_{number}") for number in range(count)]


async def _rate(publish: Publish, messages: Sequence[Notification], at_once: int) -> float:
    """Events per second, with so many under way."""
    await publish(notification(f"{messages[0].event_id}_first"))  # connects
    waiting = iter(messages)

    async def keep_on() -> None:
        for message in waiting:
            await publish(message)

    began = time.monotonic()
    await asyncio.gather(*(keep_on() for _ in range(at_once)))
    return len(messages) / (time.monotonic() - began)


async def _bare_nats(server: NatsServer, _: Rabbit, messages: Sequence[Notification]) -> float:
    client = await nats.connect(f"nats://127.0.0.1:{server.port}")
    jetstream = client.jetstream()
    try:
        return await _rate(
            lambda each: jetstream.publish("events", each.body, headers={"Nats-Msg-Id": each.dedupe_key}),
            messages,
            1,
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
            messages,
            1,
        )
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
