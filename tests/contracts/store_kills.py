"""What a kill leaves of the record: looked at after every commit, before anybody hears of it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from receiver.models import Outcome, Recording
from receiver.ports import Store
from tests.support.factories import (
    NOW,
    completed,
    failed,
    later,
    progress,
    recording,
    settlement,
    stored,
    submission,
)
from tests.support.settling import settle_outbox

# What must hold at every instant, as the rows that contradict it.
CONTRADICTIONS = {
    "a task that ended, and a sink that wants it has no entry": """
        SELECT e.number FROM events e JOIN (SELECT 'all' AS name UNION ALL SELECT 'failures') sinks
        ON sinks.name = 'all' OR e.type = 'task.failed'
        WHERE e.type IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE event = e.number AND sink = sinks.name)
    """,
    "an accepted delivery without its event": """
        SELECT number FROM deliveries
        WHERE verdict = 'accepted' AND submission NOT IN (SELECT number FROM events)
    """,
    "an event that has not ended, and no file to wait for": """
        SELECT number FROM events WHERE type IS NULL
        AND NOT EXISTS (SELECT 1 FROM assets WHERE event = events.number AND state = 'pending')
    """,
    "an early delivery whose submission is logged": """
        SELECT d.number FROM deliveries d JOIN submissions s USING (provider, task_id)
        WHERE d.verdict = 'early'
    """,
    "a stored file without its facts": """
        SELECT event FROM assets
        WHERE state = 'stored' AND (key IS NULL OR sha256 IS NULL OR bytes IS NULL OR media_type IS NULL)
    """,
}


class Left(ABC):
    """Looks at what a kill at this instant would leave behind; a backend says where that is."""

    def __init__(self) -> None:
        self.looks = 0
        self.contradictions: list[str] = []

    @abstractmethod
    def find(self, *queries: str) -> list[list[Any]]:
        """The rows of each query: of what is committed, nothing that only a process knows."""

    def look(self, rows: int, seconds: float) -> None:
        """Observes commits."""
        self.looks += 1
        for what, found in zip(CONTRADICTIONS, self.find(*CONTRADICTIONS.values()), strict=True):
            if found:
                self.contradictions.append(f"after commit {self.looks}: {what}: {found}")


OpenObserved = Callable[[Callable[[int, float], None]], Awaitable[Store]]


class KillsContract:
    """Subclasses give ``left``, and an ``open_observed`` that opens a record with an observer of commits."""

    @pytest.fixture
    async def store(self, open_observed: OpenObserved, left: Left) -> AsyncIterator[Store]:
        store = await open_observed(left.look)
        yield store
        await store.aclose()

    async def test_a_kill_between_any_two_commits_leaves_a_record_that_agrees_with_itself(
        self, store: Store, left: Left
    ) -> None:
        await store.record(recording(progress("early"), body=b"1"))
        await store.record(recording(completed("early", files=2), body=b"2"))
        await store.record(recording(failed("bound early")))
        await store.log_submission(submission("early"))
        row, _ = await store.log_submission(submission(None))
        await store.bind_submission(row.id, "bound early", NOW)
        await store.log_submission(submission("failed"))
        await store.record(recording(failed("failed")))
        await store.record(recording(completed("failed")))
        await store.log_submission(submission("no files"))
        await store.record(recording(completed("no files", files=0)))
        for work in await store.lease_assets(later(1), later(60), 10):
            await store.settle_asset(work, settlement(Outcome.GONE) if work.index else stored(work))
        for entry in await store.lease_outbox("all", later(1), later(60), 10):
            await settle_outbox(store, entry, settlement(Outcome.DELIVERED))

        assert left.looks > 15
        assert left.contradictions == []

    @pytest.mark.parametrize("at_once", [1, 20])
    async def test_what_was_answered_is_in_what_a_kill_leaves_at_that_instant(
        self, store: Store, left: Left, at_once: int
    ) -> None:
        async def answered(record: Recording) -> bool:
            await store.record(record)
            (kept,) = left.find("SELECT digest FROM deliveries")
            return (record.digest,) in kept

        tasks = [f"t{number}" for number in range(at_once)]
        await asyncio.gather(*(store.log_submission(submission(task)) for task in tasks))

        assert all(await asyncio.gather(*(answered(recording(completed(task))) for task in tasks)))
