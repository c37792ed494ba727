"""A record as an earlier release left it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.places import SAMPLES

# As these themselves wrote it, something in every table and every state, at the instant of a kill.
FIRST_RELEASE = SAMPLES / "record-0.1.0.sql"
SECOND_RELEASE = FIRST_RELEASE.with_name("record-0.2.0.sql")
THIRD_RELEASE = FIRST_RELEASE.with_name("record-0.3.0.sql")

# The bodies of two of its callbacks, to come again.
TOLD_BODY = (
    b"Report(task_id='told', state=<ReportState.FAILED: 'failed'>, files=(), error_code='nsfw',"
    b" error_message='refused', provider_state=None, note=None)"
)
UNOWNED_BODY = (
    b"Report(task_id='unowned', state=<ReportState.COMPLETED: 'completed'>, files=(RemoteFile("
    b"url='https://cdn.test/unowned/0.png', kind='image'),), error_code=None, error_message=None,"
    b" provider_state='finished', note=None)"
)


def make_first_release(path: Path) -> None:
    _make(FIRST_RELEASE, path)


def make_second_release(path: Path) -> None:
    _make(SECOND_RELEASE, path)


def make_third_release(path: Path) -> None:
    _make(THIRD_RELEASE, path)


def _make(release: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(release.read_text())
