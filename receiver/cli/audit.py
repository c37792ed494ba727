"""`receiver audit`: who did what by hand, when, by which door, and why."""

from typing import Any

import click

from receiver.cli.client import connect
from receiver.cli.exit_codes import nothing_found
from receiver.cli.filters import (
    check_order,
    cursor_option,
    filter_words,
    limit_option,
    since_option,
    until_option,
)
from receiver.cli.output import as_json, print_json
from receiver.cli.tables import EMPTY, print_table, wide_option
from receiver.cli.terminal import say
from receiver.escapes import encode_harmless, printable
from receiver.models import Act


@click.command()
@click.option("--who", help="Only by this token: a role and its name, as in the list.")
@click.option(
    "--act",
    type=click.Choice([act.value for act in Act]),
    metavar="ACT",
    help="Only such acts, named as in the list.",
)
@click.option("--about", "target", metavar="ID", help="Only about this, such as a replay.")
@since_option
@until_option
@limit_option
@cursor_option
@click.option("--all", "all_", is_flag=True, help="Everything that matches, as JSON Lines.")
@wide_option
@as_json
def audit(*, all_: bool, as_json: bool, **query: Any) -> None:
    """List who did what by hand, the newest first."""
    check_order(query)
    with connect() as service:
        if all_:
            wanted = {name: value for name, value in query.items() if name not in {"limit", "cursor"}}
            for row in service.get_all("/audit", "audit", wanted):
                click.echo(encode_harmless(row).decode())
            return
        answer = service.get_page("/audit", "audit", query)
    page = answer.document
    if as_json:
        print_json(answer)
    elif page["audit"]:
        columns = ("at", "who", "said_name", "door", "act", "about", "done", "reason")
        least = ("said_name", "door", "done", "reason", "about")
        print_table([row | _in_words(row) for row in page["audit"]], columns, least)
        if page["next_cursor"]:
            say(f"More: --cursor {printable(page['next_cursor'])}", err=True)
    if not page["audit"]:
        nothing_found("entries")


def _in_words(row: dict[str, Any]) -> dict[str, str]:
    return {"about": _about(row), "done": _done(row), "said_name": row["said_name"] or EMPTY}


def _done(row: dict[str, Any]) -> str:
    done, planned = row["done"], row["planned"]
    if done is None:
        return EMPTY if planned is None else f"{planned:,} planned"
    return f"{done:,}" if planned is None else f"{done:,} of {planned:,}"


def _about(row: dict[str, Any]) -> str:
    if row["act"] == Act.SETTINGS_CHANGED:
        return str(row["result"])  # its filter holds hashes, which say nothing to people
    words = [row["target"] or "", filter_words(row["filter"]) if row["filter"] else ""]
    return " ".join(filter(None, words)) or EMPTY
