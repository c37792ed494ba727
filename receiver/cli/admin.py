"""`receiver admin`: a one-time link to the admin pages, and who is logged in to them."""

import click

from receiver.cli.client import connect
from receiver.cli.confirm import ask, yes_option
from receiver.cli.output import as_json, count, print_json
from receiver.cli.tables import print_table, wide_option
from receiver.cli.terminal import say


@click.group()
def admin() -> None:
    """Open the admin pages in a browser, and see or end who is logged in to them."""


@admin.command("open", short_help="Print a link that opens the admin pages once.")
@as_json
def open_(*, as_json: bool) -> None:
    """Print a link that opens the admin pages once, within a minute. Hand it to nobody: it makes an admin."""
    with connect() as service:
        answer = service.post("/sessions", {})
    if as_json:
        print_json(answer)
        return
    click.echo(answer.document["url"])
    say("It opens one log-in as admin, within a minute.", err=True)


@admin.command()
@click.option("--end", type=click.Choice(["all"]), help="End all of them.")
@yes_option
@wide_option
@as_json
def sessions(*, end: str | None, yes: bool, as_json: bool) -> None:
    """List who is logged in to the admin pages, or end that."""
    with connect() as service:
        if end:
            ask("This ends every log-in to the admin pages, and takes back links that open one.", yes=yes)
            answer = service.delete("/sessions")
        else:
            answer = service.get("/sessions")
    if as_json:
        print_json(answer)
    elif end:
        say(f"{count(answer.document['ended'], 'log-in')} ended.", err=True)
    elif answer.document["sessions"]:
        columns = ("who", "said_name", "created_at", "seen_at", "expires_at")
        print_table(answer.document["sessions"], columns, ("created_at", "expires_at", "seen_at"))
    else:
        say("Nobody is logged in.", err=True)
