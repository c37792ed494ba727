"""A service under load that is killed at random, again and again; then the ledger.

    python -m tests.bench.kills --kills 1000

Backends log tasks and a provider calls back, while `receiver serve` gets SIGKILL at random moments: in a
start, a commit, a download, a notification. Callbacks are lost, doubled and early; links die and are renewed.
At the end every callback that was answered with 200 must be on record, every task must have ended and be told
to both sinks under one id, every file must be whole, and nothing may have been fetched or told twice within
one life of the service, nor more of it again after a kill than can have been in flight. With ``--term`` it is
SIGTERM instead, after which nothing at all may come twice.

Prints the figures. Exits 1 when anything was lost, torn or doubled. About 1.5 s a kill on a quiet machine.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from bisect import bisect_right
from pathlib import Path

import httpx2

from tests.bench.world import (
    PROVIDER,
    Fates,
    Figures,
    World,
    compare,
    is_at_rest,
    is_whole,
    open_world,
    settings,
    task_id,
)
from tests.e2e.service import Receiver
from tests.support.waiting import until

SENDERS = 8
PAUSE_SECONDS = 0.5  # of a sender, between two tasks
PATIENCE_SECONDS = 120.0  # the machine may have more to do


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument(
        "--minutes", type=float, default=90.0, help="stop killing after this time at the latest"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--term", action="store_true", help="end it in good order, as platforms do")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receiver-kills-") as folder:
        figures = asyncio.run(
            run(
                Path(folder),
                kills=chosen.kills,
                seconds=chosen.minutes * 60,
                seed=chosen.seed,
                gently=chosen.term,
                talks=True,
            )
        )
    print(figures.report())
    return 0 if figures.is_good and figures.kills == chosen.kills else 1


async def run(
    folder: Path,
    *,
    kills: int,
    seconds: float = 3600.0,
    seed: int = 1,
    gently: bool = False,
    talks: bool = False,
) -> Figures:
    """Kill so often, at most for so long, then let it rest; what came of it. ``gently`` is by SIGTERM."""
    began = time.monotonic()
    async with open_world(Fates()) as world:
        service = Receiver(folder, settings(world, first_poll_seconds=1.0))
        service.http.timeout = httpx2.Timeout(PATIENCE_SECONDS)
        killer = Killer(world, service, random.Random(seed), gently=gently)
        senders = asyncio.create_task(send(world, service, killer))
        try:
            while killer.kills < kills and time.monotonic() - began < seconds:
                await killer.live_and_die()
                if senders.done():  # only ever by an error
                    break
                if talks and killer.kills % 25 == 0:
                    print(f"{killer.kills} kills, {world.finished} tasks", flush=True)
            killer.is_over = True
            killer.launch()
            await senders
            await until(lambda: is_at_rest(world, service), 300.0)
            await service.stop()
        finally:
            senders.cancel()
            service.discard()
            await service.http.aclose()
        figures = compare(world, service, killer.life_of)
    figures.torn += killer.torn
    figures.kills = killer.kills
    if gently and (again := figures.told_again + figures.fetched_again):
        figures.doubled.append(f"{again} things were told or fetched again, though nothing was killed")
    figures.seconds = time.monotonic() - began
    return figures


async def send(world: World, service: Receiver, killer: "Killer") -> None:
    """Tasks from several senders, until the killing is over."""
    numbers = itertools.count()

    async def work() -> None:
        while not killer.is_over:
            await world.play(service, next(numbers))
            await asyncio.sleep(PAUSE_SECONDS)

    async with asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(work())


class Killer:
    """Ends lives of the service, and looks at what each leaves behind."""

    def __init__(self, world: World, service: Receiver, chance: random.Random, *, gently: bool) -> None:
        self.kills = 0
        self.is_over = False
        self.torn: list[str] = []
        self._world = world
        self._service = service
        self._chance = chance
        self._gently = gently
        self._unseen: set[tuple[int, int]] = set()
        self._next_task = 0
        self._sizes: list[int] = []  # of the sink's file, at the end of each life

    def launch(self) -> None:
        self._world.life += 1
        self._service.launch()

    async def live_and_die(self) -> None:
        self.launch()
        if self._chance.random() < 0.15:  # in its start
            await asyncio.sleep(self._chance.uniform(0.1, 0.6))
        else:
            await until(self._service.is_ready, PATIENCE_SECONDS)
            await asyncio.sleep(self._chance.uniform(0.0, 1.2))
        assert self._service.process.poll() is None, self._service.output()[-5000:]
        await (self._service.stop() if self._gently else self._service.kill())
        self.kills += 1
        await asyncio.sleep(0.05)  # until all that it had sent has been read here, in its life
        file = self._service.data / "events.jsonl"
        self._sizes.append(file.stat().st_size if file.exists() else 0)
        self._look()

    def life_of(self, place: int) -> int:
        """In which life a line of the sink's file was begun."""
        return bisect_right(self._sizes, place) + 1

    def _look(self) -> None:
        """No file that is there is torn, at any moment: those that came since the last look."""
        for number in range(self._next_task, self._world.started):
            self._unseen |= {(number, index) for index in range(self._world.files(number))}
        self._next_task = self._world.started
        for number, index in sorted(self._unseen):
            path = self._service.data / "assets" / PROVIDER / task_id(number) / f"{index}.png"
            if path.exists():
                self._unseen.discard((number, index))
                if not is_whole(self._world, path, number, index):
                    self.torn.append(f"{path.name} of task {number} was torn after kill {self.kills}")


if __name__ == "__main__":
    sys.exit(main())
