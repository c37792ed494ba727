"""What the command line prints fits an eighty-column terminal, and what no terminal takes is whole."""

import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import click
import httpx2
import pytest

from receiver.cli import COMMANDS
from receiver.cli.demo.service import find_port, service_environment
from receiver.cli.terminal import hang, measure, shorten
from tests.support.cli_callers import run
from tests.support.cli_stub import TOKEN, answering
from tests.support.media_host import picture
from tests.support.places import SAMPLES
from tests.support.terminals import Drawn, at_a_terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # a process for each command

SAMPLE = SAMPLES / "vidgo-callback-finished-image.json"
TASK = f"task-unified-{'0123456789' * 5}-uyujaw3d"
OWNER = "tenant-of-a-platform-with-a-long-name/user-17"
WIDE_OWNER = "\N{CJK UNIFIED IDEOGRAPH-5F20}" * 40
SINK = "analytics"

# Each command, what names it has for what it shows, and what only --wide shows of them.
TABLES = {
    "tasks list": ("provider", "task_id", "state", "assets", "owner", "model", "submitted_at", "ended_at"),
    "submissions list": ("id", "provider", "task_id", "owner", "model", "created_at"),
    "replays list": ("id", "stage", "state", "looked at", "settled", "requested_by", "finished_at"),
    "dead list": ("settled_at", "sink", "provider", "task_id", "type", "attempts", "outcome", "detail"),
    "sinks list": ("name", "scheme", "state", "waiting", "oldest", "outcome", "filter"),
    f"tasks show vidgo {TASK}": ("index", "media_type", "key", "sink", "replay_id", "settled_at", "due_at"),
}
OTHERS = ("stats", "submissions show {submission}", "replays show {replay}", "doctor")


class Pictures(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Quiet."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "image.jpg").write_bytes(picture("JPEG", (320, 200)))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Pictures, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/image.jpg"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory, pictures: str) -> Iterator[Mapping[str, str]]:
    """Of a service that holds a task with long names, its image, a dead letter and a replay."""
    folder = tmp_path_factory.mktemp("service")
    settings = service_environment(os.environ, folder / "data", find_port(0)) | {
        f"RECEIVER_SINK_{SINK.upper()}": f"http://127.0.0.1:{find_port(0)}/in",
        f"RECEIVER_SINK_{SINK.upper()}_MAX_AGE_SECONDS": "1",
        "RECEIVER_SINK_LINES": "jsonl:events.jsonl",
    }
    settings.pop("COLUMNS", None)
    command = [sys.executable, "-m", "receiver", "serve"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=settings, stderr=log) as service:
        try:
            wait_until(lambda: piped("stats", settings).returncode == 0)
            fill(settings, pictures)
            yield settings
        finally:
            service.terminate()
            service.wait(20)


def fill(environ: Mapping[str, str], link: str) -> None:
    order = ("--provider", "vidgo", "--model", "seedream-5.0-lite-with-a-long-name")
    added = piped("submissions add --json", environ, *order, "--owner", OWNER, "--task-id", TASK)
    callback = json.loads(SAMPLE.read_text())
    callback["data"] |= {"task_id": TASK}
    callback["data"]["files"][0]["file_url"] = link
    url = json.loads(added.stdout)["callback_url"]
    httpx2.post(url, json=callback, trust_env=False, verify=False).raise_for_status()
    piped("submissions add", environ, *order, "--owner", WIDE_OWNER, "--task-id", "t-2")
    wait_until(lambda: TASK in piped("dead list", environ).stdout)
    started = piped("replay --stage notify --sink lines --yes --json", environ)
    assert started.returncode == 0, started.stderr


def piped(
    words: str, environ: Mapping[str, str], *more: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "receiver", *words.split(), *more]
    merged = {**environ, **settings}
    return subprocess.run(command, env=merged, capture_output=True, text=True, timeout=60, check=False)


def seen(words: str, environ: Mapping[str, str], columns: int = 80) -> Drawn:
    drawn = at_a_terminal(*words.split(), environ=environ, columns=columns)
    assert drawn.code == 0, drawn.text
    return drawn


def known(words: str, environ: Mapping[str, str]) -> str:
    """The words with the ids that this service has made."""
    if "{" not in words:
        return words
    submission = json.loads(piped("submissions list --json", environ).stdout)["submissions"][0]["id"]
    replay = json.loads(piped("replays list --json", environ).stdout)["replays"][0]["id"]
    return words.format(submission=submission, replay=replay)


def assert_no_id_is_cut(text: str) -> None:
    """Each is whole, or says by an ellipsis between both its ends that it is not."""
    for found in re.findall(r"(?<!/)\btask-u\S*", text):
        assert found == TASK or ("…" in found and found.endswith(TASK[-4:])), found


@pytest.mark.parametrize(
    ("words", "columns"), [(words, 80) for words in (*TABLES, *OTHERS)] + [(words, 60) for words in TABLES]
)
def test_what_a_command_prints_fits_the_terminal(
    words: str, columns: int, environ: Mapping[str, str]
) -> None:
    drawn = at_a_terminal(*known(words, environ).split(), environ=environ, columns=columns)
    assert drawn.code == 0 or words == "doctor"  # which finds a sink that does not answer
    too_long = [line for line in drawn.lines if measure(line) > columns]
    assert all(measure(line.split()[-1]) > columns for line in too_long), too_long  # a URL stays whole
    assert too_long == [] or words not in TABLES or TASK in too_long[0]
    assert_no_id_is_cut(drawn.text)


