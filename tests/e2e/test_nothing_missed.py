"""2,000 tasks at all four providers, with everything that goes wrong at once: each ends as it really did."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2

from receiver.simulator import Faults, SimulatorOptions, serve_simulator
from tests.e2e.ledger import PROVIDERS, Shop, asking, differences, key_of
from tests.e2e.service import Receiver, receiver
from tests.support.waiting import until

TASKS = 2_000
SINKS = {"one": "one.jsonl", "two": "two.jsonl"}

FAULTS = Faults(
    seed=7, drop=0.3, duplicate=0.3, reorder=0.2, delay=1.0, fail=0.05,
    dead_links=0.1,
    dying_links=10.0, rate_limit=6_000,
)  # fmt: skip
WORLD = SimulatorOptions(
    task_seconds=1.0,
    retry_factor=0.05,
    keys={name: key_of(name) for name in PROVIDERS},
    faults=FAULTS,
    picture_pixels=64,
)


@asynccontextmanager
async def shop_and_service(folder: Path) -> AsyncIterator[tuple[Shop, Receiver]]:
    async with serve_simulator(options=WORLD) as simulator_url:
        settings = asking(simulator_url, first_poll_seconds=3.0, polls_per_minute=6_000) | {
            f"RECEIVER_SINK_{name.upper()}": f"jsonl:{file}" for name, file in SINKS.items()
        }
        async with (
            receiver(folder, settings) as service,
            httpx2.AsyncClient(
                base_url=simulator_url,
                trust_env=False,
                verify=False,
                timeout=60.0,
                # Less than the simulator keeps an idle connection: it must not be closed as it is used again.
                limits=httpx2.Limits(keepalive_expiry=2.0),
            ) as providers,
        ):
            yield Shop(service, providers), service


async def test_every_task_ends_as_it_did_at_its_provider_whatever_happens_to_callbacks_and_links(
    tmp_path: Path,
) -> None:
    async with shop_and_service(tmp_path) as (shop, service):
        await shop.order_many(TASKS)
        await until(lambda: shop.is_at_rest(TASKS), 300.0)
        assert await differences(shop, service, SINKS) == []


async def test_every_task_ends_as_it_did_though_the_receiver_is_killed_every_few_seconds(
    tmp_path: Path,
) -> None:
    async with shop_and_service(tmp_path) as (shop, service):
        killing = asyncio.create_task(kill_now_and_then(service))
        await shop.order_many(TASKS)
        await asyncio.sleep(10.0)  # into the downloads, polls and notifications
        killing.cancel()
        with suppress(asyncio.CancelledError):
            await killing
        if service.process.poll() is not None:
            await service.start()
        await until(lambda: shop.is_at_rest(TASKS), 300.0)
        assert await differences(shop, service, SINKS) == []


async def kill_now_and_then(service: Receiver) -> None:
    chance = random.Random(11)
    while True:
        await asyncio.sleep(chance.uniform(1.5, 4.0))
        await service.kill()
        await service.start()
