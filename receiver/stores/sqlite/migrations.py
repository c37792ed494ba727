"""The schema of the SQLite file, as numbered, append-only migrations.

Applied names are kept by sqlite-utils in ``_sqlite_migrations``. A released migration is never edited: a
change is a new one below it. Times are RFC 3339 text in UTC, so that they sort, and read, as they stand.
"""

import sqlite3
import time
from pathlib import Path

from sqlite_utils import Database, Migrations

from receiver.errors import Misconfigured

migrations = Migrations("receiver")

BUSY_TIMEOUT_SECONDS = 30.0


@migrations()
def m001_the_record(db: Database) -> None:
    """The six tables, and the keys that prevent doubles."""
    for statement in _M001:
        db.execute(statement)


def migrate(path: Path) -> list[str]:
    """Bring the file at ``path`` to today's schema; the names applied, which may be none.

    Any number of processes may do this at once: each waits for the one before it. Raises Misconfigured
    for a file that is not ours, is damaged, or was made by a newer receiver.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS)
    except sqlite3.Error as exc:
        raise Misconfigured(f"{path} cannot be opened: {exc}") from exc
    try:
        _use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        db = Database(connection)
        _refuse_newer(db, path)
        names = [migration.name for migration in migrations.pending(db)]
        migrations.apply(db)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as exc:
        raise Misconfigured(f"{path} cannot be opened as the receiver's database: {exc}") from exc
    finally:
        connection.close()
    return names


def _refuse_newer(db: Database, path: Path) -> None:
    ours = {name for name in globals() if name.startswith("m0")}
    if newer := sorted({migration.name for migration in migrations.applied(db)} - ours):
        raise Misconfigured(f"{path} was made by a newer receiver ({newer[0]}): upgrade this one, or restore")


def _use_wal(connection: sqlite3.Connection) -> None:
    # Switching to WAL takes an exclusive lock and does not wait for it, so parallel starts try again.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


_M001 = (
    # What we asked providers for: the proof of ownership.
    """
    CREATE TABLE submissions (
        id TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        owner TEXT NOT NULL,
        task_id TEXT,           -- unset while only reserved
        model TEXT,
        request TEXT,           -- JSON, as the backend gave it
        metadata TEXT NOT NULL, -- JSON object, handed on to consumers
        created_at TEXT NOT NULL,
        bound_at TEXT
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX submissions_task ON submissions (provider, task_id) WHERE task_id IS NOT NULL",
    # Every callback and poll answer as it arrived. A repeat raises "seen" and adds no row.
    """
    CREATE TABLE deliveries (
        number INTEGER PRIMARY KEY,
        provider TEXT NOT NULL,
        task_id TEXT NOT NULL,  -- '' where the body names none
        claim TEXT NOT NULL,    -- the submission that the token names, or ''
        digest TEXT NOT NULL,   -- the first half of the body's SHA-256
        submission_id TEXT,     -- the owner's, where there is one
        event_id TEXT,
        via TEXT NOT NULL CHECK (via IN ('callback', 'poll')),
        proof TEXT NOT NULL,
        verdict TEXT NOT NULL,
        provider_state TEXT,
        note TEXT,
        waiting TEXT,           -- JSON: what it says, while it waits for its submission
        received_at TEXT NOT NULL,
        last_seen_at TEXT NOT NULL,
        seen INTEGER NOT NULL DEFAULT 1,
        body BLOB               -- verbatim; dropped by retention, the key above stays
    ) STRICT
    """,
    # By task first: one index serves the repeats and the timeline, and a busy hour stays on few pages.
    "CREATE UNIQUE INDEX deliveries_key ON deliveries (provider, task_id, claim, digest)",
    # The few that nobody owns (yet): what is bounded, matched and expired.
    """
    CREATE INDEX deliveries_ownerless ON deliveries (verdict, received_at)
    WHERE submission_id IS NULL AND verdict IN ('early', 'unrecognised')
    """,
    # How a task ended: one row per task, for ever.
    """
    CREATE TABLE events (
        id TEXT PRIMARY KEY,
        provider TEXT NOT NULL,
        task_id TEXT NOT NULL,
        submission_id TEXT NOT NULL REFERENCES submissions (id),
        via TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        received_at TEXT NOT NULL,
        type TEXT,              -- unset until the last asset settles
        ended_at TEXT,
        revision INTEGER NOT NULL DEFAULT 1,
        error_code TEXT,
        error_message TEXT
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX events_task ON events (provider, task_id)",
    # The files an event names. "due_at" is when to try next; under a lease, when the lease runs out.
    """
    CREATE TABLE assets (
        event_id TEXT NOT NULL REFERENCES events (id),
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'stored', 'failed')),
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at TEXT NOT NULL,
        lease TEXT,
        deadline_at TEXT NOT NULL,
        key TEXT,
        media_type TEXT,
        bytes INTEGER,
        width INTEGER,
        height INTEGER,
        sha256 TEXT,
        settled_at TEXT,
        PRIMARY KEY (event_id, position)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX assets_pending ON assets (deadline_at, due_at) WHERE state = 'pending'",
    # One event on its way to one sink.
    """
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL REFERENCES events (id),
        sink TEXT NOT NULL,
        revision INTEGER NOT NULL,
        replay_id TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at TEXT NOT NULL,
        lease TEXT,
        created_at TEXT NOT NULL,
        settled_at TEXT
    ) STRICT
    """,
    "CREATE UNIQUE INDEX outbox_key ON outbox (event_id, sink, revision, replay_id)",
    "CREATE INDEX outbox_pending ON outbox (sink, due_at) WHERE state = 'pending'",
    # Every try at an asset or a sink.
    """
    CREATE TABLE attempts (
        number INTEGER PRIMARY KEY,
        event_id TEXT NOT NULL REFERENCES events (id),
        target TEXT NOT NULL,   -- "asset 0", "sink jsonl"
        attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL NOT NULL,
        detail TEXT
    ) STRICT
    """,
    "CREATE INDEX attempts_event ON attempts (event_id)",
    # One row: up to where retention has dropped bodies and requests.
    """
    CREATE TABLE retention (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        deliveries_to INTEGER NOT NULL,
        submissions_to TEXT NOT NULL
    ) STRICT
    """,
    "INSERT INTO retention VALUES (1, 0, '')",
    # One row, rewritten by every readiness check: the proof that a commit works.
    "CREATE TABLE heartbeat (id INTEGER PRIMARY KEY CHECK (id = 1), beats INTEGER NOT NULL) STRICT",
    "INSERT INTO heartbeat VALUES (1, 0)",
    # For people: one row per task, with its state in the words of the API.
    """
    CREATE VIEW tasks AS
    SELECT s.provider, s.task_id,
           CASE WHEN e.id IS NULL THEN 'submitted' WHEN e.type IS NULL THEN 'fetching'
                ELSE substr(e.type, 6) END AS state,
           s.owner, s.model, s.id AS submission_id, e.id AS event_id,
           s.created_at AS submitted_at, e.received_at, e.ended_at, e.error_code, e.error_message
    FROM submissions s LEFT JOIN events e ON e.provider = s.provider AND e.task_id = s.task_id
    WHERE s.task_id IS NOT NULL
    """,
    # For people: everything that happened to a task, in order.
    """
    CREATE VIEW task_timeline AS
    SELECT provider, task_id, created_at AS at, 'submission' AS what, 'logged for ' || owner AS detail
        FROM submissions WHERE task_id IS NOT NULL
    UNION ALL SELECT provider, task_id, received_at, 'delivery', verdict || ' by ' || via ||
        CASE WHEN seen > 1 THEN ', seen ' || seen || ' times' ELSE '' END
        FROM deliveries WHERE task_id <> ''
    UNION ALL SELECT e.provider, e.task_id, a.started_at, a.target, a.outcome || ', attempt ' || a.attempt
        FROM attempts a JOIN events e ON e.id = a.event_id
    UNION ALL SELECT provider, task_id, ended_at, 'event', type FROM events WHERE ended_at IS NOT NULL
    ORDER BY provider, task_id, at
    """,
)
