"""Each rule says what is wrong, since when, how many images it touches, and what to do; and else nothing."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from receiver.cli import main
from receiver.health import checks
from receiver.health.facts import Burst, ClockMove, Crash, Disk, Facts, Limits, ProviderSeen, SinkSeen
from receiver.health.lines import Line, Severity
from receiver.health.rules import RULES, judge
from receiver.models import Backlog, Counted, Outcome, SinkState
from receiver.models.health import MOST_COUNTED
from receiver.web.pages import login as door
from tests.support.factories import NOW, later

LIMITS = Limits(lost_after_seconds=86_400, early_limit=100, retention_days=30)
VIDGO = ProviderSeen(title="Vidgo", pushes=True, key_variable="VIDGO_API_KEY", has_key=True)
REAPI = ProviderSeen(title="reAPI", pushes=False, key_variable="REAPI_API_KEY", has_key=False)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0


def facts(**found: Any) -> Facts:
    """Where all is well but what is named."""
    well: dict[str, Any] = {"now": NOW, "limits": LIMITS, "backlog": Backlog()}
    return Facts(**well | found)


def waits(count: int, seconds: float) -> Counted:
    """So many, the first of them since so long."""
    return Counted(count=count, first_at=later(-seconds))


def backlog(**found: Any) -> Facts:
    """Where the record holds what is named; the sink app and the providers are well."""
    return facts(
        backlog=Backlog(**found),
        sinks={"app": SinkSeen(state=SinkState.OK)},
        providers={"vidgo": VIDGO, "reapi": REAPI},
    )


def sink(state: SinkState, seconds: float, outcome: Outcome = Outcome.REFUSED) -> Facts:
    """The sink app has been in a state for so long, and two events wait for it."""
    seen = SinkSeen(state=state, outcome=outcome, since=later(-seconds))
    return facts(sinks={"app": seen}, backlog=Backlog(unsent={"app": waits(2, seconds)}))


def vidgo(**seen: Any) -> Facts:
    """Vidgo as it is named, with seven open tasks."""
    provider = msgspec.structs.replace(VIDGO, **seen)
    return facts(providers={"vidgo": provider}, backlog=Backlog(open_tasks={"vidgo": waits(7, 2 * HOUR)}))


GIB = 2**30
ONCE_A_MINUTE = {"usual_gap": timedelta(minutes=1)}

# What is seen, and the line that follows: its key, severity and images, how long ago it began, its words.
WRONG: list[tuple[Facts, str, Severity, int | None, float, str]] = [
    (facts(store_problem="disk full"), "store", Severity.CRITICAL, None, 0, "disk full"),
    (
        facts(loops={"assets": "restarting after KeyError"}),
        "loop:assets",
        Severity.CRITICAL,
        None,
        0,
        "KeyError",
    ),
    (
        facts(loops={"sink app": "no process does it now"}),
        *("loop:sink app", Severity.CRITICAL, None, 0, "no process does it now"),
    ),
    (
        facts(crashes={"upkeep": Crash(times=3, at=later(-MINUTE))}),
        *("loop_restarts:upkeep", Severity.WARNING, 0, MINUTE, "3 times"),
    ),
    (
        facts(disk=Disk(free_bytes=GIB, floor_bytes=2 * GIB), backlog=Backlog(unfetched=waits(4, 1))),
        *("disk", Severity.CRITICAL, 4, 0, "1,024 MiB left: nothing is downloaded"),
    ),
    (facts(disk=Disk(free_bytes=3 * GIB, floor_bytes=2 * GIB)), "disk", Severity.WARNING, 0, 0, "3,072 MiB"),
    (
        facts(clock_move=ClockMove(at=later(-HOUR), by=timedelta(hours=-3))),
        *("clock", Severity.WARNING, 0, HOUR, "back by 3 h"),
    ),
    (sink(SinkState.STOPPED, 1, Outcome.GONE), "sink:app", Severity.CRITICAL, 2, 1, "wants no more (gone)"),
    (sink(SinkState.DOWN, 2 * HOUR), "sink:app", Severity.CRITICAL, 2, 2 * HOUR, "the oldest for 2 h"),
    (sink(SinkState.FAILING, 2 * MINUTE), "sink:app", Severity.WARNING, 2, 2 * MINUTE, "refused"),
    (
        backlog(unsent={"app": waits(3, 6 * MINUTE)}),
        "events_waiting:app",
        Severity.WARNING,
        3,
        MINUTE,
        "6 min",
    ),
    (
        backlog(unsent={"old": waits(31, DAY), "older": waits(1, 2 * DAY)}),
        *("sinks_not_set", Severity.WARNING, 32, 2 * DAY, "old (31), older (1)"),
    ),
    (
        backlog(dead={"app": waits(MOST_COUNTED + 1, HOUR)}),
        *("dead_letters", Severity.WARNING, MOST_COUNTED + 1, HOUR, "app 10,000+"),
    ),
    (
        vidgo(outcome=Outcome.OUT_OF_CREDIT, is_ours=True, since=later(-1)),
        *("provider:vidgo", Severity.CRITICAL, 7, 1, "out_of_credit"),
    ),
    (
        vidgo(outcome=Outcome.TIMEOUT, since=later(-2 * MINUTE)),
        *("provider:vidgo", Severity.WARNING, 7, 2 * MINUTE, "timeout"),
    ),
    (vidgo(has_key=False), "no_key:vidgo", Severity.NOTICE, 7, 2 * HOUR, "no key is set"),
    (
        backlog(open_tasks={"reapi": waits(3, -5)}),
        *("no_key:reapi", Severity.WARNING, 3, -5, "ask about them: 3"),
    ),
    (
        vidgo(called_at=later(-11 * MINUTE), **ONCE_A_MINUTE),
        *("silent:vidgo", Severity.WARNING, 7, 11 * MINUTE, "not called for 11 min"),
    ),
    (
        backlog(dying=waits(21, -7 * MINUTE)),
        "links_dying",
        Severity.CRITICAL,
        21,
        0,
        "the first in 7 min: 21",
    ),
    (backlog(unfetched=waits(2, 6 * MINUTE)), "files_waiting", Severity.WARNING, 2, MINUTE, "2 files wait"),
    (backlog(unbound=waits(12, DAY + HOUR)), "unbound", Severity.WARNING, 12, HOUR, "after 24 h, and"),
    (backlog(early=80), "early", Severity.WARNING, 80, 0, "80 of 100"),
    (backlog(early=100), "early", Severity.CRITICAL, 100, 0, "more get 503"),
    (facts(unauthorised=Burst(count=200, usual=3)), "unauthorised", Severity.WARNING, 0, 0, "200 callbacks"),
    (facts(refused=Burst(count=50, usual=0)), "refused", Severity.WARNING, 50, 0, "usually 0"),
    (backlog(unrecognised=waits(14, DAY)), "unrecognised", Severity.WARNING, 14, DAY, "came: 14"),
    (backlog(lost=waits(8, HOUR)), "lost", Severity.WARNING, 8, HOUR, "their end: 8"),
    (backlog(paused=waits(1, DAY)), "replays_paused", Severity.NOTICE, 0, DAY, "paused: 1"),
    (backlog(stalled=waits(2, HOUR)), "replays_stalled", Severity.WARNING, 0, HOUR, "no further: 2"),
    (backlog(wal_bytes=300 * 2**20), "wal", Severity.WARNING, 0, 0, "300 MiB"),
    (backlog(oldest_body_at=later(-33 * DAY)), "retention", Severity.NOTICE, 0, 3 * DAY, "3 days behind"),
]


@pytest.mark.parametrize(
    ("seen", "key", "severity", "images", "began", "words"), WRONG, ids=[wrong[1] for wrong in WRONG]
)
def test_what_is_wrong_has_one_line(
    seen: Facts, key: str, severity: Severity, images: int | None, began: float, words: str
) -> None:
    (line,) = judge(seen, {})
    assert (line.key, line.severity, line.images) == (key, severity, images)
    assert line.since == later(-began)
    assert words in line.cause


WELL = {
    "nothing at all": facts(),
    "loops that run, stand by or begin": facts(
        loops={
            "a": "running",
            "b": "running, but slow",
            "c": "standby",
            "d": "not started",
            "e": "stopped: x",
        }
    ),
    "an old crash": facts(crashes={"upkeep": Crash(times=1, at=later(-2 * HOUR))}),
    "room on the disk": facts(disk=Disk(free_bytes=4 * GIB, floor_bytes=2 * GIB)),
    "a clock that was moved days ago": facts(clock_move=ClockMove(at=later(-2 * DAY), by=timedelta(days=1))),
    "a sink that is down for a moment": sink(SinkState.DOWN, 30),
    "an event that waits for a moment": backlog(unsent={"app": waits(9, MINUTE)}),
    "a host that is away for a moment": vidgo(outcome=Outcome.TIMEOUT, since=later(-30)),
    "a task without a key whose callback may come": facts(
        providers={"vidgo": msgspec.structs.replace(VIDGO, has_key=False)},
        backlog=Backlog(open_tasks={"vidgo": waits(1, MINUTE)}),
    ),
    "a provider that is silent though nothing is ordered": facts(
        providers={"vidgo": msgspec.structs.replace(VIDGO, called_at=later(-DAY), **ONCE_A_MINUTE)}
    ),
    "a gap as there may be": vidgo(called_at=later(-9 * MINUTE), **ONCE_A_MINUTE),
    "a file that waits for a moment": backlog(unfetched=waits(1, MINUTE)),
    "some early callbacks": backlog(early=79),
    "a body that upkeep will get to": backlog(oldest_body_at=later(-30.5 * DAY)),
}


@pytest.mark.parametrize("seen", WELL.values(), ids=WELL)
def test_what_is_usual_has_no_line(seen: Facts) -> None:
    assert judge(seen, {}) == []


def test_every_rule_is_in_the_table() -> None:
    assert {wrong[1].partition(":")[0] for wrong in WRONG} == {rule.name for rule in RULES}


def test_what_is_critical_comes_before_all_that_touches_more_images() -> None:
    seen = facts(
        disk=Disk(free_bytes=GIB, floor_bytes=2 * GIB),
        backlog=Backlog(dying=waits(1, HOUR), unbound=waits(5000, 2 * DAY)),
    )
    lines = judge(seen, {})
    assert [line.severity.rank for line in lines] == sorted(line.severity.rank for line in lines)
    assert [line.key for line in lines][-1] == "unbound"


def test_of_what_is_equally_severe_most_images_come_first_then_what_is_oldest() -> None:
    seen = facts(
        store_problem="away",
        backlog=Backlog(
            lost=waits(5, HOUR), unbound=waits(5, 2 * DAY), unrecognised=waits(9, 1), paused=waits(1, DAY)
        ),
    )
    assert [line.key for line in judge(seen, {})] == [
        *("store", "unrecognised", "unbound", "lost", "replays_paused"),
    ]


def test_a_line_without_a_time_has_begun_when_it_was_noticed() -> None:
    (line,) = judge(facts(store_problem="away"), {"store": later(-HOUR)})
    assert line.since == later(-HOUR)


def test_where_the_record_cannot_be_read_what_memory_knows_is_told() -> None:
    seen = msgspec.structs.replace(sink(SinkState.DOWN, HOUR), backlog=None, store_problem="away")
    assert [line.key for line in judge(seen, {})] == ["store", "sink:app"]


def test_loops_that_wait_for_the_store_are_no_lines_of_their_own() -> None:
    loops = {"assets": "waiting: the database is away", "upkeep": "restarting after KeyError"}
    assert [line.key for line in judge(facts(store_problem="away", loops=loops), {})] == [
        *("loop:upkeep", "store"),
    ]


@pytest.mark.parametrize("seen", [wrong[0] for wrong in WRONG], ids=[wrong[1] for wrong in WRONG])
def test_every_next_step_is_a_command_that_there_is(seen: Facts) -> None:
    lines: list[Line] = judge(seen, {})
    for line in lines:
        assert line.step
        if line.command:
            check_command(line.command)


REMEDIES = (
    *re.findall(r"`(receiver [a-z][^`]*)`", Path(checks.__file__).read_text()),
    *re.findall(r"`(receiver [a-z][^`]*)`", Path(door.__file__).read_text()),
)


@pytest.mark.parametrize("command", REMEDIES)
def test_every_command_that_a_remedy_names_is_one_that_there_is(command: str) -> None:
    assert len(REMEDIES) >= 3
    check_command(command)


def check_command(typed: str) -> None:
    """Have the real command line take it apart: words, options and their values."""
    program, *words = typed.split()
    assert program == "receiver"
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, typed
        command = found
    context = click.Context(command)
    given, rest, _ = command.make_parser(context).parse_args(words)  # raises where there is no such option
    assert not rest, typed
    for parameter in command.params:
        if given.get(parameter.name or "") is not None:
            parameter.type_cast_value(context, given[parameter.name or ""])  # raises where it is none of its
