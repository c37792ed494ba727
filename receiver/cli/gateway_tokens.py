"""`receiver gateway tokens`: make the gateway's tokens, list them, revoke one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from receiver.cli.client import Service, connect, segment
from receiver.cli.confirm import ask, yes_option
from receiver.cli.costs import amount
from receiver.cli.exit_codes import Refused, nothing_found
from receiver.cli.output import as_json, print_json
from receiver.cli.tables import print_table, wide_option
from receiver.cli.terminal import say
from receiver.clock import Clock
from receiver.errors import ReceiverError
from receiver.problem_types import ProblemType
from receiver.times import from_text, to_text

_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_AHEAD = re.compile(r"(\d{1,6})([mhd])")


def ahead(text: str) -> str:
    """A time as the API takes it: ``30m``, ``12h`` or ``90d`` from now, or any RFC 3339."""
    try:
        if later := _AHEAD.fullmatch(text):
            return to_text(Clock().now() + timedelta(seconds=int(later[1]) * _SECONDS[later[2]]))
        return to_text(from_text(text))
    except (ValueError, OverflowError) as exc:
        hint = "30m, 12h or 90d from now, or a time with its zone such as 2027-01-31T00:00:00Z"
        raise click.BadParameter(f"{text!r} is none of {hint}") from exc


@contextmanager
def _gateway() -> Iterator[Service]:
    """The service, whose paths of tokens are there with its gateway alone. Raises Refused without one."""
    try:
        with connect() as service:
            yield service
    except Refused as refused:
        if refused.kind is not ProblemType.UNKNOWN_PATH:
            raise
        todo = "set RECEIVER_GATEWAY=true where the service runs"
        raise Refused(refused.status, "There is no gateway", todo, refused.kind) from refused


@click.group()
def tokens() -> None:
    """Make, list and revoke tokens for the gateway.

    They stand for the providers' keys where RECEIVER_GATEWAY_KEYS is `hold`.
    """


@tokens.command(short_help="Make a token, and show it this once.")
@click.argument("name")
@click.option("--provider", "providers", multiple=True, help="Only for this one; may be repeated.")
@click.option("--model", "models", multiple=True, help="Only for this model; may be repeated.")
@click.option("--owner", help="Whose its orders are, whoever they name.")
@click.option("--expires", metavar="TIME", type=ahead, help="From when it is over: 12h, 90d, or RFC 3339.")
@click.option("--budget", metavar="USD", callback=amount, help="What its orders may cost a month, at most.")
@as_json
def add(
    *,
    name: str,
    providers: tuple[str, ...],
    models: tuple[str, ...],
    owner: str | None,
    expires: str | None,
    budget: str | None,
    as_json: bool,
) -> None:
    """Make a token called NAME. It is shown this once, as only a hash of it is kept.

    --budget sets its hard budget of each month, as `receiver budgets set token=NAME month USD` would.
    """
    document = {"name": name, "providers": providers, "models": models}
    document |= {key: value for key, value in (("owner", owner), ("expires_at", expires)) if value}
    with _gateway() as service:
        answer = service.post("/gateway-tokens", document)
        if budget is not None:
            try:  # before anybody can know the token
                service.put(f"/budgets/{segment(f'token={name}')}/month", {"usd": budget, "hard": True})
            except ReceiverError:
                service.delete(f"/gateway-tokens/{segment(name)}")
                raise
    if as_json:
        print_json(answer)
        return
    click.echo(answer.document["token"])
    say(f"It is not shown again. Take it back by `receiver gateway tokens revoke {name}`.", err=True)


@tokens.command("list")
@wide_option
@as_json
def list_(*, as_json: bool) -> None:
    """List tokens, the oldest first, with those that are over."""
    with _gateway() as service:
        answer = service.get("/gateway-tokens")
    rows = answer.document["tokens"]
    if as_json:
        print_json(answer)
    elif rows:
        shown = [
            row | {name: ", ".join(row[name]) or "every one" for name in ("providers", "models")}
            for row in rows
        ]
        columns = ("name", "providers", "models", "owner", "created_at", "expires_at", "revoked_at")
        print_table(shown, columns, ("created_at", "expires_at", "revoked_at"))
    if not rows:
        nothing_found("gateway tokens")


@tokens.command()
@click.argument("name")
@yes_option
def revoke(*, name: str, yes: bool) -> None:
    """Let nobody in by the token called NAME any more. Its name is not given again."""
    with _gateway() as service:
        rows = service.get("/gateway-tokens").document["tokens"]
        if name in {row["name"] for row in rows if row["revoked_at"] is None}:
            ask(f"This ends the token {name} for good. What it has ordered goes on.", yes=yes)
        service.delete(f"/gateway-tokens/{segment(name)}")
    say(f"Revoked {name}.", err=True)
