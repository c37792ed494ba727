"""What a kill would leave of the record: the files as they are after every commit, opened elsewhere."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from receiver.clock import Clock
from receiver.models import Outcome, Recording
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from tests.contracts.store import ROUTES
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

pytestmark = pytest.mark.slow  # a copy of the files for each commit

# What must hold at every instant, as the rows that contradict it.
CONTRADICTIONS = {
    "a task that ended, and a sink that wants it has no entry": """
        SELECT e.number FROM events e, json_each('["all", "failures"]') sinks
        WHERE e.type IS NOT NULL AND (sinks.value = 'all' OR e.type = 'task.failed')
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE event = e.number AND sink = sinks.value)
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


class Kills:
    """Keeps what a kill at this instant would leave behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.images: list[Path] = []

    def keep(self) -> None:
        self.take()

    def take(self) -> Path:
        """The files as they are now; what only a process knew is not among them."""
        image = self._folder / f"image-{len(self.images)}"
        image.mkdir()
        for path in (self._folder / "data").glob("receiver.db*"):
            if path.suffix in {".db", ".db-wal"}:
                shutil.copy(path, image)
        self.images.append(image)
        return image

    def contradictions(self) -> Iterator[str]:
        for image in self.images:
            with closing(sqlite3.connect(image / "receiver.db")) as db:
                for what, query in CONTRADICTIONS.items():
                    if rows := db.execute(query).fetchall():
                        yield f"{image.name}: {what}: {rows}"


@pytest.fixture
def kills(tmp_path: Path) -> Kills:
    return Kills(tmp_path)


@pytest.fixture
async def store(tmp_path: Path, kills: Kills) -> AsyncIterator[SqliteStore]:
    """A store that is killed, in a way, after every commit: before whoever waited for it hears of it."""
    options = StoreOptions(
        data_dir=tmp_path / "data", clock=Clock(), routes=ROUTES, observe=lambda _, __: kills.keep()
    )
    store = await SqliteStore.open("sqlite:receiver.db", options)
    yield store
    await store.aclose()


async def test_a_kill_between_any_two_commits_leaves_a_record_that_agrees_with_itself(
    store: SqliteStore, kills: Kills
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
        await store.settle_outbox(entry, settlement(Outcome.DELIVERED))

    assert len(kills.images) > 15
    assert list(kills.contradictions()) == []


@pytest.mark.parametrize("at_once", [1, 20])
async def test_what_was_answered_is_in_the_files_that_a_kill_leaves_at_that_instant(
    store: SqliteStore, kills: Kills, at_once: int
) -> None:
    async def answered(record: Recording) -> tuple[str, Path]:
        await store.record(record)
        return record.digest, kills.take()

    records = [recording(completed(f"t{number}")) for number in range(at_once)]
    answers = await asyncio.gather(*map(answered, records))

    for digest, image in answers:
        with closing(sqlite3.connect(image / "receiver.db")) as db:
            assert db.execute("SELECT count(*) FROM deliveries WHERE digest = ?", (digest,)).fetchone() == (
                1,
            )
