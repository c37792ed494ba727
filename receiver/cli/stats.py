"""`receiver stats`: how much there is of everything."""

import click

from receiver.cli.client import connect
from receiver.cli.output import as_json, print_heading, print_json
from receiver.cli.tables import print_pairs


@click.command()
@as_json
def stats(*, as_json: bool) -> None:
    """Count what the service holds, and say how old the oldest waiting thing is."""
    with connect() as service:
        answer = service.get("/stats")
    if as_json:
        print_json(answer)
        return
    held = answer.document
    times = ("counted_at", "oldest_undelivered_at", "oldest_undownloaded_at", "next_deadline_at")
    print_pairs([("submissions", held["submissions"]), *((name, held[name]) for name in times)])
    counts = {name: held[name] for name in ("tasks", "deliveries", "assets")}
    if held.get("linked"):
        counts["assets"] |= {"stored without a copy": held["linked"]}
    if any(held.get("unbound", {}).values()):
        counts["reservations without a task"] = held["unbound"]
    if held.get("unknown_orders"):
        counts["orders without an answer"] = held["unknown_orders"]
    counts |= {f"sink {name}": states for name, states in held["outbox"].items()}
    counts |= {f"polls {name}": outcomes for name, outcomes in held["polls"].items()}
    for name, states in counts.items():
        print_heading(name)
        print_pairs([(state, str(count)) for state, count in states.items()] or [("none", "0")])
