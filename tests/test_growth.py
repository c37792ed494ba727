"""A year of tasks on a real record, by a clock that the test turns: what stays of each, and what does not."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec

from receiver.models import Outcome, RemoteFile, Report, ReportState, Route
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock
from receiver.upkeep import Upkeep
from tests.support.blank_record import lay_blank_record
from tests.support.factories import NOW, recording, settlement, stored, submission

DAY = 86_400
DAYS_AT_ONCE = 3
TASKS_AT_ONCE = 24
RETENTION_DAYS = 30
QUARTER = 90
BYTES_OF_A_TASK = 900
BODY = b'{"code": 200, "data": {"task_id": "%b", "status": "finished", "files": [], "progress": 100}}'
DROPPED = """
SELECT (SELECT count(*) FROM deliveries WHERE body IS NOT NULL),
    (SELECT count(*) FROM requests), (SELECT count(*) FROM links),
    (SELECT count(*) FROM attempts), (SELECT count(*) FROM unended), (SELECT count(*) FROM polls)
"""
# What is in use: pages that purging has emptied are there for what comes.
IN_USE = """
SELECT (page_count - freelist_count) * page_size
FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""


async def test_a_year_of_tasks_leaves_keys_that_dedupe_and_nothing_else_that_grows(tmp_path: Path) -> None:
    clock = TurnableClock(NOW)
    options = StoreOptions(data_dir=tmp_path, clock=clock, routes=[Route(sink="app")])
    lay_blank_record(tmp_path)
    store = await SqliteStore.open("sqlite:receiver.db", options)
    upkeep = Upkeep(
        store=store,
        clock=clock,
        early_ttl_seconds=DAY,
        retention_days=RETENTION_DAYS,
        lost_after_seconds=DAY,
    )
    kept: list[tuple[int, ...]] = []
    in_use: list[int] = []
    for day in range(DAYS_AT_ONCE, 4 * QUARTER + 1, DAYS_AT_ONCE):
        await live_on(store, clock.now(), day)
        clock.turn(DAYS_AT_ONCE * DAY)
        await upkeep.run()
        if day % QUARTER == 0:
            kept.append(look(tmp_path, DROPPED))
            in_use += look(tmp_path, IN_USE)
    await store.aclose()

    assert len(set(kept)) == 1, kept
    bodies, requests, links, attempts, unended, polls = kept[0]
    assert bodies == requests == links == TASKS_AT_ONCE * RETENTION_DAYS // DAYS_AT_ONCE
    assert attempts == 3 * TASKS_AT_ONCE * RETENTION_DAYS // DAYS_AT_ONCE
    assert unended == polls == 0
    of_a_task = [
        (after - before) / (QUARTER * TASKS_AT_ONCE / DAYS_AT_ONCE) for before, after in pairwise(in_use)
    ]
    assert max(of_a_task) < BYTES_OF_A_TASK, of_a_task


async def live_on(store: SqliteStore, now: datetime, day: int) -> None:
    """Tasks that are ordered, end with an image at the second try, and are told of."""
    ids = [f"task-unified-{1_757_165_031 + day}-{number:08d}" for number in range(TASKS_AT_ONCE)]
    await asyncio.gather(*(order(store, task_id, now) for task_id in ids))
    await asyncio.gather(*(end(store, task_id, now) for task_id in ids))
    for again in (True, False):
        works = await store.lease_assets(now, now, TASKS_AT_ONCE)
        late = settlement(Outcome.TIMEOUT, at=now, retry_at=now)
        await asyncio.gather(
            *(store.settle_asset(work, late if again else stored(work, at=now)) for work in works)
        )
    told = await store.lease_outbox("app", now, now, TASKS_AT_ONCE)
    delivered = settlement(Outcome.DELIVERED, at=now)
    assert all(await store.settle_outbox_batch([(entry, delivered) for entry in told]))


async def order(store: SqliteStore, task_id: str, now: datetime) -> None:
    logged = submission(task_id)
    await store.log_submission(msgspec.structs.replace(logged, created_at=now, bound_at=now))


async def end(store: SqliteStore, task_id: str, now: datetime) -> None:
    link = f"https://storage.example.com/generated/2026/11/{task_id}/image-abc123.png"
    report = Report(task_id=task_id, state=ReportState.COMPLETED, files=(RemoteFile(url=link, kind="image"),))
    body = BODY.replace(b"%b", task_id.encode()) + b" " * 400
    await store.record(recording(report, body=body, received_at=now, links_die_at=now + timedelta(days=1)))


def look(folder: Path, query: str) -> tuple[int, ...]:
    with closing(sqlite3.connect(folder / "receiver.db")) as connection:
        (row,) = connection.execute(query).fetchall()
        return tuple(row)
