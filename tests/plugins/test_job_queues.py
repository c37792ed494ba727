"""Sinks that start jobs: the contract, one job for each event, and each library's own worker on real jobs."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import celery
import dramatiq
import httpx2
import msgspec
import pytest
import rq
import rq.job
from redis import Redis
from taskiq_redis import ListQueueBroker

from receiver import plugins
from receiver.errors import Misconfigured, Unavailable
from receiver.models import Outcome
from receiver.options import PluginOptions
from receiver.ports import Sink
from receiver.sinks.amqp.celery import CelerySink as AmqpCelerySink
from receiver.sinks.redis.arq import ArqSink
from receiver.sinks.redis.celery import CelerySink
from receiver.sinks.redis.dramatiq import DramatiqSink
from receiver.sinks.redis.rq import RqSink
from receiver.sinks.redis.taskiq import TaskiqSink
from receiver.testing import sample_notification as notification
from receiver.testing.sinks import OpenSink, ServerSinkContract, SinkContract
from tests.support.job_queues import (
    Job,
    QueueServer,
    Worker,
    arq_jobs,
    celery_argument,
    celery_jobs,
    dramatiq_jobs,
    install_arq,
    rq_jobs,
    sink_of,
    taskiq_jobs,
)
from tests.support.manual import section
from tests.support.messages import TRACEPARENT
from tests.support.rabbitmq import Rabbit, shared_rabbit
from tests.support.sink_hosts import RedisCluster
from tests.support.waiting import until

ODD = {"text": 'Ж漢字🦊\u2028\n"\\\0é'}


class Queue(QueueServer):
    """The host of a contract: what a sink has pushed, as the events that the jobs get."""

    key = ""  # of the list, stream or sorted set

    def received(self) -> list[bytes]:
        jobs = self.jobs(self.key)
        assert {job.task for job in jobs} <= {self.task}
        return [job.argument for job in jobs]

    def ids(self) -> list[str]:
        return [job.id for job in self.jobs(self.key)]


class JobSinkContract(SinkContract):
    """What every sink that starts jobs does. Subclasses say where the manual tells of it, and read it."""

    heading: ClassVar[str]
    key: ClassVar[str]
    keys: ClassVar[set[str]]  # of a job evt_1 that waits, besides its mark
    worker_arguments: ClassVar[tuple[str, ...]] = ()  # for a worker that is there sooner

    @staticmethod
    def read(client: "Redis", key: str) -> list[Job]:
        raise NotImplementedError

    def prepare(self, client: "Redis") -> None:
        """What a worker has done on its first start, where a push needs it."""

    def worker(self, server: Queue, folder: Path) -> Worker:
        return Worker(server.told, folder, *self.worker_arguments)

    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
        running = Queue(tmp_path_factory.mktemp("redis"), cls.heading, cls.read)
        running.key = cls.key
        running.start()
        yield running
        running.stop()

    @pytest.fixture
    def host(self, running: Queue) -> Queue:
        with running.client() as client:
            client.flushall()
            self.prepare(client)
        return running

    async def test_repeats_start_one_job(self, sink: Sink, host: Queue) -> None:
        await asyncio.gather(*(sink.publish(notification()) for _ in range(20)))
        assert host.received() == [notification().body]

    async def test_a_job_has_the_event_s_id_and_a_replay_one_of_its_own(
        self, sink: Sink, host: Queue
    ) -> None:
        replay = msgspec.structs.replace(notification(), dedupe_key="evt_1:1:rpl_1")
        for message in (notification(), notification(revision=2), replay):
            await sink.publish(message)
        assert host.ids() == ["evt_1", "evt_1-2", "evt_1-rpl_1"]

    async def test_a_job_takes_the_keys_that_the_manual_names_and_is_forgotten_in_a_week(
        self, sink: Sink, host: Queue
    ) -> None:
        await sink.publish(notification())
        with host.client(decode_responses=True) as client:
            (mark,) = set(client.keys()) - self.keys
            assert set(client.keys()) - {mark} == self.keys
            assert mark.endswith(f":seen:{notification().dedupe_key}")
            assert 6 * 86_400 < client.ttl(mark) <= 7 * 86_400
            assert {client.ttl(key) for key in self.keys} == {-1}, "a job waits for its worker however long"

    async def test_a_user_needs_what_the_manual_names_and_every_bit_of_it(
        self, open_sink: OpenSink, host: Queue
    ) -> None:
        (rule,) = re.findall(r"^ACL SETUSER (.*)$", host.told, re.MULTILINE)
        name, *rights = rule.replace(">PASSWORD", ">pw").split()
        sink = open_sink(host.url.replace("://", f"://{name}:pw@"))
        with host.client() as admin:
            for lacking in [
                right for right in rights if right[0] == "+" and right not in ("+type", "+select")
            ]:
                admin.execute_command("ACL", "SETUSER", name, "reset", *(set(rights) - {lacking}))
                for attempt in (sink.publish(notification()), sink.ping()):
                    with pytest.raises(Unavailable, match="does not permit this to our user, who needs"):
                        await attempt
            assert host.received() == []
            admin.execute_command("ACL", "SETUSER", name, "reset", *rights)
            await sink.ping()
            for _ in range(2):
                await sink.publish(notification())
            admin.execute_command("ACL", "DELUSER", name)
        assert host.received() == [notification().body]

    async def test_a_ping_leaves_nothing_and_tells_what_would_keep_a_job_out(
        self, sink: Sink, host: Queue
    ) -> None:
        with host.client() as admin:
            before = admin.keys()
            await sink.ping()
            assert admin.keys() == before
            admin.config_set("maxmemory", "1")
            for attempt in (sink.ping(), sink.publish(notification())):
                with pytest.raises(Unavailable, match="is at its memory limit"):
                    await attempt
            admin.config_set("maxmemory", "0")
            assert admin.keys() == before
            admin.delete(self.key)
            admin.set(self.key, "something else")
            for attempt in (sink.ping(), sink.publish(notification())):
                with pytest.raises(Unavailable, match="of another kind"):
                    await attempt
            admin.delete(self.key)
            self.prepare(admin)
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_the_library_s_own_worker_runs_the_manual_s_task_once_for_each_event(
        self, sink: Sink, host: Queue, tmp_path: Path
    ) -> None:
        worker = self.worker(host, tmp_path)
        try:
            await self.publish_when_ready(sink)
            for _ in range(2):
                await sink.publish(notification("evt_2", metadata=ODD))
            await sink.publish(notification("evt_3", revision=2))
            await until(lambda: len(worker.printed()) >= 3)
            assert sorted(worker.printed()) == [
                "evt_1 task.completed {}",
                f"evt_2 task.completed {ODD}",
                "evt_3.2 task.completed {}",
            ], worker.log()
            await until(lambda: self.left(host) == 0)
        finally:
            worker.stop()

    def left(self, host: Queue) -> int:
        """How many jobs no worker has finished."""
        return len(host.received())

    async def publish_when_ready(self, sink: Sink) -> None:
        """Publish the first event, evt_1: most queues keep it until a worker comes."""
        await sink.publish(notification())


class TestCelery(JobSinkContract, ServerSinkContract):
    sink_class = CelerySink
    heading = "## Celery"
    key = "celery"
    keys: ClassVar = {"celery"}
    worker_arguments = ("--pool=solo", "--without-mingle", "--without-gossip")
    read = staticmethod(celery_jobs)

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Queue]:
        server = Queue(tmp_path, self.heading, celery_jobs)
        server.key = self.key
        yield server
        server.stop()

    async def test_a_message_has_every_part_of_one_that_celery_sends(
        self, open_sink: OpenSink, host: Queue
    ) -> None:
        await open_sink(f"{host.url}&queue=images").publish(notification())
        theirs = sent_by_celery(host, "tasks.image_done", "images", notification().body)
        with host.client() as client:
            ours: dict[str, Any] = json.loads(client.lindex("images", 1))
        assert {**ours["properties"], "delivery_tag": "", "correlation_id": ""} == {
            **theirs["properties"],
            "delivery_tag": "",
            "correlation_id": "",
            "reply_to": "",
        }
        assert ours["headers"].keys() == theirs["headers"].keys()
        told = ("id", "root_id", "argsrepr", "origin")
        assert {**ours["headers"], **dict.fromkeys(told)} == {**theirs["headers"], **dict.fromkeys(told)}
        assert (ours["content-type"], ours["content-encoding"]) == ("application/json", "utf-8")
        assert theirs.keys() == ours.keys()
        assert ours["headers"]["argsrepr"] == "(<event evt_1>,)"

    async def test_a_trace_goes_on_by_a_header(self, sink: Sink, host: Queue) -> None:
        await sink.publish(notification(traceparent=TRACEPARENT))
        with host.client() as client:
            message: dict[str, Any] = json.loads(client.lindex("celery", 0))
        assert message["headers"]["traceparent"] == TRACEPARENT

    async def test_each_message_has_a_delivery_tag_of_its_own(self, sink: Sink, host: Queue) -> None:
        await sink.publish(notification("evt_1"))
        await sink.publish(notification("evt_2"))
        with host.client() as client:
            found: Any = client.lrange("celery", 0, -1)
        assert len({json.loads(each)["properties"]["delivery_tag"] for each in found}) == 2


class TestRq(JobSinkContract):
    sink_class = RqSink
    heading = "## RQ"
    key = "rq:queue:default"
    keys: ClassVar = {"rq:queue:default", "rq:queues", "rq:job:evt_1"}
    read = staticmethod(rq_jobs)

    async def test_a_job_may_take_as_long_as_the_url_says(self, open_sink: OpenSink, host: Queue) -> None:
        await open_sink(f"{host.url}&queue=images&timeout=900").publish(notification())
        with host.client() as client:
            ours = rq.job.Job.fetch("evt_1", client, serializer="json")
            assert rq.Queue("images", client, serializer="json") in rq.Queue.all(client, serializer="json")
        assert (ours.timeout, ours.origin, ours.get_status()) == (900, "images", "queued")
        assert ours.description == "tasks.image_done(<event evt_1>)"
        assert ours.created_at == ours.enqueued_at
        assert timedelta(0) <= datetime.now(UTC) - ours.created_at < timedelta(minutes=1)


class TestDramatiq(JobSinkContract):
    sink_class = DramatiqSink
    heading = "## Dramatiq"
    key = "dramatiq:default"
    keys: ClassVar = {"dramatiq:default", "dramatiq:default.msgs"}
    worker_arguments = ("--processes", "1", "--threads", "1")
    read = staticmethod(dramatiq_jobs)

    async def test_a_message_is_one_that_dramatiq_could_have_sent(
        self, open_sink: OpenSink, host: Queue
    ) -> None:
        await open_sink(f"{host.url}&queue=images&namespace=shop").publish(notification())
        with host.client() as client:
            found: Any = client.hget("shop:images.msgs", "evt_1")
            assert client.lrange("shop:images", 0, -1) == [b"evt_1"]
        message = dramatiq.Message.decode(found)
        assert message.asdict() == json.loads(message.encode()) | {"args": message.args}
        assert (message.queue_name, message.options) == ("images", {"redis_message_id": "evt_1"})
        assert abs(message.message_timestamp / 1000 - datetime.now(UTC).timestamp()) < 60


class TestTaskiq(JobSinkContract):
    sink_class = TaskiqSink
    heading = "## taskiq"
    key = "taskiq"
    keys: ClassVar = {"taskiq"}
    worker_arguments = ("--workers", "1")
    read = staticmethod(taskiq_jobs)

    def prepare(self, client: "Redis") -> None:
        client.xgroup_create(self.key, "taskiq", id="$", mkstream=True)

    def left(self, host: Queue) -> int:
        """Tasks that are done stay in the stream, acknowledged."""
        with host.client() as client:
            (group,) = client.xinfo_groups(self.key)
        return int(group["pending"]) + int(group["lag"])

    def worker(self, server: Queue, folder: Path) -> Worker:
        """One on its first start, so that nobody but it makes the consumer group."""
        with server.client() as client:
            client.delete(self.key)
        return super().worker(server, folder)

    async def publish_when_ready(self, sink: Sink) -> None:
        await until(lambda: is_taken(sink))

    async def test_a_stream_that_no_worker_has_ever_read_takes_nothing(self, sink: Sink, host: Queue) -> None:
        with host.client() as client:
            for is_there in (False, True):
                client.delete("taskiq")
                if is_there:
                    client.xadd("taskiq", {"data": "{}"})
                for attempt in (sink.ping(), sink.publish(notification())):
                    with pytest.raises(Unavailable, match="start a worker once") as caught:
                        await attempt
                    assert caught.value.outcome is Outcome.REFUSED
            client.delete("taskiq")
            self.prepare(client)
        await sink.publish(notification())
        assert host.received() == [notification().body]

    async def test_a_list_takes_messages_without_a_worker_and_in_their_order(
        self, open_sink: OpenSink, host: Queue
    ) -> None:
        sink = open_sink(f"{host.url}&queue=images&broker=list")
        await sink.ping()
        for number in (1, 2, 2):
            await sink.publish(notification(f"evt_{number}"))
        broker = ListQueueBroker(host.on_this_port("redis://127.0.0.1:6379/0"), queue_name="images")
        listening = broker.listen()
        messages = [broker.formatter.loads(await anext(listening)) for _ in range(2)]
        await listening.aclose()
        await broker.shutdown()
        assert [message.task_id for message in messages] == ["evt_1", "evt_2"]
        assert [message.task_name for message in messages] == [host.task] * 2
        assert messages[1].args == [json.loads(notification("evt_2").body)]


async def is_taken(sink: Sink) -> bool:
    try:
        await sink.publish(notification())
    except Unavailable:
        return False
    return True


class TestArq(JobSinkContract):
    sink_class = ArqSink
    heading = "## arq"
    key = "arq:queue"
    keys: ClassVar = {"arq:queue", "arq:job:evt_1"}
    read = staticmethod(arq_jobs)

    def worker(self, server: Queue, folder: Path) -> Worker:
        return Worker(server.told, folder, path=install_arq(folder / "arq"))


class CeleryRabbit:
    """A RabbitMQ server with a queue of Celery's, as the host of a contract."""

    def __init__(self, rabbit: Rabbit) -> None:
        self.rabbit = rabbit
        told = section("jobs", "## Celery with RabbitMQ")
        self.told = told.replace("amqp://guest:guest@127.0.0.1:5672", rabbit.root)
        url, self.task = sink_of(self.told)
        self.url = f"{url}&queue={rabbit.queue}"

    def received(self) -> list[bytes]:
        assert {properties.headers["task"] for properties in self.properties()} <= {self.task}
        return [celery_argument(message.body) for message in self.rabbit.messages()]

    def properties(self) -> list[Any]:
        return [message.header.properties for message in self.rabbit.messages()]


