"""What a store is opened with to be held to the contracts."""

from pathlib import Path

from receiver.clock import Clock
from receiver.options import StoreOptions
from tests.contracts.replaying import LINK_LIFE_SECONDS
from tests.contracts.store import EARLY_LIMIT, ROUTES
from tests.contracts.store_polls import FIRST_POLL_SECONDS, UNPOLLED
from tests.support.factories import confirms_weak


def store_options(data_dir: Path) -> StoreOptions:
    return StoreOptions(
        data_dir=data_dir,
        clock=Clock(),
        routes=ROUTES,
        first_poll_seconds=FIRST_POLL_SECONDS,
        link_life_seconds=LINK_LIFE_SECONDS,
        confirms=confirms_weak,
        unpolled=UNPOLLED,
        early_limit=EARLY_LIMIT,
    )
