"""Doors and workers on one PostgreSQL, killed one by one, and it is restarted, too; then the ledger.

    python -m tests.bench.fleet --tasks 10000
    python -m tests.bench.fleet --tasks 0 --kills 300 --every 2 --rate 3

Two `receiver serve --no-work` behind a balancer and two `receiver work` share a data folder and a PostgreSQL
server of their own. A backend orders at the four played providers, with everything that goes wrong there:
callbacks are lost, doubled, reordered, late and forged, tasks fail, links are dead or die, and who asks too
often gets 429. Meanwhile one process after the other gets SIGKILL and is started again, as a
supervisor does it, and the server is restarted, by turns in good order and as by a crash. It goes on until so
many tasks have been ordered and so many processes killed. What is then not as it must be is told: see
``tests.bench.fleet_ledger``. Everything is on loopback.

Prints how far it is, and the figures. Exits 1 when anything was lost, torn, doubled or not as it must be.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx2
import msgspec

from receiver.simulator import Faults, SimulatorOptions
from tests.bench.fleet_ledger import FleetFigures, Looks, Scene, judge
from tests.bench.world import AT_ONCE
from tests.e2e.ledger import PROVIDERS, Shop, asking, key_of
from tests.e2e.service import ADMIN_TOKEN, Receiver, bearer, consumer
from tests.support.balancer import balancing
from tests.support.postgres_cluster import Cluster, postgres_cluster
from tests.support.waiting import until
from tests.support.watched_providers import watched_providers

DATABASE = "record"
FILE = "events.jsonl"
COMMANDS = (("serve", "--no-work"), ("serve", "--no-work"), ("work",), ("work",))
ORDERS_AT_ONCE = 48
POLLS_PER_MINUTE = 600  # what each provider allows, and the fleet is told
START_SECONDS = 120.0  # the machine may have more to do
REQUEST_SECONDS = 60.0
REST_SECONDS = 1800.0
LAST_KILLS_SECONDS = 10.0  # after the last order: into the downloads, polls and notifications
IN_ITS_START = 0.15  # so many of those that have not got past it are killed
SEEN_SECONDS = 0.25  # until all that a process had sent has been read here, in its time
AWAY_SECONDS = (0.5, 3.0)
TALK_SECONDS = 15.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long it goes on, and how much goes wrong."""

    tasks: int = 10_000  # ordered at least
    kills: int = 0  # at least
    every_seconds: float = 4.0  # from one kill to the next, on average
    restarts: int = 2  # of the server, spread over the run
    rate: float = 12.0  # tasks a second, at most
    seed: int = 1
    minutes: float = 120.0  # then nothing more is ordered
    retry_factor: float = 1.0  # of the waits between the attempts of a callback that providers document
    link_seconds: float = 120.0  # so long a link lives
    program: Sequence[str] = ("-m", "receiver")
    settings: Mapping[str, str] = {}  # beside those that the run needs
    talks: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=0, help="go on until so many processes were killed")
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two kills, on average")
    parser.add_argument("--restarts", type=int, default=2, help="of PostgreSQL: fast, immediate, fast, ...")
    parser.add_argument("--rate", type=float, default=12.0, help="tasks a second, at most")
    parser.add_argument("--links", type=float, default=120.0, help="seconds that a link lives")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=120.0, help="stop ordering after this time")
    parser.add_argument("--keep", type=Path, help="leave the logs and files in this folder")
    chosen = parser.parse_args()
    plan = Plan(
        tasks=chosen.tasks,
        kills=chosen.kills,
        every_seconds=chosen.every,
        restarts=chosen.restarts,
        rate=chosen.rate,
        link_seconds=chosen.links,
        seed=chosen.seed,
        minutes=chosen.minutes,
        talks=True,
    )
    with tempfile.TemporaryDirectory(prefix="receiver-fleet-") as folder:
        figures = asyncio.run(run(chosen.keep or Path(folder), plan))
    print(figures.report())
    return 0 if figures.is_good and figures.tasks >= plan.tasks and figures.kills >= plan.kills else 1


async def run(folder: Path, plan: Plan) -> FleetFigures:
    """Play it, and judge."""
    began = time.monotonic()
    async with played(folder, plan) as (scene, database):
        figures = judge(scene, database)
    figures.seconds = time.monotonic() - began
    return figures


