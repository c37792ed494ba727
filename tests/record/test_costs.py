"""What orders cost: held once, settled by their end, bounded by budgets; the same on both engines."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from receiver.errors import OverBudget
from receiver.models import (
    Basis,
    Budget,
    BudgetPeriod,
    BudgetScope,
    Cost,
    CostBy,
    CostFilter,
    CostState,
    CostSum,
    CreditPrice,
    NewOrder,
    OrderEnd,
    OrderState,
    Outcome,
    Price,
    Quote,
    Report,
    ReportState,
)
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.testing import TurnableClock
from tests.support.engines import ENGINES, Place, place_on
from tests.support.factories import (
    NOW,
    answer,
    completed,
    failed,
    later,
    recording,
    settlement,
    stored,
    submission,
)
from tests.support.recount import check_costs

OPTIONS = StoreOptions(
    data_dir=Path(),
    clock=TurnableClock(),
    credit_prices={"vidgo": CreditPrice(micros=Decimal(5000), as_of="2026-11-28")},
)
AT_ONCE = 20
LOST = Report(task_id="t1", state=ReportState.FAILED, error_code=Outcome.LOST.value, error_message="late")


def quote(micros: int = 40_000, *, images: int = 1) -> Quote:
    price = Price(micros=micros, credits="8", basis=Basis.EXACT, tier="4K", as_of="2026-11-28")
    return Quote(price=price, images=images)


UNPRICED = Quote(price=None)


def order(
    number: int,
    priced: Quote | None = None,
    *,
    owner: str = "user-17",
    provider: str = "vidgo",
    token: str | None = None,
    at: datetime = NOW,
) -> NewOrder:
    of_owner = submission(None, id_=f"sub_{number}", owner=owner, provider=provider)
    return NewOrder(
        submission=msgspec.structs.replace(of_owner, created_at=at),
        credential="c",
        upstream_key="k",
        guard=None,
        digest="d",
        guard_since=at,
        lease_until=at + timedelta(seconds=150),
        quote=priced or quote(),
        token=token,
    )


def budget(
    micros: int,
    scope: BudgetScope = BudgetScope.OWNER,
    name: str = "user-17",
    period: BudgetPeriod = BudgetPeriod.MONTH,
    *,
    is_hard: bool = True,
    unpriced: int | None = None,
    at: datetime = NOW,
) -> Budget:
    return Budget(
        scope=scope,
        name=name,
        period=period,
        micros=micros,
        is_hard=is_hard,
        unpriced=unpriced,
        set_at=at,
    )


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> Place:
    return place_on(request.param, request)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    store = await place.open(OPTIONS)
    yield store
    await store.aclose()
    with closing(place.connect()) as db:
        check_costs(db)


async def bind(store: Store, number: int = 1, task_id: str = "t1") -> None:
    await store.settle_order(f"sub_{number}", OrderEnd(state=OrderState.BOUND, task_id=task_id), NOW)


async def end(store: Store, state: OrderState, number: int = 1) -> None:
    await store.settle_order(f"sub_{number}", OrderEnd(state=state), NOW)


async def cost_state(store: Store, number: int = 1) -> CostState | None:
    found = await store.get_order(f"sub_{number}")
    return None if found is None else found.cost_state


async def total(store: Store) -> CostSum:
    (found,) = await store.sum_costs(CostFilter(), (), 10)
    return found


async def used(store: Store, at: datetime = NOW) -> list[int]:
    return [standing.used for standing in await store.list_budgets(at)]


# --- one order ------------------------------------------------------------------------------------


async def test_a_price_is_held_when_its_order_is_reserved_and_charged_when_the_files_are_there(
    store: Store,
) -> None:
    reserved, _ = await store.reserve_order(order(1))
    assert reserved.cost == (await _cost(store))
    assert (await _cost(store)).state is CostState.HELD
    await bind(store)
    await store.record(recording(completed("t1")))
    assert await cost_state(store) is CostState.HELD
    (work,) = await store.lease_assets(later(1), later(60), 10)
    await store.settle_asset(work, stored(work))

    assert (await _cost(store)).state is CostState.CHARGED
    found = await total(store)
    assert (found.orders, found.images, found.held, found.charged) == (1, 1, 0, 40_000)
    assert found.as_of == "2026-11-28"


async def test_what_the_provider_delivered_is_charged_though_it_could_not_be_stored(store: Store) -> None:
    await store.reserve_order(order(1))
    await bind(store)
    await store.record(recording(completed("t1")))
    (work,) = await store.lease_assets(later(1), later(60), 10)
    await store.settle_asset(work, settlement(Outcome.REFUSED))

    assert await cost_state(store) is CostState.CHARGED


@pytest.mark.parametrize("state", [OrderState.REFUSED, OrderState.UNSENT])
async def test_an_order_that_the_provider_did_not_take_holds_nothing(store: Store, state: OrderState) -> None:
    await store.reserve_order(order(1))
    await end(store, state)

    assert await cost_state(store) is CostState.RELEASED


async def test_a_failure_that_is_told_twice_is_released_once_and_a_conflict_after_it_changes_nothing(
    store: Store,
) -> None:
    await store.set_budget(budget(100_000))
    for number in (1, 2):
        await store.reserve_order(order(number))
    await bind(store)
    await store.record(recording(failed("t1")))
    await store.record(recording(failed("t1")))
    await store.record(recording(completed("t1")))

    assert await cost_state(store) is CostState.RELEASED
    assert await used(store) == [40_000]


async def test_a_lost_task_is_uncertain_and_counts(store: Store) -> None:
    await store.set_budget(budget(100_000))
    await store.reserve_order(order(1))
    await bind(store)
    await store.record(answer(LOST))

    assert await cost_state(store) is CostState.UNCERTAIN
    assert await used(store) == [40_000]


async def test_trap_2_two_orders_that_get_the_same_task_are_one_charge(store: Store) -> None:
    for number in (1, 2):
        await store.reserve_order(order(number))
        await bind(store, number)
    await store.record(recording(failed("other")))

    assert [await cost_state(store, number) for number in (1, 2)] == [CostState.HELD, CostState.RELEASED]


async def test_an_order_whose_callback_ended_it_before_its_answer_came_is_settled_once(store: Store) -> None:
    await store.reserve_order(order(1))
    await store.record(recording(failed("t1"), submission_id="sub_1"))
    await bind(store)
    await end(store, OrderState.REFUSED)

    assert await cost_state(store) is CostState.RELEASED


async def test_trap_14_an_order_that_stays_unknown_holds_nothing_a_day_later_but_counts(store: Store) -> None:
    await store.set_budget(budget(100_000))
    await store.reserve_order(order(1))
    await end(store, OrderState.UNKNOWN)
    await store.sweep_orders(later(86_401), later(1), 10)

    assert await cost_state(store) is CostState.UNCERTAIN
    assert ((await total(store)).held, await used(store)) == (0, [40_000])


@pytest.mark.parametrize(
    ("report", "state"), [(completed("t1", files=0), None), (failed("t1"), CostState.RELEASED)]
)
async def test_the_end_of_its_task_settles_an_uncertain_order(
    store: Store, report: Report, state: CostState | None
) -> None:
    await store.reserve_order(order(1))
    await end(store, OrderState.UNKNOWN)
    await store.sweep_orders(later(86_401), later(1), 10)
    await store.bind_submission("sub_1", "t1", NOW)
    await store.record(answer(msgspec.structs.replace(report, is_fileless=state is None)))

    assert await cost_state(store) is (state or CostState.CHARGED)


async def test_a_person_who_says_that_an_order_was_not_sent_releases_it_and_a_callback_knows_better(
    store: Store,
) -> None:
    await store.reserve_order(order(1))
    await end(store, OrderState.UNKNOWN)
    await store.withdraw_submission("sub_1", NOW)
    assert await cost_state(store) is CostState.RELEASED

    done = msgspec.structs.replace(completed("t1", files=0), is_fileless=True)
    await store.record(recording(done, submission_id="sub_1"))
    assert await cost_state(store) is CostState.CHARGED


async def test_an_order_that_is_being_sent_is_not_released_by_who_withdraws_it(store: Store) -> None:
    await store.reserve_order(order(1))
    await store.withdraw_submission("sub_1", NOW)

    assert await cost_state(store) is CostState.HELD


async def test_a_submission_without_an_order_costs_nothing_that_is_known(store: Store) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(failed("t1")))

    assert (await total(store)).orders == 0


# --- budgets --------------------------------------------------------------------------------------


async def test_trap_7_twenty_orders_at_once_against_a_budget_for_seven_are_seven(place: Place) -> None:
    """On PostgreSQL by two processes."""
    is_shared = not hasattr(place, "_folder")
    stores = [await place.open(OPTIONS) for _ in range(2 if is_shared else 1)]
    try:
        await stores[0].set_budget(budget(7 * 40_000))
        ends = await asyncio.gather(
            *(stores[n % len(stores)].reserve_order(order(n)) for n in range(AT_ONCE)), return_exceptions=True
        )
        taken = [n for n, each in enumerate(ends) if not isinstance(each, BaseException)]
        assert len(taken) == 7
        assert sum(isinstance(each, OverBudget) for each in ends) == AT_ONCE - 7
        assert (await total(stores[0])).orders == 7

        # One failure makes room for one more, though it is told twice.
        await bind(stores[0], taken[0])
        for _ in range(2):
            await stores[-1].record(recording(failed("t1")))
        await stores[0].reserve_order(order(100))
        with pytest.raises(OverBudget):
            await stores[-1].reserve_order(order(101))
    finally:
        for store in stores:
            await store.aclose()


async def test_trap_7_an_order_in_a_months_last_second_counts_in_that_month_whenever_it_ends(
    store: Store,
) -> None:
    last = datetime(2026, 11, 30, 23, 59, 59, 999_000, tzinfo=UTC)
    first = last + timedelta(milliseconds=1)
    await store.set_budget(budget(40_000))
    await store.reserve_order(order(1, at=last))
    with pytest.raises(OverBudget):
        await store.reserve_order(order(2, at=last))
    await store.reserve_order(order(3, at=first))
    await bind(store)
    await store.record(recording(failed("t1"), received_at=first))

    assert await used(store, last) == [0]
    assert await used(store, first) == [40_000]
    sums = await store.sum_costs(CostFilter(), (CostBy.DAY,), 10)
    assert [(each.day, each.held, each.released) for each in sums] == [
        ("2026-11-30", 0, 40_000),
        ("2026-12-01", 40_000, 0),
    ]


async def test_a_refused_order_leaves_nothing_in_the_record(store: Store) -> None:
    await store.set_budget(budget(39_999))
    with pytest.raises(OverBudget) as refused:
        await store.reserve_order(order(1))

    assert (refused.value.scope, refused.value.period) == (BudgetScope.OWNER, BudgetPeriod.MONTH)
    assert "user-17" not in str(refused.value)
    assert await store.get_submission("sub_1") is None
    assert await used(store) == [0]


async def test_a_soft_budget_is_only_said(store: Store) -> None:
    await store.set_budget(budget(50_000, is_hard=False))
    within, _ = await store.reserve_order(order(1))
    beyond, _ = await store.reserve_order(order(2))

    assert (within.exceeded, beyond.exceeded) == ((), ((BudgetScope.OWNER, BudgetPeriod.MONTH),))
    assert await used(store) == [80_000]


async def test_each_scope_counts_its_own_orders_and_all_of_them_must_hold(store: Store) -> None:
    for limit, scope, name in (
        (10**9, BudgetScope.ALL, ""),
        (10**9, BudgetScope.OWNER, "user-17"),
        (10**9, BudgetScope.PROVIDER, "vidgo"),
        (40_000, BudgetScope.TOKEN, "ci"),
    ):
        await store.set_budget(budget(limit, scope, name))
    await store.reserve_order(order(1, token="ci"))
    await store.reserve_order(order(2, owner="other", provider="reapi"))
    with pytest.raises(OverBudget) as refused:
        await store.reserve_order(order(3, owner="other", token="ci"))

    assert refused.value.scope is BudgetScope.TOKEN
    assert {each.budget.target: each.used for each in await store.list_budgets(NOW)} == {
        "all": 80_000,
        "owner=user-17": 40_000,
        "provider=vidgo": 40_000,
        "token=ci": 40_000,
    }


@pytest.mark.parametrize("period", BudgetPeriod)
async def test_a_budget_that_is_set_counts_what_its_period_has_used_before(
    store: Store, period: BudgetPeriod
) -> None:
    """NOW is a Saturday."""
    for number, days in enumerate((0, -1, -10, -40)):
        await store.reserve_order(order(number, quote(10**number), at=NOW + timedelta(days=days)))
    await end(store, OrderState.REFUSED, 0)
    await store.reserve_order(order(9, quote(3)))
    await store.set_budget(budget(10**6, period=period))

    expected = {"day": 3, "week": 13, "month": 113, "total": 1113}
    assert await used(store) == [expected[period]]


async def test_a_budget_that_is_set_anew_keeps_what_is_used_and_one_that_is_removed_stops_nobody(
    store: Store,
) -> None:
    await store.set_budget(budget(40_000))
    await store.reserve_order(order(1))
    await store.set_budget(budget(80_000))
    await store.reserve_order(order(2))
    with pytest.raises(OverBudget):
        await store.reserve_order(order(3))

    key = (BudgetScope.OWNER, "user-17", BudgetPeriod.MONTH)
    assert await store.remove_budget(*key)
    assert not await store.remove_budget(*key)
    await store.reserve_order(order(3))
    await store.set_budget(budget(80_000))
    assert await used(store) == [120_000]


async def test_a_hard_budget_refuses_a_model_without_a_price_unless_it_says_what_that_counts_as(
    store: Store,
) -> None:
    await store.set_budget(budget(100_000))
    with pytest.raises(OverBudget, match="without a known price"):
        await store.reserve_order(order(1, UNPRICED))
    await store.set_budget(budget(100_000, unpriced=50_000))
    for number in (2, 3):
        await store.reserve_order(order(number, UNPRICED))
    with pytest.raises(OverBudget, match="no room"):
        await store.reserve_order(order(4, UNPRICED))

    found = await total(store)
    assert (found.orders, found.unpriced, found.held) == (2, 2, 100_000)
    placed = await store.get_order("sub_2")
    assert placed is not None
    assert (placed.micros, placed.basis) == (50_000, Basis.ASSUMED)


async def test_without_a_budget_an_order_without_a_price_is_only_counted(store: Store) -> None:
    await store.reserve_order(order(1, UNPRICED))
    await bind(store)
    await store.record(recording(failed("t1")))

    found = await total(store)
    assert (found.orders, found.unpriced, found.held, found.released) == (1, 1, 0, 0)
    assert await cost_state(store) is CostState.RELEASED


# --- sums -----------------------------------------------------------------------------------------


async def test_sums_are_taken_apart_and_filtered(store: Store) -> None:
    await store.reserve_order(order(1, quote(1), owner="ann"))
    await store.reserve_order(order(2, quote(10, images=3), owner="ann", provider="reapi"))
    await store.reserve_order(order(3, quote(100), owner="bob", at=NOW + timedelta(days=1)))
    await store.reserve_order(order(4, quote(1000), owner="bob", token="ci"))

    by_owner = await store.sum_costs(CostFilter(), (CostBy.OWNER, CostBy.PROVIDER), 10)
    assert [(each.owner, each.provider, each.orders, each.images, each.held) for each in by_owner] == [
        ("ann", "reapi", 1, 3, 10),
        ("ann", "vidgo", 1, 1, 1),
        ("bob", "vidgo", 2, 2, 1100),
    ]
    days = {"since": "2026-11-21", "until": "2026-11-22"}
    wanted: Iterable[tuple[CostFilter, int]] = (
        (CostFilter(owner="bob"), 1100),
        (CostFilter(provider="reapi"), 10),
        (CostFilter(model="gpt-image-2"), 1111),
        (CostFilter(token="ci"), 1000),
        (CostFilter(**days), 1011),
        (CostFilter(owner="nobody"), 0),
    )
    for filter_, held in wanted:
        (found,) = await store.sum_costs(filter_, (), 10)
        assert found.held == held
    assert len(await store.sum_costs(CostFilter(), (CostBy.OWNER,), 1)) == 1


async def test_sums_kept_equal_a_recount_after_random_operations(store: Store) -> None:
    """The fixture recounts everything at the end."""
    chance = random.Random(16)
    scopes = [(BudgetScope.ALL, ""), (BudgetScope.OWNER, "ann"), (BudgetScope.TOKEN, "ci")]
    for number in range(150):
        now = NOW + timedelta(days=number // 3)
        task_id, id_ = f"t{chance.randrange(60)}", f"sub_{chance.randrange(number + 1)}"
        match chance.randrange(8):
            case 0:
                scope, name = chance.choice(scopes)
                period = chance.choice([*BudgetPeriod])
                given = budget(chance.randrange(400), scope, name, period, is_hard=chance.random() < 0.3)
                unpriced = chance.choice([None, 7])
                await store.set_budget(msgspec.structs.replace(given, unpriced=unpriced, set_at=now))
            case 1:
                await store.sweep_orders(later(10**6), later(10**6), 3)
            case 2 if await store.get_order(id_):
                await end(store, chance.choice([*OrderState]), int(id_[4:]))
            case 3 if await store.get_order(id_):
                await bind(store, int(id_[4:]), task_id)
            case 4:
                taken = msgspec.structs.replace(completed(task_id), credits=chance.choice(["0", "0.01"]))
                said = chance.choice([failed(task_id), completed(task_id), taken])
                await store.record(recording(said))
            case 5:
                for work in await store.lease_assets(later(1), later(2), 3):
                    await store.settle_asset(work, stored(work))
            case _:
                priced = chance.choice([quote(chance.randrange(100)), UNPRICED])
                new = order(
                    number,
                    priced,
                    owner=chance.choice(["ann", "bob"]),
                    token=chance.choice([None, "ci"]),
                    at=now,
                )
                try:
                    await store.reserve_order(new)
                except OverBudget:
                    assert await store.get_order(f"sub_{number}") is None

    assert (await total(store)).orders > 20


async def _cost(store: Store) -> Cost:
    found = await store.get_order("sub_1")
    assert found is not None
    assert found.cost is not None
    return found.cost


# --- what a provider says that it took ----------------------------------------------------------------


def took(credits_: str | None, *, files: int = 0) -> Report:
    return msgspec.structs.replace(completed("t1", files=files), is_fileless=not files, credits=credits_)


@pytest.mark.parametrize("files", [0, 1])
@pytest.mark.parametrize(("taken", "micros"), [("10.5", 52_500), ("0", 0), ("24", 120_000)])
async def test_what_a_provider_says_that_it_took_is_charged_in_place_of_the_price(
    store: Store, files: int, taken: str, micros: int
) -> None:
    await store.set_budget(budget(1_000_000))
    await store.reserve_order(order(1))
    await bind(store)
    await store.record(recording(took(taken, files=files), submission_id="sub_1"))
    if files:
        (work,) = await store.lease_assets(later(1), later(60), 1)
        await store.settle_asset(work, stored(work))
    await store.record(recording(took("99", files=files), submission_id="sub_1", body=b"another"))

    cost = await store.get_order("sub_1")
    assert cost is not None
    assert (cost.micros, cost.credits, cost.basis) == (micros, taken, Basis.REPORTED)
    assert cost.cost_state is CostState.CHARGED
    found = await total(store)
    assert (found.held, found.charged, await used(store)) == (0, micros, [micros])


async def test_an_order_without_a_price_costs_what_its_provider_says_that_it_took(store: Store) -> None:
    await store.set_budget(budget(1_000_000, is_hard=False))
    await store.reserve_order(order(1, UNPRICED))
    assert (await total(store)).unpriced == 1
    await bind(store)
    await store.record(recording(took("2"), submission_id="sub_1"))

    cost = await store.get_order("sub_1")
    assert cost is not None
    assert (cost.micros, cost.basis, cost.as_of) == (10_000, Basis.REPORTED, "2026-11-28")
    found = await total(store)
    assert (found.unpriced, found.charged, found.as_of) == (0, 10_000, "2026-11-28")
    assert await used(store) == [10_000]


async def test_what_is_told_late_counts_in_the_periods_of_its_order_that_are_not_over(store: Store) -> None:
    next_month = NOW + timedelta(days=30)
    await store.set_budget(budget(1_000_000, is_hard=False))
    await store.reserve_order(order(1, UNPRICED, at=next_month))
    await bind(store)
    day = BudgetPeriod.DAY
    await store.set_budget(budget(9, period=day, is_hard=False, at=next_month + timedelta(days=1)))
    said = recording(took("2"), submission_id="sub_1", received_at=next_month + timedelta(days=1))
    await store.record(said)
    assert await used(store, next_month + timedelta(days=1)) == [0, 10_000]


async def test_what_nobody_ordered_here_costs_nothing_whatever_is_said_of_it(store: Store) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(took("2")))
    assert (await total(store)).orders == 0
