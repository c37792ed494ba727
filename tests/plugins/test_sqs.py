"""The SQS sink: the contract, what a message has on both kinds of queues, and what each refusal means."""

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from receiver.config.settings import load_settings
from receiver.errors import Misconfigured, Permanent, Unavailable
from receiver.models import MessageFormat, Notification, Outcome
from receiver.options import AwsAccess, PluginOptions
from receiver.runtime import make_sink
from receiver.sinks.sqs import SqsSink
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerSinkContract, failure
from tests.support.manual import printing, section
from tests.support.messages import TRACEPARENT
from tests.support.sqs import KEY, REGION, SECRET_KEY, SqsQueue, SqsServer
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a server has to start

_NUMBERS = count()
FORM = "sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE"
LIMIT = 1_048_576
ATTRIBUTE = len("content-type") + len("String") + len("application/cloudevents+json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqsServer]:
    server = SqsServer(tmp_path_factory.mktemp("sqs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def host(shared: SqsServer) -> SqsQueue:
    return SqsQueue(shared.endpoint, f"images-{next(_NUMBERS)}")


def sized(size: int) -> Notification:
    return msgspec.structs.replace(notification(), body=b'"' + b"x" * (size - 2) + b'"')


class TestSqsSink(ServerSinkContract):
    sink_class = SqsSink

    @pytest.fixture
    def host(self, shared: SqsServer) -> SqsQueue:
        return SqsQueue(shared.endpoint, f"images-{next(_NUMBERS)}")

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[SqsServer]:
        server = SqsServer(tmp_path)
        yield server
        server.stop()

    @pytest.mark.parametrize(
        ("message_format", "content_type"),
        [
            (MessageFormat.STRUCTURED, "application/cloudevents+json"),
            (MessageFormat.JSON, "application/json"),
        ],
    )
    async def test_a_message_says_what_type_it_has(
        self, open_sink: OpenSink, host: SqsQueue, message_format: MessageFormat, content_type: str
    ) -> None:
        await open_sink(host.url, format=message_format).publish(notification())
        assert host.received() == [notification().body]
        (message,) = host.messages
        attributes = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
        assert attributes == {"content-type": content_type}

    async def test_a_trace_goes_on_by_an_attribute(self, sink: SqsSink, host: SqsQueue) -> None:
        await sink.publish(notification(traceparent=TRACEPARENT))
        assert host.received() == [notification(traceparent=TRACEPARENT).body]
        (message,) = host.messages
        assert message["MessageAttributes"]["traceparent"]["StringValue"] == TRACEPARENT

    async def test_a_fifo_queue_keeps_the_order_of_a_task_and_drops_repeats(
        self, open_sink: OpenSink, shared: SqsServer
    ) -> None:
        host = SqsQueue(shared.endpoint, f"images-{next(_NUMBERS)}.fifo")
        sink = open_sink(host.url)
        await sink.ping()
        messages = [notification(f"evt_{number}") for number in range(3)]
        for message in messages * 2:
            await sink.publish(message)
        await sink.publish(msgspec.structs.replace(messages[0], dedupe_key="evt_0:1:rpl_1"))
        assert host.received() == [message.body for message in [*messages, messages[0]]]
        told = [
            (each["Attributes"]["MessageGroupId"], each["Attributes"]["MessageDeduplicationId"])
            for each in host.messages
        ]
        assert told == [("vidgo/t1", key) for key in ("evt_0:1:", "evt_1:1:", "evt_2:1:", "evt_0:1:rpl_1")]

    async def test_a_task_whose_id_is_no_group_id_has_a_group_of_its_own(
        self, open_sink: OpenSink, shared: SqsServer
    ) -> None:
        host = SqsQueue(shared.endpoint, f"images-{next(_NUMBERS)}.fifo")
        sink = open_sink(host.url)
        for subject in ("vidgo/a b", "vidgo/ж", "vidgo/" + "x" * 200, "vidgo/a b"):
            body = json.dumps(subject).encode()
            await sink.publish(
                Notification(
                    event_id="evt_1",
                    dedupe_key=f"evt_{next(_NUMBERS)}:1:",
                    type=notification().type,
                    subject=subject,
                    body=body,
                )
            )
        host.received()
        groups = [each["Attributes"]["MessageGroupId"] for each in host.messages]
        assert len(set(groups)) == 3
        assert groups[0] == groups[3]

    async def test_characters_that_sqs_refuses_arrive_escaped_in_the_same_event(
        self, open_sink: OpenSink, host: SqsQueue
    ) -> None:
        message = notification(metadata={"text": "\ufffe \uffff \\\ufffe \ufffd"})
        await open_sink(host.url).publish(message)
        (body,) = host.received()
        assert json.loads(body) == json.loads(message.body)
        assert not {"\ufffe", "\uffff"} & set(body.decode())

    async def test_what_no_queue_takes_is_permanent_and_what_just_fits_arrives(
        self, open_sink: OpenSink, host: SqsQueue
    ) -> None:
        sink = open_sink(host.url)
        with pytest.raises(Permanent, match="sqs takes no message above 1048576 bytes, and this one has"):
            await sink.publish(sized(LIMIT - ATTRIBUTE + 1))
        await sink.publish(sized(LIMIT - ATTRIBUTE))
        assert list(map(len, host.received())) == [LIMIT - ATTRIBUTE]

    async def test_a_queue_that_takes_less_says_so_and_refuses_for_good(
        self, open_sink: OpenSink, shared: SqsServer
    ) -> None:
        host = SqsQueue(shared.endpoint, f"images-{next(_NUMBERS)}", MaximumMessageSize="1024")
        sink = open_sink(host.url)
        assert await sink.ping() == "the queue takes no message above 1024 bytes (its MaximumMessageSize)"
        with pytest.raises(Permanent, match="its MaximumMessageSize is smaller"):
            await sink.publish(sized(2000))
        assert host.received() == []

    async def test_a_key_of_kms_leaves_open_whether_we_may_use_it(
        self, open_sink: OpenSink, shared: SqsServer
    ) -> None:
        host = SqsQueue(shared.endpoint, f"images-{next(_NUMBERS)}", KmsMasterKeyId="alias/aws/sqs")
        assert "kms:GenerateDataKey and kms:Decrypt" in str(await open_sink(host.url).ping())

    async def test_a_queue_that_is_not_there_is_refused_and_used_once_it_is(
        self, open_sink: OpenSink, shared: SqsServer
    ) -> None:
        name = f"images-{next(_NUMBERS)}"
        sink = open_sink(shared.url.replace("/images?", f"/{name}?"))
        for attempt in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable, match="sqs has no such queue") as caught:
                await attempt
            assert caught.value.outcome is Outcome.REFUSED
        host = SqsQueue(shared.endpoint, name)
        await sink.ping()
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_tls_to_a_server_that_speaks_none_is_a_tls_failure(
        self, open_sink: OpenSink, host: SqsQueue
    ) -> None:
        sink = open_sink(host.url.replace("endpoint=http:", "endpoint=https:"))
        assert await failure(sink) is Outcome.TLS_FAILED

    async def test_the_environment_leads_nowhere_else_and_the_driver_logs_nothing(
        self,
        open_sink: OpenSink,
        host: SqsQueue,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(variable, "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-keys")
        with caplog.at_level(logging.DEBUG):
            await open_sink(host.url).publish(notification())
        assert host.received() == [notification().body]
        assert [each for each in caplog.records if each.name.startswith("boto")] == []


@asynccontextmanager
async def answering(status: int, answer: bytes, **headers: str) -> AsyncIterator[str]:
    """A web server that gives one answer to everything; where it is."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} x\r\ncontent-length: {len(answer)}\r\nconnection: close\r\n{lines}\r\n"
        writer.write(head.encode() + answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def opened(url: str, folder: Path, **more: Any) -> AsyncIterator[SqsSink]:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
        sink = SqsSink.from_url(url, PluginOptions(name="mine", data_dir=folder, http=http, **more))
        yield sink
        await sink.aclose()


@pytest.mark.parametrize(
    ("status", "code", "outcome", "words"),
    [
        (403, "AccessDeniedException", Outcome.REFUSED, "sqs:SendMessage and sqs:GetQueueAttributes"),
        (403, "InvalidClientTokenId", Outcome.REFUSED, "does not know our access key"),
        (403, "SignatureDoesNotMatch", Outcome.REFUSED, "the secret key, the region or the clock"),
        (403, "ExpiredTokenException", Outcome.REFUSED, "the session token has expired"),
        (400, "KmsAccessDenied", Outcome.REFUSED, "kms:GenerateDataKey and kms:Decrypt"),
        (400, "RequestThrottled", Outcome.RATE_LIMITED, "sent to too often"),
        (400, "ThrottlingException", Outcome.RATE_LIMITED, "sent to too often"),
        (503, "ServiceUnavailable", Outcome.UNAVAILABLE, "sqs answered ServiceUnavailable"),
        (500, "InternalFailure", Outcome.UNAVAILABLE, "sqs answered InternalFailure"),
        (400, "SomethingNew", Outcome.REFUSED, "sqs answered SomethingNew"),
    ],
)
async def test_each_refusal_is_told_in_words_and_repeats_nothing_of_the_answer(
    status: int, code: str, outcome: Outcome, words: str, tmp_path: Path
) -> None:
    """The codes and the form of AWS's answers, from its API reference."""
    answer = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "User s3cr3t may not"}).encode()
    async with (
        answering(status, answer, x_amzn_query_error=f"{code};Sender") as endpoint,
        opened(f"sqs://K:S@/123/images?endpoint={endpoint}", tmp_path) as sink,
    ):
        with pytest.raises(Unavailable) as caught:
            await sink.publish(notification())
    assert caught.value.outcome is outcome
    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_a_message_that_sqs_calls_invalid_is_permanent(tmp_path: Path) -> None:
    answer = b'{"__type": "com.amazonaws.sqs#InvalidMessageContents", "message": "x"}'
    async with (
        answering(400, answer, x_amzn_query_error="InvalidMessageContents;Sender") as endpoint,
        opened(f"sqs://K:S@/123/images?endpoint={endpoint}", tmp_path) as sink,
    ):
        with pytest.raises(Permanent):
            await sink.publish(notification())


async def test_a_server_that_trickles_holds_up_neither_a_publish_nor_the_end(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n")
        while not gone.is_set():
            writer.write(b" ")
            await asyncio.sleep(0.1)
        writer.close()

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "sqs"}

    before = threads()  # of the tests before, which may end meanwhile
    listening = await asyncio.start_server(trickle, "127.0.0.1", 0)
    url = f"sqs://K:S@/1/images?endpoint=http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    options = PluginOptions(
        name="mine", data_dir=tmp_path, http=httpx2.AsyncClient(trust_env=False), timeout_seconds=1
    )
    sink = SqsSink.from_url(url, options)
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable, match="sqs did not answer in time"):
            await sink.publish(notification())
        assert len(threads() - before) == 1
        await sink.aclose()
        gone.set()
        await until(lambda: threads() <= before)
    listening.close()


