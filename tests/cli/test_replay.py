"""Replays and dead letters on the command line: plan, question, the way to the end, exit codes."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from receiver.cli import follow, main
from receiver.times import from_text
from tests.support.cli_stub import Answer, Answers, Stub, answering
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("plain_environment", "quick_looks")

TOKEN = "a-token-for-the-command-line"

REPLAY: dict[str, Any] = {
    "id": "rpl_1",
    "stage": "notify",
    "filter": {"provider": "vidgo"},
    "sinks": [],
    "rate": None,
    "state": "running",
    "requested_by": "admin 1a2b3c4d",
    "created_at": "2026-11-21T10:00:00.000Z",
    "finished_at": None,
    "matched": 132,
    "looked_at": 0,
    "queued": 0,
    "settled": 0,
    "results": {},
}
HALFWAY = REPLAY | {"looked_at": 100, "queued": 200, "settled": 66, "results": {"delivered": 66}}
DONE = REPLAY | {
    "state": "done",
    "finished_at": "2026-11-21T10:00:09.000Z",
    "looked_at": 132,
    "queued": 264,
    "settled": 264,
    "results": {"delivered": 264},
}
PLAN: dict[str, Any] = {
    "id": "rpl_1",
    "act": "notify",
    "filter": {"provider": "vidgo"},
    "sinks": ["jsonl", "redis"],
    "rate": None,
    "up_to": "2026-11-21T10:00:00.000Z",
    "expires_at": "2026-11-21T10:15:00.000Z",
    "count": 132,
    "is_exact": True,
    "by": {"provider": {"vidgo": 132}, "state": {"failed": 132}, "sink": {"jsonl": 132, "redis": None}},
    "down": ["redis"],
    "examples": [{"provider": "vidgo", "task_id": "t1"}, {"provider": "vidgo", "task_id": "t2"}],
    "expected_seconds": 66.0,
    "command": "receiver replay --stage notify --provider vidgo",
    "then": {"method": "POST", "path": "/replays", "body": {"id": "rpl_1", "stage": "notify"}},
}
REQUEUE: dict[str, Any] = PLAN | {
    "act": "requeue",
    "filter": {},
    "sinks": ["hook"],
    "count": 1,
    "by": {},
    "down": [],
    "examples": [],
    "expected_seconds": None,
    "then": {"method": "POST", "path": "/dead-letters/requeue", "body": {"id": "rqe_1"}},
}
LETTER = {
    "id": "out_1.1.hook",
    "sink": "hook",
    "event_id": "evt_1",
    "provider": "vidgo",
    "task_id": "t1",
    "owner": "user-17",
    "type": "task.completed",
    "revision": 1,
    "replay_id": None,
    "attempts": 60,
    "outcome": "http_error",
    "detail": "HTTP 500",
    "created_at": "2026-11-21T10:00:00.000Z",
    "settled_at": "2026-11-22T10:00:00.000Z",
}
NO_MATCH = PLAN | {"count": 0}


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows a replay looks again at once."""
    monkeypatch.setattr(follow, "FIRST_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(follow, "LAST_LOOK_SECONDS", 0.01)


def answers(*looks: dict[str, Any] | Answer, plan: dict[str, Any] = PLAN) -> Answers:
    """What the service says to a plan, to the start, and to one look at the replay after the other."""
    return {
        "POST /plans": (200, plan),
        "POST /replays": (202, REPLAY),
        "GET /replays/rpl_1": [look if isinstance(look, tuple) else (200, look) for look in looks],
    }


def run(stub: Stub, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"RECEIVER_URL": stub.url, "RECEIVER_TOKEN": TOKEN})


