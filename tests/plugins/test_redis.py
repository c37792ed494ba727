"""The Redis sink: the contract, deduplication, and what each refusal of a server means."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from receiver.errors import Misconfigured, Unavailable
from receiver.options import PartOptions
from receiver.sinks.redis import RedisSink
from receiver.words import Outcome
from tests.contracts.sink import OpenSink, ServerSinkContract, failure
from tests.messages import notification
from tests.sink_hosts import HttpServer, RedisServer, SharedRedis


class TestRedisSink(ServerSinkContract):
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
        sink = open_sink(f"{host.url}&dedupe_seconds=1")
        await sink.publish(notification())
        await sink.publish(notification())
        assert len(host.received()) == 1
        await asyncio.sleep(1.2)
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
        with pytest.raises(Unavailable, match="something that is not a stream"):
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
            admin.config_set("maxmemory", "1mb")
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

    async def test_a_user_without_the_permission_is_refused(
        self, open_sink: OpenSink, server: RedisServer
    ) -> None:
        server.start()
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+ping")
        sink = open_sink(server.url.replace("redis://", "redis://reader:pw@"))
        await sink.ping()
        assert await failure(sink) is Outcome.REFUSED

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


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h0st/0?maxlen=5", "unknown option maxlen; known are stream, dedupe_seconds"),
        ("redis://h0st/0?stream=", "is empty"),
        ("redis://h0st/0?dedupe_seconds=0", "dedupe_seconds must be a whole number above 0"),
        ("redis://h0st/0?dedupe_seconds=week", "dedupe_seconds must be a whole number above 0"),
        ("redis://h0st/0?ssl_cert_reqs=none", "need a rediss:// URL"),
        ("rediss://h0st/0?ssl_cert_reqs=maybe", "ssl_cert_reqs must be none, optional or required"),
        ("redis://h0st/zero", "write redis://"),
        ("redis://h0st:port/", "write redis://"),
        ("redis://h0st:99999/", "write redis://"),
        ("redis://user:s3cr3t@[::1/", "write redis://"),
        ("redis://h0st/0#x", "write redis://"),
        ("unix:///run/redis", "write redis://"),
    ],
)
async def test_a_wrong_url_is_refused_without_repeating_it(url: str, problem: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        options = PartOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: ") as caught:
            RedisSink.from_url(url, options)
    assert problem in str(caught.value)
    assert "h0st" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
