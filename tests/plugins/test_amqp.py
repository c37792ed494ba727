"""The RabbitMQ sink: the contract, and what each refusal of a server or a queue means."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from receiver.errors import Misconfigured, Permanent, Unavailable
from receiver.models import MessageFormat, Notification, Outcome
from receiver.options import PluginOptions
from receiver.sinks.amqp import AmqpSink
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerBatchSinkContract, failure, retried
from tests.support.manual import printing, section
from tests.support.messages import TRACEPARENT
from tests.support.rabbitmq import Rabbit, RabbitNode, shared_rabbit
from tests.support.sink_hosts import free_port
from tests.support.waiting import until

ROOT = "amqp://guest:guest@127.0.0.1:5672/"


def options(folder: Path, message_format: MessageFormat = MessageFormat.STRUCTURED) -> PluginOptions:
    client = httpx2.AsyncClient(trust_env=False, verify=False)  # nobody uses it
    return PluginOptions(name="mine", data_dir=folder, http=client, format=message_format)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    yield node
    node.stop()


def of_bytes(count: int) -> Notification:
    """A message whose body has so many bytes."""
    return msgspec.structs.replace(notification(f"evt_{count}"), body=b" " * count)


class TestAmqpSink(ServerBatchSinkContract):
    sink_class = AmqpSink

    @pytest.fixture
    def host(self) -> Iterator[Rabbit]:
        host = shared_rabbit()
        yield host
        host.clear()

    @pytest.fixture
    def server(self, node: RabbitNode, request: pytest.FixtureRequest) -> Iterator[RabbitNode]:
        if "away" in request.function.__name__:
            node.stop()  # it is the first that wants it, so most often it does not run yet
        yield node
        if node.is_running:
            node.thaw()
            node.clear()

    async def test_a_message_has_the_documented_properties(self, sink: AmqpSink, host: Rabbit) -> None:
        await sink.publish(notification())
        (message,) = host.messages()
        properties = message.header.properties
        assert properties.content_type == "application/cloudevents+json"
        assert properties.message_id == "evt_1"
        assert properties.message_type == "task.completed"
        assert properties.delivery_mode == 2

    async def test_a_trace_goes_on_by_a_header(self, sink: AmqpSink, host: Rabbit) -> None:
        await sink.publish(notification())
        await sink.publish(notification("evt_2", traceparent=TRACEPARENT))
        plain, traced = (message.header.properties.headers for message in host.messages())
        assert (plain, traced) == (None, {"traceparent": TRACEPARENT})

    async def test_the_same_bytes_can_be_said_to_be_plain_json(
        self, open_sink: OpenSink, host: Rabbit
    ) -> None:
        await open_sink(host.url, format=MessageFormat.JSON).publish(notification())
        (message,) = host.messages()
        assert message.body == notification().body
        assert message.header.properties.content_type == "application/json"

    async def test_an_exchange_and_a_routing_key_lead_to_what_is_bound(
        self, open_sink: OpenSink, host: Rabbit
    ) -> None:
        exchange, others = host.exchange("topic"), host.declare()
        host.bind(host.queue, exchange, "images.#")
        host.bind(others, exchange, "videos.#")
        sink = open_sink(host.url_of(f"exchange={exchange}&routing_key=images.done"))
        assert "only an event shows" in (await sink.ping() or "")
        await sink.publish(notification())
        assert host.received() == [notification().body]
        assert host.messages(others) == []

    async def test_what_reaches_no_queue_is_refused_until_it_does(
        self, open_sink: OpenSink, host: Rabbit
    ) -> None:
        exchange = host.exchange("direct")
        sink = open_sink(host.url_of(f"exchange={exchange}&routing_key=done"))
        with pytest.raises(Unavailable, match="has no queue for it") as caught:
            await sink.publish(notification())
        assert caught.value.outcome is Outcome.REFUSED
        host.bind(host.queue, exchange, "done")
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_of_repeats_at_once_that_reach_no_queue_none_counts_as_delivered(
        self, open_sink: OpenSink, host: Rabbit
    ) -> None:
        sink = open_sink(host.url_of("queue=nobodys"))
        outcomes = await asyncio.gather(*(failure(sink, notification(f"evt_{n % 2}")) for n in range(20)))
        assert set(outcomes) == {Outcome.REFUSED}

    @pytest.mark.parametrize("kind", ["classic", "quorum"])
    async def test_a_full_queue_that_refuses_more_is_unavailable_and_used_again(
        self, open_sink: OpenSink, host: Rabbit, kind: str
    ) -> None:
        queue = host.declare(queue_type=kind, max_length=1, overflow="reject-publish")
        sink = open_sink(host.url_of(f"queue={queue}"))
        await sink.ping()
        answers: list[object] = []
        for number in range(10):
            publish = sink.publish(notification(f"evt_{number}"))
            answers += await asyncio.gather(publish, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Unavailable)]
        assert {answer.outcome for answer in refused} == {Outcome.UNAVAILABLE}
        assert "a queue does not take it: it is full" in str(refused[0])
        taken = len(host.messages(queue))
        assert taken == answers.count(None) <= 3  # a quorum queue takes one or two more than its limit

        async def is_taken() -> bool:  # it has room again a moment later
            try:
                await sink.publish(notification())
            except Unavailable:
                return False
            return True

        await until(is_taken)
        assert host.messages(queue)[taken].body == notification().body

    async def test_what_is_not_there_is_refused_and_named(self, open_sink: OpenSink, host: Rabbit) -> None:
        for query in ("exchange=none&routing_key=x", "exchange=none"):
            sink = open_sink(host.url_of(query))
            for attempt in (sink.publish(notification()), sink.ping()):
                with pytest.raises(Unavailable, match="no such exchange or queue") as caught:
                    await attempt
                assert caught.value.outcome is Outcome.REFUSED
        with pytest.raises(Unavailable, match="no such exchange or queue"):
            await open_sink(host.url_of("queue=none")).ping()
        with pytest.raises(Unavailable, match="no such virtual host") as caught:
            await open_sink(host.url_of("queue=none", "nowhere")).publish(notification())
        assert caught.value.outcome is Outcome.REFUSED

    async def test_an_exchange_that_comes_later_is_used(self, open_sink: OpenSink, host: Rabbit) -> None:
        sink = open_sink(host.url_of(f"exchange={host.queue}-fanout"))
        await asyncio.gather(*(failure(sink, notification(f"evt_{n}")) for n in range(20)))
        host.bind(host.queue, host.exchange("fanout"))
        await retried(sink, [notification()])  # what was sent on a channel that ended ends its connection
        assert set(host.received()) == {notification().body}

    async def test_a_wrong_password_is_refused_without_repeating_it(
        self, open_sink: OpenSink, host: Rabbit
    ) -> None:
        wrong = host.url.replace("guest:guest@", "guest:s3cr3t@")
        for attempt in (open_sink(wrong).publish(notification()), open_sink(wrong).ping()):
            with pytest.raises(Unavailable, match="does not accept our user") as caught:
                await attempt
            assert caught.value.outcome is Outcome.REFUSED
            assert "s3cr3t" not in str(caught.value)

    async def test_a_name_that_nobody_resolves_is_told_as_such(self, open_sink: OpenSink) -> None:
        assert await failure(open_sink("amqp://nobody.invalid?queue=x")) is Outcome.DNS_FAILED
        nobody = open_sink(f"amqp://127.0.0.1:{free_port()}?queue=x")
        assert await failure(nobody) is Outcome.CONNECT_FAILED

    async def test_what_is_no_rabbitmq_is_told_as_such(self, open_sink: OpenSink) -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.com ESMTP\r\n")
            writer.close()

        listening = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(Unavailable):
            await open_sink(f"amqp://127.0.0.1:{port}?queue=x").publish(notification())
        with pytest.raises(Unavailable) as caught:
            await open_sink(f"amqps://127.0.0.1:{port}?queue=x").publish(notification())
        assert caught.value.outcome is Outcome.TLS_FAILED
        listening.close()

    async def test_what_is_too_large_is_never_taken_and_harms_no_other(
        self, open_sink: OpenSink, server: RabbitNode
    ) -> None:
        server.start()
        sink = open_sink(server.url)
        others = [notification(f"evt_{n}") for n in range(20)]
        answers = await asyncio.gather(
            *map(sink.publish, others), sink.publish(of_bytes(200_001)), return_exceptions=True
        )
        assert isinstance(answers[-1], Permanent)
        assert "max_message_size" in str(answers[-1])
        assert {type(answer) for answer in answers[:-1]} <= {type(None), Unavailable}
        await retried(sink, others)
        await sink.publish(of_bytes(200_000))
        assert {message.body for message in others} <= set(server.received())

    async def test_an_alarm_is_told_and_nothing_more_is_sent_until_it_is_over(
        self, open_sink: OpenSink, server: RabbitNode
    ) -> None:
        server.start()
        sink = open_sink(server.url, 0.5)
        await sink.publish(notification("evt_before"))
        server.alarm(is_on=True)
        for number in range(5):
            for attempt in (sink.publish(notification(f"evt_{number}")), sink.ping()):
                with pytest.raises(Unavailable, match="short of memory or disk") as caught:
                    await attempt
                assert caught.value.outcome is Outcome.UNAVAILABLE
        server.alarm(is_on=False)

        async def is_taken() -> bool:  # it checks once a second
            try:
                await sink.publish(notification("evt_after"))
            except Unavailable:
                return False
            return True

        await until(is_taken)
        bodies = {notification(f"evt_{name}").body for name in ("before", 0, "after")}
        assert set(server.received()) == bodies  # of those in the alarm the first was on its way already

    async def test_a_user_needs_no_more_than_to_write_and_a_virtual_host_may_have_any_name(
        self, open_sink: OpenSink, server: RabbitNode
    ) -> None:
        server.start()
        (rule,) = re.findall(
            r'^rabbitmqctl set_permissions .*receiver "(.*)" "(.*)" "(.*)"$',
            section("sinks", "## RabbitMQ"),
            re.MULTILINE,
        )
        server.evaluate(
            'rabbit_vhost:add(<<"a/b c">>, <<"tests">>), '
            'rabbit_auth_backend_internal:add_user(<<"receiver">>, <<"p@ss w0rd">>, <<"tests">>), '
            'rabbit_auth_backend_internal:set_permissions(<<"receiver">>, <<"a/b c">>, '
            + ", ".join(f'<<"{part}">>' for part in rule)
            + ', <<"tests">>), '
            'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"a/b c">>, '
            '<<".*">>, <<".*">>, <<".*">>, <<"tests">>).'
        )
        inside = Rabbit(server.root, vhost="a%2Fb%20c")
        inside.declare(inside.queue)
        url = inside.url.replace("guest:guest@", "receiver:p%40ss%20w0rd@")
        await open_sink(url).ping()
        await open_sink(url).publish(notification())
        assert inside.received() == [notification().body]
        elsewhere = inside.exchange("fanout")
        with pytest.raises(Unavailable, match="does not permit this to our user") as caught:
            await open_sink(url.replace(f"queue={inside.queue}", f"exchange={elsewhere}")).publish(
                notification()
            )
        assert caught.value.outcome is Outcome.REFUSED

    async def test_tls_goes_by_the_authority_that_the_url_names(
        self, open_sink: OpenSink, server: RabbitNode, tmp_path: Path
    ) -> None:
        server.start()
        shutil.copy(server.folder / "ca.pem", tmp_path)
        url = server.url.replace("amqp://", "amqps://").replace(str(server.port), str(server.tls_port))
        await open_sink(f"{url}&ssl_ca_certs=ca.pem").publish(notification())
        with pytest.raises(Unavailable, match="certificate") as caught:
            await open_sink(url).publish(notification())
        assert caught.value.outcome is Outcome.TLS_FAILED
        assert server.received() == [notification().body]


async def test_the_manuals_consumer_reads_json_and_loses_what_is_said_to_be_a_cloudevent(
    tmp_path: Path,
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("sinks", "## RabbitMQ"), re.DOTALL | re.MULTILINE)
    host = shared_rabbit()
    assert ROOT in code
    assert '"images"' in code
    code = code.replace(ROOT, f"{host.root}/").replace('"images"', f'"{host.queue}"')
    (tmp_path / "consumer.py").write_text(code)
    try:
        for message_format in (MessageFormat.STRUCTURED, MessageFormat.JSON):
            sink = AmqpSink.from_url(host.url, options(tmp_path, message_format))
            await sink.publish(notification(message_format))
            await sink.aclose()
        with printing(tmp_path, "consumer.py") as printed:
            await until(lambda: "task." in printed.read_text())
            lines = [line for line in printed.read_text().splitlines() if line.startswith("task.")]
            assert lines == ["task.completed vidgo/t1 user-17"]
        assert host.received() == []
    finally:
        host.clear()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("amqp://h0st", "needs queue, or exchange and routing_key"),
        ("amqp://h0st?queue=", "is empty"),
        ("amqp://h0st?queue=a&exchange=b", "needs queue, or exchange and routing_key"),
        ("amqp://h0st?queue=a&routing_key=b", "needs queue, or exchange and routing_key"),
        (f"amqp://h0st?queue={'ä' * 128}", "queue must have 255 bytes at most"),
        ("amqp://h0st?queue=a&heartbeat=1", "unknown option heartbeat"),
        ("amqp://?queue=a", "write amqp://"),
        ("amqp://h0st:port?queue=a", "write amqp://"),
        ("amqp://user:s3cr3t@[::1?queue=a", "write amqp://"),
        ("amqp://h0st?queue=a#x", "write amqp://"),
        ("amqp://h0st?queue=a&ssl_ca_certs=none", "needs an amqps:// URL"),
        ("amqps://h0st?queue=a&ssl_ca_certs=none", "cannot be used: No such file"),
        ("amqps://h0st?queue=a&ssl_ca_certs=empty", "it holds no certificates"),
    ],
)
async def test_a_wrong_url_is_refused_without_repeating_it(url: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(Misconfigured, match="sink mine: ") as caught:
        AmqpSink.from_url(url, options(tmp_path))
    assert problem in str(caught.value)
    assert "h0st" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
