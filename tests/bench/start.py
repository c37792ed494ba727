"""What a start costs, and what an idle service holds.

    python -m tests.bench.start [--beside TREE] [--python FILE]

Processor time is that of `receiver serve` until it listens, by the scheduler's own count of its threads: once
where there is no record yet, and once more on that record, as most starts are. Memory is what the system says
is resident two seconds after the second. With ``--beside`` another
tree of the project is measured by turns, as the yardstick. ``--python`` is the interpreter that starts them:
that of an installation without extras starts what a user has, and nothing that is used where it is found and
that only tests need (``structlog`` imports ``rich``). Providers are counted in processes of their own,
which have imported all else: naming those of this release, and reading a file of 100 declared ones, on top of
one. Exits 1 when either takes more than 20 ms.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.ingest import receiver_process
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.own_providers import TABLES
from tests.support.places import ROOT

PROVIDERS_MS = 20.0
MANY = 100
IDLE_SECONDS = 2.0
Starts = tuple[float, float, float]
COMPARED = [
    ("start, no record yet", "ms"),
    ("start again, until it listens", "ms"),
    ("resident, idle", "MiB"),
]

NAMING = """
import time, receiver.runtime
from receiver.plugins import load_providers
began = time.process_time(); list(load_providers()); print(time.process_time() - began)
"""
# On top of a file with one, which pays for the parser of TOML.
READING = """
import sys, time, receiver.runtime
from receiver.config.settings import load_settings
def seconds(path):
    began = time.process_time()
    load_settings({"RECEIVER_PROVIDERS": path})
    return time.process_time() - began
seconds(sys.argv[1]); print(seconds(sys.argv[2]) - seconds(sys.argv[1]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=Path, metavar="TREE", help="another tree of the project")
    parser.add_argument("--python", default=sys.executable, metavar="FILE", help="that starts the service")
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder, foreign() as cores:
        rows = measure(Path(folder), chosen.rounds, chosen.beside, chosen.python)
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=chosen.json)


def measure(folder: Path, rounds: int, beside: Path | None, python: str) -> list[Row]:
    one, many = declared(folder / "one.toml", 1), declared(folder / "many.toml", MANY)
    ours, theirs = list[Starts](), list[Starts]()
    naming, reading = list[float](), list[float]()
    for number in range(rounds + 1):
        first = starts(folder / f"ours-{number}", ROOT, python)
        second = [starts(folder / f"theirs-{number}", beside, python)] if beside else []
        if number:  # the first of each writes its byte code
            ours.append(first)
            theirs += second
            naming.append(milliseconds(NAMING))
            reading.append(milliseconds(READING, one, many))
    yardstick = "the other tree" if beside else None
    compared = [
        Row(measure=name, unit=unit, ours=figures, yardstick=yardstick, theirs=others)
        for (name, unit), figures, others in zip(
            COMPARED, zip(*ours, strict=True), zip(*theirs, strict=True) if theirs else [()] * 3, strict=True
        )
    ]
    return [
        *compared,
        Row(measure="naming all providers", unit="ms", ours=naming, target=PROVIDERS_MS, at_most=True),
        Row(
            measure=f"reading {MANY} in TOML",
            unit="ms",
            ours=reading,
            target=PROVIDERS_MS,
            at_most=True,
        ),
    ]


def starts(folder: Path, tree: Path, python: str) -> Starts:
    """Milliseconds of processor time until it listens, first and again, and MiB when it is idle."""
    folder.mkdir()
    first, _ = start(folder, tree, python, 0.0)
    return first, *start(folder, tree, python, IDLE_SECONDS)


def start(folder: Path, tree: Path, python: str, idle_seconds: float) -> tuple[float, float]:
    byte_code = {"PYTHONDONTWRITEBYTECODE": ""}  # as installed, where all is compiled
    with receiver_process(folder, "warning", byte_code, is_pinned=False, tree=tree, python=python) as server:
        spent = processor_ms(server.pid)
        time.sleep(idle_seconds)
        return spent, resident_mib(server.pid)


def processor_ms(pid: int) -> float:
    """What all threads that it has now have used (``man 5 proc``, schedstat)."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e6


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def declared(path: Path, number: int) -> Path:
    """So many providers that differ by their names alone."""
    table = TABLES[: TABLES.index("# One link as text")]  # the first of them, with a signature
    path.write_text("\n".join(table.replace("[prism", f"[prism{each}") for each in range(number)))
    return path


def milliseconds(script: str, *paths: Path) -> float:
    command = [sys.executable, "-c", script, *map(str, paths)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1e3


if __name__ == "__main__":
    sys.exit(main())
