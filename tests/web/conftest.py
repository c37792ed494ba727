"""People at the admin pages, logged in."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.types import ASGIApp

from tests.support.page_callers import OURS, VIEWER_TOKEN, browser, log_in
from tests.support.web_callers import ADMIN_TOKEN


@pytest.fixture
async def person(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """An admin at a browser."""
    async with browser(app) as client:
        await log_in(client, ADMIN_TOKEN)
        client.headers.update(OURS)
        yield client


@pytest.fixture
async def viewer(app: ASGIApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A viewer at a browser; RECEIVER_VIEWER_TOKENS must hold VIEWER_TOKEN."""
    async with browser(app) as client:
        await log_in(client, VIEWER_TOKEN)
        client.headers.update(OURS)
        yield client
