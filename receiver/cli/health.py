"""`receiver health`: what is wrong now, as lines for people and for the incident's channel."""

from datetime import datetime
from typing import Any

import click

from receiver.cli.client import connect
from receiver.cli.exit_codes import Exit
from receiver.cli.output import as_json, paint, print_json
from receiver.cli.terminal import columns, hang, say
from receiver.clock import Clock
from receiver.escapes import printable
from receiver.health.lines import Severity, number
from receiver.times import from_text, in_words


@click.command()
@as_json
def health(*, as_json: bool) -> None:
    """Say what is wrong now, since when, how many images it touches, and what to do about it.

    The most severe comes first, and of that what touches most images. Exits 1 where any of it is critical.
    """
    with connect() as service:
        answer = service.get("/admin/health.json")
    found, now = answer.document, Clock().now()
    if as_json:
        print_json(answer)
    elif found["lines"]:
        for line in found["lines"]:
            _print_line(line, now)
    else:
        say(printable(f"Nothing is wrong. Looked at: {', '.join(found['looked_at'])}{_last(found, now)}."))
    if found["unknown"]:
        say(f"Not known now, as what tells it does not answer: {', '.join(found['unknown'])}.", err=True)
    if found["status"] == Severity.CRITICAL:
        click.get_current_context().exit(Exit.FAILED)


def _print_line(line: dict[str, Any], now: datetime) -> None:
    """Print severity and cause; below that, in the same column, since when, how many images, what to do."""
    width = len(Severity.CRITICAL) + 2
    label = paint(line["severity"]) + " " * (width - len(line["severity"]))
    since = f"since {line['since']}, {in_words((now - from_text(line['since'])).total_seconds())}"
    command = f": {line['command']}" if line["command"] else ""
    for prefix, text in (
        (label, line["cause"]),
        (" " * width, f"{since}; {_images(line['images'])}"),
        (" " * width, f"to do: {line['step']}{command}"),
    ):
        for part in hang(prefix, printable(text), columns()):
            click.echo(part)


def _images(images: int | None) -> str:
    if images is None:
        return "it touches every image that comes"
    return f"it touches {number(images)} image{'' if images == 1 else 's'}" if images else "no image is lost"


def _last(found: dict[str, Any], now: datetime) -> str:
    last = found["last_delivery_at"]
    if last is None:
        return "; no callback came yet"
    return f"; the last callback came {in_words((now - from_text(last)).total_seconds())} ago"
