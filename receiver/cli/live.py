"""Events as they are told, one after the other, from a running service."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import click

from receiver.cli.client import MOST_ROWS, Service
from receiver.cli.exit_codes import Refused
from receiver.cli.filters import owner_option, provider_option
from receiver.cli.terminal import say
from receiver.errors import Unavailable
from receiver.models import EventType, TaskState

LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 60.0  # a restart takes less
ENDED = tuple(state.value for state in (TaskState.COMPLETED, TaskState.PARTIAL, TaskState.FAILED))

Command = TypeVar("Command", bound=Any)

_FILTER = (
    provider_option,
    owner_option,
    click.option("--type", type=click.Choice([kind.value for kind in EventType]), help="Only such events."),
    click.option("--state", type=click.Choice(ENDED), help="Only of tasks that ended so, as --type."),
    click.option(
        "--last",
        "-n",
        type=click.IntRange(0, 200),
        default=0,
        show_default=True,
        help="Begin with so many notifications that there were.",
    ),
)


def live_options(command: Command) -> Command:
    """The options of what is followed; the command gets them as ``asked``, see ``query_of``."""
    for option in reversed(_FILTER):
        command = option(command)
    return command


def query_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the API takes them."""
    if asked["type"] and asked["state"]:
        raise click.UsageError("--type and --state say the same: give one of them")
    kind = f"task.{asked['state']}" if asked["state"] else asked["type"]
    wanted = {name: asked[name] for name in ("provider", "owner", "last")}
    return {**wanted, "type": kind, "limit": MOST_ROWS}


def follow(service: Service, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every event from now on, without end. Raises Unavailable where the service stays away for a minute.

    It is asked once before this returns.
    """
    return _events(service, query, service.get("/events", query).document)


def _events(service: Service, query: Mapping[str, Any], page: Any) -> Iterator[dict[str, Any]]:
    before = None
    while True:
        yield from page["events"]
        if page["next_cursor"] == before:  # nothing was looked at: that is all there is
            time.sleep(LOOK_SECONDS)
        before = page["next_cursor"]
        page = _look(service, {**query, "last": None, "cursor": before})


def _look(service: Service, query: Mapping[str, Any]) -> Any:
    deadline, is_told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return service.get("/events", query).document
        except (Unavailable, Refused) as exc:
            passes = isinstance(exc, Unavailable) or exc.status >= 500
            if not passes or time.monotonic() > deadline:
                raise
        if not is_told:
            say("The service does not answer; trying again.", err=True)
            is_told = True
        time.sleep(LOOK_SECONDS)
