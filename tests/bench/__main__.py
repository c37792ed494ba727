"""All measures beside their yardsticks, one after the other, as one table.

    python -m tests.bench [--only ingest,relay] [--quick] [--against COMMIT] [--json FILE] [--plot FILE]

Each benchmark runs in a process of its own; what it says meanwhile goes to standard error. Without ``--only``
it takes about half an hour on two cores, with ``--quick`` a third of it. Exits 1 when a target is missed, a
ledger does not agree, or a benchmark failed; a ratio whose rounds lie too far apart is printed as noise.

Each waits for a quiet machine, half a minute at most, and the table says what others took of it meanwhile.
With ``--against`` callbacks and whole tasks are measured beside another commit's, too.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.plot import draw
from tests.bench.rows import Result, lines

# What each is told on top of --json: as the table wants it, and for a first look.
BENCHMARKS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "ingest": (("--seconds", "3", "--rounds", "5"), ("--seconds", "2", "--rounds", "3")),
    "field": (("--seconds", "3", "--rounds", "3"), ("--seconds", "2", "--rounds", "2")),
    "engines": (("--seconds", "3", "--rounds", "5"), ("--seconds", "2", "--rounds", "3")),
    "cost": ((), ("--rounds", "2")),
    "files": ((), ("--rounds", "2")),
    "relay": ((), ("--rounds", "2")),
    "replay": ((), ("--events", "20000")),
    "task": ((), ("--tasks", "100")),
    "queues": ((), ("--rounds", "2")),
    "pieces": (("--tasks", "3000"), ("--tasks", "1000")),
    "viewers": ((), ("--seconds", "5", "--rounds", "2")),
    "s3": ((), ("--rounds", "2")),
    "signing": ((), ("--rounds", "2")),
    "start": ((), ("--rounds", "2")),
    "pages": (("--engine", "SQLite"), ("--tasks", "100000", "--engine", "SQLite")),
    "scale": (("--engine", "PostgreSQL"), ("--tasks", "100000", "--engine", "PostgreSQL")),
    "growth": ((), ("--sizes", "10000,100000", "--rounds", "2")),
}
COMPARED = {"ingest", "task"}  # also beside another commit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", help="some of them: " + ",".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument(
        "--against", metavar="COMMIT", help="beside this commit, too: " + ",".join(sorted(COMPARED))
    )
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    parser.add_argument("--plot", type=Path, help="draw them into this SVG")
    chosen = parser.parse_args()
    names = chosen.only.split(",") if chosen.only else list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = {name: run(name, chosen.against, is_quick=chosen.quick) for name in names}
    return finish(results, chosen.json, chosen.plot)


def run(name: str, against: str | None, *, is_quick: bool) -> Result | None:
    """Its rows, or None where it failed."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    options = BENCHMARKS[name][is_quick]
    compared = ["--against", against] if against and name in COMPARED else []
    command = [sys.executable, "-m", f"tests.bench.{name}", "--json", *options, *compared]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE)
    try:
        return msgspec.json.decode(done.stdout.splitlines()[-1], type=Result)
    except (IndexError, msgspec.DecodeError):
        return None


def finish(results: dict[str, Result | None], json_file: Path | None, plot: Path | None) -> int:
    done = {name: result for name, result in results.items() if result is not None}
    rows = [row for result in done.values() for row in result.rows]
    print("\n".join(lines(rows)))
    for name, result in results.items():
        if result is None:
            print(f"{name}: failed")
        else:
            print(f"{name}: others took {result.foreign_cores:.2f} cores meanwhile{ledger(result)}")
    if json_file:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(done)))
    if plot:
        plot.write_text(draw(rows))
    missed = [row for row in rows if row.is_met is False]
    return 1 if missed or len(done) < len(results) or not all(each.holds for each in done.values()) else 0


def ledger(result: Result) -> str:
    return "" if result.holds else ", THE LEDGER DIFFERS"


if __name__ == "__main__":
    sys.exit(main())
