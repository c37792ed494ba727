"""The schema of the SQLite file, as numbered, append-only migrations.

Applied names are kept by sqlite-utils in ``_sqlite_migrations``. A released migration is never edited: a
change is a new one below it. Times are RFC 3339 text in UTC, so that they sort, and read, as they stand.
Checks of more than two words are written with OR: for IN, SQLite would fill a table at every insert.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from receiver.errors import Misconfigured
from receiver.links import host_hash
from receiver.stores.sqlite.backup import unopened
from receiver.stores.sqlite.connections import connect_read_only
from receiver.stores.sqlite.steps import Steps

if TYPE_CHECKING:
    from sqlite_utils import Database

migrations = Steps("receiver")

BUSY_TIMEOUT_SECONDS = 30.0

# Something that a program keeps in a file. What begins with an underscore is bookkeeping, as ours of the
# migrations, and Litestream's, which may come to a new file before the first of our tables does.
SOMETHING_KEPT = """
SELECT name FROM sqlite_schema WHERE tbl_name NOT GLOB '_*' AND tbl_name NOT GLOB 'sqlite_*'
ORDER BY rowid LIMIT 1
"""


@migrations
def m001_the_record(db: "Database") -> None:
    """The six tables, and the keys that prevent doubles."""
    for statement in _M001:
        db.execute(statement)


@migrations
def m002_numbers(db: "Database") -> None:
    """What follows from a task, keyed by its submission's number."""
    for statement in _M002:
        db.execute(statement)


@migrations
def m003_polls(db: "Database") -> None:
    """Questions to providers, links asked for anew, and how much of an event was told."""
    for statement in _M003:
        db.execute(statement)


@migrations
def m004_replays(db: "Database") -> None:
    """Replays, and ways to the few rows that they and dead letters are about."""
    for statement in _M004:
        db.execute(statement)


@migrations
def m005_ways_to_the_few(db: "Database") -> None:
    """Ways to the files that are to be tried next, and to large bodies that nobody owns."""
    for statement in _M005:
        db.execute(statement)


@migrations
def m006_unbound_reservations(db: "Database") -> None:
    """Reservations that are withdrawn, and a way to those that wait for a task."""
    for statement in _M006:
        db.execute(statement)


@migrations
def m007_runs_of_attempts(db: "Database") -> None:
    """Attempts that ended alike, one after the other, as one row."""
    for statement in _M007:
        db.execute(statement)


@migrations
def m008_revisions(db: "Database") -> None:
    """What events said in each revision, where their files have said something else since."""
    for statement in _M008:
        db.execute(statement)


@migrations
def m009_kept_count_of_what_nobody_owns(db: "Database") -> None:
    """How many deliveries nobody owns, kept instead of counted for each that comes."""
    for statement in _M009:
        db.execute(statement)


@migrations
def m010_pieces_of_replays(db: "Database") -> None:
    """Ways to what a replay has queued, for when it is cancelled."""
    for statement in _M010:
        db.execute(statement)


@migrations
def m011_lists(db: "Database") -> None:
    """Ways to every page of a list, and counts that are kept."""
    for statement in _M011:
        db.execute(statement)


@migrations
def m012_why_notifications_wait(db: "Database") -> None:
    """What the last try at a sink said, whether it is a line of the history or not."""
    db.execute("ALTER TABLE outbox ADD COLUMN detail TEXT")


@migrations
def m013_fair_shares(db: "Database") -> None:
    """Ways to the files that are to be tried next, by provider and host."""
    db.register_function(host_hash, deterministic=True)
    for statement in _M013:
        db.execute(statement)


@migrations
def m014_spared_bodies(db: "Database") -> None:
    """Deliveries that retention passed by and whose bodies it left, as their tasks had not ended."""
    db.execute("CREATE TABLE spared (number INTEGER PRIMARY KEY REFERENCES deliveries (number)) STRICT")


@migrations
def m015_views_for_terminals(db: "Database") -> None:
    """The two views, with nothing in them that a terminal would obey; the tables keep what came."""
    for statement in _M015:
        db.execute(statement)


@migrations
def m016_earlier_event_ids(db: "Database") -> None:
    """A way to the events that are not named after their submissions, as 0.4.0 names them."""
    for statement in _M016:
        db.execute(statement)


@migrations
def m017_traces(db: "Database") -> None:
    """The trace that a submission belongs to, where its backend named one."""
    db.execute("ALTER TABLE submissions ADD COLUMN traceparent TEXT")


@migrations
def m018_sessions(db: "Database") -> None:
    """Log-ins to the admin pages."""
    for statement in _M018:
        db.execute(statement)


@migrations
def m019_alerts(db: "Database") -> None:
    """What was told of lines of health."""
    db.execute(
        "CREATE TABLE alerts (key TEXT PRIMARY KEY, severity TEXT NOT NULL, since TEXT NOT NULL,"
        " told_at TEXT NOT NULL, is_over INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID"
    )


@migrations
def m020_odd_deliveries(db: "Database") -> None:
    """A way to deliveries that did not count, for people."""
    db.execute(
        """
        CREATE INDEX deliveries_odd ON deliveries (verdict, number)
        WHERE verdict IN ('early', 'unowned', 'refused', 'conflict', 'unrecognised', 'unconfirmed')
        """
    )


@migrations
def m021_keys(db: "Database") -> None:
    """What callers name their reservations by, so that a repeat finds the one there is."""
    db.execute("ALTER TABLE submissions ADD COLUMN key TEXT")
    db.execute("CREATE UNIQUE INDEX submissions_key ON submissions (key) WHERE key IS NOT NULL")


@migrations
def m022_audit(db: "Database") -> None:
    """What people did by hand."""
    for statement in _M022:
        db.execute(statement)


@migrations
def m023_time_series(db: "Database") -> None:
    """What happened over time, for plots, and what was turned away."""
    for statement in _M023:
        db.execute(statement)


@migrations
def m024_orders(db: "Database") -> None:
    """Orders that pass through the gateway, each with its submission's number."""
    for statement in _M024:
        db.execute(statement)


@migrations
def m025_rows_that_retention_drops(db: "Database") -> None:
    """Retention drops whole rows, from the beginning: those of which it has dropped the bodies, too."""
    for statement in _M025:
        db.execute(statement)


@migrations
def m026_tables_of_what_retention_drops(db: "Database") -> None:
    """Requests and links in tables of their own: rows that shrink leave their pages half empty for ever."""
    for statement in _M026:
        db.execute(statement)


@migrations
def m027_failures(db: "Database") -> None:
    """A way to the few tasks of a provider that ended badly."""
    for statement in _M027:
        db.execute(statement)


@migrations
def m028_relays(db: "Database") -> None:
    """Callers' own URLs that the gateway tells of the end of their tasks."""
    for statement in _M028:
        db.execute(statement)


