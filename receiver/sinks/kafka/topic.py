"""Notifications as messages of a Kafka topic.

    kafka://[user:password@]host[:port][,host[:port]]?topic=TOPIC
    &security=plaintext or ssl        &ssl_ca_certs=FILE for ssl, relative to the data folder
    &sasl=PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, where there is a user

The value is the event, the key its task, so that all of a task is in one partition, in order (by the hash of
Kafka's own Java client). The header ``content-type`` says in which form it is (CloudEvents' Kafka binding,
structured mode). The user needs ``Describe`` and ``Write`` on the topic.
"""

import re
from typing import Any, Self

from receiver.envelope import content_type
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.kafka.producer import BACKOFF_SECONDS, Headers, TopicProducer

PORT = 9092

_FORM = "kafka://HOST:PORT?topic=TOPIC"
_OPTIONS = ("topic", "security", "sasl", "ssl_ca_certs")
_TOPIC = re.compile(r"(?!\.{1,2}$)[\w.-]{1,249}", re.ASCII)


class KafkaSink:
    """Sends each notification to a topic; done when all its brokers in sync have it.

    A repeat arrives again: the driver drops only those that it makes itself.
    """

    def __init__(self, producer: TopicProducer, *, content_type: str) -> None:
        self._producer = producer
        self._headers: Headers = [("content-type", content_type)]

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """See the top of this file."""
        urls = SinkUrl.read_hosts(options.name, url, form=_FORM, known=_OPTIONS, port=PORT)
        first = urls[0]
        if first.path.strip("/") or not all(each.host for each in urls):
            raise first.wrong(f"write {_FORM}")
        topic = first.required("topic")
        if not _TOPIC.fullmatch(topic):
            raise first.wrong("topic must be at most 249 letters, digits, dots, underscores and hyphens")
        config = {
            "bootstrap.servers": ",".join(each.address for each in urls),
            **_security(first, options),
            **_delivery(options.timeout_seconds),
        }
        return cls(
            TopicProducer(topic, config, timeout_seconds=options.timeout_seconds),
            content_type=content_type(options.format),
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the topic has it. Raises Permanent for one that is too large."""
        headers = self._headers
        if notification.traceparent:
            headers = [*headers, ("traceparent", notification.traceparent)]
        await self._producer.send(notification.subject, notification.body, headers)

    async def ping(self) -> None:
        """Prove that the topic is there, with a leader for each partition, and that we may see it.

        Only a publish shows whether we may write to it.
        """
        await self._producer.look()

    async def aclose(self) -> None:
        await self._producer.aclose()


def _security(url: SinkUrl, options: PluginOptions) -> dict[str, Any]:
    security = url.choice("security", ("plaintext", "ssl"))
    config: dict[str, Any] = {}
    if "ssl_ca_certs" in url.options and security != "ssl":
        raise url.wrong("ssl_ca_certs needs security=ssl")
    if (authorities := url.authorities(options.data_dir)) is not None:
        config["ssl.ca.location"] = str(authorities)
    if url.user is None:
        if "sasl" in url.options:
            raise url.wrong("sasl needs a user and a password before the host")
        return config | {"security.protocol": security}
    if not url.user or not url.password:
        raise url.wrong("a user needs a password")
    return config | {
        "security.protocol": f"sasl_{security}",
        "sasl.mechanism": url.choice("sasl", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")),
        "sasl.username": url.user,
        "sasl.password": url.password,
    }


def _delivery(timeout_seconds: float) -> dict[str, Any]:
    timeout_ms = max(int(timeout_seconds * 1000), 100)
    return {
        "client.id": "receiver",
        "acks": "all",
        "enable.idempotence": True,  # the driver's own retries add nothing twice and keep the order
        "partitioner": "murmur2_random",
        "linger.ms": 2,
        "message.timeout.ms": timeout_ms,
        # That a topic is not there is said after this; after the driver's 30 s a message has timed out.
        "topic.metadata.propagation.max.ms": min(3000, timeout_ms // 2),
        # A connection on which nothing is answered is given up later than what waits for it.
        "socket.timeout.ms": min(max(3 * timeout_ms, 5000), 60_000),
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": int(BACKOFF_SECONDS * 1000),
    }