@asynccontextmanager
async def played(folder: Path, plan: Plan) -> AsyncIterator[tuple[Scene, str]]:
    """Order, kill and restart until the plan is fulfilled, let it rest, and stop all processes.

    What can be looked at then, and the URL of the database for whoever may read everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(postgres_cluster())
        cluster.create(DATABASE)
        # The server of a test has it off.
        cluster.do("ALTER SYSTEM SET autovacuum = on", "SELECT pg_reload_conf()")
        providers_url, watched = await stack.enter_async_context(watched_providers(_world(plan)))
        hook = await stack.enter_async_context(consumer())
        await hook.start()
        members, front = await stack.enter_async_context(
            _fleet(folder, plan, cluster, providers_url, hook.url)
        )
        orders = await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=providers_url,
                trust_env=False,
                timeout=REQUEST_SECONDS,
                # Less than the simulator keeps an idle connection: it must not be closed as it is used again.
                limits=httpx2.Limits(keepalive_expiry=2.0),
            )
        )
        shop = Shop(front, orders)
        chaos = Chaos(plan, members, cluster)
        backend = Backend(plan, shop, chaos)
        async with asyncio.TaskGroup() as group:
            talking = group.create_task(_talk(plan, front, backend, chaos))
            killing = group.create_task(chaos.run(backend.progress))
            await backend.run()
            await asyncio.sleep(min(LAST_KILLS_SECONDS, plan.every_seconds * 2))
            chaos.is_over = True
            await killing
            await until(lambda: shop.is_at_rest(backend.ordered), REST_SECONDS)
            talking.cancel()
        scene = Scene(
            truth=await shop.truth(),
            tasks=await shop.tasks(),
            members=members,
            hook=hook,
            watched=watched,
            epochs=chaos.epochs,
            looks=chaos.looks,
            polls_per_minute=POLLS_PER_MINUTE,
            starts=chaos.starts,
            kills=chaos.kills,
            restarts=chaos.restarts,
            strange=chaos.strange,
        )
        for member in members:
            await member.stop()
        yield scene, cluster.url(DATABASE, "postgres")


def _world(plan: Plan) -> SimulatorOptions:
    return SimulatorOptions(
        task_seconds=1.0,
        retry_factor=plan.retry_factor,
        keys={name: key_of(name) for name in PROVIDERS},
        picture_pixels=64,
        faults=Faults(
            seed=plan.seed, drop=0.3, duplicate=0.3, reorder=0.2, delay=1.0, fail=0.05,
            dead_links=0.1, error_in_200=0.05,
            dying_links=plan.link_seconds, rate_limit=POLLS_PER_MINUTE,
        ),
    )  # fmt: skip


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """The one place where callers reach the doors."""

    url: str
    http: httpx2.AsyncClient


@asynccontextmanager
async def _fleet(
    folder: Path, plan: Plan, cluster: Cluster, providers_url: str, hook_url: str
) -> AsyncIterator[tuple[list[Receiver], Front]]:
    """All processes, ready, and what stands before the doors; nothing of them runs on afterwards."""
    settings = asking(providers_url, first_poll_seconds=3.0, polls_per_minute=POLLS_PER_MINUTE) | {
        "RECEIVER_DATABASE_URL": cluster.url(DATABASE),
        "RECEIVER_ASSET_TIMEOUT_SECONDS": "10",  # what a kill cuts short waits for more than twice as long
        "RECEIVER_SINK_FILE": f"jsonl:{FILE}",
        "RECEIVER_SINK_HOOK": hook_url,
        "RECEIVER_ASSET_CONCURRENCY": str(AT_ONCE),
        "RECEIVER_SINK_FILE_CONCURRENCY": str(AT_ONCE),
        "RECEIVER_SINK_HOOK_CONCURRENCY": str(AT_ONCE),
        **plan.settings,
    }
    members: list[Receiver] = []
    ports: list[int] = []
    async with balancing(ports) as port:
        url = f"http://127.0.0.1:{port}"
        for command in COMMANDS:
            member = Receiver(folder, settings | {"RECEIVER_PUBLIC_URL": url}, command)
            member.program = plan.program
            members.append(member)
        ports += [member.port for member in members if member.command[0] == "serve"]
        try:
            for member in members:
                member.launch()
            for member in members:
                await until(member.is_ready, START_SECONDS)
            async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=REQUEST_SECONDS) as http:
                yield members, Front(url=url, http=http)
        finally:
            for member in members:
                await asyncio.to_thread(member.discard)
                await member.http.aclose()


class Epochs:
    """The times from one thing that cuts work short to the next: a kill, an end or a start of the server."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._moments: list[float] = []
        self._sizes: list[int] = []  # of the sink's file

    def end(self) -> None:
        """Another one begins."""
        self._moments.append(time.monotonic())
        self._sizes.append(self._file.stat().st_size if self._file.exists() else 0)

    def at(self, moment: float) -> int:
        """The one of a moment, as ``time.monotonic`` has it."""
        return bisect_right(self._moments, moment)

    def of_line(self, place: int) -> int:
        """The one in which a line of the sink's file was begun."""
        return bisect_right(self._sizes, place)


