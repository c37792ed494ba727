"""The options of a filter, and times such as 1h."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import click

from receiver.clock import Clock
from receiver.models import EventType, TaskState
from receiver.task_waiters import MOST_SECONDS
from receiver.times import from_text, to_text

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_AGO = re.compile(r"(\d{1,9})([smhd])")

Command = TypeVar("Command", bound=Callable[..., Any])


def moment(text: str) -> str:
    """A time as the API takes it: ``90s``, ``30m``, ``1h`` or ``7d`` before now, or any RFC 3339."""
    try:
        if ago := _AGO.fullmatch(text):
            return to_text(Clock().now() - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]]))
        return to_text(from_text(text))
    except (ValueError, OverflowError) as exc:
        hint = "90s, 30m, 1h or 7d before now, or a time with its zone such as 2026-11-21T10:00:00Z"
        raise click.BadParameter(f"{text!r} is none of {hint}") from exc


def metadata_term(text: str) -> tuple[str, str]:
    """``KEY=VALUE`` in two."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value


provider_option = click.option("--provider", help="Only this provider's.")
owner_option = click.option("--owner", help="Only this owner's.")
state_option = click.option(
    "--state", type=click.Choice([state.value for state in TaskState]), help="Only tasks in this state."
)
since_option = click.option(
    "--since", metavar="TIME", type=moment, help="At or after: 30m, 1h or 7d before now, or RFC 3339."
)
until_option = click.option("--until", metavar="TIME", type=moment, help="Before: written like --since.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many at most."
)
cursor_option = click.option("--cursor", help="Where the page before this one ended.")

wait_option = click.option(
    "--wait",
    type=click.FloatRange(0, MOST_SECONDS),
    default=0,
    metavar="SECONDS",
    help=f"Wait for the task's end, if it has not ended: {MOST_SECONDS} seconds at most.",
)

_FILTER = (
    provider_option,
    owner_option,
    state_option,
    click.option("--type", type=click.Choice([kind.value for kind in EventType]), help="Only such events."),
    since_option,
    until_option,
    click.option(
        "--logged-since", metavar="TIME", type=moment, help="Of tasks logged then or later: like --since."
    ),
    click.option("--logged-until", metavar="TIME", type=moment, help="Of tasks logged before: like --since."),
    click.option("--task", "task_ids", metavar="ID", multiple=True, help="Only this task; may be repeated."),
)


def filter_options(command: Command) -> Command:
    """The options of a filter; the command gets each clause by its name in the API."""
    for option in reversed(_FILTER):
        command = option(command)
    return command


def filter_document(clauses: Mapping[str, Any]) -> dict[str, Any]:
    """The clauses that were set, as the API takes them."""
    check_order(clauses)
    return {name: value for name, value in clauses.items() if value}


def check_order(clauses: Mapping[str, Any]) -> None:
    """Raises a usage error where a ``since`` is not before its ``until``."""
    for prefix in ("", "logged_"):
        since, until = clauses.get(f"{prefix}since"), clauses.get(f"{prefix}until")
        if since and until and since >= until:  # as texts, which sort by time
            name = prefix.replace("_", "-")
            raise click.UsageError(f"nothing can match: --{name}since must be before --{name}until")


def filter_words(document: Mapping[str, Any]) -> str:
    """A filter in a sentence for people: ``provider vidgo, since 2026-11-21T10:00:00.000Z``."""
    named = [f"{name.replace('_', ' ')} {value}" for name, value in document.items() if name != "task_ids"]
    tasks = [f"task {task_id}" for task_id in document.get("task_ids", ())]
    if len(tasks) > 3:
        tasks = [f"{len(tasks)} tasks by id"]
    return ", ".join([*named, *tasks]) or "everything"
