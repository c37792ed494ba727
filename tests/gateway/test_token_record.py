"""What the record keeps of gateway tokens, the same on both engines."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from receiver.models import GatewayToken
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.testing import TurnableClock
from tests.support.engines import ENGINES, place_on
from tests.support.factories import NOW, later


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    place = place_on(request.param, request)
    store = await place.open(StoreOptions(data_dir=Path(), clock=TurnableClock()))
    yield store
    await store.aclose()


def token(name: str, hash_: str, seconds: float = 0) -> GatewayToken:
    return GatewayToken(
        name=name,
        hash=hash_,
        providers=("vidgo", "apixo"),
        models=("a/b",),
        owner="user-17",
        created_at=later(seconds),
        expires_at=later(100),
    )


async def test_tokens_come_back_as_they_were_and_no_name_is_given_twice(store: Store) -> None:
    first, second = token("ci", "h1"), token("app", "h2", 1)
    assert await store.add_gateway_token(first)
    assert await store.add_gateway_token(second)
    assert not await store.add_gateway_token(token("ci", "h3", 2))
    assert await store.list_gateway_tokens() == [first, second]


async def test_one_is_revoked_once(store: Store) -> None:
    await store.add_gateway_token(token("ci", "h1"))
    assert await store.revoke_gateway_token("ci", later(5))
    assert not await store.revoke_gateway_token("ci", later(6))
    assert not await store.revoke_gateway_token("another", later(6))
    (kept,) = await store.list_gateway_tokens()
    assert kept.revoked_at == later(5)
    assert [
        kept.is_good(NOW),
        token("ci", "h1").is_good(later(99)),
        token("ci", "h1").is_good(later(100)),
    ] == [
        False,
        True,
        False,
    ]
