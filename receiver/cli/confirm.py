"""Commands that send something again show their plan and ask first."""

import sys

import click

from receiver.cli.exit_codes import Exit
from receiver.cli.terminal import say
from receiver.escapes import printable_lines

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def ask(plan: str, *, yes: bool) -> None:
    """Show the plan, and return only with a person's consent or ``--yes``.

    Ends the command otherwise: 1 for a no, 2 where there is no terminal to ask at.
    """
    say(printable_lines(plan), err=True)
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(
            "there is no terminal to ask at, so nothing was done: add --yes to go ahead, or --dry-run"
        )
    if not click.confirm("Go ahead?", err=True):
        say("Nothing was done.", err=True)
        click.get_current_context().exit(Exit.FAILED)
