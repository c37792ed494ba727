"""`receiver docs`: every chapter, to the width of a terminal, and as it is to everything else."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape

import pytest

from receiver import manual
from receiver.cli.markdown import render
from receiver.cli.terminal import measure
from tests.support.cli_callers import run
from tests.support.manual import CHAPTERS
from tests.support.terminals import COLOURS_AND_CURSOR, at_a_terminal

WITHOUT_PAGES = {"PAGER": "cat"}


def test_the_names_are_those_of_the_files() -> None:
    assert sorted(manual.NAMES) == sorted(CHAPTERS)
    assert list(manual.chapters()) == list(manual.NAMES)


def test_without_a_name_it_lists_every_chapter_with_its_purpose() -> None:
    lines = run("docs").output.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        [name, CHAPTERS[name].split("\n")[2]] for name in manual.NAMES
    ]
    listed = json.loads(run("docs", "--json").output)["chapters"]
    assert [row["name"] for row in listed] == list(manual.NAMES)
    assert {*listed[0]} == {"name", "title", "purpose"}


@pytest.mark.parametrize("columns", [80, 40])
def test_the_list_fits_the_terminal(columns: int) -> None:
    drawn = at_a_terminal("docs", environ={}, columns=columns)
    assert drawn.code == 0
    assert len(drawn.lines) > len(CHAPTERS)
    assert max(map(measure, drawn.lines)) <= columns


@pytest.mark.parametrize("name", CHAPTERS)
def test_to_a_pipe_a_chapter_goes_as_it_is(name: str) -> None:
    printed = run("docs", name, COLUMNS="40").output
    assert printed == re.sub(r"^<!--.*-->\n", "", CHAPTERS[name], flags=re.MULTILINE)
    assert "\x1b" not in printed
    assert json.loads(run("docs", name, "--json").output)["text"] == printed


def test_a_pipe_that_is_closed_early_ends_it_without_a_traceback() -> None:
    command = [sys.executable, "-m", "receiver", "docs", "walks"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_terminal_gets_a_chapter_by_its_pager() -> None:
    drawn = at_a_terminal("docs", "sinks", environ=WITHOUT_PAGES, columns=70)
    assert drawn.code == 0
    assert drawn.lines[0] == "Sinks"
    assert len(drawn.lines) > 100
    paged = at_a_terminal("docs", "sinks", environ={"PAGER": "head -n 1"}, columns=70)
    assert paged.lines == ["Sinks"]


@pytest.mark.parametrize("columns", [100, 80, 40])
@pytest.mark.parametrize("name", CHAPTERS)
def test_in_a_terminal_all_but_code_fits_and_no_word_is_lost(name: str, columns: int) -> None:
    text = manual.chapters()[name].text
    lines = list(render(text, columns))
    code = set(code_of(text))
    too_long = [line for line in map(plain, lines) if measure(line) > columns and line not in code]
    assert all(measure(line.split()[-1]) > columns - 8 for line in too_long), too_long  # one long word
    shown = words(plain("\n".join(lines)))
    page = re.sub(r"<thead>.*?</thead>", "", manual.markdown().render(text), flags=re.DOTALL)
    told = words(unescape(re.sub(r"<[^>]+>", " ", page)))
    assert told - shown == set()


def test_a_table_stands_side_by_side_where_it_fits_and_row_by_row_where_not() -> None:
    table = "| a | b |\n|---|---|\n| three | long words |\n"
    assert list(map(plain, render(table, 80))) == ["a      b", "three  long words"]
    assert list(map(plain, render(table, 14))) == ["three", "    long words"]


def test_links_name_the_chapter_that_they_lead_to() -> None:
    text = "See [the outcomes](words.md#x), [sinks](sinks.md), [below](#y), [code](../plugins.py)."
    assert list(render(text, 80)) == ["See the outcomes (words), sinks, below, code."]


def test_its_colours_end_with_each_line() -> None:
    coloured = [COLOURS_AND_CURSOR.findall(line) for line in render(manual.chapters()["sinks"].text, 80)]
    assert len([each for each in coloured if each]) > 20
    assert all(each[-1] == "\x1b[0m" for each in coloured if each)


def test_it_asks_no_service_and_reads_no_settings() -> None:
    wrong = {**os.environ, "RECEIVER_LOG_LEVEL": "loud"}
    assert run("docs", "words", **wrong).exit_code == 0


def code_of(text: str) -> Iterator[str]:
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()


def plain(line: str) -> str:
    return COLOURS_AND_CURSOR.sub("", line)


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w{}/<>$=-]+", text))
