"""The driver's producer in asyncio: a thread hands its reports to the loop, one deadline for each message."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from receiver.errors import Unavailable
from receiver.models import Outcome
from receiver.sinks.kafka.answers import failure

Headers = list[tuple[str, str | bytes | None]]

POLL_SECONDS = 0.2
# The driver tries brokers that are down again within this time.
BACKOFF_SECONDS = 0.5
# How long a message waits for brokers that are all down: they have been tried again by then.
PATIENCE_SECONDS = 4 * BACKOFF_SECONDS

# What the driver says of brokers, apart from any message; what it said last before all were down is why.
_OF_BROKERS = frozenset({"_RESOLVE", "_SSL", "_TRANSPORT", "_AUTHENTICATION"})
# With brokers down, these have that reason.
_IN_VAIN = frozenset({"_MSG_TIMED_OUT", "_TIMED_OUT", "_TRANSPORT"})
_DROPPED = frozenset({"_PURGE_QUEUE", "_PURGE_INFLIGHT"})
# The topic is looked for again before the next message: else the driver would go by its memory for minutes.
_OF_THE_TOPIC = frozenset(
    {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "TOPIC_AUTHORIZATION_FAILED"}
)
# The driver's log names hosts, and says again and again that a broker is away; its errors tell all of it.
_SILENT = logging.getLogger("librdkafka")
_SILENT.disabled = True


class TopicProducer:
    """Sends to one topic. Opens its connections with the first message.

    The plain producer, and not the driver's asynchronous one: that waits for 2 seconds for more messages
    and takes no headers (confluent-kafka 2.16).
    """

    def __init__(self, topic: str, config: Mapping[str, Any], *, timeout_seconds: float) -> None:
        self._topic = topic
        self._config = config
        self._timeout_seconds = timeout_seconds
        self._opened: _Opened | None = None

    async def send(self, key: str, value: bytes, headers: Headers) -> None:
        """Return when all brokers in sync have it. Raises Unavailable or Permanent."""
        opened = self._open()
        report: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()
        try:
            opened.produce(self._topic, key, value, headers, report)
        except BufferError as exc:
            raise failure("_QUEUE_FULL") from exc
        except KafkaException as exc:
            report.set_result(exc.args[0])
        for seconds in self._turns():
            await asyncio.wait([report], timeout=seconds)
            if report.done() or opened.is_down:
                break
        if not report.done():
            raise failure(opened.give_up())
        if (error := report.result()) is not None:
            await self._prepare(opened, error)
            raise failure(opened.why(error.name()))

    async def look(self) -> None:
        """Prove that the topic is there and has leaders. Raises Unavailable."""
        opened = self._open()
        topic = (await self._looked_for(opened)).topics[self._topic]
        if topic.error is not None:
            raise failure(topic.error.name())
        if any(partition.leader < 0 for partition in topic.partitions.values()):
            raise failure("LEADER_NOT_AVAILABLE")

    async def aclose(self) -> None:
        """Drop what is not sent yet."""
        if self._opened is not None:
            await asyncio.to_thread(self._opened.close)

    def _open(self) -> "_Opened":
        if self._opened is None:
            try:
                self._opened = _Opened(self._config)
            except KafkaException as exc:
                what = f"kafka's driver does not take the sink's settings ({exc.args[0].name()})"
                raise Unavailable(what, outcome=Outcome.REFUSED) from exc
        return self._opened

    async def _looked_for(self, opened: "_Opened") -> Any:
        """What brokers say of the topic."""
        name = "_TIMED_OUT"
        for seconds in self._turns():
            try:
                found = await asyncio.to_thread(opened.driver.list_topics, self._topic, seconds)
            except KafkaException as exc:
                name = exc.args[0].name()
                if opened.is_down or opened.fatal:
                    break
            else:
                opened.is_down = False
                return found
        raise failure(opened.why(name))

    def _turns(self) -> Iterator[float]:
        """For how long to wait, again and again: in between it may show that all brokers are down."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._timeout_seconds
        while (left := until - loop.time()) > 0:
            yield min(left, PATIENCE_SECONDS)

    async def _prepare(self, opened: "_Opened", error: KafkaError) -> None:
        """Whatever the next message needs after such an error."""
        if opened.fatal or error.fatal():  # this producer will never send anything again
            self._opened = None if self._opened is opened else self._opened
            await asyncio.to_thread(opened.close)
        elif error.name() in _OF_THE_TOPIC:
            with suppress(KafkaException):
                await asyncio.to_thread(opened.driver.list_topics, self._topic, PATIENCE_SECONDS)


class _Opened:
    """One producer of the driver, with the thread that its reports come from."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.is_down = False  # all brokers, as far as is known
        self.fatal: str | None = None  # the error that ended it
        self._trouble = "_ALL_BROKERS_DOWN"
        self._ended = Event()
        self._loop = asyncio.get_running_loop()
        self.driver = Producer({**config, "error_cb": self._heard}, logger=_SILENT)
        self._thread = Thread(target=self._poll, name="kafka", daemon=True)
        self._thread.start()

    def produce(
        self,
        topic: str,
        key: str,
        value: bytes,
        headers: Headers,
        report: "asyncio.Future[KafkaError | None]",
    ) -> None:
        """Queue a message; ``report`` is told what became of it. Raises KafkaException or BufferError."""

        def told(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                self.is_down = False
            self._loop.call_soon_threadsafe(_settle, report, error)

        self.driver.produce(topic, value, key, headers=headers, on_delivery=told)

    def give_up(self) -> str:
        """Why a message has waited in vain; what waits for brokers that are down is dropped."""
        if self.is_down:
            self.driver.purge(in_queue=True, in_flight=False, blocking=False)
        return self.why("_MSG_TIMED_OUT")

    def why(self, name: str) -> str:
        """The error, or what explains it: what ended the producer, or was said of brokers that are down."""
        if self.fatal:
            return self.fatal
        return self._trouble if name in _DROPPED or (self.is_down and name in _IN_VAIN) else name

    def close(self) -> None:
        self.driver.purge()
        self._ended.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._ended.is_set():
            try:
                self.driver.poll(POLL_SECONDS)
            except KafkaException as exc:  # a fatal error comes this way, and not by ``error_cb``
                self.fatal = exc.args[0].name()
                self.driver.purge(blocking=False)
        self.driver.poll(0)  # what was purged

    def _heard(self, error: KafkaError) -> None:
        """What the driver says of brokers, in the thread."""
        if error.name() in _OF_BROKERS:
            # A server without TLS ends the connection in the middle of the handshake.
            self._trouble = "_SSL" if "SSL" in error.str() else error.name()
        elif error.name() == "_ALL_BROKERS_DOWN":
            self.is_down = True


def _settle(report: "asyncio.Future[KafkaError | None]", error: KafkaError | None) -> None:
    if not report.done():  # a publish that was cancelled waits no more
        report.set_result(error)
