"""How a command ends: exit codes, and expected failures in words."""

from enum import IntEnum

import click

from receiver.cli.terminal import say
from receiver.errors import Misconfigured, ReceiverError
from receiver.escapes import printable, printable_lines
from receiver.problem_types import ProblemType


class Exit(IntEnum):
    """What scripts can rely on; the manual says of each which failures it is for."""

    DONE = 0
    FAILED = 1
    MISCONFIGURED = 2  # or mistyped
    NOTHING_FOUND = 3


# Names of what is set at the service: whoever typed one that is not known there has mistyped it.
_MISTYPED = {ProblemType.UNKNOWN_PROVIDER, ProblemType.UNKNOWN_SINK}


class Refused(ReceiverError):
    """What the running service would not do, in its words; ``kind`` where it is one that is known here."""

    def __init__(self, status: int, title: str, detail: str, kind: ProblemType | None) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.detail = detail
        self.kind = kind


def report(error: ReceiverError) -> Exit:
    """Say on stderr what went wrong, a line for each problem, and how to exit for it."""
    match error:
        case Misconfigured():
            lines, code = error.problems, Exit.MISCONFIGURED
        case Refused():
            code = _code(error)
            lines = (printable(error.detail if code is Exit.NOTHING_FOUND else str(error)),)
        case _:
            lines, code = (str(error),), Exit.FAILED
    for line in lines:
        say(f"receiver: {printable_lines(line)}", err=True)
    return code


def _code(error: Refused) -> Exit:
    """By the problem's type; by its status where that is of another release."""
    if error.status == 400 or error.kind in _MISTYPED:
        return Exit.MISCONFIGURED
    return Exit.NOTHING_FOUND if is_missing(error) else Exit.FAILED


def is_missing(error: Refused) -> bool:
    """Whether the service has no such thing, and not no such door."""
    return error.status == 404 and error.kind is not ProblemType.UNKNOWN_PATH


def nothing_found(what: str, todo: str = "") -> None:
    """End a command that looked for something and found none of it; ``todo`` says where to look else."""
    say(f"receiver: no {what} found{': ' if todo else ''}{todo}", err=True)
    click.get_current_context().exit(Exit.NOTHING_FOUND)
