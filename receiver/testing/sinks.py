"""What every sink must do, whatever is behind it. Your test class gives the fixtures.

For pytest with pytest-asyncio in its ``auto`` mode. A class for a sink of yours::

    class TestMySink(SinkContract):
        sink_class = MySink

        @pytest.fixture
        def host(self) -> Host: ...

``SinkContract`` is for all of them, ``ServerSinkContract`` for those with a server that can be killed and
frozen, ``BatchSinkContract`` and ``ServerBatchSinkContract`` for those that take batches, too.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest

from receiver.errors import Unavailable
from receiver.models import Notification, Outcome
from receiver.options import PluginOptions
from receiver.ports import BatchSink, Sink
from receiver.testing import sample_notification as notification

OpenSink = Callable[..., Sink]  # (url, timeout_seconds=…) -> Sink

MANY = 100
SHORT_SECONDS = 1.0  # the time limit where a test waits for it
SLACK_SECONDS = 2.0  # what a busy machine may take on top


class Host(Protocol):
    """Where a sink publishes to, and what has arrived there, in the order of arrival."""

    url: str

    def received(self) -> list[bytes]: ...


class Server(Host, Protocol):
    """A host in a process of its own. It keeps what has arrived when it is stopped and started again."""

    def start(self) -> None: ...

    def stop(self) -> None:
        """Kill it, as a power cut would."""

    def freeze(self) -> None:
        """Stop it as SIGSTOP does: its connections stay."""

    def thaw(self) -> None: ...


class SinkContract:
    """Subclasses set ``sink_class`` and give the fixture ``host``."""

    sink_class: type[Sink]

    @pytest.fixture
    async def open_sink(self, tmp_path: Path) -> AsyncIterator[OpenSink]:
        """Opens sinks, and closes them after the test."""
        opened: list[Sink] = []

        def open_(url: str, timeout_seconds: float = 10.0, **more: Any) -> Sink:
            options = PluginOptions(
                name="mine", data_dir=tmp_path, http=client, timeout_seconds=timeout_seconds, **more
            )
            opened.append(self.sink_class.from_url(url, options))
            return opened[-1]

        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            yield open_
            for sink in opened:
                await sink.aclose()

    @pytest.fixture
    def host(self) -> Host:
        raise NotImplementedError

    @pytest.fixture
    def sink(self, open_sink: OpenSink, host: Host) -> Sink:
        return open_sink(host.url)

    async def test_a_message_arrives_byte_for_byte(self, sink: Sink, host: Host) -> None:
        message = notification()
        await sink.publish(message)
        assert host.received() == [message.body]

    async def test_what_arrives_is_a_cloudevent(self, sink: Sink, host: Host) -> None:
        await sink.publish(notification("evt_7"))
        event = json.loads(host.received()[0])
        assert (event["specversion"], event["id"], event["type"]) == ("1.0", "evt_7", "task.completed")

    async def test_messages_arrive_in_the_order_of_their_publishing(self, sink: Sink, host: Host) -> None:
        messages = [notification(f"evt_{n}") for n in range(5)]
        for message in messages:
            await sink.publish(message)
        assert host.received() == [message.body for message in messages]

    async def test_a_large_message_in_many_scripts_arrives_whole(self, sink: Sink, host: Host) -> None:
        message = notification(metadata={"text": 'Ж漢字🦊\u2028\n\r\t"\\\0é' * 8000})
        assert len(message.body) > 100_000
        await sink.publish(message)
        assert host.received() == [message.body]

    async def test_many_messages_at_once_all_arrive_and_none_is_mixed_up(
        self, sink: Sink, host: Host
    ) -> None:
        messages = [notification(f"evt_{n}", metadata={"n": "x" * n * 100}) for n in range(MANY)]
        await asyncio.gather(*map(sink.publish, messages))
        assert sorted(host.received()) == sorted(message.body for message in messages)

    async def test_a_repeat_is_dropped_or_arrives_as_the_same_bytes(self, sink: Sink, host: Host) -> None:
        for _ in range(3):
            await sink.publish(notification())
        assert 1 <= len(host.received()) <= 3
        assert set(host.received()) == {notification().body}

    async def test_repeats_at_once_are_dropped_or_arrive_as_the_same_bytes(
        self, sink: Sink, host: Host
    ) -> None:
        await asyncio.gather(*(sink.publish(notification()) for _ in range(20)))
        assert set(host.received()) == {notification().body}

    async def test_a_second_sink_goes_on_where_the_first_was_closed(
        self, open_sink: OpenSink, host: Host
    ) -> None:
        for number in range(2):
            await open_sink(host.url).publish(notification(f"evt_{number}"))
        assert host.received() == [notification("evt_0").body, notification("evt_1").body]

    async def test_a_cancelled_publish_harms_no_other(self, sink: Sink, host: Host) -> None:
        doomed = [asyncio.create_task(sink.publish(notification(f"evt_x{n}"))) for n in range(30)]
        await asyncio.sleep(0.001)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        messages = [notification(f"evt_{n}") for n in range(40)]
        await asyncio.gather(*map(sink.publish, messages))
        assert {message.body for message in messages} <= set(host.received())
        assert all(json.loads(body)["id"].startswith("evt_") for body in host.received())

    async def test_ping_says_nothing_where_all_is_well_and_publishes_nothing(
        self, sink: Sink, host: Host
    ) -> None:
        await sink.ping()
        assert host.received() == []


class BatchSinkContract(SinkContract):
    """For sinks that take batches."""

    @pytest.fixture
    def batch_sink(self, sink: Sink) -> BatchSink:
        assert isinstance(sink, BatchSink)
        return sink

    async def test_a_batch_arrives_whole_and_in_its_order(self, batch_sink: BatchSink, host: Host) -> None:
        messages = [notification(f"evt_{n}", metadata={"n": "x" * n * 100}) for n in range(MANY)]
        messages.insert(50, notification("evt_large", metadata={"text": "Ж\n" * 800_000}))
        assert list(await batch_sink.publish_many(messages)) == [None] * len(messages)
        assert host.received() == [message.body for message in messages]

    async def test_batches_at_once_all_arrive_and_none_is_mixed_up(
        self, batch_sink: BatchSink, host: Host
    ) -> None:
        batches = [[notification(f"evt_{a}_{b}") for b in range(20)] for a in range(10)]
        ends = await asyncio.gather(*map(batch_sink.publish_many, batches))
        assert [list(each) for each in ends] == [[None] * 20] * 10
        assert sorted(host.received()) == sorted(message.body for batch in batches for message in batch)

    async def test_a_repeat_of_a_batch_is_dropped_or_arrives_as_the_same_bytes(
        self, batch_sink: BatchSink, host: Host
    ) -> None:
        messages = [notification(f"evt_{n % 5}") for n in range(10)]
        for _ in range(2):
            assert list(await batch_sink.publish_many(messages)) == [None] * 10
        assert set(host.received()) == {message.body for message in messages}

    async def test_a_cancelled_batch_harms_no_other(self, batch_sink: BatchSink, host: Host) -> None:
        batches = [[notification(f"evt_{a}_{b}") for b in range(20)] for a in range(6)]
        doomed = [asyncio.create_task(batch_sink.publish_many(batch)) for batch in batches[1:]]
        await asyncio.sleep(0.001)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        assert list(await batch_sink.publish_many(batches[0])) == [None] * 20
        assert {message.body for message in batches[0]} <= set(host.received())
        assert all(json.loads(body)["id"].startswith("evt_") for body in host.received())


class ServerSinkContract(SinkContract):
    """For sinks with a server behind them: subclasses also give the fixture ``server``, not started."""

    @pytest.fixture
    def server(self) -> Server:
        raise NotImplementedError

    async def test_a_server_that_is_away_is_unavailable_and_used_once_it_is_there(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink = open_sink(server.url)
        assert await failure(sink) is Outcome.CONNECT_FAILED
        with pytest.raises(Unavailable):
            await sink.ping()
        server.start()
        await sink.ping()
        await sink.publish(notification())
        assert server.received() == [notification().body]

    async def test_a_server_that_was_killed_is_used_again_when_it_is_back(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink = open_sink(server.url)
        server.start()
        await asyncio.gather(*(sink.publish(notification(f"evt_a{n}")) for n in range(20)))
        server.stop()
        assert await failure(sink) in {Outcome.CONNECT_FAILED, Outcome.INTERRUPTED}
        server.start()
        await retried(sink, [notification(f"evt_b{n}") for n in range(20)])
        assert len(set(server.received())) == 40

    async def test_a_server_killed_under_load_loses_nothing_that_was_taken(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink = open_sink(server.url)
        server.start()
        taken: list[bytes] = []
        load = [asyncio.create_task(keep_publishing(sink, f"evt_{n}", taken)) for n in range(10)]
        await some(taken)
        server.stop()
        await asyncio.gather(*load)
        server.start()
        assert set(taken)
        assert set(taken) <= set(server.received())

    async def test_a_frozen_server_is_unavailable_in_time_and_used_again_when_it_thaws(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink = open_sink(server.url, SHORT_SECONDS)
        server.start()
        await retried(sink, [notification("evt_before")])  # the first one may wait for a connection
        server.freeze()
        messages = [notification(f"evt_{n}") for n in range(40)]
        started = time.monotonic()
        outcomes = await asyncio.gather(*(failure(sink, message) for message in messages))
        assert set(outcomes) == {Outcome.TIMEOUT}
        assert time.monotonic() - started < SHORT_SECONDS + SLACK_SECONDS
        server.thaw()
        await retried(sink, messages)
        assert {message.body for message in messages} <= set(server.received())

    async def test_a_server_frozen_from_the_start_is_unavailable_in_time(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink = open_sink(server.url, SHORT_SECONDS)
        server.start()
        server.freeze()
        with pytest.raises(Unavailable):
            await sink.ping()
        assert await failure(sink) is Outcome.TIMEOUT
        server.thaw()
        await retried(sink, [notification()])  # it may wait for a connection once more


class ServerBatchSinkContract(BatchSinkContract, ServerSinkContract):
    """For sinks that take batches and have a server behind them."""

    async def test_of_a_batch_for_a_server_that_is_away_each_is_unavailable(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink, messages = open_sink(server.url), [notification(f"evt_{n}") for n in range(MANY)]
        ends = await batch_outcomes(sink, messages)
        # A server that has just ended may still let a connection in, to cut it.
        assert (len(ends), set(ends) <= {Outcome.CONNECT_FAILED, Outcome.INTERRUPTED}) == (MANY, True)
        server.start()
        assert await batch_outcomes(sink, messages) == [None] * MANY
        assert server.received() == [message.body for message in messages]

    async def test_a_server_killed_under_batches_loses_nothing_that_was_taken(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink = open_sink(server.url)
        server.start()
        taken: list[bytes] = []
        load = [asyncio.create_task(keep_publishing_batches(sink, f"evt_{n}", taken)) for n in range(3)]
        await some(taken)
        server.stop()
        untaken = [message for each in await asyncio.gather(*load) for message in each]
        server.start()
        while untaken:  # as the relay does: what was not said to be taken is sent again
            ends = await batch_outcomes(sink, untaken)
            taken += [message.body for message, end in zip(untaken, ends, strict=True) if end is None]
            untaken = [message for message, end in zip(untaken, ends, strict=True) if end is not None]
        assert set(taken) == set(server.received())

    async def test_of_a_batch_for_a_frozen_server_each_is_unavailable_in_time(
        self, open_sink: OpenSink, server: Server
    ) -> None:
        sink, messages = open_sink(server.url, SHORT_SECONDS), [notification(f"evt_{n}") for n in range(MANY)]
        server.start()
        await retried(sink, [notification("evt_before")])  # the first one may wait for a connection
        server.freeze()
        started = time.monotonic()
        assert await batch_outcomes(sink, messages) == [Outcome.TIMEOUT] * MANY
        assert time.monotonic() - started < SHORT_SECONDS + SLACK_SECONDS
        server.thaw()
        await batch_outcomes(sink, messages)  # may meet what the freeze has left of its connections
        assert await batch_outcomes(sink, messages) == [None] * MANY
        assert {message.body for message in messages} <= set(server.received())


async def some(taken: Sequence[bytes], seconds: float = 10.0) -> None:
    """Wait until something was taken."""
    async with asyncio.timeout(seconds):
        while not taken:  # noqa: ASYNC110 - whoever fills it tells nobody
            await asyncio.sleep(0.01)


async def batch_outcomes(sink: Sink, messages: Sequence[Notification]) -> list[Outcome | None]:
    """Why each of a batch is not taken now; None for those that are."""
    assert isinstance(sink, BatchSink)
    try:
        ends = await sink.publish_many(messages)
    except Unavailable as exc:
        ends = [exc] * len(messages)
    assert len(ends) == len(messages)
    outcomes: list[Outcome | None] = []
    for end in ends:
        assert end is None or isinstance(end, Unavailable)
        outcomes.append(None if end is None else end.outcome)
    return outcomes


async def keep_publishing_batches(sink: Sink, prefix: str, taken: list[bytes]) -> list[Notification]:
    """Publish one batch after the other, and note what was taken; what was not, of the first that was not."""
    for number in range(100_000):
        messages = [notification(f"{prefix}_{number}_{n}") for n in range(MANY)]
        ends = await batch_outcomes(sink, messages)
        taken += [message.body for message, end in zip(messages, ends, strict=True) if end is None]
        if any(ends):
            return [message for message, end in zip(messages, ends, strict=True) if end is not None]
    pytest.fail("it was never refused")


async def failure(sink: Sink, message: Notification | None = None) -> Outcome:
    """Why the message is not taken now."""
    with pytest.raises(Unavailable) as caught:
        await sink.publish(message or notification())
    return caught.value.outcome


async def retried(sink: Sink, messages: list[Notification]) -> None:
    """Publish each as the relay does: again, while the sink is unavailable."""
    for _ in range(3):
        answers = await asyncio.gather(*map(sink.publish, messages), return_exceptions=True)
        messages = [each for each, answer in zip(messages, answers, strict=True) if answer is not None]
        if not messages:
            return
    pytest.fail(f"still failing: {answers}")


async def keep_publishing(sink: Sink, prefix: str, taken: list[bytes]) -> None:
    """Publish one after the other until one is refused, and note those that were taken."""
    for number in range(100_000):
        message = notification(f"{prefix}_{number}")
        try:
            await sink.publish(message)
        except Unavailable:
            return
        taken.append(message.body)
