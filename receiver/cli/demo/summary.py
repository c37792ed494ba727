"""The end of the demo: what happened at each provider, what was promised, and where everything is."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec

from receiver.cli.demo.evidence import Evidence, SeenTask
from receiver.cli.demo.expectations import Expectation
from receiver.cli.demo.folder import RunFolder
from receiver.cli.demo.plan import PROVIDERS
from receiver.cli.exit_codes import Exit
from receiver.cli.output import print_document, print_heading
from receiver.cli.tables import print_lines
from receiver.cli.terminal import columns, hang, say
from receiver.config.disclosure import shown_location
from receiver.escapes import printable
from receiver.plugins import load_providers

SHOWN_PROBLEMS = 5


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What the service did for one provider's tasks."""

    provider: str
    tasks: int
    completed: int
    failed: int
    images: int
    bytes: int
    callbacks: int
    duplicates: int
    early: int
    polled: int
    notifications: int
    micros: int  # what its orders cost, in millionths of a US dollar


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run; ``--json`` prints it."""

    ok: bool
    seconds: float
    providers: tuple[Account, ...]
    expectations: tuple[Expectation, ...]
    places: Mapping[str, str]

    @property
    def exit_code(self) -> Exit:
        return Exit.DONE if self.ok else Exit.FAILED


def make_report(
    evidence: Evidence,
    expectations: Sequence[Expectation],
    folder: RunFolder,
    seconds: float,
    *,
    database: str | None = None,
) -> Report:
    """``database`` is its URL where it is not in the folder."""
    return Report(
        ok=all(expectation.held for expectation in expectations),
        seconds=round(seconds, 2),
        providers=tuple(_account(name, evidence) for name in PROVIDERS),
        expectations=tuple(expectations),
        places={
            "images": str(folder.images),
            "events": str(folder.events),
            "database": shown_location(database) if database else str(folder.database),
            "log": str(folder.log),
        },
    )


def _account(provider: str, evidence: Evidence) -> Account:
    seen = [task for task in evidence.seen if task.provider == provider]
    true = [task for task in evidence.truth if task.provider == provider]
    sizes = [asset.bytes or 0 for task in seen for asset in task.assets if asset.state == "stored"]
    counters = [each.seen for task in seen for each in task.deliveries if each.is_true_callback]
    return Account(
        provider=provider,
        tasks=len(seen),
        completed=_count(seen, "completed"),
        failed=_count(seen, "failed"),
        images=len(sizes),
        bytes=sum(sizes),
        callbacks=sum(counters),
        duplicates=sum(counters) - len(counters),
        early=sum(any(call.verdict == "early" for call in task.callbacks) for task in true),
        polled=sum(any(each.ended_by_poll for each in task.deliveries) for task in seen),
        notifications=sum(event.data.provider == provider for event in evidence.told),
        micros=sum(task.booked_micros or 0 for task in seen),
    )


def _count(tasks: Sequence[SeenTask], state: str) -> int:
    return sum(task.state == state for task in tasks)


def print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        print_document(msgspec.json.encode(report))
        return
    print_heading("What happened")
    facts = load_providers()
    titles = [facts[account.provider].facts.title for account in report.providers]
    rows = [["", *titles, "all"]]
    for name in [field for field in Account.__struct_fields__ if field != "provider"]:
        numbers = [getattr(account, name) for account in report.providers]
        numbers.append(sum(numbers))
        if name == "bytes":  # in full they would make the table wider than a terminal
            name, numbers = "kilobytes", [round(number / 1000) for number in numbers]  # noqa: PLW2901
        if name == "micros":
            rows.append(["US cents", *(f"{number / 10_000:,.1f}" for number in numbers)])
        else:
            rows.append([name, *(f"{number:,}" for number in numbers)])
    print_lines(rows, right=range(1, len(rows[0])))
    print_heading("What was promised")
    for expectation in report.expectations:
        print_expectation(expectation)
    print_heading("Where everything is")
    database = shlex.quote(report.places["database"])
    look = 'psql "$DEMO_DATABASE_URL" -c "TABLE receiver.tasks"'
    if Path(report.places["database"]).is_file():
        look = f"sqlite-utils rows {database} tasks --table"
    print_lines([*report.places.items(), ("to look", look)])
    click.echo()
    failed = [expectation.promise for expectation in report.expectations if not expectation.held]
    if failed:
        text = f"{len(failed)} of {len(report.expectations)} promises did not hold: {'; '.join(failed)}."
        say(f"{text} ({report.seconds:.1f} s)", fg="red", bold=True)
    else:
        text = f"All {len(report.expectations)} promises held, in {report.seconds:.1f} seconds."
        say(text, fg="green", bold=True)


def print_expectation(expectation: Expectation, *, err: bool = False) -> None:
    mark = click.style("ok    ", fg="green") if expectation.held else click.style("FAILED", fg="red")
    said = hang(f"{mark}  ", f"{expectation.promise} ({expectation.checked})", columns(err=err))
    for line in said:
        click.echo(line, err=err)
    for problem in expectation.problems[:SHOWN_PROBLEMS]:
        say(f"          {printable(problem)}", err=err)
    if len(expectation.problems) > SHOWN_PROBLEMS:
        click.echo(f"          and {len(expectation.problems) - SHOWN_PROBLEMS} more", err=err)
