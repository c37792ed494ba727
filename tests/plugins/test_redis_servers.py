"""The Redis sink on other servers and ways in: Redis 8, Valkey, a cluster, TLS, a user with few rights."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from receiver.sinks.redis import RedisSink
from receiver.testing.sinks import ServerSinkContract, SinkContract
from tests.hostile.certificates import CERTIFICATES, make_authority, make_server
from tests.support.manual import section
from tests.support.sink_hosts import RedisCluster, RedisServer, program_of, stream_events


class Stream:
    """A stream in a server that other tests use too."""

    def __init__(self, url: str, client: Redis, name: str) -> None:
        self.url = f"{url}{'&' if '?' in url else '?'}stream={name}"
        self._client = client
        self._name = name

    def received(self) -> list[bytes]:
        return stream_events(self._client, self._name)


MakeStream = Callable[[str], Stream]


class _Servers(ServerSinkContract):
    sink_class = RedisSink
    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def shared(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
        server = RedisServer(tmp_path_factory.mktemp("shared"), program=program_of(cls.name))
        server.start()
        yield server
        server.stop()

    @pytest.fixture
    def host(self, shared: RedisServer, tmp_path: Path) -> Iterator[Stream]:
        with shared.client() as client:
            yield Stream(f"redis://127.0.0.1:{shared.port}/0", client, tmp_path.name)

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        server = RedisServer(tmp_path, program=program_of(self.name))
        yield server
        server.stop()


class TestRedis8(_Servers):
    name = "redis 8"


class TestValkey(_Servers):
    name = "valkey"


class _WaysIn(SinkContract):
    sink_class = RedisSink

    @pytest.fixture
    def host(self, ways_in: MakeStream, tmp_path: Path) -> Stream:
        return ways_in(re.sub(r"\W", "-", tmp_path.name))


class TestCluster(_WaysIn):
    @pytest.fixture(scope="class")
    @classmethod
    def ways_in(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStream]:
        cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
        clients: list[Redis] = []

        def make(name: str) -> Stream:
            owner, _ = cluster.owner(f"{{{name}}}:events")
            clients.append(owner.client())
            return Stream(f"redis://127.0.0.1:{owner.port}/0", clients[-1], f"{{{name}}}:events")

        try:
            cluster.start()
            yield make
        finally:
            for client in clients:
                client.close()
            cluster.stop()


class TestTls(_WaysIn):
    @pytest.fixture(scope="class")
    @classmethod
    def ways_in(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStream]:
        folder = tmp_path_factory.mktemp("tls")
        make_authority(folder)
        make_server(folder, CERTIFICATES["good"]._replace(names="IP:127.0.0.1"))
        server = RedisServer(folder, *_tls(folder))
        server.start()
        with server.client(ssl=True, ssl_ca_certs=str(folder / "ca.pem")) as client:
            url = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={folder / 'ca.pem'}"
            yield lambda name: Stream(url, client, name)
        server.stop()


def _tls(folder: Path) -> list[str]:
    files = {"cert-file": "cert.pem", "key-file": "key.pem", "ca-cert-file": "ca.pem"}
    options = [word for name, file in files.items() for word in (f"--tls-{name}", str(folder / file))]
    return [*options, "--tls-auth-clients", "no"]


class TestRestrictedUser(_WaysIn):
    """One with no more rights than the manual gives it, on a server that knows nobody else."""

    @pytest.fixture(scope="class")
    @classmethod
    def ways_in(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStream]:
        server = RedisServer(tmp_path_factory.mktemp("restricted"))
        server.start()
        (rule,) = re.findall(r"^ACL SETUSER receiver (.*)$", section("sinks", "## Redis"), re.MULTILINE)
        with server.client() as admin:

            def make(name: str) -> Stream:
                rights: Any = rule.replace(">PASSWORD", ">pw").replace("images", name).split()
                admin.execute_command("ACL", "SETUSER", "receiver", "reset", *rights)
                return Stream(f"redis://receiver:pw@127.0.0.1:{server.port}/0", admin, name)

            yield make
        server.stop()
