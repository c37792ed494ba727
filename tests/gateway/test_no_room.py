"""Trap 5: the record cannot commit, before an order or between it and its answer."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx2
import pytest

from receiver.models import OrderState
from receiver.runtime import Runtime
from tests.gateway.test_orders import ANSWER, all_orders, order, state_of
from tests.support.order_host import OrderHost, tells
from tests.support.waiting import until


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {"RECEIVER_GATEWAY_ANSWER_SECONDS": "30"}


@contextmanager
def nothing_commits(runtime: Runtime) -> Iterator[None]:
    """Another connection has the file for itself."""
    path = runtime.settings.data_dir / "receiver.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_trap_5_what_cannot_be_recorded_is_not_sent(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    with nothing_commits(runtime):
        answer = await order(client)
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "unavailable"
    assert answer.headers["retry-after"] == "1"
    assert upstream.sent == []
    assert await all_orders(runtime) == []


async def test_trap_5_what_was_taken_is_answered_and_bound_once_there_is_room_again(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    upstream.gate.clear()
    ordering = asyncio.create_task(order(client))
    await until(lambda: upstream.sent)
    with nothing_commits(runtime):
        upstream.gate.set()
        answer = await ordering
        assert (answer.status_code, answer.content) == (200, ANSWER)
        assert answer.headers["x-receiver-state"] == "sending"

    async def bound() -> bool:
        return await state_of(runtime) is OrderState.BOUND

    await until(bound)
    assert len(upstream.sent) == 1