@pytest.mark.parametrize("answer", [b"<html>welcome</html>", b"{}", b"\x00"])
async def test_a_200_of_something_that_is_not_sqs_is_no_delivery(answer: bytes, tmp_path: Path) -> None:
    async with (
        answering(200, answer) as endpoint,
        opened(f"sqs://K:S@/123/images?endpoint={endpoint}", tmp_path) as sink,
    ):
        for attempt in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable, match="does not speak SQS") as caught:
                await attempt
            assert caught.value.outcome is Outcome.HTTP_ERROR


async def test_a_role_s_credentials_are_used_once_there_are_any(
    host: SqsQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containers get them (AWS's SDK guide, "Container credential provider")."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    url = host.url.replace(f"{KEY}:{SECRET_KEY}@", "") + "&credentials=role"
    async with opened(url, tmp_path) as sink:
        with pytest.raises(Unavailable, match="no role at AWS") as caught:
            await sink.publish(notification())
        assert caught.value.outcome is Outcome.REFUSED
        keys = {
            "AccessKeyId": "A",
            "SecretAccessKey": "S",
            "Token": "T",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        async with answering(200, json.dumps(keys).encode()) as endpoint:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)
            await sink.publish(notification())
    assert host.received() == [notification().body]


async def test_a_role_whose_credentials_cannot_be_had_is_unavailable(
    host: SqsQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with answering(403, b"{}") as endpoint:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)
        url = host.url.replace(f"{KEY}:{SECRET_KEY}@", "")
        async with opened(url, tmp_path, aws=AwsAccess(has_role=True)) as sink:
            with pytest.raises(Unavailable, match="hands out the role's credentials"):
                await sink.ping()


async def test_keys_and_region_come_from_the_environment_where_the_url_has_none(
    host: SqsQueue, tmp_path: Path
) -> None:
    endpoint = host.url.partition("endpoint=")[2]
    settings = load_settings(
        {
            "RECEIVER_DATA_DIR": str(tmp_path),
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "RECEIVER_SINK_QUEUE": f"sqs:///123456789012/{host.queue_url.rpartition('/')[2]}?endpoint={endpoint}",
        }
    )
    async with httpx2.AsyncClient(trust_env=False) as http:
        sink = make_sink(settings, settings.sinks[0], http)
        await sink.publish(notification())
        await sink.aclose()
    assert host.received() == [notification().body]


async def test_the_manual_s_consumer_reads_what_is_published(shared: SqsServer, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("sinks", "## SQS"), re.DOTALL | re.MULTILINE)
    (tmp_path / "consumer.py").write_text(code)
    environ = {
        "AWS_ENDPOINT_URL_SQS": shared.endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    async with opened(shared.url, tmp_path) as sink:
        await sink.publish(notification())
        with printing(tmp_path, "consumer.py", **environ) as printed:
            await until(lambda: printed.read_text() == "task.completed vidgo/t1 user-17\n")
    assert shared.received() == []


@pytest.mark.parametrize(
    ("url", "aws", "problem"),
    [
        ("sqs://sqs.eu-west-1.amazonaws.com/images", {}, f"write {FORM}"),
        ("sqs://sqs.eu-west-1.amazonaws.com/", {}, f"write {FORM}"),
        ("sqs:///123456789012/images", {}, f"write {FORM}"),
        ("sqs://sqs.eu-west-1.amazonaws.com/123456789012/im ages", {}, f"write {FORM}"),
        ("sqs://sqs.eu-west-1.amazonaws.com/1/images?wait=1", {}, "unknown option wait"),
        ("sqs://queue.internal/1/images", {}, "write ?region= behind it"),
        ("sqs://sqs.eu-west-1.amazonaws.com/1/images", {}, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (
            "sqs://sqs.eu-west-1.amazonaws.com/1/images",
            {"access_key_id": "A"},
            "set AWS_SECRET_ACCESS_KEY, or write ?credentials=role",
        ),
        ("sqs://K3Y@sqs.eu-west-1.amazonaws.com/1/images", {}, "must have both keys"),
        ("sqs://K3Y:S@sqs.eu-west-1.amazonaws.com/1/images?credentials=role", {}, "must have both keys"),
        ("sqs://sqs.eu-west-1.amazonaws.com/1/images?credentials=me", {}, "credentials must be role"),
        ("sqs:///1/images?endpoint=localhost:4566", {}, "endpoint must be http:// or https://"),
        ("sqs:///1/images?endpoint=http://u:s3cr3t@localhost", {}, "endpoint must be http:// or https://"),
        ("sqs:///1/images?endpoint=http://localhost:x", {}, "endpoint must be http:// or https://"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_it(
    url: str, aws: Mapping[str, Any], problem: str, tmp_path: Path
) -> None:
    options = PluginOptions(
        name="mine", data_dir=tmp_path, http=httpx2.AsyncClient(trust_env=False), aws=AwsAccess(**aws)
    )
    with pytest.raises(Misconfigured, match="sink mine: ") as caught:
        SqsSink.from_url(url, options)
    assert problem in str(caught.value)
    assert "K3Y" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "region", "queue_url"),
    [
        ("sqs.eu-west-1.amazonaws.com/1/images", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com/1/images"),
        (
            "sqs.cn-north-1.amazonaws.com.cn/1/a.fifo",
            "cn-north-1",
            "https://sqs.cn-north-1.amazonaws.com.cn/1/a.fifo",
        ),
        (
            "vpce-0a1b.sqs.us-gov-west-1.vpce.amazonaws.com/1/a",
            "us-gov-west-1",
            "https://vpce-0a1b.sqs.us-gov-west-1.vpce.amazonaws.com/1/a",
        ),
        ("[::1]:8443/1/a?region=eu-north-1", "eu-north-1", "https://[::1]:8443/1/a"),
        ("queue.internal:8443/1/a?region=eu-north-1", "eu-north-1", "https://queue.internal:8443/1/a"),
        (
            "sqs.eu-west-1.amazonaws.com/1/a?endpoint=http://localhost:4566",
            "eu-west-1",
            "http://localhost:4566/1/a",
        ),
        ("/1/a?endpoint=http://localhost:9324", "us-east-1", "http://localhost:9324/1/a"),
    ],
)
async def test_host_and_region_are_what_the_url_says(
    url: str, region: str, queue_url: str, tmp_path: Path
) -> None:
    async with opened(f"sqs://K:S@{url}", tmp_path) as sink:
        client = sink._open()
        assert (client.meta.region_name, sink._queue_url) == (region, queue_url)
        assert queue_url.startswith(client.meta.endpoint_url)