@pytest.mark.parametrize("words", TABLES)
def test_what_does_not_fit_is_named_and_wide_shows_it(words: str, environ: Mapping[str, str]) -> None:
    fitted, wide = seen(words, environ), seen(f"{words} --wide", environ)
    headings = wide.text.replace("looked at", "looked-at").split()
    assert {name.replace(" ", "-") for name in TABLES[words]} <= set(headings)
    assert "…" not in wide.text
    assert "--wide shows" not in wide.text
    if fitted.lines != wide.lines:
        assert "--wide shows" in fitted.text


@pytest.mark.parametrize("words", TABLES)
def test_a_pipe_gets_all_of_it_whatever_the_terminal_is(words: str, environ: Mapping[str, str]) -> None:
    done = piped(words, environ, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == piped(f"{words} --wide", environ).stdout
    assert "…" not in done.stdout
    assert all(name in done.stdout for name in TABLES[words])


def test_the_least_columns_go_first_and_ids_show_both_ends(environ: Mapping[str, str]) -> None:
    heading, *_, row, said = seen("tasks list", environ).lines
    assert heading.split()[:4] == ["provider", "task_id", "state", "assets"]
    assert re.search(r" task-unified\S*…\S*-uyujaw3d ", row)
    assert said.startswith("--wide shows ")
    assert "ended_at" in said
    whole = piped("submissions list", environ).stdout.splitlines()[-1].split()[0]
    assert whole in seen("submissions list", environ).text  # an id of ours, which other commands take


def test_the_columns_setting_wins_over_the_terminal(environ: Mapping[str, str]) -> None:
    narrow = at_a_terminal("tasks", "list", environ={**environ, "COLUMNS": "60"}, columns=200)
    assert max(map(measure, narrow.lines)) <= 60
    assert TASK in seen("tasks list", environ, columns=300).text


def test_a_terminal_without_an_ellipsis_shows_three_dots(environ: Mapping[str, str]) -> None:
    drawn = at_a_terminal("tasks", "list", environ={**environ, "PYTHONIOENCODING": "iso-8859-1"})
    assert re.search(r" task-unif\S*\.\.\.\S*-uyujaw3d ", drawn.text)
    assert max(map(measure, drawn.lines)) <= 80  # with owners written as escapes


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_group_says_each_command_in_a_whole_sentence(name: str) -> None:
    command: click.Command = pkgutil.resolve_name(COMMANDS[name][0])
    if isinstance(command, click.Group):
        listed = run(name, "--help", COLUMNS="80").output.partition("\nCommands:\n")[2].splitlines()
        assert len(listed) == len(command.commands)
        assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal(name: str) -> None:
    command: click.Command = pkgutil.resolve_name(COMMANDS[name][0])
    own = list(command.commands) if isinstance(command, click.Group) else []
    for words in ([], [name], *([name, each] for each in own)):
        assert max(map(len, run(*words, "--help", COLUMNS="80").output.splitlines())) <= 80


@pytest.mark.parametrize(
    "words",
    ["tasks list --since yesterday", "replay --stage nowhere", "tasks show vidgo none", "no-such-command"],
)
def test_errors_are_wrapped_at_words(words: str, environ: Mapping[str, str]) -> None:
    lines = at_a_terminal(*words.split(), environ=environ, columns=60).lines
    assert max(map(len, lines)) <= 60
    told = " ".join(line.strip() for line in lines)
    assert " ".join(piped(words, environ).stderr.split()) == " ".join(told.split())


def test_a_running_replay_is_one_line_however_large_its_numbers() -> None:
    running = {
        "id": "rpl_1", "stage": "reprocess", "state": "running", "matched": 1_234_567, "looked_at": 1_100_000,
        "queued": 1_234_567, "settled": 1_000_000, "results": {},
    }  # fmt: skip
    done = running | {"state": "done", "results": {"accepted": 1_234_567}}
    with answering({"GET /replays/rpl_1": [(200, running), (200, running), (200, done)]}) as stub:
        settings = {"RECEIVER_URL": stub.url, "RECEIVER_TOKEN": TOKEN}
        drawn = at_a_terminal("replays", "follow", "rpl_1", environ=settings)
    assert drawn.code == 0, drawn.text
    assert sum("[##" in line for line in drawn.lines) == 1
    assert max(map(len, drawn.all)) <= 80


def test_a_backup_draws_each_of_its_bars_on_one_line(environ: Mapping[str, str], tmp_path: Path) -> None:
    drawn = at_a_terminal("backup", str(tmp_path / "copy"), environ=environ)
    assert drawn.code == 0, drawn.text
    assert [line.split()[0] for line in drawn.lines if "[##" in line] == ["Database", "Files"]
    assert max(map(len, (line for line in drawn.all if "  [" in line))) <= 80


def test_words_stay_whole_and_what_follows_hangs() -> None:
    assert hang("receiver: ", "one two three", None) == ["receiver: one two three"]
    assert hang("ok    ", "aaaa bbbb cccc dddd eeee ffff gggg hhhh", 40) == [
        "ok    aaaa bbbb cccc dddd eeee ffff gggg",
        "      hhhh",
    ]
    assert hang("", "delivered (attempt 1, 0.010 s), " + "x" * 20, 29)[:1] == ["delivered (attempt 1,"]
    path = "/a/path/of/thirty-eight/characters/has/it"
    assert hang("fail  secrets  ", path, 42) == ["fail  secrets", f" {path}"]  # whole, if further left
    assert hang("url  ", "x" * 50, 42) == ["url  " + "x" * 50]  # no line takes it: a terminal's own wrap


def test_what_is_shortened_shows_both_ends_and_counts_wide_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert shorten("sub_0123456789", 14) == "sub_0123456789"
    short = shorten(WIDE_OWNER, 21)
    assert measure(short) in {20, 21}
    assert short[0] == short[-1] == WIDE_OWNER[0]
    assert len(re.findall(r"…|\.\.\.", short)) == 1
