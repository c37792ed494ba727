"""A copy of the record while a service writes it, and whether a record is sound.

The copy is made by SQLite's online backup, a few pages at a time, inside ONE read transaction. Without that
transaction the backup would begin anew whenever another process has written in between: under load, for
ever. With it every step sees the same instant, and in WAL mode no reader holds up the writer; what is
written meanwhile only makes the WAL longer, so there is no pause between the steps. ``VACUUM INTO`` reads in
one transaction, too, but sorts every index anew meanwhile and cannot say how far it is.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from receiver.errors import Misconfigured, ReceiverError, Unavailable
from receiver.models import Outcome, RecordCopy
from receiver.record.rows import fetch_all, to_values
from receiver.stores.sqlite.connections import connect_read_only

Progress = Callable[[int, int], None]  # pages copied, of how many

PAGES_AT_ONCE = 1024
BUSY_TIMEOUT_SECONDS = 30.0
INSTRUCTIONS_PER_LOOK = 100_000  # of SQLite's machine, between two looks at the watch
MOST_PROBLEMS = 5

_NO_RIGHTS = "the user that the service runs as must be able to write there"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "see that its disk has room",
    sqlite3.SQLITE_IOERR: "see that its disk has room, and works",
    sqlite3.SQLITE_BUSY: "end the other program that has it locked",
    sqlite3.SQLITE_LOCKED: "end the other program that has it locked",
    sqlite3.SQLITE_PERM: _NO_RIGHTS,
    sqlite3.SQLITE_READONLY: _NO_RIGHTS,
    sqlite3.SQLITE_CANTOPEN: _NO_RIGHTS,
}

IS_OURS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'submissions'"

# What there is of everything.
COUNTS = """
SELECT (SELECT count(*) FROM submissions) AS submissions, (SELECT count(*) FROM deliveries) AS deliveries,
    (SELECT count(*) FROM events) AS events,
    (SELECT count(*) FROM assets WHERE state = 'stored') AS stored,
    (SELECT count(*) FROM assets WHERE state = 'pending') AS unfetched,
    (SELECT count(*) FROM outbox WHERE state = 'pending') AS undelivered
"""

# The files that the record says are there. In no asked-for order: what is backed up before an upgrade has the
# columns of an older release, and their table lies by task anyway.
STORED_FILES = "SELECT key, bytes FROM assets WHERE state = 'stored'"


def copy_record(source: Path, target: Path, progress: Progress) -> None:
    """Copy the record at ``source``, which another process may be writing, to a new file at ``target``.

    Raises Misconfigured when ``source`` is damaged or no record of ours, Unavailable when there is no room.
    """
    target.touch(mode=0o600)
    with (
        translated(source),
        closing(connect_read_only(source, BUSY_TIMEOUT_SECONDS)) as original,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        original.execute("BEGIN")  # takes effect with what is read next
        if original.execute(IS_OURS).fetchone() is None:
            raise Misconfigured(f"{source} holds no record of a receiver")
        original.backup(
            copy, pages=PAGES_AT_ONCE, progress=lambda _, left, pages: progress(pages - left, pages)
        )
        # One file that anything can read from anywhere. The next start turns the WAL on again.
        copy.execute("PRAGMA journal_mode = DELETE")


def check_copy(source: Path, target: Path) -> RecordCopy:
    """Check every page and every index of a copy of ``source``. Raises Misconfigured for damage."""
    with translated(source), closing(connect_read_only(target, BUSY_TIMEOUT_SECONDS)) as copy:
        problems = [text for (text,) in copy.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})")]
        if problems != ["ok"]:
            raise damaged(source, problems)
        counts = fetch_all(copy.execute(COUNTS))
    (counted,) = to_values(counts, RecordCopy, bytes=target.stat().st_size)
    return counted


def stored_files(copy: Path) -> Iterator[tuple[str, int]]:
    """The key and the bytes of every file that a copy says is stored."""
    with translated(copy), closing(connect_read_only(copy, BUSY_TIMEOUT_SECONDS)) as connection:
        yield from connection.execute(STORED_FILES)


def examine(path: Path, most_seconds: float) -> bool:
    """Look at every page of the record, running or not; False when that takes longer than it may.

    Raises Misconfigured, saying what is wrong, when a page is damaged.
    """
    deadline = time.monotonic() + most_seconds
    with translated(path), closing(connect_read_only(path, BUSY_TIMEOUT_SECONDS)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, INSTRUCTIONS_PER_LOOK)
        try:
            problems = [text for (text,) in connection.execute(f"PRAGMA quick_check({MOST_PROBLEMS})")]
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return False
    if problems != ["ok"]:
        raise damaged(path, problems)
    return True


def damaged(path: Path, problems: list[str]) -> Misconfigured:
    """What an operator must know of a record with damaged pages."""
    what = "; ".join(" ".join(problem.split()) for problem in problems)
    return Misconfigured(
        f"{path} is damaged ({what}): stop the service, keep the folder for later, and start it on a backup"
        " by setting RECEIVER_DATA_DIR (see `receiver docs operating`, Backups)"
    )


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite found the file itself to be wrong."""
    if not isinstance(error, sqlite3.Error):
        return False
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def unopened(path: Path, error: sqlite3.Error) -> ReceiverError:
    """What an operator must know of a record that could not be opened.

    Only what SQLite finds wrong in the file itself is told as damage: a backup mends no full disk.
    """
    if is_damage(error):
        return damaged(path, [str(error)])
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_ERROR:  # our statements do not suit what is in it
        return Misconfigured(f"{path} cannot be opened as the receiver's database: {error}")
    return Unavailable(
        f"{path} cannot be opened now ({error}): {_REMEDIES.get(code, 'try again')}",
        outcome=Outcome.STORAGE_FAILED,
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise Unavailable for what SQLite cannot do now, and Misconfigured for what it finds damaged."""
    try:
        yield
    except sqlite3.Error as exc:
        if is_damage(exc):
            raise damaged(path, [str(exc)]) from exc
        raise Unavailable(  # no room, no rights, locked: not the file's fault
            f"the database cannot be copied now: {exc}", outcome=Outcome.STORAGE_FAILED
        ) from exc