class TestCeleryOnRabbitmq(SinkContract):
    sink_class = AmqpCelerySink

    @pytest.fixture
    def host(self) -> Iterator[CeleryRabbit]:
        rabbit = shared_rabbit()
        yield CeleryRabbit(rabbit)
        rabbit.asked(lambda channel: channel.exchange_delete(rabbit.queue))  # which Celery declares
        rabbit.clear()

    async def test_a_message_has_every_part_of_one_that_celery_sends(
        self, sink: Sink, host: CeleryRabbit
    ) -> None:
        await sink.publish(notification())
        with celery.Celery(broker=f"{host.rabbit.root}//") as app:
            app.send_task(host.task, args=[json.loads(notification().body)], queue=host.rabbit.queue)
        ours, theirs = host.properties()
        assert ours.headers.keys() == theirs.headers.keys()
        told = ("id", "root_id", "argsrepr", "origin")
        assert {**ours.headers, **dict.fromkeys(told)} == {**theirs.headers, **dict.fromkeys(told)}
        for name in ("content_type", "content_encoding", "delivery_mode", "priority", "app_id", "expiration"):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.correlation_id == ours.headers["id"] == "evt_1"

    async def test_a_queue_that_no_worker_has_declared_takes_nothing(
        self, open_sink: OpenSink, host: CeleryRabbit
    ) -> None:
        sink = open_sink(f"{host.url}-of-nobody")
        for attempt in (sink.ping(), sink.publish(notification())):
            with pytest.raises(Unavailable, match="rabbitmq has no") as caught:
                await attempt
            assert caught.value.outcome is Outcome.REFUSED

    async def test_celery_s_own_worker_runs_the_manual_s_task_for_each_event(
        self, sink: Sink, host: CeleryRabbit, tmp_path: Path
    ) -> None:
        arguments = ("-Q", host.rabbit.queue, *TestCelery.worker_arguments)
        worker = Worker(host.told, tmp_path, *arguments)
        try:
            await sink.publish(notification())
            await sink.publish(notification("evt_2", metadata=ODD, revision=2))
            await until(lambda: len(worker.printed()) >= 2)
            assert worker.printed() == ["evt_1 task.completed {}", f"evt_2.2 task.completed {ODD}"]
            worker.end()
        finally:
            worker.stop()
        assert host.received() == []


