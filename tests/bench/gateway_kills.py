"""Orders through the gateway while it is killed at random, again and again; then the bar.

    python -m tests.bench.gateway_kills --kills 300 --engine sqlite
    python -m tests.bench.gateway_kills --kills 300 --engine postgresql

Callers order at the four played providers, which refuse, answer late, by half, wrongly or not at all, and
tell the end of each task, or do not. Meanwhile `receiver serve` gets SIGKILL at random moments; on PostgreSQL
there are two of them on one record, of which one or the other is killed. Whoever got no answer orders again
with the same ``Idempotency-Key``, if there was one. At the end what each provider billed is booked here,
order by order (charged, or held or uncertain where nobody can know), the kept sums say the same, and nothing
was sent twice.

Prints the figures. Exits 1 when the bar does not hold. About 1.5 s a kill on a quiet machine.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from receiver.simulator import serve_simulator
from tests.e2e.bar import OPEN, SIMULATED, Charge, Wish, differences, read_charges, read_truth, settings
from tests.e2e.service import Receiver
from tests.support.postgres import scratch_database
from tests.support.waiting import until

ORDERS_IN_A_LIFE = 8
ORDERING_SECONDS = 0.4
READY_SECONDS = 120.0  # the machine may have more to do
REST_SECONDS = 300.0
TALKS_EVERY = 25


class Figures(msgspec.Struct, kw_only=True):
    """What a run came to; ``wrong`` names what the bar does not let pass."""

    kills: int = 0
    orders: int = 0
    cut_off: int = 0  # callers without an answer
    again: int = 0
    taken: int = 0
    billed: int = 0  # in millionths of a dollar, as all sums here
    charged: int = 0
    held: int = 0
    uncertain: int = 0
    open: int = 0  # orders of which nobody knows whether they were taken
    wrong: list[str] = []
    seconds: float = 0.0

    def report(self) -> str:
        rows = [
            ("kills", self.kills),
            ("orders", self.orders),
            ("callers without an answer", self.cut_off),
            ("ordered again with the same key", self.again),
            ("taken by the providers", self.taken),
            ("billed by them, in millionths of $ 1", self.billed),
            ("charged", self.charged),
            ("held", self.held),
            ("uncertain", self.uncertain),
            ("orders without a known outcome", self.open),
            ("wrong", len(self.wrong)),
        ]
        lines = [f"{name:40}{count:>8,}" for name, count in rows]
        return "\n".join([*lines, f"{'minutes':40}{self.seconds / 60:>8.1f}", *self.wrong[:20]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=30.0, help="stop killing after this time")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="receiver-gateway-kills-") as folder:
        running = run(
            Path(folder),
            chosen.engine,
            kills=chosen.kills,
            seconds=60 * chosen.minutes,
            seed=chosen.seed,
            is_long=True,
        )
        figures = asyncio.run(running)
    print(figures.report())
    return 0 if not figures.wrong and figures.kills == chosen.kills else 1


async def run(
    folder: Path, engine: str, *, kills: int, seconds: float = 3600.0, seed: int = 1, is_long: bool = False
) -> Figures:
    """Kill so often, at most for so long; what came of it.

    A long run says how far it is, and waits until every task has ended: what a killed process had under way
    is leased for a while.
    """
    began = time.monotonic()
    with _databases(engine) as database:
        async with serve_simulator(options=SIMULATED) as simulator, AsyncExitStack() as stack:
            members = [_member(folder, simulator, database) for _ in range(2 if database else 1)]
            for member in members:
                member.environment["RECEIVER_PUBLIC_URL"] = members[0].url
                stack.push_async_callback(member.http.aclose)
                stack.callback(member.discard)
            scene = Scene(members, simulator, random.Random(seed))
            while scene.figures.kills < kills and time.monotonic() - began < seconds:
                await scene.live_and_die()
                if is_long and scene.figures.kills % TALKS_EVERY == 0:
                    print(f"{scene.figures.kills} kills, {scene.figures.orders} orders", flush=True)
            figures = await scene.rest(has_ended=is_long)
    figures.seconds = time.monotonic() - began
    return figures


@contextmanager
def _databases(engine: str) -> Iterator[str | None]:
    """The URL of a database of its own; None for a file."""
    if engine == "sqlite":
        yield None
    else:
        with scratch_database() as url:
            yield url


def _member(folder: Path, simulator: str, database: str | None) -> Receiver:
    polled = {f"{name}_FIRST_POLL_SECONDS": "2" for name in ("VIDGO", "APIDOT", "APIXO", "REAPI")}
    member = Receiver(
        folder,
        {
            **settings(simulator),
            **polled,
            "RECEIVER_ASSET_TIMEOUT_SECONDS": "3",
            **({"RECEIVER_DATABASE_URL": database} if database else {}),
        },
    )
    member.is_forked = True
    member.http.timeout = httpx2.Timeout(READY_SECONDS)
    return member


class Scene:
    """The processes, whoever orders from them, and what came of it so far."""

    def __init__(self, members: Sequence[Receiver], simulator: str, dice: random.Random) -> None:
        self.figures = Figures()
        self._members = members
        self._simulator = simulator
        self._dice = dice
        self._answers = 0
        self._unanswered: list[Wish] = []
        self._is_running: set[Receiver] = set()

    async def live_and_die(self) -> None:
        """Order at every process, and kill one of them meanwhile."""
        await self._start()
        again, self._unanswered = self._unanswered, []
        new = [
            Wish(f"order {self.figures.orders + number}", self._dice) for number in range(ORDERS_IN_A_LIFE)
        ]
        self.figures.orders += len(new)
        self.figures.again += len(again)
        wishes = [*again, *new]
        placing = asyncio.gather(*(self._place(wish, self._dice.random()) for wish in wishes))
        # By what has come to pass and not by the clock, so that a slow machine kills at no other moments.
        answers = self._answers + self._dice.randrange(len(wishes))
        await until(lambda: self._answers >= answers or placing.done(), READY_SECONDS)
        await asyncio.sleep(self._dice.random() * 0.1)
        victim = self._dice.choice(self._members)
        assert victim.process.poll() is None, victim.output()[-5000:]
        await victim.kill()
        self._is_running.discard(victim)
        self.figures.kills += 1
        await placing

    async def rest(self, *, has_ended: bool) -> Figures:
        """Start what was killed, order again what had no answer, and wait until the bar holds.

        With ``has_ended`` no order may be held then whose task is known.
        """
        await self._start()
        self.figures.again += len(self._unanswered)
        await asyncio.gather(*(wish.place(self._members[0]) for wish in self._unanswered))
        waiting: list[str] = []

        async def is_at_rest() -> bool:
            truth = await read_truth(self._simulator)
            charges = await asyncio.to_thread(read_charges, self._members[0])
            self._count(truth, charges)
            waiting[:] = [each.name for each in charges if each.state == "held" and each.stands == "bound"]
            is_over = not (waiting and has_ended)
            return is_over and all(task["ended_at"] for task in truth) and not self.figures.wrong

        with suppress(AssertionError):
            await until(is_at_rest, REST_SECONDS)
        await is_at_rest()  # once more where its own failure is not taken for the time's
        if has_ended:
            self.figures.wrong += [f"{name} did not end within {REST_SECONDS:g} s" for name in waiting]
        return self.figures

    def _count(self, truth: list[dict[str, Any]], charges: Sequence[Charge]) -> None:
        figures = self.figures
        figures.taken = len(truth)
        figures.billed = sum(task["billed_micros"] for task in truth)
        for state in ("charged", "held", "uncertain"):
            setattr(figures, state, sum(each.micros for each in charges if each.state == state))
        figures.open = sum(each.stands in OPEN for each in charges)
        figures.wrong = differences(truth, charges)

    async def _start(self) -> None:
        for member in self._members:
            if member not in self._is_running:
                member.launch()
        for member in self._members:
            await until(member.is_ready, READY_SECONDS)
            self._is_running.add(member)

    async def _place(self, wish: Wish, after: float) -> None:
        await asyncio.sleep(after * ORDERING_SECONDS)
        if await wish.place(self._dice.choice(self._members)) is not None:
            self._answers += 1
        else:
            self.figures.cut_off += 1
            if wish.key is not None:
                self._unanswered.append(wish)


if __name__ == "__main__":
    sys.exit(main())
