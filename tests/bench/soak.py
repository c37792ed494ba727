"""A service at steady load with everything going wrong around it; what it holds must not grow.

    python -m tests.bench.soak --minutes 60

Callbacks are lost, doubled and early, tasks fail, links die and are renewed, media are slow or break off, the
provider answers 429, and the consumer is away for ten seconds of every minute. Nothing is killed. Memory,
descriptors, threads and the write-ahead log are read at intervals, and the median of the last quarter is
compared with that of the second one: memory may differ by a tenth, descriptors and threads by a few, and the
log stays under its limit. The first moments fill the page cache of SQLite (64 MiB, a constant) with large
bodies, so that what grows afterwards is growth. At the end the ledger of ``tests.bench.kills`` is checked.

Prints a table. Exits 1 when something grew, or was lost, torn or doubled.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from receiver.testing import sample_callback
from tests.bench.world import Fates, Figures, World, compare, is_at_rest, open_world, settings
from tests.e2e.service import Receiver
from tests.support.waiting import until

FATES = Fates(slow_seconds=3.0, broken=0.05, busy=0.1)
CACHE_BYTES = 64 * 2**20  # of the writing connection
FILLER_BYTES = 30_000
WAL_LIMIT_BYTES = 64 * 2**20
OUTAGE_SECONDS, OUTAGE_EVERY_SECONDS = 10.0, 60.0
ROWS = 12
DRAIN_SECONDS = 900.0  # links that broke and sinks that were away are tried again, ever more rarely


class Sample(msgspec.Struct, frozen=True):
    """What the service holds at one moment."""

    rss: int
    descriptors: int
    threads: int
    wal: int
    tasks: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=5.0, help="tasks a second")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receiver-soak-") as folder:
        samples, figures = asyncio.run(run(Path(folder), seconds=chosen.minutes * 60, rate=chosen.rate))
    grown = growth(samples)
    print(table(samples, chosen.minutes * 60))
    print(figures.report())
    print("\n".join(grown) or "nothing grew")
    return 0 if figures.is_good and not grown else 1


async def run(folder: Path, *, seconds: float, rate: float) -> tuple[list[Sample], Figures]:
    """So long at so many tasks a second; what was held meanwhile, and the ledger."""
    async with open_world(FATES) as world:
        service = Receiver(folder, settings(world, first_poll_seconds=5.0))
        world.life = 1
        try:
            service.launch()
            await until(service.is_ready, 120.0)
            await fill_cache(service)
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(send(world, service, seconds, rate))
                group.create_task(come_and_go(world, seconds))
                samples = await watch(service, world, seconds)
            await until(lambda: is_at_rest(world, service), DRAIN_SECONDS)
            await service.stop()
        finally:
            service.discard()
            await service.http.aclose()
        figures = compare(world, service, lambda _: 1)
    figures.seconds = time.monotonic() - began
    return samples, figures


async def fill_cache(service: Receiver) -> None:
    """Strangers' callbacks with large bodies, until the page cache is as large as it gets."""
    padding = "x" * FILLER_BYTES
    numbers = iter(range(int(1.5 * CACHE_BYTES / FILLER_BYTES)))

    async def work() -> None:
        for number in numbers:
            body = json.loads(sample_callback("vidgo", f"stranger-{number}", error="nsfw"))
            content = json.dumps({**body, "padding": padding}).encode()
            answer = await service.http.post(service.callback_path(), content=content)
            answer.raise_for_status()

    await asyncio.gather(*(work() for _ in range(8)))


async def send(world: World, service: Receiver, seconds: float, rate: float) -> None:
    """Tasks at their rate, however long each takes."""
    ends_at = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if time.monotonic() >= ends_at:
                break
            group.create_task(world.play(service, number))
            await asyncio.sleep(1 / rate)


async def come_and_go(world: World, seconds: float) -> None:
    """The consumer is away now and then, and there when all is over."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        await asyncio.sleep(min(OUTAGE_EVERY_SECONDS - OUTAGE_SECONDS, ends_at - time.monotonic()))
        world.is_away = True
        await asyncio.sleep(OUTAGE_SECONDS)
        world.is_away = False


async def watch(service: Receiver, world: World, seconds: float) -> list[Sample]:
    """About five hundred samples, evenly over the run."""
    samples = []
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        await asyncio.sleep(seconds / 500)
        samples.append(sample(service, world))
        if len(samples) % 50 == 0:
            print(samples[-1], flush=True)
    return samples


def sample(service: Receiver, world: World) -> Sample:
    assert service.process.poll() is None, service.output()[-5000:]
    process = Path(f"/proc/{service.pid}")
    lines = (line.partition(":") for line in (process / "status").read_text().splitlines())
    facts = {name: value.split()[0] for name, _, value in lines if value.strip()}
    wal = service.data / "receiver.db-wal"
    return Sample(
        rss=int(facts["VmRSS"]) * 1024,
        descriptors=len(list((process / "fd").iterdir())),
        threads=int(facts["Threads"]),
        wal=wal.stat().st_size if wal.exists() else 0,
        tasks=world.finished,
    )


def growth(samples: list[Sample]) -> list[str]:
    """What was more in the last quarter than in the second one, in words; empty where all is well."""
    quarter = len(samples) // 4
    before, after = samples[quarter : 2 * quarter], samples[3 * quarter :]
    found = []
    for name, allowed in (("rss", 1.1), ("descriptors", 1.1), ("threads", 1.1)):
        old, new = (statistics.median(getattr(each, name) for each in part) for part in (before, after))
        if new > old * allowed:
            found.append(f"{name} GREW: a median of {old:,.0f} in the second quarter, {new:,.0f} in the last")
    if (largest := max(each.wal for each in samples)) > WAL_LIMIT_BYTES:
        found.append(f"the write-ahead log GREW to {largest:,} bytes")
    return found


def table(samples: list[Sample], seconds: float) -> str:
    """Medians over equal parts of the run."""
    lines = [f"{'minute':>7} {'tasks':>8} {'RSS MiB':>8} {'descriptors':>12} {'threads':>8} {'WAL MiB':>8}"]
    size = max(len(samples) // ROWS, 1)
    for start in range(0, len(samples), size):
        part = samples[start : start + size]
        rss, descriptors, threads, wal = (
            statistics.median(getattr(each, name) for each in part)
            for name in ("rss", "descriptors", "threads", "wal")
        )
        minute = (start + len(part)) * seconds / len(samples) / 60
        lines.append(
            f"{minute:>7.1f} {part[-1].tasks:>8,} {rss / 2**20:>8.1f} {descriptors:>12.0f} {threads:>8.0f}"
            f" {wal / 2**20:>8.1f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
