"""What grows with the record, from ten thousand tasks to five million.

    python -m tests.bench.growth [--sizes 10000,100000,1000000,5000000] [--plot FILE]

A SQLite record of each size is filled by SQL with tasks that have ended, but for the last 2,000, whose file,
notification and question are due. Of each: bytes a task, the slowest of all lists, counts and claims at its
95th percentile (see ``tests.bench.scale``), and the memory of an idle service that has it. Then callbacks are
acknowledged on all of them by turns, with those on the smallest record as the yardstick. Five million tasks
take 4.5 GB; all of it takes about ten minutes on a quiet machine. Needs ``wrk``. Exits 1 when a target is
missed.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from receiver.clock import Clock
from tests.bench.ingest import (
    Server,
    callback_path,
    load,
    log_submissions,
    receiver_process,
    silent_media_host,
    write_load,
)
from tests.bench.plot import curves
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.bench.scale import (
    ACKS,
    ACKS_A_SECOND,
    CLAIM_MS,
    COUNT_MS,
    LIST_MS,
    acts,
    filled_record,
    opened,
    percentile_95,
    times,
)
from tests.bench.start import IDLE_SECONDS, resident_mib

SIZES = "10000,100000,1000000,5000000"
ENGINE = "SQLite"


class Size(msgspec.Struct, kw_only=True):
    """What was measured of a record with so many tasks."""

    tasks: int
    bytes_a_task: float
    list_ms: float  # of the slowest, as of the next two
    count_ms: float
    claim_ms: float
    resident_mib: float = 0.0
    acks: list[float] = msgspec.field(default_factory=list)  # a second, by rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help="numbers of tasks, the smallest first")
    parser.add_argument("--seconds", type=int, default=3, help="of callbacks in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="draw the curves into this SVG")
    add_json(parser)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    sizes = [int(size) for size in chosen.sizes.split(",")]
    wait_for_quiet()
    with foreign() as cores, tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        found = [asyncio.run(read_size(Path(folder) / str(tasks), tasks)) for tasks in sizes]
        acknowledge(Path(folder), found, chosen.seconds, chosen.rounds)
    if chosen.plot:
        chosen.plot.write_text(curves(sizes, panels(found)))
    rows = [row for size in found for row in rows_of(size, found[0])]
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


async def read_size(folder: Path, tasks: int) -> Size:
    started = time.monotonic()
    url = await filled_record(ExitStack(), ENGINE, folder, tasks)
    size = (folder / "receiver.db").stat().st_size
    print(f"{tasks:,} tasks: filled in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    store = await opened(url, folder)
    slowest = {"count": 0.0, "claim": 0.0, "list": 0.0}
    for name, act in acts(Clock()).items():
        kind = name.partition(" ")[0]
        spent = percentile_95((await times([store], act))[0])
        kind = kind if kind in slowest else "list"
        slowest[kind] = max(slowest[kind], spent)
    await store.aclose()
    return Size(
        tasks=tasks,
        bytes_a_task=size / tasks,
        list_ms=slowest["list"],
        count_ms=slowest["count"],
        claim_ms=slowest["claim"],
    )


def acknowledge(folder: Path, sizes: Sequence[Size], seconds: int, rounds: int) -> None:
    """Callbacks a second on all records by turns, and what each service holds before that."""
    count = ACKS_A_SECOND * seconds * rounds
    with ExitStack() as stack:
        media = stack.enter_context(silent_media_host())
        servers: dict[int, Server] = {}
        for size in sizes:
            place = folder / str(size.tasks)
            asyncio.run(log_submissions(place, count))
            servers[size.tasks] = stack.enter_context(receiver_process(place, "info"))
        time.sleep(IDLE_SECONDS)
        for size in sizes:
            size.resident_mib = resident_mib(servers[size.tasks].pid)
        for number in range(rounds):
            script = write_load(folder, media, number * count // rounds)
            for size in sizes:
                size.acks.append(load(servers[size.tasks].url + callback_path(), script, seconds).rate)


def rows_of(size: Size, smallest: Size) -> list[Row]:
    """Each as it is, and callbacks beside those on the smallest record, round by round."""
    tasks = f"{size.tasks:,} tasks"
    return [
        Row(
            measure=f"{tasks}: callbacks",
            unit="/s",
            ours=size.acks,
            yardstick="the smallest",
            theirs=smallest.acks,
            target=ACKS,
        ),
        Row(measure=f"{tasks}: lists", unit="ms p95", ours=[size.list_ms], target=LIST_MS, at_most=True),
        Row(measure=f"{tasks}: counts", unit="ms p95", ours=[size.count_ms], target=COUNT_MS, at_most=True),
        Row(measure=f"{tasks}: claims", unit="ms p95", ours=[size.claim_ms], target=CLAIM_MS, at_most=True),
        Row(measure=f"{tasks}: room of one", unit="bytes", ours=[size.bytes_a_task]),
        Row(measure=f"{tasks}: memory", unit="MiB", ours=[size.resident_mib]),
    ]


def panels(sizes: Sequence[Size]) -> Mapping[str, Sequence[float]]:
    """What is drawn, by its title."""
    return {
        "callbacks a second": [sorted(size.acks)[len(size.acks) // 2] for size in sizes],
        "slowest list, ms at the 95th percentile": [size.list_ms for size in sizes],
        "slowest count, ms": [size.count_ms for size in sizes],
        "slowest claim, ms": [size.claim_ms for size in sizes],
        "bytes a task": [size.bytes_a_task for size in sizes],
        "memory of the service, MiB": [size.resident_mib for size in sizes],
    }


if __name__ == "__main__":
    sys.exit(main())
