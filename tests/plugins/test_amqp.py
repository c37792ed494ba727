"""The RabbitMQ sink: the contract, and what each refusal of a server or a queue means."""

from collections.abc import Iterator

import pytest

from receiver.sinks.amqp import AmqpSink
from tests.contracts.sink import ServerSinkContract
from tests.support.rabbitmq import Rabbit, RabbitNode, shared_rabbit


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    yield node
    node.stop()


class TestAmqpSink(ServerSinkContract):
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
