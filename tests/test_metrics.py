"""Metrics: counted as it happens, read from the store when asked, with an end to the series."""

import asyncio
import re
from datetime import timedelta

import msgspec
import pytest

from receiver.metrics import CONTENT_TYPE, Metrics, RecentCount
from receiver.models import Outcome, Stats, Verdict
from tests.support.factories import EMPTY_RECORD, NOW, later


def lines(metrics: Metrics, stats: Stats | None = EMPTY_RECORD) -> set[str]:
    return set(metrics.render(stats, NOW).decode().splitlines())


def test_what_happened_is_counted() -> None:
    metrics = Metrics(["vidgo"], ["jsonl"])
    metrics.callback("vidgo", Verdict.ACCEPTED, 0.004)
    metrics.rejected(401)
    metrics.asset("vidgo", Outcome.STORED, 1000)
    metrics.asset("vidgo", Outcome.TIMEOUT)
    metrics.notifications("jsonl", Outcome.DELIVERED, 1)
    metrics.poll("vidgo", Outcome.IN_PROGRESS)
    metrics.commit(12, 0.002)
    metrics.loop_restarted("assets")
    assert {
        'receiver_callbacks_total{provider="vidgo",verdict="accepted"} 1.0',
        'receiver_callbacks_rejected_total{status="401"} 1.0',
        'receiver_assets_total{outcome="stored",provider="vidgo"} 1.0',
        'receiver_assets_total{outcome="timeout",provider="vidgo"} 1.0',
        "receiver_asset_bytes_total 1000.0",
        'receiver_notifications_total{outcome="delivered",sink="jsonl"} 1.0',
        'receiver_polls_total{outcome="in_progress",provider="vidgo"} 1.0',
        "receiver_commit_rows_sum 12.0",
        "receiver_commit_seconds_count 1.0",
        "receiver_callback_seconds_count 1.0",
        'receiver_loop_restarts_total{loop="assets"} 1.0',
    } <= lines(metrics)


def test_the_times_of_callbacks_add_up_from_bucket_to_bucket() -> None:
    metrics = Metrics(["vidgo"])
    for seconds in (0.0005, 0.001, 0.002, 60):
        metrics.callback("vidgo", Verdict.ACCEPTED, seconds)
    assert {
        'receiver_callback_seconds_bucket{le="0.001"} 2.0',  # a bound belongs to its bucket
        'receiver_callback_seconds_bucket{le="0.0025"} 3.0',
        'receiver_callback_seconds_bucket{le="10.0"} 3.0',
        'receiver_callback_seconds_bucket{le="+Inf"} 4.0',
        "receiver_callback_seconds_count 4.0",
        "receiver_callback_seconds_sum 60.0035",
    } <= lines(metrics)


def test_a_conflict_counts_as_refused_and_as_nothing_else() -> None:
    metrics = Metrics(["vidgo"])
    before = lines(metrics)
    metrics.rejected(409)
    assert {line for line in lines(metrics) - before if not line.startswith("#")} == {
        'receiver_callbacks_rejected_total{status="409"} 1.0'
    }


def test_names_that_a_stranger_makes_up_become_one_series() -> None:
    metrics = Metrics(["vidgo"])
    for name in ("a", "b", "c"):
        metrics.callback(name, Verdict.EARLY, 0.001)
    shown = lines(metrics)
    assert 'receiver_callbacks_total{provider="unknown",verdict="early"} 3.0' in shown
    assert not any('provider="a"' in line for line in shown)


def test_what_waits_is_read_from_the_store_at_every_scrape() -> None:
    metrics = Metrics(["vidgo"], ["jsonl"])
    stats = msgspec.structs.replace(
        EMPTY_RECORD,
        tasks={"completed": 7},
        deliveries={"early": 2, "unconfirmed": 3},
        polls={"vidgo": {"key_refused": 4}, "reapi": {"never": 5}},
        outbox={"gone": {"dead": 1}},
        oldest_undelivered_at=NOW - timedelta(seconds=30),
        oldest_undownloaded_at=NOW - timedelta(seconds=4),
        next_deadline_at=NOW + timedelta(seconds=90),
    )
    assert {
        'receiver_tasks{state="completed"} 7.0',
        'receiver_tasks{state="failed"} 0.0',
        "receiver_early_deliveries 2.0",
        "receiver_unconfirmed_deliveries 3.0",
        'receiver_tasks_unended{last_outcome="never",provider="vidgo"} 0.0',
        'receiver_tasks_unended{last_outcome="key_refused",provider="vidgo"} 4.0',
        'receiver_tasks_unended{last_outcome="never",provider="reapi"} 5.0',
        'receiver_outbox{sink="gone",state="dead"} 1.0',
        'receiver_outbox{sink="jsonl",state="pending"} 0.0',
        "receiver_oldest_undelivered_seconds 30.0",
        "receiver_oldest_undownloaded_seconds 4.0",
        "receiver_next_deadline_seconds 90.0",
    } <= lines(metrics, stats)
    calm = lines(metrics)
    assert 'receiver_tasks{state="completed"} 0.0' in calm
    assert "receiver_oldest_undelivered_seconds 0.0" in calm
    assert "receiver_next_deadline_seconds +Inf" in calm
    assert not any('sink="gone"' in line for line in calm)


