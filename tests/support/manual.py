"""The manual as tests read it: the README and the chapters, by name."""

import re

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
