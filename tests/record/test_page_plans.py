"""No statement of the admin pages reads a whole table, however large it is."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from receiver.models import Act, AuditFilter
from receiver.record import audit, backlog, lists, page_lists, refusals, sessions, stats, time_series
from receiver.stores.sqlite.migrations import migrate

# What may be walked from one end: an index of the few rows that are in a state, read up to a limit.
SHORT = re.compile(
    r"SCAN (assets USING INDEX assets_deadlines|outbox USING INDEX outbox_dead|[mwp]\b|json_each\b"
    r"|providers\b|\(subquery-)"
)

STATEMENTS = {
    name: sql
    for module in (audit, page_lists, refusals, sessions, time_series)
    for name, sql in vars(module).items()
    if name.isupper() and isinstance(sql, str) and re.match(r"\s*(SELECT|WITH|DELETE|UPDATE)", sql)
} | {
    "LOGGED_AT": lists.LOGGED_AT,
    "DYING_LINKS": backlog.DYING_LINKS,
    "NEXT_DEADLINE": stats.NEXT_DEADLINE,
    "AUDIT": audit.list_query(AuditFilter()),
    "AUDIT_OF_AN_ACT": audit.list_query(AuditFilter(act=Act.REPLAY_STARTED)),
    "AUDIT_OF_SOMEBODY": audit.list_query(AuditFilter(who="admin root")),
    "AUDIT_ABOUT_SOMETHING": audit.list_query(AuditFilter(target="rpl_1")),
}
WHOLE = {"END_ALL", "END_CODES", "DELETE_OLD_CODES"}  # all of what is short: log-ins, and codes of a minute


@pytest.fixture
def record(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    migrate(tmp_path / "receiver.db")
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as db:
        yield db


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - WHOLE))
def test_each_goes_by_an_index(record: sqlite3.Connection, name: str) -> None:
    sql = STATEMENTS[name]
    values = dict.fromkeys(re.findall(r"(?<![:\w]):([a-z_]+)", sql), 1)
    plan = [row[3] for row in record.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert [step for step in plan if "SCAN" in step and not SHORT.match(step)] == [], plan


def test_they_are_all_looked_at() -> None:
    assert len(STATEMENTS) >= 15