@migrations
def m028_dead_letters_by_outcome(db: "Database") -> None:
    """What dead letters ended with is summed up from their index alone."""
    db.execute("DROP INDEX outbox_dead")
    db.execute("CREATE INDEX outbox_dead ON outbox (number, sink, outcome) WHERE state = 'dead'")


@migrations
def m029_contents(db: "Database") -> None:
    """Where each owner's files are by what is in them, so that none is stored twice."""
    for statement in _M029:
        db.execute(statement)


@migrations
def m030_lines(db: "Database") -> None:
    """Notifications that a sink gets one after the other."""
    for statement in _M030:
        db.execute(statement)


@migrations
def m031_gateway_tokens(db: "Database") -> None:
    """Tokens of the gateway, by their hashes; their lists are JSON, and an empty one is every one."""
    db.execute(
        "CREATE TABLE gateway_tokens (name TEXT PRIMARY KEY, hash TEXT NOT NULL,"
        " providers TEXT NOT NULL, models TEXT NOT NULL, owner TEXT, created_at TEXT NOT NULL,"
        " expires_at TEXT, revoked_at TEXT) STRICT, WITHOUT ROWID"
    )
    db.execute("CREATE UNIQUE INDEX gateway_tokens_hash ON gateway_tokens (hash)")


@migrations
def m032_costs(db: "Database") -> None:
    """What orders cost, sums of it by day, and the budgets that bound it."""
    for statement in _M032:
        db.execute(statement)


@migrations
def m033_cost_totals(db: "Database") -> None:
    """What the sums of costs come to, so that wide ones are read off few rows."""
    for statement in _M033:
        db.execute(statement)


@migrations
def m034_deadlines(db: "Database") -> None:
    """Which links die next, found without all the files that wait."""
    db.execute(_M034)


