"""`receiver work`: loops without doors, beside other processes on the same record."""

import asyncio
import signal
import sys
from collections.abc import Collection

import click
import structlog
import uvicorn

from receiver.cli.serve import ListsSettings, make_room, refuse_embedded, tell_start
from receiver.config.credentials import ensure_credentials
from receiver.config.settings import Settings, load_settings
from receiver.errors import ReceiverError
from receiver.logs import configure_logs
from receiver.models import Work
from receiver.privileges import become_owner, keep_from_others
from receiver.runtime import check_drivers, open_runtime

log = structlog.get_logger()


@click.command(cls=ListsSettings)
@click.option(
    "--only",
    type=click.Choice([each.value for each in Work]),
    multiple=True,
    help="Do only this; may be given several times.",
)
def work(*, only: tuple[str, ...]) -> None:
    """Fetch files, send notifications, ask providers and keep house until SIGTERM or Ctrl-C.

    Any number of these may run beside any number of `receiver serve`, with PostgreSQL and the same settings.
    What only one of them may do at a time, one does, and another goes on when that one ends.
    """
    keep_from_others()
    settings = load_settings()
    refuse_embedded(settings, "receiver work")
    check_drivers(settings)
    owner = become_owner(settings.data_dir)
    settings = ensure_credentials(settings)
    flush_logs = configure_logs(settings.log_level, settings.log_format, sys.stderr)
    wanted = frozenset(map(Work, only)) or frozenset(Work)
    tell_start(settings, wanted, owner)
    make_room()
    # The same loop as the doors have: uvloop where it is installed.
    factory = uvicorn.Config("", loop="auto").get_loop_factory()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(_work(settings, wanted))
    except ReceiverError:
        flush_logs()  # the last word comes last
        raise


async def _work(settings: Settings, wanted: Collection[Work]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with open_runtime(settings, work=wanted):
        log.info("service.working")
        await ended.wait()
    log.info("service.stopped")
