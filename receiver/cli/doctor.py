"""`receiver doctor`: every problem there is, each with what to do about it."""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import click
import msgspec
from structlog.testing import capture_logs

from receiver.cli import checks as of_shell
from receiver.cli import probes
from receiver.cli.exit_codes import Exit
from receiver.cli.output import paint, print_document
from receiver.cli.terminal import columns, hang
from receiver.cli.views import Difference, Outlook, by_service, by_shell
from receiver.clock import Clock
from receiver.config.settings import Settings, guessable_secrets, load_settings
from receiver.errors import Misconfigured
from receiver.escapes import printable
from receiver.health import checks
from receiver.health.checks import Check, State, View
from receiver.privileges import become_owner, keep_from_others

_BELOW = "By the settings of the service that runs:"


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Whose settings doctor goes by, and both sides' as they may be shown; ``service`` where it told them."""

    view: View
    shell: dict[str, str]
    service: dict[str, str] | None
    differences: list[Difference]


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints; ``settings`` is unset where they are wrong."""

    healthy: bool
    settings: Settled | None
    checks: list[Check]


Found = tuple[list[Check], Outlook | None]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def doctor(*, as_json: bool) -> None:
    """Look at settings, secrets, public URL, disk, clock, SQLite, database, every key and every sink.

    Where the service runs and an admin token is known here, it goes by the service's settings, and says in
    what this shell's are others; else by this shell's. Each provider with a key is asked about a task that
    does not exist. Exits 1 if any check fails; a warning is no failure. Nothing is published or migrated, a
    running service is left alone, and nothing is left behind. Root becomes the data folder's owner first.
    """
    keep_from_others()
    with capture_logs():  # what the parts would log is in the lines, and must not be in the JSON
        found, outlook = asyncio.run(_collect())
    healthy = all(check.state is not State.FAIL for check in found)
    if as_json:
        settled = None
        if outlook is not None:
            settled = Settled(
                view=outlook.view,
                shell=outlook.shell,
                service=outlook.told.settings if outlook.told else None,
                differences=outlook.differences,
            )
        examined = Examination(healthy=healthy, settings=settled, checks=found)
        print_document(msgspec.json.encode(examined))
    else:
        _print(found)
    if not healthy:
        click.get_current_context().exit(Exit.FAILED)


async def _collect() -> Found:
    try:
        settings = load_settings()
    except Misconfigured as exc:
        todo = "correct or unset it (see `receiver docs settings`)"
        problems = [checks.fail("settings", problem, todo) for problem in exc.problems]
        here = Path.cwd()
        machine = [checks.check_disk(here), checks.check_clock(here, Clock().now())]
        return [*problems, *machine, checks.check_sqlite(sqlite3.sqlite_version_info)], None
    try:
        users = [(settings.data_dir, become_owner(settings.data_dir))]
        # Before it is read for a token, which closes it.
        exposed = [*checks.check_exposed(settings.data_dir)]
        heard = await probes.check_service(settings)
        outlook, untold = _look(settings, heard)
        if not outlook.is_elsewhere:
            users.append((outlook.settings.data_dir, become_owner(outlook.settings.data_dir)))
    except Misconfigured as exc:
        return [checks.fail("user", str(exc), checks.SAME_USER)], None
    at_first = [of_shell.check_untold(untold)] if untold else of_shell.check_settings(outlook, settings.url)
    found = [
        *at_first,
        *(checks.ok("user", f"{user}, to whom {folder} belongs") for folder, user in users if user),
        checks.check_clock(settings.data_dir, Clock().now()),
    ]
    rest = [check async for check in _examine(outlook, heard, exposed)]
    return [*found, *(msgspec.structs.replace(check, view=outlook.view) for check in rest)], outlook


def _look(settings: Settings, heard: probes.ServiceHeard) -> tuple[Outlook, str]:
    """Whose settings to go by, and why not the service's, where one runs and did not tell its own."""
    if heard.told is None or heard.token is None:
        return by_shell(settings), heard.untold
    try:
        return by_service(settings, heard.told, heard.token), ""
    except (Misconfigured, LookupError, ValueError):
        return by_shell(settings), "what it told is not understood here: it is of another release"


