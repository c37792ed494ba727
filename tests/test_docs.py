"""The manual says everything that there is, and nothing that there is not."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import receiver
from receiver import plugins
from receiver.cli import main
from receiver.config.fields import ALL_FIELDS, settings_table
from receiver.declared import keys_table
from receiver.metrics import Metrics
from receiver.models import EventType, Outcome, SinkTest, TaskState, Verdict
from receiver.web.app import ENDPOINTS
from receiver.web.openapi import plain_path
from tests.support.factories import EMPTY_RECORD, NOW
from tests.support.manual import CHAPTERS, FOLDER, LINK, README, first_cells, python_examples
from tests.support.places import ROOT

MOST_BYTES = 9 * 1024  # of the front page
OTHERS = ("README.md", "CHANGELOG.md", "deploy/README.md", "tests/README.md")
MANUALS = (*(ROOT / name for name in OTHERS), *(FOLDER / f"{name}.md" for name in CHAPTERS))
WHOLE = "\n".join((README, *CHAPTERS.values()))

NAMED_FILE = re.compile(r"`((?:deploy|receiver|tests|\.ci)/[\w./-]+)`")
CLIMBING = re.compile(r"(?<![\w./-])(?:[\w.-]+/)*\.\.(?:/[\w.-]*)+")  # a relative path that goes up somewhere


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
    between = CHAPTERS["settings"].partition("<!-- settings -->\n")[2].partition("<!-- /settings -->")[0]
    assert between == settings_table()


def test_the_table_of_what_a_declared_provider_may_say_is_the_generated_one() -> None:
    inside = CHAPTERS["extending"].partition("<!-- provider keys -->\n")[2]
    assert inside.partition("<!-- /provider keys -->")[0] == keys_table()


def test_every_setting_is_in_the_table() -> None:
    for field in ALL_FIELDS:
        assert f"`{field.variable}`" in CHAPTERS["settings"]


@pytest.mark.parametrize(
    ("chapter", "heading", "words"),
    [
        ("words", "## Verdicts: what a callback turned out to be", Verdict),
        ("words", "## Outcomes: how one attempt at a file, at a sink or at a provider ended", Outcome),
        ("words", "## States of a task", TaskState),
        ("words", "## Types of events", [*EventType, *SinkTest]),
        ("providers", "# Providers", plugins.names("providers")),
        ("commands", "## All commands", COMMANDS),
    ],
)
def test_a_table_has_every_word_once_and_no_other(chapter: str, heading: str, words: Iterator[str]) -> None:
    assert sorted(first_cells(chapter, heading)) == sorted(words)


def test_the_table_of_doors_has_every_path_once_and_no_other() -> None:
    doors = [f"{endpoint.method} {plain_path(endpoint.path)}" for endpoint in ENDPOINTS]
    callbacks = ["POST /callbacks/{provider}", "POST /callbacks/{provider}/{token}"]
    assert sorted(first_cells("http", "## Doors")) == sorted(doors + callbacks)


def test_the_table_of_metrics_has_every_name_and_no_other() -> None:
    shown = Metrics(["vidgo"], ["jsonl"]).render(EMPTY_RECORD, NOW).decode()
    names = re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE)
    assert len(names) > 10
    assert sorted(first_cells("monitoring", "## Metrics")) == sorted(names)


def test_every_kind_of_sink_is_in_the_table() -> None:
    sinks = "\n".join(line for line in CHAPTERS["sinks"].splitlines() if line.startswith("| `"))
    for scheme in plugins.names("sinks"):
        assert f"`{scheme}:" in sinks, scheme


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_every_option_of_it_has_a_help_text(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name


def test_every_python_example_is_python() -> None:
    found = python_examples(WHOLE)
    assert len(found) >= 6
    for example in found:
        compile(example, "the manual", "exec")


def test_the_front_page_is_short_and_its_examples_are_those_of_the_chapter() -> None:
    assert len(README.encode()) <= MOST_BYTES
    assert python_examples(README) == python_examples(CHAPTERS["backend"])[:3]


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_begins_with_its_title_and_one_line_that_says_its_purpose(name: str) -> None:
    title, empty, purpose, end = CHAPTERS[name].split("\n")[:4]
    assert re.fullmatch(r"# .+", title)
    assert (empty, end) == ("", "")
    assert re.fullmatch(r"[A-Z].+\.", purpose)
    assert CHAPTERS[name].count("\n# ") == 0


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == receiver.__version__


def test_the_front_page_leads_to_every_chapter() -> None:
    contents = README.partition("\n## The manual\n")[2]
    found = [link for link in LINK.findall(contents) if link.startswith("receiver/docs/")]
    assert sorted(found) == [f"receiver/docs/{name}.md" for name in CHAPTERS]


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
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "receiver/testing").glob("*.py")]
    known = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    known |= {file.stem for file in files}
    for name, is_cut in re.findall(r"\b(test_\w+)(…)?", (ROOT / "tests/README.md").read_text()):
        assert name in known or (is_cut and any(each.startswith(name) for each in known)), name


def anchors(manual: Path) -> set[str]:
    """Where links into a manual can lead: its headings, as they are rendered, and what is marked by hand."""
    text = manual.read_text()
    outside_of_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", outside_of_code, re.MULTILINE)
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
