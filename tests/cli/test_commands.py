"""The command line: what people type, what they read, and the exit codes that scripts rely on."""

import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx2
import pytest
import structlog
from click.testing import CliRunner

from receiver import plugins
from receiver.cli import COMMANDS, main
from receiver.config.credentials import credentials_path, ensure_credentials
from receiver.config.fields import ALL_FIELDS
from receiver.config.settings import load_settings
from receiver.health.reachability import obstacles
from receiver.models import Proof
from receiver.tokens import Tokens
from tests.support.cli_callers import run
from tests.support.cli_stub import Answers, answering
from tests.support.sink_hosts import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("plain_environment"), pytest.mark.slow]  # a process for each command

TOKEN = "a-token-for-the-command-line"
TASK: dict[str, Any] = {
    "provider": "vidgo",
    "task_id": "t/1",
    "state": "partial",
    "waiting_on": None,
    "submission_id": "sub_1",
    "owner": "user\x1b[2J17",
    "model": "gpt-image-2",
    "metadata": {"order": 7},
    "submitted_at": "2026-11-21T10:00:00.000Z",
    "bound_at": "2026-11-21T10:00:01.000Z",
    "received_at": "2026-11-21T10:00:05.000Z",
    "ended_at": "2026-11-21T10:00:07.000Z",
    "via": "callback",
    "event_id": "evt_1",
    "type": "task.partial",
    "revision": 1,
    "error": {"code": "gone", "message": None},
    "poll": None,
    "assets": [
        {
            "index": 0,
            "state": "stored",
            "outcome": "stored",
            "media_type": "image/png",
            "bytes": 5,
            "key": "k",
        }
    ],
    "deliveries": [
        {
            "id": "dlv_1.0123456789abcdef0123456789abcdef",
            "via": "callback",
            "proof": "submission",
            "verdict": "accepted",
            "provider_state": "finished",
            "note": None,
            "bytes": 631,
            "seen": 3,
            "received_at": "2026-11-21T10:00:05.000Z",
            "last_seen_at": "2026-11-21T10:00:06.000Z",
        }
    ],
    "notifications": [
        {
            "sink": "jsonl",
            "state": "delivered",
            "revision": 1,
            "replay_id": None,
            "attempts": 1,
            "outcome": "delivered",
            "due_at": "2026-11-21T10:00:07.000Z",
            "settled_at": "2026-11-21T10:00:07.002Z",
        }
    ],
    "attempts": [
        {
            "target": "asset 0",
            "number": 1,
            "times": 1,
            "outcome": "stored",
            "started_at": "2026-11-21T10:00:05.500Z",
            "last_started_at": "2026-11-21T10:00:05.500Z",
            "seconds": 0.25,
            "detail": None,
        }
    ],
}


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A `serve` in this process says where its logs go; the tests after it want them elsewhere."""
    yield
    structlog.reset_defaults()


# --- the group --------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_names_every_command_and_the_exit_codes(option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output for name in COMMANDS)
    assert "0 done, 1 failed, 2 misconfigured, 3 nothing found" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    command: click.Command = pkgutil.resolve_name(COMMANDS[name][0])
    assert command.name == name
    assert run(name, "--help").exit_code == 0


def test_help_imports_no_server_and_no_client() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from receiver.cli import main;"
        "CliRunner().invoke(main, ['--help']); print({'uvicorn', 'httpx2', 'starlette'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_serve_help_lists_every_variable() -> None:
    output = run("serve", "--help").output
    assert all(field.variable in output for field in ALL_FIELDS)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert run("sevre").exit_code == 2


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["tasks", "list"], ["callback-url", "vidgo"]])
def test_wrong_settings_are_told_one_to_a_line_without_a_traceback(command: list[str]) -> None:
    result = run(*command, RECEIVER_LOG_LEVEL="loud", RECEIVER_RETENTON_DAYS="3")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "receiver: RECEIVER_RETENTON_DAYS is not a setting; did you mean RECEIVER_RETENTION_DAYS?",
        "receiver: RECEIVER_LOG_LEVEL must be one of debug, info, warning, error, not 'loud'",
    ]


# --- what talks to the service ----------------------------------------------------------------------


def test_adding_a_submission_prints_its_id_and_callback_url() -> None:
    row = {"id": "sub_1", "task_id": None, "callback_url": "https://h/callbacks/vidgo/s.x"}
    arguments = ["--provider", "vidgo", "--owner", "u", "--model", "m", "--metadata", '{"order": 7}']
    with answering({"POST /submissions": (201, row)}) as stub:
        result = run("submissions", "add", *arguments, RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 0
    assert result.stdout.split() == ["id", "sub_1", "callback_url", row["callback_url"]]
    assert stub.bodies == [{"provider": "vidgo", "owner": "u", "metadata": {"order": 7}, "model": "m"}]
    assert stub.tokens == {f"Bearer {TOKEN}"}


def test_metadata_must_be_an_object() -> None:
    arguments = ["--provider", "vidgo", "--owner", "u", "--metadata", "[1]"]
    result = run("submissions", "add", *arguments, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 2
    assert "--metadata" in result.stderr


def test_the_token_comes_from_the_data_folder_where_none_is_set(tmp_path: Path) -> None:
    settings = ensure_credentials(load_settings({"RECEIVER_DATA_DIR": str(tmp_path)}))
    with answering({"GET /submissions": (200, {"submissions": []})}, settings.admin_tokens) as stub:
        run("submissions", "list", RECEIVER_URL=stub.url, RECEIVER_DATA_DIR=str(tmp_path))
    assert stub.tokens == {f"Bearer {settings.admin_tokens[0]}"}


def test_without_any_token_the_command_says_where_to_get_one(tmp_path: Path) -> None:
    result = run("tasks", "list")
    assert result.exit_code == 2
    assert "set RECEIVER_TOKEN" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("noun", ["tasks", "submissions"])
def test_an_empty_list_is_nothing_found(noun: str) -> None:
    empty: dict[str, object] = {noun: [], "next_cursor": None}
    with answering({f"GET /{noun}": (200, empty)}) as stub:
        result = run(noun, "list", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
        as_json = run(noun, "list", "--json", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"receiver: no {noun} found\n")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (3, empty)


def test_a_page_that_is_empty_and_not_the_last_is_followed_by_the_next() -> None:
    row = dict.fromkeys(("id", "provider", "task_id", "owner", "model", "created_at"), "x")
    pages = [{"submissions": [], "next_cursor": "c2"}, {"submissions": [row], "next_cursor": None}]
    with answering({"GET /submissions": [(200, page) for page in pages]}) as stub:
        result = run("submissions", "list", "--owner", "x", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "x" in result.stdout
    assert ["cursor=c2" in asked for asked in stub.asked] == [False, True]


def test_listing_tasks_passes_the_filters_on_and_shows_where_to_go_on() -> None:
    names = ("provider", "task_id", "owner", "model", "submission_id", "submitted_at")
    row: dict[str, object] = dict.fromkeys(names, "x")
    row |= {"state": "completed", "ended_at": None, "assets_stored": 1, "assets_total": 2}
    with answering({"GET /tasks": (200, {"tasks": [row], "next_cursor": "c2"})}) as stub:
        arguments = ["--state", "completed", "--owner", "a b", "--limit", "1", "--cursor", "c1"]
        result = run("tasks", "list", *arguments, RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 0
    assert "1/2" in result.stdout
    assert "--cursor c2" in result.stderr
    (asked,) = stub.asked
    for part in ("state=completed", "owner=a", "limit=1", "cursor=c1"):
        assert part in asked
    assert "provider" not in asked


def test_a_notification_that_nobody_tried_says_where_its_reason_is() -> None:
    behind = TASK["notifications"][0] | {"state": "pending", "attempts": 0, "outcome": None}
    for row, is_said in ((behind, True), (behind | {"outcome": "timeout", "detail": "slow"}, False)):
        with answering({"GET /tasks/vidgo/t%2F1": (200, TASK | {"notifications": [row]})}) as stub:
            result = run("tasks", "show", "vidgo", "t/1", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
        assert result.exit_code == 0
        assert ("receiver sinks list" in result.stdout) is is_said


def test_a_task_is_shown_with_its_files_its_notifications_and_a_timeline() -> None:
    with answering({"GET /tasks/vidgo/t%2F1": (200, TASK)}) as stub:
        result = run("tasks", "show", "vidgo", "t/1", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert "vidgo t/1 state partial owner" in words
    assert "0 stored stored image/png 5 k" in words
    assert "jsonl delivered 1 delivered 1 - 2026-11-21T10:00:07.002Z -" in words
    assert "+7.0 s ended partial" in words


def test_a_task_is_shown_with_all_of_its_history_where_that_is_asked_for() -> None:
    def tried(second: int) -> dict[str, object]:
        at = f"2026-11-21T10:00:0{second}.000Z"
        usual = {"target": "asset 0", "number": second, "outcome": "timeout", "seconds": 1.0, "detail": None}
        return usual | {"times": 1, "started_at": at, "last_started_at": at}

    left_out = {"deliveries": 0, "notifications": 0, "attempts": 1}
    long = TASK | {"attempts": [tried(1), tried(3)], "left_out": left_out}
    pages = [
        {"attempts": [tried(3), tried(2)], "next_cursor": "c2"},
        {"attempts": [tried(1)], "next_cursor": None},
    ]
    answers: Answers = {
        "GET /tasks/vidgo/t%2F1": (200, long),
        "GET /attempts/vidgo/t%2F1": [(200, p) for p in pages],
    }
    with answering(answers) as stub:
        task = ("tasks", "show", "vidgo", "t/1")
        some = run(*task, RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
        whole = run(*task, "--all", "--json", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert "1 attempt up to here left out: --all shows them" in some.stdout
    shown = json.loads(whole.stdout)
    assert shown["attempts"] == [tried(1), tried(2), tried(3)]
    assert shown["left_out"] == left_out | {"attempts": 0}
    assert "cursor=c2" in stub.asked[-1]


def test_a_strangers_text_cannot_move_the_cursor() -> None:
    with answering({"GET /tasks/vidgo/t%2F1": (200, TASK)}) as stub:
        result = CliRunner().invoke(
            main,
            ["tasks", "show", "vidgo", "t/1"],
            env={"RECEIVER_URL": stub.url, "RECEIVER_TOKEN": TOKEN},
            color=True,
        )
    assert "user\\x1b[2J17" in result.stdout
    assert "\x1b[2J" not in result.stdout


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("tasks show vidgo ..", "GET /tasks/vidgo/%2E%2E"),
        ("tasks show .. settings", "GET /tasks/%2E%2E/settings"),
        ("submissions show ..", "GET /submissions/%2E%2E"),
        ("replays show .", "GET /replays/%2E"),
        ("replays pause ..", "POST /replays/%2E%2E/pause"),
        ("sinks test ..", "POST /sinks/%2E%2E/test"),
    ],
)
def test_no_id_leads_a_command_to_another_door(typed: str, asked: str) -> None:
    with answering({}) as stub:
        run(*typed.split(), RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert stub.asked[:1] == [asked]


def test_json_is_the_apis_own_answer() -> None:
    with answering({"GET /tasks/vidgo/t%2F1": (200, TASK)}) as stub:
        result = run("tasks", "show", "vidgo", "t/1", "--json", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert json.loads(result.stdout) == TASK


def test_stats_are_shown_by_kind() -> None:
    held = {
        "counted_at": "2026-11-21T10:00:00.000Z",
        "submissions": 3,
        "tasks": {"completed": 2},
        "deliveries": {},
        "assets": {"stored": 2},
        "outbox": {"jsonl": {"delivered": 2}},
        "oldest_undelivered_at": None,
        "oldest_undownloaded_at": None,
        "next_deadline_at": None,
        "unbound": {"under_1h": 0, "under_24h": 0, "older": 5},
        "polls": {"vidgo": {"never": 1, "in_progress": 4}},
    }
    with answering({"GET /stats": (200, held)}) as stub:
        result = run("stats", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 0
    said = (
        "submissions 3 counted_at 2026-11-21T10:00:00.000Z tasks completed 2 deliveries none 0"
        " assets stored 2 reservations without a task under_1h 0 under_24h 0 older 5"
        " sink jsonl delivered 2 polls vidgo never 1 in_progress 4"
    )
    assert " ".join(result.stdout.split()) == said


@pytest.mark.parametrize(
    ("status", "document", "code", "said"),
    [
        (404, {"title": "Unknown", "detail": "No submission has this id."}, 3, "No submission has this id."),
        (401, {"title": "Not authorised", "detail": "Send a token."}, 1, "RECEIVER_TOKEN"),
        (400, {"title": "Unknown provider", "detail": "Known: a."}, 2, "Unknown provider: Known: a."),
        (503, {"title": "Unavailable", "detail": "Later."}, 1, "Unavailable: Later."),
        (502, b"<html>bad gateway</html>", 1, "HTTP 502"),
        (500, b"[1]", 1, "HTTP 500"),
    ],
)
def test_a_refusal_is_told_in_words_with_its_exit_code(
    status: int, document: object, code: int, said: str
) -> None:
    with answering({"GET /submissions/sub_1": (status, document)}) as stub:
        result = run("submissions", "show", "sub_1", RECEIVER_URL=stub.url, RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_nobody_listening_is_a_failure_with_a_hint() -> None:
    result = run("stats", RECEIVER_URL=f"http://127.0.0.1:{free_port()}", RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 1
    assert "start `receiver serve`, or set RECEIVER_URL" in result.stderr


# --- callback-url -----------------------------------------------------------------------------------

PUBLIC = {"RECEIVER_SECRET": "a-secret-of-some-length", "RECEIVER_PUBLIC_URL": "https://hooks.example.com/in"}


def test_callback_url_prints_a_url_whose_token_is_good() -> None:
    result = run("callback-url", "vidgo", **PUBLIC)
    assert (result.exit_code, result.stderr) == (0, "")
    start, _, token = result.stdout.strip().rpartition("/")
    assert start == "https://hooks.example.com/in/callbacks/vidgo"
    claim = Tokens([PUBLIC["RECEIVER_SECRET"]]).check("vidgo", token)
    assert claim is not None
    assert claim.proof is Proof.PROVIDER


def test_callback_url_warns_of_what_keeps_the_provider_away() -> None:
    result = run("callback-url", "apixo", RECEIVER_SECRET=PUBLIC["RECEIVER_SECRET"])
    assert result.exit_code == 0
    assert "it is not https; its host cannot be reached from the internet" in result.stderr
    assert "exactly 200 within 30 s" in result.stderr
    assert "sends no callbacks" in run("callback-url", "reapi", **PUBLIC).stderr


def test_callback_url_warns_where_callbacks_would_never_count() -> None:
    always = {**PUBLIC, "RECEIVER_CONFIRM": "always"}
    assert "no VIDGO_API_KEY: every callback is held" in run("callback-url", "vidgo", **always).stderr
    assert run("callback-url", "vidgo", VIDGO_API_KEY="k", **always).stderr == ""


def test_callback_url_of_an_unknown_provider_lists_the_known_ones() -> None:
    result = run("callback-url", "nobody", **PUBLIC)
    assert result.exit_code == 2
    assert "known: vidgo, apidot, apixo, reapi" in result.stderr


def test_callback_url_makes_no_secret_of_its_own(tmp_path: Path) -> None:
    result = run("callback-url", "vidgo")
    assert result.exit_code == 2
    assert "start `receiver serve` once" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://hooks.example.com/x", 0),
        ("http://hooks.example.com/x", 1),
        ("https://localhost/x", 1),
        ("https://10.1.2.3/x", 1),
        ("https://[fd00::1]/x", 1),
        ("https://[2606:4700::1111]/x", 0),
        ("https://receiver.internal/x", 1),
        ("http://127.0.0.1:8080/x", 2),
        ("https://hooks.example.com/" + "x" * 2048, 1),
    ],
)
def test_obstacles_between_a_provider_and_us_are_found(url: str, found: int) -> None:
    assert len(obstacles(url)) == found


# --- migrate -----------------------------------------------------------------------------------------


def test_migrate_makes_the_database_and_may_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        result = run("migrate", RECEIVER_DATA_DIR=str(tmp_path))
        assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "receiver.db").exists()


# --- processes --------------------------------------------------------------------------------------


@contextmanager
def started(*arguments: str, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A real `receiver` process, which is gone when the block is left."""
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver", *arguments],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(port: int) -> None:
    """Until the service answers; it listens a little earlier."""

    def answers() -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, verify=False).is_success
        except httpx2.TransportError:
            return False

    wait_until(answers)


