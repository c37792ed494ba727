"""The history of a task, as `receiver tasks show` tells it."""

from datetime import UTC, datetime
from typing import Any

import click
import pytest

from receiver.cli.tables import print_lines
from receiver.timeline import elapsed, timeline

SUBMITTED_AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def at(clock: str) -> str:
    return f"2026-11-21T{clock}.000Z"


def delivery(clock: str, verdict: str, **more: Any) -> dict[str, Any]:
    usual = {"via": "callback", "proof": "provider", "provider_state": "finished", "note": None, "seen": 1}
    return {**usual, "verdict": verdict, "received_at": at(clock), "last_seen_at": at(clock), **more}


def attempt(clock: str, target: str, outcome: str, number: int = 1, **more: Any) -> dict[str, Any]:
    usual = {"seconds": 0.25, "detail": None, "times": 1, "last_started_at": at(clock)}
    return {**usual, "target": target, "number": number, "outcome": outcome, "started_at": at(clock), **more}


def notification(sink: str, state: str, **more: Any) -> dict[str, Any]:
    usual = {"revision": 1, "replay_id": None, "attempts": 1, "due_at": None, "settled_at": None}
    usual |= {"outcome": None, "detail": None}
    return {**usual, "sink": sink, "state": state, **more}


def task(**more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"deliveries": [], "attempts": [], "notifications": [], "poll": None}
    usual = {
        "submitted_at": at("10:00:00"), "bound_at": at("10:00:00"), "ended_at": None, "type": None,
        "revision": None,
    }  # fmt: skip
    return {**usual, **empty, **more}


def plain(told: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str]]:
    """Without the absolute times and the colours."""
    return [(since, what, click.unstyle(how)) for _, since, what, how in told]


def test_what_is_left_out_is_said_where_it_lies() -> None:
    told = timeline(
        task(
            deliveries=[delivery(f"10:00:0{second}", "progress") for second in (1, 7, 8)],
            attempts=[attempt(f"10:00:{second}", "asset 0", "timeout") for second in (10, 40)],
            left_out={"deliveries": 1234, "notifications": 0, "attempts": 1},
        )
    )
    assert [(since, what, how.split(",")[0]) for since, what, how in plain(told)] == [
        ("+0.0 s", "submitted", ""),
        ("+1.0 s", "callback received", "progress"),
        ("+7.0 s", "...", "1"),
        ("+7.0 s", "callback received", "progress"),
        ("+8.0 s", "callback received", "progress"),
        ("+10.0 s", "asset 0", "timeout (attempt 1"),
        ("+40.0 s", "...", "1 attempt up to here left out: --all shows them"),
        ("+40.0 s", "asset 0", "timeout (attempt 1"),
    ]


def test_a_task_that_needed_everything_is_told_in_the_order_of_time() -> None:
    told = timeline(
        task(
            bound_at=at("10:00:01"),
            ended_at=at("10:05:31"),
            type="task.completed",
            revision=2,
            deliveries=[
                delivery("10:05:20", "unconfirmed", provider_state=None, seen=2, last_seen_at=at("10:05:22")),
                delivery("10:05:23", "accepted", via="poll", proof="poll"),
            ],
            attempts=[
                attempt("10:05:24", "asset 0", "gone", detail="link renewed"),
                attempt("10:05:30", "asset 0", "stored", 2),
                attempt("10:05:32", "sink jsonl", "delivered"),
                attempt("12:00:00", "sink jsonl", "delivered"),
            ],
            notifications=[
                notification("jsonl", "delivered", settled_at=at("10:05:32")),
                notification("jsonl", "delivered", replay_id="rpl_1", settled_at=at("12:00:01")),
                notification("hook", "dead", attempts=60, revision=2, settled_at=at("12:00:02")),
                notification("queue", "pending", attempts=3, due_at=at("12:30:00")),
                notification(
                    "down", "pending", attempts=0, due_at=at("12:31:00"), outcome="timeout", detail="slow"
                ),
            ],
        )
    )
    assert plain(told) == [
        ("+0.0 s", "submitted", ""),
        ("+1.0 s", "bound", ""),
        (
            "+5 min 20 s",
            "callback received",
            "unconfirmed, held until the provider confirms, proof provider, seen 2 times, last +5 min 22 s",
        ),
        ("+5 min 23 s", "poll answered", "accepted, said finished, proof poll"),
        ("+5 min 24 s", "asset 0", "gone (attempt 1, 0.250 s): link renewed"),
        ("+5 min 30 s", "asset 0", "stored (attempt 2, 0.250 s)"),
        ("+5 min 31 s", "ended", "completed, revision 2"),
        ("+5 min 32 s", "sink jsonl", "delivered (attempt 1, 0.250 s)"),
        ("+2 h 0 min", "sink jsonl", "delivered (attempt 1, 0.250 s)"),
        ("+2 h 0 min", "sink jsonl", "delivered after 1 attempt, replay rpl_1"),
        ("+2 h 0 min", "sink hook", "given up after 60 attempts, revision 2"),
        ("+2 h 30 min", "sink queue", "attempt 4 due"),
        ("+2 h 31 min", "sink down", "attempt 1 due, last try: timeout: slow"),
    ]


