"""A terminal of a test's own: what a command draws on it, and what then stands on its lines."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ
from typing import NamedTuple

COLOURS_AND_CURSOR = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")


class Drawn(NamedTuple):
    """``lines`` are what stands there at the end; ``all`` is each of them as often as it was drawn anew."""

    code: int
    lines: list[str]
    all: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def at_a_terminal(*words: str, environ: Mapping[str, str], columns: int = 80, typed: str = "") -> Drawn:
    """A real `receiver` at a terminal that is so wide, and somebody typing."""
    ours, theirs = pty.openpty()
    set_columns(theirs, columns)
    own = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment = {**own, **environ, "TERM": "xterm"}
    command = [sys.executable, "-m", "receiver", *words]
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        seen = b"".join(written(ours)).decode()
    return drawn(process.returncode, seen)


def set_columns(terminal: int, columns: int) -> None:
    ioctl(terminal, TIOCSWINSZ, pack("HHHH", 24, columns, 0, 0))


def written(terminal: int) -> Iterator[bytes]:
    """All that comes, until nobody has the terminal open any more."""
    with suppress(OSError):  # which is how it says so
        while chunk := os.read(terminal, 65536):
            yield chunk
    os.close(terminal)


def drawn(code: int, seen: str, *, is_over: bool = True) -> Drawn:
    """What these characters draw."""
    plain = COLOURS_AND_CURSOR.sub("", seen).replace("\r\n", "\n")
    lines = (plain.removesuffix("\n") if is_over else plain).split("\n")
    drawings = [drawing.rstrip(" ") for line in lines for drawing in line.split("\r")]
    return Drawn(code, [line.rpartition("\r")[2].rstrip(" ") for line in lines], drawings)
