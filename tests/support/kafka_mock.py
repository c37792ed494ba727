"""The mock cluster that librdkafka has for its own tests: a broker of Kafka on loopback, in memory.

``python kafka_mock.py PORT`` serves one, with the topic ``images``, at a port of its own until it is killed.
The mock itself takes any port: so what it is asked there goes through sockets of this process, and the mock
tells its clients to come this way.
"""

import ctypes
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import confluent_kafka

PRODUCE = 0  # the request's number in Kafka's protocol
INIT_PRODUCER_ID = 22


class MockCluster:
    """One broker. Topics that nobody made are made when they are asked for, as brokers do by default."""

    def __init__(self) -> None:
        found = list(Path(f"{confluent_kafka.__path__[0]}.libs").glob("librdkafka*"))
        if not found:
            raise FileNotFoundError("librdkafka")
        self._driver = ctypes.CDLL(str(found[0]))
        self._handle = self._call("rd_kafka_new", 0, self._call("rd_kafka_conf_new"), None, 0)
        self._cluster = self._call("rd_kafka_mock_cluster_new", self._handle, 1)
        servers = ctypes.string_at(self._call("rd_kafka_mock_cluster_bootstraps", self._cluster)).decode()
        self.port = int(servers.rpartition(":")[2])

    def create(self, topic: str, partitions: int = 1) -> None:
        self._call("rd_kafka_mock_topic_create", self._cluster, topic.encode(), ctypes.c_int(partitions), 1)

    def answer(self, topic: str, code: int) -> None:
        """Answer with this error whenever a client looks for the topic."""
        self._call("rd_kafka_mock_topic_set_error", self._cluster, topic.encode(), ctypes.c_int(code))

    def fail(self, request: int, codes: Sequence[int]) -> None:
        """Answer the next requests of this kind with these errors."""
        errors = (ctypes.c_int * len(codes))(*codes)
        self._call(
            "rd_kafka_mock_push_request_errors_array",
            self._cluster,
            ctypes.c_int16(request),
            ctypes.c_size_t(len(codes)),
            errors,
        )

    def advertise(self, port: int) -> None:
        self._call(
            "rd_kafka_mock_broker_set_host_port",
            self._cluster,
            ctypes.c_int32(1),
            b"127.0.0.1",
            ctypes.c_int(port),
        )

    def close(self) -> None:
        self._call("rd_kafka_mock_cluster_destroy", self._cluster)
        self._call("rd_kafka_destroy", self._handle)

    def _call(self, name: str, *arguments: Any) -> Any:
        function = self._driver[name]
        function.restype = ctypes.c_void_p
        return function(*(ctypes.c_void_p(each) if _is_pointer(each) else each for each in arguments))


def _is_pointer(argument: object) -> bool:
    return isinstance(argument, int) and argument > 0xFFFF_FFFF


def main(port: int) -> None:
    cluster = MockCluster()
    cluster.create("images")
    cluster.advertise(port)
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            broker = socket.create_connection(("127.0.0.1", cluster.port))
            for one, other in ((client, broker), (broker, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Thread(target=pump, args=(one, other), daemon=True).start()


def pump(one: socket.socket, other: socket.socket) -> None:
    """Hand on what one side sends, and its end."""
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
