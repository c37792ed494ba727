"""`receiver backup`: one consistent copy of everything, made while the service runs."""

import asyncio
import os
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from receiver import plugins
from receiver.cli.exit_codes import Exit, nothing_found
from receiver.cli.output import count, print_document
from receiver.cli.tables import print_pairs
from receiver.cli.terminal import bar, say
from receiver.config.credentials import credentials_path
from receiver.config.settings import Settings, load_settings
from receiver.errors import Misconfigured, Unavailable
from receiver.escapes import printable
from receiver.fetching.client import open_plain_client
from receiver.folders import open_own_file
from receiver.ports import FileRecord
from receiver.privileges import become_owner, keep_from_others
from receiver.runtime import make_blobs

MOST_SHOWN = 10


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """The copy of the record, and how much it holds."""

    bytes: int
    submissions: int
    deliveries: int
    events: int
    unfetched: int  # files that a restored service fetches
    undelivered: int  # notifications that it sends


class Files(msgspec.Struct, kw_only=True):
    """The stored files that the copy of the record names."""

    folder: str
    bytes: int = 0
    linked: int = 0
    copied: int = 0
    wrong: list[str] = []  # not as the record says


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    path: str
    seconds: float
    database: Database
    files: Files | None  # None: they are not kept as files on this machine
    credentials: bool
    restore: dict[str, str]  # settings for a start on it


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a summary.")
def backup(*, path: Path, as_json: bool) -> None:
    """Copy the database, the stored files and the credentials to the new folder PATH.

    The service may run and go on writing: the copy shows one instant of it, is checked page by page, and PATH
    appears only when it is whole. Files are linked where PATH is on their disk, so copy PATH to another. To
    restore, stop the service and start it with RECEIVER_DATA_DIR=PATH. Root becomes the data folder's owner
    first, who must be able to write to PATH. Exits 1 if a stored file is not as the
    database says, 3 if there is nothing to back up.
    """
    keep_from_others()
    settings = load_settings()
    become_owner(settings.data_dir)
    source = _database(settings).file_of(settings.database_url, settings.data_dir)
    if not source.exists():
        nothing_found(f"database at {source}", "set RECEIVER_DATA_DIR as the service has it")
    path = path.resolve()
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be looked into: {exc.strerror}") from exc
    if taken:
        raise Misconfigured(f"{path} is there already, and not empty: name a new folder")
    with _becoming(path) as draft:
        made = _fill(settings, source, draft, path)
    if as_json:
        print_document(msgspec.json.encode(made))
    else:
        _print(made)
    if made.files and made.files.wrong:  # the copy is as good as what it was made of
        wrong = made.files.wrong
        say(f"receiver: {count(len(wrong), 'stored file')} not as the database says:", err=True)
        for line in wrong[:MOST_SHOWN]:
            say(f"receiver:   {printable(line)}", err=True)
        if len(wrong) > MOST_SHOWN:
            say(f"receiver:   and {len(wrong) - MOST_SHOWN:,} more; --json lists all", err=True)
        click.get_current_context().exit(Exit.FAILED)


def _database(settings: Settings) -> FileRecord:
    store_class = plugins.load("stores", settings.database_scheme)
    if not isinstance(store_class, FileRecord):
        raise Misconfigured(
            f"the record is in a server ({settings.database_scheme}): back it up with its own"
            " tools (pg_dump --schema=receiver, or the host's snapshots), and files and secrets with yours"
        )
    return store_class


