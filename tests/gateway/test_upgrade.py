"""Trap 14: tasks from before the gateway have no order and cost nothing, and are told all the same."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing

import httpx2
import pytest

from receiver.config.settings import Settings
from receiver.runtime import Runtime, open_runtime
from receiver.testing import sample_callback
from tests.support.earlier_releases import make_third_release
from tests.support.engines import on_both_engines
from tests.support.order_host import OrderHost, tells
from tests.support.waiting import until
from tests.support.web_callers import callback_path, log_task

STATUS = "/gateway/vidgo/api/generate/status/"

# Of the earlier release's record, as its provider's client reads their states.
TOLD = {"told": "failed", "partial": "finished", "revised": "finished"}


class TestOfAnEarlierRelease:
    """The record is one that 0.3.0 has written."""

    @pytest.fixture
    async def runtime(self, web_settings: Settings) -> AsyncIterator[Runtime]:
        web_settings.data_dir.mkdir(mode=0o700)
        path = web_settings.data_dir / "receiver.db"
        make_third_release(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE deliveries SET body = NULL")  # retention is over
        async with open_runtime(web_settings) as opened:
            yield opened

    async def test_trap_14_tasks_from_before_the_upgrade_are_told_and_cost_nothing(
        self, client: httpx2.AsyncClient, admin: httpx2.AsyncClient, runtime: Runtime
    ) -> None:
        for task_id, state in TOLD.items():
            answer = await client.get(f"{STATUS}{task_id}")
            assert (answer.status_code, answer.json()["data"]["status"]) == (200, state), task_id
            assert answer.headers["x-receiver-submission"] == f"sub_{task_id}"
            assert "x-receiver-cost-usd" not in answer.headers
            standing = await runtime.store.get_standing("vidgo", task_id)
            assert standing is not None
            assert standing.order is None
        assert (await admin.get("/costs?by=provider")).json()["costs"] == []


@on_both_engines
async def test_trap_14_a_task_without_an_order_ends_without_a_charge(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
) -> None:
    upstream.otherwise = tells(sample_callback("vidgo", "logged", error="no"))
    await log_task(backend, "logged")
    callback = sample_callback("vidgo", "logged", error="no")
    assert (await stranger.post(callback_path(runtime), content=callback)).status_code == 200

    async def failed() -> bool:
        answer = await client.get(f"{STATUS}logged")
        return answer.status_code == 200 and bool(answer.json()["data"]["status"] == "failed")

    await until(failed)
    assert (await backend.get("/tasks/vidgo/logged")).json()["cost"] is None
    assert (await admin.get("/costs?by=provider")).json()["costs"] == []
