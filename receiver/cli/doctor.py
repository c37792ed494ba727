"""`receiver doctor`: every problem there is, each with what to do about it."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click
import msgspec
from structlog.testing import capture_logs

from receiver.cli import checks
from receiver.cli.checks import Check, State
from receiver.cli.exits import Exit
from receiver.cli.show import print_table
from receiver.clock import Clock
from receiver.errors import Misconfigured
from receiver.settings import Settings, load_settings


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    healthy: bool
    checks: list[Check]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(*, as_json: bool) -> None:
    """Look at settings, secrets, public URL, disk, clock, SQLite, database, every key and every sink.

    Each provider with a key is asked about a task that does not exist. Exits 1 if any check fails; a
    warning is no failure. Nothing is published, and before the first start nothing is left behind.
    """
    with capture_logs():  # what the parts would log is in the table, and must not be in the JSON
        found = asyncio.run(_collect())
    healthy = all(check.state is not State.FAIL for check in found)
    if as_json:
        document = msgspec.json.encode(Examination(healthy=healthy, checks=found))
        click.echo(msgspec.json.format(document, indent=2))
    else:
        rows = [{"state": check.state, "name": check.name, "detail": check.detail} for check in found]
        print_table(rows, {"state": "", "name": "check", "detail": "what was found"})
    if not healthy:
        click.get_current_context().exit(Exit.FAILED)


async def _collect() -> list[Check]:
    try:
        settings = load_settings()
    except Misconfigured as exc:
        problems = [checks.fail("settings", problem) for problem in exc.problems]
        return [*problems, *_machine(Path.cwd())]
    return [check async for check in _examine(settings)]


async def _examine(settings: Settings) -> AsyncIterator[Check]:
    yield checks.ok("settings", "understood")
    yield checks.check_secrets(settings)
    for check in (*checks.check_public_url(settings), *_machine(settings.data_dir)):
        yield check
    for check in await checks.check_keys(settings):
        yield check
    running = await checks.check_service(settings)
    for check in running or []:
        yield check
    if settings.data_dir.exists():
        async for check in _round_trips(settings, running=bool(running)):
            yield check
        return
    yield checks.ok(
        "data folder", f"made at the first start: {settings.data_dir}; the rest was tried in another"
    )
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = msgspec.structs.replace(settings, data_dir=Path(folder))
        async for check in _round_trips(elsewhere, running=bool(running)):
            yield check


async def _round_trips(settings: Settings, *, running: bool) -> AsyncIterator[Check]:
    yield await checks.check_record(settings)
    if not running:  # else the record is the service's alone, and it has spoken for it
        yield await checks.check_store(settings)
    async for check in checks.check_parts(settings):
        yield check


def _machine(data_dir: Path) -> list[Check]:
    return [
        checks.check_disk(data_dir),
        checks.check_clock(data_dir, Clock().now()),
        checks.check_sqlite(sqlite3.sqlite_version_info),
    ]