def test_serve_from_first_start_to_sigterm(tmp_path: Path) -> None:
    port = free_port()
    environ = {"RECEIVER_DATA_DIR": str(tmp_path / "data"), "PORT": str(port), "RECEIVER_HOST": "127.0.0.1"}
    with started("serve", environ=environ) as service:
        wait_for(port)
        assert run("doctor", **environ).exit_code == 0
        assert run("tasks", "list", **environ).exit_code == 3
        added = run(
            "submissions", "add", "--provider", "vidgo", "--owner", "u", "--task-id", "a/b", **environ
        )
        assert added.exit_code == 0
        assert run("submissions", "list", **environ).exit_code == 0
        assert run("submissions", "list", "--unbound", **environ).exit_code == 3
        reserved = run("submissions", "add", "--provider", "vidgo", "--owner", "u", "--json", **environ)
        reservation = json.loads(reserved.stdout)["id"]
        assert reservation in run("submissions", "list", "--unbound", **environ).stdout
        assert run("submissions", "withdraw", reservation, **environ).exit_code == 2  # nobody said yes
        withdrawn = run("submissions", "withdraw", reservation, "--yes", **environ)
        assert (withdrawn.exit_code, "vidgo for u" in withdrawn.stderr) == (0, True)
        assert run("submissions", "list", "--unbound", **environ).exit_code == 3
        shown = run("tasks", "show", "vidgo", "a/b", **environ)
        assert (shown.exit_code, "submitted" in shown.stdout) == (0, True)
        assert run("stats", **environ).exit_code == 0
        # SQLite means one process: neither a second service nor a migration gets in.
        assert run("migrate", **environ).exit_code == 1
        second = subprocess.run(
            [sys.executable, "-m", "receiver", "serve", "--port", str(free_port())],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "in use by another receiver" in second.stderr
        assert "Traceback" not in second.stderr
        service.send_signal(signal.SIGTERM)
        stdout, stderr = service.communicate(timeout=20)
    assert service.returncode == 0
    assert stdout == ""
    assert "receiver submissions add" in stderr
    kept = json.loads(credentials_path(tmp_path / "data").read_text())
    assert len(kept) == 3
    assert not any(secret in stderr for secret in kept.values())
    assert "Traceback" not in stderr


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_serve_on_every_address_is_reached_by_both_families(tmp_path: Path) -> None:
    port = free_port()
    environ = {"RECEIVER_DATA_DIR": str(tmp_path / "data"), "PORT": str(port), "RECEIVER_HOST": "::"}
    with started("serve", environ=environ) as service:
        wait_for(port)  # by 127.0.0.1, as everything that is printed says
        assert httpx2.get(f"http://[::1]:{port}/healthz").status_code == 200
        assert run("tasks", "list", **environ).exit_code == 3
        service.send_signal(signal.SIGTERM)
        assert f"http://127.0.0.1:{port}" in service.communicate(timeout=20)[1]


def test_doctor_tries_the_public_url_with_its_path(tmp_path: Path) -> None:
    port = free_port()
    environ = {"RECEIVER_DATA_DIR": str(tmp_path), "PORT": str(port), "RECEIVER_HOST": "127.0.0.1"}

    def found(public_url: str) -> tuple[str, str]:
        unknown = {"RECEIVER_DATA_DIR": str(tmp_path / "none")}  # no token, so that it goes by this setting
        shown = run("doctor", "--json", **environ | unknown, RECEIVER_PUBLIC_URL=public_url).stdout
        checks = {check["name"]: check for check in json.loads(shown)["checks"]}
        return checks["public url leads here"]["state"], checks["public url leads here"]["detail"]

    here = f"http://127.0.0.1:{port}/hooks"
    with (
        started("serve", environ=environ | {"RECEIVER_PUBLIC_URL": here}),
        answering({"GET /hooks/callbacks/vidgo": (404, {})}) as stranger,
    ):
        wait_for(port)
        assert found(here) == ("ok", f"a receiver's door answers at {here}/callbacks/")
        state, detail = found(f"{stranger.url}/hooks")
        assert (state, "answers 404: no receiver's door" in detail) == ("warn", True)
        state, detail = found(f"http://127.0.0.1:{free_port()}/hooks")
        assert (state, "does not answer from here" in detail) == ("warn", True)


def test_serve_keeps_an_idle_connection_for_as_long_as_it_is_told(tmp_path: Path) -> None:
    for seconds, ends in (("5", True), ("620", False)):
        port = free_port()
        environ = {"RECEIVER_DATA_DIR": str(tmp_path), "PORT": str(port), "RECEIVER_HOST": "127.0.0.1"}
        with started("serve", environ=environ | {"RECEIVER_IDLE_TIMEOUT_SECONDS": seconds}):
            wait_for(port)
            with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
                try:
                    assert (connection.recv(1) == b"") is ends
                except TimeoutError:
                    assert not ends


def test_what_is_to_be_installed_is_said_first_and_alone(tmp_path: Path) -> None:
    without = "import sys; sys.modules['redis'] = None; from receiver.cli import main; main()"
    environ = {
        "RECEIVER_DATA_DIR": str(tmp_path / "data"),
        "RECEIVER_SINK_QUEUE": "redis://127.0.0.1/0?stream=s",
        "PORT": str(free_port()),
    }
    needed = "sink redis://… needs the redis extra: pip install 'callback-receiver[redis]'"

    def said(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", without, *command.split()],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    served = said("serve")
    assert (served.returncode, served.stdout, served.stderr.strip()) == (2, "", f"receiver: {needed}")
    assert list(tmp_path.iterdir()) == []
    examined = {check["name"]: check for check in json.loads(said("doctor --json").stdout)["checks"]}
    assert (examined["sink queue"]["state"], examined["sink queue"]["detail"]) == ("fail", needed)
    assert "can be reached" not in examined["sink queue"]["todo"]


def test_serve_says_what_to_do_next_only_once(tmp_path: Path) -> None:
    first, stderr = served_until_ctrl_c(tmp_path), served_until_ctrl_c(tmp_path)
    assert "Next, in another terminal" in first
    assert "Next" not in stderr
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert all(line["event"] for line in lines)
    (unasked,) = (line for line in lines if line["event"] == "providers.unasked")
    assert unasked["level"] == "warning"
    assert unasked["providers"] == plugins.names("providers")
    assert "trusted on the submission log alone" in unasked["consequence"]
    assert "reapi sends no callbacks, so its tasks never end" in unasked["consequence"]


def served_until_ctrl_c(folder: Path) -> str:
    """What a whole life of a service says on stderr."""
    port = free_port()
    with started("serve", "--port", str(port), environ={"RECEIVER_DATA_DIR": str(folder)}) as service:
        wait_for(port)
        service.send_signal(signal.SIGINT)
        _, stderr = service.communicate(timeout=20)
    assert service.returncode == 0
    return stderr


@pytest.mark.parametrize(
    ("keyed", "level"),
    [([], "error"), (["REAPI"], "error"), (["VIDGO"], "warning"), (plugins.names("providers"), None)],
)
def test_serve_is_loud_about_callbacks_that_it_would_hold_for_ever(
    tmp_path: Path, keyed: list[str], level: str | None
) -> None:
    (tmp_path / "receiver.db").write_bytes(b"not a database at all" * 100)  # so that it ends by itself
    keys = {f"{name.upper()}_API_KEY": "a-key-of-the-operator" for name in keyed}
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "serve", "--port", str(free_port())],
        env={**os.environ, "RECEIVER_DATA_DIR": str(tmp_path), "RECEIVER_CONFIRM": "always", **keys},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if "providers.unasked" in line]
    assert [line["level"] for line in lines] == ([level] if level else [])
    unasked = [name for name in plugins.names("providers") if name.upper() not in keyed]
    assert all(line["providers"] == unasked for line in lines)
    assert "a-key-of-the-operator" not in done.stderr


