"""Notifications as messages that a RabbitMQ exchange, or one of its queues, has confirmed.

    amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]?queue=NAME   amqps:// for TLS
    amqp://…?exchange=NAME[&routing_key=KEY]

Nothing is declared here: what is not there is somebody's mistake, or not there yet. A message has the
properties ``content_type`` (of CloudEvents' structured mode), ``type`` and ``message_id``, the event's id.
"""

from collections.abc import Sequence
from typing import Self

from pamqp.commands import Basic

from receiver.batches import publish_each
from receiver.envelope import content_type
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.amqp.server import LONGEST_NAME_BYTES, OPTIONS, PERSISTENT, AmqpServer

_FORM = "amqp://HOST:PORT/VHOST?queue=NAME, or ?exchange=NAME&routing_key=KEY"
_NAMES = ("queue", "exchange", "routing_key")


class AmqpSink:
    """Publishes each notification; done when the server has confirmed that a queue has it.

    One that reaches no queue is Unavailable, as somebody may bind one; only what is too large is Permanent.
    """

    def __init__(self, server: AmqpServer, *, exchange: str, routing_key: str, content_type: str) -> None:
        self._server = server
        self._exchange = exchange
        self._routing_key = routing_key
        self._content_type = content_type

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``?queue=NAME``, or ``?exchange=NAME&routing_key=KEY``; for amqps also ``ssl_ca_certs=FILE``."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=(*_NAMES, *OPTIONS))
        names = {name: where.options[name] for name in _NAMES if name in where.options}
        if not names or ("queue" in names and len(names) > 1):
            raise where.wrong("its URL needs queue, or exchange and routing_key")
        for name, value in names.items():
            if len(value.encode()) > LONGEST_NAME_BYTES:
                raise where.wrong(f"{name} must have {LONGEST_NAME_BYTES} bytes at most")
        return cls(
            AmqpServer.from_url(where, options, form=_FORM),
            exchange=names.get("exchange", ""),
            routing_key=names.get("queue", names.get("routing_key", "")),
            content_type=content_type(options.format),
        )

    async def publish(self, notification: Notification) -> None:
        """Return when a queue has it; a repeat is another message with the same ``message_id``."""
        properties = Basic.Properties(
            content_type=self._content_type,
            headers={"traceparent": notification.traceparent} if notification.traceparent else None,
            delivery_mode=PERSISTENT,
            message_id=notification.event_id,
            message_type=notification.type.value,
        )
        await self._server.publish(
            notification.body,
            exchange=self._exchange,
            routing_key=self._routing_key,
            properties=properties,
        )

    async def publish_many(self, notifications: Sequence[Notification]) -> list[Exception | None]:
        """Publish each, many at a time, all of them in the time that one publish has."""
        return await publish_each(self.publish, notifications, self._server.timeout_seconds)

    async def ping(self) -> str | None:
        """Prove that the exchange, or the queue, is there."""
        await self._server.look(exchange=self._exchange, queue="" if self._exchange else self._routing_key)
        if self._exchange:
            return f"the exchange {self._exchange} is there; whether it leads to a queue, only an event shows"
        return None

    async def aclose(self) -> None:
        await self._server.aclose()
