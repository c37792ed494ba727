"""`receiver sinks`: where notifications go, and whether they arrive: list, test, and make a secret."""

import base64
import secrets

import click

from receiver.cli.client import connect, segment
from receiver.cli.exit_codes import Exit
from receiver.cli.output import as_json, paint, print_json
from receiver.cli.tables import print_table, wide_option
from receiver.cli.terminal import say
from receiver.clock import Clock
from receiver.escapes import printable
from receiver.health.remedies import remedy
from receiver.models import Outcome, SinkState
from receiver.times import from_text, in_words

SECRET_BYTES = 32
# A publish may take 300 s at most, as the setting has it; then there is an answer.
TEST_SECONDS = 320.0


@click.group()
def sinks() -> None:
    """List sinks and how they take events, send one a test event, and make a secret for a webhook."""


@sinks.command("list", short_help="List sinks: how each takes events, and what waits for it.")
@wide_option
@as_json
def list_(*, as_json: bool) -> None:
    """List sinks: how each takes events now, what waits for it, and what came of the last event."""
    with connect() as service:
        answer = service.get("/sinks")
    if as_json:
        print_json(answer)
        return
    rows = answer.document["sinks"]
    columns = ("name", "scheme", "state", "waiting", "oldest", "outcome", "filter")
    now = Clock().now()
    for row in rows:
        oldest = row["oldest_waiting_at"]
        row["oldest"] = in_words((now - from_text(oldest)).total_seconds()) if oldest else None
        row["filter"] = row["filter"] or "all"
    print_table(rows, columns, ("filter", "scheme", "oldest", "outcome"))
    for row in rows:
        if row["state"] != SinkState.OK:
            click.echo()
            _print_trouble(row["name"], row["outcome"], row["detail"])


@sinks.command(short_help="Send one sink a test event, and show what comes back.")
@click.argument("name")
@as_json
def test(*, name: str, as_json: bool) -> None:
    """Send one sink a test event (its type is receiver.test), and show what comes back.

    It is in no list and no count of the service's. Exits 1 where the sink does not take it.
    """
    name = name.lower()  # as it is in the variable's name, too
    with connect() as service:
        answer = service.post(f"/sinks/{segment(name)}/test", {}, TEST_SECONDS)
    came = answer.document
    is_taken = came["outcome"] == Outcome.DELIVERED
    if as_json:
        print_json(answer)
    elif is_taken:
        outcome, event_id = paint(came["outcome"]), printable(came["event_id"])
        say(f"{printable(name)}: {outcome} in {came['seconds']:.3f} s, as {event_id}")
    else:
        _print_trouble(name, came["outcome"], came["detail"])
    if not is_taken:
        click.get_current_context().exit(Exit.FAILED)


@sinks.command(short_help="Print a fresh secret to sign a webhook's events with.")
def secret() -> None:
    """Print a fresh secret to sign a webhook's events with; it is kept nowhere."""
    click.echo(f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}")
    say("Set it as RECEIVER_SINK_<NAME>_SECRET, and give it to the consumer.", err=True)


def _print_trouble(name: str, outcome: str | None, detail: str | None) -> None:
    said = ": ".join(filter(None, (name, outcome, detail)))
    say(printable(said))
    known = Outcome(outcome) if outcome in list(Outcome) else None
    say(f"to do: {printable(remedy(name, known))}")
