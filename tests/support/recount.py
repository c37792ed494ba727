"""What the record counts as it goes, beside what there is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg

KEPT = "SELECT kind, name, state, number FROM counts WHERE number <> 0"

RECOUNTED = """
SELECT * FROM (
    SELECT 'submissions', '', '', count(*) AS number FROM submissions
    UNION ALL SELECT 'tasks', '', type, count(*) FROM events WHERE type IS NOT NULL GROUP BY type
    UNION ALL SELECT 'deliveries', '', verdict, count(*) FROM deliveries
        WHERE number <= (SELECT polls_to FROM retention) GROUP BY verdict
    UNION ALL SELECT 'assets', '', state, count(*) FROM assets WHERE state <> 'pending' GROUP BY state
    UNION ALL SELECT 'outbox', sink, state, count(*) FROM outbox WHERE state <> 'pending' GROUP BY sink, state
) recounted WHERE number <> 0
"""

# Those that triggers expect to be there.
EXPECTED = {"tasks": '["task.completed", "task.partial", "task.failed"]', "assets": '["stored", "failed"]'}
EXPECT = """
INSERT INTO counts SELECT ?, '', value, 0 FROM json_each(?) WHERE true
ON CONFLICT (kind, name, state) DO NOTHING
"""

UNENDED = "SELECT number FROM unended ORDER BY number"

LOOKED_FOR = """
SELECT number FROM submissions LEFT JOIN events USING (number)
WHERE task_id IS NOT NULL AND type IS NULL ORDER BY number
"""

OWNERLESS = """
SELECT verdict, count(*) FROM deliveries
WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') GROUP BY verdict
"""


def is_record(path: Path) -> bool:
    """Whether there is a record of today's at ``path``."""
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'unended'").fetchone() is not None
    except sqlite3.DatabaseError:
        return False


def check_counts(db: sqlite3.Connection | psycopg.Connection) -> None:
    """Assert that counting everything anew comes to what is kept."""
    assert sorted(db.execute(KEPT).fetchall()) == sorted(db.execute(RECOUNTED).fetchall())
    assert db.execute(UNENDED).fetchall() == db.execute(LOOKED_FOR).fetchall()
    ownerless = {"early": 0, "unrecognised": 0} | dict(db.execute(OWNERLESS).fetchall())
    assert dict(db.execute("SELECT verdict, kept FROM ownerless").fetchall()) == ownerless


def recount(db: sqlite3.Connection) -> None:
    """Count everything anew, after rows were made by hand in ways that the service never takes."""
    db.execute("DELETE FROM counts")
    db.execute(f"INSERT INTO counts {RECOUNTED}")
    db.executemany(EXPECT, EXPECTED.items())
    db.execute("DELETE FROM unended")
    db.execute(f"INSERT INTO unended {LOOKED_FOR}")
