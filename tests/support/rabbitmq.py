"""RabbitMQ: the server of this machine, with queues of a test's own, and nodes to be killed and frozen."""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from aiormq import Connection
from aiormq.abc import AbstractChannel, DeliveredMessage
from yarl import URL

from tests.hostile.certificates import CERTIFICATES, make_authority, make_server
from tests.support.missing import missing
from tests.support.sink_hosts import accepts, free_port, in_thread
from tests.support.waiting import until, wait_until

PROGRAM = Path(
    "/usr/lib/rabbitmq/bin/rabbitmq-server"
)  # the one on the path is root's, and drops the settings
START_SECONDS = 60.0

Result = TypeVar("Result")


class Rabbit:
    """A server, and a durable queue there with a name of its own."""

    def __init__(self, root: str, vhost: str = "") -> None:
        self.root = root.rstrip("/")
        self._vhost = vhost
        self.queue = f"receiver-test-{uuid.uuid4().hex}"
        self.url = self.url_of(f"queue={self.queue}")
        self._taken: dict[str, list[DeliveredMessage]] = {}
        self._exchanges: list[str] = []
        self._queues: list[str] = []

    def url_of(self, query: str, vhost: str | None = None) -> str:
        return f"{self.root}/{self._vhost if vhost is None else vhost}?{query}"

    def received(self) -> list[bytes]:
        return [message.body for message in self.messages()]

    def messages(self, queue: str | None = None) -> list[DeliveredMessage]:
        """All that has arrived in a queue, in its order; what was seen is taken out of it."""
        name = queue or self.queue
        taken = self._taken.setdefault(name, [])
        taken += self.asked(lambda channel: _take(channel, name))
        return taken

    def declare(self, queue: str | None = None, **arguments: Any) -> str:
        """A durable queue with such arguments (x- is put before their names)."""
        name = queue or f"{self.queue}-{len(self._queues)}"
        given: Any = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        self.asked(lambda channel: channel.queue_declare(name, durable=True, arguments=given))
        self._queues.append(name)
        return name

    def exchange(self, kind: str) -> str:
        """A durable exchange of this kind."""
        name = f"{self.queue}-{kind}"
        self.asked(lambda channel: channel.exchange_declare(name, exchange_type=kind, durable=True))
        self._exchanges.append(name)
        return name

    def bind(self, queue: str, exchange: str, key: str = "") -> None:
        self.asked(lambda channel: channel.queue_bind(queue, exchange, key))

    def clear(self) -> None:
        """Delete what was declared."""
        for queue in self._queues:
            self.asked(lambda channel, name=queue: channel.queue_delete(name))  # type: ignore[misc]
        for exchange in self._exchanges:
            self.asked(lambda channel, name=exchange: channel.exchange_delete(name))  # type: ignore[misc]
        self._queues, self._exchanges, self._taken = [], [], {}

    def asked(self, ask: Callable[[AbstractChannel], Awaitable[Result]]) -> Result:
        """What a client is answered, on a loop of its own."""

        async def talk() -> Result:
            connection = Connection(URL(f"{self.root}/"))
            connection.vhost = unquote(self._vhost) or "/"
            await connection.connect()
            try:
                return await ask(await connection.channel())
            finally:
                await connection.close()

        return in_thread(talk())


def shared_rabbit() -> Rabbit:
    """The server of this machine, or the one that TEST_AMQP_URL names, with a queue."""
    rabbit = Rabbit(os.environ.get("TEST_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672"))
    url = URL(rabbit.root)
    if not accepts(url.port or 5672, url.host or "127.0.0.1"):
        missing("no RabbitMQ answers")
    rabbit.declare(rabbit.queue)
    return rabbit


class RabbitNode(Rabbit):
    """A node in a process of ours, which takes seconds to start: so it goes on through several tests.

    Its limit for a message is 200,000 bytes; it speaks TLS, too, as the authority ``ca.pem`` of its folder
    has certified.
    """

    def __init__(self, folder: Path) -> None:
        if not PROGRAM.exists():
            missing("rabbitmq-server is not installed")
        self.port, self.tls_port, distribution = free_port(), free_port(), free_port()
        make_authority(folder)
        make_server(folder, CERTIFICATES["good"]._replace(names="IP:127.0.0.1"))
        super().__init__(f"amqp://guest:guest@127.0.0.1:{self.port}")
        config = folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlisteners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.certfile = {folder}/cert.pem\nssl_options.keyfile = {folder}/key.pem\n"
            "max_message_size = 200000\nlog.file = false\n"
        )
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._name = f"receiver-{self.port}@localhost"
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),  # where the cookie is
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
        }

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start it where it does not run, with an empty queue where it was never started."""
        if self._process is None:
            with (self.folder / "node.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [PROGRAM], env=self._environ, stdout=log, stderr=log, start_new_session=True
                )
            wait_until(lambda: accepts(self.port), START_SECONDS)
        self.declare(self.queue)
        self.evaluate("mnesia:sync_log().")  # else a kill within moments takes the queue itself back

    def stop(self) -> None:
        """Kill it, as a power cut would."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def alarm(self, *, is_on: bool) -> None:
        """Let it be short of memory, or have enough again."""
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({'0.000001' if is_on else '0.9'}).")

    def evaluate(self, code: str) -> None:
        """Let the node run some Erlang: what rabbitmqctl does, in a fraction of its time."""
        cookie = (self.folder / ".erlang.cookie").read_text()
        program = shutil.which("erl_call") or missing("erl_call is not installed (erlang-base has it)")
        command = [program, "-sname", self._name, "-c", cookie, "-e"]
        told = subprocess.run(
            command,
            env=self._environ,
            input=f"{code}\n".encode(),
            stdout=subprocess.PIPE,
            timeout=30,
            check=True,
        )
        assert told.stdout.startswith(b"{ok"), told.stdout

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


async def _take(channel: AbstractChannel, queue: str) -> list[DeliveredMessage]:
    count = (await channel.queue_declare(queue, passive=True)).message_count or 0
    found: list[DeliveredMessage] = []

    async def note(message: DeliveredMessage) -> None:
        found.append(message)

    if count:
        await channel.basic_consume(queue, note, no_ack=True)
        await until(lambda: len(found) >= count)
    return found
