#!/bin/sh
# The callback of sqlite3.Connection.set_trace_callback (CPython 3.11 and 3.13, SQLite 3.40.1) gets the text of a
# statement, and the same text once more for each trigger that it starts and each statement that a trigger
# runs: four times here for one INSERT. Whoever counts statements in a test counts triggers with them. (In C
# those calls carry the trigger's own text as a comment; Python always asks for the expanded text of the parent.)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" - <<'END'
import sqlite3

connection = sqlite3.connect(":memory:", isolation_level=None)
connection.executescript("""
    CREATE TABLE deliveries (number INTEGER PRIMARY KEY);
    CREATE TABLE counts (kept INTEGER);
    INSERT INTO counts VALUES (0);
    CREATE TRIGGER comes AFTER INSERT ON deliveries BEGIN
        UPDATE counts SET kept = kept + 1;
        UPDATE counts SET kept = kept + 1;
    END;
""")
seen = []
connection.set_trace_callback(seen.append)
connection.execute("INSERT INTO deliveries VALUES (?)", (7,))
connection.set_trace_callback(None)
print(f"SQLite {sqlite3.sqlite_version}:", seen)
assert seen == ["INSERT INTO deliveries VALUES (7)"] * 4, "it has changed"
END
