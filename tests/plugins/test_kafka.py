"""The Kafka sink: the contract, what a message has, and what each refusal means."""

import asyncio
import re
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx2
import msgspec
import pytest

from receiver.errors import Misconfigured, Permanent, Unavailable
from receiver.models import MessageFormat, Outcome
from receiver.options import PluginOptions
from receiver.sinks.kafka import KafkaSink
from receiver.sinks.kafka.producer import TopicProducer
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerSinkContract, failure, retried
from tests.support.kafka import KafkaServer, KafkaTopic
from tests.support.kafka_mock import INIT_PRODUCER_ID, PRODUCE, MockCluster
from tests.support.manual import printing, section
from tests.support.messages import TRACEPARENT
from tests.support.missing import missing
from tests.support.sink_hosts import free_port
from tests.support.waiting import until

_NUMBERS = count()
# Kafka's codes of errors (its protocol guide)
UNKNOWN_TOPIC, TOO_LARGE, FEW_REPLICAS = 3, 10, 19
TOPIC_DENIED, CLUSTER_DENIED, INVALID_RECORD = 29, 31, 87


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    try:
        cluster = MockCluster()
    except FileNotFoundError:
        missing("the driver's own library is not beside it, as it is in wheels for Linux")
    yield cluster
    cluster.close()


