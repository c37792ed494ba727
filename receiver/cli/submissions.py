"""`receiver submissions`: log one, list them, show one, withdraw a reservation."""

import click
import msgspec

from receiver import plugins
from receiver.cli.client import connect, segment
from receiver.cli.confirm import ask, yes_option
from receiver.cli.exit_codes import nothing_found
from receiver.cli.filters import (
    check_order,
    cursor_option,
    limit_option,
    owner_option,
    provider_option,
    since_option,
    until_option,
)
from receiver.cli.output import as_json, print_json
from receiver.cli.tables import print_pairs, print_table, wide_option
from receiver.cli.terminal import say
from receiver.escapes import printable
from receiver.models import OrderState
from receiver.payload import decode_whole, storable


@click.group()
def submissions() -> None:
    """Add, list and show submissions: the record that a task is ours."""


@submissions.command(short_help="Log a submission; prints its id and the callback URL.")
@click.option("--provider", required=True, help=f"One of: {', '.join(plugins.names('providers'))}.")
@click.option("--owner", required=True, help="Your user or tenant.")
@click.option("--task-id", help="The provider's task; leave it out to reserve one first.")
@click.option("--model", help="The provider's model, as submitted.")
@click.option("--metadata", metavar="JSON", help="A small object that is handed on to consumers.")
@as_json
def add(
    *, provider: str, owner: str, task_id: str | None, model: str | None, metadata: str | None, as_json: bool
) -> None:
    """Log a submission; prints its id and the callback URL to hand to the provider."""
    try:
        given = msgspec.convert(storable(decode_whole((metadata or "{}").encode())), dict[str, object])
    except (ValueError, RecursionError) as exc:
        raise click.BadParameter(f"not a JSON object: {exc}", param_hint="--metadata") from exc
    document = {"provider": provider, "owner": owner, "metadata": given}
    document |= {name: value for name, value in (("task_id", task_id), ("model", model)) if value}
    with connect() as service:
        answer = service.post("/submissions", document)
    if as_json:
        print_json(answer)
        return
    row = answer.document
    print_pairs([("id", row["id"]), ("task_id", row["task_id"]), ("callback_url", row["callback_url"])])
    if answer.status == 200:
        say("It was logged before; nothing changed.", err=True)


@submissions.command("list")
@provider_option
@owner_option
@click.option("--unbound", is_flag=True, help="Only reservations that wait for a task.")
@since_option
@until_option
@limit_option
@cursor_option
@wide_option
@as_json
def list_(*, unbound: bool, as_json: bool, **query: str | int | None) -> None:
    """List submissions, the newest first."""
    check_order(query)
    wanted = query | ({"bound": "false"} if unbound else {})
    with connect() as service:
        answer = service.get_page("/submissions", "submissions", wanted)
    page = answer.document
    if as_json:
        print_json(answer)
    elif page["submissions"]:
        columns = ("id", "provider", "task_id", "owner", "model", "created_at")
        print_table(page["submissions"], columns, ("created_at", "model", "owner"))
        if page.get("next_cursor"):  # of a service before 0.4.0
            say(f"More: --cursor {printable(page['next_cursor'])}", err=True)
    if not page["submissions"]:
        nothing_found("submissions")


@submissions.command()
@click.argument("submission_id", metavar="ID")
@as_json
def show(*, submission_id: str, as_json: bool) -> None:
    """Show one submission."""
    with connect() as service:
        answer = service.get(f"/submissions/{segment(submission_id)}")
    if as_json:
        print_json(answer)
    else:
        print_pairs(list(answer.document.items()))


@submissions.command(short_help="Take a reservation back whose order failed.")
@click.argument("submission_id", metavar="ID")
@yes_option
def withdraw(*, submission_id: str, yes: bool) -> None:
    """Wait for no task of a reservation any more, as its order failed. One that is bound to a task stays."""
    path = f"/submissions/{segment(submission_id)}"
    with connect() as service:
        row = service.get(path).document
        if row["task_id"] is None:
            of = printable(f"{row['provider']} for {row['owner']}, made at {row['created_at']}")
            ask(f"This withdraws the reservation at {of}: it is listed and warned of no more.", yes=yes)
        service.delete(path)
    say("It is withdrawn.", err=True)


@submissions.command(short_help="Say what became of an order whose outcome is unknown.")
@click.argument("submission_id", metavar="ID")
@click.option("--task-id", help="The provider took it: this is its task.")
@click.option("--not-sent", is_flag=True, help="The provider never got it.")
@yes_option
def resolve(*, submission_id: str, task_id: str | None, not_sent: bool, yes: bool) -> None:
    """Say what became of an order through the gateway without an answer, as its provider's pages tell."""
    if (task_id is None) is not not_sent:
        raise click.UsageError("Say either --task-id or --not-sent.")
    order_path, path = f"/orders/{segment(submission_id)}", f"/submissions/{segment(submission_id)}"
    with connect() as service:
        row = service.get(order_path).document
        of = printable(f"{row['provider']} for {row['owner']}, sent at {row['sent_at']}")
        what = f"is the task {printable(task_id)}" if task_id else "never arrived, and counts as withdrawn"
        ask(f"This says that the order at {of} ({row['state']}) {what}.", yes=yes)
        if task_id is not None:
            service.patch(path, {"task_id": task_id})
        else:
            service.delete(path)
    say("It is resolved.", err=True)


@submissions.command("orders")
@provider_option
@owner_option
@click.option("--state", type=click.Choice([each.value for each in OrderState]), help="Only in this state.")
@since_option
@until_option
@limit_option
@cursor_option
@wide_option
@as_json
def orders(*, as_json: bool, **query: str | int | None) -> None:
    """List orders that went through the gateway, the newest first."""
    check_order(query)
    with connect() as service:
        answer = service.get_page("/orders", "orders", query)
    page = answer.document
    if as_json:
        print_json(answer)
    elif page["orders"]:
        columns = ("submission_id", "provider", "state", "task_id", "owner", "sent_at")
        print_table(page["orders"], columns, ("sent_at", "owner"))
        if page["next_cursor"]:
            say(f"More: --cursor {printable(page['next_cursor'])}", err=True)
    if not page["orders"]:
        nothing_found("orders")
