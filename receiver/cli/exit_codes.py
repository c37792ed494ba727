"""How a command ends: exit codes, and expected failures in words."""

from enum import IntEnum

import click

from receiver.cli.terminal import say
from receiver.errors import Misconfigured, ReceiverError
from receiver.escapes import printable, printable_lines
from receiver.problem_types import ProblemType


class Exit(IntEnum):
    """Exit codes that scripts can rely on; the manual lists the failures of each."""

    DONE = 0
    FAILED = 1
    MISCONFIGURED = 2  # or mistyped
    NOTHING_FOUND = 3


# Names of what is set at the service: whoever typed one that is not known there has mistyped it.
_MISTYPED = {ProblemType.UNKNOWN_PROVIDER, ProblemType.UNKNOWN_SINK}


class Refused(ReceiverError):
    """What the running service refused, in its words; ``kind`` is None for a type that is not known here."""

    def __init__(self, status: int, title: str, detail: str, kind: ProblemType | None) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.detail = detail
        self.kind = kind


def report(error: ReceiverError) -> Exit:
    """Say on stderr what went wrong, a line for each problem; returns the exit code for it."""
    match error:
        case Misconfigured():
            lines, code = error.problems, Exit.MISCONFIGURED
        case Refused():
            # By the problem's type; by its status where the type is of another release.
            if error.status == 400 or error.kind in _MISTYPED:
                code = Exit.MISCONFIGURED
            else:
                code = Exit.NOTHING_FOUND if is_missing(error) else Exit.FAILED
            lines = (printable(error.detail if code is Exit.NOTHING_FOUND else str(error)),)
        case _:
            lines, code = (str(error),), Exit.FAILED
    for line in lines:
        say(f"receiver: {printable_lines(line)}", err=True)
    return code


def is_missing(error: Refused) -> bool:
    """Whether the path is one of the service's, and nothing is there."""
    return error.status == 404 and error.kind is not ProblemType.UNKNOWN_PATH


def nothing_found(what: str, todo: str = "") -> None:
    """End a command that found nothing of what it looked for; ``todo`` says where else to look."""
    say(f"receiver: no {what} found{': ' if todo else ''}{todo}", err=True)
    click.get_current_context().exit(Exit.NOTHING_FOUND)
