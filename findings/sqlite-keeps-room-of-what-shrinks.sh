#!/bin/sh
# SQLite 3.50.4 (apsw 3.50.4.0) gives nothing back when a retention job sets a large column to NULL in old rows of a
# table that grows at its end: each page keeps its few rows, now nearly empty, and no new row ever goes there. Room of
# 600-byte bodies that 20,000 rows have lost is still in use, and as many rows again take as much again; a page is
# given up only when less than a third of it is taken. With the bodies in a table of their own, whose rows are
# deleted, the same pages serve the next.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check apsw==3.50.4.0
cd "$folder"
"$folder/venv/bin/python" - <<'END'
import apsw

ROWS = 20_000
USED = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
NUMBERS = f"""
WITH RECURSIVE n (number) AS (SELECT max + 1 FROM last UNION ALL SELECT number + 1 FROM n LIMIT {ROWS}),
    last (max) AS (SELECT coalesce(max(number), 0) FROM deliveries)
"""
KEY, BODY = "hex(randomblob(50))", "randomblob(600)"


def bytes_a_row(*steps: str) -> list[int]:
    """In use for each row that has lost its body: after the first rows, and after as many again."""
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE deliveries (number INTEGER PRIMARY KEY, key TEXT, body BLOB)")
    db.execute("CREATE TABLE bodies (number INTEGER PRIMARY KEY, body BLOB)")
    used = []
    for rounds in (1, 2):
        for step in steps:
            db.execute(step)
        used.append(db.execute(USED).get // (rounds * ROWS))
    return used


print("SQLite", apsw.sqlite_lib_version())
nulled = bytes_a_row(
    f"INSERT INTO deliveries {NUMBERS} SELECT number, {KEY}, {BODY} FROM n",
    "UPDATE deliveries SET body = NULL",
)
deleted = bytes_a_row(
    f"INSERT INTO bodies {NUMBERS} SELECT number, {BODY} FROM n",
    f"INSERT INTO deliveries (number, key) {NUMBERS} SELECT number, {KEY} FROM n",
    "DELETE FROM bodies",
)
print("bytes in use for a row of 100 that lost its body of 600:")
print("  set to NULL in its row   ", *nulled)
print("  deleted from its own table", *deleted)
assert apsw.sqlite_lib_version() == "3.50.4"
assert min(nulled) > 2 * max(deleted), "it has changed"
END
