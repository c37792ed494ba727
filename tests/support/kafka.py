"""Topics of librdkafka's mock cluster, and a consumer that reads all that is in them."""

import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.support.kafka_mock import MockCluster
from tests.support.sink_hosts import Child

MOCK = Path(__file__).with_name("kafka_mock.py")


class KafkaTopic:
    """One with one partition, in a cluster of this process."""

    def __init__(self, cluster: MockCluster, name: str) -> None:
        cluster.create(name)
        self.port = cluster.port
        self.name = name
        self.url = f"kafka://127.0.0.1:{self.port}?topic={name}"

    def received(self) -> list[bytes]:
        return [message.value() for message in self.messages()]

    def messages(self) -> list[Any]:
        return read(self.port, self.name)


class KafkaServer(Child):
    """A cluster as a child process.

    It keeps nothing. So its consumer reads what there is before it is killed, and once more, for what was on
    its way: nobody in this process sends meanwhile.
    """

    def __init__(self) -> None:
        super().__init__(lambda port: [sys.executable, str(MOCK), str(port)])
        self.url = f"kafka://127.0.0.1:{self.port}?topic=images"
        self._read: list[bytes] = []

    def stop(self) -> None:
        if self._process is not None:
            before: list[bytes] = []
            while (now := self.received()) != before:
                before = now
            self._read = now
        super().stop()

    def received(self) -> list[bytes]:
        return self._read + [message.value() for message in read(self.port, "images")]


def read(port: int, topic: str) -> list[Any]:
    """All messages of a topic's one partition."""
    consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{port}", "group.id": "tests", "log_level": 0})
    try:
        place = TopicPartition(topic, 0, 0)
        _, end = consumer.get_watermark_offsets(place, timeout=10)
        consumer.assign([place])
        found: list[Any] = []
        while len(found) < end:
            found += consumer.consume(end - len(found), timeout=1)
        assert not any(message.error() for message in found)
        return found
    finally:
        consumer.close()