def test_serve_on_a_port_in_use_fails_with_its_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port), RECEIVER_DATA_DIR=str(tmp_path))
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in result.stderr


def test_serve_over_a_file_that_is_no_database_is_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "receiver.db").write_bytes(b"not a database at all" * 100)
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "serve", "--port", str(free_port())],
        env={**os.environ, "RECEIVER_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "receiver.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_simulate_plays_until_it_is_told_to_stop() -> None:
    with started("simulate", "--port", "0", "--task-seconds", "0.1", environ={}) as simulator:
        assert simulator.stdout is not None
        line = simulator.stdout.readline()
        simulator.send_signal(signal.SIGTERM)
        assert simulator.wait(timeout=20) == 0
    assert "http://127.0.0.1:" in line


# --- what to do next --------------------------------------------------------------------------------


def test_a_list_before_the_first_start_says_how_to_start() -> None:
    result = run("tasks", "list")
    assert result.exit_code == 2
    assert "start `receiver serve` here once" in result.stderr


def test_tasks_of_a_span_that_ends_before_it_begins_are_a_usage_error() -> None:
    result = run("tasks", "list", "--since", "1h", "--until", "2h", RECEIVER_TOKEN=TOKEN)
    assert result.exit_code == 2
    assert "--since must be before --until" in result.stderr


def test_the_help_of_submissions_add_names_every_provider() -> None:
    help_text = run("submissions", "add", "--help").stdout
    assert all(name in help_text for name in plugins.names("providers"))


def test_callback_url_says_which_variable_to_set() -> None:
    result = run("callback-url", "vidgo", RECEIVER_SECRET=PUBLIC["RECEIVER_SECRET"])
    assert "set RECEIVER_PUBLIC_URL to the https URL that providers reach" in result.stderr