class Chaos:
    """Kills processes and starts them again, as a supervisor does, and restarts the server."""

    def __init__(self, plan: Plan, members: Sequence[Receiver], cluster: Cluster) -> None:
        self.kills = 0
        self.restarts = 0
        self.is_over = False
        self.strange: list[str] = []
        self.starts: list[float] = []  # of workers
        self.epochs = Epochs(members[0].data / FILE)
        self.looks = Looks(members[0].data / "assets")
        self._plan = plan
        self._members = members
        self._cluster = cluster
        self._chance = random.Random(plan.seed)
        self._said: dict[int, int] = {}  # by a worker's port: the length of its output before this life
        self._last_away = float("-inf")  # until when the server was away

    async def run(self, progress: Callable[[], float]) -> None:
        """Until it is over; then everything runs. ``progress``: of the whole plan, from 0 to 1."""
        while not self.is_over:
            await asyncio.sleep(self._plan.every_seconds * self._chance.uniform(0.5, 1.5))
            self._start_what_ended()
            left = self._plan.restarts - self.restarts
            if left and progress() >= (self.restarts + 1) / (self._plan.restarts + 1):
                await self._restart()
            elif victim := await self._choose():
                await self._kill(victim)
            await asyncio.to_thread(self.looks.look)
        for _ in range(self._plan.restarts - self.restarts):
            await self._restart()
        for member in self._members:
            await until(partial(self._is_back, member), START_SECONDS)

    async def _choose(self) -> Receiver | None:
        """Anyone that is up, or now and then one in its start: where that is slow, nobody got past it."""
        member = self._chance.choice(self._members)
        return member if self._chance.random() < IN_ITS_START or await self._is_up(member) else None

    async def _kill(self, member: Receiver) -> None:
        await member.kill()
        await asyncio.sleep(SEEN_SECONDS)
        self.epochs.end()
        self.kills += 1
        self._start(member)

    async def _restart(self) -> None:
        mode = "immediate" if self.restarts % 2 else "fast"
        self._last_away = float("inf")
        await asyncio.to_thread(self._cluster.stop, mode)
        await asyncio.sleep(SEEN_SECONDS)
        self.epochs.end()
        await asyncio.sleep(self._chance.uniform(*AWAY_SECONDS))
        await asyncio.to_thread(self._cluster.start)
        self.epochs.end()
        self.restarts += 1
        self._last_away = time.monotonic()

    def _start_what_ended(self) -> None:
        """A process that finds no server at its start says so and ends; nothing else may end by itself."""
        for member in self._members:
            if (code := member.process.poll()) is not None:
                if code != 1 or time.monotonic() - self._last_away > START_SECONDS:
                    self.strange.append(f"{' '.join(member.command)} ended by itself with {code}")
                self._start(member)

    def _start(self, member: Receiver) -> None:
        if member.command[0] == "work":
            self.starts.append(time.monotonic())
            self._said[member.port] = len(member.output())
        member.launch()

    async def _is_up(self, member: Receiver) -> bool:
        if member.command[0] == "work":
            return "service.working" in member.output()[self._said.get(member.port, 0) :]
        return await member.is_ready()

    async def _is_back(self, member: Receiver) -> bool:
        self._start_what_ended()
        return await self._is_up(member)


class Backend:
    """Orders at a steady pace until the plan is fulfilled."""

    def __init__(self, plan: Plan, shop: Shop, chaos: Chaos) -> None:
        self.ordered = 0
        self._plan = plan
        self._shop = shop
        self._chaos = chaos

    def progress(self) -> float:
        """How much of the plan is fulfilled, from 0 to 1."""
        parts = ((self.ordered, self._plan.tasks), (self._chaos.kills, self._plan.kills))
        return min(min(done / wanted, 1.0) for done, wanted in parts if wanted)

    async def run(self) -> None:
        began = time.monotonic()
        numbers = itertools.count()

        async def work() -> None:
            while self.progress() < 1.0 and time.monotonic() - began < self._plan.minutes * 60:
                number = next(numbers)
                await asyncio.sleep(max(0.0, began + number / self._plan.rate - time.monotonic()))
                await self._shop.order(number)
                self.ordered += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(ORDERS_AT_ONCE):
                group.create_task(work())


async def _talk(plan: Plan, front: Front, backend: Backend, chaos: Chaos) -> None:
    """Say how far it is, where anybody listens."""
    began = time.monotonic()
    while plan.talks:
        await asyncio.sleep(TALK_SECONDS)
        line = f"{time.monotonic() - began:6.0f} s: {backend.ordered:,} ordered, "
        try:
            stats = (await front.http.get("/stats", headers=bearer(ADMIN_TOKEN))).json()
            ended = sum(stats["tasks"].get(state, 0) for state in ("completed", "partial", "failed"))
            waiting = sum(sink.get("pending", 0) for sink in stats["outbox"].values())
            line += f"{ended:,} ended, {waiting:,} to be told, "
        except (httpx2.TransportError, ValueError, KeyError):
            line += "no answer, "
        print(f"{line}{chaos.kills} kills, {chaos.restarts} restarts", flush=True)


if __name__ == "__main__":
    sys.exit(main())
