"""One real service with several sinks: each has its own fate, and none decides another's."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Receiver, consumer, receiver, until
from tests.sink_hosts import SharedRedis

SOON_SECONDS = 4.0  # less than a time-out, or the interval at which loops look unasked


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
            await until(lambda: service.told() == tasks and len(redis.received()) == 3, SOON_SECONDS)

            async def is_settled_where_it_can_be() -> bool:  # a moment after it arrived there
                states = {name: entry["state"] for name, entry in (await entries(service, "t1")).items()}
                return states == {"file": "delivered", "hook": "pending", "stream": "delivered"}

            await until(is_settled_where_it_can_be, SOON_SECONDS)
            assert (await service.parts())[""] == "200"

            await host.start()
            await until(lambda: host.told() == tasks)
            # The same bytes everywhere, and what was delivered elsewhere is not sent there again.
            assert sorted(host.bodies) == sorted(service.lines()) == sorted(redis.received())


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
            await until(lambda: service.told() == tasks, SOON_SECONDS)
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
            "RECEIVER_SINK_STUCK_TIMEOUT_SECONDS": "30",
            "RECEIVER_SINK_WELL": well.url,
            "RECEIVER_SINK_WELL_TIMEOUT_SECONDS": "1",
            "RECEIVER_SINK_WELL_FILTER": "owner=the-last",
        }
        async with receiver(tmp_path, settings) as service:
            await asyncio.gather(*(service.finish(f"t{number}") for number in range(count)))
            await until(lambda: len(stuck.bodies) >= 100)
            await service.submit("last", owner="the-last")
            await service.call_back("last")
            await until(lambda: well.told() == ["last"], SOON_SECONDS)
            assert (await service.task("last"))["attempts"][0]["outcome"] == "delivered"


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
            parts = await service.parts()
            assert parts[""] == "200"
            assert parts["sink hook"].startswith("stopped: the consumer answered 410")
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
        settings = {"RECEIVER_SINK_HOOK": host.url, "RECEIVER_SINK_HOOK_MAX_ATTEMPTS": "2"}
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
                    "worn-out": ("dead", 2, "http_error"),
                    "unwanted": ("dead", 1, "refused"),
                    "fine": ("delivered", 1, "delivered"),
                }

            await until(settled)
            numbers = (await service.http.get("/metrics")).text
            assert 'receiver_outbox{sink="hook",state="dead"} 2.0' in numbers
