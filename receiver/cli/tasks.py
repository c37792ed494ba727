"""`receiver tasks`: list them, or show one with its whole history."""

from typing import Any

import click
import msgspec

from receiver.cli.client import TIMEOUT_SECONDS, Reply, Service, connect, segment
from receiver.cli.exit_codes import nothing_found
from receiver.cli.filters import (
    check_order,
    cursor_option,
    limit_option,
    metadata_term,
    owner_option,
    provider_option,
    since_option,
    state_option,
    until_option,
    wait_option,
)
from receiver.cli.output import as_json, paint, print_heading, print_json
from receiver.cli.tables import print_lines, print_pairs, print_table, wide_option
from receiver.cli.terminal import say
from receiver.escapes import printable
from receiver.timeline import timeline


@click.group()
def tasks() -> None:
    """List tasks, and show one with its whole history."""


@tasks.command("list")
@provider_option
@state_option
@owner_option
@since_option
@until_option
@click.option(
    "--metadata",
    type=metadata_term,
    metavar="KEY=VALUE",
    multiple=True,
    help="Only with this in their metadata, by a key of RECEIVER_METADATA_INDEX; may be repeated.",
)
@limit_option
@cursor_option
@wide_option
@as_json
def list_(*, metadata: tuple[tuple[str, str], ...], as_json: bool, **query: str | int | None) -> None:
    """List tasks, the newest first."""
    check_order(query)
    query |= {f"metadata.{key}": value for key, value in metadata}
    with connect() as service:
        answer = service.get_page("/tasks", "tasks", query)
    print_list(answer, as_json=as_json)
    if not answer.document["tasks"]:
        nothing_found("tasks")


@tasks.command(short_help="Show one task with its files, notifications and history.")
@click.argument("provider")
@click.argument("task_id")
@click.option("--all", "is_whole", is_flag=True, help="However long its history is.")
@wait_option
@wide_option
@as_json
def show(*, provider: str, task_id: str, is_whole: bool, wait: float, as_json: bool) -> None:
    """Show one task: where it stands, its files, its notifications, and what happened.

    Of a long history it shows the first and the newest of each kind, and says how many it leaves out.
    """
    with connect() as service:
        answer = get_task(service, provider, task_id, wait)
        if is_whole:
            whole = dict(answer.document)
            path = task_path(provider, task_id)
            for kind in [kind for kind, number in whole.get("left_out", {}).items() if number]:
                rows = [*service.get_all(path.replace("/tasks/", f"/{kind}/", 1), kind)]
                whole[kind] = rows[::-1]
                whole["left_out"] = whole["left_out"] | {kind: 0}
            answer = Reply(status=200, body=msgspec.json.encode(whole))
    if as_json:
        print_json(answer)
    else:
        print_task(answer.document)


def get_task(service: Service, provider: str, task_id: str, wait: float) -> Reply:
    """One task, after waiting up to so many seconds for it to end."""
    path = task_path(provider, task_id)
    return service.get(path, {"wait": wait}, TIMEOUT_SECONDS + wait) if wait else service.get(path)


def task_path(provider: str, task_id: str) -> str:
    """The path of one task."""
    return f"/tasks/{segment(provider)}/{segment(task_id)}"


def print_list(answer: Reply, *, as_json: bool) -> None:
    """Print a page of tasks, and where the next one begins."""
    page = answer.document
    if as_json:
        print_json(answer)
    elif page["tasks"]:
        rows = [row | {"assets": f"{row['assets_stored']}/{row['assets_total']}"} for row in page["tasks"]]
        columns = ("provider", "task_id", "state", "assets", "owner", "model", "submitted_at", "ended_at")
        print_table(rows, columns, ("ended_at", "model", "owner", "assets", "submitted_at"))
        if page["next_cursor"]:
            say(f"More: --cursor {printable(page['next_cursor'])}", err=True)


def print_task(task: dict[str, Any]) -> None:
    """Print where the task stands, its files, its notifications, and what happened."""
    names = ("state", "waiting_on", "owner", "model", "submission_id", "event_id", "revision", "metadata")
    error = ": ".join(part for part in (task["error"] or {}).values() if part)
    say(printable(f"{task['provider']} {task['task_id']}"), bold=True)
    print_pairs([*((name, task[name]) for name in names), ("error", error)])
    if task["assets"]:
        print_heading("Files")
        facts = ("index", "state", "outcome", "media_type", "bytes", "key")
        print_table(task["assets"], facts, ("media_type", "bytes", "outcome"))
    if task["notifications"]:
        print_heading("Notifications")
        columns = ("sink", "state", "attempts", "outcome", "revision", "replay_id", "settled_at", "due_at")
        rows = [
            row | ({} if row["state"] == "pending" else {"due_at": None}) for row in task["notifications"]
        ]
        print_table(rows, columns, ("revision", "replay_id", "settled_at", "attempts", "due_at", "outcome"))
        if any(row["state"] == "pending" and not row["outcome"] for row in rows):
            # Behind others at a sink that is down; only the sink knows why.
            say("receiver sinks list shows what keeps a sink from taking them.", dim=True)
    print_heading("Timeline")
    print_lines(timeline(task, paint), right=(1,))
