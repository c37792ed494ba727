"""The PostgreSQL store: the contracts, and what is special to a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.clock import Clock
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.stores.postgres import PostgresStore
from tests.contracts.replaying import LINK_LIFE_SECONDS
from tests.contracts.store import EARLY_LIMIT, ROUTES, OpenStore, StoreContract
from tests.contracts.store_polls import FIRST_POLL_SECONDS, UNPOLLED, PollsContract
from tests.contracts.store_replays import ReplaysContract
from tests.contracts.store_shares import SharesContract
from tests.support.factories import confirms_weak
from tests.support.postgres import scratch_database, scratch_schema


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


@pytest.fixture
def url(database: str) -> Iterator[str]:
    with scratch_schema(database) as url:
        yield url


def options(data_dir: Path, early_limit: int = EARLY_LIMIT) -> StoreOptions:
    return StoreOptions(
        data_dir=data_dir,
        clock=Clock(),
        routes=ROUTES,
        first_poll_seconds=FIRST_POLL_SECONDS,
        link_life_seconds=LINK_LIFE_SECONDS,
        confirms=confirms_weak,
        unpolled=UNPOLLED,
        early_limit=early_limit,
    )


@pytest.fixture
def open_store(url: str, tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await PostgresStore.open(url, options(tmp_path))

    return open_store


class TestPostgresStore(StoreContract):
    """What is kept, and how it ends."""


@pytest.mark.slow
class TestPostgresShares(SharesContract):
    """Whose files are fetched next."""


class TestPostgresPolls(PollsContract):
    """What is asked of providers."""


@pytest.mark.slow
class TestPostgresReplays(ReplaysContract):
    """What is done again."""
