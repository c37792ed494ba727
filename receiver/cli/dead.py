"""`receiver dead`: notifications that were given up, or whose sink is gone: list, send, move or drop them."""

from collections.abc import Callable
from typing import Any

import click

from receiver.cli.client import connect
from receiver.cli.confirm import ask, dry_run_option, yes_option
from receiver.cli.exit_codes import nothing_found
from receiver.cli.filters import (
    check_order,
    cursor_option,
    filter_document,
    filter_options,
    limit_option,
)
from receiver.cli.output import as_json, count, print_json
from receiver.cli.plans import Will, carry_out, plan_options
from receiver.cli.tables import print_table, wide_option
from receiver.cli.terminal import say
from receiver.escapes import printable, printable_lines


@click.group()
def dead() -> None:
    """List dead letters, have them sent after all, and clear up after a sink that is not set any more."""


@dead.command("list")
@filter_options
@click.option("--sink", help="Only this sink's.")
@limit_option
@cursor_option
@wide_option
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
        least = ("detail", "attempts", "type", "provider", "settled_at", "outcome")
        print_table(page["dead_letters"], columns, least)
        if page["next_cursor"]:
            say(f"More: --cursor {printable(page['next_cursor'])}", err=True)
    if not page["dead_letters"]:
        nothing_found("dead letters")


@dead.command()
@filter_options
@click.option("--sink", "sinks", metavar="NAME", multiple=True, help="Only this one's; may be repeated.")
@plan_options
@as_json
def requeue(*, sinks: tuple[str, ...], will: Will, as_json: bool, **clauses: Any) -> None:
    """Send dead letters again, with all their time before them.

    Shows how many there are and asks; above 100, the number and a reason are typed. Exits 3 when there are
    none.
    """
    asked = {"act": "requeue", "filter": filter_document(clauses), "sinks": sinks}
    with connect() as service:
        answer = carry_out(service, asked, will, noun="dead letters", as_json=as_json)
    if answer is None:
        return
    if as_json:
        print_json(answer)
        return
    requeued = answer.document["requeued"]
    say(f"{count(requeued, 'dead letter')} {'is' if requeued == 1 else 'are'} due again.")


@dead.command()
@click.option("--sink", required=True, metavar="NAME", help="The sink that is not set any more.")
@click.option("--to", required=True, metavar="NAME", help="The sink that gets what the other one did not.")
@dry_run_option
@yes_option
@as_json
def move(*, sink: str, to: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Give what a renamed or removed sink did not get to another one.

    What that has already is not sent again. Shows how much there is and asks. Exits 3 when there is nothing.
    """

    def plan(found: dict[str, Any]) -> str:
        moves = f"This moves {_found(found)} of {printable(sink)}, which is not set, to {printable(to)}."
        return f"{moves}\nWhat {printable(to)} has already is not sent again."

    def done(result: dict[str, Any]) -> str:
        had = f", {result['had']:,} it had already" if result["had"] else ""
        return f"{count(result['moved'], 'notification')} moved to {printable(to)}{had}."

    _clear_up("move", {"sink": sink, "to": to}, plan, done, dry_run=dry_run, yes=yes, as_json=as_json)


@dead.command()
@click.option("--sink", required=True, metavar="NAME", help="The sink that is not set any more.")
@dry_run_option
@yes_option
@as_json
def drop(*, sink: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget what a removed sink did not get. The events themselves stay.

    Shows how much there is and asks. Exits 3 when there is nothing.
    """

    def plan(found: dict[str, Any]) -> str:
        return f"This drops {_found(found)} of {printable(sink)}, which is not set."

    def done(result: dict[str, Any]) -> str:
        return f"{count(result['dropped'], 'notification')} dropped."

    _clear_up("drop", {"sink": sink}, plan, done, dry_run=dry_run, yes=yes, as_json=as_json)


def _clear_up(
    deed: str,
    asked: dict[str, Any],
    plan: Callable[[dict[str, Any]], str],
    done: Callable[[dict[str, Any]], str],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Show what there is to do, ask, and do it."""
    with connect() as service:
        answer = service.post(f"/dead-letters/{deed}", asked | {"dry_run": True})
        found = answer.document
        is_any = found["waiting"] or found["dead"]
        if is_any and not dry_run:
            ask(plan(found), yes=yes)
            answer = service.post(f"/dead-letters/{deed}", asked)
    if as_json:
        print_json(answer)
    elif is_any:
        say(printable_lines(plan(found) if dry_run else done(answer.document)))
    if not is_any:
        nothing_found("undelivered notifications of that sink")


def _found(found: dict[str, Any]) -> str:
    parts = [
        count(found["waiting"], "waiting notification") if found["waiting"] else "",
        count(found["dead"], "dead letter") if found["dead"] else "",
    ]
    return " and ".join(part for part in parts if part)
