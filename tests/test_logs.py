"""Logs: one pipeline for everything, an object per line, and nothing secret in it."""

import io
import json
import logging
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from receiver import logs
from receiver.logs import configure_logs
from tests.support.waiting import wait_until

MAC = "A1b2-_" * 5 + "xy"
SUBMISSION_TOKEN = f"s.sub_01m7yvq0g29d0e1hpmsq438req.{MAC}"


class Lines:
    """What was logged, on a stream that can pass for a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        self._bytes = io.BytesIO()
        self.stream = io.TextIOWrapper(self._bytes, encoding="utf-8", write_through=True)
        self.stream.isatty = lambda: terminal  # type: ignore[method-assign]

    @property
    def text(self) -> str:
        return self._bytes.getvalue().decode()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def logged(**fields: object) -> dict[str, Any]:
    lines = Lines()
    flush = configure_logs("info", "json", lines.stream)
    structlog.get_logger().info("work.done", **fields)
    flush()
    (document,) = lines.documents
    return document


def test_a_line_is_one_object_with_its_time_level_and_name_first() -> None:
    document = logged(provider="vidgo", rows=3)
    assert list(document)[:3] == ["timestamp", "level", "event"]
    assert document["timestamp"].endswith("Z")
    assert (document["level"], document["event"]) == ("info", "work.done")
    assert (document["provider"], document["rows"]) == ("vidgo", 3)


@pytest.mark.parametrize("end", ["\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}", "\N{NEXT LINE}"])
def test_a_line_is_one_line_to_every_reader(end: str) -> None:
    # ``documents`` splits as ``str.splitlines`` does.
    assert logged(owner=f"one{end}two Ж")["owner"] == f"one{end}two Ж"


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_line_moves_no_cursor(form: str) -> None:
    said, lines = "\x1b[2J \x7f \u009b31m \u202e", Lines()
    flush = configure_logs("info", form, lines.stream)
    structlog.get_logger().info(said, owner=said, names=[said], inner={said: (said,)})
    logging.getLogger(said).warning(said)
    structlog.get_logger().error("work.crashed", exc_info=ValueError(said))
    flush()
    assert lines.text.replace("\n", "").isprintable()
    assert ("\\u009b31m" if form == "json" else "\\x9b31m") in lines.text


@pytest.mark.parametrize(
    "key",
    ["token", "secret", "authorization", "url", "callback_url", "prompt", "body", "signature", "admin_token"],
)
def test_what_is_named_like_a_secret_is_masked(key: str) -> None:
    assert logged(**{key: "hush"})[key] == "***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"POST /callbacks/vidgo/{SUBMISSION_TOKEN} 200", "POST /callbacks/vidgo/*** 200"),
        ("see https://cdn.example.com/a.png?sig=1 now", "see https://*** now"),
        ("redis://:pw@host/0", "redis://***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("?expires=1&signature=abc&x=1", "?expires=1&signature=***&x=1"),
        (f"token {SUBMISSION_TOKEN}", "token s.***"),
        (f"p.{MAC}", "p.***"),
        ("task-unified-1757165031-uyujaw3d", "task-unified-1757165031-uyujaw3d"),
        ("sink jsonl: 3.5 s", "sink jsonl: 3.5 s"),
    ],
)
def test_what_looks_like_a_link_or_a_token_is_masked_in_any_text(text: str, shown: str) -> None:
    assert logged(detail=text)["detail"] == shown
    assert logged(inner=[{"deep": (text,)}])["inner"] == [{"deep": [shown]}]


def test_a_traceback_is_kept_without_the_links_in_it() -> None:
    lines = Lines()
    flush = configure_logs("info", "json", lines.stream)
    structlog.get_logger().error(
        "work.crashed", exc_info=ValueError("cannot fetch https://cdn.example.com/a")
    )
    flush()
    assert "ValueError: cannot fetch https://***" in lines.documents[0]["exception"]


@pytest.mark.parametrize("value", ["\ud800", 2**80, float("nan"), object(), b"bytes", {1: {2}}, None])
def test_no_value_can_break_a_line(value: object) -> None:
    assert logged(value=value)["event"] == "work.done"


def test_the_standard_library_goes_the_same_way() -> None:
    lines = Lines()
    flush = configure_logs("info", "json", lines.stream)
    logging.getLogger("some.library").warning("asked %s", "https://host/path")
    logging.getLogger("some.library").error("failed", exc_info=RuntimeError("boom"))
    flush()
    first, second = lines.documents
    assert (first["event"], first["level"], first["logger"]) == (
        "asked https://***",
        "warning",
        "some.library",
    )
    assert "RuntimeError: boom" in second["exception"]


@pytest.mark.parametrize(
    "words", ["plain", "https://cdn.example/0.png?signature=abc", "Ж🦊\N{LINE SEPARATOR}\x9b1m", "\ud800"]
)
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_many_lines_of_one_kind_are_the_lines_that_each_would_be_by_itself(
    words: str, log_format: str
) -> None:
    each = [{"task_id": f"t{number}", "note": words, "secret": "hidden", "attempt": 1} for number in range(3)]
    each.append({"task_id": "t3", "note": "plain", "attempt": 2})
    together, alone = Lines(), Lines()
    flush = configure_logs("info", log_format, together.stream)
    structlog.get_logger().info("work.done", each=each)
    flush()
    structlog.reset_defaults()
    flush = configure_logs("info", log_format, alone.stream)
    for fields in each:
        structlog.get_logger().info("work.done", **fields)
    flush()

    assert without_times(together.text) == without_times(alone.text)
    assert len(together.text.splitlines()) == 4
    assert "hidden" not in together.text
    assert "cdn.example" not in together.text


def without_times(text: str) -> str:
    return re.sub(r"2\d{3}-\d\d-\d\dT[\d:.]+Z", "", text)


def test_lines_below_the_level_are_left_out() -> None:
    lines = Lines()
    flush = configure_logs("warning", "json", lines.stream)
    structlog.get_logger().info("work.done")
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").log(5, "less than debug")
    flush()
    assert lines.text == ""


def test_configuring_twice_does_not_log_twice() -> None:
    lines = Lines()
    configure_logs("info", "json", lines.stream)
    flush = configure_logs("info", "json", lines.stream)
    logging.getLogger("some.library").warning("once")
    flush()
    assert len(lines.documents) == 1


def test_auto_is_text_with_colours_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Lines(terminal=True), Lines()
    for lines in (terminal, pipe):
        flush = configure_logs("info", "auto", lines.stream)
        structlog.get_logger().info("work.done", token="hush")
        flush()
    assert "\x1b[" in terminal.text
    assert "hush" not in terminal.text
    assert pipe.documents[0]["event"] == "work.done"


def test_text_without_a_terminal_has_no_colours_and_nothing_that_moves_a_cursor() -> None:
    lines = Lines()
    flush = configure_logs("info", "text", lines.stream)
    structlog.get_logger().info("work.done", said="a\x1b[2Jb\n2026 [info] forged")
    flush()
    assert "\x1b" not in lines.text
    assert len(lines.text.splitlines()) == 1


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_log_that_cannot_be_written_stops_nothing(log_format: str) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, too
    configure_logs("info", log_format, full)
    for number in range(200):  # more than any buffer holds
        structlog.get_logger().info("work.done", number=number, padding="x" * 100)
        structlog.get_logger().warning("work.failed")
    with suppress(OSError):
        full.close()


# --- a reader that takes nothing ----------------------------------------------------------------------


class Stalled:
    """A pipe that nobody reads yet, as a log collector that hangs."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream = os.fdopen(writing, "w", encoding="utf-8")

    def documents(self) -> list[dict[str, Any]]:
        """What comes once it is read: all, up to a line that says so."""
        text = b""
        while not text.endswith(b'"the.end"}\n'):
            text += os.read(self.reading, 65_536)
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def stalled() -> Iterator[Stalled]:
    pipe = Stalled()
    yield pipe
    os.close(pipe.reading)
    with suppress(OSError):
        pipe.stream.close()


