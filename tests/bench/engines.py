"""How many callbacks a second one receiver acknowledges on PostgreSQL, beside the same on SQLite, and two.

    python -m tests.bench.engines

The load is that of ``tests.bench.ingest``. By turns it goes to a receiver on SQLite, to one on PostgreSQL,
and half to each of two on that PostgreSQL. The two that are alone are pinned to the first core, the load
generator to the others, where PostgreSQL has its share, too; the two together are not pinned. So on two cores
the second figure shows what a callback costs, and the third what is left of the machine. What a flush to the
disk takes is told first. Afterwards the ledgers are checked: as many accepted deliveries as answers of 200.

Needs ``wrk`` and a PostgreSQL that the tests know (``TEST_POSTGRES_URL``). Exits 1 when PostgreSQL is under
0.7 of SQLite, two are under 1.5 of one, a 99th percentile is over 5 medians, or a ledger does not agree.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg

from tests.bench.ingest import (
    CONNECTIONS,
    SECRET,
    Load,
    callback_path,
    count_accepted,
    load,
    log_submissions,
    receiver_server,
    silent_media_host,
    write_load,
)
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.postgres import scratch_database, slow_down_flushes

TARGET = 0.7
TWO = 1.5
TAIL = 5.0
TOGETHER = 1000  # submissions in one transaction

# Logged now: what is older than the retention would be purged while callbacks come.
NOW = """to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
SUBMISSIONS = f"""
INSERT INTO submissions (id, provider, owner, task_id, model, metadata, created_at, bound_at)
SELECT 'sub_' || md5(n::text), 'vidgo', 'user-17', 'task-unified-' || n || '-benchmark', 'gpt-image-2',
    '{{}}', {NOW}, {NOW}
FROM generate_series(%s::bigint, %s::bigint) n
"""
SECRETS = {"RECEIVER_API_TOKENS": SECRET + "-of-backends", "RECEIVER_ADMIN_TOKENS": SECRET + "-of-admins"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument(
        "--flush-ms", type=float, default=0, help="by which each of PostgreSQL's takes longer"
    )
    add_json(parser)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    wait_for_quiet()
    with foreign() as cores, ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-"))
        urls = [stack.enter_context(scratch_database()) for _ in range(2)]  # those on one wake each other
        for url in urls:
            slow_down_flushes(url, milliseconds=chosen.flush_ms)
        rows, holds = compare(Path(folder), urls, chosen.seconds, chosen.rounds)
    return report(Result(rows=rows, foreign_cores=cores[0], holds=holds), as_json=chosen.json)


def compare(folder: Path, urls: Sequence[str], seconds: int, rounds: int) -> tuple[list[Row], bool]:
    flushes = [flush_ms(folder / "flush") for _ in range(100)]
    print(f"a flush to the disk: median {statistics.median(flushes):.2f} ms", file=sys.stderr)
    tasks = 16_000 * seconds * rounds
    on: dict[str, list[Load]] = {"SQLite": [], "PostgreSQL": [], "two on PostgreSQL": []}
    with ExitStack() as stack:
        media = stack.enter_context(silent_media_host())
        places = [folder / name for name in ("file", "server", "first", "second")]
        for place in places:
            place.mkdir()
        asyncio.run(log_submissions(places[0], tasks))
        database, shared = ({"RECEIVER_DATABASE_URL": url, **SECRETS} for url in urls)
        on_file = stack.enter_context(receiver_server(places[0], "info"))
        on_server = stack.enter_context(receiver_server(places[1], "info", database))
        two = [
            stack.enter_context(receiver_server(place, "info", shared, is_pinned=False))
            for place in places[2:]
        ]
        for number, url in enumerate(urls, start=1):
            log_in_postgres(url, number * tasks)
        for number in range(rounds):
            first = number * tasks // rounds
            for name, servers, start in (
                ("SQLite", [on_file], first),
                ("PostgreSQL", [on_server], first),
                ("two on PostgreSQL", two, 2 * first),
            ):
                on[name].append(load_all(servers, folder, media, start, tasks // rounds, seconds))
            told_all = ", ".join(f"{name} {told(runs[-1])}" for name, runs in on.items())
            print(f"round {number + 1}: {told_all}", file=sys.stderr)
        time.sleep(1)  # what was under way when wrk stopped is answered, though wrk does not count it
    return judge(on, count_accepted(places[0]), sum(map(count_in_postgres, urls)), rounds)


def judge(on: dict[str, list[Load]], in_file: int, in_server: int, rounds: int) -> tuple[list[Row], bool]:
    answered = {name: sum(run.answered for run in runs) for name, runs in on.items()}
    unseen = CONNECTIONS * rounds
    agrees = True
    for place, count, recorded, more in (
        ("SQLite", answered["SQLite"], in_file, unseen),
        ("PostgreSQL", answered["PostgreSQL"] + answered["two on PostgreSQL"], in_server, 2 * unseen),
    ):
        fits = count <= recorded <= count + more
        agrees = agrees and fits
        words = "agrees" if fits else "DIFFERS"
        print(f"{place}: answered 200: {count:,}; accepted: {recorded:,} ({words})", file=sys.stderr)
    return rows_of(on), agrees


def rows_of(on: dict[str, list[Load]]) -> list[Row]:
    rates = {name: [run.rate for run in runs] for name, runs in on.items()}
    one = rates["PostgreSQL"]
    return [
        Row(
            measure="acks on PostgreSQL, one process",
            unit="/s",
            ours=one,
            yardstick="SQLite",
            theirs=rates["SQLite"],
            target=TARGET,
        ),
        Row(
            measure="acks on PostgreSQL, two processes",
            unit="/s",
            ours=rates["two on PostgreSQL"],
            yardstick="one process",
            theirs=one,
            target=TWO,
        ),
        Row(
            measure="p99 of an ack on PostgreSQL",
            unit="ms",
            ours=[run.p99_ms for run in on["PostgreSQL"]],
            yardstick="its p50",
            theirs=[run.p50_ms for run in on["PostgreSQL"]],
            target=TAIL,
            at_most=True,
        ),
    ]


def load_all(servers: Sequence[str], folder: Path, media: int, first: int, share: int, seconds: int) -> Load:
    """Load them at once, each with a range of tasks of its own and its share of the connections."""
    with ThreadPoolExecutor(len(servers)) as pool:
        runs = []
        for number, server in enumerate(servers):
            place = folder / f"load-{number}"
            place.mkdir(exist_ok=True)
            script = write_load(place, media, first + number * share)
            connections = CONNECTIONS // len(servers)
            runs.append(pool.submit(load, server + callback_path(), script, seconds, connections))
        done = [run.result() for run in runs]
    return Load(
        sum(run.rate for run in done),
        sum(run.answered for run in done),
        statistics.fmean(run.p50_ms for run in done),
        max(run.p99_ms for run in done),
    )


def told(run: Load) -> str:
    return f"{run.rate:,.0f}/s (p50 {run.p50_ms:.1f} ms, p99 {run.p99_ms:.1f} ms)"


def log_in_postgres(url: str, count: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = receiver")
        for first in range(1, count + 1, TOGETHER):
            connection.execute(SUBMISSIONS, (first, min(first + TOGETHER - 1, count)))
        connection.execute("VACUUM ANALYZE")


def count_in_postgres(url: str) -> int:
    with psycopg.connect(url) as connection:
        ((count,),) = connection.execute(
            "SELECT count(*) FROM receiver.deliveries WHERE verdict = 'accepted'"
        ).fetchall()
    return int(count)


def flush_ms(path: Path) -> float:
    with path.open("ab", buffering=0) as file:
        file.write(bytes(8192))
        started = time.perf_counter()
        os.fdatasync(file.fileno())
        return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    sys.exit(main())
