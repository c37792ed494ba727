"""`receiver costs`: what orders through the gateway cost; `receiver budgets`: what they may cost."""

import re
from typing import Any

import click

from receiver.cli.client import connect, segment
from receiver.cli.confirm import ask, yes_option
from receiver.cli.exit_codes import nothing_found
from receiver.cli.filters import owner_option, provider_option
from receiver.cli.output import as_json, print_json
from receiver.cli.tables import EMPTY, print_table, wide_option
from receiver.cli.terminal import say
from receiver.escapes import printable
from receiver.models import BudgetPeriod, CostBy
from receiver.usd import from_usd

_MONEY = ("held", "charged", "released", "uncertain")


def _day(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        raise click.BadParameter("a day is written as 2026-11-30")
    return value


def amount(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            from_usd(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc
    return value


@click.command(short_help="Sum up what orders through the gateway cost.")
@owner_option
@provider_option
@click.option("--model", help="Only this model's.")
@click.option("--token", help="Only those ordered with the token of this name.")
@click.option("--since", metavar="DAY", callback=_day, help="From this day in UTC on, as 2026-11-01.")
@click.option("--until", metavar="DAY", callback=_day, help="Before this day.")
@click.option(
    "--by",
    default="provider,model",
    show_default=True,
    metavar="NAMES",
    help=f"One sum for each of these: {', '.join(CostBy)}, with commas between.",
)
@wide_option
@as_json
def costs(*, as_json: bool, **query: str | None) -> None:
    """Sum up what orders through the gateway cost, in US dollars, by where their money stands."""
    with connect() as service:
        answer = service.get("/costs", query)
    document = answer.document
    if as_json:
        print_json(answer)
    elif document["total"]["orders"]:
        names = [name for name in (query["by"] or "").split(",") if name]
        columns = (*dict.fromkeys(names), "orders", "images", *_MONEY, "unpriced", "as_of")
        total = document["total"] | dict.fromkeys(names[:1], "all")
        print_table(
            [*(_shown(row) for row in document["costs"]), _shown(total)], columns, ("as_of", "images")
        )
        if not document["is_whole"]:
            say("There are more sums than are shown: narrow down what is asked.", err=True)
    if not document["total"]["orders"]:
        nothing_found("orders")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: EMPTY if value in (None, "") else value for name, value in row.items()}


@click.group()
def budgets() -> None:
    """Set, list and remove budgets: what orders through the gateway may cost."""


@budgets.command("set", short_help="Set what the orders of an owner, token, provider or all may cost.")
@click.argument("target")
@click.argument("period", type=click.Choice([each.value for each in BudgetPeriod]))
@click.argument("usd", callback=amount)
@click.option("--hard/--soft", default=True, help="Refuse what it has no room for (the default), or say so.")
@click.option("--unpriced", metavar="USD", callback=amount, help="What an order without a price counts as.")
def set_(*, target: str, period: str, usd: str, hard: bool, unpriced: str | None) -> None:
    """Set what the orders of TARGET may cost in a PERIOD, in US dollars.

    TARGET is owner=NAME, token=NAME, provider=NAME or all. It takes the place of the one set before.
    """
    with connect() as service:
        path = f"/budgets/{segment(target)}/{period}"
        row = service.put(path, {"usd": usd, "hard": hard, "unpriced": unpriced}).document
    say(f"It is set: {row['used']} of {row['usd']} USD are used.", err=True)


@budgets.command("list")
@wide_option
@as_json
def list_(*, as_json: bool) -> None:
    """List budgets, and what of their present periods is used and left."""
    with connect() as service:
        answer = service.get("/budgets")
    rows = answer.document["budgets"]
    if as_json:
        print_json(answer)
    elif rows:
        shown = [_shown(row | {"kind": "hard" if row["hard"] else "soft"}) for row in rows]
        columns = ("target", "period", "kind", "usd", "used", "left", "since", "unpriced")
        print_table(shown, columns, ("since", "unpriced"))
    if not rows:
        nothing_found("budgets")


@budgets.command()
@click.argument("target")
@click.argument("period", type=click.Choice([each.value for each in BudgetPeriod]))
@yes_option
def remove(*, target: str, period: str, yes: bool) -> None:
    """Remove the budget that TARGET has for a PERIOD."""
    with connect() as service:
        rows = service.get("/budgets").document["budgets"]
        of = [row for row in rows if (row["target"], row["period"]) == (target, period)]
        spent = f"{of[0]['used']} of {of[0]['usd']} USD are used" if of else "there is none"
        ask(f"This removes the budget of {printable(target)} by {period}: {spent}.", yes=yes)
        service.delete(f"/budgets/{segment(target)}/{period}")
    say("It is removed.", err=True)