def migrate(path: Path) -> list[str]:
    """Bring the file at ``path`` to today's schema; the names applied, which may be none.

    Any number of processes may do this at once: each waits for the one before it. Raises Misconfigured
    for a file that is not ours, which is left as it is, is damaged, or was made by a newer receiver, and
    Unavailable when what the file lives on is at fault.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS)
    except sqlite3.Error as exc:
        raise unopened(path, exc) from exc
    try:
        _refuse_others(connection, path)
        _use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        _refuse_newer(connection, path)
        names = migrations.apply(connection)
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as exc:
        raise unopened(path, exc) from exc
    finally:
        connection.close()
    return names


def pending(path: Path) -> list[str] | None:
    """The names that ``migrate`` would apply; None where there is no record yet.

    Nothing is written, and whoever has the file open goes on. Raises what ``migrate`` raises.
    """
    try:
        if not path.stat().st_size:
            return None
        with closing(connect_read_only(path, BUSY_TIMEOUT_SECONDS)) as connection:
            _refuse_others(connection, path)
            _refuse_newer(connection, path)
            return migrations.pending(connection)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Misconfigured(f"{path} cannot be looked at: {exc.strerror}") from exc
    except sqlite3.DatabaseError as exc:
        raise unopened(path, exc) from exc


def _refuse_others(connection: sqlite3.Connection, path: Path) -> None:
    # All of ours is made in one transaction: there is no moment at which a file of ours looks like this.
    kept = connection.execute(SOMETHING_KEPT).fetchall()
    if kept and not migrations.applied(connection):
        raise Misconfigured(
            f"{path} is another program's (it holds {kept[0][0]}, and nothing of a receiver):"
            " set RECEIVER_DATABASE_URL or RECEIVER_DATA_DIR to another place"
        )


def _refuse_newer(connection: sqlite3.Connection, path: Path) -> None:
    if newer := sorted(set(migrations.applied(connection)).difference(migrations.names)):
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

_M002 = (
    # Out of the way. What looks at them is made anew below.
    "DROP VIEW tasks",
    "DROP VIEW task_timeline",
    "DROP INDEX submissions_task",
    "DROP INDEX deliveries_key",
    "DROP INDEX deliveries_ownerless",
    "DROP INDEX events_task",
    "DROP INDEX assets_pending",
    "DROP INDEX outbox_key",
    "DROP INDEX outbox_pending",
    "DROP INDEX attempts_event",
    "ALTER TABLE submissions RENAME TO old_submissions",
    "ALTER TABLE deliveries RENAME TO old_deliveries",
    "ALTER TABLE events RENAME TO old_events",
    "ALTER TABLE assets RENAME TO old_assets",
    "ALTER TABLE outbox RENAME TO old_outbox",
    "ALTER TABLE attempts RENAME TO old_attempts",
    "ALTER TABLE retention RENAME TO old_retention",
    # What we asked providers for: the proof of ownership.
    """
    CREATE TABLE submissions (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        provider TEXT NOT NULL,
        owner TEXT NOT NULL,
        task_id TEXT,           -- unset while only reserved
        model TEXT,
        request TEXT,           -- JSON, as the backend gave it
        metadata TEXT NOT NULL, -- JSON object, handed on to consumers
        created_at TEXT NOT NULL,
        bound_at TEXT
    ) STRICT
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
        submission INTEGER REFERENCES submissions (number), -- the owner's, where there is one
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
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised')
    """,
    # How a task ended: one row per task, for ever. A task has one submission, so the submission's number is
    # the key that lets it end only once; and what happens together lies together, however random its id.
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY REFERENCES submissions (number),
        id TEXT NOT NULL,       -- as consumers know it
        via TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        received_at TEXT NOT NULL,
        type TEXT,              -- unset until the last asset settles
        ended_at TEXT,
        revision INTEGER NOT NULL DEFAULT 1,
        error_code TEXT,
        error_message TEXT
    ) STRICT
    """,
    # The files an event names. "due_at" is when to try next; under a lease, when the lease runs out.
    """
    CREATE TABLE assets (
        event INTEGER NOT NULL REFERENCES events (number),
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state = 'pending' OR state = 'stored' OR state = 'failed'),
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
        PRIMARY KEY (event, position)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX assets_pending ON assets (deadline_at, due_at) WHERE state = 'pending'",
    # One event on its way to one sink.
    """
    CREATE TABLE outbox (
        number INTEGER PRIMARY KEY,
        event INTEGER NOT NULL REFERENCES events (number),
        sink TEXT NOT NULL,
        revision INTEGER NOT NULL,
        replay_id TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state = 'pending' OR state = 'delivered' OR state = 'dead'),
        outcome TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_at TEXT NOT NULL,
        lease TEXT,
        created_at TEXT NOT NULL,
        settled_at TEXT
    ) STRICT
    """,
    "CREATE UNIQUE INDEX outbox_key ON outbox (event, sink, revision, replay_id)",
    "CREATE INDEX outbox_pending ON outbox (sink, due_at) WHERE state = 'pending'",
    # Every try at an asset or a sink.
    """
    CREATE TABLE attempts (
        number INTEGER PRIMARY KEY,
        event INTEGER NOT NULL REFERENCES events (number),
        target TEXT NOT NULL,   -- "asset 0", "sink jsonl"
        attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL NOT NULL,
        detail TEXT
    ) STRICT
    """,
    "CREATE INDEX attempts_event ON attempts (event)",
    # One row: up to where retention has dropped bodies and requests.
    """
    CREATE TABLE retention (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        deliveries_to INTEGER NOT NULL,
        submissions_to INTEGER NOT NULL
    ) STRICT
    """,
    "INSERT INTO retention VALUES (1, 0, 0)",
    # For people: one row per task, with its state in the words of the API.
    """
    CREATE VIEW tasks AS
    SELECT s.provider, s.task_id,
           CASE WHEN e.id IS NULL THEN 'submitted' WHEN e.type IS NULL THEN 'fetching'
                ELSE substr(e.type, 6) END AS state,
           s.owner, s.model, s.id AS submission_id, e.id AS event_id,
           s.created_at AS submitted_at, e.received_at, e.ended_at, e.error_code, e.error_message, s.number
    FROM submissions s LEFT JOIN events e ON e.number = s.number
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
    UNION ALL SELECT s.provider, s.task_id, a.started_at, a.target, a.outcome || ', attempt ' || a.attempt
        FROM attempts a JOIN submissions s ON s.number = a.event
    UNION ALL SELECT s.provider, s.task_id, e.ended_at, 'event', e.type
        FROM events e JOIN submissions s USING (number) WHERE e.ended_at IS NOT NULL
    ORDER BY provider, task_id, at
    """,
    # What there was, in the order in which it came.
    """
    INSERT INTO submissions (id, provider, owner, task_id, model, request, metadata, created_at, bound_at)
    SELECT id, provider, owner, task_id, model, request, metadata, created_at, bound_at
    FROM old_submissions ORDER BY id
    """,
    """
    INSERT INTO deliveries (number, provider, task_id, claim, digest, submission, via, proof, verdict,
        provider_state, note, waiting, received_at, last_seen_at, seen, body)
    SELECT d.number, d.provider, d.task_id, d.claim, d.digest, s.number, d.via, d.proof, d.verdict,
        d.provider_state, d.note, d.waiting, d.received_at, d.last_seen_at, d.seen, d.body
    FROM old_deliveries d LEFT JOIN submissions s ON s.id = d.submission_id
    """,
    """
    INSERT INTO events (number, id, via, fingerprint, received_at, type, ended_at, revision, error_code,
        error_message)
    SELECT s.number, e.id, e.via, e.fingerprint, e.received_at, e.type, e.ended_at, e.revision, e.error_code,
        e.error_message
    FROM old_events e JOIN submissions s ON s.id = e.submission_id
    """,
    "CREATE TABLE moved (id TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT INTO moved SELECT id, number FROM events",
    """
    INSERT INTO assets (event, position, url, kind, state, outcome, attempts, due_at, lease, deadline_at, key,
        media_type, bytes, width, height, sha256, settled_at)
    SELECT e.number, a.position, a.url, a.kind, a.state, a.outcome, a.attempts, a.due_at, a.lease,
        a.deadline_at, a.key, a.media_type, a.bytes, a.width, a.height, a.sha256, a.settled_at
    FROM old_assets a JOIN moved e ON e.id = a.event_id
    """,
    """
    INSERT INTO outbox (number, event, sink, revision, replay_id, state, outcome, attempts, due_at, lease,
        created_at, settled_at)
    SELECT o.number, e.number, o.sink, o.revision, o.replay_id, o.state, o.outcome, o.attempts, o.due_at,
        o.lease, o.created_at, o.settled_at
    FROM old_outbox o JOIN moved e ON e.id = o.event_id
    """,
    """
    INSERT INTO attempts (number, event, target, attempt, outcome, started_at, seconds, detail)
    SELECT t.number, e.number, t.target, t.attempt, t.outcome, t.started_at, t.seconds, t.detail
    FROM old_attempts t JOIN moved e ON e.id = t.event_id
    """,
    """
    UPDATE retention SET deliveries_to = o.deliveries_to, submissions_to =
        (SELECT coalesce(max(number), 0) FROM submissions WHERE id <= o.submissions_to)
    FROM old_retention o
    """,
    "DROP TABLE moved",
    "DROP TABLE old_attempts",
    "DROP TABLE old_outbox",
    "DROP TABLE old_assets",
    "DROP TABLE old_events",
    "DROP TABLE old_deliveries",
    "DROP TABLE old_submissions",
    "DROP TABLE old_retention",
)

_M003 = (
    # Whom to ask about what, and when: one row for each task without an end, under its submission's number.
    # "due_at" is as for assets. A row outlives its task's end by a while: callbacks leave it to others.
    """
    CREATE TABLE polls (
        number INTEGER PRIMARY KEY REFERENCES submissions (number),
        provider TEXT NOT NULL,
        due_at TEXT NOT NULL,
        lease TEXT,
        asked INTEGER NOT NULL DEFAULT 0,
        outcome TEXT,           -- of the last question
        detail TEXT,
        asked_at TEXT,
        held INTEGER NOT NULL DEFAULT 0, -- 1: callbacks wait for the answer; what they say is in "waiting"
        replay_id TEXT          -- the replay that wants the next question asked
    ) STRICT
    """,
    "CREATE INDEX polls_due ON polls (provider, due_at)",
    "CREATE INDEX polls_held ON polls (provider, due_at) WHERE held = 1",
    """
    INSERT INTO polls (number, provider, due_at)
    SELECT number, provider, coalesce(bound_at, created_at) FROM submissions
    WHERE task_id IS NOT NULL AND number NOT IN (SELECT number FROM events)
    """,
    # Up to which delivery the polls of tasks that ended have been dropped.
    "ALTER TABLE retention ADD COLUMN polls_to INTEGER NOT NULL DEFAULT 0",
    "UPDATE retention SET polls_to = (SELECT coalesce(max(number), 0) FROM deliveries)",
    # Whether the provider was asked for the link once more, and the replay that wants the file.
    "ALTER TABLE assets ADD COLUMN renewed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE assets ADD COLUMN replay_id TEXT",
    # Of how many files consumers were told; more of them raise the revision.
    "ALTER TABLE events ADD COLUMN announced INTEGER NOT NULL DEFAULT 0",
    """
    UPDATE events SET announced =
        (SELECT count(*) FROM assets WHERE event = events.number AND state = 'stored')
    WHERE type IS NOT NULL
    """,
    # For people: now with the last question to the provider.
    "DROP VIEW task_timeline",
    """
    CREATE VIEW task_timeline AS
    SELECT provider, task_id, created_at AS at, 'submission' AS what, 'logged for ' || owner AS detail
        FROM submissions WHERE task_id IS NOT NULL
    UNION ALL SELECT provider, task_id, received_at, 'delivery', verdict || ' by ' || via ||
        CASE WHEN seen > 1 THEN ', seen ' || seen || ' times' ELSE '' END
        FROM deliveries WHERE task_id <> ''
    UNION ALL SELECT p.provider, s.task_id, p.asked_at, 'poll', p.outcome || ', attempt ' || p.asked
        FROM polls p JOIN submissions s USING (number) WHERE p.asked_at IS NOT NULL
    UNION ALL SELECT s.provider, s.task_id, a.started_at, a.target, a.outcome || ', attempt ' || a.attempt
        FROM attempts a JOIN submissions s ON s.number = a.event
    UNION ALL SELECT s.provider, s.task_id, e.ended_at, 'event', e.type
        FROM events e JOIN submissions s USING (number) WHERE e.ended_at IS NOT NULL
    ORDER BY provider, task_id, at
    """,
)

_M004 = (
    # What people asked to be done again, for ever. "due_at" is when to make the next step; under a lease,
    # when the lease runs out; unset once all was looked at.
    """
    CREATE TABLE replays (
        id TEXT PRIMARY KEY,
        stage TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'cancelled', 'done')),
        requested_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        finished_at TEXT,
        rate REAL CHECK (rate >= 0.001), -- matches a second
        due_at TEXT,
        lease TEXT,
        matched INTEGER NOT NULL,   -- when it was asked for
        looked_at INTEGER NOT NULL DEFAULT 0,
        queued INTEGER NOT NULL DEFAULT 0,
        settled INTEGER NOT NULL DEFAULT 0,
        cursor INTEGER NOT NULL DEFAULT 0, -- the last submission (reprocess: delivery) that was looked at
        up_to INTEGER NOT NULL,     -- the newest when it was asked for
        results TEXT NOT NULL DEFAULT '{}', -- JSON: what has settled, by outcome
        filter TEXT NOT NULL,       -- JSON
        sinks TEXT NOT NULL         -- JSON
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX deliveries_unrecognised ON deliveries (number) WHERE verdict = 'unrecognised'",
    "CREATE INDEX outbox_dead ON outbox (number) WHERE state = 'dead'",
    # What a replay has queued, by sink; what was never replayed is left out.
    "CREATE INDEX outbox_replayed ON outbox (replay_id, sink, state) WHERE replay_id <> ''",
    # 1: was given up before, and counted by its replay as such; people have it sent after all.
    "ALTER TABLE outbox ADD COLUMN revived INTEGER NOT NULL DEFAULT 0",
)

