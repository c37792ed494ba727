"""The Redis sink: the contract, deduplication, and what each refusal of a server means."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest
from redis import exceptions

from receiver.errors import Misconfigured, Unavailable
from receiver.models import Outcome
from receiver.options import PluginOptions
from receiver.sinks.redis import RedisSink
from receiver.sinks.redis.answers import code_of
from receiver.sinks.redis.server import LiveConnection
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerBatchSinkContract, batch_outcomes, failure
from tests.support.manual import section
from tests.support.sink_hosts import HttpServer, RedisCluster, RedisServer, SharedRedis, stream_events
from tests.support.waiting import until

COMMANDS = ("eval", "exists", "set", "xadd", "type")


def user(server: RedisServer, *commands: str) -> str:
    """Give a user of ours these commands too; the URL with its name."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "ours", "on", ">pw", "~*", *commands)
    return server.url.replace("redis://", "redis://ours:pw@")


def _told(answer: str) -> exceptions.ResponseError:
    """The answer that a script got, as servers before Redis 7 hand it on."""
    text = f"Error running script (call to f_b426f4): @user_script:1: {answer}"
    return exceptions.ResponseError(text, status_code="ERR")


class TestRedisSink(ServerBatchSinkContract):
    sink_class = RedisSink

    @pytest.fixture
    def host(self) -> Iterator[SharedRedis]:
        host = SharedRedis()
        yield host
        host.close()

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        server = RedisServer(tmp_path)
        yield server
        server.stop()

    async def test_an_entry_has_the_documented_fields(self, sink: RedisSink, host: SharedRedis) -> None:
        await sink.publish(notification())
        entries: Any = host.client.xrange(host.stream)
        ((_, fields),) = entries
        assert fields == {b"id": b"evt_1", b"type": b"task.completed", b"event": notification().body}

    async def test_a_repeat_adds_nothing(self, sink: RedisSink, host: SharedRedis) -> None:
        await asyncio.gather(*(sink.publish(notification()) for _ in range(20)))
        assert host.received() == [notification().body]

    async def test_a_repeat_of_a_batch_adds_nothing(self, sink: RedisSink, host: SharedRedis) -> None:
        messages = [notification(f"evt_{n}") for n in range(100)]
        await sink.publish(messages[70])
        batches = [messages, messages[30:], [*messages[:3], *messages[:3]]]
        ends = await asyncio.gather(*map(sink.publish_many, batches))
        assert set().union(*ends) == {None}
        assert len(host.received()) == 100

    async def test_an_entry_that_the_server_refuses_keeps_no_other_of_its_batch_out(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        with server.client() as admin:
            admin.config_set("proto-max-bulk-len", str(1 << 20))  # for one value; no batch is cut so small
        sink = open_sink(server.url)
        messages = [notification(f"evt_{n}") for n in range(100)]
        messages[50] = notification("evt_large", metadata={"text": "x" * (2 << 20)})
        ends = await batch_outcomes(sink, messages)
        assert [place for place, end in enumerate(ends) if end is not None] == [50]
        assert server.received() == [message.body for message in messages[:50] + messages[51:]]

    async def test_a_connection_that_was_just_lost_holds_up_no_other(self, server: RedisServer) -> None:
        server.start()
        connection = LiveConnection(port=server.port, protocol=2)
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        assert connection._writer is not None
        connection._writer.transport.abort()  # as when the server's reset arrives between look and write
        with pytest.raises(exceptions.ConnectionError):
            await connection.send_command("PING")
        async with asyncio.timeout(60):  # the next socket has the number of the lost one
            await connection.send_command("PING")
            assert await connection.read_response() == b"PONG"
        await connection.disconnect()

    @pytest.mark.parametrize("lacking", ["eval", "exists", "set", "xadd"])
    async def test_of_a_batch_of_a_user_without_a_permission_nothing_is_added_however_often_it_is_tried(
        self, open_sink: OpenSink, server: RedisServer, lacking: str
    ) -> None:
        server.start()
        sink = open_sink(user(server, *(f"+{name}" for name in COMMANDS if name != lacking)))
        messages = [notification(f"evt_{n}") for n in range(10)]
        for _ in range(2):
            assert await batch_outcomes(sink, messages) == [Outcome.REFUSED] * 10
        assert server.received() == []
        user(server, f"+{lacking}")
        assert await batch_outcomes(sink, messages) == [None] * 10
        assert len(server.received()) == 10

    async def test_a_newer_revision_is_added_under_an_id_of_its_own(
        self, sink: RedisSink, host: SharedRedis
    ) -> None:
        for revision in (1, 2, 1, 2):
            await sink.publish(notification(revision=revision))
        entries: Any = host.client.xrange(host.stream)
        assert [fields[b"id"] for _, fields in entries] == [b"evt_1", b"evt_1.2"]

    async def test_a_replay_is_added(self, sink: RedisSink, host: SharedRedis) -> None:
        await sink.publish(notification())
        await sink.publish(msgspec.structs.replace(notification(), dedupe_key="evt_1:1:rpl_1"))
        assert len(host.received()) == 2

    async def test_a_repeat_is_told_apart_for_as_long_as_the_url_says(
        self, open_sink: OpenSink, host: SharedRedis
    ) -> None:
        sink = open_sink(f"{host.url}&dedupe_seconds=600")
        await sink.publish(notification())
        await sink.publish(notification())
        assert len(host.received()) == 1
        (key,) = host.client.keys(f"*{host.stream}*:seen:*")
        assert 0 < host.client.ttl(key) <= 600
        host.client.pexpire(key, 1)
        await until(lambda: not host.client.exists(key))
        await sink.publish(notification())
        assert len(host.received()) == 2

    async def test_what_is_remembered_for_repeats_is_forgotten_in_a_week(
        self, sink: RedisSink, host: SharedRedis
    ) -> None:
        await sink.publish(notification())
        (key,) = host.client.keys(f"*{host.stream}*:seen:*")
        assert 6 * 86_400 < host.client.ttl(key) <= 7 * 86_400

    async def test_a_server_that_lost_everything_is_used_on(self, sink: RedisSink, host: SharedRedis) -> None:
        await sink.publish(notification())
        host.client.script_flush()
        host.client.delete(*host.client.keys(f"*{host.stream}*"))
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_a_key_of_another_kind_loses_nothing(self, sink: RedisSink, host: SharedRedis) -> None:
        host.client.set(host.stream, "something else")
        assert await failure(sink) is Outcome.REFUSED
        with pytest.raises(Unavailable, match="something of another kind"):
            await sink.ping()
        host.client.delete(host.stream)
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_a_server_at_its_memory_limit_is_unavailable_and_used_again(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        sink = open_sink(server.url)
        await sink.publish(notification("evt_0"))
        with server.client() as admin:
            admin.config_set("maxmemory", "1")
            assert await failure(sink) is Outcome.UNAVAILABLE
            admin.config_set("maxmemory", "0")
        await sink.publish(notification())
        assert server.received() == [notification("evt_0").body, notification().body]

    async def test_a_read_only_replica_is_unavailable_until_it_is_promoted(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        sink = open_sink(server.url)
        with server.client() as admin:
            admin.replicaof("127.0.0.1", str(server.port))
            assert await failure(sink) is Outcome.UNAVAILABLE
            admin.replicaof("NO", "ONE")
        await sink.publish(notification())
        assert server.received() == [notification().body]

    async def test_a_password_where_the_server_has_none_is_refused(
        self, open_sink: OpenSink, host: SharedRedis
    ) -> None:
        with pytest.raises(Unavailable, match="does not accept our user and password") as caught:
            await open_sink(host.url.replace("//", "//:hunter2@")).publish(notification())
        assert caught.value.outcome is Outcome.REFUSED

    async def test_a_password_is_used_and_a_changed_one_refused_without_repeating_it(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        with server.client() as admin:
            admin.config_set("requirepass", "p@ss w0rd")
        sink = open_sink(server.url.replace("redis://", "redis://:p%40ss%20w0rd@"))
        await sink.publish(notification())
        with server.client(password="p@ss w0rd") as admin:
            admin.config_set("requirepass", "another")
            admin.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(Unavailable) as caught:
                await sink.publish(notification("evt_2"))
            admin.config_set("requirepass", "")
        assert caught.value.outcome is Outcome.REFUSED
        assert "w0rd" not in str(caught.value)
        with pytest.raises(Unavailable) as caught:
            await open_sink(server.url.replace("redis://", "redis://nobody:p%40ss@")).ping()
        assert caught.value.outcome is Outcome.REFUSED

    @pytest.mark.parametrize("lacking", ["eval", "exists", "set", "xadd"])
    async def test_a_user_without_a_permission_adds_nothing_however_often_it_is_tried(
        self, open_sink: OpenSink, server: RedisServer, lacking: str
    ) -> None:
        server.start()
        commands = [f"+{name}" for name in COMMANDS if name != lacking]
        sink = open_sink(user(server, *commands))
        for _ in range(3):
            with pytest.raises(Unavailable, match="does not permit this to our user") as caught:
                await sink.publish(notification())
            assert caught.value.outcome is Outcome.REFUSED
            with pytest.raises(Unavailable, match="does not permit this to our user"):
                await sink.ping()
        assert server.received() == []
        user(server, f"+{lacking}")
        await sink.ping()
        await sink.publish(notification())
        await sink.publish(notification())
        assert server.received() == [notification().body]

    async def test_a_user_with_what_the_manual_names_and_nothing_else_is_enough(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        (rule,) = re.findall(r"^ACL SETUSER (.*)$", section("sinks", "## Redis"), re.MULTILINE)
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", *rule.replace(">PASSWORD", ">pw").split())
        name = rule.split()[0]
        sink = open_sink(f"redis://{name}:pw@127.0.0.1:{server.port}/2?stream=images")
        await sink.ping()
        for _ in range(2):
            await sink.publish(notification())
        with server.client(db=2) as client:
            assert stream_events(client, "images") == [notification().body]
        with pytest.raises(Unavailable, match="does not permit"):
            await open_sink(f"redis://{name}:pw@127.0.0.1:{server.port}/2?stream=others").ping()

    async def test_a_user_who_may_not_see_what_a_key_is_can_be_told_all_the_same(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        sink = open_sink(user(server, "+eval", "+exists", "+set", "+xadd"))
        await sink.ping()
        await sink.publish(notification())
        assert server.received() == [notification().body]

    async def test_a_ping_leaves_nothing_behind(self, open_sink: OpenSink, server: RedisServer) -> None:
        server.start()
        sink = open_sink(server.url)
        await sink.ping()
        with server.client() as client:
            assert client.keys("*") == []
            await sink.publish(notification())
            before: Any = client.xinfo_stream("events")
            await sink.ping()
            assert client.xinfo_stream("events") == before
            assert len(client.keys("*")) == 2

    async def test_a_ping_finds_out_what_would_keep_entries_from_being_added(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        sink = open_sink(server.url)
        with server.client() as admin:
            admin.config_set("maxmemory", "1")
            with pytest.raises(Unavailable, match="is at its memory limit"):
                await sink.ping()
            admin.config_set("maxmemory", "0")
            admin.config_set("min-replicas-to-write", "1")
            with pytest.raises(Unavailable, match="has too few replicas to write"):
                await sink.ping()
            admin.config_set("min-replicas-to-write", "0")
            admin.replicaof("127.0.0.1", str(server.port))
            with pytest.raises(Unavailable, match="is a read-only replica"):
                await sink.ping()
            admin.replicaof("NO", "ONE")
        await sink.ping()

    async def test_what_an_earlier_release_has_marked_as_seen_is_seen(
        self, sink: RedisSink, host: SharedRedis
    ) -> None:
        host.client.set(f"{{{host.stream}}}:seen:{notification().dedupe_key}", "1", ex=100)
        await sink.publish(notification())
        assert host.received() == []

    async def test_tls_to_a_server_that_speaks_none_is_a_tls_failure(
        self, open_sink: OpenSink, tmp_path: Path
    ) -> None:
        stub = HttpServer(tmp_path)  # answers to TLS, where a redis-server waits for more
        stub.start()
        try:
            with pytest.raises(Unavailable, match=r"\(tls_failed\): .*(version|record)") as caught:
                await open_sink(f"rediss://127.0.0.1:{stub.port}/0").publish(notification())
            assert caught.value.outcome is Outcome.TLS_FAILED
        finally:
            stub.stop()

    async def test_the_number_in_the_path_chooses_the_database(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        await open_sink(server.url.replace("/0?", "/3?")).publish(notification())
        with server.client(db=3) as client:
            assert client.xlen("events") == 1
        assert server.received() == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


async def test_a_cluster_keeps_a_stream_and_what_it_has_seen_on_one_node(
    tmp_path: Path, cluster: RedisCluster
) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=http)
        for stream in ("{images}:events", "events", "a{b}c", "ünïcode {x}"):
            owner, other = cluster.owner(stream)
            sink = RedisSink.from_url(f"redis://127.0.0.1:{owner.port}/0?stream={quote(stream)}", options)
            await sink.ping()
            await sink.publish(notification())
            assert await batch_outcomes(sink, [notification(), notification("evt_3")]) == [None, None]
            with owner.client() as client:
                assert stream_events(client, stream) == [notification().body, notification("evt_3").body]
            await sink.aclose()
            away = RedisSink.from_url(f"redis://127.0.0.1:{other.port}/0?stream={quote(stream)}", options)
            for attempt in (away.ping(), away.publish(notification("evt_2"))):
                with pytest.raises(Unavailable, match=f"on another node.*127.0.0.1:{owner.port}") as caught:
                    await attempt
                assert caught.value.outcome is Outcome.REFUSED
            await away.aclose()


async def test_a_cluster_that_is_not_whole_is_unavailable(tmp_path: Path, cluster: RedisCluster) -> None:
    owner, _ = cluster.owner("events")
    with owner.client() as client:
        client.execute_command("CLUSTER", "FLUSHSLOTS")
    async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=http)
        sink = RedisSink.from_url(owner.url, options)
        with pytest.raises(Unavailable, match="has a cluster that is down") as caught:
            await sink.ping()
        await sink.aclose()
    assert caught.value.outcome is Outcome.UNAVAILABLE


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE"),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), "NOREPLICAS"),
        (exceptions.NoPermissionError("this user has no permissions"), "NOPERM"),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
        (exceptions.MovedError("12182 127.0.0.1:7002"), "MOVED"),
        (exceptions.ClusterCrossSlotError("Keys in request don't hash to the same slot"), "CROSSSLOT"),
        (exceptions.ResponseError("any words", status_code="MISCONF"), "MISCONF"),
        (_told("WRONGTYPE Operation against a key"), "WRONGTYPE"),
        (_told("@user_script: 1: -READONLY You can't write against a read only replica."), "READONLY"),
        (_told("@user_script: 1: The user executing the script can't run this command"), "NOPERM"),
        (exceptions.ResponseError("ACL failure in script: User u has no permissions"), "NOPERM"),
        (
            exceptions.ResponseError("unknown command 'EVAL', with args beginning with: ", status_code="ERR"),
            "ERR",
        ),
        (exceptions.ResponseError("whatever 'secret' this is"), ""),
    ],
    ids=str,
)
def test_the_code_of_an_answer_is_found_wherever_a_server_or_the_driver_puts_it(
    answer: Exception, code: str
) -> None:
    """As Redis 6.2, 7.0 and 8.2 and Valkey 9.1 answer, by drivers before and since 7.2."""
    assert code_of(answer) == code


@pytest.mark.parametrize("stream", ["{}x", "a}b", "a{b", "{a}{b}", "{a}b}", "{{a}}", "}{"])
async def test_braces_that_are_no_hash_tag_are_refused(stream: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match=r"sink mine: braces .* as in \{images\}:events"):
            RedisSink.from_url(f"redis://127.0.0.1/0?stream={quote(stream)}", options)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h0st/0?maxlen=5", "unknown option maxlen; known are stream, dedupe_seconds"),
        ("redis://h0st/0?stream=", "is empty"),
        ("redis://h0st/0?dedupe_seconds=0", "dedupe_seconds must be a whole number from 1"),
        ("redis://h0st/0?dedupe_seconds=week", "dedupe_seconds must be a whole number from 1"),
        ("redis://h0st/0?ssl_cert_reqs=none", "need a rediss:// URL"),
        ("rediss://h0st/0?ssl_cert_reqs=maybe", "ssl_cert_reqs must be none, optional or required"),
        ("rediss://h0st/0?ssl_ca_certs=none", "ssl_ca_certs names cannot be used: No such file"),
        ("redis://h0st/zero", "write redis://"),
        ("redis://h0st:port/", "write redis://"),
        ("redis://h0st:99999/", "write redis://"),
        ("redis://user:s3cr3t@[::1/", "write redis://"),
        ("redis://h0st/0#x", "write redis://"),
        ("unix:///run/redis", "write redis://"),
    ],
)
async def test_a_wrong_url_is_refused_without_repeating_it(url: str, problem: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: ") as caught:
            RedisSink.from_url(url, options)
    assert problem in str(caught.value)
    assert "h0st" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
