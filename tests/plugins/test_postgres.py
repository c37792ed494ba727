"""The PostgreSQL store: the contracts, and what is special to a server."""

from pathlib import Path

import pytest

from receiver.ports import Store
from receiver.stores.postgres import PostgresStore
from tests.contracts.opening import store_options
from tests.contracts.store import OpenStore, StoreContract
from tests.contracts.store_polls import PollsContract
from tests.contracts.store_replays import ReplaysContract
from tests.contracts.store_shares import SharesContract
from tests.support.postgres import ScratchRecord


@pytest.fixture
def open_store(postgres_record: ScratchRecord, tmp_path: Path) -> OpenStore:
    async def open_store() -> Store:
        return await PostgresStore.open(postgres_record.url, store_options(tmp_path))

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
