"""deploy/Dockerfile read as its builder reads it, and its first stage built without one."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

from tests.support.missing import missing
from tests.support.places import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SECONDS = 300


def instructions(stage: str) -> list[tuple[str, str]]:
    """The instructions of a stage and their arguments, lines that go on joined."""
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            name = rest.rpartition(" AS ")[2]
        if word:
            stages.setdefault(name, []).append((word, rest))
    return stages[stage]


def value(stage: str, instruction: str) -> str:
    """What the last one of that kind says."""
    return [rest for word, rest in instructions(stage) if word == instruction][-1]


def environment(stage: str) -> dict[str, str]:
    """What its ENV lines set, over the PATH of the base image."""
    found: dict[str, str] = {}
    for word, rest in instructions(stage):
        if word == "ENV":
            found |= dict(pair.split("=", 1) for pair in rest.split())
    return found | {"PATH": found["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")}


def command(stage: str, instruction: str) -> list[str]:
    """The words of a CMD or HEALTHCHECK."""
    words: list[str] = json.loads(value(stage, instruction).partition("CMD ")[2] or value(stage, instruction))
    return words


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path through: the last pattern for it, or for a folder of it, decides."""
    sent = True
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        if not pattern.startswith("#") and _matches(path, pattern.removeprefix("!")):
            sent = pattern.startswith("!")
    return sent


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in path.split("/"))
    depth = pattern.count("/") + 1
    return fnmatch("/".join(path.split("/")[:depth]), pattern)


class Build:
    """The stage `build` in a folder in place of /: only its RUN, COPY, WORKDIR and ARG are known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environ = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
        self._workdir = folder
        for name, words in (("pip", '-m pip "$@"'), ("python", '"$@"')):
            program = folder / "bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}\n')
            program.chmod(0o755)

    def all(self) -> None:
        """Take every step in order."""
        for instruction, rest in instructions("build"):
            self._step(instruction, rest)

    def run(self, line: str, **arguments: str) -> str:
        """Run a line as its RUN would; what it prints."""
        places = r"(?<![\w.])/(wheels|opt|src)\b"
        line = line.replace("--no-cache-dir ", "")  # the cache makes an image larger, and a test quicker
        environ = os.environ | self._environ | arguments
        ran = subprocess.run(
            ["sh", "-ec", re.sub(places, rf"{self.folder}/\1", line)],
            cwd=self._workdir, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        if "NewConnectionError" in ran.stderr or "NameResolutionError" in ran.stderr:
            missing("the packages that requirements.txt pins cannot be had here")
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def _step(self, instruction: str, rest: str) -> None:
        if instruction == "WORKDIR":
            self._workdir = self.folder / rest.lstrip("/")
            self._workdir.mkdir(parents=True)
        elif instruction == "COPY":
            *sources, target = rest.split()
            assert all(is_sent(source) for source in sources)
            subprocess.run(
                ["cp", "-r", *(ROOT / source for source in sources), self._workdir / target], check=True
            )
        elif instruction == "ARG":
            name, _, default = rest.partition("=")
            self._environ[name] = default
        else:
            assert instruction in {"RUN", "FROM"}, instruction
            if instruction == "RUN":
                self.run(rest)
