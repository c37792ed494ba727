"""Files of several providers and hosts, one of which hangs: a runtime with its loops, real sockets."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from receiver.loops import MOST_PROVEN, VERY_MANY_PLACES, ProvenHosts, fetch_load
from receiver.models import Outcome
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.worker import LeaseLoop
from tests.support.media_host import Answer, MediaHost, media_host, picture, says
from tests.support.waiting import until
from tests.support.web_callers import callback_path, log_task

PLACES = 4
PICTURE = picture(size=(8, 8))


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "RECEIVER_ASSET_CONCURRENCY": str(PLACES),
        "RECEIVER_ASSET_TIMEOUT_SECONDS": "600",
    }


class Hosts:
    """Two hosts, the first of which takes every request and never answers until it is let go."""

    def __init__(self, dead: MediaHost, good: MediaHost) -> None:
        self.dead, self.good = dead, good
        self.is_back = asyncio.Event()
        dead.otherwise = self._after_a_while(says(200, PICTURE))
        good.otherwise = says(200, PICTURE)

    def _after_a_while(self, answer: Answer) -> Answer:
        async def wait(writer: asyncio.StreamWriter) -> None:
            await self.is_back.wait()
            await answer(writer)

        return wait


@pytest.fixture
async def hosts() -> AsyncIterator[Hosts]:
    async with media_host() as dead, media_host() as good:
        yield Hosts(dead, good)


class Orders:
    """Tasks of any provider that end at once, each with one file."""

    def __init__(self, backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime) -> None:
        self._backend, self._stranger, self._runtime = backend, stranger, runtime

    async def add(self, provider: str, host: MediaHost, *task_ids: str) -> None:
        for task_id in task_ids:
            await log_task(self._backend, task_id, provider=provider)
            body = sample_callback(provider, task_id, files=[host.url(f"/{task_id}.png")])
            answer = await self._stranger.post(callback_path(self._runtime, provider), content=body)
            assert answer.json()["status"] == "accepted"

    async def are_done(self, provider: str, *task_ids: str) -> None:
        for task_id in task_ids:
            await until(lambda task_id=task_id: self._is_done(provider, task_id))  # type: ignore[misc]

    async def _is_done(self, provider: str, task_id: str) -> bool:
        shown: dict[str, Any] = (await self._backend.get(f"/tasks/{provider}/{task_id}")).json()
        return bool(shown["state"] == "completed")


@pytest.fixture
async def orders(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime, hosts: Hosts
) -> AsyncIterator[Orders]:
    yield Orders(backend, stranger, runtime)
    hosts.is_back.set()  # else the end of the service would wait for what hangs


MANY = [f"dead-{number}" for number in range(12)]
FEW = [f"good-{number}" for number in range(6)]


async def hang(hosts: Hosts, orders: Orders) -> None:
    """As many files of the dead host are under way as there may be."""
    await orders.add("vidgo", hosts.dead, *MANY)
    await until(lambda: len(hosts.dead.requests) >= PLACES - 2)


@pytest.mark.parametrize("provider", ["apixo", "apidot"])
async def test_a_host_that_hangs_keeps_no_file_of_another_provider_waiting(
    hosts: Hosts, orders: Orders, provider: str
) -> None:
    await hang(hosts, orders)
    await orders.add(provider, hosts.good, *FEW)
    await orders.are_done(provider, *FEW)
    assert len(hosts.dead.requests) == PLACES - 2


async def test_a_host_that_hangs_keeps_no_file_of_another_host_waiting(hosts: Hosts, orders: Orders) -> None:
    await hang(hosts, orders)
    await orders.add("vidgo", hosts.good, *FEW)
    await orders.are_done("vidgo", *FEW)
    assert len(hosts.dead.requests) == PLACES - 2


async def test_what_hung_is_fetched_once_its_host_is_back(hosts: Hosts, orders: Orders) -> None:
    await hang(hosts, orders)
    await orders.add("apixo", hosts.good, *FEW)
    hosts.is_back.set()
    await orders.are_done("vidgo", *MANY)
    await orders.are_done("apixo", *FEW)
    assert len(hosts.dead.requests) == len(MANY)


async def test_what_has_just_been_leased_has_its_place_at_the_next_look(
    hosts: Hosts, orders: Orders, runtime: Runtime
) -> None:
    """Else the loop would lease in vain, and rest for it, whenever a host has all the files it may have."""
    (loop,) = (each for each in runtime.worker._loops if each.name == "assets")
    assert isinstance(loop, LeaseLoop)
    loop._empty_seconds = 3600.0
    await orders.add("vidgo", hosts.good, *MANY)
    await orders.are_done("vidgo", *MANY)


async def test_with_several_providers_all_places_are_used(hosts: Hosts, orders: Orders) -> None:
    hosts.good.otherwise = hosts.dead.otherwise
    await orders.add("vidgo", hosts.dead, *MANY)
    await orders.add("apixo", hosts.good, *FEW)
    await until(lambda: len(hosts.dead.requests) + len(hosts.good.requests) == PLACES)


def test_whoever_is_alone_has_all_places_but_two() -> None:
    loads = {places: fetch_load({}, (), places) for places in (1, 2, 3, 4, 8, 256)}
    assert {places: (load.most_of_provider, load.most_of_host) for places, load in loads.items()} == {
        1: (1, 1),
        2: (2, 1),
        3: (3, 2),
        4: (3, 2),
        8: (7, 6),
        256: (255, 254),
    }


def test_of_many_places_one_is_for_hosts_that_sent_a_file_lately() -> None:
    loads = {places: fetch_load({}, (), places) for places in (7, 8, 256)}
    assert {
        places: (load.most_of_unproven, load.most_of_unproven_host) for places, load in loads.items()
    } == {7: (sys.maxsize, sys.maxsize), 8: (6, 5), 256: (254, 253)}


def test_a_host_is_proven_by_a_whole_file_until_it_hangs_or_many_others_are() -> None:
    proven = ProvenHosts()
    for number in range(MOST_PROVEN):
        proven.learn(("vidgo", number), Outcome.STORED)
    proven.learn(("vidgo", 0), Outcome.STORED)
    proven.learn(("vidgo", MOST_PROVEN), Outcome.STORED)
    proven.learn(("vidgo", 2), Outcome.GONE)  # which says more of the link
    proven.learn(("vidgo", 3), Outcome.TIMEOUT)
    proven.learn(("vidgo", 4), Outcome.TOO_SLOW)
    proven.learn(("vidgo", 5), Outcome.TIMEOUT)
    proven.learn(("vidgo", 5), Outcome.STORED)
    proven.learn(("vidgo", 1000), Outcome.TIMEOUT)
    hosts = [host for _, host in proven]
    assert hosts == [2, *range(6, MOST_PROVEN), 0, MOST_PROVEN, 5]


class TestManyHosts:
    """One callback with links to more hosts than there are places, which all hang."""

    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {
            "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
            "RECEIVER_ASSET_CONCURRENCY": str(VERY_MANY_PLACES),
            "RECEIVER_ASSET_TIMEOUT_SECONDS": "600",
        }

    async def test_they_keep_no_file_of_a_host_that_works_waiting(
        self,
        hosts: Hosts,
        orders: Orders,
        backend: httpx2.AsyncClient,
        stranger: httpx2.AsyncClient,
        runtime: Runtime,
    ) -> None:
        await orders.add("vidgo", hosts.good, "before")
        await orders.are_done("vidgo", "before")
        await log_task(backend, "many")
        asked: list[asyncio.StreamWriter] = []

        async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(writer)

        # Every one of these addresses is this machine's.
        addresses = [f"127.0.1.{number}" for number in range(1, 41)]
        async with await asyncio.start_server(hang, addresses) as server:
            places = [socket.getsockname() for socket in server.sockets]
            links = [f"http://{address}:{port}/x.png" for address, port in places]
            body = sample_callback("vidgo", "many", files=links)
            (await stranger.post(callback_path(runtime), content=body)).raise_for_status()
            await until(lambda: len(asked) == VERY_MANY_PLACES - 2)
            await orders.add("vidgo", hosts.good, *FEW)
            await orders.are_done("vidgo", *FEW)
            assert len(asked) == VERY_MANY_PLACES - 2
            for writer in asked:
                writer.close()
            await runtime.worker.drain(0)
