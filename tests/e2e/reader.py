"""Somebody who types the manual's commands, step by step, and compares what he sees with what it shows."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from receiver.cli.demo.service import service_environment
from tests.support.manual import section
from tests.support.missing import missing
from tests.support.places import ROOT
from tests.support.sink_hosts import accepts, free_port
from tests.support.terminals import drawn, set_columns, written
from tests.support.waiting import PATIENCE_SECONDS, wait_until

# What listens, and the port that the manual has for it; each gets a free one here.
PROGRAMS = {
    "receiver serve": "8080",
    "receiver simulate": "8090",
    "http.server": "8099",
    "app.py": "8097",
    "hooks.py": "9000",
}
STAYS = re.compile(r"^[^#\n]*receiver serve\n\Z", re.MULTILINE)
OPENS_A_TERMINAL = ". .venv/bin/activate"
# Done again until it shows what is awaited: a machine types faster than an image is fetched.
LOOKS = ("cmp ", "grep ", "python3 -m json.tool ", "receiver tasks show ")
LOOK_SECONDS = 5.0  # for the last time, on a slow machine
COLUMNS = 80
# Nobody is there to answer it, so --yes does.
QUESTION = "Go ahead? [y/N]: y"

STEP = re.compile(r"^```sh\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)

# What differs from run to run, and columns that are as wide as it.
PASSING = (
    (r"\n {8,}", " "),  # where a line is wrapped
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"[+-]?\b\d+\.\d+ (s|seconds)\b", r"N \1"),
    (r"\b(sub|evt|rpl)_[0-9a-f]{32}\b", r"\1_ID"),
    (r"\btask-unified-\d+[-…\d]*-[0-9a-f]{8}\b", "TASK"),
    (r"\b([sp]\.(?:sub_ID\.)?|signature=)[\w-]{32}(?![\w-])", r"\1TOKEN"),
    (r"\bexpires=\d+", "expires=N"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r'"[0-9a-f]{64}"', '"SHA256"'),
    (r'"(bytes|width|height)": \d+', r'"\1": N'),
    (r"(image/\w+) +\d+", r"\1 N"),
    (r"(?m)^([a-z]+)( +\d[\d,]*){7}$", r"\1 NUMBERS"),
    (r"-{2,}", "--"),
    (r" +", " "),
    (r"(?m) $", ""),
)


class Step(NamedTuple):
    """Commands, and what the manual shows right after them."""

    commands: str
    shown: str | None


def steps(chapter: str, *headings: str) -> Iterator[Step]:
    """What there is to type under headings of a chapter, each up to the next heading of any rank."""
    for heading in headings:
        for commands, shown in STEP.findall(section(chapter, heading)):
            yield Step(commands, shown or None)


def agrees(shown: str, seen: str) -> bool:
    """Whether it is the same but for what differs from run to run; a line of three dots stands for any."""
    lines = (".*" if line == "..." else re.escape(line) for line in _lasting(shown).split("\n"))
    return re.fullmatch("\n".join(lines), _lasting(seen), re.DOTALL) is not None


def _lasting(text: str) -> str:
    text = text.strip()
    for pattern, name in PASSING:
        text = re.sub(pattern, name, text)
    return text


class Terminal:
    """A bash that is typed into; what it and its children wrote stands on its screen of 80 columns."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        bash = shutil.which("bash") or missing("bash is not installed")
        ours, theirs = pty.openpty()
        set_columns(theirs, COLUMNS)
        self._seen: list[bytes] = []
        self._bash = subprocess.Popen(
            [bash],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=theirs,
            stderr=theirs,
            text=True,
            start_new_session=True,  # so that all of it can be interrupted, and killed
        )
        os.close(theirs)
        self._watching = Thread(target=self._watch, args=(ours,), daemon=True)
        self._watching.start()

    def _watch(self, terminal: int) -> None:
        for chunk in written(terminal):
            self._seen.append(chunk)

    def leave_running(self, commands: str) -> None:
        """Type commands of which the last one ends by Ctrl-C, and nothing after them."""
        self._type(commands)
        assert self._bash.stdin is not None
        self._bash.stdin.close()

    def run(self, commands: str, seconds: float) -> tuple[str, int]:
        """What the commands show, and the exit code of the last of them."""
        before = len(self.screen())
        self._type(f"{{\n{commands}}} < /dev/null; echo END $?\n")
        ended = re.compile(r"END (\d+)\n\Z")
        self.wait_until(lambda: ended.search(self.screen(), before) is not None, seconds)
        seen, code = ended.split(self.screen()[before:])[:2]
        return seen, int(code)

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Fail with what is on the screen if it does not come true in time."""
        try:
            wait_until(condition, seconds)
        except AssertionError as exc:
            exc.add_note(self.screen())
            raise

    def interrupt(self) -> None:
        """Ctrl-C; what runs in the foreground ends."""
        self._signal(signal.SIGINT)
        self._bash.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Kill all that was started here, whatever it is at."""
        self._signal(signal.SIGKILL)
        self._bash.wait(PATIENCE_SECONDS)
        self._watching.join(PATIENCE_SECONDS)
        if self._bash.stdin is not None:
            with suppress(BrokenPipeError):
                self._bash.stdin.close()

    def screen(self) -> str:
        return "\n".join(drawn(0, b"".join(self._seen).decode(errors="replace"), is_over=False).lines)

    def _type(self, text: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(text)
        self._bash.stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # nothing of it runs any more
            os.killpg(self._bash.pid, number)


class Reader:
    """Has a fresh checkout with its virtual environment, so many seconds for all, and types step after step.

    A step that activates the environment is typed into a new terminal. One that ends with the service stays
    there until the next service is started, and all others go to the newest terminal.
    """

    def __init__(self, checkout: Path, seconds: float) -> None:
        for program in ("curl", "xargs"):
            _ = shutil.which(program) or missing(f"{program} is not installed")
        self.checkout = checkout
        self._deadline = time.monotonic() + seconds
        self._ports = {port: free_port() for port in PROGRAMS.values()}
        self._environment = _environment(checkout, self._ports[PROGRAMS["receiver serve"]])
        self._terminals: list[Terminal] = []
        self._serving: Terminal | None = None
        _install(checkout / ".venv/bin")

    def follow(self, step: Step) -> None:
        """Type what it says, and see what it shows."""
        if step.commands.startswith(OPENS_A_TERMINAL) or not self._terminals:
            self._terminals.append(Terminal(self.checkout, self._environment))
        if STAYS.search(step.commands):
            self._serve(step.commands)
        else:
            self._run(step)

    def save(self, name: str, text: str) -> None:
        """Write a file in the checkout, with the ports that are free here."""
        (self.checkout / name).write_text(self._typed(text))

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.close()

    def _serve(self, commands: str) -> None:
        if self._serving is not None:
            self._serving.interrupt()
        self._serving = self._terminals[-1]
        self._serving.leave_running(self._typed(commands))
        started = [self._ports[port] for program, port in PROGRAMS.items() if program in commands]
        self._serving.wait_until(lambda: all(map(accepts, started)), self._seconds_left())

    def _run(self, step: Step) -> None:
        commands, shown = self._typed(step.commands), step.shown
        if shown is not None and QUESTION in shown:
            commands = commands.rstrip() + " --yes\n"
            shown = shown.replace(f"{QUESTION}\n", "")
        while True:
            seen, code = self._terminals[-1].run(commands, self._seconds_left())
            is_so = code == 0 and (shown is None or agrees(shown, seen))
            if is_so or not commands.startswith(LOOKS) or self._seconds_left() < LOOK_SECONDS:
                break
            time.sleep(0.2)
        assert is_so, f"\n{commands}\nends with {code} and shows\n\n{seen}\nand the manual says\n\n{shown}"

    def _typed(self, commands: str) -> str:
        simulate = "receiver simulate"
        commands = commands.replace(simulate, f"{simulate} --port {PROGRAMS[simulate]}")
        return re.sub("|".join(self._ports), lambda written: str(self._ports[written[0]]), commands)

    def _seconds_left(self) -> float:
        return self._deadline - time.monotonic()


@contextmanager
def reading(checkout: Path, seconds: float) -> Iterator[Reader]:
    """A reader who leaves nothing running behind him."""
    reader = Reader(checkout, seconds)
    try:
        yield reader
    finally:
        reader.close()


def _environment(checkout: Path, port: int) -> dict[str, str]:
    """What a newcomer's shell has, but for the port that the service takes unless it is told another."""
    environment = service_environment(os.environ, checkout, port) | {"NO_PROXY": "*", "PYTHONPATH": str(ROOT)}
    for told in ("RECEIVER_DATA_DIR", "RECEIVER_ALLOW_NETWORKS"):
        del environment[told]
    return environment


def _install(folder: Path) -> None:
    """A virtual environment as far as the manual uses it, with the Python and the code of this test."""
    folder.mkdir(parents=True)
    (folder / "activate").write_text(f'PATH="{folder}:$PATH"\n')
    for name, arguments in (("receiver", "-m receiver "), ("python", ""), ("python3", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        script.chmod(0o755)