_M005 = (
    # How many attempts in a row, up to the last, ended with its outcome.
    "ALTER TABLE assets ADD COLUMN alike INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX assets_pending",
    # What a callback has named and nobody tried is apart, all of it due; of that, and of all else, the links
    # that die first.
    """
    CREATE INDEX assets_pending ON assets (attempts = 0 AND outcome IS NULL, deadline_at)
    WHERE state = 'pending'
    """,
    # The others, most of which wait for their time, by how often they were tried.
    """
    CREATE INDEX assets_again ON assets (min(attempts, 3), due_at, deadline_at)
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL)
    """,
    """
    CREATE INDEX deliveries_large ON deliveries (verdict)
    WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND length(body) > 65536
    """,
    # What was not understood belongs to its task's owner; what is nobody's and has no body left is let go.
    """
    UPDATE deliveries SET submission = (SELECT number FROM submissions s
        WHERE s.provider = deliveries.provider AND s.task_id = deliveries.task_id)
    WHERE submission IS NULL AND verdict = 'unrecognised'
    """,
    """
    UPDATE deliveries SET verdict = 'unowned'
    WHERE submission IS NULL AND verdict = 'unrecognised' AND body IS NULL
    """,
)

_M006 = (
    "ALTER TABLE submissions ADD COLUMN withdrawn_at TEXT",
    # Few at any time: a reservation leaves it when it is bound.
    """
    CREATE INDEX submissions_unbound ON submissions (created_at)
    WHERE task_id IS NULL AND withdrawn_at IS NULL
    """,
)

_M007 = (
    # So many attempts in a row ended so; "attempt" and "detail" are the last one's, "started_at" the first's.
    "ALTER TABLE attempts ADD COLUMN times INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE attempts ADD COLUMN last_started_at TEXT",  # unset where there was one
    "ALTER TABLE attempts ADD COLUMN entry INTEGER REFERENCES outbox (number)",  # of tries at a sink
    # For people: now with how often.
    "DROP VIEW task_timeline",
    """
    CREATE VIEW task_timeline AS
    SELECT provider, task_id, created_at AS at, 'submission' AS what, 'logged for ' || owner AS detail
        FROM submissions WHERE task_id IS NOT NULL
    UNION ALL SELECT provider, task_id, received_at, 'delivery', verdict || ' by ' || via ||
        CASE WHEN seen > 1 THEN ', seen ' || seen || ' times' ELSE '' END
        FROM deliveries WHERE task_id <> ''
    UNION ALL SELECT p.provider, s.task_id, p.asked_at, 'poll', p.outcome || ', attempt ' || p.asked
        FROM polls p JOIN submissions s USING (number) WHERE p.asked_at IS NOT NULL
    UNION ALL SELECT s.provider, s.task_id, a.started_at, a.target, a.outcome || ', attempt ' || a.attempt ||
        CASE WHEN a.times > 1 THEN ', x ' || a.times || ' up to ' || a.last_started_at ELSE '' END
        FROM attempts a JOIN submissions s ON s.number = a.event
    UNION ALL SELECT s.provider, s.task_id, e.ended_at, 'event', e.type
        FROM events e JOIN submissions s USING (number) WHERE e.ended_at IS NOT NULL
    ORDER BY provider, task_id, at
    """,
)

_M008 = (
    # What was announced, once files are fetched again: retries and replays of a revision say it again.
    """
    CREATE TABLE revisions (
        event INTEGER NOT NULL REFERENCES events (number),
        revision INTEGER NOT NULL,
        content TEXT NOT NULL,  -- JSON: type, times, error and files, as they were announced
        PRIMARY KEY (event, revision)
    ) STRICT, WITHOUT ROWID
    """,
    # Of events with files that replays have fetched again since, or are at: a file that has settled since was
    # not there when the event ended, and its last attempt before that says why.
    """
    INSERT INTO revisions (event, revision, content)
    SELECT e.number, e.revision, json_object(
        'type', e.type, 'ended_at', e.ended_at, 'error_code', e.error_code, 'error_message', e.error_message,
        'assets', (SELECT json_group_array(iif(a.state = 'stored' AND a.settled_at <= e.ended_at,
            json_object('index', a.position, 'state', 'stored', 'outcome', a.outcome, 'key', a.key,
                'media_type', a.media_type, 'bytes', a.bytes, 'width', a.width, 'height', a.height,
                'sha256', a.sha256),
            json_object('index', a.position, 'state', 'failed', 'outcome', coalesce((SELECT t.outcome
                FROM attempts t WHERE t.event = e.number AND t.target = 'asset ' || a.position
                    AND t.started_at <= e.ended_at ORDER BY t.number DESC LIMIT 1), a.outcome),
                'key', NULL, 'media_type', NULL, 'bytes', NULL, 'width', NULL, 'height', NULL,
                'sha256', NULL)))
            FROM assets a WHERE a.event = e.number))
    FROM events e
    WHERE e.type IS NOT NULL AND EXISTS (SELECT 1 FROM replays WHERE stage = 'fetch')
        AND EXISTS (SELECT 1 FROM assets a WHERE a.event = e.number
            AND (a.state = 'pending' OR a.settled_at > e.ended_at))
    """,
)