@contextmanager
def _becoming(path: Path) -> Iterator[Path]:
    """A folder beside ``path``, renamed to it once everything is in it and on the disk; else removed."""
    draft = path.with_name(path.name + ".unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
    except FileExistsError as exc:
        raise Misconfigured(
            f"{draft} is there: another backup to {path} is being made, or one was killed and left it; if so,"
            " remove it"
        ) from exc
    except OSError as exc:
        raise Misconfigured(f"{draft} cannot be made: {exc.strerror}") from exc
    try:
        yield draft
        # One sync for all: an fsync for each of very many folders would hold up the service's own.
        os.sync()
        draft.rename(path)
        os.sync()
    except BaseException as exc:
        shutil.rmtree(draft, ignore_errors=True)
        if isinstance(exc, OSError):
            raise Unavailable(f"the backup cannot be written: {exc.strerror}") from exc
        raise


def _fill(settings: Settings, source: Path, draft: Path, path: Path) -> Backup:
    """Copy everything, the record before the files: every file that it names exists by then."""
    began = time.monotonic()
    record, place = _database(settings), _place(source, settings.data_dir)
    credentials = _copy_credentials(settings.data_dir, draft)  # what is wrong with them shows before the work
    target = draft / place
    target.parent.mkdir(parents=True, exist_ok=True)
    with bar("Database", 1) as drawn:

        def progress(done: int, pages: int) -> None:
            drawn.length = pages
            drawn.update(done - drawn.pos)

        record.copy_record(source, target, progress)
    say("Checking every page and index of the copy", err=True)
    copy = record.check_copy(source, target)
    assets, expected_assets = asyncio.run(_assets_folders(settings, path))
    files = None
    if assets:
        stored = record.stored_files(draft / place)
        folder = _place(assets, settings.data_dir)
        files = Files(folder=str(folder))
        with bar("Files   ", copy.stored, stored) as entries:
            for key, size in entries:
                _take(assets, draft / folder, key, size, files)
    shown = str(path).encode("utf-8", "backslashreplace").decode()  # a name may be no text at all
    restore = {"RECEIVER_DATA_DIR": shown}
    if record.file_of(settings.database_url, path) != path / place:
        restore["RECEIVER_DATABASE_URL"] = f"{settings.database_scheme}:{place}"
    if files and expected_assets != path / files.folder:
        restore["RECEIVER_ASSETS_URL"] = f"{settings.assets_scheme}:{files.folder}"
    return Backup(
        path=shown,
        seconds=round(time.monotonic() - began, 3),
        database=msgspec.convert(copy, Database, from_attributes=True),
        files=files,
        credentials=credentials,
        restore=restore,
    )


def _place(source: Path, data_dir: Path) -> Path:
    """Its path in the copy: the same as in the data folder, or its bare name where it is elsewhere."""
    inside = source.relative_to(data_dir) if source.is_relative_to(data_dir) else Path(source.name)
    return Path(source.name) if ".." in inside.parts else inside


async def _assets_folders(settings: Settings, path: Path) -> tuple[Path | None, Path | None]:
    """The asset store's folder, now and in a service started on ``path``; None: not on this machine."""
    roots: list[Path | None] = []
    async with open_plain_client() as http:
        for data_dir in (settings.data_dir, path):
            blobs = make_blobs(msgspec.structs.replace(settings, data_dir=data_dir), http)
            roots.append(blobs.root)
            await blobs.aclose()
    return roots[0], roots[1]


def _take(source: Path, target: Path, key: str, size: int, found: Files) -> None:
    """Link or copy one file. A file is never changed once it has its name, so a link stays what it is."""
    if ".." in Path(key).parts or Path(key).is_absolute():
        found.wrong.append(f"{key}: a key that no file can have")
        return
    here, there = source / key, target / key
    if here.is_symlink():
        found.wrong.append(f"{key}: a link, and no file")
        return
    there.parent.mkdir(parents=True, exist_ok=True)
    try:
        there.hardlink_to(here)
        found.linked += 1
    except FileNotFoundError:
        found.wrong.append(f"{key}: missing")
        return
    except OSError:  # another disk, or one without links
        shutil.copyfile(here, there)
        found.copied += 1
    bytes_here = there.stat().st_size
    found.bytes += bytes_here
    if bytes_here != size:
        found.wrong.append(f"{key}: {bytes_here} bytes, not {size}")


def _copy_credentials(data_dir: Path, draft: Path) -> bool:
    source, target = credentials_path(data_dir), credentials_path(draft)
    try:
        with os.fdopen(open_own_file(source), "rb") as file:
            kept = file.read()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise Misconfigured(f"{source} cannot be read: {exc.strerror}") from exc
    target.touch(mode=0o600)
    target.write_bytes(kept)
    return True


def _print(made: Backup) -> None:
    database, files = made.database, made.files
    events, deliveries = count(database.events, "event"), count(database.deliveries, "delivery", "deliveries")
    copied = f"{files.linked:,} linked, {files.copied:,} copied, {files.bytes:,} bytes" if files else ""
    pairs = [
        ("backup", made.path),
        ("database", f"{database.bytes:,} bytes, every page and index is sound"),
        ("holds", f"{count(database.submissions, 'submission')}, {events}, {deliveries}"),
        (
            "to do",
            f"{count(database.unfetched, 'file')} to fetch, {database.undelivered:,} to be told to sinks",
        ),
        ("files", copied or "not on this machine: left where they are"),
        ("credentials", "copied" if made.credentials else "none there: keep those of the environment"),
        ("took", f"{made.seconds:.1f} s"),
    ]
    print_pairs(pairs)
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in made.restore.items())
    click.echo(f"\nTo restore, stop the service, then:\n  {variables} receiver serve")
