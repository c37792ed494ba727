"""A gateway before one provider's API on loopback that the test answers for."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.types import ASGIApp

from tests.support.order_host import OrderHost, order_host
from tests.support.web_callers import caller

KEY = "the-providers-own-key"
PROVIDERS = ("VIDGO", "APIDOT", "APIXO", "REAPI")


@pytest.fixture
async def upstream() -> AsyncIterator[OrderHost]:
    async with order_host() as host:
        yield host


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    """What a test module may override."""
    return {}


@pytest.fixture
def environment(upstream: OrderHost, gateway_settings: dict[str, str]) -> dict[str, str]:
    return {
        "RECEIVER_GATEWAY": "true",
        **{f"{name}_BASE_URL": upstream.url for name in PROVIDERS},
        **{f"{name}_API_KEY": KEY for name in PROVIDERS},
        **gateway_settings,
    }


@pytest.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A program that ordered from the provider itself until its base URL was changed."""
    async with caller(app, KEY) as client:
        yield client
