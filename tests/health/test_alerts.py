"""A line that appears, worsens or ends is told of once, whatever happens to the process or the record."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from receiver.errors import Unavailable
from receiver.health.alerts import GRACE, Alerter, plan, service_name
from receiver.health.lines import HealthReport, Line, Severity
from receiver.models import Alert, AlertChange
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.testing import MemorySink, TurnableClock
from tests.support.engines import Place, place_on
from tests.support.factories import NOW, later

MINUTE, HOUR = 60.0, 3600.0
APPEARED, WORSENED, ENDED = AlertChange


def line(key: str = "sink:app", severity: Severity = Severity.WARNING, since: float = 0.0) -> Line:
    return Line(
        key=key,
        severity=severity,
        since=later(-since),
        cause=f"{key} & its <cause>",
        images=412,
        step="do something",
        command="receiver sinks list",
    )


def told(severity: Severity = Severity.WARNING, ago: float = 0.0, *, is_over: bool = False) -> Alert:
    return Alert(key="sink:app", severity=severity, since=NOW, told_at=later(-ago), is_over=is_over)


CRITICAL = line(severity=Severity.CRITICAL)


@pytest.mark.parametrize(
    ("lines", "before", "change"),
    [
        ([line()], None, APPEARED),
        ([line()], told(ago=MINUTE), None),
        ([line()], told(ago=5 * HOUR), None),
        ([line()], told(ago=MINUTE, is_over=True), None),
        ([line()], told(ago=HOUR, is_over=True), APPEARED),
        ([line()], told(ago=-MINUTE, is_over=True), APPEARED),
        ([CRITICAL], told(ago=MINUTE), None),
        ([CRITICAL], told(ago=HOUR), WORSENED),
        ([line()], told(Severity.CRITICAL, ago=2 * HOUR), None),
        ([], told(ago=MINUTE), ENDED),
        ([], told(ago=MINUTE, is_over=True), None),
        ([], None, None),
        ([line("loop:alerts")], None, None),
    ],
    ids=[
        *("new", "goes on", "goes on for long", "back within the hour", "back later", "told in the future"),
        *("worse within the hour", "worse", "better", "over", "told that it is over", "nothing", "its own"),
    ],
)
def test_of_a_line_one_beginning_is_told_in_an_hour_and_its_end_at_once(
    lines: Sequence[Line], before: Alert | None, change: AlertChange | None
) -> None:
    known = {before.key: before} if before else {}
    changes = plan(lines, known, NOW, lambda _: True)
    assert [each.change for each in changes] == ([change] if change else [])


def test_a_line_that_could_not_be_looked_at_does_not_end() -> None:
    assert plan([], {"sink:app": told()}, NOW, lambda _: False) == []


class World:
    """An alerter over a real record, and what it sees."""

    def __init__(
        self, store: Store, *, as_slack: bool = False, is_mine: bool = True, has_pages: bool = True
    ) -> None:
        self.clock = TurnableClock(NOW)
        self.sink = MemorySink()
        self.store = store
        self.lines: list[Line] = []
        self.unknown: tuple[str, ...] = ()
        self._as_slack = as_slack
        self._has_pages = has_pages
        self._is_mine = is_mine
        self.restart()

    def restart(self) -> None:
        self.alerter = Alerter(
            store=self.store,
            sink=self.sink,
            look=self.look,
            clock=self.clock,
            is_mine=lambda _: self._is_mine,
            service=service_name("https://receiver.example/hooks"),
            overview="https://receiver.example/hooks/admin/" if self._has_pages else None,
            as_slack=self._as_slack,
        )

    async def look(self) -> HealthReport:
        rules = {"sink", "early"} - set(self.unknown)
        return HealthReport(
            as_of=self.clock.now(),
            lines=tuple(self.lines),
            looked_at=tuple(rules),
            unknown=self.unknown,
            last_delivery_at=None,
        )

    async def rounds(self, number: int = 1, seconds: float = 10.0) -> list[dict[str, Any]]:
        """What is told in so many rounds."""
        before = len(self.sink.published)
        for _ in range(number):
            self.clock.turn(seconds)
            await self.alerter.run()
        return [json.loads(each.body) for each in self.sink.published[before:]]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    return place_on(request.param, request)


@pytest.fixture
async def store(place: Place, tmp_path: Path) -> AsyncIterator[Store]:
    store = await place.open(StoreOptions(data_dir=tmp_path, clock=TurnableClock(NOW)))
    yield store
    await store.aclose()


def changes(documents: Sequence[dict[str, Any]]) -> list[str]:
    return [document["type"] for document in documents]


async def test_an_alert_says_all_that_the_line_says(store: Store) -> None:
    world = World(store)
    world.lines = [line(since=HOUR)]
    (alert,) = await world.rounds()
    assert alert == {
        "type": "health.appeared",
        "timestamp": "2026-11-21T10:00:10.000Z",
        "data": {
            "service": "receiver.example",
            "key": "sink:app",
            "severity": "warning",
            "since": "2026-11-21T09:00:00.000Z",
            "cause": "sink:app & its <cause>",
            "images": 412,
            "step": "do something",
            "command": "receiver sinks list",
            "page": "https://receiver.example/hooks/admin/#sink:app",
        },
    }


async def test_without_pages_an_alert_leads_to_none(store: Store) -> None:
    world = World(store, has_pages=False)
    world.lines = [line()]
    (alert,) = await world.rounds()
    assert alert["data"]["page"] is None


async def test_slack_gets_one_text_that_it_does_not_take_for_markup(store: Store) -> None:
    world = World(store, as_slack=True)
    world.lines = [line()]
    (alert,) = await world.rounds()
    assert alert == {
        "text": ":large_yellow_circle: receiver.example, warning: sink:app &amp; its &lt;cause&gt;"
        " (412 images)\nto do: do something: `receiver sinks list`"
        "\nhttps://receiver.example/hooks/admin/#sink:app"
    }
    world.lines = []
    assert await world.rounds() == [{"text": ":white_check_mark: receiver.example: sink:app is over"}]


async def test_a_line_is_told_when_it_comes_and_when_it_goes_and_then_not_for_an_hour(store: Store) -> None:
    world = World(store)
    world.lines = [line()]
    assert changes(await world.rounds(5)) == [APPEARED]
    world.lines = []
    assert changes(await world.rounds(5)) == [ENDED]
    world.lines = [line()]
    assert await world.rounds(5) == []
    assert changes(await world.rounds(2, HOUR)) == [APPEARED]


async def test_what_goes_on_after_a_restart_is_not_told_again(store: Store) -> None:
    world = World(store)
    world.lines = [line()]
    await world.rounds()
    world.restart()
    assert await world.rounds(3) == []


async def test_what_was_mended_over_a_restart_ends_once_the_new_process_knows_its_way(store: Store) -> None:
    world = World(store)
    world.lines = [line()]
    await world.rounds()
    world.restart()
    world.lines = []
    assert await world.rounds(3) == []
    assert changes(await world.rounds(2, GRACE.total_seconds())) == [ENDED]


async def test_what_cannot_be_read_for_a_while_has_neither_ended_nor_begun(store: Store) -> None:
    world = World(store)
    world.lines = [line("early")]
    await world.rounds()
    world.lines, world.unknown = [], ("early",)
    assert await world.rounds(3) == []
    world.lines, world.unknown = [line("early")], ()
    assert await world.rounds(3) == []


async def test_of_several_processes_one_tells(store: Store) -> None:
    silent = World(store, is_mine=False)
    silent.lines = [line()]
    assert await silent.rounds(3) == []
    assert await store.list_alerts() == []


async def test_whoever_does_not_take_alerts_is_asked_less_and_less_and_gets_them_in_the_end(
    store: Store,
) -> None:
    world = World(store)
    world.lines = [line()]
    world.sink.fail_with = Unavailable("no answer")
    assert await world.rounds(30) == []
    assert await store.list_alerts() == []
    world.sink.fail_with = None
    assert changes(await world.rounds(30)) == [APPEARED]


async def test_while_the_record_is_away_a_line_is_told_once_and_kept_when_it_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise Unavailable("the database is away")

    world = World(store)
    world.lines = [line()]
    with monkeypatch.context() as broken:
        broken.setattr(store, "list_alerts", away)
        broken.setattr(store, "keep_alert", away)
        assert changes(await world.rounds(5)) == [APPEARED]
    await world.rounds()
    (kept,) = await store.list_alerts()
    assert (kept.key, kept.told_at, kept.is_over) == ("sink:app", later(10), False)


async def test_what_is_long_over_is_forgotten(store: Store) -> None:
    world = World(store)
    world.lines = [line(), line("early")]
    await world.rounds()
    world.lines = [line("early")]
    await world.rounds()
    assert len(await store.list_alerts()) == 2
    world.clock.turn_to(NOW + timedelta(hours=2))
    await world.rounds()
    assert [alert.key for alert in await store.list_alerts()] == ["early"]
    assert replace((await store.list_alerts())[0], told_at=NOW).severity == "warning"
