"""The manual's code for backends: it is typed, and of no more glue than was promised."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.manual import CHAPTERS, README, python_examples
from tests.support.places import ROOT

CODE = [*python_examples(README), *python_examples(CHAPTERS["client"])]
PROVIDER = "def submit(prompt: str, callback_url: str) -> str: ...\n"
SECONDS = 300.0


def glue(words: str) -> int:
    """How many lines of the one example with these words are neither imports nor the app itself."""
    (code,) = {each for each in CODE if words in each}
    count = 0
    for node in ast.parse(code).body:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign):
            first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            count += (node.end_lineno or 0) - first + 1
    return count


@pytest.mark.parametrize(
    ("words", "most"),
    [("FastAPI()", 4), ("client.django import", 4), ("SqliteSeen", 3), ("autoretry_for", 4)],
)
def test_a_backend_writes_a_few_lines(words: str, most: int) -> None:
    assert glue(words) <= most


@pytest.mark.slow
def test_every_example_is_typed(tmp_path: Path) -> None:
    (tmp_path / "vidgo.pyi").write_text(PROVIDER)
    for number, code in enumerate(CODE):
        (tmp_path / f"example_{number}.py").write_text(code)
    files = sorted(str(path) for path in tmp_path.glob("example_*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", *files],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    # Celery has no types, so what its decorator makes has none either.
    told = [line for line in done.stdout.splitlines() if not line.endswith("[untyped-decorator]")]
    assert [line for line in told if ": error:" in line] == []
    assert done.returncode in {0, 1}, done.stderr
