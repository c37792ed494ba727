"""SIGKILL around an order, and every fault of its answer: nothing that was taken is forgotten, or sent twice.

The bar of all of it: what the simulated provider billed is booked here, order by order.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.simulator import serve_simulator
from tests.bench.gateway_kills import run
from tests.e2e.armed import Fault
from tests.e2e.bar import (
    ANSWERS,
    KEY,
    SIMULATED,
    differences,
    read_charges,
    read_orders,
    read_truth,
    settings,
)
from tests.e2e.faulty import FaultyReceiver, faulty_receiver
from tests.e2e.reader import reading, steps
from tests.e2e.service import Receiver, bearer
from tests.support.waiting import until

READING_SECONDS = 240.0
SUBMIT = "/gateway/vidgo/api/generate/submit"


@asynccontextmanager
async def gateway(
    folder: Path, fault: Fault | None = None, more: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[FaultyReceiver, str]]:
    """A service that is not started, in front of a simulator."""
    async with (
        serve_simulator(options=SIMULATED) as simulator,
        faulty_receiver(folder, fault, {**settings(simulator), **(more or {})}) as service,
    ):
        service.environment["RECEIVER_PUBLIC_URL"] = service.url
        yield service, simulator


async def order(service: Receiver, prompt: str, **simulate: Any) -> httpx2.Response | None:
    """Order once; None where the connection broke."""
    body = {"model": "gpt-image-2", "input": {"prompt": prompt}, "simulate": simulate}
    headers = bearer(KEY) | {"x-receiver-owner": prompt, "x-request-id": prompt}
    try:
        return await service.http.post(SUBMIT, json=body, headers=headers)
    except httpx2.TransportError:
        return None


async def check_bar(service: Receiver, simulator: str) -> dict[str, dict[str, Any]]:
    """What the provider billed is booked here, order by order, and no order was sent twice; the orders."""
    truth = await read_truth(simulator)
    assert differences(truth, read_charges(service)) == []
    return await read_orders(service)


def test_what_the_manual_shows_of_the_gateway_is_what_a_reader_sees(tmp_path: Path) -> None:
    with reading(tmp_path, READING_SECONDS) as reader:
        for step in steps("gateway", "## Try it on this machine"):
            reader.follow(step)


KILLS = {
    "before it is recorded": (Fault(place="receiver.record.store:RecordStore.reserve_order"), 0, None),
    "recorded, but not committed": (
        Fault(place="receiver.record.orders:reserve_order", when="after"),
        0,
        None,
    ),
    "committed, and nothing sent": (Fault(place="receiver.gateway.upstream:Upstream.send"), 0, "unknown"),
    "sent, and its answer not read": (Fault(place="receiver.gateway.upstream:_whole"), 1, "bound"),
    "answered, and not settled": (Fault(place="receiver.record.store:RecordStore.settle_order"), 1, "bound"),
    "settled, but not committed": (
        Fault(place="receiver.record.orders:settle_order", when="after"),
        1,
        "bound",
    ),
    "settled, and its caller not told": (Fault(place="receiver.web.gateway:GatewayDoor._placed"), 1, "bound"),
}


@pytest.mark.parametrize(("fault", "taken", "state"), KILLS.values(), ids=KILLS.keys())
async def test_trap_1_an_order_that_a_kill_met_is_never_sent_again_and_never_forgotten(
    tmp_path: Path, fault: Fault, taken: int, state: str | None
) -> None:
    async with gateway(tmp_path, fault) as (service, simulator):
        await service.start()
        # The callback comes once the next life is there.
        assert await order(service, "a lighthouse", late_seconds=3) is None
        await service.died()
        await service.start()
        here = await check_bar(service, simulator)
        async with httpx2.AsyncClient(trust_env=False, timeout=60.0) as http:
            assert len((await http.get(f"{simulator}/truth")).json()) == taken
        assert len(here) == (0 if state is None else 1)
        if state == "bound":

            async def bound() -> bool:
                return {row["state"] for row in (await read_orders(service)).values()} == {"bound"}

            await until(bound)
        elif state is not None:
            assert {row["state"] for row in here.values()} == {state}


async def test_whatever_comes_in_place_of_an_answer_its_callback_binds_the_order(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (service, simulator):
        await service.start()
        for fault in ANSWERS:
            answer = await order(service, fault, answer=fault)
            assert answer is not None
            assert answer.headers["x-receiver-state"] == "unknown", fault
            assert answer.headers["x-should-retry"] == "false"
        refused = await order(service, "refused", refuse=402)
        assert refused is not None
        assert refused.headers["x-receiver-state"] == "refused"
        early = await order(service, "early", call_before_answer=True)
        assert early is not None
        assert early.headers["x-receiver-state"] == "bound"

        async def settled() -> bool:
            return Counter(row["state"] for row in (await check_bar(service, simulator)).values()) == {
                "bound": len(ANSWERS) + 1,
                "refused": 1,
            }

        await until(settled)


@pytest.mark.parametrize(("late_seconds", "is_answered"), [(2.0, True), (6.0, False)])
async def test_trap_1_a_stop_waits_for_an_answer_that_is_out(
    tmp_path: Path, late_seconds: float, is_answered: bool
) -> None:
    more = {"RECEIVER_GATEWAY_ANSWER_SECONDS": "30"}
    async with gateway(tmp_path, more=more) as (service, simulator):
        await service.start()
        ordering = asyncio.create_task(
            order(service, "a lighthouse", late_answer=late_seconds, drop_callback=True)
        )
        await asyncio.sleep(0.5)
        assert await service.stop() < 10
        answer = await ordering
        assert answer is not None
        assert answer.status_code == (200 if is_answered else 504)
        assert is_answered or answer.headers["x-should-retry"] == "false"
        await service.start()
        assert {row["state"] for row in (await check_bar(service, simulator)).values()} == {"bound"}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_kills_at_random_leave_nothing_unaccounted_for(tmp_path: Path, engine: str) -> None:
    figures = await run(tmp_path, engine, kills=5, seed=7)
    assert figures.wrong == [], figures.report()
    assert figures.charged > 0
    assert figures.cut_off > 0  # some kills met orders on their way