_OWNERLESS = "{row}.submission IS NULL AND {row}.verdict IN ('early', 'unrecognised')"
_ONE_LESS = "UPDATE ownerless SET kept = kept - 1 WHERE verdict = old.verdict"
_ONE_MORE = "UPDATE ownerless SET kept = kept + 1 WHERE verdict = new.verdict"
_WAS, _IS = _OWNERLESS.format(row="old"), _OWNERLESS.format(row="new")

_M009 = (
    # Of each verdict that is bounded, how many deliveries nobody owns; kept by the triggers below.
    "CREATE TABLE ownerless (verdict TEXT PRIMARY KEY, kept INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """
    INSERT INTO ownerless SELECT value, (SELECT count(*) FROM deliveries
        WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') AND verdict = value)
    FROM json_each('["early", "unrecognised"]')
    """,
    f"CREATE TRIGGER ownerless_comes AFTER INSERT ON deliveries WHEN {_IS} BEGIN {_ONE_MORE}; END",
    f"""
    CREATE TRIGGER ownerless_no_more AFTER UPDATE OF submission, verdict ON deliveries
    WHEN {_WAS} AND NOT ({_IS} AND new.verdict = old.verdict) BEGIN {_ONE_LESS}; END
    """,
    f"""
    CREATE TRIGGER ownerless_now AFTER UPDATE OF submission, verdict ON deliveries
    WHEN {_IS} AND NOT ({_WAS} AND new.verdict = old.verdict) BEGIN {_ONE_MORE}; END
    """,
    f"CREATE TRIGGER ownerless_goes AFTER DELETE ON deliveries WHEN {_WAS} BEGIN {_ONE_LESS}; END",
)

_M010 = (
    # What waits and was never replayed is left out of each.
    """
    CREATE INDEX outbox_withdrawable ON outbox (replay_id)
    WHERE replay_id <> '' AND state = 'pending' AND revived = 0
    """,
    "CREATE INDEX assets_of_replays ON assets (replay_id) WHERE state = 'pending' AND replay_id IS NOT NULL",
    "CREATE INDEX polls_of_replays ON polls (replay_id) WHERE replay_id IS NOT NULL",
)

_M011 = (
    # Each ends in the number, by which a page is a range of keys. Callbacks write none of the first three,
    # and the fourth only where they end their task at once.
    "CREATE INDEX submissions_owner ON submissions (owner)",
    "CREATE INDEX submissions_provider ON submissions (provider)",
    "CREATE INDEX submissions_created ON submissions (created_at)",
    "CREATE INDEX events_type ON events (type) WHERE type IS NOT NULL",
    "CREATE INDEX replays_due ON replays (due_at) WHERE due_at IS NOT NULL",
    # The tasks of which consumers were told no end: submitted, or fetching where there is an event. The
    # triggers below keep it, whoever writes.
    "CREATE TABLE unended (number INTEGER PRIMARY KEY REFERENCES submissions (number)) STRICT",
    """
    INSERT INTO unended
    SELECT s.number FROM submissions s LEFT JOIN events e USING (number)
    WHERE s.task_id IS NOT NULL AND e.type IS NULL
    """,
    # How much there is of what only grows, kept by the triggers below. What waits is counted where it stands,
    # and so are the deliveries that nobody has followed yet: those behind "polls_to".
    """
    CREATE TABLE counts (
        kind TEXT NOT NULL,     -- submissions, tasks (by their event's type), deliveries, assets, outbox
        name TEXT NOT NULL,     -- the sink, or ''
        state TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (kind, name, state)
    ) STRICT, WITHOUT ROWID
    """,
    "INSERT INTO counts SELECT 'submissions', '', '', count(*) FROM submissions",
    """
    INSERT INTO counts
    SELECT 'tasks', '', value, (SELECT count(*) FROM events WHERE type = value)
    FROM json_each('["task.completed", "task.partial", "task.failed"]')
    """,
    """
    INSERT INTO counts SELECT 'deliveries', '', verdict, count(*) FROM deliveries
    WHERE number <= (SELECT polls_to FROM retention) GROUP BY verdict
    """,
    """
    INSERT INTO counts
    SELECT 'assets', '', value, (SELECT count(*) FROM assets WHERE state = value)
    FROM json_each('["stored", "failed"]')
    """,
    """
    INSERT INTO counts SELECT 'outbox', sink, state, count(*) FROM outbox
    WHERE state <> 'pending' GROUP BY sink, state
    """,
    """
    CREATE TRIGGER submissions_logged AFTER INSERT ON submissions BEGIN
        UPDATE counts SET number = number + 1 WHERE kind = 'submissions' AND name = '' AND state = '';
        INSERT INTO unended SELECT NEW.number WHERE NEW.task_id IS NOT NULL;
    END
    """,
    """
    CREATE TRIGGER submissions_bound AFTER UPDATE OF task_id ON submissions
    WHEN OLD.task_id IS NULL AND NEW.task_id IS NOT NULL BEGIN
        INSERT INTO unended VALUES (NEW.number);
    END
    """,
    """
    CREATE TRIGGER submissions_gone AFTER DELETE ON submissions BEGIN
        UPDATE counts SET number = number - 1 WHERE kind = 'submissions' AND name = '' AND state = '';
        DELETE FROM unended WHERE number = OLD.number;
    END
    """,
    # An event is new without a type. One that has more to say than it said is without one for a moment.
    """
    CREATE TRIGGER events_ended AFTER UPDATE OF type ON events WHEN OLD.type IS NOT NEW.type BEGIN
        UPDATE counts SET number = number - 1 WHERE kind = 'tasks' AND name = '' AND state = OLD.type;
        UPDATE counts SET number = number + 1 WHERE kind = 'tasks' AND name = '' AND state = NEW.type;
        DELETE FROM unended WHERE number = NEW.number;
        INSERT INTO unended SELECT NEW.number WHERE NEW.type IS NULL;
    END
    """,
    # A new delivery is counted when it is followed, so that recording one costs nothing more.
    """
    CREATE TRIGGER deliveries_judged AFTER UPDATE OF number, verdict ON deliveries
    WHEN (OLD.verdict <> NEW.verdict OR OLD.number <> NEW.number)
        AND OLD.number <= (SELECT polls_to FROM retention)
    BEGIN
        UPDATE counts SET number = number - 1 WHERE kind = 'deliveries' AND name = '' AND state = OLD.verdict;
        INSERT INTO counts SELECT 'deliveries', '', NEW.verdict, 1
            WHERE NEW.number <= (SELECT polls_to FROM retention)
            ON CONFLICT (kind, name, state) DO UPDATE SET number = number + 1;
    END
    """,
    # (Pending ones have no count that could change.)
    """
    CREATE TRIGGER assets_settled AFTER UPDATE OF state ON assets WHEN OLD.state <> NEW.state BEGIN
        UPDATE counts SET number = number - 1 WHERE kind = 'assets' AND name = '' AND state = OLD.state;
        UPDATE counts SET number = number + 1 WHERE kind = 'assets' AND name = '' AND state = NEW.state;
    END
    """,
    """
    CREATE TRIGGER outbox_settled AFTER UPDATE OF sink, state ON outbox
    WHEN OLD.state <> NEW.state OR OLD.sink <> NEW.sink BEGIN
        UPDATE counts SET number = number - 1
            WHERE kind = 'outbox' AND name = OLD.sink AND state = OLD.state;
        INSERT INTO counts SELECT 'outbox', NEW.sink, NEW.state, 1 WHERE NEW.state <> 'pending'
            ON CONFLICT (kind, name, state) DO UPDATE SET number = number + 1;
    END
    """,
    """
    CREATE TRIGGER outbox_gone AFTER DELETE ON outbox WHEN OLD.state <> 'pending' BEGIN
        UPDATE counts SET number = number - 1
            WHERE kind = 'outbox' AND name = OLD.sink AND state = OLD.state;
    END
    """,
)

_M013 = (
    # Of those that are stored, nothing will be fetched again.
    "ALTER TABLE assets ADD COLUMN provider TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE assets ADD COLUMN host_hash INTEGER NOT NULL DEFAULT 0",  # of the host in the link
    """
    UPDATE assets SET host_hash = host_hash(url),
        provider = (SELECT provider FROM submissions WHERE number = assets.event)
    WHERE state <> 'stored'
    """,
    "DROP INDEX assets_pending",
    "DROP INDEX assets_again",
    # As before, but of each provider and host by itself. What nobody tried is apart, all of it due.
    """
    CREATE INDEX assets_pending
    ON assets (provider, attempts = 0 AND outcome IS NULL, host_hash, deadline_at) WHERE state = 'pending'
    """,
    """
    CREATE INDEX assets_again ON assets (provider, host_hash, min(attempts, 3), due_at, deadline_at)
    WHERE state = 'pending' AND (attempts > 0 OR outcome IS NOT NULL)
    """,
)

# GLOB finds C0, DEL, C1, line ends, and what turns the direction of text; but it reads up to a NUL only. JSON
# escapes C0 by itself; the others go one by one, from 127 to 8297.
_AS_ESCAPES = """
CASE WHEN instr({column}, char(0)) OR {column} GLOB
    '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || char(1564) || char(8206)
    || char(8207) || char(8232) || '-' || char(8238) || char(8294) || '-' || char(8297) || ']*'
THEN (
    WITH RECURSIVE quoted (text) AS (SELECT json_quote({column})), steps (code, text) AS (
        SELECT 127, substr(text, 2, length(text) - 2) FROM quoted
        UNION ALL
        SELECT CASE code WHEN 159 THEN 1564 WHEN 1564 THEN 8206 WHEN 8207 THEN 8232 WHEN 8238 THEN 8294
                         ELSE code + 1 END,
               replace(text, char(code), printf('\\u%04x', code))
        FROM steps WHERE code <= 8297
    )
    SELECT text FROM steps WHERE code = 8298
) ELSE {column} END
"""


def _shown(column: str) -> str:
    """A text from outside as a column of a view: as it is, or where it needs any, with JSON's escapes."""
    return _AS_ESCAPES.format(column=column)


_M015 = (
    "DROP VIEW tasks",
    "DROP VIEW task_timeline",
    # For people: one row per task, with its state in the words of the API.
    f"""
    CREATE VIEW tasks AS
    SELECT s.provider, {_shown("s.task_id")} AS task_id,
           CASE WHEN e.id IS NULL THEN 'submitted' WHEN e.type IS NULL THEN 'fetching'
                ELSE substr(e.type, 6) END AS state,
           {_shown("s.owner")} AS owner, {_shown("s.model")} AS model, s.id AS submission_id,
           e.id AS event_id, s.created_at AS submitted_at, e.received_at, e.ended_at,
           {_shown("e.error_code")} AS error_code, {_shown("e.error_message")} AS error_message, s.number
    FROM submissions s LEFT JOIN events e ON e.number = s.number
    WHERE s.task_id IS NOT NULL
    """,  # noqa: S608 - of names of columns
    # For people: everything that happened to a task, in order.
    f"""
    CREATE VIEW task_timeline AS
    SELECT provider, {_shown("task_id")} AS task_id, created_at AS at, 'submission' AS what,
        'logged for ' || {_shown("owner")} AS detail
        FROM submissions WHERE task_id IS NOT NULL
    UNION ALL SELECT provider, {_shown("task_id")}, received_at, 'delivery', verdict || ' by ' || via ||
        CASE WHEN seen > 1 THEN ', seen ' || seen || ' times' ELSE '' END
        FROM deliveries WHERE task_id <> ''
    UNION ALL SELECT p.provider, {_shown("s.task_id")}, p.asked_at, 'poll',
        p.outcome || ', attempt ' || p.asked
        FROM polls p JOIN submissions s USING (number) WHERE p.asked_at IS NOT NULL
    UNION ALL SELECT s.provider, {_shown("s.task_id")}, a.started_at, a.target,
        a.outcome || ', attempt ' || a.attempt ||
        CASE WHEN a.times > 1 THEN ', x ' || a.times || ' up to ' || a.last_started_at ELSE '' END
        FROM attempts a JOIN submissions s ON s.number = a.event
    UNION ALL SELECT s.provider, {_shown("s.task_id")}, e.ended_at, 'event', e.type
        FROM events e JOIN submissions s USING (number) WHERE e.ended_at IS NOT NULL
    ORDER BY provider, task_id, at
    """,  # noqa: S608 - of names of columns
)

_M016 = (
    # None is added ever after.
    """
    CREATE TABLE earlier_event_ids (id TEXT PRIMARY KEY, number INTEGER NOT NULL REFERENCES events (number))
    STRICT, WITHOUT ROWID
    """,
    """
    INSERT OR IGNORE INTO earlier_event_ids
    SELECT e.id, e.number FROM events e JOIN submissions s USING (number)
    WHERE e.id <> 'evt_' || substr(s.id, 5)
    """,
)

_M018 = (
    # Log-ins to the admin pages, and codes that open one; of both only hashes.
    """
    CREATE TABLE sessions (
        id TEXT PRIMARY KEY,
        role TEXT NOT NULL CHECK (role = 'viewer' OR role = 'admin'),
        token TEXT NOT NULL,
        said_name TEXT NOT NULL,
        created_at TEXT NOT NULL,
        seen_at TEXT NOT NULL,
        expires_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX sessions_token ON sessions (token, created_at, id)",
    "CREATE INDEX sessions_expires ON sessions (expires_at)",
    """
    CREATE TABLE login_codes (code TEXT PRIMARY KEY, token TEXT NOT NULL, expires_at TEXT NOT NULL)
    STRICT, WITHOUT ROWID
    """,
)

_M022 = (
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        act TEXT NOT NULL,
        who TEXT NOT NULL,
        role TEXT NOT NULL,
        door TEXT NOT NULL,
        said_name TEXT NOT NULL,
        target TEXT,
        filter TEXT,            -- JSON
        planned INTEGER,
        done INTEGER,
        reason TEXT,
        result TEXT,
        key TEXT                -- of what is done once
    ) STRICT
    """,
    "CREATE UNIQUE INDEX audit_key ON audit (key)",
    # Each ends in the number, by which a page is a range of keys.
    "CREATE INDEX audit_act ON audit (act)",
    "CREATE INDEX audit_who ON audit (who)",
    "CREATE INDEX audit_target ON audit (target) WHERE target IS NOT NULL",
)

_M023 = (
    # A measure and its labels, all of known words.
    """
    CREATE TABLE series (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        labels TEXT NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX series_name ON series (name, labels)",
    # What was counted in a stretch of time, or the worst that a gauge showed in it.
    """
    CREATE TABLE buckets (
        series INTEGER NOT NULL,
        width INTEGER NOT NULL,  -- seconds: a minute or an hour
        start INTEGER NOT NULL,  -- seconds of Unix
        value REAL NOT NULL,
        PRIMARY KEY (series, width, start)
    ) STRICT, WITHOUT ROWID
    """,
    # Requests that were turned away, by hour and reason; nothing in it is a sender's.
    """
    CREATE TABLE refusals (
        number INTEGER PRIMARY KEY,
        hour TEXT NOT NULL,
        provider TEXT NOT NULL,
        status INTEGER NOT NULL,
        reason TEXT NOT NULL,
        scheme TEXT NOT NULL,
        count INTEGER NOT NULL,
        first_at TEXT NOT NULL,
        last_at TEXT NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX refusals_hour ON refusals (hour, provider, status, reason, scheme)",
    # What happened once, and may be why a plot changes there.
    """
    CREATE TABLE marks (
        at TEXT NOT NULL, kind TEXT NOT NULL, what TEXT NOT NULL, PRIMARY KEY (at, kind, what)
    ) STRICT, WITHOUT ROWID
    """,
)

_M024 = (
    """
    CREATE TABLE orders (
        number INTEGER PRIMARY KEY,  -- its submission's
        state TEXT NOT NULL,         -- what sending it came to; one whose submission has a task is bound
        credential TEXT NOT NULL,    -- a keyed hash of what the caller showed
        upstream_key TEXT NOT NULL,  -- a keyed hash of the provider's key that it went out with
        guard TEXT,                  -- of orders with the same one, none is sent while this one may count
        digest TEXT NOT NULL,        -- of path and body as they came
        callback_url TEXT,           -- the caller's own
        sent_at TEXT NOT NULL,
        lease TEXT,                  -- while it is being sent: by whom, and until when at most
        due_at TEXT,
        settled_at TEXT,
        said_task_id TEXT,           -- what the provider's answer named
        outcome TEXT,
        status INTEGER,
        media_type TEXT,
        answer BLOB
    ) STRICT
    """,
    "CREATE UNIQUE INDEX orders_guard ON orders (guard) WHERE guard IS NOT NULL",
    "CREATE INDEX orders_state ON orders (state, number) WHERE state <> 'bound'",
)

_M025 = (
    "ALTER TABLE retention ADD COLUMN outbox_to INTEGER NOT NULL DEFAULT 0",
    "UPDATE retention SET deliveries_to = 0, submissions_to = 0",
    """
    CREATE TRIGGER deliveries_gone AFTER DELETE ON deliveries
    WHEN OLD.number <= (SELECT polls_to FROM retention) BEGIN
        UPDATE counts SET number = number - 1 WHERE kind = 'deliveries' AND name = '' AND state = OLD.verdict;
    END
    """,
)

_M026 = (
    """
    CREATE TABLE requests (
        number INTEGER PRIMARY KEY REFERENCES submissions (number),
        request TEXT NOT NULL -- JSON, as the backend gave it
    ) STRICT
    """,
    "INSERT INTO requests SELECT number, request FROM submissions WHERE request IS NOT NULL",
    "ALTER TABLE submissions DROP COLUMN request",
    """
    CREATE TABLE links (
        event INTEGER NOT NULL REFERENCES events (number),
        position INTEGER NOT NULL,
        url TEXT NOT NULL,
        PRIMARY KEY (event, position)
    ) STRICT, WITHOUT ROWID
    """,
    "INSERT INTO links SELECT event, position, url FROM assets",
    "ALTER TABLE assets DROP COLUMN url",
)

_M027 = (
    # Kept by the trigger, so that no event that ends well costs more. A later revision may end better.
    """
    CREATE TABLE failures (
        provider TEXT NOT NULL,
        type TEXT NOT NULL,     -- task.failed or task.partial
        number INTEGER NOT NULL REFERENCES events (number),
        PRIMARY KEY (provider, type, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT INTO failures SELECT s.provider, e.type, e.number FROM events e JOIN submissions s USING (number)
    WHERE e.type = 'task.failed' OR e.type = 'task.partial'
    """,
    """
    CREATE TRIGGER events_failed AFTER UPDATE OF type ON events
    WHEN OLD.type IS NOT NEW.type AND (OLD.type IN ('task.failed', 'task.partial')
        OR NEW.type IN ('task.failed', 'task.partial'))
    BEGIN
        DELETE FROM failures WHERE type = OLD.type AND number = NEW.number
            AND provider = (SELECT provider FROM submissions WHERE number = NEW.number);
        INSERT INTO failures SELECT provider, NEW.type, number FROM submissions
            WHERE number = NEW.number AND NEW.type IN ('task.failed', 'task.partial');
    END
    """,
)

_M028 = (
    "ALTER TABLE orders ADD COLUMN relay_due_at TEXT",  # unset where nobody is to be told, or was
    "ALTER TABLE orders ADD COLUMN relay_attempts INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE orders ADD COLUMN relay_outcome TEXT",
    "CREATE INDEX orders_relay ON orders (relay_due_at, number) WHERE relay_due_at IS NOT NULL",
)

_M029 = (
    # By the first 63 bits of a hash of the owner and the file's SHA-256. Whoever finds a row looks at both.
    """
    CREATE TABLE contents (
        digest INTEGER PRIMARY KEY,
        event INTEGER NOT NULL,
        position INTEGER NOT NULL
    ) STRICT
    """,
    "INSERT INTO counts VALUES ('linked', '', '', 0)",
    """
    CREATE TRIGGER assets_linked AFTER UPDATE OF state ON assets
    WHEN OLD.state <> NEW.state AND NEW.outcome = 'linked' BEGIN
        UPDATE counts SET number = number + 1 WHERE kind = 'linked' AND name = '' AND state = '';
    END
    """,
)

# In a line it is the turn of the lowest number that is pending; see ``record.lines`` for those behind it.
_NEXT_IN_LINE = """
    UPDATE outbox SET due_at = created_at
    WHERE due_at = '9999-12-31T23:59:59.999Z' AND number =
        (SELECT min(number) FROM outbox WHERE sink = OLD.sink AND line = OLD.line AND state = 'pending');
"""
_M030 = (
    "ALTER TABLE outbox ADD COLUMN line INTEGER",  # unset where a sink has no order
    "CREATE INDEX outbox_line ON outbox (sink, line, number) WHERE state = 'pending' AND line IS NOT NULL",
    f"""
    CREATE TRIGGER outbox_turn_over AFTER UPDATE OF state, sink, line ON outbox
    WHEN OLD.line IS NOT NULL AND OLD.state = 'pending'
        AND (NEW.state <> 'pending' OR NEW.sink <> OLD.sink OR NEW.line IS NULL)
    BEGIN {_NEXT_IN_LINE} END
    """,
    f"""
    CREATE TRIGGER outbox_turn_gone AFTER DELETE ON outbox
    WHEN OLD.line IS NOT NULL AND OLD.state = 'pending'
    BEGIN {_NEXT_IN_LINE} END
    """,
)

_M032 = (
    "ALTER TABLE submissions ADD COLUMN has_charge INTEGER",  # 1, or unset, which takes no room
    """
    CREATE TABLE charges (
        number INTEGER PRIMARY KEY,  -- its submission's
        provider TEXT NOT NULL,
        owner TEXT NOT NULL,
        model TEXT NOT NULL,         -- empty where the order named none
        token TEXT NOT NULL,         -- the name of the token that it was ordered with, if it has one
        images INTEGER NOT NULL,     -- how many it asked for
        micros INTEGER,              -- millionths of a US dollar; unset where its model has no price
        credits TEXT,                -- a decimal
        basis TEXT,
        as_of TEXT,                  -- the day of the catalog's row
        state TEXT NOT NULL,
        held_at TEXT NOT NULL,
        settled_at TEXT
    ) STRICT
    """,
    """
    CREATE TABLE cost_sums (
        day TEXT NOT NULL,
        owner TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        token TEXT NOT NULL,
        orders INTEGER NOT NULL,
        images INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        held INTEGER NOT NULL,
        charged INTEGER NOT NULL,
        released INTEGER NOT NULL,
        uncertain INTEGER NOT NULL,
        as_of TEXT,
        PRIMARY KEY (day, owner, provider, model, token)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX cost_sums_owner ON cost_sums (owner, day)",
    """
    CREATE TABLE budgets (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        period TEXT NOT NULL,
        micros INTEGER NOT NULL,
        is_hard INTEGER NOT NULL,
        unpriced INTEGER,
        set_at TEXT NOT NULL,
        PRIMARY KEY (scope, name, period)
    ) STRICT, WITHOUT ROWID
    """,
    # How much of a period is used: charged, held and uncertain.
    """
    CREATE TABLE budget_sums (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        period TEXT NOT NULL,
        start TEXT NOT NULL,
        micros INTEGER NOT NULL,
        PRIMARY KEY (scope, name, period, start)
    ) STRICT, WITHOUT ROWID
    """,
)

# What a row of ``cost_sums`` counts in: the period, how much of the day names it, and if it is one owner's.
_TOTALS = "(VALUES ('day', 10, 0), ('total', 0, 0), ('month', 7, 1), ('total', 0, 1)) t"
_SUMMED = ("orders", "images", "unpriced", "held", "charged", "released", "uncertain")


def _keep_totals(name: str, when: str, changes: str) -> str:
    added = ", ".join(f"{each} = {each} + excluded.{each}" for each in _SUMMED)
    return f"""
    CREATE TRIGGER {name} AFTER {when} ON cost_sums BEGIN
        INSERT INTO cost_totals
        SELECT t.column1, substr(NEW.day, 1, t.column2), CASE t.column3 WHEN 1 THEN NEW.owner ELSE '' END,
            NEW.provider, NEW.model, NEW.token, {changes}, NEW.as_of
        FROM {_TOTALS} WHERE true
        ON CONFLICT (period, start, owner, provider, model, token) DO UPDATE SET {added},
            as_of = CASE WHEN excluded.as_of IS NULL OR as_of < excluded.as_of
                THEN as_of ELSE excluded.as_of END;
    END
    """  # noqa: S608


_M033 = (
    """
    CREATE TABLE cost_totals (
        period TEXT NOT NULL,  -- day, month or total
        start TEXT NOT NULL,   -- the day, the month as YYYY-MM, or nothing
        owner TEXT NOT NULL,   -- empty: of all together
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        token TEXT NOT NULL,
        orders INTEGER NOT NULL,
        images INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        held INTEGER NOT NULL,
        charged INTEGER NOT NULL,
        released INTEGER NOT NULL,
        uncertain INTEGER NOT NULL,
        as_of TEXT,
        PRIMARY KEY (period, start, owner, provider, model, token)
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    INSERT INTO cost_totals
    SELECT t.column1, substr(day, 1, t.column2), CASE t.column3 WHEN 1 THEN owner ELSE '' END,
        provider, model, token, {", ".join(f"sum({each})" for each in _SUMMED)}, min(as_of)
    FROM cost_sums, {_TOTALS} GROUP BY 1, 2, 3, 4, 5, 6
    """,  # noqa: S608
    _keep_totals("cost_sums_added", "INSERT", ", ".join(f"NEW.{each}" for each in _SUMMED)),
    _keep_totals("cost_sums_moved", "UPDATE", ", ".join(f"NEW.{each} - OLD.{each}" for each in _SUMMED)),
)

# In words that nothing else is searched by: a lease looks among one host's files, and a planner that took
# this index for their order would go through everybody's.
_M034 = "CREATE INDEX assets_deadlines ON assets ((deadline_at || '')) WHERE state = 'pending'"
