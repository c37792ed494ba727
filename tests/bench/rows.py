"""What a benchmark measured, as rows: printed as a table or as JSON, and judged against a target.

A row has one figure a round, and where it is compared, its yardstick's figure of the same round. Ratios are
taken round by round, as both sides of a round had the same machine. A ratio whose rounds lie further apart
than ``NOISE`` says nothing and is not printed.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

NOISE = 0.5  # of the median: the distance of the quartiles beyond which a ratio is not told
QUIET = 0.10  # of one core: what others may take of the machine before a run
WAITED_SECONDS = 30.0  # for a quiet machine, at most
TICKS = os.sysconf("SC_CLK_TCK")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measure: its figure in each round, and the yardstick's."""

    measure: str
    unit: str
    ours: Sequence[float]
    yardstick: str | None = None
    theirs: Sequence[float] = ()
    target: float | None = None  # of the ratio where there is a yardstick, else of the figure itself
    at_most: bool = False  # the target is an upper bound

    @property
    def ratios(self) -> list[float]:
        return [our / their for our, their in zip(self.ours, self.theirs, strict=True)]

    @property
    def judged(self) -> list[float]:
        """What the target is about, round by round."""
        return self.ratios if self.yardstick else list(self.ours)

    @property
    def is_noise(self) -> bool:
        return spread(self.judged) > NOISE

    @property
    def is_met(self) -> bool | None:
        """None where nothing is asked, or where the rounds say nothing."""
        if self.target is None or self.is_noise:
            return None
        middle = statistics.median(self.judged)
        return middle <= self.target if self.at_most else middle >= self.target


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one benchmark, and what else took processor time meanwhile, in cores."""

    rows: list[Row]
    foreign_cores: float
    holds: bool = True  # the ledger agreed


def spread(figures: Sequence[float]) -> float:
    """The distance of the quartiles, as a share of the median."""
    if len(figures) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return (high - low) / middle if middle else 0.0


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the rows as JSON on the last line")


def report(result: Result, *, as_json: bool) -> int:
    """Print a benchmark's rows; return its exit code: 1 where a target is missed or the ledger differs."""
    print("\n".join(lines(result.rows)), file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        print(msgspec.json.encode(result).decode())
    return 0 if result.holds and all(row.is_met is not False for row in result.rows) else 1


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """A table of at most 100 columns."""
    yield f"{'measure':38} {'median':>10} {'yardstick':>10} {'ratio':>7} {'spread':>6} {'target':>8}"
    for row in rows:
        theirs = figure(statistics.median(row.theirs)) if row.theirs else ""
        ratio = statistics.median(row.ratios) if row.theirs else None
        ratio_told = "" if ratio is None else "noise" if row.is_noise else f"{ratio:.2f}"
        yield (
            f"{row.measure[:38]:38} {figure(statistics.median(row.ours)):>10} {theirs:>10} {ratio_told:>7} "
            f"{spread(row.judged):6.0%} {target(row):>8} {verdict(row):6} {row.unit}"
        )


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{'<=' if row.at_most else '>='} {row.target:g}"


def verdict(row: Row) -> str:
    return {None: "", True: "met", False: "MISSED"}[row.is_met]


def wait_for_quiet(most_seconds: float = WAITED_SECONDS) -> float:
    """Wait until others take next to nothing of the machine; return the cores that they took last."""
    ends_at = time.monotonic() + most_seconds
    while True:
        with foreign() as cores:
            time.sleep(1)
        if cores[0] <= QUIET:
            return cores[0]
        if time.monotonic() > ends_at:
            print(f"the machine is not quiet: others take {cores[0]:.1f} cores", file=sys.stderr)
            return cores[0]


@contextmanager
def foreign() -> Iterator[list[float]]:
    """Count what takes processor time and is no child of ours that has ended by then, in cores."""
    cores = [0.0]
    started, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    yield cores
    passed = time.monotonic() - started
    cores[0] = max(0.0, (busy_seconds() - busy) - (own_seconds() - own)) / passed


def busy_seconds() -> float:
    """Of all cores since the start of the machine, without what they idled (``man 5 proc_stat``)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_rest = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS


def own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
