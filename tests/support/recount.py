"""What the record counts as it goes, beside what there is."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import psycopg

from receiver.models import BudgetPeriod

KEPT = "SELECT kind, name, state, number FROM counts WHERE number <> 0"

RECOUNTED = """
SELECT * FROM (
    SELECT 'submissions', '', '', count(*) AS number FROM submissions
    UNION ALL SELECT 'tasks', '', type, count(*) FROM events WHERE type IS NOT NULL GROUP BY type
    UNION ALL SELECT 'deliveries', '', verdict, count(*) FROM deliveries
        WHERE number <= (SELECT polls_to FROM retention) GROUP BY verdict
    UNION ALL SELECT 'assets', '', state, count(*) FROM assets WHERE state <> 'pending' GROUP BY state
    UNION ALL SELECT 'linked', '', '', count(*) FROM assets WHERE state = 'stored' AND outcome = 'linked'
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

FAILURES = "SELECT provider, type, number FROM failures ORDER BY number"
FAILED = """
SELECT provider, type, number FROM events JOIN submissions USING (number)
WHERE type IN ('task.failed', 'task.partial') ORDER BY number
"""

OWNERLESS = """
SELECT verdict, count(*) FROM deliveries
WHERE submission IS NULL AND verdict IN ('early', 'unrecognised') GROUP BY verdict
"""

COST_SUMS = """
SELECT day, owner, provider, model, token, orders, images, unpriced, held, charged, released, uncertain, as_of
FROM cost_sums
"""
COST_TOTALS = "SELECT * FROM cost_totals"
_OF_TOTALS = "sum(orders), sum(images), sum(unpriced), sum(held), sum(charged), sum(released), sum(uncertain)"
ADDED_UP = " UNION ALL ".join(
    f"""
    SELECT '{period}', substr(day, 1, {length}), {owner}, provider, model, token, {_OF_TOTALS}, min(as_of)
    FROM cost_sums GROUP BY 2, 3, 4, 5, 6
    """
    for period, length, owner in (
        ("day", 10, "''"),
        ("total", 0, "''"),
        ("month", 7, "owner"),
        ("total", 0, "owner"),
    )
)
_SUMMED = ", ".join(
    f"sum(CASE state WHEN '{state}' THEN coalesce(micros, 0) ELSE 0 END)"
    for state in ("held", "charged", "released", "uncertain")
)
CHARGED = f"""
SELECT substr(held_at, 1, 10), owner, provider, model, token, count(*), sum(images),
    sum(CASE WHEN as_of IS NULL THEN 1 ELSE 0 END), {_SUMMED}, min(as_of)
FROM charges GROUP BY 1, 2, 3, 4, 5
"""
BUDGET_SUMS = "SELECT scope, name, period, start, micros FROM budget_sums"
COUNTED_CHARGES = """
SELECT owner, token, provider, substr(held_at, 1, 10), coalesce(micros, 0) FROM charges
WHERE state <> 'released'
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
    assert db.execute(FAILURES).fetchall() == db.execute(FAILED).fetchall()
    ownerless = {"early": 0, "unrecognised": 0} | dict(db.execute(OWNERLESS).fetchall())
    assert dict(db.execute("SELECT verdict, kept FROM ownerless").fetchall()) == ownerless
    check_costs(db)


def check_costs(db: sqlite3.Connection | psycopg.Connection) -> None:
    """Assert that adding up all charges comes to the sums that are kept, by day, in all and for budgets."""
    assert sorted(db.execute(COST_SUMS).fetchall(), key=str) == sorted(
        db.execute(CHARGED).fetchall(), key=str
    )
    assert sorted(db.execute(COST_TOTALS).fetchall(), key=str) == sorted(
        db.execute(ADDED_UP).fetchall(), key=str
    )
    charges = db.execute(COUNTED_CHARGES).fetchall()
    for scope, name, period, start, micros in db.execute(BUDGET_SUMS).fetchall():
        place = ("owner", "token", "provider").index(scope) if name else None
        counted = [
            charge[4]
            for charge in charges
            if (place is None or charge[place] == name)
            and BudgetPeriod(period).start(date.fromisoformat(charge[3])) == start
        ]
        assert sum(counted) == micros, (scope, name, period, start)


def recount(db: sqlite3.Connection) -> None:
    """Count everything anew, after rows were made by hand in ways that the service never takes."""
    db.execute("DELETE FROM counts")
    db.execute(f"INSERT INTO counts {RECOUNTED}")
    db.executemany(EXPECT, EXPECTED.items())
    db.execute("DELETE FROM unended")
    db.execute(f"INSERT INTO unended {LOOKED_FOR}")
    db.execute("DELETE FROM failures")
    db.execute(f"INSERT INTO failures {FAILED}")
