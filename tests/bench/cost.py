"""What a callback costs on PostgreSQL: processor time here and there, WAL, room and connections.

    python -m tests.bench.cost

The load is that of ``tests.bench.ingest``, on one receiver and a database of its own. Processor time is what
the system counts for the receiver's process and for all of PostgreSQL's on this machine, so nothing else
should use that server meanwhile. The server must be on this machine (``TEST_POSTGRES_URL``). Needs ``wrk``.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.bench.engines import SECRETS, log_in_postgres
from tests.bench.ingest import (
    Server,
    callback_path,
    load,
    receiver_process,
    silent_media_host,
    spent_us,
    write_load,
)
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.postgres import scratch_database

TASKS_A_SECOND = 14_000
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


class Sums(NamedTuple):
    """What was used up to some moment."""

    here_us: float  # of processor time
    there_us: float
    wal: int  # bytes
    room: int  # bytes of the database


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3, help="of each of the runs")
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    wait_for_quiet()
    with foreign() as cores, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        url = stack.enter_context(scratch_database())
        rows = measure(stack, folder, url, chosen.seconds, chosen.rounds)
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


def measure(stack: ExitStack, folder: Path, url: str, seconds: int, rounds: int) -> list[Row]:
    media = stack.enter_context(silent_media_host())
    settings = {"RECEIVER_DATABASE_URL": url, **SECRETS}
    server = stack.enter_context(receiver_process(folder, "info", settings))
    tasks = TASKS_A_SECOND * seconds
    log_in_postgres(url, tasks * rounds)
    spent: dict[str, list[float]] = {}
    for number in range(rounds):
        script = write_load(folder, media, number * tasks)
        before = sums(server, url)
        answered = load(server.url + callback_path(), script, seconds).answered
        time.sleep(1)  # what was under way is answered, and PostgreSQL's processes have told what they used
        for name, start, end in zip(Sums._fields, before, sums(server, url), strict=True):
            spent.setdefault(name, []).append((end - start) / answered)
    return [
        Row(measure="processor time, the receiver", unit="us/ack", ours=spent["here_us"]),
        Row(measure="processor time, PostgreSQL", unit="us/ack", ours=spent["there_us"]),
        Row(measure="WAL", unit="bytes/ack", ours=spent["wal"]),
        Row(measure="room, of what was still empty", unit="bytes/ack", ours=spent["room"]),
        Row(measure="connections of a process", unit="", ours=[connections(url)]),
    ]


def sums(server: Server, url: str) -> Sums:
    with psycopg.connect(url, autocommit=True) as connection:
        ((wal, room),) = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,"
            " pg_database_size(current_database())"
        ).fetchall()
    return Sums(sum(spent_us(server.pid)), postgres_us(), wal, room)


def postgres_us() -> float:
    """Of every process of PostgreSQL on this machine (``man 5 proc_pid_stat``: utime and stime)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
        except FileNotFoundError:
            continue
        if name == "postgres":
            total += sum(map(int, rest.split()[11:13]))
    return total * TICK_US


def connections(url: str) -> int:
    with psycopg.connect(url) as connection:
        ((count,),) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return int(count)


if __name__ == "__main__":
    sys.exit(main())
