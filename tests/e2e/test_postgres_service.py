"""The commands with the record in PostgreSQL: what a user of it types, and what comes of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import scratch_database

SECRETS = {
    "RECEIVER_SECRET": "5cf1f0f3a1d84bb5b8f1a8d3d3a6c0de",
    "RECEIVER_API_TOKENS": "0b9dfe1f2b4349a8a0e4f65a9a5ad2b7",
    "RECEIVER_ADMIN_TOKENS": "c9a6a5f0d4f54d51a6d9c4a7b0f2e3d1",
}


@pytest.fixture
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


def run(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "receiver", *command],
        cwd=folder,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_demo_keeps_all_its_promises_on_postgresql(database: str, tmp_path: Path) -> None:
    told = run(tmp_path, "demo", "--tasks", "8", "--json", DEMO_DATABASE_URL=database)

    assert told.returncode == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["ok"]
    assert report["places"]["database"].startswith("postgresql:")
    assert not list(tmp_path.rglob("receiver.db"))
    with psycopg.connect(database) as connection:
        states = connection.execute("SELECT state, count(*) FROM receiver.tasks GROUP BY state").fetchall()
    assert sum(count for _, count in states) == 8
    assert {state for state, _ in states} <= {"completed", "failed"}


def test_the_demo_touches_no_record_that_is_there(database: str, tmp_path: Path) -> None:
    assert run(tmp_path, "migrate", RECEIVER_DATABASE_URL=database, **SECRETS).returncode == 0

    told = run(tmp_path, "demo", DEMO_DATABASE_URL=database)

    assert told.returncode == 2
    assert "give the demo a database of its own" in told.stderr


def test_doctor_and_backup_say_what_to_do_with_a_server(database: str, tmp_path: Path) -> None:
    settings = {"RECEIVER_DATABASE_URL": database, **SECRETS}
    before = run(tmp_path, "doctor", "--json", **settings)
    assert run(tmp_path, "migrate", **settings).returncode == 0
    after = run(tmp_path, "doctor", "--json", **settings)

    found = {each["name"]: each for each in json.loads(after.stdout)["checks"]}
    assert {each["name"]: each for each in json.loads(before.stdout)["checks"]}["database"]["state"] == "ok"
    assert found["database"]["detail"] == "postgresql: a commit works"
    assert found["record"]["state"] == "ok"
    assert "sqlite" not in found

    backup = run(tmp_path, "backup", "copy", **settings)
    assert backup.returncode == 2
    assert "pg_dump --schema=receiver" in backup.stderr
    assert not (tmp_path / "copy").exists()


def test_secrets_must_be_given(database: str, tmp_path: Path) -> None:
    told = run(tmp_path, "serve", RECEIVER_DATABASE_URL=database)

    assert told.returncode == 2
    assert "RECEIVER_SECRET must be set: it is generated only with SQLite" in told.stderr
