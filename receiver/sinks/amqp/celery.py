"""Notifications as tasks of Celery workers whose broker is RabbitMQ.

    celery+amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST]?task=app.tasks.image_done&queue=celery
    celery+amqps://…   for TLS

A message goes to the queue by the default exchange: its worker declares the queue, and nothing is declared
here. It has the properties and headers that Celery 5.7.0 sends, and the task's id as ``message_id``, too.
"""

from typing import Self

from pamqp.commands import Basic

from receiver.celery_message import CONTENT_ENCODING, CONTENT_TYPE, encode
from receiver.jobs import named
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.amqp.server import LONGEST_NAME_BYTES, OPTIONS, PERSISTENT, AmqpServer

_FORM = "celery+amqp://HOST:PORT/VHOST?task=NAME"


class CelerySink:
    """Starts a task for each notification; done when the server has confirmed that the queue has the message.

    RabbitMQ knows no repeats: a retry after a lost confirmation starts the task again, under the same id.
    """

    def __init__(self, server: AmqpServer, *, task: str, queue: str) -> None:
        self._server = server
        self._task = task
        self._queue = queue

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``?task=NAME&queue=celery``; for amqps also ``ssl_ca_certs=FILE``."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=("task", "queue", *OPTIONS))
        queue = named(where, "queue", "celery")
        if len(queue.encode()) > LONGEST_NAME_BYTES:
            raise where.wrong(f"queue must have {LONGEST_NAME_BYTES} bytes at most")
        server = AmqpServer.from_url(where, options, form=_FORM)
        return cls(server, task=named(where, "task"), queue=queue)

    async def publish(self, notification: Notification) -> None:
        """Return when the queue has it; a repeat is another message with the same task id."""
        message = encode(notification, self._task)
        properties = Basic.Properties(
            content_type=CONTENT_TYPE,
            content_encoding=CONTENT_ENCODING,
            headers=message.headers,
            delivery_mode=PERSISTENT,
            priority=0,
            correlation_id=message.task_id,
            message_id=message.task_id,
        )
        await self._server.publish(message.body, exchange="", routing_key=self._queue, properties=properties)

    async def ping(self) -> None:
        """Prove that the queue is there, so that a worker was; whether it knows the task, only it knows."""
        await self._server.look(exchange="", queue=self._queue)

    async def aclose(self) -> None:
        await self._server.aclose()
