"""`receiver move`: the whole record into another database, with the proof that it arrived."""

import asyncio
import time
from typing import Any

import click
import msgspec

from receiver import plugins
from receiver.cli.exit_codes import nothing_found
from receiver.cli.migrate import open_and_close
from receiver.cli.output import count, print_document
from receiver.cli.tables import print_pairs, print_table, wide_option
from receiver.cli.terminal import bar, say
from receiver.clock import Clock
from receiver.config.credentials import credentials_path
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured
from receiver.models import TableCopy
from receiver.options import StoreOptions
from receiver.ports import FileRecord, MovableRecord
from receiver.privileges import become_owner, keep_from_others

FILES = "not touched: they stay where RECEIVER_ASSETS_URL points"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints. Databases by their scheme: a URL may hold a password."""

    source: str
    target: str
    seconds: float
    tables: list[TableCopy]
    files: str = FILES


@click.command()
@click.option(
    "--to",
    "target_url",
    required=True,
    metavar="URL",
    help="The database to move to: postgresql://…, or sqlite:FILE in the data folder. It is made, or empty.",
)
@click.option(
    "--from",
    "source_url",
    metavar="URL",
    help="The database to move from, instead of RECEIVER_DATABASE_URL.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a summary.")
@wide_option
def move(*, target_url: str, source_url: str | None, as_json: bool) -> None:
    """Copy the whole record into another, empty database, and prove that all is there.

    Every service on either database must be stopped. All of it arrives, or nothing: each table is read
    back and compared by count and SHA-256 before that is final. Ids stay as they are, so a repeat of an old
    callback is a duplicate. The old database is left as it is, and files are not touched. Root becomes the
    data folder's owner first. Exits 1 if a database is in use or cannot be reached, 3 if there is no record
    to move.
    """
    keep_from_others()
    settings = load_settings()
    become_owner(settings.data_dir)
    source = _at(settings, source_url or settings.database_url)
    target = _at(settings, target_url)
    source_class, target_class = _movable(source), _movable(target)
    if _place(source, source_class) == _place(target, target_class):
        raise Misconfigured("--to names the database that the record is in: name another one")
    pending = asyncio.run(source_class.pending_migrations(source.database_url, source.data_dir))
    if pending is None:
        nothing_found(f"record in the database to move from ({source.database_scheme})", "see --from")
    if pending:
        raise Misconfigured(
            "the record to move has the schema of an earlier release: make a backup, and run"
            " `receiver migrate`"
        )
    made = _move(source, source_class, target, target_class)
    if as_json:
        print_document(msgspec.json.encode(made))
    else:
        _print(made, target)


def _at(settings: Settings, url: str) -> Settings:
    """The settings with the record at ``url``."""
    at = msgspec.structs.replace(settings, database_url=url.strip())
    if complaint := plugins.complaint("stores", at.database_scheme):
        raise Misconfigured(complaint)
    return at


def _movable(settings: Settings) -> Any:
    """The class of a store, which implements ``Store`` and ``MovableRecord``."""
    store_class = plugins.load("stores", settings.database_scheme)
    if not isinstance(store_class, MovableRecord):
        raise Misconfigured(f"a record cannot be moved to or from {settings.database_scheme}://…")
    return store_class


def _place(settings: Settings, store_class: Any) -> object:
    if isinstance(store_class, FileRecord):
        return store_class.file_of(settings.database_url, settings.data_dir).resolve()
    return settings.database_url


def _move(source: Settings, source_class: Any, target: Settings, target_class: Any) -> Move:
    began = time.monotonic()
    options = StoreOptions(data_dir=target.data_dir, clock=Clock())
    with source_class.hold(source.database_url, source.data_dir) as tables:
        pending = asyncio.run(target_class.pending_migrations(target.database_url, target.data_dir))
        if pending:
            raise Misconfigured(
                "the database to move to holds a record of an earlier release: name an empty one"
            )
        if pending is None:
            asyncio.run(open_and_close(target))
        with bar("Moving", 1) as drawn:

            def progress(done: int, total: int) -> None:
                drawn.length = total
                drawn.update(done - drawn.pos)

            copies = target_class.fill(target.database_url, options, tables, progress)
    return Move(
        source=source.database_scheme,
        target=target.database_scheme,
        seconds=round(time.monotonic() - began, 3),
        tables=copies,
    )


def _print(made: Move, target: Settings) -> None:
    print_table([msgspec.structs.asdict(table) for table in made.tables], ("name", "rows", "bytes", "sha256"))
    click.echo()
    rows, size = (sum(getattr(table, name) for table in made.tables) for name in ("rows", "bytes"))
    pairs = [
        ("moved", f"{count(rows, 'row')}, {size:,} bytes, from {made.source} to {made.target}"),
        ("proof", "every table was read back, and is the same by count and hash"),
        ("files", FILES),
        ("took", f"{made.seconds:.1f} s"),
    ]
    print_pairs(pairs)
    click.echo()
    say(
        "Now start the service with RECEIVER_DATABASE_URL set to what --to was, and none on the old database"
        " any more."
    )
    kept = credentials_path(target.data_dir)
    if not target.embedded and not target.secrets and kept.exists():
        say(
            f"Set RECEIVER_SECRET, RECEIVER_API_TOKENS and RECEIVER_ADMIN_TOKENS to the secrets in {kept}:"
            " with another RECEIVER_SECRET the callback URLs that providers have are refused."
        )
