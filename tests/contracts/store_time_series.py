"""What every store must keep of what happened over time, and of what was turned away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from receiver.errors import Rejected
from receiver.models import (
    HOUR,
    MINUTE,
    NO_SCHEME,
    Bucket,
    Measure,
    Refusal,
    RefusalFilter,
    RefusalReason,
    Sample,
    SeriesRead,
    SeriesWanted,
    series_name,
)
from receiver.ports import Store
from tests.contracts.store import OpenStore
from tests.support.factories import NOW

T0 = int(NOW.timestamp()) // HOUR * HOUR
DAY = 24 * HOUR
ACCEPTED = series_name(Measure.CALLBACKS, verdict="accepted")
OF_VIDGO = series_name(Measure.CALLBACKS, verdict="accepted", provider="vidgo")
WAITING = series_name(Measure.WAITING_FILES)
FREE = series_name(Measure.DISK_FREE_BYTES)
BY_VERDICT = SeriesWanted(measure=Measure.CALLBACKS, by="verdict")
THIS_HOUR = NOW.replace(minute=0, second=0, microsecond=0)


def refusal(reason: RefusalReason = RefusalReason.TOKEN_WRONG, hours: int = 0, count: int = 1) -> Refusal:
    hour = THIS_HOUR + timedelta(hours=hours)
    return Refusal(
        hour=hour,
        provider="vidgo",
        status=401,
        reason=reason,
        scheme=NO_SCHEME,
        count=count,
        first_at=hour + timedelta(minutes=5),
        last_at=hour + timedelta(minutes=6),
    )


class TimeSeriesContract:
    """Subclasses give an ``open_store`` fixture, as of ``StoreContract``."""

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> AsyncIterator[Store]:
        store = await open_store()
        yield store
        await store.aclose()

    async def test_what_is_counted_of_a_minute_adds_up(self, store: Store) -> None:
        for value in (3.0, 4.0):
            await store.add_time_series([Sample(ACCEPTED, T0, value), Sample(ACCEPTED, T0 + 60, 1.0)], [])

        assert await store.pages.read_series([BY_VERDICT], T0, T0 + HOUR, MINUTE) == [
            [SeriesRead(by="accepted", buckets=(Bucket(T0, MINUTE, 7.0), Bucket(T0 + 60, MINUTE, 2.0)))]
        ]

    async def test_a_gauge_holds_what_it_showed_last(self, store: Store) -> None:
        for value in (9.0, 4.0):
            await store.add_time_series([Sample(WAITING, T0, value)], [])

        wanted = SeriesWanted(measure=Measure.WAITING_FILES)
        ((read,),) = await store.pages.read_series([wanted], T0, T0 + HOUR, MINUTE)
        assert read.buckets == (Bucket(T0, MINUTE, 4.0),)

    async def test_series_are_told_apart_by_their_labels(self, store: Store) -> None:
        await store.add_time_series([Sample(ACCEPTED, T0, 5.0), Sample(OF_VIDGO, T0, 2.0)], [])
        of_one = SeriesWanted(measure=Measure.CALLBACKS, labels={"provider": "vidgo"}, by="verdict")
        of_another = SeriesWanted(measure=Measure.CALLBACKS, labels={"provider": "apixo"}, by="verdict")

        wanted = (BY_VERDICT, of_another, of_one, BY_VERDICT)
        found = await store.pages.read_series(wanted, T0, T0 + HOUR, MINUTE)

        assert [[series.buckets[0].value for series in read] for read in found] == [[5.0], [], [2.0], [5.0]]

    async def test_a_longer_stretch_holds_what_its_minutes_came_to(self, store: Store) -> None:
        minutes = [T0, T0 + 240, T0 + 300]
        await store.add_time_series(
            [
                Sample(name, start, 1.0 + start - T0)
                for start in minutes
                for name in (ACCEPTED, WAITING, FREE)
            ],
            [],
        )

        wanted = [
            BY_VERDICT,
            SeriesWanted(measure=Measure.WAITING_FILES),
            SeriesWanted(measure=Measure.DISK_FREE_BYTES),
        ]
        found = await store.pages.read_series(wanted, T0, T0 + HOUR, 300)
        values = [[bucket.value for bucket in series.buckets] for (series,) in found]
        assert values == [[242.0, 301.0], [241.0, 301.0], [1.0, 301.0]]  # their sum, the most, the least

    async def test_old_minutes_become_hours_and_old_hours_go(self, store: Store) -> None:
        await store.add_time_series(
            [
                *(Sample(ACCEPTED, T0 + minute * 60, 1.0) for minute in range(180)),
                *(Sample(FREE, T0 + minute * 60, 100.0 + minute) for minute in range(180)),
            ],
            [],
        )
        for _ in range(2):  # a second time changes nothing
            aged = await store.list_aged_series(0, T0 + 2 * HOUR, T0 - DAY, 10)
            await store.sum_up_series(aged, T0 + 2 * HOUR, T0 - DAY)
        late = Sample(ACCEPTED, T0 + 60, 5.0)  # of a process that could not write for long
        await store.add_time_series([late], [])
        await store.sum_up_series(
            await store.list_aged_series(0, T0 + 2 * HOUR, T0 - DAY, 10), T0 + 2 * HOUR, T0 - DAY
        )

        free = SeriesWanted(measure=Measure.DISK_FREE_BYTES)
        ((counted,),) = await store.pages.read_series([BY_VERDICT], T0, T0 + 3 * HOUR, HOUR)
        ((gauge,),) = await store.pages.read_series([free], T0, T0 + 3 * HOUR, MINUTE)
        assert [bucket.value for bucket in counted.buckets] == [65.0, 60.0, 60.0]
        assert gauge.buckets[:3] == (
            Bucket(T0, HOUR, 100.0),
            Bucket(T0 + HOUR, HOUR, 160.0),
            Bucket(T0 + 2 * HOUR, MINUTE, 220.0),
        )
        everything = (T0 + DAY, T0 + DAY)
        for _ in range(2):
            await store.sum_up_series(await store.list_aged_series(0, *everything, 10), *everything)
        assert await store.list_aged_series(0, *everything, 10) == []
        ((gauge,),) = await store.pages.read_series([free], T0, T0 + DAY, MINUTE)
        assert gauge.buckets == ()

    async def test_refusals_of_an_hour_add_up_in_one_row(self, store: Store) -> None:
        later = [refusal(), refusal(count=7)]
        for each in later:
            await store.add_time_series([], [each])

        page = await store.list_refusals(RefusalFilter(), 10, None)
        assert [(each.count, each.hour) for each in page.refusals] == [(8, THIS_HOUR)]
        assert page.next_cursor is None

    async def test_refusals_are_listed_in_pages_the_latest_hour_first(self, store: Store) -> None:
        reasons = list(RefusalReason)[:3]
        await store.add_time_series(
            [], [refusal(reason, -hours, count=hours + 1) for hours in range(3, -1, -1) for reason in reasons]
        )
        seen, cursor = [], None
        while True:
            page = await store.list_refusals(RefusalFilter(), 5, cursor)
            assert await store.pages.list_refusals(RefusalFilter(), 5, cursor) == page
            seen += [each.count for each in page.refusals]
            if (cursor := page.next_cursor) is None:
                break
        assert seen == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
        with pytest.raises(Rejected):
            await store.list_refusals(RefusalFilter(), 5, "elsewhere")

    async def test_refusals_are_found_by_provider_reason_and_time(self, store: Store) -> None:
        await store.add_time_series([], [refusal(hours=-3), refusal(RefusalReason.NOT_JSON)])

        async def count(wanted: RefusalFilter) -> int:
            return len((await store.list_refusals(wanted, 10, None)).refusals)

        assert await count(RefusalFilter(provider="vidgo")) == 2
        assert await count(RefusalFilter(provider="apixo")) == 0
        assert await count(RefusalFilter(reason=RefusalReason.NOT_JSON)) == 1
        assert await count(RefusalFilter(since=THIS_HOUR + timedelta(minutes=6))) == 1
        assert await count(RefusalFilter(until=THIS_HOUR)) == 1
        await store.forget_refusals(THIS_HOUR)
        assert await count(RefusalFilter()) == 1

    async def test_those_who_write_at_once_add_up(self, store: Store) -> None:
        names = [series_name(Measure.FILES, outcome=f"o{number}") for number in range(20)]
        await asyncio.gather(
            *(
                store.add_time_series([Sample(name, T0, 1.0) for name in names], [refusal(count=2)])
                for _ in range(10)
            )
        )
        wanted = SeriesWanted(measure=Measure.FILES, by="outcome")
        (read,) = await store.pages.read_series([wanted], T0, T0 + HOUR, MINUTE)
        assert {series.by: series.buckets[0].value for series in read} == {f"o{n}": 10.0 for n in range(20)}
        assert (await store.list_refusals(RefusalFilter(), 10, None)).refusals[0].count == 20
