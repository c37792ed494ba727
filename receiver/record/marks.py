"""What happened once, and may be why a plot changes there: versions, and circuits that opened and closed."""

from collections.abc import Sequence
from datetime import datetime

from receiver.models import Mark, MarkKind
from receiver.record.cursor import Cursor
from receiver.record.rows import parameters, parameters_of, read_all

ADD = "INSERT INTO marks (at, kind, what) VALUES (:at, :kind, :what) ON CONFLICT (at, kind, what) DO NOTHING"
# The last version that was started, from the end of the key.
VERSION = "SELECT what FROM marks WHERE kind = 'version' ORDER BY at DESC LIMIT 1"
LIST = """
SELECT at, kind, what FROM marks WHERE at >= :since AND at < :until ORDER BY at DESC LIMIT :limit
"""
FORGET = "DELETE FROM marks WHERE at < :before"


def add_marks(db: Cursor, marks: Sequence[Mark]) -> None:
    """Keep these; not that a version was started where the one before it was the same."""
    new = [mark for mark in marks if mark.kind is not MarkKind.VERSION or _last_version(db) != mark.what]
    db.executemany(ADD, [parameters_of(mark) for mark in new])


def _last_version(db: Cursor) -> str | None:
    row = db.execute(VERSION).fetchone()
    return row[0] if row else None


def list_marks(db: Cursor, since: datetime, until: datetime, limit: int) -> list[Mark]:
    """The newest of that time, the latest first."""
    return read_all(db.execute(LIST, parameters(since=since, until=until, limit=limit)), Mark)


def forget_marks(db: Cursor, before: datetime) -> None:
    db.execute(FORGET, parameters(before=before))
