"""The manual as tests read it: the README and the chapters, by name; and its code as they run it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.places import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")

README = (ROOT / "README.md").read_text()
FOLDER = ROOT / "receiver" / "docs"
CHAPTERS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.md"))}


def section(name: str, heading: str) -> str:
    """What stands under a heading of a chapter (or of ``README``), up to the next heading of any rank."""
    _, found, rest = f"\n{(CHAPTERS | {'README': README})[name]}".partition(f"\n{heading}\n")
    assert found, f"{name} has no {heading!r}"
    is_code = False
    lines = []
    for line in rest.splitlines(keepends=True):
        is_code ^= line.startswith("```")
        if line.startswith("#") and not is_code:
            break
        lines.append(line)
    return "".join(lines)


def first_cells(name: str, heading: str) -> list[str]:
    """What the first column of the table under a heading names, without the backticks."""
    return [line.split("`")[1] for line in section(name, heading).splitlines() if line.startswith("| `")]


def python_examples(text: str) -> list[str]:
    """The code in Python that stands in a chapter."""
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@contextmanager
def printing(folder: Path, script: str, program: str = sys.executable, **environ: str) -> Iterator[Path]:
    """A script that runs until it is killed; the file has what it prints."""
    printed = folder / "printed.txt"
    command = [program, script]
    with (
        printed.open("wb") as out,
        (folder / f"{script}.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environ}, stdout=out, stderr=log
        ) as process,
    ):
        try:
            yield printed
        finally:
            process.kill()