async def test_a_cluster_keeps_jobs_of_one_key_and_refuses_those_of_several(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path)
    try:
        cluster.start()
        owner, _ = cluster.owner("celery")
        async with httpx2.AsyncClient(trust_env=False, verify=False) as http:
            options = PluginOptions(name="mine", data_dir=tmp_path, http=http)
            sink = CelerySink.from_url(f"celery+redis://127.0.0.1:{owner.port}/0?task=a", options)
            await sink.ping()
            for _ in range(2):
                await sink.publish(notification())
            await sink.aclose()
            with owner.client() as client:
                assert [job.argument for job in celery_jobs(client, "celery")] == [notification().body]
            for kind, scheme in ((RqSink, "rq"), (DramatiqSink, "dramatiq"), (ArqSink, "arq")):
                apart: Sink = kind.from_url(f"{scheme}+redis://127.0.0.1:{owner.port}/0?task=a", options)
                for attempt in (apart.ping(), apart.publish(notification())):
                    with pytest.raises(Unavailable, match="on two nodes of its cluster"):
                        await attempt
                await apart.aclose()
    finally:
        cluster.stop()


def sent_by_celery(host: Queue, task: str, queue: str, body: bytes) -> dict[str, Any]:
    """What Celery itself puts into a queue for this task and argument."""
    with celery.Celery(broker=host.on_this_port("redis://127.0.0.1:6379/0")) as app:
        app.send_task(task, args=[json.loads(body)], queue=queue)
    with host.client() as client:
        sent: dict[str, Any] = json.loads(client.lindex(queue, 0))
    return sent


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("celery+redis://h0st/0", "its URL lacks the option task"),
        ("celery+redis://h0st/0?task=a%20b", "task must be a name of letters"),
        ("celery+redis://h0st/0?task=a&queue={b}", "queue must be a name of letters"),
        (
            "celery+redis://h0st/0?task=a&stream=b",
            "unknown option stream; known are task, queue, dedupe_seconds",
        ),
        ("celery+redis://u:s3cr3t@/0?task=a", "write celery+redis://HOST:PORT/DATABASE?task=NAME"),
        ("celery+amqp://h0st/?queue=a", "its URL lacks the option task"),
        ("celery+amqp://u:s3cr3t@/?task=a", "write celery+amqp://HOST:PORT/VHOST?task=NAME"),
        ("celery+amqp://h0st/?task=a&exchange=b", "unknown option exchange; known are task, queue"),
        ("rq+redis://h0st/0?task=a.b&timeout=0", "timeout must be a whole number from 1 to 86400"),
        ("dramatiq+redis://h0st/0?task=a&namespace={a}", "namespace must be a name of letters"),
        ("taskiq+redis://h0st/0?task=a:b&broker=pubsub", "broker must be stream or list"),
        ("arq+redis://h0st/zero?task=a", "write arq+redis://HOST:PORT/DATABASE?task=FUNCTION"),
        ("celery+redis://h0st/0?task=a&ssl_cert_reqs=none", "need a rediss:// URL"),
    ],
)
async def test_a_wrong_url_is_refused_without_repeating_it(url: str, problem: str, tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        with pytest.raises(Misconfigured, match="sink mine: ") as caught:
            plugins.load("sinks", url.partition(":")[0]).from_url(url, options)
    assert problem in str(caught.value)
    assert "h0st" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
