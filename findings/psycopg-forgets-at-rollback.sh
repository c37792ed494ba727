#!/bin/sh
# psycopg 3.3.3 prepares a statement once it has run as often as prepare_threshold says, and drops all of them
# when a transaction ends by ROLLBACK: a reader that ends its snapshots so, as there is nothing to commit, has
# every statement parsed and planned anew each time, though the server would have kept them. With COMMIT they stay.
# Needs a PostgreSQL server: the one of TEST_POSTGRES_URL, or that of this machine.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check 'psycopg[binary]==3.3.3'
"$folder/venv/bin/python" - <<'END'
import os

import psycopg

url = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
prepared = {}
for end in ("COMMIT", "ROLLBACK"):
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as connection:
        for _ in range(5):
            connection.execute("BEGIN READ ONLY")
            connection.execute("SELECT 1 + %s", (1,))
            connection.execute(end)
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT 1 +%'", prepare=False
        ).fetchone()
        prepared[end] = count
print("prepared after five transactions that end with", prepared)
assert prepared == {"COMMIT": 1, "ROLLBACK": 0}, "it has changed"
END
