"""Several stores on one PostgreSQL record: what they tell each other, who has a lane, whose clock counts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from structlog.testing import capture_logs

from receiver.clock import Clock
from receiver.models import (
    MINUTE,
    NO_SCHEME,
    Lane,
    LaneClaim,
    Measure,
    Outcome,
    Refusal,
    RefusalFilter,
    RefusalReason,
    Sample,
    SeriesWanted,
    series_name,
)
from receiver.options import StoreOptions
from receiver.polling.turns import SharedTurns
from receiver.ports import EVERY_KIND, MISSED, SharedRecord
from receiver.stores.postgres import PostgresStore
from receiver.testing import TurnableClock
from tests.support.media_host import media_host
from tests.support.pooler import pooler
from tests.support.postgres import ScratchRecord
from tests.support.status_host import asking, tells
from tests.support.waiting import until

START = datetime(2026, 11, 30, 12, tzinfo=UTC)
AT_ONCE_SECONDS = 15.0  # far below the time after which a connection is looked at anyway

LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' AND datname = current_database()"


@asynccontextmanager
async def stores(url: str, data_dir: Path, *clocks: Clock) -> AsyncIterator[list[PostgresStore]]:
    async with AsyncExitStack() as stack:
        opened = []
        for clock in clocks:
            opened.append(await PostgresStore.open(url, StoreOptions(data_dir=data_dir, clock=clock)))
            stack.push_async_callback(opened[-1].aclose)
        yield opened


class Pair(NamedTuple):
    one: PostgresStore
    other: PostgresStore
    words: list[str]  # that the other has heard


@pytest.fixture
async def pair(postgres_record: ScratchRecord, tmp_path: Path) -> AsyncIterator[Pair]:
    async with stores(postgres_record.url, tmp_path, Clock(), Clock()) as (one, other):
        one.listen(lambda _word: None)
        words: list[str] = []
        other.listen(words.append)
        await until(lambda: words == [MISSED])
        words.clear()
        yield Pair(one, other, words)


async def hold(store: SharedRecord, *names: str, seconds: float = 10.0) -> Mapping[str, Lane]:
    return await store.hold_lanes([LaneClaim(name=name, state=f"{name} runs") for name in names], seconds)


async def holds(store: SharedRecord, *names: str, seconds: float = 10.0) -> set[str]:
    return set(await hold(store, *names, seconds=seconds))


async def test_a_lane_is_one_process_s_until_it_leaves_or_its_time_is_over(
    pair: Pair, postgres_record: ScratchRecord
) -> None:
    assert await holds(pair.one, "a", "b") == {"a", "b"}
    assert await holds(pair.other, "b", "c") == {"c"}
    assert await holds(pair.one, "a", "b", "c") == {"a", "b"}

    assert await pair.other.list_lanes() == {"a": "a runs", "b": "b runs", "c": "c runs"}

    await pair.one.leave_lanes(["a", "c"])  # the second one is not its own
    assert (await pair.other.list_lanes())["a"] is None
    assert await holds(pair.other, "a", "b", "c") == {"a", "c"}

    assert await holds(pair.one, "b", seconds=60) == {"b"}
    assert await holds(pair.other, "b") == set()
    with postgres_record.connect() as server:  # a minute later
        server.execute("UPDATE lanes SET until = until - interval '1 minute' WHERE name = 'b'")
    assert await holds(pair.other, "b") == {"b"}
    assert await holds(pair.one, "b") == set()


async def test_two_that_ask_at_once_never_have_the_same_lane(pair: Pair) -> None:
    names = [f"lane {number}" for number in range(8)]
    for _ in range(20):
        one, other = await asyncio.gather(holds(pair.one, *names), holds(pair.other, *reversed(names)))
        assert one | other == set(names)
        assert not one & other
        await pair.one.leave_lanes(names)
        await pair.other.leave_lanes(names)


async def test_what_one_tells_the_other_hears_at_once_and_once(pair: Pair) -> None:
    for _ in range(100):
        pair.one.tell("sink")
    pair.one.tell("assets")
    await until(lambda: pair.words == ["sink", "assets"], AT_ONCE_SECONDS)

    pair.other.tell("its own")
    many = [f"ended {number:032}" for number in range(1000)]
    for word in many:
        pair.one.tell(word)
    await until(lambda: len(pair.words) == 1002, AT_ONCE_SECONDS)
    assert pair.words[2:] == many


async def test_the_last_word_before_the_end_is_heard(
    pair: Pair, postgres_record: ScratchRecord, tmp_path: Path
) -> None:
    for number in range(10):
        async with stores(postgres_record.url, tmp_path, Clock()) as (ending,):
            said: list[str] = []
            ending.listen(said.append)
            await until(lambda said=said: said)  # type: ignore[misc]
            ending.tell("sink")
            await asyncio.sleep(number * 0.001)  # the sending of it has begun, or not
            ending.tell("lanes")
    await until(lambda: pair.words.count("lanes") == 10, AT_ONCE_SECONDS)
    assert pair.words.count("sink") >= 10
    await until(lambda: pair.words.count(EVERY_KIND) == 10, AT_ONCE_SECONDS)  # what it had leased is free


async def test_a_cut_connection_is_made_again_and_what_it_missed_is_said(
    pair: Pair, postgres_record: ScratchRecord
) -> None:
    with postgres_record.connect() as server:
        server.execute(f"SELECT pg_terminate_backend(pid) FROM ({LISTENERS}) AS listening".encode())
    await until(lambda: pair.words == [MISSED], AT_ONCE_SECONDS)
    pair.one.tell("sink")
    await until(lambda: pair.words[-1] == "sink", AT_ONCE_SECONDS)


async def test_what_strangers_say_on_the_channel_does_no_harm(
    pair: Pair, postgres_record: ScratchRecord
) -> None:
    with postgres_record.connect() as server:
        channel = pair.other._fleet._channel
        for message in ("", "no JSON", "{}", "[1]", '["sink"'):
            server.execute("SELECT pg_notify(%s, %s)", (channel, message))
    pair.one.tell("sink")
    await until(lambda: pair.words == ["sink"], AT_ONCE_SECONDS)


class OffClock(Clock):
    """A machine whose clock is set wrong."""

    def __init__(self, by: timedelta) -> None:
        self.follow(by)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_machine_whose_clock_is_off_goes_by_the_server_s(
    postgres_record: ScratchRecord, tmp_path: Path, hours: int
) -> None:
    off = OffClock(timedelta(hours=hours))
    with capture_logs() as lines:
        async with stores(postgres_record.url, tmp_path, Clock(), off):
            pass
    assert abs((off.now() - datetime.now(UTC)).total_seconds()) < 60
    (said,) = [line for line in lines if line["event"] == "clock.off"]
    assert said["seconds_behind"] == pytest.approx(-3600 * hours, abs=60)  # less the way to the server
    seen = await PostgresStore.examine_server(postgres_record.url, OffClock(timedelta(hours=hours)))
    assert seen.seconds_behind == pytest.approx(-3600 * hours, abs=60)
    assert (await PostgresStore.examine_server(postgres_record.url, Clock())).seconds_behind == 0.0


async def test_questions_out_of_turn_keep_one_pace_over_all_processes(pair: Pair) -> None:
    async with media_host() as host:
        one, other = TurnableClock(), TurnableClock()
        async with asking(host, one) as client_one, asking(host, other) as client_other:
            turns_one, turns_other = SharedTurns(pair.one, client_one), SharedTurns(pair.other, client_other)
            turns_one.learn(await hold(pair.one, "poll vidgo"))
            room = client_one.room("vidgo")

            taken = [await turns.take("vidgo") for turns in (turns_other, turns_one, turns_other)]
            assert taken == [True, False, False]  # two seconds are between two of them
            turns_one.learn(await hold(pair.one, "poll vidgo"))
            assert client_one.room("vidgo") == room - 1  # which whoever polls has counted


async def test_where_one_is_told_to_wait_all_do(pair: Pair) -> None:
    async with media_host() as host:
        host.otherwise = tells(b"", "retry-after: 100", status=429)
        one, other = TurnableClock(), TurnableClock()
        async with asking(host, one) as client_one, asking(host, other) as client_other:
            turns_one, turns_other = SharedTurns(pair.one, client_one), SharedTurns(pair.other, client_other)
            assert (await client_other.ask("vidgo", "t1", None)).outcome is Outcome.RATE_LIMITED
            await turns_other.close("vidgo")

            turns_one.learn(await hold(pair.one, "poll vidgo"))
            assert client_one.room("vidgo") == 0
            assert 95 < client_one.closed_seconds("vidgo") <= 100
            assert not await turns_one.take("vidgo")
            # And so does whoever polls after it.
            await pair.one.leave_lanes(["poll vidgo"])
            held = await hold(pair.other, "poll vidgo")
            assert 95 < held["poll vidgo"].closed_seconds <= 100


async def test_behind_a_pooler_everything_works_by_looking(
    pair: Pair, postgres_record: ScratchRecord, tmp_path: Path
) -> None:
    with pooler(postgres_record.url, tmp_path, 10) as url, capture_logs() as lines:
        async with stores(url, tmp_path, Clock(), Clock()) as (pooled, _):
            heard: list[str] = []
            pooled.listen(heard.append)
            await until(lambda: heard == [MISSED])
            assert [line["event"] for line in lines].count("signals.unheard") == 1

            assert await holds(pooled, "a") == {"a"}
            assert await holds(pair.one, "a") == set()
            pooled.tell("sink")  # whoever can hear it does
            await until(lambda: pair.words == ["sink"], AT_ONCE_SECONDS)
            pair.one.tell("sink")
            await pooled.ping()
            seen = await PostgresStore.examine_server(url, Clock())
            assert seen.is_pooled
        with psycopg.connect(url) as another:  # finds nothing that was left on the pooler's connection
            assert another.execute("SELECT pg_listening_channels()").fetchall() == []


async def test_a_store_that_is_closed_while_it_begins_to_listen_leaves_no_connection_open(
    postgres_record: ScratchRecord, tmp_path: Path
) -> None:
    """A connection that nobody closes is warned of when it is collected, and warnings are errors."""
    for moment in range(15):
        async with stores(postgres_record.url, tmp_path, Clock()) as (store,):
            store.listen(lambda _word: None)
            await asyncio.sleep(moment / 1000)


async def test_what_several_processes_count_adds_up(pair: Pair) -> None:
    names = [series_name(Measure.QUESTIONS, outcome=word) for word in ("answered", "timeout", "gone")]
    samples = [Sample(name, 1_800_000_000, 1.0) for name in names]
    refused = Refusal(
        hour=START,
        provider="vidgo",
        status=401,
        reason=RefusalReason.TOKEN_WRONG,
        scheme=NO_SCHEME,
        count=1,
        first_at=START,
        last_at=START,
    )
    await asyncio.gather(
        *(
            store.add_time_series(each, [refused])
            for store, each in ((pair.one, samples), (pair.other, samples[::-1]))  # in either order
            for _ in range(25)
        )
    )
    wanted = SeriesWanted(measure=Measure.QUESTIONS, by="outcome")
    (found,) = await pair.one.pages.read_series([wanted], 1_800_000_000, 1_800_000_060, MINUTE)
    assert [bucket.value for series in found for bucket in series.buckets] == [50.0] * 3
    (row,) = (await pair.other.list_refusals(RefusalFilter(), 10, None)).refusals
    assert row.count == 50
