"""The NATS sink: the contract, deduplication, and what each refusal of a server or a stream means."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import msgspec
import nats
import pytest
from nats.aio.msg import Msg

from receiver.errors import Misconfigured, Permanent, Unavailable
from receiver.models import MessageFormat, Notification, Outcome
from receiver.options import PluginOptions
from receiver.ports import Sink
from receiver.sinks.nats import NatsSink
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerBatchSinkContract, failure
from tests.hostile.certificates import CERTIFICATES, make_authority, make_server
from tests.support.manual import printing, section
from tests.support.messages import TRACEPARENT
from tests.support.nats import NatsServer, operator_mode
from tests.support.sink_hosts import free_port
from tests.support.waiting import until

DAY_SECONDS = 86_400


MAX_PAYLOAD = 2**22  # of the shared server, and four times the usual one


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"), f"max_payload: {MAX_PAYLOAD}")
    server.start()
    yield server
    server.stop()


def of_bytes(count: int) -> Notification:
    """A message whose body has so many bytes."""
    return msgspec.structs.replace(notification(f"evt_{count}"), body=b" " * count)


@asynccontextmanager
async def answering(server: NatsServer, subject: str, answer: bytes) -> AsyncIterator[None]:
    """Somebody who answers what is sent to a subject."""
    client = await nats.connect(f"nats://127.0.0.1:{server.port}")

    async def reply(message: Msg) -> None:
        await message.respond(answer)

    await client.subscribe(subject, cb=reply)
    await client.flush()
    yield
    await client.close()


class TestNatsSink(ServerBatchSinkContract):
    sink_class = NatsSink

    @pytest.fixture
    def host(self, shared: NatsServer) -> Iterator[NatsServer]:
        yield shared
        shared.clear()

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[NatsServer]:
        server = NatsServer(tmp_path)
        yield server
        server.stop()

    async def test_a_message_has_the_documented_headers(self, sink: NatsSink, host: NatsServer) -> None:
        await sink.publish(notification())
        await sink.publish(notification("evt_2", traceparent=TRACEPARENT))
        (_, plain), (_, traced) = host.messages("events")
        assert plain == {
            "Nats-Msg-Id": "evt_1:1:",
            "Nats-Expected-Stream": "events",
            "content-type": "application/cloudevents+json",
        }
        assert traced == plain | {"Nats-Msg-Id": "evt_2:1:", "traceparent": TRACEPARENT}

    async def test_the_same_bytes_can_be_said_to_be_plain_json(
        self, open_sink: OpenSink, host: NatsServer
    ) -> None:
        await open_sink(host.url, format=MessageFormat.JSON).publish(notification())
        ((body, headers),) = host.messages("events")
        assert (body, headers["content-type"]) == (notification().body, "application/json")

    async def test_a_repeat_adds_nothing(self, sink: NatsSink, host: NatsServer) -> None:
        await asyncio.gather(*(sink.publish(notification()) for _ in range(20)))
        assert host.received() == [notification().body]

    async def test_a_newer_revision_and_a_replay_are_added(self, sink: NatsSink, host: NatsServer) -> None:
        for revision in (1, 2, 1, 2):
            await sink.publish(notification(revision=revision))
        await sink.publish(msgspec.structs.replace(notification(), dedupe_key="evt_1:1:rpl_1"))
        assert len(host.received()) == 3

    async def test_a_stream_is_found_by_its_subject_and_found_again_under_another_name(
        self, open_sink: OpenSink, host: NatsServer
    ) -> None:
        sink = open_sink(host.url_of("images.done"))
        with pytest.raises(Unavailable, match="no stream takes the subject") as caught:
            await sink.publish(notification("evt_1"))
        assert caught.value.outcome is Outcome.REFUSED
        with pytest.raises(Unavailable, match="no stream takes the subject"):
            await sink.ping()
        host.add(name="FIRST", subjects=["images.*"])
        await sink.publish(notification("evt_1"))
        assert host.messages("FIRST")[0][1]["Nats-Expected-Stream"] == "FIRST"
        host.asked(lambda js: js.delete_stream("FIRST"))
        assert await failure(sink) is Outcome.REFUSED
        host.add(name="SECOND", subjects=["images.>"])
        await sink.publish(notification("evt_2"))
        assert len(host.messages("SECOND")) == 1

    async def test_a_stream_that_the_url_names_must_be_the_one_that_takes_the_subject(
        self, open_sink: OpenSink, host: NatsServer
    ) -> None:
        host.add(name="OTHER", subjects=["other"])
        sink = open_sink(host.url_of("other", "&stream=events"))
        with pytest.raises(Unavailable, match="another stream's, not that of events"):
            await sink.publish(notification())
        with pytest.raises(Unavailable, match="the stream events does not take the subject"):
            await sink.ping()
        assert await failure(open_sink(host.url_of("other", "&stream=NONE"))) is Outcome.REFUSED
        assert host.received() == []
        assert host.messages("OTHER") == []
        right = open_sink(host.url_of("other", "&stream=OTHER"))
        await right.ping()
        await right.publish(notification())
        assert len(host.messages("OTHER")) == 1

    async def test_a_stream_that_acknowledges_nothing_is_refused_before_anything_is_sent(
        self, open_sink: OpenSink, host: NatsServer
    ) -> None:
        host.add(name="MUTE", subjects=["mute"], no_ack=True)
        sink = open_sink(host.url_of("mute"))
        for attempt in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable, match="acknowledges nothing") as caught:
                await attempt
            assert caught.value.outcome is Outcome.REFUSED
        assert host.messages("MUTE") == []

    async def test_a_stream_that_drops_what_no_consumer_waits_for_gets_nothing_without_one(
        self, open_sink: OpenSink, host: NatsServer
    ) -> None:
        host.add(name="WANTED", subjects=["wanted"], retention="interest")
        sink = open_sink(host.url_of("wanted"))
        for attempt in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable, match="has no consumer, and drops what none waits for"):
                await attempt
        host.asked(lambda js: js.pull_subscribe("wanted", durable="backend", stream="WANTED"))
        assert "only for consumers that it has then" in (await sink.ping() or "")
        await sink.publish(notification())
        assert host.asked(lambda js: js.stream_info("WANTED")).state.messages == 1

    async def test_a_window_for_duplicates_shorter_than_retries_is_told(
        self, open_sink: OpenSink, sink: NatsSink, host: NatsServer
    ) -> None:
        assert "drops repeats for 120 s (duplicate_window)" in (await sink.ping() or "")
        host.add(name="LONG", subjects=["long"], duplicate_window=DAY_SECONDS)
        assert await open_sink(host.url_of("long")).ping() is None

    async def test_a_full_stream_is_unavailable_and_used_again(
        self, open_sink: OpenSink, host: NatsServer
    ) -> None:
        host.add(name="SMALL", subjects=["small"], discard="new", max_msgs=1)
        sink = open_sink(host.url_of("small"))
        await sink.publish(notification("evt_1"))
        with pytest.raises(Unavailable, match="SMALL is full") as caught:
            await sink.publish(notification("evt_2"))
        assert caught.value.outcome is Outcome.UNAVAILABLE
        host.asked(lambda js: js.purge_stream("SMALL"))
        await sink.publish(notification("evt_2"))
        assert len(host.messages("SMALL")) == 1

    async def test_what_is_too_large_is_never_taken_and_harms_no_other(
        self, open_sink: OpenSink, sink: NatsSink, host: NatsServer
    ) -> None:
        host.add(name="THIN", subjects=["thin"], max_msg_size=2000)
        with pytest.raises(Permanent, match="max_msg_size"):
            await open_sink(host.url_of("thin")).publish(of_bytes(2001))
        # With its headers it is too large for the server, though by itself it is not.
        others = [sink.publish(notification(f"evt_{n}")) for n in range(20)]
        answers = await asyncio.gather(
            sink.publish(of_bytes(MAX_PAYLOAD)),
            *others,
            sink.publish(of_bytes(MAX_PAYLOAD - 500)),
            return_exceptions=True,
        )
        assert isinstance(answers[0], Permanent)
        assert "max_payload" in str(answers[0])
        assert set(answers[1:]) == {None}
        assert len(host.received()) == 21

    @pytest.mark.parametrize("answer", [b"", b"ok", b"[]", b'{"stream": "other", "seq": 1}'])
    async def test_an_answer_of_somebody_else_counts_for_nothing(
        self, open_sink: OpenSink, host: NatsServer, answer: bytes
    ) -> None:
        sink = open_sink(host.url_of("nobodys", "&stream=events"))
        async with answering(host, "nobodys", answer):
            with pytest.raises(Unavailable, match="something else than the stream events answers") as caught:
                await sink.publish(notification())
        assert caught.value.outcome is Outcome.REFUSED

    async def test_what_was_given_up_while_the_server_was_away_is_not_sent_later(
        self, open_sink: OpenSink, server: NatsServer
    ) -> None:
        server.start()
        sink = open_sink(server.url)
        await sink.publish(notification("evt_1"))
        server.stop()
        for number in range(2, 6):
            await failure(sink, notification(f"evt_{number}"))
        server.start()
        await sink.publish(notification("evt_6"))
        assert server.received() == [notification("evt_1").body, notification("evt_6").body]

    async def test_one_of_several_servers_is_enough(self, open_sink: OpenSink, host: NatsServer) -> None:
        dead = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        for order in ([*dead, f"127.0.0.1:{host.port}"], [f"127.0.0.1:{host.port}", *dead]):
            await open_sink(f"nats://{','.join(order)}?subject=events").publish(notification(order[0]))
        assert len(host.received()) == 2
        assert await failure(open_sink(f"nats://{','.join(dead)}?subject=events")) is Outcome.CONNECT_FAILED

    async def test_a_name_that_nobody_resolves_is_told_as_such(self, open_sink: OpenSink) -> None:
        assert await failure(open_sink("nats://nobody.invalid?subject=events")) is Outcome.DNS_FAILED


async def test_users_and_tokens_are_believed_and_wrong_ones_refused_without_repeating_them(
    tmp_path: Path, open_nats: OpenSink
) -> None:
    config = "authorization {{ {} }}"
    for number, (said, right, wrong) in enumerate(
        [
            ('user: "ours", password: "p@ss w0rd"', "ours:p%40ss%20w0rd@", "ours:n0ne@"),
            ('token: "t@ken"', "t%40ken@", "n0ne@"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        server = NatsServer(folder, config.format(said), **dict(re.findall(r'(\w+): "(.*?)"', said)))
        server.start()
        try:
            await open_nats(server.url.replace("//", f"//{right}")).publish(notification())
            assert server.received() == [notification().body]
            for user in (wrong, ""):
                with pytest.raises(Unavailable, match="does not accept our user") as caught:
                    await open_nats(server.url.replace("//", f"//{user}")).publish(notification())
                assert caught.value.outcome is Outcome.REFUSED
                assert "n0ne" not in str(caught.value)
        finally:
            server.stop()


async def test_a_user_with_what_the_manual_names_is_enough_and_with_less_it_says_what_lacks(
    tmp_path: Path, open_nats: OpenSink
) -> None:
    (rule,) = re.findall(r"^(\{ user: receiver.*)$", section("sinks", "## NATS"), re.MULTILINE)
    names = '"$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*"'
    assert names in rule
    users = {
        "receiver": rule.replace("PASSWORD", "pw"),
        "blind": rule.replace("PASSWORD", "pw").replace("receiver", "blind").replace(f", {names}", ""),
        "deaf": rule.replace("PASSWORD", "pw").replace("receiver", "deaf").replace("_INBOX.>", "nothing"),
        "mute": rule.replace("PASSWORD", "pw").replace("receiver", "mute").replace('"images"', '"nothing"'),
    }
    root = "{ user: root, password: pw }"
    config = f"authorization {{ users = [\n{root}\n{chr(10).join(users.values())}\n] }}"
    server = NatsServer(tmp_path, config, stream="images", user="root", password="pw")
    server.start()

    def opened(user: str, more: str = "") -> Sink:
        return open_nats(server.url_of("images", more).replace("//", f"//{user}:pw@"))

    try:
        await opened("receiver").ping()
        await opened("receiver").publish(notification("evt_1"))
        with pytest.raises(Unavailable, match=r"STREAM.NAMES\): name it in the sink's URL") as caught:
            await opened("blind").publish(notification("evt_2"))
        assert caught.value.outcome is Outcome.REFUSED
        named = opened("blind", "&stream=images")
        assert "may not see how the stream images is set up" in (await named.ping() or "")
        await named.publish(notification("evt_2"))
        for user in ("deaf", "mute"):
            with pytest.raises(Unavailable, match="does not permit our user") as caught:
                await opened(user, "&stream=images").publish(notification("evt_3"))
            assert caught.value.outcome is Outcome.REFUSED
        assert len(server.messages("images")) == 2
    finally:
        server.stop()


async def test_a_sink_whose_connections_are_of_no_use_has_one_of_them_at_most(
    tmp_path: Path, open_nats: OpenSink
) -> None:
    deaf = "{ user: deaf, password: pw, permissions: { subscribe: nothing } }"
    config = f"max_connections: 2\nauthorization {{ users = [\n{{ user: root, password: pw }}\n{deaf}\n] }}"
    server = NatsServer(tmp_path, config, user="root", password="pw")
    server.start()
    try:
        sink = open_nats(server.url.replace("//", "//deaf:pw@"))
        for _ in range(4):
            with pytest.raises(Unavailable, match="does not permit our user"):
                await sink.publish(notification())
        await sink.aclose()
        assert server.received() == []  # looked at by a connection, which is the second one at most
    finally:
        server.stop()


async def test_a_file_of_credentials_is_believed_and_read_anew_for_each_connection(
    tmp_path: Path, open_nats: OpenSink
) -> None:
    config, creds = operator_mode()
    (tmp_path / "ours.creds").write_text(creds)
    server = NatsServer(tmp_path, config, user_credentials=str(tmp_path / "ours.creds"))
    server.start()
    try:
        sink = open_nats(server.url + "&creds=ours.creds")
        await sink.publish(notification("evt_1"))
        server.stop()
        server.start()
        await failure(sink)  # by the end of its connection, or at the next attempt
        (tmp_path / "ours.creds").write_text("nothing")
        assert await failure(sink) is Outcome.REFUSED
        (tmp_path / "ours.creds").write_text(operator_mode()[1])  # of somebody else
        assert await failure(sink) is Outcome.REFUSED
        (tmp_path / "ours.creds").write_text(creds)
        await sink.publish(notification("evt_2"))
        assert len(server.received()) == 2
    finally:
        server.stop()


async def test_tls_goes_by_the_authority_that_the_url_names(tmp_path: Path, open_nats: OpenSink) -> None:
    make_authority(tmp_path)
    good = CERTIFICATES["good"]._replace(names="IP:127.0.0.1")
    make_server(tmp_path, good)
    config = f'tls {{ cert_file: "{tmp_path}/cert.pem", key_file: "{tmp_path}/key.pem" }}'
    trust = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    server = NatsServer(tmp_path, config, tls=trust)
    server.start()
    try:
        url = server.url.replace("nats://", "tls://")
        await open_nats(f"{url}&ssl_ca_certs=ca.pem").publish(notification("evt_1"))
        await open_nats(f"{server.url}&ssl_ca_certs=ca.pem").publish(notification("evt_2"))
        with pytest.raises(Unavailable, match="certificate") as caught:
            await open_nats(url).publish(notification("evt_3"))
        assert caught.value.outcome is Outcome.TLS_FAILED
        assert len(server.received()) == 2
    finally:
        server.stop()


async def test_the_manuals_consumer_makes_its_stream_and_reads_what_is_published(
    tmp_path: Path, open_nats: OpenSink
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("sinks", "## NATS"), re.DOTALL | re.MULTILINE)
    server = NatsServer(tmp_path, stream=None)
    server.start()
    (tmp_path / "consumer.py").write_text(code.replace("127.0.0.1:4222", f"127.0.0.1:{server.port}"))
    try:
        with printing(tmp_path, "consumer.py") as printed:
            sink = open_nats(server.url_of("images"))

            async def is_ready() -> bool:
                with suppress(Unavailable):
                    return await sink.ping() is None  # the stream drops repeats for a day
                return False

            await until(is_ready)
            for _ in range(2):
                await sink.publish(notification())
            await until(printed.read_text)

            async def is_read() -> bool:
                info = await asyncio.to_thread(server.asked, lambda js: js.consumer_info("IMAGES", "backend"))
                return not info.num_pending and not info.num_ack_pending

            await until(is_read)
            assert printed.read_text() == "task.completed vidgo/t1 user-17\n"
    finally:
        server.stop()


@pytest.mark.parametrize("user", ["", "ours:s3cr3t@", "s3cr3t@"])
async def test_nothing_is_told_to_a_server_that_wants_no_tls_where_the_url_does(
    user: str, open_nats: OpenSink
) -> None:
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"version": "2.15.1", "max_payload": 2**20, "auth_required": bool(user), "tls_required": False}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        while said := await reader.read(1000):
            heard.extend(said)
            writer.write(b"PONG\r\n" * said.count(b"PING"))
        writer.close()

    listening = await asyncio.start_server(pretend, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match="wants no TLS") as caught:
        await open_nats(f"tls://{user}127.0.0.1:{port}?subject=events").publish(notification())
    assert caught.value.outcome is Outcome.TLS_FAILED
    assert b"s3cr3t" not in heard
    assert b"PUB" not in heard
    listening.close()


async def test_what_is_no_nats_server_is_told_as_such(open_nats: OpenSink) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable, match="nats refuses the connection, or is no nats"):
        await open_nats(f"nats://127.0.0.1:{port}?subject=events").publish(notification())
    listening.close()


async def test_what_is_no_nats_server_keeps_no_other_from_being_asked(
    shared: NatsServer, open_nats: OpenSink
) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"longer than any line of a server " * 3000)
        writer.close()

    shared.clear()
    listening = await asyncio.start_server(greet, "127.0.0.1", 0)
    others = ",".join([f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"] * 9)
    sent = notification()
    await open_nats(f"nats://{others},127.0.0.1:{shared.port}?subject=events").publish(sent)
    assert shared.received() == [sent.body]
    listening.close()


@pytest.fixture
async def open_nats(tmp_path: Path) -> AsyncIterator[OpenSink]:
    """Opens sinks, and closes them after the test."""
    opened: list[NatsSink] = []

    def open_(url: str) -> NatsSink:
        opened.append(NatsSink.from_url(url, PluginOptions(name="mine", data_dir=tmp_path, http=client)))
        return opened[-1]

    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        yield open_
        for sink in opened:
            await sink.aclose()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nats://h0st", "lacks the option subject"),
        ("nats://h0st?subject=", "is empty"),
        ("nats://h0st?subject=a.*", "words joined by dots"),
        ("nats://h0st?subject=a.>", "words joined by dots"),
        ("nats://h0st?subject=a..b", "words joined by dots"),
        ("nats://h0st?subject=a.b.", "words joined by dots"),
        ("nats://h0st?subject=a%20b", "words joined by dots"),
        ("nats://h0st?subject=a%0d%0aPUB%20b", "words joined by dots"),
        ("nats://h0st?subject=a&stream=b.c", "stream is no name of a stream"),
        ("nats://h0st?subject=a&jetstream=yes", "unknown option jetstream"),
        ("nats://h0st/events?subject=a", "write nats://"),
        ("nats://h0st:port?subject=a", "write nats://"),
        ("nats://h0st:1,h0st:99999?subject=a", "write nats://"),
        ("nats://h0st,,h0st?subject=a", "write nats://"),
        ("nats://user:s3cr3t@[::1?subject=a", "write nats://"),
        ("nats://user:s3cr3t@?subject=a", "write nats://"),
        ("nats://h0st?subject=a#x", "write nats://"),
        ("tls://h0st?subject=a&creds=none", "creds names cannot be used: No such file"),
        ("tls://s3cr3t@h0st?subject=a&creds=none", "either creds or a user"),
        ("tls://h0st?subject=a&creds=empty", "holds no JWT and seed"),
        ("tls://h0st?subject=a&creds=binary", "holds no JWT and seed"),
        ("tls://h0st?subject=a&ssl_ca_certs=none", "ssl_ca_certs names cannot be used: No such file"),
        ("tls://h0st?subject=a&ssl_ca_certs=empty", "it holds no certificates"),
    ],
)
async def test_a_wrong_url_is_refused_without_repeating_it(
    url: str, problem: str, tmp_path: Path, open_nats: OpenSink
) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="sink mine: ") as caught:
        open_nats(url)
    assert problem in str(caught.value)
    assert "h0st" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
