"""Commands in a terminal that cannot show every character, and words that are no text."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli_stub import Answers, answering

pytestmark = [pytest.mark.usefixtures("plain_environment"), pytest.mark.slow]  # a process for each command

OWNER = "Ada \N{GRINNING FACE} \N{GREEK SMALL LETTER ALPHA}"
TIME = "2026-11-21T10:00:00.000Z"
TASK: dict[str, Any] = {
    "provider": "vidgo", "task_id": "t-1", "state": "submitted", "waiting_on": OWNER, "owner": OWNER,
    "model": OWNER, "metadata": {OWNER: OWNER}, "submission_id": "sub_1", "submitted_at": TIME,
    "bound_at": TIME, "received_at": None, "ended_at": None, "via": None, "event_id": None, "type": None,
    "revision": None, "error": {"code": None, "message": OWNER}, "poll": None, "assets": [],
    "assets_total": 0, "assets_stored": 0, "deliveries": [], "notifications": [], "attempts": [],
}  # fmt: skip
ROW = {"id": "sub_1", "provider": "vidgo", "task_id": "t-1", "owner": OWNER, "created_at": TIME}
LETTER = {
    "provider": "vidgo", "task_id": "t-1", "sink": OWNER, "type": "task.failed", "revision": 1,
    "attempts": 3, "outcome": OWNER, "detail": OWNER, "settled_at": TIME, "event_id": "evt_1",
}  # fmt: skip
STATS: dict[str, Any] = {
    "submissions": 1, "counted_at": TIME, "oldest_undelivered_at": None, "oldest_undownloaded_at": None,
    "next_deadline_at": None, "tasks": {OWNER: 1}, "deliveries": {}, "assets": {}, "outbox": {}, "polls": {},
}  # fmt: skip
ANSWERS: Answers = {
    "GET /tasks": (200, json.dumps({"tasks": [TASK], "next_cursor": None}, ensure_ascii=False).encode()),
    "GET /tasks/vidgo/t-1": (200, TASK),
    "GET /tasks/vidgo/none": (404, {"title": OWNER, "detail": OWNER}),
    "GET /submissions": (200, {"submissions": [ROW], "next_cursor": None}),
    "GET /submissions/sub_1": (200, ROW),
    "GET /dead-letters": (200, {"dead_letters": [LETTER], "next_cursor": None}),
    "GET /stats": (200, STATS),
}
CONTROLS = "\x1b[2J\x7f\u009b31m\u0090q\u009c\u202eabc\u2066"
CP1252 = {"PYTHONIOENCODING": "cp1252"}
LATIN_1 = {"PYTHONIOENCODING": "iso-8859-1"}
C_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
UTF_8 = {"PYTHONIOENCODING": "utf-8"}


def typed(*words: str | bytes, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """A real process whose words may be of any bytes."""
    return subprocess.run(
        [sys.executable, "-m", "receiver", *words],
        env={**os.environ, "RECEIVER_TOKEN": "a-token-for-the-command-line", **environ},
        capture_output=True,
        timeout=30,
        check=False,
    )


def asked(*words: str | bytes, **environ: str) -> subprocess.CompletedProcess[bytes]:
    with answering(ANSWERS) as stub:
        return typed(*words, **environ, RECEIVER_URL=stub.url)


@pytest.mark.parametrize("terminal", [CP1252, LATIN_1, C_LOCALE])
def test_what_a_terminal_cannot_show_is_escaped(terminal: dict[str, str]) -> None:
    done = asked("tasks", "list", **terminal)
    assert (done.returncode, done.stderr) == (0, b"")
    # click takes a stream that can do no more than ASCII for misconfigured, and writes UTF-8 to it.
    shown = OWNER.encode() if terminal is C_LOCALE else rb"Ada \U0001f600 \u03b1"
    assert shown in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("tasks", "show", "vidgo", "t-1"),
        ("submissions", "list"),
        ("submissions", "show", "sub_1"),
        ("dead", "list"),
        ("stats",),
    ],
)
def test_every_command_goes_on_where_a_character_cannot_be_shown(words: tuple[str, ...]) -> None:
    done = asked(*words, **CP1252)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\U0001f600" in done.stdout


def test_a_refusal_is_escaped_too() -> None:
    done = asked("tasks", "show", "vidgo", "none", **CP1252)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr == rb"receiver: Ada \U0001f600 \u03b1" + b"\n"


@pytest.mark.parametrize("terminal", [CP1252, LATIN_1, C_LOCALE, UTF_8])
def test_json_stays_json_in_any_terminal(terminal: dict[str, str]) -> None:
    done = asked("tasks", "list", "--json", **terminal)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["tasks"][0]["owner"] == OWNER
    assert done.stdout.isascii() is (terminal is not UTF_8)


@pytest.mark.parametrize("end", ["\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}", "\N{NEXT LINE}"])
def test_json_has_no_line_end_inside_of_a_text(end: str) -> None:
    owner = json.dumps({"owner": f"one{end}two"}, ensure_ascii=False).encode()
    with answering({"GET /submissions/sub_1": (200, owner)}) as stub:
        done = typed("submissions", "show", "sub_1", "--json", RECEIVER_URL=stub.url, **UTF_8)
    assert done.stdout.decode().splitlines() == ["{", f'  "owner": "one\\u{ord(end):04x}two"', "}"]


@pytest.mark.parametrize(
    ("words", "path", "rows"),
    [
        (("submissions", "show", "sub_1"), "/submissions/sub_1", None),
        (("tasks", "list"), "/tasks", "tasks"),
        (("tasks", "show", "vidgo", "t-1"), "/tasks/vidgo/t-1", None),
        (("dead", "list"), "/dead-letters", "dead_letters"),
        (("replays", "list"), "/replays", "replays"),
        (("sinks", "list"), "/sinks", "sinks"),
        (("stats",), "/stats", None),
    ],
)
def test_json_moves_no_cursor_and_says_the_same(words: tuple[str, ...], path: str, rows: str | None) -> None:
    row = {"owner": CONTROLS, CONTROLS: [CONTROLS]}
    document = {rows: [row], "next_cursor": None} if rows else row
    raw = json.dumps(document, ensure_ascii=False).encode()
    with answering({f"GET {path}": (200, raw)}) as stub:
        done = typed(*words, "--json", RECEIVER_URL=stub.url, **UTF_8)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().replace("\n", "").isprintable()
    assert json.loads(done.stdout) == document


def test_metadata_is_read_as_the_service_reads_it() -> None:
    with answering({"POST /submissions": (201, {"id": "sub_1"})}) as stub:
        words = ("submissions", "add", "--provider", "vidgo", "--owner", "u", "--metadata")
        done = typed(*words, r'{"note": "\ud83d", "share": 0.5}', "--json", RECEIVER_URL=stub.url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert stub.bodies == [{"provider": "vidgo", "owner": "u", "metadata": {"note": "\ufffd", "share": 0.5}}]


@pytest.mark.parametrize(
    "words",
    [
        ("tasks", "list", "--owner", b"Ad\xe4"),
        ("tasks", "show", "vidgo", b"Ad\xe4"),
        ("submissions", "add", "--provider", "vidgo", "--owner", b"Ad\xe4"),
    ],
)
def test_words_that_are_no_text_are_named(words: tuple[str | bytes, ...]) -> None:
    done = asked(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == rb"receiver: what was typed is not text in UTF-8: '\udce4'" + b"\n"


def test_an_answer_that_is_no_json_is_none_of_the_services() -> None:
    with answering({"GET /stats": (200, b"<html>")}) as stub:
        done = typed("stats", RECEIVER_URL=stub.url)
    assert done.returncode == 1
    said = f"receiver: what answers at {stub.url} is no receiver (its answer is no JSON)"
    assert done.stderr.startswith(said.encode())


def test_a_log_for_people_is_escaped_in_the_encoding_of_its_stream() -> None:
    code = (
        "import sys, structlog; from receiver.logs import configure_logs;"
        "flush = configure_logs('info', 'text', sys.stderr);"
        r"structlog.get_logger().info('work.done', owner='\xe4 \u03b1 \U0001f600'); flush()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **CP1252}, capture_output=True, check=True
    )
    assert rb"\u03b1 \U0001f600" in done.stderr
    assert b"\xe4 " in done.stderr


def test_a_backup_into_a_folder_whose_name_is_no_text_says_where_it_is(tmp_path: Path) -> None:
    environ = {"RECEIVER_DATA_DIR": str(tmp_path / "data")}
    assert typed("migrate", **environ).returncode == 0
    folder = os.fsencode(tmp_path) + b"/copy-\xe4"
    done = typed("backup", "--json", folder, **environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"].endswith(r"copy-\udce4")
