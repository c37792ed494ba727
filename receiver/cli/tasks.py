"""`receiver tasks`: list them, or show one with its whole history."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import click

from receiver.cli.client import connect
from receiver.cli.exits import nothing_found
from receiver.cli.show import as_json, paint, print_heading, print_json, print_pairs, print_table, printable
from receiver.models import TaskState


@click.group()
def tasks() -> None:
    """List tasks, and show one with its whole history."""


@tasks.command("list")
@click.option("--provider", help="Only this provider's.")
@click.option(
    "--state", type=click.Choice([state.value for state in TaskState]), help="Only those in this state."
)
@click.option("--owner", help="Only this owner's.")
@click.option("--since", metavar="TIME", help="Submitted at or after, such as 2026-11-21T10:00:00Z.")
@click.option("--until", metavar="TIME", help="Submitted before.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", help="Where the page before this one ended.")
@as_json
def list_(*, as_json: bool, **query: str | int | None) -> None:
    """List tasks, the newest first."""
    with connect() as service:
        answer = service.get("/tasks", query)
    page = answer.document
    if as_json:
        print_json(answer)
    elif page["tasks"]:
        rows = [row | {"assets": f"{row['assets_stored']}/{row['assets_total']}"} for row in page["tasks"]]
        columns = ("provider", "task_id", "state", "assets", "owner", "model", "submitted_at", "ended_at")
        print_table(rows, {name: name for name in columns})
        if page["next_cursor"]:
            click.echo(f"More: --cursor {page['next_cursor']}", err=True)
    if not page["tasks"]:
        nothing_found("tasks")


@tasks.command()
@click.argument("provider")
@click.argument("task_id")
@as_json
def show(*, provider: str, task_id: str, as_json: bool) -> None:
    """Show one task: where it stands, its files, its notifications, and all that happened."""
    with connect() as service:
        answer = service.get(f"/tasks/{quote(provider, safe='')}/{quote(task_id, safe='')}")
    if as_json:
        print_json(answer)
    else:
        _print_task(answer.document)


def _print_task(task: dict[str, Any]) -> None:
    names = ("state", "waiting_on", "owner", "model", "submission_id", "event_id", "revision", "metadata")
    error = ": ".join(part for part in (task["error"] or {}).values() if part)
    click.secho(printable(f"{task['provider']} {task['task_id']}"), bold=True)
    print_pairs([*((name, task[name]) for name in names), ("error", error)])
    if task["assets"]:
        print_heading("Files")
        print_table(
            task["assets"], {n: n for n in ("index", "state", "outcome", "media_type", "bytes", "key")}
        )
    if task["notifications"]:
        print_heading("Notifications")
        print_table(task["notifications"], {n: n for n in ("sink", "state", "attempts", "outcome", "due_at")})
    print_heading("Timeline")
    for moment, what, detail in sorted(_timeline(task), key=lambda entry: entry[0]):
        click.echo(f"{moment}  {what:<18} {detail}".rstrip())


def _timeline(task: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(when, what, how) of everything that happened; times sort as text."""
    yield task["submitted_at"], "submitted", ""
    if task["bound_at"] and task["bound_at"] != task["submitted_at"]:
        yield task["bound_at"], "bound", ""
    for delivery in task["deliveries"]:
        yield delivery["received_at"], f"{delivery['via']} received", _delivery(delivery)
    for attempt in task["attempts"]:
        yield attempt["started_at"], printable(attempt["target"]), _attempt(attempt)
    if task["ended_at"]:
        yield task["ended_at"], "ended", paint(task["type"].removeprefix("task."))


def _delivery(delivery: dict[str, Any]) -> str:
    seen = f"seen {delivery['seen']} times, last {delivery['last_seen_at']}" if delivery["seen"] > 1 else ""
    said = f"said {delivery['provider_state']}" if delivery["provider_state"] else ""
    parts = [delivery["verdict"], said, f"proof {delivery['proof']}", seen, delivery["note"]]
    return ", ".join([paint(parts[0]), *(printable(part) for part in parts[1:] if part)])


def _attempt(attempt: dict[str, Any]) -> str:
    detail = f": {printable(attempt['detail'])}" if attempt["detail"] else ""
    return f"{paint(attempt['outcome'])} (attempt {attempt['number']}, {attempt['seconds']:.3f} s){detail}"
