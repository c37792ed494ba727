"""What people see of money: sums by what they ask for, budgets, and nothing where nothing is ordered."""

import re
from datetime import timedelta
from html import unescape

import httpx2
import pytest

from receiver.errors import Unavailable
from receiver.models import BudgetPeriod, BudgetScope, OrderEnd, OrderState
from receiver.record.readers import Readers
from receiver.runtime import Runtime
from tests.record.test_costs import UNPRICED, budget, order, quote
from tests.support.engines import on_both_engines
from tests.support.page_callers import VIEWER_TOKEN


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_GATEWAY": "true", "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN, "VIDGO_API_KEY": "a-key"}


@pytest.fixture
async def filled(runtime: Runtime) -> None:
    now = runtime.clock.now()
    orders = (
        order(1, quote(40_000, images=2), at=now),
        order(2, quote(5), owner="bob", token="ci", at=now),
        order(3, UNPRICED, owner="bob", provider="apixo", at=now),
        order(4, quote(2_000_000), owner="bob", at=now - timedelta(days=40)),
    )
    for each in orders:
        await runtime.store.reserve_order(each)
    await runtime.store.settle_order("sub_4", OrderEnd(state=OrderState.REFUSED), now)


def rows_of(page: str) -> list[list[str]]:
    """The cells of each row of the first table, as they read."""
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(unescape(re.sub(r"<[^>]+>", "", cell)).split()) for cell in row] for row in cells]


def places(page: str) -> set[str]:
    return {unescape(place) for place in re.findall(r'href="(/admin/(?:costs|tasks)\?[^"]+)"', page)}


@on_both_engines
async def test_sums_are_shown_by_what_the_address_asks_for(
    filled: None, runtime: Runtime, viewer: httpx2.AsyncClient
) -> None:
    today = runtime.clock.now().date().isoformat()
    usual = rows_of((await viewer.get("/admin/costs")).text)
    assert [row[:7] for row in usual] == [
        ["All", "4, 1 without a price", "5", "0.040005", "0.00", "2.00", "0.00"],
        ["apixo · gpt-image-2", "1, 1 without a price", "1", "0.00", "0.00", "0.00", "0.00"],
        ["vidgo · gpt-image-2", "3", "4", "0.040005", "0.00", "2.00", "0.00"],
    ]
    for query, shown in (
        (
            "since=0d&by=owner&by=token",
            ["All that match", "bob · no token", "bob · ci", "user-17 · no token"],
        ),
        ("owner=bob&provider=vidgo&since=7d&by=day", ["All that match", today]),
        (f"until={today}&by=owner", ["All that match", "bob"]),
        ("token=ci&by=model,provider", ["All that match", "gpt-image-2 · vidgo"]),
    ):
        assert [row[0] for row in rows_of((await viewer.get(f"/admin/costs?{query}")).text)] == shown, query
    assert "No order that matches" in (await viewer.get("/admin/costs?owner=nobody")).text


@on_both_engines
async def test_a_row_leads_to_its_parts_and_to_its_tasks(
    filled: None, runtime: Runtime, person: httpx2.AsyncClient
) -> None:
    now = runtime.clock.now().date()
    today, tomorrow = now.isoformat(), (now + timedelta(days=1)).isoformat()
    page = (await person.get("/admin/costs?provider=vidgo&by=owner,day")).text
    found = places(page)
    assert "/admin/costs?provider=vidgo&owner=bob&by=provider,model,token" in found
    assert f"/admin/costs?provider=vidgo&since={today}&until={tomorrow}&by=provider,model,token" in found
    times = f"since={today}T00%3A00%3A00Z&until={tomorrow}T00%3A00%3A00Z"
    assert f"/admin/tasks?owner=bob&provider=vidgo&{times}" in found
    for place in found:
        assert (await person.get(place)).status_code == 200, place


@on_both_engines
async def test_budgets_stand_beside_what_they_bound(
    filled: None, runtime: Runtime, viewer: httpx2.AsyncClient
) -> None:
    assert "No budget is set" in (await viewer.get("/admin/costs")).text
    for each in (
        budget(5, BudgetScope.OWNER, "bob", BudgetPeriod.DAY, at=runtime.clock.now()),
        budget(50_000, BudgetScope.OWNER, "user-17", BudgetPeriod.DAY, at=runtime.clock.now()),
        budget(1, BudgetScope.PROVIDER, "vidgo", BudgetPeriod.TOTAL, is_hard=False, at=runtime.clock.now()),
        budget(9_000_000, BudgetScope.ALL, "", BudgetPeriod.TOTAL, at=runtime.clock.now()),
    ):
        await runtime.store.set_budget(each)
    page = (await viewer.get("/admin/costs")).text
    today = runtime.clock.now().date().isoformat()
    assert rows_of(page[page.index('id="budgets"') :]) == [
        ["all", "within", "total", "hard", "9.00", "0.040005", "8.959995", "the beginning"],
        ["owner=bob", "used up", "day", "hard", "0.000005", "0.000005", "0.00", today],
        ["owner=user-17", "nearly used up", "day", "hard", "0.05", "0.04", "0.01", today],
        ["provider=vidgo", "exceeded", "total", "soft", "0.000001", "0.040005", "-0.040004", "the beginning"],
    ]
    assert f"/admin/costs?owner=bob&since={today}&by=provider,model" in places(page)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("provider=nobody", "one of: "),
        ("since=yesterday", "7d"),
        ("until=2026-13-01", "2026-11-29"),
        ("since=2026-11-02&until=2026-11-02", "later than since"),
        ("by=prompt", "owner, provider, model, day, token"),
    ],
)
async def test_a_wrong_filter_is_told_at_its_field(
    person: httpx2.AsyncClient, query: str, words: str
) -> None:
    answer = await person.get(f"/admin/costs?{query}")
    assert answer.status_code == 400
    assert words in unescape(answer.text)
    assert "Nothing is summed up" in answer.text


async def test_of_many_rows_it_shows_the_first_and_says_so(
    runtime: Runtime, person: httpx2.AsyncClient
) -> None:
    for number in range(101):
        await runtime.store.reserve_order(order(number, owner=f"o{number:03}", at=runtime.clock.now()))
    page = (await person.get("/admin/costs?by=owner")).text
    assert len(rows_of(page)) == 101
    assert "more than 100 rows" in page
    assert rows_of(page)[0][1] == "101"
    assert "o100" not in page


async def test_what_cannot_be_read_now_is_said_and_the_rest_stands(
    person: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person.get("/admin/")

    async def away(*_: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(Readers, "read", away)
    answer = await person.get("/admin/costs")
    assert answer.status_code == 503
    assert answer.text.count("Not known now") == 2
    assert "not known now" in (await person.get("/admin/")).text


@on_both_engines
async def test_the_overview_says_what_today_cost(
    filled: None, person: httpx2.AsyncClient, runtime: Runtime
) -> None:
    page = (await person.get("/admin/")).text
    assert '<a href="/admin/costs?since=0d">0.040005 held</a>' in page
    assert 'href="/admin/costs">Costs' in page


class TestWithoutGateway:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN}

    async def test_there_is_no_such_page_and_nothing_leads_to_it(self, person: httpx2.AsyncClient) -> None:
        assert (await person.get("/admin/costs")).status_code == 404
        for place in ("/admin/", "/admin/parts/counts"):
            assert "/admin/costs" not in (await person.get(place)).text