def test_attempts_that_ended_alike_are_told_in_one_line() -> None:
    run = attempt(
        "10:00:02", "sink hook", "timeout", 57, times=57, last_started_at=at("12:05:00"), detail="slow"
    )
    assert plain(timeline(task(attempts=[run])))[1:] == [
        (
            "+2.0 s",
            "sink hook",
            "timeout (x 57, from +2.0 s to +2 h 5 min, the last attempt 57, 0.250 s): slow",
        )
    ]


def test_a_task_without_an_end_says_when_its_provider_was_asked_and_will_be() -> None:
    poll = {"asked": 3, "outcome": "in_progress", "detail": "still running", "asked_at": at("10:10:00")}
    told = timeline(task(poll=poll | {"due_at": at("10:12:15")}))
    assert plain(told[1:]) == [
        ("+10 min 0 s", "provider asked", "in_progress (asked 3 times): still running"),
        ("+12 min 15 s", "provider", "to be asked, question 4"),
    ]


def test_a_task_that_nobody_asked_about_yet_says_when_that_will_be_if_ever() -> None:
    poll = {"asked": 0, "outcome": None, "detail": None, "asked_at": None, "due_at": at("10:05:00")}
    assert plain(timeline(task(poll=poll)))[1:] == [("+5 min 0 s", "provider", "to be asked, question 1")]
    unasked = poll | {"due_at": None}
    assert len(timeline(task(poll=unasked))) == 1


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2026-11-21T10:00:00.000Z", "+0.0 s"),
        ("2026-11-21T10:00:03.249Z", "+3.2 s"),
        ("2026-11-21T09:59:58.000Z", "-2.0 s"),
        ("2026-11-21T10:00:59.960Z", "+1 min 0 s"),
        ("2026-11-21T10:59:59.600Z", "+1 h 0 min"),
        ("2026-11-21T12:05:00.000Z", "+2 h 5 min"),
        ("2026-11-24T14:00:00.000Z", "+3 d 4 h"),
    ],
)
def test_the_time_since_the_submission_is_short(moment: str, said: str) -> None:
    assert elapsed(SUBMITTED_AT, moment) == said


def test_columns_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines([("a", "+0.0 s", "x", ""), ("a", "+5 min 12 s", "longer", "end")], right=(1,))
    assert capsys.readouterr().out == ("a       +0.0 s  x\na  +5 min 12 s  longer  end\n")


def test_words_from_outside_cannot_move_the_cursor() -> None:
    sent = delivery("10:00:05", "accepted", provider_state="\x1b[2J", note="\r\n")
    _, told = plain(timeline(task(deliveries=[sent])))
    assert told[2] == "accepted, said \\x1b[2J, proof provider, \\r\\n"
