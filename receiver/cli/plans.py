"""Plans at a terminal: what would be done, to how many, and for how long, before it is done once."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click
import msgspec

from receiver.cli.client import Reply, Service
from receiver.cli.confirm import ask, yes_option
from receiver.cli.exit_codes import Exit, nothing_found
from receiver.cli.filters import filter_words
from receiver.cli.output import count, print_json
from receiver.cli.terminal import say
from receiver.escapes import printable, printable_lines
from receiver.times import in_words

FEW = 100  # above it a person types the number, and why
MOST_REASON = 200  # characters

Command = TypeVar("Command", bound=Callable[..., Any])


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody typed about doing it: whether at all, whether without a question, and why."""

    dry_run: bool
    yes: bool
    reason: str


def plan_options(command: Command) -> Command:
    """The options of what is planned first; the command gets them as ``will``."""

    @wraps(command)
    def with_will(*, dry_run: bool, yes: bool, reason: str, **others: Any) -> Any:
        return command(will=Will(dry_run=dry_run, yes=yes, reason=reason), **others)

    said = click.option(
        "--reason", default="", metavar="TEXT", help="Why, for the audit; asked for where there are many."
    )
    dry_run = click.option(
        "--dry-run", "--plan-only", "dry_run", is_flag=True, help="Only say what would be done."
    )
    return cast("Command", dry_run(yes_option(said(with_will))))


def carry_out(
    service: Service, asked: dict[str, Any], will: Will, *, noun: str, as_json: bool
) -> Reply | None:
    """Plan, show the plan, ask, and do it; what the service says of that. None where it was not to be done.

    Ends the command where nothing matches (3), nobody consents (1) or nobody can be asked (2).
    """
    if len(will.reason) > MOST_REASON:
        raise click.BadParameter(f"at most {MOST_REASON} characters", param_hint="--reason")
    answer = service.post("/plans", asked)
    plan = answer.document
    is_nothing = plan["is_exact"] and not plan["count"]
    if will.dry_run or is_nothing:
        if as_json:
            print_json(answer)
        elif not is_nothing:
            say(printable_lines(describe(plan)))
        if is_nothing:
            nothing_found(noun)
        return None
    why = _consent(plan, will)
    return service.post(plan["then"]["path"], plan["then"]["body"] | ({"reason": why} if why else {}))


def describe(plan: dict[str, Any]) -> str:
    """A plan in words, each sentence on a line of its own."""
    lines = [f"{_deed(plan)}.", f"The filter: {printable(filter_words(plan['filter']))}."]
    by = [f"{name} {_counts(counts)}" for name, counts in plan["by"].items() if counts]
    lines += [f"By {'; by '.join(by)}."] if by else []
    if tasks := [f"{each['provider']}/{each['task_id']}" for each in plan["examples"]]:
        lines.append(f"For example: {printable(', '.join(tasks))}.")
    if plan["expected_seconds"] is not None:
        lines.append(f"It takes about {in_words(plan['expected_seconds'])}.")
    if plan["down"]:
        lines.append(f"What is for {printable(', '.join(plan['down']))} waits, as that takes nothing now.")
    return "\n".join(lines)


def _deed(plan: dict[str, Any]) -> str:
    number = plan["count"]
    least = "" if plan["is_exact"] else "at least "
    match plan["act"]:
        case "notify":
            sinks = printable(", ".join(plan["sinks"]))
            deed = f"This sends {least}{count(number, 'event')} again to {sinks}"
        case "fetch":
            deed = f"This downloads what is missing of {least}{count(number, 'task')} again"
        case "reprocess":
            kept = count(number, "kept delivery", "kept deliveries")
            deed = f"This reads {least}{kept} with today's adapters"
        case "poll":
            deed = f"This asks the providers now about {least}{count(number, 'task')} without an end"
        case _:
            sinks = printable(", ".join(plan["sinks"]))
            deed = f"This sends {least}{count(number, 'dead letter')} again to {sinks}"
    return f"{deed}, at most {plan['rate']:g} a second" if plan["rate"] else deed


def _counts(counts: dict[str, int | None]) -> str:
    return ", ".join(
        f"{printable(name)} {'some' if number is None else f'{number:,}'}" for name, number in counts.items()
    )


def _consent(plan: dict[str, Any], will: Will) -> str:
    """Have a person agree, the more so the more it is about; why it is done."""
    is_large = plan["count"] > FEW or not plan["is_exact"]
    if will.yes or not is_large or not sys.stdin.isatty():
        ask(describe(plan), yes=will.yes)
        return will.reason
    say(printable_lines(describe(plan)), err=True)
    number = str(plan["count"]) if plan["is_exact"] else "all"
    typed = click.prompt(f"Type {number}, so that it is meant", default="", show_default=False, err=True)
    if typed.replace(",", "").strip().lower() != number:
        say("Nothing was done.", err=True)
        click.get_current_context().exit(Exit.FAILED)
    why: str = will.reason or click.prompt("Why, for the audit", err=True)
    return why[:MOST_REASON]
