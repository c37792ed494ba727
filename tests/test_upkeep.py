"""What time does to the record: on a real store, by a clock that the test turns."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from receiver.errors import Unavailable
from receiver.models import Outcome, Route, Verdict
from receiver.options import StoreOptions
from receiver.step_pace import StepPace
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock
from receiver.upkeep import Upkeep
from tests.support.blank_record import lay_blank_record
from tests.support.factories import (
    NOW,
    completed,
    confirms_weak,
    failed,
    progress,
    recording,
    settlement,
    stored,
    submission,
    unclear,
)
from tests.support.settling import settle_outbox

HOUR, DAY = 3600, 86_400
EARLY_LIMIT = 2


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock(NOW)


@pytest.fixture
async def store(tmp_path: Path, clock: TurnableClock) -> AsyncIterator[SqliteStore]:
    options = StoreOptions(
        data_dir=tmp_path, clock=clock, routes=[Route(sink="all")], early_limit=EARLY_LIMIT
    )
    lay_blank_record(tmp_path)
    store = await SqliteStore.open("sqlite:receiver.db", options)
    yield store
    await store.aclose()


@pytest.fixture
def upkeep(store: SqliteStore, clock: TurnableClock) -> Upkeep:
    return upkeep_of(store, clock)


def upkeep_of(store: SqliteStore, clock: TurnableClock, **pace: Any) -> Upkeep:
    return Upkeep(
        store=store,
        clock=clock,
        early_ttl_seconds=DAY,
        retention_days=30,
        lost_after_seconds=2 * DAY,
        pace=StepPace(**pace),
    )


async def end_task(store: SqliteStore, clock: TurnableClock, task_id: str, *, deliver: bool = True) -> None:
    """One failed task with all its traces."""
    now = clock.now()
    await store.log_submission(msgspec.structs.replace(submission(task_id), created_at=now))
    await store.record(recording(failed(task_id), received_at=now))
    for work in await store.lease_outbox("all", now, now, 100) if deliver else []:
        await settle_outbox(store, work, settlement(Outcome.DELIVERED, at=now))


async def test_events_of_a_sink_that_is_not_set_any_more_are_noted_until_somebody_acts(
    tmp_path: Path, clock: TurnableClock
) -> None:
    options = StoreOptions(data_dir=tmp_path, clock=clock, routes=[Route(sink="all")])
    before = await SqliteStore.open("sqlite:receiver.db", options)
    await end_task(before, clock, "t1", deliver=False)
    await before.aclose()
    renamed = msgspec.structs.replace(options, routes=[Route(sink="new")])
    store = await SqliteStore.open("sqlite:receiver.db", renamed)
    upkeep = upkeep_of(store, clock)
    assert upkeep.note() is None
    with capture_logs() as logs:
        await upkeep.run()
        await upkeep.run()
    assert upkeep.note() == "events wait for sinks that are not set: all (1)"
    assert [(line["event"], line["sink"], line["waiting"]) for line in logs] == [("sink.not_set", "all", 1)]

    await store.drop_undelivered(await store.list_undelivered("all", 10), "all")
    await upkeep.run()
    assert upkeep.note() is None
    await store.aclose()


async def verdict_of(store: SqliteStore, task_id: str, *, received: TurnableClock) -> Verdict:
    """What the same callback is taken for now."""
    return (await store.record(recording(failed(task_id), received_at=received.now()))).status


def count(folder: Path, query: str) -> int:
    with closing(sqlite3.connect(folder / "receiver.db")) as connection:
        (number,) = connection.execute(query).fetchone()
        return int(number)


BODIES = "SELECT count(*) FROM deliveries WHERE body IS NOT NULL"
REQUESTS = "SELECT count(*) FROM requests"
ATTEMPTS = "SELECT count(*) FROM attempts"


# --- early deliveries -----------------------------------------------------------------------------------


async def test_an_early_delivery_waits_as_long_as_it_may_and_not_longer(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock
) -> None:
    await store.record(recording(failed("t1")))
    for seconds, deliveries in ((DAY, {"early": 1}), (1, {"unowned": 1})):
        clock.turn(seconds)
        await upkeep.run()
        assert (await store.count_stats()).deliveries == deliveries


async def test_a_clock_set_forward_takes_no_early_delivery_from_its_submission_and_no_body(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await store.record(recording(failed("t1")))
    clock.leap(400 * DAY)
    await upkeep.run()
    clock.turn(DAY - 1)
    await upkeep.run()
    assert (await store.count_stats()).deliveries == {"early": 1}
    assert count(tmp_path, BODIES) == 1
    clock.turn(1)
    await upkeep.run()
    assert (await store.count_stats()).deliveries == {"unowned": 1}


async def test_until_then_its_submission_makes_it_an_event(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock
) -> None:
    await store.record(recording(failed("t1")))
    clock.turn(DAY)
    await upkeep.run()
    await store.log_submission(submission("t1"))
    event = await store.get_event("vidgo", "t1")
    assert event is not None
    assert event.received_at == NOW


async def test_what_nobody_claimed_makes_no_event_later(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock
) -> None:
    await store.record(recording(failed("t1")))
    clock.turn(DAY + 1)
    await upkeep.run()
    await store.log_submission(submission("t1"))
    assert await store.get_event("vidgo", "t1") is None
    # But the provider, asking again, is heard as if for the first time.
    assert await verdict_of(store, "t1", received=clock) is Verdict.ACCEPTED


async def test_expiry_makes_room_for_other_early_deliveries(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock
) -> None:
    for number in range(EARLY_LIMIT):
        await store.record(recording(failed(f"t{number}")))
    with pytest.raises(Unavailable):
        await verdict_of(store, "t9", received=clock)
    clock.turn(DAY + 1)
    await upkeep.run()
    assert await verdict_of(store, "t9", received=clock) is Verdict.EARLY


async def test_what_was_never_understood_does_not_keep_others_out_for_ever(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock
) -> None:
    for number in range(EARLY_LIMIT):
        await store.record(recording(unclear(f"t{number}")))
    clock.turn(400 * DAY)
    await upkeep.run()
    assert await verdict_of(store, "t9", received=clock) is Verdict.EARLY


async def test_what_is_unowned_keeps_its_key_and_not_its_body(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await store.record(recording(failed("t1")))
    for seconds, bodies in ((DAY, 1), (1, 0)):
        clock.turn(seconds)
        await upkeep.run()
        assert count(tmp_path, BODIES) == bodies
    assert (await store.count_stats()).deliveries == {"unowned": 1}


async def test_what_nobody_understood_is_kept_until_retention_or_while_its_task_is_open(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await store.record(recording(unclear(None)))
    await store.log_submission(submission("t1"))
    await store.record(recording(unclear("t1")))
    for seconds, bodies in ((DAY + 1, 2), (29 * DAY - 1, 2), (1, 1), (300 * DAY, 1)):
        clock.turn(seconds)
        await upkeep.run()
        assert count(tmp_path, BODIES) == bodies
    assert (await store.count_stats()).deliveries == {"unowned": 1, "unrecognised": 1}

    await store.record(recording(failed("t1"), received_at=clock.now()))
    await upkeep.run()

    assert count(tmp_path, BODIES) == 1  # of the end, which is young
    assert count(tmp_path, "SELECT count(*) FROM spared") == 0


async def test_what_waits_for_its_confirmation_is_kept_while_its_task_is_open(
    tmp_path: Path, clock: TurnableClock
) -> None:
    options = StoreOptions(data_dir=tmp_path, clock=clock, confirms=confirms_weak)
    store = await SqliteStore.open("sqlite:receiver.db", options)
    upkeep = upkeep_of(store, clock)
    await store.log_submission(submission("t1"))
    await store.record(recording(progress("t1")))
    await store.record(recording(completed("t1"), weak=True))
    clock.turn(60 * DAY)
    await upkeep.run()
    assert count(tmp_path, f"{BODIES} AND verdict = 'progress'") == 0
    assert count(tmp_path, f"{BODIES} AND verdict = 'unconfirmed'") == 1
    await store.aclose()


async def test_all_that_nobody_claimed_becomes_unowned_in_one_round(
    store: SqliteStore, clock: TurnableClock
) -> None:
    for number in range(EARLY_LIMIT):
        await store.record(recording(failed(f"t{number}")))
    clock.turn(DAY + 1)
    await upkeep_of(store, clock, least=1).run()
    assert (await store.count_stats()).deliveries == {"unowned": EARLY_LIMIT}


# --- polls of providers nobody asks ---------------------------------------------------------------------


POLLS = "SELECT count(*) FROM polls"


async def test_a_task_that_has_ended_is_not_waited_for_any_more(tmp_path: Path, clock: TurnableClock) -> None:
    options = StoreOptions(data_dir=tmp_path, clock=clock, first_poll_seconds={"vidgo": 300.0})
    store = await SqliteStore.open("sqlite:receiver.db", options)
    try:
        for number in range(7):
            await store.log_submission(submission(f"t{number}"))
        for number in range(6):
            await store.record(recording(failed(f"t{number}")))
        assert count(tmp_path, POLLS) == 7
        await upkeep_of(store, clock, least=2).run()
        assert count(tmp_path, POLLS) == 1  # of the one that still runs
    finally:
        await store.aclose()


# --- retention ------------------------------------------------------------------------------------------


async def test_retention_drops_bodies_attempts_and_prompts_and_keeps_the_facts(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await end_task(store, clock, "t1")
    assert [count(tmp_path, query) for query in (BODIES, REQUESTS, ATTEMPTS)] == [1, 1, 1]
    before = await store.get_event("vidgo", "t1")
    clock.turn(30 * DAY)
    await upkeep.run()
    assert count(tmp_path, BODIES) == 1
    clock.turn(1)
    await upkeep.run()
    assert [count(tmp_path, query) for query in (BODIES, REQUESTS, ATTEMPTS)] == [0, 0, 0]
    after = await store.get_event("vidgo", "t1")
    assert before is not None
    assert after is not None
    assert (after.id, after.type, after.error_message) == (before.id, before.type, before.error_message)
    assert after.submission.metadata == before.submission.metadata


async def test_a_repeat_years_later_is_still_a_repeat(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await end_task(store, clock, "t1")
    clock.turn(1000 * DAY)
    await upkeep.run()
    assert await verdict_of(store, "t1", received=clock) is Verdict.DUPLICATE
    assert count(tmp_path, BODIES) == 0


async def test_what_a_sink_still_lacks_outlives_the_raw_body(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await end_task(store, clock, "t1", deliver=False)
    clock.turn(31 * DAY)
    await upkeep.run()
    assert count(tmp_path, BODIES) == 0
    (work,) = await store.lease_outbox("all", clock.now(), clock.now(), 1)
    assert work.event.error_message == "refused"


async def test_a_file_still_to_be_fetched_outlives_the_raw_body(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await store.log_submission(submission("t1"))
    await store.record(recording(completed("t1")))
    clock.turn(31 * DAY)
    await upkeep.run()
    assert count(tmp_path, BODIES) == 0
    (work,) = await store.lease_assets(clock.now(), clock.now(), 1)
    assert await store.settle_asset(work, stored(work, at=clock.now()))


async def test_one_round_drops_all_that_is_due_in_small_transactions(
    store: SqliteStore, clock: TurnableClock, tmp_path: Path
) -> None:
    upkeep = upkeep_of(store, clock, least=3)
    for number in range(10):
        await end_task(store, clock, f"t{number}")
    clock.turn(30 * DAY + 1)
    with capture_logs() as lines:
        await upkeep.run()
        await upkeep.run()
    assert count(tmp_path, BODIES) == 0
    assert [(line["purged"], line["expired_early"]) for line in lines] == [
        (40, 0)
    ]  # a delivery, a notification, a request and an attempt each


async def test_a_clock_that_is_set_back_drops_nothing(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock, tmp_path: Path
) -> None:
    await end_task(store, clock, "t1")
    await store.record(recording(failed("t2")))
    clock.turn(-365 * DAY)
    await upkeep.run()
    assert count(tmp_path, BODIES) == 2
    assert (await store.count_stats()).deliveries["early"] == 1


async def test_rows_from_the_future_stop_no_retention_and_are_dropped_with_their_neighbours(
    store: SqliteStore, clock: TurnableClock, tmp_path: Path
) -> None:
    upkeep = upkeep_of(store, clock, least=3)
    await end_task(store, clock, "before")
    clock.turn(80 * 365 * DAY)
    for number in range(11):
        await end_task(store, clock, f"future {number}")
    clock.turn(-80 * 365 * DAY)
    await end_task(store, clock, "after")
    clock.turn(10 * DAY)
    for number in range(5):
        await end_task(store, clock, f"young {number}")
    left = []
    for days in (19.9, 0.2, 9.7, 0.3):
        clock.turn(days * DAY)
        await upkeep.run()
        left.append([count(tmp_path, query) for query in (BODIES, REQUESTS, ATTEMPTS)])
    assert left == [[18] * 3, [5] * 3, [5] * 3, [0] * 3]


class Slow(SqliteStore):
    """One in which a step of purging takes a second."""

    clock: TurnableClock
    purged = 0  # steps
    expired_after: list[int]

    async def purge(self, before: datetime, limit: int) -> int:
        self.clock.turn(1)
        self.purged += 1
        return await super().purge(before, limit)

    async def expire_early(self, received_before: datetime, limit: int) -> int:
        self.expired_after.append(self.purged)
        return await super().expire_early(received_before, limit)


async def test_early_callbacks_expire_while_there_is_much_to_purge(
    tmp_path: Path, clock: TurnableClock
) -> None:
    """There are a great many steps: the chores before it have their turn again."""
    options = StoreOptions(data_dir=tmp_path, clock=clock, routes=[Route(sink="all")])
    store = await Slow.open("sqlite:receiver.db", options)
    store.clock, store.expired_after = clock, []
    for number in range(8):
        await end_task(store, clock, f"t{number}")
    clock.turn(31 * DAY)
    await upkeep_of(store, clock, least=1, step_seconds=0.0).run()
    assert len(store.expired_after) >= 4
    assert max(b - a for a, b in pairwise(store.expired_after)) <= 3
    await store.aclose()


@pytest.mark.parametrize(
    ("rows", "took_seconds", "next_rows"),
    [(100, 0.001, 200), (100, 0.007, 100), (200, 0.05, 100), (50, 5.0, 50), (2000, 0.0, 2000)],
)
def test_a_step_is_as_large_as_a_short_time_allows(rows: int, took_seconds: float, next_rows: int) -> None:
    assert StepPace().next_rows(rows, took_seconds) == next_rows


# --- reservations without a task ------------------------------------------------------------------------


async def test_of_a_reservation_that_no_task_is_bound_to_somebody_is_told_once(
    store: SqliteStore, upkeep: Upkeep, clock: TurnableClock
) -> None:
    forgotten, failed_order, bound = submission(None), submission(None), submission(None)
    for each in (forgotten, failed_order, bound):
        await store.log_submission(each)
    await store.withdraw_submission(failed_order.id, clock.now())
    await store.bind_submission(bound.id, "t1", clock.now())
    told = []
    for seconds in (0, 2 * DAY, 60, 60):
        clock.turn(seconds)
        with capture_logs() as lines:
            await upkeep.run()
        told.append([line["oldest"] for line in lines if line["event"] == "submissions.unbound"])
    assert told == [[], [], [[forgotten.id]], []]
