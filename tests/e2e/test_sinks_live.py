"""One real service with several sinks: each has its own fate, and none decides another's."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import ADMIN_TOKEN, Receiver, bearer, consumer, receiver
from tests.hostile.certificates import CERTIFICATES, make_authority, make_server
from tests.support.job_queues import celery_jobs
from tests.support.media_host import media_host, picture, says
from tests.support.sink_hosts import HttpServer, RedisServer, SharedRedis
from tests.support.waiting import until

STUCK_SECONDS = 30


@pytest.fixture
def redis() -> Iterator[SharedRedis]:
    host = SharedRedis()
    yield host
    host.close()


async def entries(service: Receiver, task_id: str) -> dict[str, dict[str, Any]]:
    """How a task stands at each sink."""
    task = await service.task(task_id)
    return {entry["sink"]: entry for entry in task["notifications"]}


async def test_a_dead_sink_holds_up_no_other_and_gets_everything_once_it_lives(
    tmp_path: Path, redis: SharedRedis
) -> None:
    tasks = ["t1", "t2", "t3"]
    async with consumer() as host:
        settings = {
            "RECEIVER_SINK_FILE": "jsonl:events.jsonl",
            "RECEIVER_SINK_HOOK": host.url,
            "RECEIVER_SINK_STREAM": redis.url,
        }
        async with receiver(tmp_path, settings) as service:
            for task_id in tasks:
                await service.finish(task_id)
            await until(lambda: service.told() == tasks and len(redis.received()) == 3)

            async def is_settled_where_it_can_be() -> bool:  # a moment after it arrived there
                states = {name: entry["state"] for name, entry in (await entries(service, "t1")).items()}
                return states == {"file": "delivered", "hook": "pending", "stream": "delivered"}

            await until(is_settled_where_it_can_be)
            assert (await service.parts())[""] == "200"

            await host.start()
            await until(lambda: host.told() == tasks)
            # The same bytes everywhere, and what was delivered elsewhere is not sent there again.
            assert sorted(host.bodies) == sorted(service.lines()) == sorted(redis.received())


async def test_a_task_queue_gets_one_job_for_each_event(tmp_path: Path, redis: SharedRedis) -> None:
    root, tasks = redis.url.partition("?")[0], ["t1", "t2"]
    settings = {
        "RECEIVER_SINK_FILE": "jsonl:events.jsonl",
        "RECEIVER_SINK_JOBS": f"celery+{root}?task=app.tasks.image_done&queue={redis.stream}",
    }
    async with receiver(tmp_path, settings) as service:
        for task_id in tasks:
            await service.finish(task_id)
        await until(lambda: len(celery_jobs(redis.client, redis.stream)) == len(service.lines()) == 2)
        assert (await service.parts())["sink jobs"] == "running"
        jobs = celery_jobs(redis.client, redis.stream)
        assert sorted(job.argument for job in jobs) == sorted(service.lines())
        assert {job.id for job in jobs} == {json.loads(line)["id"] for line in service.lines()}


async def test_an_outage_of_a_consumer_shows_uses_up_no_attempt_and_fills_no_record(tmp_path: Path) -> None:
    tasks = [f"t{number:02}" for number in range(40)]
    async with consumer() as host:
        settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl", "RECEIVER_SINK_HOOK": host.url}
        async with receiver(tmp_path, settings) as service:
            for task_id in tasks:
                await service.finish(task_id)
            await until(lambda: service.told() == tasks)

            async def shown() -> bool:
                said = (await service.parts())["sink hook"]
                return said.startswith("running, but connect_failed: the consumer") and "tried again" in said

            await until(shown)
            assert 'receiver_sink_trouble{sink="hook"} 1.0' in (await service.http.get("/metrics")).text
            told = [await service.task(task_id) for task_id in tasks]
            lines = [each for task in told for each in task["attempts"] if each["target"] == "sink hook"]
            assert 1 <= len(lines) <= 10

            await host.start()
            await until(lambda: sorted(host.told()) == tasks)

            async def counted() -> bool:
                states = [(await entries(service, task_id))["hook"] for task_id in tasks]
                return {(each["state"], each["attempts"]) for each in states} == {("delivered", 1)}

            await until(counted)
            assert (await service.parts())["sink hook"] == "running"
            assert 'receiver_sink_trouble{sink="hook"} 0.0' in (await service.http.get("/metrics")).text


async def test_a_sink_that_never_answers_is_bounded_and_holds_up_no_other(tmp_path: Path) -> None:
    tasks = [f"t{number}" for number in range(6)]
    async with consumer() as host:
        await host.start()
        host.silent = True
        settings = {
            "RECEIVER_SINK_FILE": "jsonl:events.jsonl",
            "RECEIVER_SINK_HOOK": host.url,
            "RECEIVER_SINK_HOOK_TIMEOUT_SECONDS": "1",
            "RECEIVER_SINK_HOOK_CONCURRENCY": "2",
        }
        async with receiver(tmp_path, settings) as service:
            for task_id in tasks:
                await service.finish(task_id)
            await until(lambda: service.told() == tasks)
            await until(lambda: len(host.bodies) >= 4)  # the first two timed out, others had their turn
            assert host.most_at_once <= 2 + 2  # two, and two given up that it has not noticed yet
            host.silent = False
            await until(lambda: set(host.told()) == set(tasks))
            outcomes = {each["outcome"] for each in (await service.task("t0"))["attempts"]}
            assert outcomes <= {"delivered", "timeout"}


async def test_a_hook_with_all_its_connections_stuck_leaves_some_to_the_other_hook(tmp_path: Path) -> None:
    count = 120  # more than an HTTP client keeps open at once by itself
    async with consumer() as stuck, consumer() as well:
        await stuck.start()
        await well.start()
        stuck.silent = True
        settings = {
            "RECEIVER_SINK_STUCK": stuck.url,
            "RECEIVER_SINK_STUCK_CONCURRENCY": str(count),
            "RECEIVER_SINK_STUCK_TIMEOUT_SECONDS": str(STUCK_SECONDS),
            "RECEIVER_SINK_WELL": well.url,
            "RECEIVER_SINK_WELL_TIMEOUT_SECONDS": "1",
            "RECEIVER_SINK_WELL_FILTER": "owner=the-last",
        }
        async with receiver(tmp_path, settings) as service:
            await asyncio.gather(*(service.finish(f"t{number}") for number in range(count)))
            await until(lambda: len(stuck.bodies) >= 100)
            await service.submit("last", owner="the-last")
            await service.call_back("last")
            await until(lambda: well.told() == ["last"], STUCK_SECONDS - 5)

            async def first_try() -> str | None:
                return next((each["outcome"] for each in (await service.task("last"))["attempts"]), None)

            assert await until(first_try) == "delivered"


async def test_410_stops_one_sink_until_a_restart_and_nothing_is_lost(tmp_path: Path) -> None:
    async with consumer() as host:
        await host.start()
        host.head = b"HTTP/1.1 410 Gone"
        settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl", "RECEIVER_SINK_HOOK": host.url}
        async with receiver(tmp_path, settings) as service:
            await service.finish("t1")
            await until(lambda: len(host.bodies) == 1)
            await service.finish("t2")
            await until(lambda: service.told() == ["t1", "t2"])

            async def is_stopped() -> bool:
                said = (await service.parts())["sink hook"]
                return said.startswith("stopped: the consumer answered 410")

            await until(is_stopped)
            parts = await service.parts()
            assert parts[""] == "200"
            assert parts["sink file"] == "running"
            await asyncio.sleep(0.5)
            assert len(host.bodies) == 1  # it asked for no more, and gets none
            assert {name: entry["state"] for name, entry in (await entries(service, "t1")).items()} == {
                "file": "delivered",
                "hook": "pending",
            }

            await service.stop()
            host.head = b"HTTP/1.1 200 OK"
            host.bodies.clear()
            await service.start()
            await until(lambda: host.told() == ["t1", "t2"])
            assert (await service.parts())["sink hook"] == "running"


async def test_each_sink_gets_what_its_filter_lets_through(tmp_path: Path) -> None:
    settings = {
        "RECEIVER_SINK_ALL": "jsonl:all.jsonl",
        "RECEIVER_SINK_APIXO": "jsonl:apixo.jsonl",
        "RECEIVER_SINK_APIXO_FILTER": "provider=apixo,reapi",
        "RECEIVER_SINK_NONE": "jsonl:none.jsonl",
        "RECEIVER_SINK_NONE_FILTER": "type=task.completed,task.partial",
        "RECEIVER_SINK_MINE": "jsonl:mine.jsonl",
        "RECEIVER_SINK_MINE_FILTER": "owner=me type=task.failed",
    }
    async with receiver(tmp_path, settings) as service:
        await service.finish("t1")
        await service.finish("t2", provider="apixo")
        await service.submit("t3", owner="me")
        await service.call_back("t3")
        await until(lambda: len(service.events("all.jsonl")) == 3)
        await until(lambda: len(service.events("apixo.jsonl")) == len(service.events("mine.jsonl")) == 1)
        await service.stop()
        assert service.told("apixo.jsonl") == ["t2"]
        assert service.told("mine.jsonl") == ["t3"]
        assert service.events("none.jsonl") == []


@pytest.mark.parametrize("status", [429, 503])
async def test_a_consumer_that_says_when_is_not_asked_sooner(tmp_path: Path, status: int) -> None:
    async with consumer() as host:
        await host.start()
        host.head = b"HTTP/1.1 %d X\r\nretry-after: 2" % status
        async with receiver(tmp_path, {"RECEIVER_SINK_HOOK": host.url}) as service:
            await service.finish("t1")
            await until(lambda: len(host.times) == 2)
            host.head = b"HTTP/1.1 200 X"
            await until(lambda: len(host.times) == 3)
            waits = [later - sooner for sooner, later in pairwise(host.times)]
            assert all(2.0 <= wait < 4.5 for wait in waits), waits
            assert len(set(host.bodies)) == 1


async def test_what_a_sink_never_takes_becomes_a_dead_letter_and_the_next_passes(tmp_path: Path) -> None:
    async with consumer() as host:
        await host.start()
        settings = {"RECEIVER_SINK_HOOK": host.url, "RECEIVER_SINK_HOOK_MAX_AGE_SECONDS": "1"}
        async with receiver(tmp_path, settings) as service:
            host.head = b"HTTP/1.1 500 X"
            await service.finish("worn-out")
            await until(lambda: len(host.bodies) == 2)
            host.head = b"HTTP/1.1 422 X"
            await service.finish("unwanted")
            await until(lambda: len(host.bodies) == 3)
            host.head = b"HTTP/1.1 200 X"
            await service.finish("fine")
            await until(lambda: host.told()[0] == "fine")

            async def settled() -> bool:
                states = {}
                for task_id in ("worn-out", "unwanted", "fine"):
                    entry = (await entries(service, task_id))["hook"]
                    states[task_id] = (entry["state"], entry["attempts"], entry["outcome"])
                return states == {
                    "worn-out": ("dead", 1, "http_error"),
                    "unwanted": ("dead", 1, "refused"),
                    "fine": ("delivered", 1, "delivered"),
                }

            await until(settled)
            numbers = (await service.http.get("/metrics")).text
            assert 'receiver_outbox{sink="hook",state="dead"} 2.0' in numbers


def _uses_up_memory(server: RedisServer) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", "1mb")


def _gives_memory(server: RedisServer) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory", "0")


def _changes_password(server: RedisServer) -> None:
    with server.client() as admin:
        admin.config_set("requirepass", "another")
        admin.client_kill_filter(_type="normal", skipme=True)


def _restores_password(server: RedisServer) -> None:
    with server.client(password="another") as admin:
        admin.config_set("requirepass", "")


def _is_demoted(server: RedisServer) -> None:
    with server.client() as admin:
        admin.replicaof("127.0.0.1", str(server.port))


def _is_promoted(server: RedisServer) -> None:
    with server.client() as admin:
        admin.replicaof("NO", "ONE")


Deed = Callable[[RedisServer], None]

# By the name of the sink: what happens to its server, what ends it, and how attempts end meanwhile.
PROVIDER_FAILURES: dict[str, tuple[Deed, Deed, set[str]]] = {
    "full": (_uses_up_memory, _gives_memory, {"unavailable"}),
    "locked": (_changes_password, _restores_password, {"refused"}),
    "replica": (_is_demoted, _is_promoted, {"unavailable"}),
    "frozen": (RedisServer.freeze, RedisServer.thaw, {"timeout"}),
    "killed": (RedisServer.stop, RedisServer.start, {"connect_failed", "interrupted"}),
}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, RedisServer]]:
    """A Redis of its own for every trouble."""
    opened = {}
    for name in PROVIDER_FAILURES:
        (tmp_path / name).mkdir()
        opened[name] = RedisServer(tmp_path / name)
        opened[name].start()
    yield opened
    for server in opened.values():
        server.stop()


async def test_what_happens_to_one_redis_holds_up_no_other_sink_and_every_event_is_there_in_the_end(
    tmp_path: Path, servers: dict[str, RedisServer]
) -> None:
    settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl"}
    for name, server in servers.items():
        settings |= {
            f"RECEIVER_SINK_{name.upper()}": server.url,
            f"RECEIVER_SINK_{name.upper()}_TIMEOUT_SECONDS": "1",
        }
    async with receiver(tmp_path, settings) as service:
        await service.finish("before")
        await until(lambda: all(len(server.received()) == 1 for server in servers.values()))
        for name, (trouble, _, _) in PROVIDER_FAILURES.items():
            trouble(servers[name])
        tasks = ["t0", "t1", "t2"]
        for task_id in tasks:
            await service.finish(task_id)
        await until(lambda: service.told() == ["before", *tasks])

        async def all_tried() -> bool:
            task = await service.task("t0")
            return len({each["target"] for each in task["attempts"]}) == 1 + len(PROVIDER_FAILURES)

        await until(all_tried)
        outcomes = {each["target"]: each["outcome"] for each in (await service.task("t0"))["attempts"]}
        for name, (_, remedy, expected) in PROVIDER_FAILURES.items():
            assert outcomes[f"sink {name}"] in expected, name
            remedy(servers[name])
        assert (await service.parts())[""] == "200"

        def all_arrived() -> bool:
            return all(len(server.received()) == 1 + len(tasks) for server in servers.values())

        await until(all_arrived)
        for name, server in servers.items():
            assert sorted(server.received()) == sorted(service.lines()), name
        assert "another" not in service.output()


@pytest.mark.parametrize("loss", ["flushall", "delete"])
async def test_a_redis_that_lost_all_it_had_takes_what_comes_and_gets_the_rest_by_a_replay(
    tmp_path: Path, loss: str
) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        async with receiver(tmp_path, {"RECEIVER_SINK_STREAM": server.url}) as service:
            await service.finish("lost")
            await until(lambda: len(server.received()) == 1)
            with server.client() as admin:
                # A consumer's group goes with it; only the consumer can make another.
                admin.flushall() if loss == "flushall" else admin.delete("events")
            await service.finish("new")
            await until(lambda: told(server) == ["new"])
            wanted = {"stage": "notify", "filter": {"provider": "vidgo", "task_ids": ["lost"]}}
            answer = await service.http.post("/replays", json=wanted, headers=bearer(ADMIN_TOKEN))
            assert answer.status_code == 202, answer.text
            await until(lambda: told(server) == ["lost", "new"])
    finally:
        server.stop()


def told(server: RedisServer) -> list[str]:
    return sorted(json.loads(body)["data"]["task_id"] for body in server.received())


# By the name of the sink: how a consumer answers at first, and how attempts end then. Later it takes all.
ODD_ANSWERS = {
    "late": (None, "timeout"),  # the 200 comes when nobody waits for it any more
    "moved": (b"HTTP/1.1 301 X\r\nlocation: http://127.0.0.1:1/elsewhere", "bad_redirect"),
    "busy": (b"HTTP/1.1 429 X\r\nretry-after: 1", "rate_limited"),
    "broken": (b"HTTP/1.1 500 X", "http_error"),
}


async def test_a_webhook_that_answers_oddly_holds_up_no_other_and_gets_all_once_it_answers_well(
    tmp_path: Path,
) -> None:
    stub = HttpServer(tmp_path)
    make_authority(tmp_path)
    selfsigned = make_server(tmp_path, CERTIFICATES["self-signed"])
    async with AsyncExitStack() as stack:
        stack.callback(stub.stop)
        stub.start()
        hidden = await stack.enter_async_context(media_host(selfsigned))
        sinks = {
            "endless": f"{stub.root}/endless",
            "plain": f"https://127.0.0.1:{stub.port}/hook",
            "selfsigned": f"https://127.0.0.1:{hidden.port}/hook",
        }
        odd = {name: await stack.enter_async_context(consumer()) for name in ODD_ANSWERS}
        for name, host in odd.items():
            await host.start()
            host.silent, host.head = ODD_ANSWERS[name][0] is None, ODD_ANSWERS[name][0] or host.head
            sinks[name] = host.url
        settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl"}
        for name, url in sinks.items():
            settings[f"RECEIVER_SINK_{name.upper()}"] = url
            settings[f"RECEIVER_SINK_{name.upper()}_TIMEOUT_SECONDS"] = "1"
        service = await stack.enter_async_context(receiver(tmp_path, settings))

        await service.finish("t1")
        await until(lambda: service.told() == ["t1"])
        expected = {name: outcome for name, (_, outcome) in ODD_ANSWERS.items()}
        expected |= {"file": "delivered", "endless": "delivered"}
        expected |= {"plain": "tls_failed", "selfsigned": "tls_failed"}

        async def all_tried() -> bool:
            return all(entry["outcome"] for entry in (await entries(service, "t1")).values())

        await until(all_tried)
        assert {name: entry["outcome"] for name, entry in (await entries(service, "t1")).items()} == expected
        assert stub.received() == service.lines()  # once, though the answer never ended

        for host in odd.values():
            host.head, host.silent = b"HTTP/1.1 200 X", False

        async def all_told() -> bool:
            return {
                name
                for name, entry in (await entries(service, "t1")).items()
                if entry["state"] == "delivered"
            } == {*odd, "file", "endless"}

        await until(all_told)
        assert all(set(host.bodies) == set(service.lines()) for host in odd.values())


async def test_one_of_four_images_is_told_as_partial_and_its_later_arrival_as_a_revision(
    tmp_path: Path,
) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        links = [host.put(f"/{number}.png", says(200, picture())) for number in range(4)]
        host.put("/2.png", says(200, b"\0not now"))
        await service.finish("t1", *links)
        await until(lambda: len(service.events()) == 1)
        (partial,) = service.events()
        assert (partial["type"], partial["revision"]) == ("task.partial", 1)
        assert (await service.task("t1"))["state"] == "partial"
        states = [(asset["state"], asset.get("outcome")) for asset in partial["data"]["assets"]]
        assert states == [("stored", None)] * 2 + [("failed", "not_an_image"), ("stored", None)]

        host.put("/2.png", says(200, picture()))
        wanted = {"stage": "fetch", "filter": {"task_ids": ["t1"]}}
        answer = await service.http.post("/replays", json=wanted, headers=bearer(ADMIN_TOKEN))
        assert answer.status_code == 202, answer.text
        await until(lambda: len(service.events()) == 2)
        complete = service.events()[1]
        assert (complete["type"], complete["revision"]) == ("task.completed", 2)
        assert complete["id"] == f"{partial['id']}.2"
        assert complete["subject"] == partial["subject"]
        assert {asset["state"] for asset in complete["data"]["assets"]} == {"stored"}
        assert len(host.requests) == 5  # the three that were there are not fetched again
