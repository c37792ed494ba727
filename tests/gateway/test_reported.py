"""A provider that names its own charge is believed: that is what the order cost, whatever was expected."""

from typing import Any

import httpx2
import pytest

from receiver import unified
from receiver.models import Basis, CostState
from receiver.providers.reapi import Reapi
from receiver.runtime import Runtime
from tests.support.engines import on_both_engines
from tests.support.order_host import OrderHost, tells
from tests.support.waiting import until

SUBMIT = "/gateway/apidot/api/generate/submit"
STATUS = "/gateway/apidot/api/generate/status/t1"


def ended(status: str = "finished", **more: object) -> dict[str, Any]:
    data = {"task_id": "t1", "status": status, "files": [], "lyrics": "la", **more}
    return {"code": 200, "data": data}


@on_both_engines
@pytest.mark.parametrize(("model", "before"), [("gpt-image-2", "0.005"), ("flux-2", None)])
async def test_what_apidot_says_that_it_took_is_what_the_order_cost(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    model: str,
    before: str | None,
) -> None:
    upstream.answers.append(tells({"code": 200, "data": {"task_id": "t1"}}))
    ordered = await client.post(SUBMIT, json={"model": model, "input": {"prompt": "a"}})
    assert ordered.headers.get("x-receiver-cost-usd") == before
    url = upstream.orders[0].document["callback_url"].removeprefix("https://receiver.test")
    files = [{"file_url": "https://10.0.0.1/a.png", "file_type": "image"}]
    said = ended(files=files, credits_amount=2.5)
    assert (await stranger.post(url, json=said)).status_code == 200

    async def is_charged() -> bool:
        standing = await runtime.store.get_standing("apidot", "t1")
        assert standing is not None
        assert standing.order is not None
        return standing.order.cost_state is CostState.CHARGED

    await until(is_charged)
    task = (await admin.get("/tasks/apidot/t1")).json()
    cost = {"usd": "0.0125", "credits": "2.5", "state": "charged", "basis": Basis.REPORTED}
    assert {name: task["cost"][name] for name in cost} == cost
    (sums,) = (await admin.get("/costs?by=provider")).json()["costs"]
    assert (sums["charged"], sums["unpriced"]) == ("0.0125", 0)
    assert (await client.get(STATUS)).headers["x-receiver-cost-usd"] == "0.0125"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (2, "2"),
        (2.5, "2.5"),
        ("0.10", "0.1"),
        (0, "0"),
        (1e-3, "0.001"),
        (1_000_000, "1000000"),
        (1_000_001, None),
        (-1, None),
        (-0.0, "0"),
        (10**100, None),
        (True, None),
        (None, None),
        ("NaN", None),
        ("many", None),
        (float("inf"), None),
        ("1" * 30, None),
        ([2], None),
        ({"amount": 2}, None),
    ],
)
def test_only_what_is_an_amount_of_credits_is_read_as_one(said: object, read: str | None) -> None:
    assert unified.read(ended(credits_amount=said)).credits == read
    document = {"id": "t1", "status": "completed", "output": {}, "usage": {"credits": said}}
    assert Reapi().parse(document).credits == read


def test_a_failure_is_charged_for_by_none() -> None:
    assert unified.read(ended("failed", credits_amount=3)).credits is None
