"""A runtime whose store fails, for what the doors then say."""

import time
from typing import NoReturn, cast

import msgspec

from receiver.ingest import Ingest
from receiver.metrics import RecentCount
from receiver.ports import Store
from receiver.runtime import Runtime


class FailingStore:
    """A store that fails at what the doors need first."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def record(self, recording: object) -> NoReturn:
        raise self._error

    async def get_task(self, provider: str, task_id: str) -> NoReturn:
        raise self._error

    async def count_stats(self) -> NoReturn:
        raise self._error


def over_failing_store(runtime: Runtime, error: Exception) -> Runtime:
    """The same runtime for the doors, but that whatever they want of the store ends in ``error``."""
    store = FailingStore(error)
    ingest = Ingest(
        store=cast("Store", store),
        providers=runtime.providers,
        tokens=runtime.tokens,
        allow_untokened=False,
        wake=runtime.worker.wake,
    )
    stats = RecentCount(store.count_stats, time.monotonic)
    return msgspec.structs.replace(runtime, store=store, ingest=ingest, stats=stats)
