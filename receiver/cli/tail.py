"""`receiver tail`: events as they happen, a line for each."""

from typing import Any

import click

from receiver.cli.client import connect
from receiver.cli.live import follow, live_options, query_of
from receiver.cli.output import count, paint
from receiver.escapes import encode_harmless, printable


@click.command()
@live_options
@click.option("--json", "as_json", is_flag=True, help="Print each event as sinks get it, on one line.")
def tail(*, as_json: bool, **asked: Any) -> None:
    """Show events as they are told to sinks, from now on, until Ctrl-C.

    Each is shown once, however many sinks want it; replays and later revisions are shown, too.
    """
    with connect() as service:
        try:
            for event in follow(service, query_of(asked)):
                click.echo(encode_harmless(event).decode() if as_json else line_of(event))
        except KeyboardInterrupt:
            return


def line_of(event: dict[str, Any]) -> str:
    """An event in one line."""
    data = event["data"]
    state = event["type"].removeprefix("task.")
    words = [
        printable(event["time"]),
        paint(state) + " " * (len("completed") - len(state)),
        printable(f"{data['provider']}/{data['task_id']}"),
        printable(data["owner"]),
        *_notes(event),
    ]
    return "  ".join(words)


def _notes(event: dict[str, Any]) -> list[str]:
    data, notes = event["data"], []
    if assets := data["assets"]:
        stored = sum(asset["state"] == "stored" for asset in assets)
        notes.append(count(stored, "file") if stored == len(assets) else f"{stored} of {len(assets)} files")
    if data["error"]:
        notes.append(printable(str(data["error"]["code"] or "error")))
    if event["revision"] > 1:
        notes.append(f"revision {event['revision']}")
    if replay_id := event.get("replayid"):
        notes.append(printable(f"replay {replay_id}"))
    return notes
