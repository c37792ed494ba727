"""`receiver consume`: a function of yours handles the events of a Redis stream, until it is told to stop."""

import pkgutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import click

from receiver.client import Event, SqliteSeen, StreamFailed, run
from receiver.errors import Misconfigured


@click.command()
@click.argument("url")
@click.option("--group", required=True, metavar="NAME", help="Consumers of one group share the events.")
@click.option(
    "--exec",
    "place",
    required=True,
    metavar="MODULE:FUNCTION",
    help="What each event is handed to; modules of this folder are found, too.",
)
@click.option(
    "--seen",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Note in this file what was handled, and drop its repeats.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="How many events are handled at once.",
)
def consume(url: str, *, group: str, place: str, seen: Path | None, concurrency: int) -> None:
    """Handle the events of a Redis stream, until SIGTERM or Ctrl-C.

    URL is the sink's, such as 'redis://127.0.0.1:6379/0?stream=images'. An event that fails five times is put
    into the stream STREAM:failed, and what a consumer had in hand that died is handled by another after a
    minute.
    """
    handler = _resolve(place)
    try:
        run(url, handler, group=group, seen=SqliteSeen(seen) if seen else None, concurrency=concurrency)
    except (ImportError, StreamFailed, ValueError, sqlite3.Error) as exc:
        raise Misconfigured(str(exc)) from exc


def _resolve(place: str) -> Callable[[Event], object]:
    sys.path.insert(0, "")  # as `python -m` has it
    try:
        found = pkgutil.resolve_name(place)
    except (ImportError, AttributeError, ValueError) as exc:
        raise Misconfigured(f"--exec {place} names nothing: {exc}") from exc
    if not callable(found) or ":" not in place:
        raise Misconfigured(f"--exec takes MODULE:FUNCTION, and {place} is none")
    handler: Callable[[Event], object] = found
    return handler
