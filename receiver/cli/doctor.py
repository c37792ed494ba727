"""`receiver doctor`: every problem there is, each with what to do about it."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click
import msgspec
from structlog.testing import capture_logs

from receiver.cli import checks, probes
from receiver.cli.checks import Check, State
from receiver.cli.escapes import printable
from receiver.cli.exits import Exit
from receiver.cli.show import paint, print_document
from receiver.cli.terminal import columns, hang
from receiver.clock import Clock
from receiver.errors import Misconfigured
from receiver.privileges import become_owner, keep_from_others
from receiver.settings import Settings, load_settings


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    healthy: bool
    checks: list[Check]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def doctor(*, as_json: bool) -> None:
    """Look at settings, secrets, public URL, disk, clock, SQLite, database, every key and every sink.

    Each provider with a key is asked about a task that does not exist. Exits 1 if any check fails; a
    warning is no failure. Nothing is published or migrated, a running service is left alone, and nothing is
    left behind. Root becomes the data folder's owner first.
    """
    keep_from_others()
    with capture_logs():  # what the parts would log is in the lines, and must not be in the JSON
        found = asyncio.run(_collect())
    healthy = all(check.state is not State.FAIL for check in found)
    if as_json:
        document = msgspec.json.encode(Examination(healthy=healthy, checks=found))
        print_document(document)
    else:
        _print(found)
    if not healthy:
        click.get_current_context().exit(Exit.FAILED)


async def _collect() -> list[Check]:
    try:
        settings = load_settings()
    except Misconfigured as exc:
        todo = "correct or unset it (README, Settings)"
        problems = [checks.fail("settings", problem, todo) for problem in exc.problems]
        return [*problems, *_machine(Path.cwd())]
    try:
        owner = become_owner(settings.data_dir)
    except Misconfigured as exc:
        return [checks.fail("user", str(exc), checks.SAME_USER)]
    user = [checks.ok("user", f"{owner}, to whom {settings.data_dir} belongs")] if owner else []
    return [*user, *[check async for check in _examine(settings)]]


async def _examine(settings: Settings) -> AsyncIterator[Check]:
    yield checks.ok("settings", "understood")
    yield checks.check_secrets(settings)
    for check in (
        *checks.check_guessable(settings),
        *checks.check_rights(settings.data_dir),
        *checks.check_owner(settings.data_dir),
        *checks.check_public_url(settings),
        *_machine(settings.data_dir),
    ):
        yield check
    for check in await probes.check_keys(settings):
        yield check
    service = await probes.check_service(settings)
    running = service.checks
    if running:
        yield await probes.check_way_in(settings)
    for check in (*running, *await probes.check_record(settings, running=bool(running))):
        yield check
    async for check in _parts(settings, service.answers):
        yield check


async def _parts(settings: Settings, answers: probes.SinkAnswers) -> AsyncIterator[Check]:
    if settings.data_dir.exists():
        async for check in probes.check_parts(settings, answers):
            yield check
        return
    yield checks.check_new_folder(settings.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = msgspec.structs.replace(settings, data_dir=Path(folder))
        async for check in probes.check_parts(elsewhere, answers):
            yield check


def _machine(data_dir: Path) -> list[Check]:
    return [
        checks.check_disk(data_dir),
        checks.check_clock(data_dir, Clock().now()),
        checks.check_sqlite(sqlite3.sqlite_version_info),
    ]


def _print(found: Sequence[Check]) -> None:
    """State, name and what was found; below it, in the same column, what to do."""
    states, names = (max(map(len, cells)) for cells in zip(*((c.state, c.name) for c in found), strict=True))
    for check in found:
        label = f"{paint(check.state)}{' ' * (states - len(check.state) + 2)}{check.name:{names}}  "
        lines = hang(label, printable(check.detail), columns())
        if check.todo:
            margin = " " * (states + names + 4)
            lines += hang(margin, f"to do: {printable(check.todo)}", columns())
        for line in lines:
            click.echo(line)
