"""Output of commands: headings, values and colours for people, JSON for machines."""

import codecs
import json
import re
import sys

import click
import msgspec

from receiver.cli.client import Reply
from receiver.cli.terminal import say
from receiver.escapes import escape_json, printable

_COLOURS = {
    "completed": "green", "stored": "green", "delivered": "green", "accepted": "green", "ok": "green",
    "done": "green", "answered": "green", "partial": "yellow", "fetching": "yellow", "pending": "yellow",
    "early": "yellow", "warn": "yellow", "running": "yellow", "paused": "yellow", "unconfirmed": "yellow",
    "in_progress": "yellow", "failed": "red", "dead": "red", "conflict": "red", "refused": "red",
    "unowned": "red", "fail": "red", "cancelled": "red", "failing": "yellow", "down": "red", "stopped": "red",
    "critical": "red", "warning": "yellow",
}  # fmt: skip

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")

as_json = click.option("--json", "as_json", is_flag=True, help="Print the API's answer instead.")


def print_json(answer: Reply) -> None:
    print_document(answer.body)


def print_document(document: bytes) -> None:
    """Print JSON that stays JSON, keeps its lines and moves no cursor, in a terminal of any encoding."""
    text = escape_json(msgspec.json.format(document, indent=2)).decode()
    shows_everything = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    click.echo(text if shows_everything else _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text))


def print_heading(text: str) -> None:
    click.echo()
    say(printable(text), bold=True)


def paint(value: object) -> str:
    """One value for a terminal: states in colour, and nothing that moves the cursor."""
    text = plain(value)
    return click.style(text, fg=_COLOURS[text]) if text in _COLOURS else text


def plain(value: object) -> str:
    """One value for a terminal, without colours."""
    if value is None:
        return "-"
    return printable(value if isinstance(value, str) else msgspec.json.encode(value).decode())


def count(number: int, one: str, many: str = "") -> str:
    """``1 event``, ``2 events``; ``many`` where it is not ``one`` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