async def _examine(
    outlook: Outlook, heard: probes.ServiceHeard, exposed: list[Check]
) -> AsyncIterator[Check]:
    settings, told = outlook.settings, outlook.told
    secrets = exposed or of_shell.check_secrets(settings, told)
    version = tuple(map(int, told.sqlite.split("."))) if told else sqlite3.sqlite_version_info
    data_dir, folder = settings.data_dir, list[Check]()
    if not outlook.is_elsewhere:
        folder = [*checks.check_rights(data_dir), *checks.check_owner(data_dir), checks.check_disk(data_dir)]
    for check in (
        *secrets,
        *checks.check_guessable(told.guessable if told else guessable_secrets(settings)),
        *folder,
        checks.check_public_url(settings),
        *of_shell.check_callback_urls(settings),
        *checks.check_catalogs(settings, Clock().now()),
        *([checks.check_sqlite(version)] if settings.embedded and not outlook.has_other_record else []),
    ):
        yield check
    for check in (*await probes.check_keys(outlook), *await probes.check_key_sets(settings)):
        yield check
    if heard.checks:
        yield await probes.check_way_in(settings)
    for check in heard.checks:
        yield check
    async for check in _parts(outlook, heard):
        yield check


async def _parts(outlook: Outlook, heard: probes.ServiceHeard) -> AsyncIterator[Check]:
    """The record, the files and the sinks: all that this process can reach."""
    settings = outlook.settings
    if outlook.is_elsewhere:
        yield checks.ok("data folder", f"{settings.data_dir} {of_shell.OUT_OF_REACH}")
    if outlook.has_other_record:
        yield checks.ok("record", "not tried: where it is is not known here; see `service store`")
    elif not (outlook.is_elsewhere and settings.embedded):
        for check in await probes.check_record(settings, running=bool(heard.checks)):
            yield check
    if outlook.is_elsewhere or settings.data_dir.exists():
        async for check in _pinged(outlook, settings, heard):
            yield check
        return
    yield of_shell.check_new_folder(settings.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = msgspec.structs.replace(settings, data_dir=Path(folder))
        async for check in _pinged(outlook, elsewhere, heard):
            yield check


async def _pinged(outlook: Outlook, settings: Settings, heard: probes.ServiceHeard) -> AsyncIterator[Check]:
    if outlook.has_other_files:
        yield checks.ok("assets", "not tried: RECEIVER_ASSETS_URL is the service's own")
    elif not outlook.is_elsewhere:
        yield await probes.check_assets(settings)
    if settings.pages and not outlook.is_elsewhere:
        yield checks.check_thumbnails()
    async for check in probes.check_sinks(settings, heard.answers):
        yield check
    if settings.alert_url is not None:
        yield await probes.check_alerts(settings)
    for name in outlook.other_sinks:
        yield checks.ok(
            f"sink {name}", f"not tried: where it leads is not known here; see `service sink {name}`"
        )


def _print(found: Sequence[Check]) -> None:
    """Print state, name and what was found; below that, in the same column, what to do."""
    states, names = (max(map(len, cells)) for cells in zip(*((c.state, c.name) for c in found), strict=True))
    view = View.SHELL
    for check in found:
        if check.view is not view:
            view = check.view
            click.echo(f"\n{_BELOW}")
        label = f"{paint(check.state)}{' ' * (states - len(check.state) + 2)}{check.name:{names}}  "
        lines = hang(label, printable(check.detail), columns())
        if check.todo:
            margin = " " * (states + names + 4)
            lines += hang(margin, f"to do: {printable(check.todo)}", columns())
        for line in lines:
            click.echo(line)
