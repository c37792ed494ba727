"""Counters become series: what grew is written, once, whatever fails meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from receiver import __version__
from receiver.config.settings import load_settings
from receiver.errors import Unavailable
from receiver.models import (
    HOUR,
    MINUTE,
    Mark,
    MarkKind,
    Measure,
    Refusal,
    RefusalFilter,
    RefusalReason,
    Sample,
    SeriesName,
    SeriesWanted,
    series_name,
)
from receiver.ports import Store
from receiver.runtime import Runtime, open_runtime
from receiver.stores.sqlite import SqliteStore
from receiver.testing import TurnableClock, sample_callback
from receiver.time_series import MOST_WAITING, SeriesUpkeep, TimeSeries
from tests.contracts.opening import store_options
from tests.support.web_callers import callback_path, log_task

START = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)
T0 = int(START.timestamp()) // MINUTE * MINUTE
FILES = series_name(Measure.FILES, outcome="stored")
FREE = series_name(Measure.DISK_FREE_BYTES)


class Away:
    """A store whose server may be away, or slow to answer."""

    def __init__(self, store: Store) -> None:
        self.is_away = False
        self.written = asyncio.Event()
        self._store = store

    async def add_time_series(
        self, samples: Sequence[Sample], refusals: Sequence[Refusal], marks: Sequence[Mark]
    ) -> None:
        if self.is_away:
            raise Unavailable("it is away")
        await self._store.add_time_series(samples, refusals, marks)
        self.written.set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await SqliteStore.open("sqlite:receiver.db", store_options(tmp_path))
    yield opened
    await opened.aclose()


@pytest.fixture
def clock() -> TurnableClock:
    clock = TurnableClock()
    clock.turn_to(START)
    return clock


async def read(store: Store, measure: Measure, by: str | None = None, step: int = MINUTE) -> dict[int, float]:
    wanted = SeriesWanted(measure=measure, by=by)
    (found,) = await store.pages.read_series([wanted], 0, T0 + 10 * HOUR, step)
    return {bucket.start - T0: bucket.value for series in found for bucket in series.buckets}


async def refused(store: Store) -> int:
    return sum(each.count for each in (await store.list_refusals(RefusalFilter(), 100, None)).refusals)


async def test_what_a_counter_grew_by_is_written_and_no_more(store: Store, clock: TurnableClock) -> None:
    totals: dict[SeriesName, float] = {FILES: 5.0}  # before it was looked at for the first time
    series = TimeSeries(store, clock, lambda: totals, None)
    for total in (8.0, 8.0, 9.0):
        totals[FILES] = total
        await series.write()
    clock.turn(60)
    totals[FILES] = 11.0
    await series.write()

    assert await read(store, Measure.FILES, "outcome") == {0: 4.0, 60: 2.0}


async def test_gauges_are_looked_at_once_in_a_minute(store: Store, clock: TurnableClock) -> None:
    free = iter([30.0, 20.0])

    async def gauges() -> dict[SeriesName, float]:
        return {FREE: next(free)}

    series = TimeSeries(store, clock, dict, gauges)
    for seconds in (0, 20, 20, 20):
        clock.turn(seconds)
        await series.write()

    assert await read(store, Measure.DISK_FREE_BYTES) == {0: 30.0, 60: 20.0}


async def test_what_could_not_be_written_is_written_later_in_its_own_minute(
    store: Store, clock: TurnableClock
) -> None:
    away, totals = Away(store), {FILES: 0.0}
    series = TimeSeries(away, clock, lambda: totals, None)  # type: ignore[arg-type]
    away.is_away = True
    totals[FILES] = 3.0
    series.refuse("vidgo", 401, RefusalReason.TOKEN_WRONG)
    with pytest.raises(Unavailable):
        await series.write()
    clock.turn(60)
    totals[FILES] = 5.0
    series.refuse("vidgo", 401, RefusalReason.TOKEN_WRONG)
    with pytest.raises(Unavailable):
        await series.write()
    away.is_away = False
    await series.write()

    assert await read(store, Measure.FILES, "outcome") == {0: 3.0, 60: 2.0}
    assert await refused(store) == 2


async def test_while_the_record_is_away_what_waits_is_bounded(store: Store, clock: TurnableClock) -> None:
    away, totals = (
        Away(store),
        dict.fromkeys((series_name(Measure.FILES, outcome=str(n)) for n in range(100)), 0.0),
    )
    series = TimeSeries(away, clock, lambda: totals, None)  # type: ignore[arg-type]
    away.is_away = True
    for _ in range(200):
        for name in totals:
            totals[name] += 1
        with pytest.raises(Unavailable):
            await series.write()
        clock.turn(60)
    away.is_away = False
    await series.write()
    (written,) = await store.pages.read_series(
        [SeriesWanted(measure=Measure.FILES, by="outcome")], 0, T0 + 10 * HOUR, 60
    )
    assert 0 < sum(len(each.buckets) for each in written) <= MOST_WAITING + 100


async def test_a_write_that_is_cancelled_counts_once(store: Store, clock: TurnableClock) -> None:
    away, totals = Away(store), {FILES: 0.0}
    series = TimeSeries(away, clock, lambda: totals, None)  # type: ignore[arg-type]
    totals[FILES] = 3.0
    writing = asyncio.create_task(series.write())
    await asyncio.sleep(0)  # it is on its way
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await series.write()
    await store.ping()
    assert await read(store, Measure.FILES, "outcome") == {0: 3.0}


async def test_old_minutes_become_hours_once_in_an_hour(store: Store) -> None:
    await store.add_time_series([Sample(FILES, T0 + minute * 60, 1.0) for minute in range(120)], [])
    upkeep = SeriesUpkeep(store)
    await upkeep.run(START + timedelta(hours=49))
    assert await read(store, Measure.FILES, "outcome") == {0: 60.0} | {
        minute * 60: 1.0 for minute in range(60, 120)
    }
    await upkeep.run(START + timedelta(hours=49, minutes=50))
    await upkeep.run(START + timedelta(hours=50))
    assert await read(store, Measure.FILES, "outcome") == {0: 60.0, HOUR: 60.0}
    await SeriesUpkeep(store).run(START + timedelta(days=402))
    assert await read(store, Measure.FILES, "outcome") == {}


async def marks(store: Store) -> list[tuple[MarkKind, str]]:
    found = await store.pages.list_marks(START - timedelta(days=1), START + timedelta(days=1), 100)
    return [(mark.kind, mark.what) for mark in reversed(found)]


async def test_a_version_is_marked_when_it_is_started_for_the_first_time(
    store: Store, clock: TurnableClock
) -> None:
    for _ in range(2):  # a service that is started again
        await TimeSeries(store, clock, dict).write()
        clock.turn(60)
    assert await marks(store) == [(MarkKind.VERSION, __version__)]


async def test_a_circuit_is_marked_when_it_opens_and_when_it_closes(
    store: Store, clock: TurnableClock
) -> None:
    downs = {("sink", "app"): False, ("provider", "vidgo"): False}
    series = TimeSeries(store, clock, dict, None, lambda: downs)
    for is_down in (False, True, True, False):
        downs["sink", "app"] = is_down
        downs["provider", "vidgo"] = is_down
        await series.write()
        clock.turn(1)
    assert (await marks(store))[1:] == [
        (MarkKind.PROVIDER_DOWN, "vidgo"),
        (MarkKind.SINK_DOWN, "app"),
        (MarkKind.PROVIDER_BACK, "vidgo"),
        (MarkKind.SINK_BACK, "app"),
    ]
    await SeriesUpkeep(store).run(START + timedelta(days=402))
    assert await marks(store) == []


# --- in a service ---------------------------------------------------------------------------------------


async def test_what_a_service_counts_is_there_after_a_restart(tmp_path: Path) -> None:
    settings = load_settings(
        {"RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_SECRET": "a-secret-for-tests-only"}
    )
    async with open_runtime(settings) as runtime:
        runtime.metrics.poll("vidgo", "answered")
        runtime.time_series.refuse(None, 404, RefusalReason.UNKNOWN_PROVIDER)
    async with open_runtime(settings) as runtime:
        wanted = SeriesWanted(measure=Measure.QUESTIONS, by="outcome")
        now = int(runtime.clock.now().timestamp())
        ((read,),) = await runtime.store.pages.read_series([wanted], now - HOUR, now + HOUR, MINUTE)
        assert [bucket.value for bucket in read.buckets] == [1.0]
        assert await refused(runtime.store) == 1


async def test_what_a_service_counts_is_by_provider_and_verdict(
    runtime: Runtime,
    backend: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
) -> None:
    await log_task(backend, "t1")
    for body in (sample_callback("vidgo", "t1", error="no"), b"no json"):
        await stranger.post(callback_path(runtime), content=body)
    assert (await backend.get("/tasks/vidgo/t1")).json()["state"] == "failed"
    await runtime.time_series.write()
    wanted = SeriesWanted(measure=Measure.CALLBACKS, labels={"provider": "vidgo"}, by="verdict")
    now = int(runtime.clock.now().timestamp())
    (found,) = await runtime.store.pages.read_series([wanted], now - HOUR, now + HOUR, HOUR)
    assert {series.by: series.buckets[0].value for series in found} == {
        "accepted": 1.0,
        "unrecognised": 1.0,
    }
    waiting = SeriesWanted(measure=Measure.WAITING_EVENTS)
    assert await runtime.store.pages.read_series([waiting], now - HOUR, now + HOUR, HOUR)
