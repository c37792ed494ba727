"""`receiver replay`: do a stage again for what a filter matches; `receiver replays`: those there are."""

import math
from typing import Any

import click

from receiver.cli.client import Reply, connect, segment
from receiver.cli.exit_codes import nothing_found
from receiver.cli.filters import filter_document, filter_options, filter_words, limit_option
from receiver.cli.follow import NOUNS, exit_code, follow, how_to_follow, print_results
from receiver.cli.output import as_json, print_heading, print_json
from receiver.cli.plans import Will, carry_out, plan_options
from receiver.cli.tables import print_pairs, print_table, wide_option
from receiver.cli.terminal import say
from receiver.escapes import printable
from receiver.models import EventType, Stage, TaskState
from receiver.replay import check_can_match


@click.command()
@click.option(
    "--stage",
    type=click.Choice([stage.value for stage in Stage]),
    required=True,
    help="notify: send events to the sinks. fetch: download files that could not be had. reprocess: read"
    " kept deliveries with today's adapter. poll: ask the provider about tasks that have not ended.",
)
@filter_options
@click.option("--sink", "sinks", metavar="NAME", multiple=True, help="Only to this one; may be repeated.")
@click.option("--rate", type=click.FloatRange(0.001, 100_000), help="At most so many a second.")
@plan_options
@click.option("--no-wait", is_flag=True, help="Start it, and do not wait for its end.")
@as_json
def replay(
    *,
    stage: str,
    sinks: tuple[str, ...],
    rate: float | None,
    will: Will,
    no_wait: bool,
    as_json: bool,
    **clauses: Any,
) -> None:
    """Do a stage again for everything that matches the filter.

    Shows what it would do and asks, then follows it to its end; above 100, the number and a reason are
    typed. The replay is the service's own: Ctrl-C
    here leaves it running. Exits 0 when all went well, 1 when anything failed, 3 when nothing matched.
    """
    if rate is not None and math.isnan(rate):  # it lies in every range
        raise click.BadParameter("nan is no number", param_hint="--rate")
    state, kind = clauses["state"], clauses["type"]
    try:
        check_can_match(Stage(stage), TaskState(state) if state else None, EventType(kind) if kind else None)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    asked = {"act": stage, "filter": filter_document(clauses), "sinks": sinks, "rate": rate}
    noun = f"matching {NOUNS[Stage(stage)][0]}"
    with connect() as service:
        started = carry_out(service, asked, will, noun=noun, as_json=as_json)
        if started is None:
            return
        ended = started if no_wait else follow(service, started)
    if as_json:
        print_json(ended)
    elif no_wait:
        click.echo(printable(ended.document["id"]))
        say(how_to_follow(printable(ended.document["id"])), err=True)
    else:
        print_results(ended.document)
    if not no_wait:
        click.get_current_context().exit(exit_code(ended.document))


@click.group()
def replays() -> None:
    """List, show, follow, pause, resume and cancel replays."""


@replays.command("list")
@limit_option
@wide_option
@as_json
def list_(*, limit: int, as_json: bool) -> None:
    """List the newest replays."""
    with connect() as service:
        answer = service.get("/replays", {"limit": limit})
    rows = answer.document["replays"]
    if as_json:
        print_json(answer)
    elif rows:
        columns = (
            "id",
            "stage",
            "state",
            "looked at",
            "settled",
            "requested_by",
            "created_at",
            "finished_at",
        )
        least = ("finished_at", "created_at", "requested_by", "settled", "looked at")
        print_table([row | _progress(row) for row in rows], columns, least)
    if not rows:
        nothing_found("replays")


@replays.command(short_help="Show one: what was asked for, and what came of it.")
@click.argument("replay_id", metavar="ID")
@as_json
def show(*, replay_id: str, as_json: bool) -> None:
    """Show one replay: what was asked for, by whom, how far it is, and what came of it."""
    with connect() as service:
        answer = service.get(_path(replay_id))
    print_replay(answer, as_json=as_json)


@replays.command("follow", short_help="Show how one comes along until it ends.")
@click.argument("replay_id", metavar="ID")
@as_json
def follow_(*, replay_id: str, as_json: bool) -> None:
    """Show how one replay comes along until it ends; exits as `receiver replay` does."""
    with connect() as service:
        ended = follow(service, service.get(_path(replay_id)))
    if as_json:
        print_json(ended)
    else:
        print_results(ended.document)
    click.get_current_context().exit(exit_code(ended.document))


@replays.command(short_help="Let one queue no more until it is resumed.")
@click.argument("replay_id", metavar="ID")
@as_json
def pause(*, replay_id: str, as_json: bool) -> None:
    """Let a replay queue no more until it is resumed; what is queued goes on."""
    _change(replay_id, "pause", as_json=as_json)


@replays.command()
@click.argument("replay_id", metavar="ID")
@as_json
def resume(*, replay_id: str, as_json: bool) -> None:
    """Let a paused replay go on where it was."""
    _change(replay_id, "resume", as_json=as_json)


@replays.command(short_help="End one for good, and take back what it queued.")
@click.argument("replay_id", metavar="ID")
@as_json
def cancel(*, replay_id: str, as_json: bool) -> None:
    """End a replay for good, and take back what it queued and nobody has begun."""
    _change(replay_id, "cancel", as_json=as_json)


def _path(replay_id: str) -> str:
    return f"/replays/{segment(replay_id)}"


def _change(replay_id: str, verb: str, *, as_json: bool) -> None:
    with connect() as service:
        answer = service.post(f"{_path(replay_id)}/{verb}", {})
    print_replay(answer, as_json=as_json)


def print_replay(answer: Reply, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    shown = answer.document
    names = ("id", "stage", "state", "filter", "sinks", "rate", "requested_by", "created_at", "finished_at")
    pairs = {name: shown[name] for name in names}
    pairs |= {"filter": filter_words(shown["filter"]), "sinks": ", ".join(shown["sinks"])} | _progress(shown)
    print_pairs(list(pairs.items()))
    if shown["results"]:
        print_heading("Results")
        print_pairs([(outcome, f"{number:,}") for outcome, number in sorted(shown["results"].items())])


def _progress(row: dict[str, Any]) -> dict[str, str]:
    return {
        "looked at": f"{row['looked_at']:,} of {row['matched']:,}",
        "settled": f"{row['settled']:,} of {row['queued']:,}",
    }
