"""`receiver dead`: notifications that were given up; list them, or have them sent after all."""

from typing import Any

import click

from receiver.cli.client import connect
from receiver.cli.consent import ask, dry_run_option, yes_option
from receiver.cli.exits import nothing_found
from receiver.cli.filters import (
    check_order,
    cursor_option,
    filter_document,
    filter_options,
    filter_words,
    limit_option,
)
from receiver.cli.show import as_json, count, print_json, print_table, printable


@click.group()
def dead() -> None:
    """List dead letters, and have them sent after all."""


@dead.command("list")
@filter_options
@click.option("--sink", help="Only this sink's.")
@limit_option
@cursor_option
@as_json
def list_(*, as_json: bool, **query: Any) -> None:
    """List notifications that were given up, the newest first."""
    check_order(query)
    with connect() as service:
        answer = service.get_page("/dead-letters", "dead_letters", query)
    page = answer.document
    if as_json:
        print_json(answer)
    elif page["dead_letters"]:
        columns = ("settled_at", "sink", "provider", "task_id", "type", "attempts", "outcome", "detail")
        print_table(page["dead_letters"], {name: name for name in columns})
        if page["next_cursor"]:
            click.echo(f"More: --cursor {page['next_cursor']}", err=True)
    if not page["dead_letters"]:
        nothing_found("dead letters")


@dead.command()
@filter_options
@click.option("--sink", "sinks", metavar="NAME", multiple=True, help="Only this one's; may be repeated.")
@dry_run_option
@yes_option
@as_json
def requeue(*, sinks: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool, **clauses: Any) -> None:
    """Send dead letters again, with all their time before them.

    Shows how many there are and asks. Exits 3 when there are none.
    """
    asked: dict[str, Any] = {"filter": filter_document(clauses), "sinks": sinks}
    with connect() as service:
        answer = service.post("/dead-letters/requeue", asked | {"dry_run": True})
        plan = answer.document
        if plan["matched"] and not dry_run:
            ask(_plan(plan["matched"], asked), yes=yes)
            answer = service.post("/dead-letters/requeue", asked)
    if as_json:
        print_json(answer)
    elif plan["matched"]:
        click.echo(_plan(plan["matched"], asked) if dry_run else _done(answer.document["requeued"]))
    if not plan["matched"]:
        nothing_found("dead letters")


def _plan(matched: int, asked: dict[str, Any]) -> str:
    sinks = f" to {printable(', '.join(asked['sinks']))}" if asked["sinks"] else ""
    filter_ = printable(filter_words(asked["filter"]))
    return f"This sends {count(matched, 'dead letter')} again{sinks}.\nThe filter: {filter_}."


def _done(requeued: int) -> str:
    return f"{count(requeued, 'dead letter')} {'is' if requeued == 1 else 'are'} due again."
