"""The README says everything that there is, and nothing that there is not."""

import re
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

import receiver
from receiver import plugins
from receiver.cli import main
from receiver.config.fields import ALL_FIELDS, settings_table
from receiver.metrics import Metrics
from receiver.models import EventType, Outcome, SinkTest, TaskState, Verdict
from receiver.web.app import ENDPOINTS
from receiver.web.openapi import plain_path
from tests.support.factories import EMPTY_RECORD, NOW
from tests.support.places import ROOT

README = (ROOT / "README.md").read_text()
MANUALS = tuple(ROOT / name for name in ("README.md", "CHANGELOG.md", "deploy/README.md", "tests/README.md"))

LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:deploy|receiver|tests|\.ci)/[\w./-]+)`")
CLIMBING = re.compile(r"(?<![\w./-])(?:[\w.-]+/)*\.\.(?:/[\w.-]*)+")  # a relative path that goes up somewhere


def first_cells(heading: str) -> list[str]:
    """What the first column of the table under a heading names, without the backticks."""
    _, found, rest = README.partition(f"\n{heading}\n")
    assert found, f"the README has no {heading!r}"
    section = takewhile(lambda line: not line.startswith("#"), rest.splitlines())
    return [line.split("`")[1] for line in section if line.startswith("| `")]


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by what people type."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, f"{path} {name}")


COMMANDS = dict(commands(main, "receiver"))


def test_the_table_of_settings_is_the_generated_one() -> None:
    between = README.partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert between == settings_table()


def test_every_setting_is_in_the_readme() -> None:
    for field in ALL_FIELDS:
        assert f"`{field.variable}`" in README


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("### Verdicts: what a callback turned out to be", Verdict),
        ("### Outcomes: how one attempt at a file, at a sink or at a provider ended", Outcome),
        ("### States of a task", TaskState),
        ("### Types of events", [*EventType, *SinkTest]),
        ("## Providers", plugins.names("providers")),
        ("## Commands", COMMANDS),
    ],
)
def test_a_table_has_every_word_once_and_no_other(heading: str, words: Iterator[str]) -> None:
    assert sorted(first_cells(heading)) == sorted(words)


def test_the_table_of_doors_has_every_path_once_and_no_other() -> None:
    doors = [f"{endpoint.method} {plain_path(endpoint.path)}" for endpoint in ENDPOINTS]
    callbacks = ["POST /callbacks/{provider}", "POST /callbacks/{provider}/{token}"]
    assert sorted(first_cells("## HTTP API")) == sorted(doors + callbacks)


def test_every_metric_is_in_the_readme() -> None:
    shown = Metrics(["vidgo"], ["jsonl"]).render(EMPTY_RECORD, NOW).decode()
    names = re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE)
    assert len(names) > 10
    assert sorted(set(first_cells("## Running it"))) == sorted(names)


def test_every_kind_of_sink_is_in_the_readme() -> None:
    sinks = "\n".join(line for line in README.splitlines() if line.startswith("| `"))
    for scheme in plugins.names("sinks"):
        assert re.search(rf"`{scheme}:", sinks), scheme


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_every_option_of_it_has_a_help_text(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


def test_every_python_example_of_the_readme_is_python() -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        compile(example, "README.md", "exec")


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == receiver.__version__


def test_the_list_of_contents_leads_to_every_chapter() -> None:
    contents = README.partition("\n**Contents**\n")[2].partition("\n## ")[0]
    chapters = [f"#{anchor_of(heading)}" for heading in re.findall(r"^## (.+)$", README, re.MULTILINE)]
    assert [link for link in LINK.findall(contents) if link in chapters] == chapters


@pytest.mark.parametrize("manual", MANUALS, ids=lambda manual: str(manual.relative_to(ROOT)))
def test_every_file_that_a_manual_leads_to_is_there(manual: Path) -> None:
    text = manual.read_text()
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        if not link.startswith("https://"):
            target = (manual.parent / path).resolve() if path else manual
            assert target.is_relative_to(ROOT), link
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    for path in NAMED_FILE.findall(text):
        assert (ROOT / path).exists(), path


def test_every_test_that_the_table_of_faults_names_is_there() -> None:
    files = list((ROOT / "tests").rglob("*.py"))
    known = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    known |= {file.stem for file in files}
    for name, is_cut in re.findall(r"\b(test_\w+)(…)?", (ROOT / "tests/README.md").read_text()):
        assert name in known or (is_cut and any(each.startswith(name) for each in known)), name


def anchors(manual: Path) -> set[str]:
    """Where links into a manual can lead: its headings, as they are rendered, and what is marked by hand."""
    text = manual.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {anchor_of(heading) for heading in headings} | set(re.findall(r'<a id="([^"]+)">', text))


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def test_no_file_names_a_place_outside_the_checkout() -> None:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if path.is_file():
            text = path.read_text(errors="replace")
            for climb in CLIMBING.finditer(text):
                is_within = (path.parent / climb[0]).resolve().is_relative_to(ROOT)
                is_bait = name.startswith("tests/") and text[climb.start() - 1] == '"'  # for our own doors
                assert is_within or is_bait, (name, climb[0])
            # The files for hosts name folders on those hosts, where somebody's checkout may well be.
            assert name.startswith("deploy/") or f"{ROOT}/" not in text, name
