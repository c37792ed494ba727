"""What the package offers for its users' tests."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from receiver.errors import Unavailable
from receiver.models import ReportState
from receiver.options import PluginOptions
from receiver.plugins import load, names
from receiver.ports import Sink
from receiver.testing import MemorySink, TurnableClock, sample_callback
from receiver.testing import sample_notification as notification
from tests.support.samples import links_in_sample

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def test_time_stands_still_until_it_is_turned() -> None:
    clock = TurnableClock(NOW)
    assert clock.now() == clock.now() == NOW
    clock.turn(90)
    assert clock.now() == NOW + timedelta(seconds=90)
    clock.turn(-100)
    assert clock.now() == NOW - timedelta(seconds=10)
    clock.turn_to(NOW)
    assert clock.now() == NOW


def test_uptime_goes_along_when_the_hands_go_forward_and_stands_still_when_they_are_set_back() -> None:
    clock = TurnableClock(NOW)
    began = clock.uptime()
    clock.turn(90)
    assert clock.uptime() - began == timedelta(seconds=90)
    clock.turn(-86_400)
    clock.turn_to(NOW - timedelta(days=2))
    assert clock.uptime() - began == timedelta(seconds=90)
    clock.turn_to(clock.now() + timedelta(seconds=10))
    assert clock.uptime() - began == timedelta(seconds=100)


def test_ids_sort_by_the_turned_time_and_then_by_their_making() -> None:
    clock = TurnableClock(NOW)
    ids = [clock.new_id("evt"), clock.new_id("evt")]
    clock.turn(0.001)
    ids.append(TurnableClock(clock.now()).new_id("evt"))
    assert ids == sorted(set(ids))


def test_chance_repeats_by_seed() -> None:
    chances = [[TurnableClock(seed=seed).random() for _ in range(1)] for seed in (1, 1, 2)]
    assert chances[0] == chances[1] != chances[2]


async def test_the_memory_sink_keeps_what_it_gets_and_fails_on_demand(tmp_path: Path) -> None:
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        options = PluginOptions(name="mine", data_dir=tmp_path, http=client)
        sink: Sink = MemorySink.from_url("memory:", options)
    assert isinstance(sink, MemorySink)
    await sink.publish(notification("evt_1"))
    sink.fail_with = Unavailable("away", retry_after_seconds=3)
    with pytest.raises(Unavailable):
        await sink.publish(notification("evt_2"))
    with pytest.raises(Unavailable):
        await sink.ping()
    sink.fail_with = None
    await sink.publish(notification("evt_2"))
    assert [message.event_id for message in sink.published] == ["evt_1", "evt_2"]
    await sink.aclose()
    assert sink.closed


@pytest.mark.parametrize("provider", names("providers"))
def test_a_sample_says_what_it_was_asked_to_say(provider: str) -> None:
    facts = load("providers", provider)()
    links = ["https://media.example/0.png", "https://media.example/1.png"]
    report = facts.parse(json.loads(sample_callback(provider, "t1", files=links)))
    assert (report.task_id, report.state) == ("t1", ReportState.COMPLETED)
    assert [file.url for file in report.files] == links_in_sample(provider, links)
    report = facts.parse(json.loads(sample_callback(provider, "t2", error="the moon was closed")))
    assert (report.task_id, report.state) == ("t2", ReportState.FAILED)
    assert report.error_message == "the moon was closed"
    assert report.files == ()


def test_a_sample_of_a_stranger_is_an_error_that_names_the_known() -> None:
    with pytest.raises(ValueError, match="no sample for 'acme'; there are vidgo, apidot, apixo, reapi, "):
        sample_callback("acme", "t1")
