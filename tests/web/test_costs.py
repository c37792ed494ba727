"""What orders cost, by HTTP and on the command line; budgets are set by admins, and noted."""

from collections.abc import Mapping
from datetime import timedelta

import httpx2
import pytest

from receiver.cli.exit_codes import Exit
from receiver.models import Act, AuditFilter
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.record.test_costs import UNPRICED, order, quote
from tests.support.cli_callers import run
from tests.support.engines import on_both_engines
from tests.web.test_sinks import typed

NONE = {"owner": None, "provider": None, "model": None, "day": None, "token": None}


@on_both_engines
async def test_costs_are_summed_by_what_is_asked_for(backend: httpx2.AsyncClient, runtime: Runtime) -> None:
    now = runtime.clock.now()
    today, tomorrow = (day.date().isoformat() for day in (now, now + timedelta(days=1)))
    await runtime.store.reserve_order(order(1, quote(40_000, images=2), at=now))
    await runtime.store.reserve_order(order(2, quote(5), owner="bob", at=now))
    await runtime.store.reserve_order(order(3, UNPRICED, owner="bob", provider="apixo", at=now))

    found = (await backend.get(f"/costs?by=owner,provider&since={today}&until={tomorrow}")).json()

    assert [(each["owner"], each["provider"], each["held"]) for each in found["costs"]] == [
        ("bob", "apixo", "0.00"),
        ("bob", "vidgo", "0.000005"),
        ("user-17", "vidgo", "0.04"),
    ]
    assert found["is_whole"]
    assert found["total"] == NONE | {
        "orders": 3,
        "images": 4,
        "unpriced": 1,
        "held": "0.040005",
        "charged": "0.00",
        "released": "0.00",
        "uncertain": "0.00",
        "as_of": "2026-11-28",
    }
    assert (await backend.get(f"/costs?since={tomorrow}")).json()["total"]["orders"] == 0
    assert (await backend.get("/costs?owner=bob")).json()["total"]["orders"] == 2


@pytest.mark.parametrize("query", ["by=prompt", "since=today", "since=2026-11-22&until=2026-11-21"])
async def test_a_question_that_means_nothing_is_refused(backend: httpx2.AsyncClient, query: str) -> None:
    assert (await backend.get(f"/costs?{query}")).status_code == 400


@on_both_engines
async def test_a_task_and_its_event_say_what_it_costs(
    admin: httpx2.AsyncClient, backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await runtime.store.reserve_order(order(1, at=runtime.clock.now()))
    await runtime.store.bind_submission("sub_1", "t1", runtime.clock.now())
    cost = {"usd": "0.04", "credits": "8", "state": "held", "basis": "exact", "as_of": "2026-11-28"}
    assert (await backend.get("/tasks/vidgo/t1")).json()["cost"] == cost
    assert (await backend.get("/orders/sub_1")).json()["cost"] == cost

    path = f"/callbacks/vidgo/{runtime.tokens.for_submission('vidgo', 'sub_1')}"
    await backend.post(path, content=sample_callback("vidgo", "t1", error="no"))

    released = cost | {"state": "released"}
    assert (await backend.get("/tasks/vidgo/t1")).json()["cost"] == released
    (event,) = (await admin.get("/events?last=1")).json()["events"]
    assert event["data"]["cost"] == released


@on_both_engines
async def test_admins_set_list_and_remove_budgets_and_each_change_is_noted(
    admin: httpx2.AsyncClient, runtime: Runtime
) -> None:
    asked = {"usd": "5.00", "unpriced": "0.05"}
    shown = (await admin.put("/budgets/owner=team%2Fa/month", json=asked)).json()
    assert shown | {"since": "", "set_at": ""} == {
        "target": "owner=team/a",
        "period": "month",
        "usd": "5.00",
        "hard": True,
        "unpriced": "0.05",
        "used": "0.00",
        "left": "5.00",
        "since": "",
        "set_at": "",
    }
    assert (await admin.get("/budgets")).json()["budgets"] == [shown]
    assert (await admin.delete("/budgets/owner=team%2Fa/month")).status_code == 204
    gone = await admin.delete("/budgets/owner=team%2Fa/month")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:receiver:problem:unknown-budget")

    entries = (await runtime.store.list_audit(AuditFilter(), 10, None)).entries
    assert [(each.act, each.target, each.result) for each in entries[:2]] == [
        (Act.BUDGET_REMOVED, "owner=team/a", None),
        (Act.BUDGET_SET, "owner=team/a", "5.00 USD a month, hard"),
    ]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("all/year", {"usd": "5"}),
        ("all=me/month", {"usd": "5"}),
        ("owner=/month", {"usd": "5"}),
        ("owner/month", {"usd": "5"}),
        ("shop=a/month", {"usd": "5"}),
        ("provider=nobody/month", {"usd": "5"}),
        ("all/month", {"usd": 5.0}),
        ("all/month", {"usd": "5.0000001"}),
        ("all/month", {"usd": "-5"}),
        ("all/month", {"usd": "9999999999"}),
        ("all/month", {}),
    ],
)
async def test_what_is_no_budget_is_refused(
    admin: httpx2.AsyncClient, path: str, document: Mapping[str, object]
) -> None:
    assert (await admin.put(f"/budgets/{path}", json=document)).status_code in {400, 404}
    assert (await admin.get("/budgets")).json()["budgets"] == []


async def test_budgets_are_admins_business(backend: httpx2.AsyncClient) -> None:
    assert (await backend.get("/budgets")).status_code == 403
    assert (await backend.put("/budgets/all/month", json={"usd": "1"})).status_code == 403


async def test_budgets_are_set_and_costs_read_on_the_command_line(port: int, runtime: Runtime) -> None:
    done = await typed(port, "budgets", "set", "owner=user-17", "month", "5.00", "--unpriced", "0.05")
    assert done.stderr == "It is set: 0.00 of 5.00 USD are used.\n"
    await runtime.store.reserve_order(order(1, at=runtime.clock.now()))

    listed = (await typed(port, "budgets", "list")).stdout.splitlines()
    assert [line.split()[:6] for line in listed] == [
        ["target", "period", "kind", "usd", "used", "left"],
        ["owner=user-17", "month", "hard", "5.00", "0.04", "4.96"],
    ]
    summed = (await typed(port, "costs", "--by", "owner")).stdout.splitlines()
    assert [line.split()[:4] for line in summed] == [
        ["owner", "orders", "images", "held"],
        ["user-17", "1", "1", "0.04"],
        ["all", "1", "1", "0.04"],
    ]
    removed = await typed(port, "budgets", "remove", "all", "month", "--yes")
    assert (removed.returncode, "no such budget" in removed.stderr) == (Exit.NOTHING_FOUND, True)


def test_a_budget_of_no_amount_is_not_asked_for() -> None:
    wrong = run("budgets", "set", "all", "day", "5 dollars")
    assert (wrong.exit_code, "'5 dollars' is no amount" in wrong.output) == (2, True)