async def test_ages_are_of_the_time_of_the_count_however_long_it_stands() -> None:
    seconds, metrics = 0.0, Metrics()
    stats = msgspec.structs.replace(
        EMPTY_RECORD,
        oldest_undelivered_at=NOW - timedelta(seconds=2),
        oldest_undownloaded_at=NOW - timedelta(seconds=3),
        next_deadline_at=NOW + timedelta(seconds=90),
    )

    async def count() -> Stats:
        nonlocal seconds
        seconds += 20  # in which the oldest that was found may have come and gone
        return stats

    recent = RecentCount(count, lambda: seconds)
    assert recent.counted_at(NOW) == NOW  # before the first
    for _ in range(3):
        counted = await recent.get()
        shown = metrics.render(counted, recent.counted_at(later(seconds))).decode().splitlines()
        assert {
            "receiver_oldest_undelivered_seconds 2.0",
            "receiver_oldest_undownloaded_seconds 3.0",
            "receiver_next_deadline_seconds 90.0",
        } <= set(shown)
        seconds += 150
    assert (seconds, recent.counted_at(later(seconds))) == (470, NOW)


def test_what_came_while_it_was_counted_has_no_age_yet() -> None:
    stats = msgspec.structs.replace(
        EMPTY_RECORD, oldest_undelivered_at=later(20), next_deadline_at=NOW - timedelta(seconds=5)
    )
    assert {
        "receiver_oldest_undelivered_seconds 0.0",
        "receiver_next_deadline_seconds -5.0",
    } <= lines(Metrics(), stats)


def test_a_providers_trouble_is_told_as_it_is_now() -> None:
    metrics = Metrics(["vidgo", "reapi"])
    for troubled in (True, False):
        shown = metrics.render(None, NOW, {"vidgo": troubled}).decode()
        assert f'receiver_provider_trouble{{provider="vidgo"}} {troubled:.1f}' in shown.splitlines()
        assert 'provider="reapi"' not in "".join(re.findall("receiver_provider_trouble{.*", shown))


def test_a_sinks_trouble_is_told_as_it_is_now() -> None:
    metrics = Metrics([], ["app"])
    for is_down in (True, False):
        shown = metrics.render(None, NOW, sinks_down={"app": is_down}).decode()
        assert f'receiver_sink_trouble{{sink="app"}} {is_down:.1f}' in shown.splitlines()


def test_counters_are_told_even_when_the_store_cannot_be_asked() -> None:
    metrics = Metrics(["vidgo"])
    metrics.rejected(503)
    shown = lines(metrics, None)
    assert 'receiver_callbacks_rejected_total{status="503"} 1.0' in shown
    assert not any(line.startswith("receiver_tasks") for line in shown)


def test_two_runtimes_count_apart() -> None:
    one, other = Metrics(["vidgo"]), Metrics(["vidgo"])
    one.rejected(413)
    assert any("413" in line for line in lines(one))
    assert not any("413" in line for line in lines(other))


def test_the_format_is_named() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


async def test_many_scrapes_at_once_ask_the_store_once() -> None:
    now, counted = 0.0, 0

    async def count() -> Stats:
        nonlocal counted
        counted += 1
        await asyncio.sleep(0)
        return EMPTY_RECORD

    recent = RecentCount(count, lambda: now)
    await asyncio.gather(*(recent.get() for _ in range(50)))
    assert counted == 1
    now = 6.0
    await recent.get()
    assert counted == 2


class Counting:
    """A count that takes its time by a clock that nothing else moves."""

    def __init__(self, took: float) -> None:
        self.took = took
        self.now = 0.0
        self.counted = 0

    async def count(self) -> Stats:
        self.now, self.counted = self.now + self.took, self.counted + 1
        return EMPTY_RECORD


@pytest.mark.parametrize(("took", "stands"), [(0.001, 5.0), (3.0, 60.0), (300.0, 600.0)])
async def test_the_longer_counting_takes_the_longer_a_count_stands(took: float, stands: float) -> None:
    counting = Counting(took)
    recent = RecentCount(counting.count, lambda: counting.now)
    await recent.get()
    counting.now = took + stands - 0.01
    await recent.get()
    assert counting.counted == 1
    counting.now = took + stands
    await recent.get()
    assert counting.counted == 2


@pytest.mark.parametrize(("took", "stands"), [(0.001, 5.0), (0.3, 30.0), (300.0, 600.0)])
async def test_for_a_glance_a_count_that_costs_much_stands_longer(took: float, stands: float) -> None:
    counting = Counting(took)
    recent = RecentCount(counting.count, lambda: counting.now)
    await recent.get()
    counting.now = took + stands - 0.01
    await recent.get(glance=True)
    assert counting.counted == 1
    counting.now = took + stands
    await recent.get(glance=True)
    assert counting.counted == 2


async def test_one_slow_count_among_quick_ones_stands_no_longer_than_they_do() -> None:
    counting = Counting(0.01)
    recent = RecentCount(counting.count, lambda: counting.now)
    await recent.get()
    counting.now, counting.took = counting.now + 5, 30.0
    await recent.get()
    counting.took = 0.01
    counting.now += 4.9
    await recent.get()
    assert counting.counted == 2
    await recent.get(anew=True)  # an admin's is made anew all the same
    assert counting.counted == 3
    counting.now += 5
    await recent.get()
    assert counting.counted == 4


async def test_counts_that_stay_slow_stand_long_from_the_second_on() -> None:
    counting = Counting(0.01)
    recent = RecentCount(counting.count, lambda: counting.now)
    await recent.get()
    counting.took = 3.0
    for _ in range(2):
        counting.now += 5
        await recent.get()
    counting.now += 59.9
    await recent.get()
    assert counting.counted == 3
    counting.now += 0.1
    await recent.get(anew=True)
    assert counting.counted == 4