def at_a_terminal(stub: Stub, typed: str, *arguments: str) -> tuple[int, str]:
    """A real process at a terminal of its own, and somebody typing: its exit code and what is seen."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "RECEIVER_URL": stub.url, "RECEIVER_TOKEN": TOKEN, "TERM": "xterm"}
    command = [sys.executable, "-m", "receiver", *arguments]
    with subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b""
        with suppress(OSError):  # how a terminal says that nobody has it open any more
            while chunk := os.read(ours, 65536):
                seen += chunk
        os.close(ours)
    return process.returncode, seen.decode()


# --- from the plan to the end -----------------------------------------------------------------------


def test_a_replay_shows_its_plan_and_what_came_of_it() -> None:
    with answering(answers(HALFWAY, DONE)) as stub:
        result = run(stub, "replay", "--stage", "notify", "--provider", "vidgo", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "This sends 132 events again to jsonl, redis.\nThe filter: provider vidgo." in result.stderr
    assert "Replay rpl_1 is done: 132 of 132 events looked at." in result.stderr
    assert result.stdout.split() == ["outcome", "count", "delivered", "264"]
    planned, done = stub.bodies
    assert planned == {"act": "notify", "filter": {"provider": "vidgo"}, "sinks": [], "rate": None}
    assert done == PLAN["then"]["body"]


def test_a_plan_says_by_what_it_counts_for_example_which_how_long_and_what_waits() -> None:
    with answering(answers(DONE)) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes", "--reason", "INC-77")
    assert result.stderr.startswith(
        "This sends 132 events again to jsonl, redis.\n"
        "The filter: provider vidgo.\n"
        "By provider vidgo 132; by state failed 132; by sink jsonl 132, redis some.\n"
        "For example: vidgo/t1, vidgo/t2.\n"
        "It takes about 66 s.\n"
        "What is for redis waits, as that takes nothing now.\n"
    )
    assert stub.bodies[1] == {"id": "rpl_1", "stage": "notify", "reason": "INC-77"}


def test_every_clause_of_the_filter_goes_to_the_service_by_its_name_there() -> None:
    options = {
        "--provider": "vidgo", "--owner": "user-17", "--state": "partial", "--type": "task.partial",
        "--since": "2026-11-21T12:00:00+02:00", "--until": "1h", "--task": "a/b", "--sink": "redis",
        "--rate": "2.5", "--logged-since": "2026-11-21T10:00:00Z", "--logged-until": "2026-11-21T11:00:00Z",
    }  # fmt: skip
    arguments = [word for pair in options.items() for word in pair]
    with answering(answers(DONE)) as stub:
        run(stub, "replay", "--stage", "notify", *arguments, "--task", "c", "--sink", "jsonl", "--yes")
    asked: Any = stub.bodies[0]
    until = from_text(asked["filter"].pop("until"))
    assert abs(datetime.now(UTC) - timedelta(hours=1) - until) < timedelta(minutes=1)
    assert asked == {
        "act": "notify",
        "filter": {
            "provider": "vidgo", "owner": "user-17", "state": "partial", "type": "task.partial",
            "since": "2026-11-21T10:00:00.000Z", "task_ids": ["a/b", "c"],
            "logged_since": "2026-11-21T10:00:00.000Z", "logged_until": "2026-11-21T11:00:00.000Z",
        },
        "sinks": ["redis", "jsonl"],
        "rate": 2.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("notify", "This sends 1 event again to jsonl, redis, at most 2 a second."),
        ("fetch", "This downloads what is missing of 1 task again, at most 2 a second."),
        ("reprocess", "This reads 1 kept delivery with today's adapters, at most 2 a second."),
        ("poll", "This asks the providers now about 1 task without an end, at most 2 a second."),
    ],
)
def test_a_dry_run_says_what_each_stage_would_do_and_starts_nothing(stage: str, said: str) -> None:
    few = {"count": 1, "filter": {}, "rate": 2.0, "by": {}, "down": [], "examples": []}
    plan = PLAN | few | {"act": stage, "expected_seconds": None}
    with answering(answers(plan=plan)) as stub:
        result = run(stub, "replay", "--stage", stage, "--dry-run")
        as_json = run(stub, "replay", "--stage", stage, "--plan-only", "--json")
    assert result.stdout == f"{said}\nThe filter: everything.\n"
    assert result.exit_code == as_json.exit_code == 0
    assert json.loads(as_json.stdout) == plan
    assert stub.asked == ["POST /plans"] * 2


@pytest.mark.parametrize(
    "results",
    [{"delivered": 1, "refused": 1}, {"unrecognised": 3}, {"unpolled": 3}, {"delivered": 1, "withdrawn": 2}],
)
def test_a_replay_with_failures_fails(results: dict[str, int]) -> None:
    with answering(answers(DONE | {"results": results})) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes")
    assert result.exit_code == 1
    assert all(name in result.stdout for name in results)
    assert ("no API key" in result.stderr) == ("unpolled" in results)
    assert ("sinks that are not set any more" in result.stderr) == ("withdrawn" in results)


def test_a_replay_that_had_nothing_to_do_says_why() -> None:
    idle = DONE | {"stage": "poll", "queued": 0, "settled": 0, "results": {}}
    with answering(answers(idle, plan=PLAN | {"act": "poll"})) as stub:
        result = run(stub, "replay", "--stage", "poll", "--yes")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "is done: 132 of 132 tasks looked at; they have ended meanwhile" in result.stderr


def test_a_replay_that_somebody_cancels_fails() -> None:
    with answering(answers(HALFWAY | {"state": "cancelled"})) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes")
    assert result.exit_code == 1
    assert "is cancelled: 100 of 132 events looked at" in result.stderr


@pytest.mark.parametrize("extra", [[], ["--yes"], ["--dry-run"], ["--json"]])
def test_where_nothing_matches_nothing_is_asked_and_nothing_starts(extra: list[str]) -> None:
    with answering(answers(plan=NO_MATCH)) as stub:
        result = run(stub, "replay", "--stage", "notify", *extra)
    assert result.exit_code == 3
    assert result.stderr == "receiver: no matching events found\n"
    assert stub.asked == ["POST /plans"]


def test_json_is_the_last_answer_and_nothing_else_on_stdout() -> None:
    with answering(answers(DONE)) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes", "--json")
    assert json.loads(result.stdout) == DONE


def test_without_waiting_the_id_is_printed_and_how_to_go_on() -> None:
    with answering(answers()) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes", "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "rpl_1\n")
    assert "`receiver replays follow rpl_1`" in result.stderr
    assert stub.asked == ["POST /plans", "POST /replays"]


def test_a_stage_must_be_named_and_known() -> None:
    with answering({}) as stub:
        assert run(stub, "replay").exit_code == 2
        assert run(stub, "replay", "--stage", "redo").exit_code == 2
    assert stub.asked == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "--stage", "poll", "--type", "task.failed"], "only about tasks in state submitted"),
        (["replay", "--stage", "poll", "--state", "failed"], "only about tasks in state submitted"),
        (["replay", "--stage", "poll", "--since", "1h", "--until", "2h"], "--since must be before --until"),
        (["dead", "requeue", "--since", "1h", "--until", "2h"], "--since must be before --until"),
        (["dead", "list", "--since", "1h", "--until", "2h"], "--since must be before --until"),
        (["dead", "list", "--logged-since", "1h", "--logged-until", "2h"], "--logged-since must be before"),
    ],
)
def test_a_filter_that_can_match_nothing_is_a_usage_error(arguments: list[str], said: str) -> None:
    with answering({}) as stub:
        result = run(stub, *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert stub.asked == []


@pytest.mark.parametrize("rate", ["0", "1e-12", "-1", "nan"])
def test_a_rate_that_would_never_end_is_a_usage_error(rate: str) -> None:
    with answering({}) as stub:
        assert run(stub, "replay", "--stage", "notify", "--rate", rate).exit_code == 2
    assert stub.asked == []


def test_what_the_service_refuses_is_told_in_its_words() -> None:
    problem = {"title": "Unknown sink", "detail": "A sink must be one of: jsonl."}
    with answering({"POST /plans": (400, problem)}) as stub:
        result = run(stub, "replay", "--stage", "notify", "--sink", "nope", "--yes")
    assert result.exit_code == 2
    assert result.stderr == "receiver: Unknown sink: A sink must be one of: jsonl.\n"


# --- the question -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["replay", "--stage", "notify"], ["dead", "requeue"]])
def test_without_a_terminal_nothing_is_done_unless_told_yes(command: list[str]) -> None:
    with answering(answers()) as stub:
        result = run(stub, *command)
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert len(stub.asked) == 1


def test_a_person_at_a_terminal_is_asked_and_sees_a_bar() -> None:
    with answering(answers(HALFWAY, DONE, plan=PLAN | {"count": 100})) as stub:
        code, seen = at_a_terminal(stub, "y\n", "replay", "--stage", "notify")
    assert code == 0, seen
    assert "This sends 100 events again" in seen
    assert "Go ahead? [y/N]: " in seen
    assert "100 of 132 events looked at, 66 of 200 settled" in seen
    assert "100%" in seen
    assert "264" in seen


def test_a_no_leaves_everything_as_it_is() -> None:
    with answering(answers(plan=PLAN | {"count": 100})) as stub:
        code, seen = at_a_terminal(stub, "n\n", "replay", "--stage", "notify")
    assert code == 1
    assert "Nothing was done." in seen
    assert stub.asked == ["POST /plans"]


@pytest.mark.parametrize(("more", "typed"), [({}, "132"), ({"is_exact": False}, "all")])
def test_above_a_hundred_a_person_types_the_number_and_why(more: dict[str, Any], typed: str) -> None:
    with answering(answers(DONE, plan=PLAN | more)) as stub:
        code, seen = at_a_terminal(stub, f"{typed}\nINC-77\n", "replay", "--stage", "notify")
        assert code == 0, seen
        assert f"Type {typed}, so that it is meant" in seen
        assert stub.bodies[-1] == {"id": "rpl_1", "stage": "notify", "reason": "INC-77"}
        asked = len(stub.asked)
        for other in ("y", "", "133"):
            assert at_a_terminal(stub, f"{other}\n", "replay", "--stage", "notify")[0] == 1
        assert stub.asked[asked:] == ["POST /plans"] * 3


# --- on the way -------------------------------------------------------------------------------------


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "LINE_SECONDS", 0.0)
    with answering(answers(HALFWAY, HALFWAY | {"state": "paused"}, DONE)) as stub:
        result = run(stub, "replays", "follow", "rpl_1")
    assert result.exit_code == 0
    assert "\n".join(result.stderr.splitlines()[:3]) == (
        "100 of 132 events looked at, 66 of 200 notifications settled\n"
        "paused, 100 of 132 events looked at, 66 of 200 notifications settled\n"
        "132 of 132 events looked at, 264 of 264 notifications settled"
    )


def test_following_outlives_a_restart_of_the_service() -> None:
    stopping: Answer = (503, {"title": "Unavailable for now", "detail": "The service is stopping."})
    with answering(answers(HALFWAY, stopping, stopping, DONE)) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes")
    assert result.exit_code == 0


def test_following_gives_up_in_the_end_and_says_that_the_replay_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0.05)
    with answering(answers((503, {"title": "Unavailable", "detail": "Later."}))) as stub:
        result = run(stub, "replay", "--stage", "notify", "--yes")
    assert result.exit_code == 1
    assert "The replay goes on by itself." in result.stderr
    assert "receiver: Unavailable: Later." in result.stderr


def test_ctrl_c_leaves_the_replay_running_and_says_how_to_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        with answering(answers(HALFWAY)) as stub:

            def interrupt() -> None:
                wait_until(lambda: "GET /replays/rpl_1" in stub.asked)
                os.kill(os.getpid(), signal.SIGINT)

            thread = threading.Thread(target=interrupt)
            thread.start()
            result = run(stub, "replay", "--stage", "notify", "--yes")
            thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 1
    assert "The replay goes on by itself." in result.stderr
    assert "`receiver replays cancel rpl_1`" in result.stderr
    assert not [each for each in stub.asked if "cancel" in each]


# --- those there are --------------------------------------------------------------------------------


def test_replays_are_listed_with_how_far_they_are() -> None:
    with answering({"GET /replays": (200, {"replays": [DONE, HALFWAY]})}) as stub:
        result = run(stub, "replays", "list", "--limit", "2")
        as_json = run(stub, "replays", "list", "--json")
    assert result.exit_code == 0
    assert "132 of 132" in result.stdout
    assert "66 of 200" in result.stdout
    assert "limit=2" in stub.asked[0]
    assert json.loads(as_json.stdout) == {"replays": [DONE, HALFWAY]}


def test_no_replays_are_nothing_found() -> None:
    with answering({"GET /replays": (200, {"replays": []})}) as stub:
        assert run(stub, "replays", "list").exit_code == 3


@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        ("show", "GET /replays/rpl_1"),
        ("pause", "POST /replays/rpl_1/pause"),
        ("resume", "POST /replays/rpl_1/resume"),
        ("cancel", "POST /replays/rpl_1/cancel"),
    ],
)
def test_one_replay_is_shown_and_changed(verb: str, request_: str) -> None:
    with answering({request_: (200, HALFWAY)}) as stub:
        result = run(stub, "replays", verb, "rpl_1")
        as_json = run(stub, "replays", verb, "rpl_1", "--json")
    assert result.exit_code == 0
    for part in ("admin 1a2b3c4d", "provider vidgo", "100 of 132", "66 of 200", "delivered"):
        assert part in result.stdout
    assert json.loads(as_json.stdout) == HALFWAY


def test_a_replay_that_is_over_cannot_be_changed() -> None:
    problem = {"title": "Replay ended", "detail": "It is done."}
    with answering({"POST /replays/rpl_1/pause": (409, problem)}) as stub:
        result = run(stub, "replays", "pause", "rpl_1")
    assert (result.exit_code, result.stderr) == (1, "receiver: Replay ended: It is done.\n")


# --- dead letters -----------------------------------------------------------------------------------


def test_dead_letters_are_listed_by_filter_and_page() -> None:
    page = {"dead_letters": [LETTER], "next_cursor": "c2"}
    with answering({"GET /dead-letters": (200, page)}) as stub:
        arguments = ["--provider", "vidgo", "--sink", "hook", "--task", "a", "--task", "b", "--since", "2d"]
        result = run(stub, "dead", "list", *arguments)
        as_json = run(stub, "dead", "list", "--json")
    assert result.exit_code == 0
    for part in ("hook", "t1", "60", "http_error", "HTTP 500"):
        assert part in result.stdout
    assert "--cursor c2" in result.stderr
    for part in ("provider=vidgo", "sink=hook", "task_ids=a", "task_ids=b", "since=20"):
        assert part in stub.asked[0]
    assert json.loads(as_json.stdout) == page


def test_no_dead_letters_are_nothing_found() -> None:
    none: dict[str, Any] = {"dead_letters": [], "next_cursor": None}
    requeue = REQUEUE | {"count": 0}
    with answering({"GET /dead-letters": (200, none), "POST /plans": (200, requeue)}) as stub:
        assert run(stub, "dead", "list").exit_code == 3
        assert run(stub, "dead", "requeue", "--yes").exit_code == 3
        assert run(stub, "dead", "requeue", "--dry-run").exit_code == 3
    assert len(stub.bodies) == 2


def test_requeueing_shows_its_plan_and_how_many_are_due_again() -> None:
    plan = REQUEUE | {"count": 1203, "filter": {"owner": "user-17"}}
    done: Answer = (200, {"id": "rqe_1", "requeued": 1203})
    with answering({"POST /plans": (200, plan), "POST /dead-letters/requeue": done}) as stub:
        result = run(stub, "dead", "requeue", "--owner", "user-17", "--sink", "hook", "--yes")
    assert (result.exit_code, result.stdout) == (0, "1,203 dead letters are due again.\n")
    assert "This sends 1,203 dead letters again to hook.\nThe filter: owner user-17." in result.stderr
    assert stub.bodies == [
        {"act": "requeue", "filter": {"owner": "user-17"}, "sinks": ["hook"]}, {"id": "rqe_1"},
    ]  # fmt: skip


def test_a_dry_run_of_a_requeue_changes_nothing() -> None:
    with answering({"POST /plans": (200, REQUEUE)}) as stub:
        result = run(stub, "dead", "requeue", "--dry-run")
        as_json = run(stub, "dead", "requeue", "--plan-only", "--json")
    assert result.stdout == "This sends 1 dead letter again to hook.\nThe filter: everything.\n"
    assert json.loads(as_json.stdout) == REQUEUE
    assert stub.asked == ["POST /plans"] * 2


FOUND: Answer = (200, {"dry_run": True, "waiting": 1203, "dead": 1})


@pytest.mark.parametrize(
    ("command", "done", "plan", "told", "asked"),
    [
        (
            ["move", "--sink", "old", "--to", "new"],
            {"moved": 1200, "had": 4},
            "This moves 1,203 waiting notifications and 1 dead letter of old, which is not set, to new.",
            "1,200 notifications moved to new, 4 it had already.",
            {"sink": "old", "to": "new"},
        ),
        (
            ["drop", "--sink", "old"],
            {"dropped": 1204},
            "This drops 1,203 waiting notifications and 1 dead letter of old, which is not set.",
            "1,204 notifications dropped.",
            {"sink": "old"},
        ),
    ],
)
def test_clearing_up_after_a_sink_shows_its_plan_and_what_was_done(
    command: list[str], done: dict[str, Any], plan: str, told: str, asked: dict[str, Any]
) -> None:
    with answering({f"POST /dead-letters/{command[0]}": [FOUND, (200, done)]}) as stub:
        result = run(stub, "dead", *command, "--yes")
    assert (result.exit_code, result.stdout) == (0, f"{told}\n")
    assert plan in result.stderr
    assert ("What new has already is not sent again." in result.stderr) is ("to" in asked)
    assert stub.bodies == [asked | {"dry_run": True}, asked]

    with answering({f"POST /dead-letters/{command[0]}": FOUND}) as stub:
        dry = run(stub, "dead", *command, "--dry-run")
        as_json = run(stub, "dead", *command, "--dry-run", "--json")
        unasked = run(stub, "dead", *command)
    assert dry.exit_code == 0
    assert dry.stdout.startswith(f"{plan}\n")
    assert json.loads(as_json.stdout) == FOUND[1]
    assert (unasked.exit_code, stub.bodies) == (2, [asked | {"dry_run": True}] * 3)  # no terminal to ask at

    nothing: Answer = (200, {"dry_run": True, "waiting": 0, "dead": 0})
    with answering({f"POST /dead-letters/{command[0]}": nothing}) as stub:
        assert run(stub, "dead", *command, "--yes").exit_code == 3


# --- times ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)])
def test_a_time_can_be_so_long_ago(text: str, seconds: int) -> None:
    with answering({"GET /dead-letters": (200, {"dead_letters": [LETTER], "next_cursor": None})}) as stub:
        run(stub, "dead", "list", "--json", "--since", text)
    since = from_text(stub.asked[0].partition("since=")[2].partition("&")[0].replace("%3A", ":"))
    assert abs(datetime.now(UTC) - timedelta(seconds=seconds) - since) < timedelta(minutes=1)


@pytest.mark.parametrize("text", ["yesterday", "1w", "-1h", "2026-11-21T10:00:00", "999999999d", "", "h"])
def test_what_is_no_time_is_a_usage_error_that_says_what_is(text: str) -> None:
    with answering({}) as stub:
        for command in (["dead", "list"], ["tasks", "list"], ["replay", "--stage", "poll"]):
            result = run(stub, *command, "--since", text)
            assert result.exit_code == 2
            assert "30m, 1h or 7d before now" in " ".join(result.stderr.split())
    assert stub.asked == []


# --- who did it -------------------------------------------------------------------------------------


ENTRY = {
    "number": 7,
    "at": "2026-11-29T17:20:04.000Z",
    "who": "admin oncall",
    "said_name": "",
    "role": "admin",
    "door": "cli",
    "act": "replay.started",
    "target": "rpl_1",
    "filter": {"stage": "notify", "state": "failed"},
    "planned": 132,
    "done": None,
    "reason": "INC-77",
    "result": None,
}


def test_the_audit_says_who_did_what_and_why() -> None:
    requeue = ENTRY | {"act": "dead_letters.requeued", "done": 3, "planned": 4, "target": "rqe_1"}
    settings = ENTRY | {"act": "settings.changed", "result": "RECEIVER_EARLY_LIMIT", "reason": None}
    page = {"audit": [ENTRY, requeue, settings], "next_cursor": "c2"}
    with answering({"GET /audit": (200, page)}) as stub:
        shown = run(stub, "audit", "--act", "replay.started", "--about", "rpl_1", "--since", "1h")
        as_json = run(stub, "audit", "--json")
    assert shown.exit_code == 0, shown.stderr
    for words in ("admin oncall", "rpl_1 stage notify, state failed", "132 planned", "3 of 4", "INC-77"):
        assert words in shown.stdout
    assert "RECEIVER_EARLY_LIMIT" in shown.stdout
    assert "--cursor c2" in shown.stderr
    assert json.loads(as_json.stdout) == page
    for part in ("act=replay.started", "target=rpl_1", "since=20"):
        assert part in stub.asked[0]


def test_all_of_the_audit_is_printed_as_json_lines() -> None:
    pages = [
        (200, {"audit": [ENTRY], "next_cursor": "c2"}),
        (200, {"audit": [ENTRY | {"number": 6}], "next_cursor": None}),
    ]
    with answering({"GET /audit": pages}) as stub:
        result = run(stub, "audit", "--all")
        empty: Answer = (200, {"audit": [], "next_cursor": None})
    assert [json.loads(line)["number"] for line in result.stdout.splitlines()] == [7, 6]
    with answering({"GET /audit": empty}) as stub:
        assert run(stub, "audit").exit_code == 3