class TestKafkaSink(ServerSinkContract):
    sink_class = KafkaSink

    @pytest.fixture
    def host(self, cluster: MockCluster) -> KafkaTopic:
        return KafkaTopic(cluster, f"images-{next(_NUMBERS)}")

    @pytest.fixture
    def server(self) -> Iterator[KafkaServer]:
        server = KafkaServer()
        yield server
        server.stop()

    @pytest.mark.parametrize(
        ("message_format", "content_type"),
        [
            (MessageFormat.STRUCTURED, b"application/cloudevents+json"),
            (MessageFormat.JSON, b"application/json"),
        ],
    )
    async def test_a_message_has_its_task_as_key_and_says_what_type_it_has(
        self, open_sink: OpenSink, host: KafkaTopic, message_format: MessageFormat, content_type: bytes
    ) -> None:
        await open_sink(host.url, format=message_format).publish(notification())
        (message,) = host.messages()
        assert (message.key(), message.headers()) == (b"vidgo/t1", [("content-type", content_type)])

    async def test_a_trace_goes_on_by_a_header(self, sink: KafkaSink, host: KafkaTopic) -> None:
        await sink.publish(notification(traceparent=TRACEPARENT))
        (message,) = host.messages()
        assert ("traceparent", TRACEPARENT.encode()) in (message.headers() or [])

    async def test_what_brokers_refuse_for_a_moment_arrives_once(
        self, open_sink: OpenSink, host: KafkaTopic, cluster: MockCluster
    ) -> None:
        sink = open_sink(host.url)
        cluster.fail(PRODUCE, [FEW_REPLICAS, FEW_REPLICAS])
        await sink.publish(notification())
        assert host.received() == [notification().body]

    @pytest.mark.parametrize(
        ("code", "outcome", "words"),
        [
            (UNKNOWN_TOPIC, Outcome.REFUSED, "kafka has no such topic"),
            (TOPIC_DENIED, Outcome.REFUSED, "needs Describe and Write on the topic"),
        ],
    )
    async def test_a_topic_that_is_not_there_or_not_ours_is_named_and_used_once_it_is(
        self,
        open_sink: OpenSink,
        host: KafkaTopic,
        cluster: MockCluster,
        code: int,
        outcome: Outcome,
        words: str,
    ) -> None:
        sink = open_sink(host.url, 2.0)
        cluster.answer(host.name, code)
        for attempt in (sink.publish(notification()), sink.publish(notification()), sink.ping()):
            with pytest.raises(Unavailable, match=words) as caught:
                await attempt
            assert caught.value.outcome is outcome
        cluster.answer(host.name, 0)
        await retried(sink, [notification("evt_2")])
        await sink.ping()
        assert notification("evt_2").body in host.received()

    async def test_a_producer_that_can_send_no_more_is_replaced(
        self, open_sink: OpenSink, host: KafkaTopic, cluster: MockCluster
    ) -> None:
        sink = open_sink(host.url)
        cluster.fail(INIT_PRODUCER_ID, [CLUSTER_DENIED])
        with pytest.raises(Unavailable, match="IdempotentWrite on the cluster") as caught:
            await sink.publish(notification())
        assert caught.value.outcome is Outcome.REFUSED
        await sink.publish(notification("evt_2"))
        assert host.received() == [notification("evt_2").body]

    async def test_what_is_too_large_is_permanent_and_harms_no_other(
        self, open_sink: OpenSink, host: KafkaTopic
    ) -> None:
        sink = open_sink(host.url)
        large = msgspec.structs.replace(notification("evt_x"), body=b"x" * 1_000_001)
        answers = await asyncio.gather(
            *map(sink.publish, (notification("evt_1"), large, notification("evt_2"))), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [type(None), Permanent, type(None)]
        assert host.received() == [notification("evt_1").body, notification("evt_2").body]

    @pytest.mark.parametrize("code", [TOO_LARGE, INVALID_RECORD])
    async def test_what_a_broker_never_takes_is_permanent(
        self, open_sink: OpenSink, host: KafkaTopic, cluster: MockCluster, code: int
    ) -> None:
        sink = open_sink(host.url)
        cluster.fail(PRODUCE, [code])
        with pytest.raises(Permanent, match="kafka will not take this message"):
            await sink.publish(notification("evt_x"))
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_brokers_that_are_away_are_said_to_be_at_once_and_in_silence(
        self, open_sink: OpenSink, server: KafkaServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        sink = open_sink(server.url)
        started = time.monotonic()
        for attempt in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable) as caught:
                await attempt
            assert caught.value.outcome is Outcome.CONNECT_FAILED
        assert time.monotonic() - started < 7  # of 20
        assert capfd.readouterr() == ("", "")

    async def test_tls_to_a_server_that_speaks_none_is_a_tls_failure(
        self, open_sink: OpenSink, host: KafkaTopic
    ) -> None:
        assert await failure(open_sink(f"{host.url}&security=ssl")) is Outcome.TLS_FAILED

    async def test_a_login_that_is_not_accepted_is_refused_without_repeating_it(
        self, open_sink: OpenSink, host: KafkaTopic
    ) -> None:
        sink = open_sink(host.url.replace("kafka://", "kafka://me:s3cr3t@"))
        with pytest.raises(Unavailable, match="does not accept our user and password") as caught:
            await sink.publish(notification())
        assert caught.value.outcome is Outcome.REFUSED
        assert "s3cr3t" not in str(caught.value)

    async def test_one_of_several_brokers_is_enough(self, open_sink: OpenSink, host: KafkaTopic) -> None:
        sink = open_sink(host.url.replace("127.0.0.1:", f"127.0.0.1:{free_port()},127.0.0.1:"))
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_the_manual_s_consumer_reads_what_is_published(
        self, open_sink: OpenSink, host: KafkaTopic, tmp_path: Path
    ) -> None:
        (code,) = re.findall(
            r"^```python\n(.*?)^```$", section("sinks", "## Kafka"), re.DOTALL | re.MULTILINE
        )
        code = code.replace("127.0.0.1:9092", f"127.0.0.1:{host.port}").replace(
            '["images"]', f'["{host.name}"]'
        )
        (tmp_path / "consumer.py").write_text(code)
        await open_sink(host.url).publish(notification())
        with printing(tmp_path, "consumer.py") as printed:
            await until(lambda: printed.read_text() == "task.completed vidgo/t1 user-17\n")


async def test_a_queue_that_is_full_is_unavailable() -> None:
    config = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "queue.buffering.max.messages": 1}
    producer = TopicProducer("images", config, timeout_seconds=5)
    first = asyncio.create_task(producer.send("k", b"1", []))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="has not taken yet what waits here") as caught:
        await producer.send("k", b"2", [])
    assert caught.value.outcome is Outcome.UNAVAILABLE
    first.cancel()
    await producer.aclose()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("kafka://h0st:9092", "lacks the option topic"),
        ("kafka://h0st:9092?topic=a b", "topic must be at most 249 letters"),
        ("kafka://h0st:9092?topic=..", "topic must be at most 249 letters"),
        ("kafka://h0st:9092/images?topic=a", "write kafka://HOST:PORT?topic=TOPIC"),
        ("kafka://h0st:9092,?topic=a", "write kafka://HOST:PORT?topic=TOPIC"),
        ("kafka://h0st:port?topic=a", "write kafka://HOST:PORT?topic=TOPIC"),
        ("kafka://h0st?topic=a&acks=1", "unknown option acks"),
        ("kafka://h0st?topic=a&security=tls", "security must be plaintext or ssl"),
        ("kafka://h0st?topic=a&ssl_ca_certs=ca.pem", "ssl_ca_certs needs security=ssl"),
        ("kafka://h0st?topic=a&security=ssl&ssl_ca_certs=ca.pem", "cannot be used: No such file"),
        ("kafka://h0st?topic=a&sasl=PLAIN", "sasl needs a user and a password"),
        ("kafka://us3r@h0st?topic=a", "a user needs a password"),
        ("kafka://us3r:s3cr3t@h0st?topic=a&sasl=OAUTH", "sasl must be PLAIN or SCRAM-SHA-256"),
    ],
)
async def test_a_wrong_url_is_refused_without_repeating_it(url: str, problem: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: ") as caught:
            KafkaSink.from_url(url, options)
    assert problem in str(caught.value)
    assert not re.search("h0st|us3r|s3cr3t", str(caught.value))


def test_a_user_logs_in_by_the_mechanism_that_the_url_names(tmp_path: Path) -> None:
    http = httpx2.AsyncClient(trust_env=False, verify=False)
    options = PluginOptions(name="mine", data_dir=tmp_path, http=http)
    url = "kafka://me:p%40ss@one,two:9093,[::1]?topic=a&security=ssl&sasl=SCRAM-SHA-512"
    config = KafkaSink.from_url(url, options)._producer._config
    assert config["bootstrap.servers"] == "one:9092,two:9093,[::1]:9092"
    assert (config["sasl.username"], config["sasl.password"]) == ("me", "p@ss")
    assert (config["security.protocol"], config["sasl.mechanism"]) == ("sasl_ssl", "SCRAM-SHA-512")
