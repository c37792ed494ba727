"""Budgets at the gateway's door: what one refuses is not sent, and is said in the provider's own form."""

import asyncio
from typing import Any

import httpx2
import pytest

from receiver.models import Budget, BudgetPeriod, BudgetScope, OrderFilter
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.gateway.test_orders import ANSWER, TASK
from tests.support.engines import on_both_engines
from tests.support.order_host import OrderHost, tells

ORDERS = {
    "vidgo": ("/gateway/vidgo/api/generate/submit", {"model": "m", "input": {"prompt": "a"}}),
    "apidot": ("/gateway/apidot/api/generate/submit", {"model": "m", "input": {"prompt": "a"}}),
    "apixo": ("/gateway/apixo/api/v1/generateTask/m", {"input": {"prompt": "a"}}),
    "reapi": ("/gateway/reapi/api/v1/images/generations", {"model": "m", "prompt": "a"}),
}
# 12 credits, which are 0.06 dollars.
PRICED: dict[str, Any] = {"model": "gpt-image-2", "input": {"prompt": "a", "quality": "high"}}
WORDS = "receiver: the budget of all orders in all takes no order without a known price; nothing was ordered"


async def set_budget(runtime: Runtime, micros: int, *, is_hard: bool = True) -> None:
    await runtime.store.set_budget(
        Budget(
            scope=BudgetScope.ALL,
            name="",
            period=BudgetPeriod.TOTAL,
            micros=micros,
            is_hard=is_hard,
            set_at=runtime.clock.now(),
        )
    )


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {"RECEIVER_GATEWAY_COST_HEADER": "X-LiteLLM-Response-Cost"}


@pytest.mark.parametrize(
    ("provider", "at"),
    [
        ("vidgo", ("error", "type", "insufficient_credits")),
        ("apidot", ("error", "type", "insufficient_credits")),
        ("apixo", ("message", "Payment Required")),
        ("reapi", ("error", "code", 99402)),
    ],
)
async def test_a_used_up_budget_is_a_402_in_the_providers_own_form_and_nothing_is_sent_or_kept(
    client: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    provider: str,
    at: tuple[object, ...],
) -> None:
    await set_budget(runtime, 1_000_000)
    path, body = ORDERS[provider]
    answer = await client.post(path, json=body)

    assert answer.status_code == 402
    said = answer.json()
    for key in at[:-1]:
        said = said[key]
    assert said == at[-1]
    assert WORDS in answer.text
    assert "x-receiver-submission" not in answer.headers
    assert upstream.sent == []
    assert (await runtime.store.list_orders(OrderFilter(), 10, None)).orders == ()


@on_both_engines
async def test_trap_7_orders_at_once_against_a_hard_budget_are_sent_as_far_as_it_holds(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    await set_budget(runtime, 7 * 60_000)
    tasks = [{"code": 200, "data": {"task_id": f"t{number}"}} for number in range(8)]
    upstream.answers += [tells(each) for each in tasks]
    bodies = [{**PRICED, "input": {**PRICED["input"], "seed": number}} for number in range(21)]
    path, _ = ORDERS["vidgo"]
    answers = await asyncio.gather(*(client.post(path, json=each) for each in bodies[:20]))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [402] * 13
    assert len(upstream.orders) == 7
    # The first that reached the provider is not always the first of the twenty here: t0 is its answer.
    url = upstream.orders[0].document["callback_url"].removeprefix("https://receiver.test")
    for _ in range(2):
        failed = await client.post(url, content=sample_callback("vidgo", "t0", error="no"))
        assert failed.status_code == 200
    assert (await client.post(path, json=bodies[20])).status_code == 200
    assert len(upstream.orders) == 8
    metrics = (await admin.get("/metrics")).text
    assert 'receiver_budget_refusals_total{period="total",scope="all"} 13.0' in metrics


async def test_a_soft_budget_is_named_and_counted_and_the_order_goes_out(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    await set_budget(runtime, 1, is_hard=False)
    upstream.answers.append(tells(ANSWER))
    answer = await client.post(ORDERS["vidgo"][0], json=PRICED)

    assert (answer.status_code, answer.headers["x-receiver-warnings"]) == (200, "budget-all-total")
    metrics = (await admin.get("/metrics")).text
    assert 'receiver_budget_warnings_total{period="total",scope="all"} 1.0' in metrics
    held = 'receiver_cost_usd_total{model="gpt-image-2",provider="vidgo",state="held"} 0.06'
    assert held in metrics


async def test_answers_say_what_an_order_costs(client: httpx2.AsyncClient, upstream: OrderHost) -> None:
    upstream.answers.append(tells(ANSWER))
    ordered = await client.post(ORDERS["vidgo"][0], json=PRICED)
    asked = await client.get(f"/gateway/vidgo/api/generate/status/{TASK}")

    for answer in (ordered, asked):
        assert answer.headers["x-receiver-cost-usd"] == "0.06"
        assert answer.headers["x-litellm-response-cost"] == "0.06"
        assert answer.headers["x-receiver-credits"] == "12"
