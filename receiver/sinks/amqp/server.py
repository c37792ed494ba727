"""A RabbitMQ server that a sink sends to: its URL, a channel with confirms, a deadline for all that is asked.

Behaviour of servers was seen with RabbitMQ 3.10.8, that of the driver with aiormq 7.2.4.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

from aiormq import Connection, exceptions
from aiormq.abc import AbstractChannel, AbstractConnection
from pamqp.commands import Basic
from yarl import URL

from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.amqp.failures import alarm, failure

OPTIONS = ("ssl_ca_certs",)
PERSISTENT = 2  # else a queue that is durable loses it at a restart, though it was confirmed
LONGEST_NAME_BYTES = 255  # of an exchange, a queue, a routing key and a message's id

PORTS = {"amqp": 5672, "amqps": 5671}
HEARTBEAT_SECONDS = 10  # a connection on which nothing comes for three of these has ended
CLOSE_SECONDS = 1.0

# What it logs, the errors tell; and it names hosts and users.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


class AmqpServer:
    """Connects once something is sent, in the background, and again when a connection or channel has ended.

    So nothing that was given up is sent later, as the driver's robust connections would.
    """

    def __init__(self, url: URL, *, vhost: str, trust: ssl.SSLContext | None, timeout_seconds: float) -> None:
        self._url = url
        self._vhost = vhost
        self._trust = trust
        self.timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._opening: asyncio.Task[AbstractChannel] | None = None
        self._under_way: dict[str, asyncio.Future[None]] = {}

    @classmethod
    def from_url(cls, url: SinkUrl, options: PluginOptions, *, form: str) -> Self:
        """Of a URL whose scheme ends in ``amqp`` or ``amqps``; ``form`` shows how to write it.

        Its path is a virtual host, ``/`` where there is none. For TLS it may have ``OPTIONS``.
        Raises Misconfigured.
        """
        if not url.host:
            raise url.wrong(f"write {form}")
        scheme = url.scheme.rpartition("+")[2]
        address = URL.build(
            scheme=scheme,
            user="guest" if url.user is None else url.user,
            password="guest" if url.password is None else url.password,
            host=url.host,
            port=url.port or PORTS[scheme],
            query={"name": "receiver", "heartbeat": str(HEARTBEAT_SECONDS)},
        )
        return cls(
            address,
            vhost=url.path or "/",
            trust=_trust(url, options, scheme),
            timeout_seconds=options.timeout_seconds,
        )

    async def publish(
        self, body: bytes, *, exchange: str, routing_key: str, properties: Basic.Properties
    ) -> None:
        """Return when a queue has it, on disk where the queue is durable and the message ``PERSISTENT``.

        ``exchange`` is empty for the default one, which leads to the queue that ``routing_key`` names.
        The properties must have a ``message_id``. Raises Unavailable, and Permanent where it is too large.
        """
        async with self._asked(len(body)), self._alone(properties.message_id or ""):
            channel = await self._opened()
            # Whatever is sent in an alarm arrives when that is over, though it was given up: so nothing is.
            if await _is_blocked(channel.connection):
                raise alarm()
            # Waits for the confirm alone: else each would wait until the one before is written, too.
            await channel.basic_publish(  # type: ignore[call-arg] # its abstract class lacks wait
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=True,
                wait=False,
            )

    async def look(self, *, exchange: str, queue: str) -> None:
        """Prove that there is such an exchange, and such a queue; either may be empty. Raises Unavailable."""
        async with self._asked():
            opened = await self._opened()
            if await _is_blocked(opened.connection):
                raise alarm()
            # Of its own: to ask for what is not there ends a channel.
            channel = await opened.connection.channel(publisher_confirms=False)
            if exchange:
                await channel.exchange_declare(exchange, passive=True)
            if queue:
                await channel.queue_declare(queue, passive=True)
            await channel.close()

    async def aclose(self) -> None:
        """Let go of the connection, in a second at most."""
        if self._opening is not None:
            self._opening.cancel()  # no harm to one that is done
        await self._close()

    @asynccontextmanager
    async def _asked(self, size: int = 0) -> AsyncIterator[None]:
        """Set one deadline for all, and put the driver's errors in our words."""
        task = asyncio.current_task()
        asked_to_end = task.cancelling() if task else 0
        try:
            async with asyncio.timeout(self.timeout_seconds):
                yield
        except (exceptions.AMQPError, OSError, RuntimeError) as exc:  # of a channel's state: a RuntimeError
            connection = self._connection if isinstance(exc, TimeoutError) else None
            if connection is not None and await _is_blocked(connection):
                raise alarm() from exc
            raise failure(exc, size) from exc
        except asyncio.CancelledError as exc:
            if task and task.cancelling() > asked_to_end:
                raise
            raise failure(exc) from exc  # the driver's, for what was under way on a connection that ended

    @asynccontextmanager
    async def _alone(self, message_id: str) -> AsyncIterator[None]:
        # By this id the driver tells which message came back, and takes others that have it for delivered.
        while earlier := self._under_way.get(message_id):
            await asyncio.wait([earlier])
        done = self._under_way[message_id] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._under_way[message_id]
            done.set_result(None)

    async def _opened(self) -> AbstractChannel:
        task = self._opening
        if task is None or (
            task.done() and (task.cancelled() or task.exception() or task.result().is_closed)
        ):
            task = self._opening = asyncio.create_task(self._open())
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be waiting
        return await asyncio.shield(task)

    async def _open(self) -> AbstractChannel:
        async with asyncio.timeout(self.timeout_seconds):
            if self._connection is None or not self._connection.is_opened:
                await self._close()
                connection = Connection(self._url, context=self._trust)
                connection.vhost = self._vhost
                await connection.connect()
                self._connection = connection
            return await self._connection.channel(publisher_confirms=True, on_return_raises=True)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(exceptions.AMQPError, OSError, RuntimeError):  # a TimeoutError is an OSError
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.close()


async def _is_blocked(connection: AbstractConnection) -> bool:
    """Whether the server has said that it takes no messages now; it says so once one was sent."""
    try:
        async with asyncio.timeout(0):  # it waits for nothing where all is well
            await connection.ready()
    except TimeoutError:
        return True
    return False


def _trust(url: SinkUrl, options: PluginOptions, scheme: str) -> ssl.SSLContext | None:
    if scheme == "amqp":
        if "ssl_ca_certs" in url.options:
            raise url.wrong("ssl_ca_certs needs an amqps:// URL")
        return None
    return ssl.create_default_context(cafile=url.authorities(options.data_dir))
