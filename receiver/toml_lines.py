"""On which line of a TOML file a key stands, for problems that are told by line and key."""

import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from receiver.errors import Misconfigured

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEYS = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADING = re.compile(rf"\s*\[+\s*({_KEYS})\s*\]+")
_ASSIGNMENT = re.compile(rf"\s*({_KEYS})\s*=")
MOST_SHOWN = 60


def read_toml(path: Path) -> str:
    """The text of a file. Raises Misconfigured where it cannot be had."""
    try:
        return path.read_text(encoding="utf-8-sig")  # editors of Windows put a mark in front
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise Misconfigured(f"{path}, line {line}: it is no text in UTF-8; save it as such") from exc


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """What the text of a file says. Raises Misconfigured, with the line, where it is no TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise Misconfigured(f"{file} is no TOML: {_with_remedy(str(exc))}") from exc


# What people write in place of TOML, by how the parser begins to complain of it.
_REMEDIES = {
    "Invalid value": 'text stands in quotes, as in id = "task.id"',
    "Illegal character": "is a quote not closed in this line?",
    "Unterminated string": "is a quote not closed?",
    "Cannot overwrite a value": "the key stands twice",
    "Cannot declare": "the table stands twice: put all its keys under one heading",
    "Invalid statement": 'a line is [NAME], or KEY = VALUE, such as id = "task.id"',
    "Unclosed array": "is a bracket not closed, or a comma missing?",
    "Unclosed inline table": "is a brace not closed, or a comma missing? It has to end in its line",
    "Expected '=' after a key": 'write KEY = VALUE, such as id = "task.id"',
    "Expected ']' at the end": "write it as [NAME]",
    "Expected newline": "one value stands in a line; a remark begins with #",
    "Cannot mutate immutable": "a table in braces is whole: put all its keys there, or all under a heading",
    "Duplicate inline table key": "the key stands twice",
    "Invalid initial character": "a key is letters, digits, _ and -, or stands in quotes",
}


def _with_remedy(said: str) -> str:
    """The parser's words, which say where, and what may be done."""
    remedy = next((words for start, words in _REMEDIES.items() if said.startswith(start)), None)
    return said[:1].lower() + said[1:] + (f"; {remedy}" if remedy else "")


class TomlLines:
    """The lines of a file's keys, looked for where there is a problem only."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._text = text

    @cached_property
    def _first(self) -> Mapping[tuple[str, ...], int]:
        """The first line of each."""
        found: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(self._text.splitlines(), start=1):
            if heading := _HEADING.match(line):
                table = _names(heading[1])
                for depth in range(1, len(table) + 1):  # [a.b] begins a, too
                    found.setdefault(table[:depth], number)
            elif assignment := _ASSIGNMENT.match(line):
                found.setdefault((*table, *_names(assignment[1])), number)
        return found

    def problem(self, key: tuple[str, ...], said: str) -> str:
        """One sentence: file, line, key, and what is to say about it."""
        at, whole = key, ".".join(key)
        while at and at not in self._first:  # what is not there is told of the table where it belongs
            at = at[:-1]
        line = self._first.get(at, 1)
        return f"{self._file}, line {line}: {whole} {said}"


def shown(value: object) -> str:
    """A value as it stands in a problem."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, text))
