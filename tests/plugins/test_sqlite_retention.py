"""Retention on many rows while callbacks come in: nobody waits long behind it, and no key is lost."""

import asyncio
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from receiver.clock import Clock
from receiver.models import Verdict
from receiver.options import StoreOptions
from receiver.step_pace import LEAST_AT_ONCE
from receiver.stores.sqlite import SqliteStore
from receiver.stores.sqlite.migrations import migrate
from receiver.times import to_text
from receiver.upkeep import Upkeep
from tests.support.factories import failed, recording, submission
from tests.support.recount import recount

ROWS = 50_000
DAYS = 30

# Tasks that ended long ago, each with a delivery, its body, and an attempt; their digests are their numbers.
FILL = """
CREATE TEMP TABLE n AS
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) SELECT i FROM n;
INSERT INTO submissions (number, id, provider, owner, task_id, metadata, created_at, bound_at)
    SELECT i, 'sub_' || i, 'vidgo', 'ann', 'old ' || i, '{}', :then, :then FROM n;
INSERT INTO requests SELECT i, '{"prompt": "x"}' FROM n;
INSERT INTO deliveries (number, provider, task_id, claim, digest, submission, via, proof, verdict,
    received_at, last_seen_at, body)
    SELECT i, 'vidgo', 'old ' || i, '', :digest, i, 'callback', 'provider', 'accepted', :then, :then,
    zeroblob(600) FROM n;
INSERT INTO events (number, id, via, fingerprint, received_at, type, ended_at)
    SELECT i, 'evt_' || i, 'callback', :fingerprint, :then, 'task.failed', :then FROM n;
INSERT INTO attempts (event, target, attempt, outcome, started_at, seconds)
    SELECT i, 'sink all', 1, 'delivered', :then, 0.1 FROM n;
UPDATE retention SET polls_to = :rows;
"""

LATE = recording(failed("old 1"), body=b"the very same body")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    path = tmp_path / "receiver.db"
    migrate(path)
    values = {
        "rows": ROWS,
        "then": to_text(Clock().now() - timedelta(days=2 * DAYS)),
        "digest": LATE.digest,
        "fingerprint": LATE.fingerprint,
    }
    with closing(sqlite3.connect(path)) as connection:
        for statement in FILL.split(";\n")[:-1]:
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(statement, used)
        recount(connection)
        connection.commit()
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=tmp_path, clock=Clock()))
    yield store
    await store.aclose()


async def record_some(store: SqliteStore, name: str, count: int) -> list[float]:
    """Callbacks one after the other; the seconds that each waited for its commit."""
    waits = []
    for number in range(count):
        task_id = f"{name} {number}"
        await store.log_submission(submission(task_id))
        began = time.perf_counter()
        await store.record(recording(failed(task_id), received_at=Clock().now()))
        waits.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)
    return waits


def bodies(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM deliveries WHERE body IS NOT NULL").fetchone()
    return int(count)


async def test_callbacks_hardly_wait_for_retention_however_much_there_is_to_drop(
    store: SqliteStore, tmp_path: Path
) -> None:
    upkeep = Upkeep(
        store=store, clock=Clock(), early_ttl_seconds=86_400, retention_days=DAYS, lost_after_seconds=86_400
    )
    before = await record_some(store, "before", 120)

    purging = asyncio.create_task(upkeep.run())
    during = await record_some(store, "during", 120)
    dropped = ROWS + len(before) + len(during) - bodies(tmp_path / "receiver.db")
    purging.cancel()
    await asyncio.wait([purging])

    assert dropped >= 2 * LEAST_AT_ONCE  # it was really at work
    # Below this floor a difference is the machine's, not ours.
    assert statistics.median(during) < max(2 * statistics.median(before), 0.02)


async def test_after_retention_a_very_late_repeat_of_any_age_is_still_a_repeat(
    store: SqliteStore, tmp_path: Path
) -> None:
    before = Clock().now() - timedelta(days=DAYS)
    while await store.purge(before, 5_000):
        pass

    assert bodies(tmp_path / "receiver.db") == 0
    assert (await store.record(LATE)).status is Verdict.DUPLICATE
    task = await store.get_task("vidgo", "old 1")
    assert task is not None
    assert [(each.verdict, each.seen) for each in task.deliveries] == [(Verdict.DUPLICATE, 1)]
    assert (task.attempts, task.submission.request) == ((), None)
    stats = await store.count_stats()
    # The newest of all is the measure of the next one's number.
    assert (stats.submissions, stats.deliveries) == (ROWS, {"accepted": 1, "duplicate": 1})
