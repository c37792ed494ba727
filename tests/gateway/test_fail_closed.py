"""A budget or a token that cannot be read is no budget or token that is not there: 503, and nothing sent."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import httpx2
import pytest
from starlette.types import ASGIApp

from receiver.models import OrderFilter
from receiver.runtime import Runtime
from tests.gateway.test_budgets import ORDERS, set_budget
from tests.gateway.test_tokens import make
from tests.support.engines import on_both_engines
from tests.support.order_host import OrderHost
from tests.support.postgres import ScratchRecord
from tests.support.web_callers import caller

Change = Callable[[str], None]

# As a later release may write them, or a hand that slipped.
SPOILED = {
    "a period that is not known": "UPDATE budgets SET period = 'year'",
    "a time that is none": "UPDATE budgets SET set_at = 'yesterday'",
    "no table": "ALTER TABLE budgets RENAME TO lost",
}


@pytest.fixture
def change(runtime: Runtime, engine: str, request: pytest.FixtureRequest) -> Change:
    """Runs a statement on the record from outside."""

    def run(statement: str) -> None:
        if engine == "sqlite":
            path = runtime.settings.data_dir / "receiver.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute(statement)
            return
        record: ScratchRecord = request.getfixturevalue("postgres_record")
        with record.connect() as connection:
            connection.execute(statement)

    return run


@on_both_engines
@pytest.mark.parametrize("spoiled", SPOILED)
async def test_a_budget_that_cannot_be_read_is_a_503_and_nothing_is_sent(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, change: Change, spoiled: str
) -> None:
    await set_budget(runtime, 1_000_000, is_hard=False)
    change(SPOILED[spoiled])
    try:
        answers = {name: await client.post(path, json=body) for name, (path, body) in ORDERS.items()}
    finally:
        if spoiled == "no table":
            change("ALTER TABLE lost RENAME TO budgets")

    assert {answer.status_code for answer in answers.values()} == {503}
    assert {answer.headers["retry-after"] for answer in answers.values()} == {"1"}
    said = {name: answer.json() for name, answer in answers.items()}
    assert said["vidgo"]["error"]["type"] == said["apidot"]["error"]["type"] == "unavailable"
    assert said["apixo"]["message"] == "Service Unavailable"
    assert said["reapi"]["error"]["code"] == 99503
    assert upstream.sent == []
    assert (await runtime.store.list_orders(OrderFilter(), 10, None)).orders == ()


@on_both_engines
@pytest.mark.parametrize("gateway_settings", [{"RECEIVER_GATEWAY_KEYS": "hold"}])
async def test_a_token_that_cannot_be_read_is_a_503_and_nothing_is_sent(
    app: ASGIApp, admin: httpx2.AsyncClient, upstream: OrderHost, change: Change
) -> None:
    token = await make(admin, "ci")
    change("UPDATE gateway_tokens SET expires_at = 'some day'")
    path, body = ORDERS["vidgo"]
    async with caller(app, token) as client:
        answer = await client.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable")
    assert upstream.sent == []
