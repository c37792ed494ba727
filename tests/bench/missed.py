"""Tasks at all four providers with everything that goes wrong at once; then the ledger.

    python -m tests.bench.missed --tasks 2000 [--kill]

A backend orders at the played providers: callbacks are lost, doubled, reordered, late and forged, tasks fail,
links are dead or die, polls are turned away. With ``--kill`` the service gets SIGKILL every few seconds, too.
At the end every task must have ended as it did at its provider, with each of its files and no other, and both
sinks must have been told of it, and of nothing else.

Prints what differs, and exits 1 when anything does. About two minutes for 2,000 tasks.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

from receiver.simulator import Faults, SimulatorOptions, serve_simulator
from tests.e2e.ledger import PROVIDERS, Shop, asking, differences, key_of
from tests.e2e.service import Receiver, receiver
from tests.support.waiting import until

SINKS = {"one": "one.jsonl", "two": "two.jsonl"}
PATIENCE_SECONDS = 300.0
LAST_KILLS_SECONDS = 10.0  # after the last order: into the downloads, polls and notifications

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--kill", action="store_true", help="kill the service every few seconds")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receiver-missed-") as folder:
        found = asyncio.run(run(Path(folder), tasks=chosen.tasks, kills=chosen.kill))
    print("\n".join(found) or f"{chosen.tasks} tasks ended as they did at their providers")
    return 1 if found else 0


async def run(folder: Path, *, tasks: int, kills: bool = False) -> list[str]:
    """Order so many and let it rest; all that is then not as it really happened."""
    async with shop_and_service(folder) as (shop, service):
        async with killed_now_and_then(service, LAST_KILLS_SECONDS if kills else None):
            await shop.order_many(tasks)
        await until(lambda: shop.is_at_rest(tasks), PATIENCE_SECONDS)
        return unmet(await shop.truth()) + await differences(shop, service, SINKS)


def unmet(truth: list[dict[str, Any]]) -> list[str]:
    """Which faults no task met: a run so short proves too little."""
    fates = [task["simulate"] for task in truth]
    met = {
        "lost callback": any(fate["drop_callback"] for fate in fates),
        "doubled callback": any(fate["duplicate"] > 1 for fate in fates),
        "callback out of order": any(fate["reorder"] for fate in fates),
        "late callback": any(fate["late_seconds"] for fate in fates),
        "forged callback": any(task["forgeries"] for task in truth),
        "dead link": any(fate["dead_links"] for fate in fates),
        "failure": any(task["state"] == "failed" for task in truth),
    }
    return [f"no task met a {fault}" for fault, is_met in met.items() if not is_met]


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


@asynccontextmanager
async def killed_now_and_then(service: Receiver, more_seconds: float | None) -> AsyncIterator[None]:
    """Kill and start it, meanwhile and for some seconds more; it runs afterwards. None: it is not killed."""
    if more_seconds is None:
        yield
        return
    killing = asyncio.create_task(_kill_now_and_then(service))
    yield
    await asyncio.sleep(more_seconds)
    killing.cancel()
    with suppress(asyncio.CancelledError):
        await killing
    if service.process.poll() is not None:
        await service.start()


async def _kill_now_and_then(service: Receiver) -> None:
    chance = random.Random(11)
    while True:
        await asyncio.sleep(chance.uniform(1.5, 4.0))
        await service.kill()
        await service.start()


if __name__ == "__main__":
    sys.exit(main())
