"""Counts for admins: fresh where that is cheap, shared with the metrics where it is not."""

import asyncio
from datetime import datetime, timedelta

import httpx2
import pytest
from msgspec.structs import replace

from receiver.metrics import RecentCount
from receiver.models import Stats
from receiver.runtime import Runtime
from receiver.testing import TurnableClock
from receiver.web.app import build_app
from tests.support.factories import EMPTY_RECORD
from tests.support.web_callers import ADMIN_TOKEN, caller, log_task


class Record:
    """A record that takes its time to be counted, by a clock of its own."""

    def __init__(self, takes: float) -> None:
        self.now = 0.0
        self.counted = 0
        self._takes = takes

    async def count(self) -> Stats:
        await asyncio.sleep(0)
        self.counted += 1
        self.now += self._takes
        return replace(EMPTY_RECORD, submissions=self.counted)

    def seconds(self) -> float:
        return self.now


async def test_what_an_admin_has_just_done_is_counted(admin: httpx2.AsyncClient) -> None:
    for number in range(5):
        assert (await admin.get("/stats")).json()["submissions"] == number
        await log_task(admin, f"t{number}")


async def test_admins_who_ask_while_a_count_is_made_share_the_next_one() -> None:
    record = Record(takes=0.2)
    recent = RecentCount(record.count, record.seconds)
    await asyncio.gather(*(recent.get(anew=True) for _ in range(50)))
    assert record.counted == 1


@pytest.mark.parametrize(("takes", "stands"), [(0.3, 6.0), (3.0, 60.0), (300.0, 600.0)])
async def test_a_count_that_costs_much_stands_for_admins_too(
    runtime: Runtime, takes: float, stands: float
) -> None:
    record = Record(takes)
    recent = RecentCount(record.count, record.seconds)
    async with caller(build_app(replace(runtime, stats=recent)), ADMIN_TOKEN) as admin:
        first = (await admin.get("/stats")).json()
        await admin.get("/metrics")
        record.now = takes + stands - 0.01
        later = (await admin.get("/stats")).json()
        assert (first["submissions"], later["submissions"], record.counted) == (1, 1, 1)
        age = datetime.fromisoformat(first["counted_at"]) - datetime.fromisoformat(later["counted_at"])
        assert age.total_seconds() == pytest.approx(stands, abs=0.5)  # each says how old it is
        record.now = takes + stands
        assert (await admin.get("/stats")).json()["submissions"] == 2


async def test_the_metrics_of_a_count_that_stands_tell_the_ages_of_its_time(runtime: Runtime) -> None:
    clock = TurnableClock()
    oldest = clock.now() - timedelta(seconds=10)

    async def count() -> Stats:
        clock.turn(3)
        return replace(EMPTY_RECORD, oldest_undelivered_at=oldest)

    recent = RecentCount(count, lambda: clock.uptime().total_seconds())
    async with caller(build_app(replace(runtime, stats=recent, clock=clock)), ADMIN_TOKEN) as admin:
        for _ in range(2):
            text = (await admin.get("/metrics")).text
            assert "receiver_oldest_undelivered_seconds 10.0" in text.splitlines()
            clock.turn(50)  # of the sixty that it stands