def test_a_reader_that_takes_nothing_holds_nobody_up_and_gets_all_lines_in_order(stalled: Stalled) -> None:
    configure_logs("info", "json", stalled.stream)
    began = time.monotonic()
    for number in range(5000):  # a pipe holds some hundred
        structlog.get_logger().info("work.done", number=number, padding="x" * 100)
    assert time.monotonic() - began < 30  # held up, it would stand here for ever
    structlog.get_logger().error("the.end")

    assert [line.get("number") for line in stalled.documents()] == [*range(5000), None]


def test_lines_that_found_no_room_are_counted_and_one_line_says_how_many(
    stalled: Stalled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 1000)
    flush = configure_logs("info", "json", stalled.stream)
    for number in range(5000):
        structlog.get_logger().info("work.done", number=number, padding="x" * 100)
        if number == 900:
            flush()  # more than the pipe holds: from here on nothing is taken
            monkeypatch.setattr(logs, "END_SECONDS", 60.0)  # what is waited for from now on comes
    reading = threading.Thread(target=lambda: read.extend(stalled.documents()))
    read: list[dict[str, Any]] = []
    reading.start()
    for number in range(5000, 5003):
        flush()
        structlog.get_logger().info("work.done", number=number)
    structlog.get_logger().error("the.end")
    reading.join(60)

    numbers = [line["number"] for line in read if line["event"] == "work.done"]
    (told,) = [place for place, line in enumerate(read) if line["event"] == "log.overflowed"]
    assert numbers == sorted(numbers)
    assert read[told]["lines"] == 5003 - len(numbers) > 3000
    assert read[told - 1]["number"] < 4999  # between those before the gap and those after it
    assert read[told + 1]["number"] == 5000


