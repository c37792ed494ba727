"""Sentences, lines and bars that fit the terminal's width."""

import codecs
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

import click

USUAL_COLUMNS = 80
FEWEST_COLUMNS = 20
WIDEST_TEXT = 100  # longer lines are hard to read
LEAST_HANGING = 24  # columns that are left for the lines after the first
LEAST_BAR = 4
WIDEST_BAR = 36
PERCENT_AND_ETA = 2 + 4 + 2 + 8  # "  100%  00:00:10", as click writes them

# A unit stays with its number.
_BETWEEN_WORDS = re.compile(r" (?!(?<=\d )(?:s|min|h|d)\b)")

Item = TypeVar("Item")


def columns(*, err: bool = False) -> int | None:
    """The width of the terminal at stdout or stderr; None where there is none, and nothing is wrapped.

    COLUMNS wins over what the terminal says of itself.
    """
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        return None
    told = shutil.get_terminal_size((0, 0)).columns  # by COLUMNS, or by the terminal at stdout
    if not told:
        with suppress(OSError):
            told = os.get_terminal_size(stream.fileno()).columns
    return max(FEWEST_COLUMNS, told or USUAL_COLUMNS)


def say(text: str, *, err: bool = False, **style: Any) -> None:
    """Print ``text``, which must be printable already, with each of its lines wrapped at words."""
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))]
        for part in hang(indent, line.removeprefix(indent), columns(err=err), 2 + len(indent)):
            click.echo(click.style(part, **style) if style else part, err=err)


def hang(label: str, text: str, width: int | None, margin: int | None = None) -> list[str]:
    """``label`` and ``text`` as lines that are at most ``width`` wide, those after the first indented.

    Words stay whole, so that ids, paths and URLs can be copied: one that is too long for its line gets one
    further left, and one that is longer than any line stays where it is.
    """
    if width is None:
        return [label + text]
    width = min(width, WIDEST_TEXT)
    indent = " " * min(measure(label) if margin is None else margin, max(0, width - LEAST_HANGING))
    lines = [label]
    is_fresh = True  # nothing but what it begins with is on the last line
    for word in _BETWEEN_WORDS.split(text):
        room = width - measure(lines[-1]) - (not is_fresh)
        if measure(word) <= max(0, room) or (is_fresh and measure(word) > width):
            lines[-1] += word if is_fresh else " " + word
        else:
            if is_fresh and not lines[-1].strip():
                lines.pop()
            lines.append(indent[: max(0, width - measure(word))] + word)
        is_fresh = False
    return [line.rstrip(" ") for line in lines]


def measure(text: str) -> int:
    """How many columns ``text`` takes: some characters take two, some none, and colours none."""
    plain = click.unstyle(text)
    return len(plain) if plain.isascii() else sum(map(_columns_for, plain))


def _columns_for(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shorten(text: str, width: int) -> str:
    """``text``; where it is wider than ``width``, its two ends with an ellipsis between them."""
    if measure(text) <= width:
        return text
    dots = "\N{HORIZONTAL ELLIPSIS}"
    try:
        codecs.lookup(sys.stdout.encoding).encode(dots)
    except UnicodeEncodeError:
        dots = "..."
    room = max(0, width - len(dots))
    tail = _begin(text[::-1], room // 2)[::-1]
    return f"{_begin(text, room - measure(tail))}{dots}{tail}"


def _begin(text: str, width: int) -> str:
    taken = ""
    for character in text:
        if measure(taken + character) > width:
            break
        taken += character
    return taken


def shown(text: str) -> str:
    """``text`` as stdout's encoding shows it, so that it can be measured."""
    encoding = codecs.lookup(sys.stdout.encoding).name
    if encoding in {"utf-8", "ascii"}:  # click writes UTF-8 to what it takes for misconfigured
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


def bar(
    label: str,
    length: int | None = None,
    items: Iterable[Item] | None = None,
    *,
    err: bool = True,
    words: Callable[[Any, int], str] | None = None,
) -> Any:
    """A progress bar on one line of the terminal; elsewhere the label alone.

    ``words(item, room)`` gives what stands in place of the time left, at most ``room`` columns wide.
    """
    stream = sys.stderr if err else sys.stdout
    # One column stays free: a terminal may go to the next line once the last one is written.
    total = (columns(err=err) or USUAL_COLUMNS) - 1
    label = shorten(label, total - LEAST_BAR - PERCENT_AND_ETA - 4)
    rest = total - measure(label) - PERCENT_AND_ETA - 4
    width = min(WIDEST_BAR, rest if words is None else WIDEST_BAR // 3)
    room = total - measure(label) - width - len("  []  100%  ")
    return click.progressbar(
        items,
        length=length,
        label=label,
        file=stream,
        width=width,
        show_eta=words is None,
        item_show_func=None if words is None else lambda item: words(item, room),
    )
