"""How a command ends: exit codes, and expected failures in words."""

from enum import IntEnum

import click

from receiver.cli.escapes import printable, printable_lines
from receiver.errors import Misconfigured, ReceiverError, Rejected


class Exit(IntEnum):
    """What scripts can rely on."""

    DONE = 0
    FAILED = 1
    MISCONFIGURED = 2  # or mistyped
    NOTHING_FOUND = 3


def report(error: ReceiverError) -> Exit:
    """Say on stderr what went wrong, a line for each problem, and how to exit for it."""
    match error:
        case Misconfigured():
            lines, code = error.problems, Exit.MISCONFIGURED
        case Rejected(status=404):
            lines, code = (printable(error.detail),), Exit.NOTHING_FOUND
        case Rejected(status=400):  # what was typed is wrong, but only the service could know
            lines, code = (printable(f"{error.title}: {error.detail}"),), Exit.MISCONFIGURED
        case Rejected():
            lines, code = (printable(f"{error.title}: {error.detail}"),), Exit.FAILED
        case _:
            lines, code = (str(error),), Exit.FAILED
    for line in lines:
        click.echo(f"receiver: {printable_lines(line)}", err=True)
    return code


def nothing_found(what: str, todo: str = "") -> None:
    """End a command that looked for something and found none of it; ``todo`` says where to look else."""
    click.echo(f"receiver: no {what} found{': ' if todo else ''}{todo}", err=True)
    click.get_current_context().exit(Exit.NOTHING_FOUND)
