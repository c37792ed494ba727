"""One real service amid sick sinks and media hosts: each suffers alone, and gets all once it is well."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import Receiver, consumer, receiver
from tests.support.fault_proxy import (
    Fault,
    FaultProxy,
    cut_after,
    delayed,
    fault_proxy,
    half_open,
    reset_after,
    trickling,
)
from tests.support.media_host import media_host, picture, says
from tests.support.sink_hosts import RedisServer
from tests.support.waiting import until

TASKS = ["t0", "t1", "t2", "t3", "t4"]
AT_ONCE = 2

# By name, as sinks are named: what is done to answers, and how an attempt may end then.
FAULTS: Mapping[str, tuple[Fault, set[str]]] = {
    "slow": (delayed(5), {"timeout"}),
    "halfopen": (half_open(), {"timeout"}),
    "trickle": (trickling(2), {"timeout"}),
    "cut": (cut_after(3), {"interrupted"}),
    "reset": (reset_after(3), {"interrupted"}),
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def proxies(stack: AsyncExitStack, port: int) -> dict[str, FaultProxy]:
    """One for every fault, before the same port, sick already."""
    opened = {}
    for name, (fault, _) in FAULTS.items():
        opened[name] = await stack.enter_async_context(fault_proxy(port))
        opened[name].fault = fault
    return opened


async def attempts(service: Receiver, task_id: str, target: str) -> list[str]:
    """The outcomes of what was tried at one place."""
    task = await service.task(task_id)
    return [each["outcome"] for each in task["attempts"] if each["target"] == target]


def bounded(name: str, url: str) -> dict[str, str]:
    """Settings of a sink that is given up soon."""
    sink = f"RECEIVER_SINK_{name.upper()}"
    return {sink: url, f"{sink}_TIMEOUT_SECONDS": "1", f"{sink}_CONCURRENCY": str(AT_ONCE)}


async def test_redis_behind_a_bad_network_holds_up_no_other_sink_and_gets_every_event_once(
    tmp_path: Path, stack: AsyncExitStack, redis: RedisServer
) -> None:
    sick = await proxies(stack, redis.port)
    settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl"}
    for name, proxy in sick.items():
        settings |= bounded(name, f"redis://127.0.0.1:{proxy.port}/0?stream={name}")
    service = await stack.enter_async_context(receiver(tmp_path, settings))
    await suffer_and_recover(service, sick)

    def arrived() -> bool:
        with redis.client() as client:
            return all(client.xlen(name) == len(TASKS) for name in sick)

    await until(arrived)
    with redis.client() as client:
        for name in sick:
            entries: Any = client.xrange(name)
            # Attempts that timed out had arrived, too: none of them is there twice.
            assert sorted(fields[b"event"] for _, fields in entries) == sorted(service.lines()), name


async def test_a_webhook_behind_a_bad_network_holds_up_no_other_sink_and_gets_every_event(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    settings = {"RECEIVER_SINK_FILE": "jsonl:events.jsonl"}
    sick, hosts = {}, {}
    for name, (fault, _) in FAULTS.items():
        hosts[name] = await stack.enter_async_context(consumer())
        await hosts[name].start()
        sick[name] = await stack.enter_async_context(fault_proxy(hosts[name].port))
        sick[name].fault = fault
        settings |= bounded(name, f"http://127.0.0.1:{sick[name].port}/hook")
    service = await stack.enter_async_context(receiver(tmp_path, settings))
    await suffer_and_recover(service, sick)

    async def all_delivered() -> bool:
        numbers = (await service.http.get("/metrics")).text
        return all(f'receiver_outbox{{sink="{name}",state="delivered"}} 5.0' in numbers for name in sick)

    await until(all_delivered)
    ids = {event["data"]["task_id"]: event["id"] for event in service.events()}
    for name, host in hosts.items():
        assert set(host.told()) == set(TASKS), name
        # What came more than once, as its answer got lost, is the same to the byte.
        assert set(host.bodies) == set(service.lines()), name
        assert {event["id"] for event in map(json.loads, host.bodies)} == set(ids.values()), name


async def suffer_and_recover(service: Receiver, sick: Mapping[str, FaultProxy]) -> None:
    """All tasks end while the sinks are sick; then they are cured."""
    for task_id in TASKS:
        await service.finish(task_id)
    await until(lambda: service.told() == TASKS)

    async def all_suffered() -> bool:
        return all([await attempts(service, "t0", f"sink {name}") for name in sick])

    await until(all_suffered)
    parts = await service.parts()
    assert parts[""] == "200"
    assert all(parts[f"sink {name}"].startswith("running") for name in sick)
    for name, (_, expected) in FAULTS.items():
        assert set(await attempts(service, "t0", f"sink {name}")) <= expected, name
        # Those that were given up may not have been noticed yet.
        assert sick[name].most_at_once <= 2 * AT_ONCE, name
        sick[name].cure()


PICTURE = picture(size=(128, 96))


async def test_media_hosts_behind_a_bad_network_hold_up_no_other_and_each_file_arrives_whole(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    host = await stack.enter_async_context(media_host())
    well = host.put("/picture.png", says(200, PICTURE))
    size = len(PICTURE) + 100  # of the whole answer, about
    media_faults: Mapping[str, tuple[Fault, set[str]]] = {
        "slow": (delayed(5), {"timeout"}),
        "halfopen": (half_open(), {"timeout"}),
        "trickle": (trickling(50), {"timeout"}),
        "cut": (cut_after(size // 2), {"interrupted"}),
        "reset": (reset_after(size * 99 // 100), {"interrupted"}),
    }
    sick = {}
    for name, (fault, _) in media_faults.items():
        sick[name] = await stack.enter_async_context(fault_proxy(host.port))
        sick[name].fault = fault
    settings = {"RECEIVER_ASSET_TIMEOUT_SECONDS": "2"}
    service = await stack.enter_async_context(receiver(tmp_path, settings))
    for name, proxy in sick.items():
        await service.finish(name, f"http://127.0.0.1:{proxy.port}/picture.png")
    await service.finish("well", well)
    await until(lambda: service.told() == ["well"])

    async def all_suffered() -> bool:
        return all([await attempts(service, name, "asset 0") for name in sick])

    await until(all_suffered)
    for name, (_, expected) in media_faults.items():
        assert set(await attempts(service, name, "asset 0")) <= expected, name
        sick[name].cure()
    assert [path.read_bytes() for path in stored(service)] == [PICTURE]

    await until(lambda: service.told() == sorted([*sick, "well"]))
    assert [path.read_bytes() for path in stored(service)] == [PICTURE] * 6
    assert {event["type"] for event in service.events()} == {"task.completed"}


async def test_stuck_downloads_are_bounded_and_given_up_for_those_that_wait(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    host = await stack.enter_async_context(media_host())
    host.put("/picture.png", says(200, PICTURE))
    proxy = await stack.enter_async_context(fault_proxy(host.port))
    proxy.fault = half_open()
    settings = {"RECEIVER_ASSET_TIMEOUT_SECONDS": "1", "RECEIVER_ASSET_CONCURRENCY": str(AT_ONCE)}
    service = await stack.enter_async_context(receiver(tmp_path, settings))
    for number in range(4):
        await service.finish(f"stuck-{number}", f"http://127.0.0.1:{proxy.port}/picture.png")
    await service.finish("well", host.url("/picture.png"))
    await until(lambda: service.told() == ["well"])
    assert proxy.most_at_once <= AT_ONCE + 1  # one given up may not have been noticed yet


def stored(service: Receiver) -> list[Path]:
    return sorted((service.data / "assets").rglob("*.png"))