def test_waiting_for_a_reader_that_takes_nothing_has_an_end(stalled: Stalled) -> None:
    flush = configure_logs("info", "json", stalled.stream)
    for _ in range(2000):
        structlog.get_logger().info("work.done", padding="x" * 100)
    began = time.monotonic()
    flush()
    assert 0.5 < time.monotonic() - began < 30


ENDING = """
import sys, time, structlog
from receiver import logs
{before}
logs.configure_logs("info", "json", sys.stderr)
for number in range(3000):
    structlog.get_logger().info("work.done", number=number, padding="x" * 100)
"""
# Whoever reads may have to wait for his turn on the processor; good news has time.
PATIENT, CALM = (ENDING.format(before=f"logs.{name}_SECONDS = 600") for name in ("END", "FLUSH"))


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise ValueError('the last word')"])
def test_an_end_in_order_or_by_an_exception_loses_no_line(end: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PATIENT + end], capture_output=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines() if line.startswith(b"{")]
    assert [line["number"] for line in lines] == [*range(3000)]
    assert (b"ValueError: the last word" in ended.stderr) == ("last word" in end)


def test_bad_news_is_out_at_once_and_survives_a_kill() -> None:
    stay = "structlog.get_logger().error('bad.news'); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", CALM + stay], stderr=subprocess.PIPE) as process:
        in_the_end = threading.Timer(60, process.kill)
        in_the_end.start()
        try:
            assert process.stderr is not None
            assert any(json.loads(line)["event"] == "bad.news" for line in process.stderr)
        finally:
            process.kill()
            in_the_end.cancel()


def test_an_end_waits_a_second_at_most_for_a_reader_that_takes_nothing() -> None:
    child = [sys.executable, "-c", ENDING.format(before="")]
    with subprocess.Popen(child, stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(60) == 0  # and not by the interpreter's own complaint about a lock
        finally:
            process.kill()


def test_a_disk_that_has_room_again_gets_what_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("w") as stream:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            flush = configure_logs("info", "json", stream)
            for number in range(200):
                structlog.get_logger().info("work.done", number=number, padding="x" * 100)
            monkeypatch.setattr(logs, "END_SECONDS", 60.0)
            wait_until(lambda: path.stat().st_size == 10_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        structlog.get_logger().error("the.end")
        flush()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("number") for line in lines] == [*range(200), None]
