"""`receiver migrate`: bring the database to this release's schema without starting the service."""

import asyncio

import click

from receiver import __version__, plugins
from receiver.cli.terminal import say
from receiver.clock import Clock
from receiver.config.settings import Settings, load_settings
from receiver.options import StoreOptions
from receiver.privileges import become_owner, keep_from_others


@click.command()
def migrate() -> None:
    """Bring the database to this release's schema; `receiver serve` does so, too.

    Refuses while the service runs. Going back means restoring a backup. Root becomes the
    data folder's owner first.
    """
    keep_from_others()
    settings = load_settings()
    become_owner(settings.data_dir)
    asyncio.run(open_and_close(settings))
    say(f"The database has the schema of receiver {__version__}.")


async def open_and_close(settings: Settings) -> None:
    """Open the store, which migrates it under the lock of one process, and let it commit once."""
    store_class = plugins.load("stores", settings.database_scheme)
    options = StoreOptions(data_dir=settings.data_dir, clock=Clock())
    store = await store_class.open(settings.database_url, options)
    try:
        await store.ping()
    finally:
        await store.aclose()
