"""Orders without an answer: listed, given up in time, and resolved by a person; the same on both engines."""

from datetime import timedelta
from pathlib import Path

import httpx2
import msgspec
import pytest

from receiver.models import NewOrder, OrderEnd, OrderFilter, OrderState
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.testing import TurnableClock
from tests.gateway.test_orders import order
from tests.support.engines import ENGINES, Place, on_both_engines, place_on
from tests.support.factories import NOW, later, submission
from tests.support.order_host import OrderHost, hangs_up


def new_order(number: int, guard: str | None = None, *, sent_at_seconds: float = 0) -> NewOrder:
    sent_at = later(sent_at_seconds)
    return NewOrder(
        submission=msgspec.structs.replace(submission(None, id_=f"sub_{number}"), created_at=sent_at),
        credential="c",
        upstream_key="k",
        guard=guard,
        digest="d",
        guard_since=sent_at - timedelta(seconds=600),
        lease_until=sent_at + timedelta(seconds=150),
    )


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> Place:
    return place_on(request.param, request)


OPTIONS = StoreOptions(data_dir=Path(), clock=TurnableClock())


async def states(store: Store) -> dict[str, OrderState]:
    page = await store.list_orders(OrderFilter(), 100, None)
    return {row.submission_id: row.state for row in page.orders}


async def test_what_a_process_was_sending_when_it_ended_is_unknown_and_is_not_sent_again(
    place: Place,
) -> None:
    store = await place.open(OPTIONS)
    await store.reserve_order(new_order(1, "key/1"))
    await store.aclose()
    store = await place.open(OPTIONS)
    try:
        assert await states(store) == {"sub_1": OrderState.UNKNOWN}
        known, is_new = await store.reserve_order(new_order(2, "key/1"))
        assert (known.submission_id, known.state, is_new) == ("sub_1", OrderState.UNKNOWN, False)
    finally:
        await store.aclose()


async def test_another_process_that_starts_leaves_alone_what_is_being_sent(
    request: pytest.FixtureRequest,
) -> None:
    place = place_on("postgres", request)
    store = await place.open(OPTIONS)
    other = await place.open(OPTIONS)
    try:
        await store.reserve_order(new_order(1))
        await other.aclose()
        assert await states(store) == {"sub_1": OrderState.SENDING}
        await store.sweep_orders(later(149), later(-86_400), 10)
        assert await states(store) == {"sub_1": OrderState.SENDING}
        await store.sweep_orders(later(151), later(-86_400), 10)
        assert await states(store) == {"sub_1": OrderState.UNKNOWN}
    finally:
        await store.aclose()


async def test_a_guard_keeps_equal_orders_out_for_its_time_only(place: Place) -> None:
    store = await place.open(OPTIONS)
    try:
        assert (await store.reserve_order(new_order(1, "body/1")))[1]
        assert not (await store.reserve_order(new_order(2, "body/1", sent_at_seconds=600)))[1]
        assert (await store.reserve_order(new_order(3, "body/1", sent_at_seconds=601)))[1]
        assert (await store.reserve_order(new_order(4)))[1]
        assert (await store.reserve_order(new_order(5)))[1]
    finally:
        await store.aclose()


async def test_what_stays_unknown_is_unresolved_until_a_callback_or_a_person_says_more(place: Place) -> None:
    store = await place.open(OPTIONS)
    try:
        for number in (1, 2, 3):
            await store.reserve_order(new_order(number))
            await store.settle_order(f"sub_{number}", OrderEnd(state=OrderState.UNKNOWN), NOW)
        assert await store.sweep_orders(later(10), later(1), 10) == 3
        assert set((await states(store)).values()) == {OrderState.UNRESOLVED}
        await store.bind_submission("sub_1", "t1", later(20))
        await store.withdraw_submission("sub_2", later(20))
        expected = {"sub_1": OrderState.BOUND, "sub_2": OrderState.UNSENT, "sub_3": OrderState.UNRESOLVED}
        assert await states(store) == expected
        await store.sweep_orders(later(30), later(1), 10)
        assert await states(store) == expected
        page = await store.list_orders(OrderFilter(state=OrderState.UNRESOLVED), 10, None)
        assert [row.submission_id for row in page.orders] == ["sub_3"]
    finally:
        await store.aclose()


@on_both_engines
async def test_unknown_orders_are_listed_and_counted_and_a_person_resolves_them(
    client: httpx2.AsyncClient, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers += [hangs_up, hangs_up, hangs_up]
    bodies = [b'{"model":"m","input":{"n":%d}}' % number for number in range(3)]
    ids = [(await order(client, body)).headers["x-receiver-submission"] for body in bodies]
    listed = (await backend.get("/orders", params={"state": "unknown", "limit": "2"})).json()
    assert [row["submission_id"] for row in listed["orders"]] == [ids[2], ids[1]]
    more = {"state": "unknown", "limit": "2", "cursor": listed["next_cursor"]}
    assert [row["submission_id"] for row in (await backend.get("/orders", params=more)).json()["orders"]] == [
        ids[0]
    ]
    await backend.patch(f"/submissions/{ids[0]}", json={"task_id": "t1"})
    await backend.request("DELETE", f"/submissions/{ids[1]}")
    assert sum((await admin.get("/stats")).json()["unknown_orders"].values()) == 1
    shown = [(await backend.get(f"/orders/{each}")).json()["state"] for each in ids]
    assert shown == ["bound", "unsent", "unknown"]
    # What never arrived may be ordered again.
    upstream.answers.append(hangs_up)
    assert (await order(client, bodies[1])).status_code == 504
    assert len(upstream.orders) == 4


async def test_another_owners_orders_are_not_shown(backend: httpx2.AsyncClient) -> None:
    assert (await backend.get("/orders/sub_nobodys")).status_code == 404
    assert (await backend.get("/orders", params={"state": "odd"})).status_code == 400
