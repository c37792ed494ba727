"""Where tasks live: started by a submission, ended after a while, then told to whoever asked."""

import asyncio
import hashlib
from collections import Counter
from datetime import datetime
from typing import Self

from receiver.clock import Clock
from receiver.simulator.accounts import Accounts
from receiver.simulator.callbacks import Teller
from receiver.simulator.faults import decide
from receiver.simulator.gpt_image import MICROS_PER_UNIT
from receiver.simulator.links import Links
from receiver.simulator.media import Draw, make
from receiver.simulator.model import (
    ANY_IMAGE,
    NO_CREDIT,
    Account,
    Dialect,
    MadeFile,
    Media,
    Order,
    PlayedTask,
    Refusal,
    SimulatorOptions,
)
from receiver.simulator.sender import Caller


class Stage:
    """Every task of this run, in memory; images are not kept but drawn again when asked for."""

    def __init__(self, options: SimulatorOptions, clock: Clock, draw: Draw) -> None:
        self._options = options
        self._clock = clock
        self._draw = draw
        self._links = Links(options.faults.dying_links)
        self._caller = Caller(clock, options.retry_factor)
        self._teller = Teller(self._caller, clock)
        self.accounts = Accounts(options.credits)
        self._tasks: dict[tuple[str, str], PlayedTask] = {}
        self._turns: Counter[str] = Counter()  # by provider
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._caller.aclose()

    def now(self) -> datetime:
        return self._clock.now()

    def start(
        self, dialect: Dialect, order: Order, origin: str, account: Account, request_id: str | None = None
    ) -> PlayedTask:
        """Accept an order; from now on the task plays by itself. Raises Refusal (402).

        By a fault it is taken for the one before, whose task is returned, and nothing more is billed.
        """
        if order.simulate.same_id_again and (before := self._last_of(dialect.name)):
            return before
        price = dialect.price * max(1, len(order.makes)) if order.price is None else order.price
        if not self.accounts.set_aside(account, price):
            raise Refusal(402, NO_CREDIT, "The balance of this account does not cover it.")
        number, faults = len(self._tasks), self._options.faults
        fate = decide(order.simulate, faults, number, self._options.task_seconds, dialect.failure)
        task = PlayedTask(
            number=number,
            task_id=dialect.new_id(order, self._clock),
            provider=dialect.name,
            order=order,
            fate=fate,
            origin=origin,
            created_at=self._clock.now(),
            account=account,
            request_id=request_id,
        )
        task.turn, task.price = self._turns[dialect.name], price
        task.unit_micros = MICROS_PER_UNIT.get(dialect.name)
        if faults.dying_links or fate.dead_links:
            task.links = self._links
        self._tasks[task.provider, task.id] = task
        self._turns[task.provider] += 1
        playing = asyncio.create_task(self._play(dialect, task))
        self._running.add(playing)
        playing.add_done_callback(self._running.discard)
        return task

    def _last_of(self, provider: str) -> PlayedTask | None:
        return next((task for task in reversed(self._tasks.values()) if task.provider == provider), None)

    def find(self, provider: str, task_id: str) -> PlayedTask | None:
        return self._tasks.get((provider, task_id))

    def find_file(self, provider: str, task_id: str, name: str) -> tuple[PlayedTask, MadeFile] | None:
        """The file that a task's link named ``name`` leads to, if there is one, with its task."""
        task = self.find(provider, task_id)
        for file in task.files if task else ():
            if task and file.url.endswith(f"/{name}"):
                return task, file
        return None

    def truth(self) -> list[dict[str, object]]:
        """What happened to every task, in the order of submission."""
        return [task.truth() for task in self._tasks.values()]

    async def make(self, task_id: str, index: int, makes: str = ANY_IMAGE) -> Media:
        """A file; images are of this run's size."""
        return await asyncio.to_thread(make, self._draw, task_id, index, makes, self._options.picture_pixels)

    async def _play(self, dialect: Dialect, task: PlayedTask) -> None:
        half_seconds = task.fate.delay_seconds / 2
        try:
            await asyncio.sleep(half_seconds)
            if task.fate.forge:
                await self._teller.lie(dialect, task)
            await asyncio.sleep(half_seconds)
            before = task.snapshot(self._clock.now())
            if task.fate.outcome == "completed":
                task.files = tuple([await self._make(task, index) for index in range(len(task.order.makes))])
            self.accounts.settle(task.account, task.price, is_billed=task.fate.outcome == "completed")
            task.ended_at = self._clock.now()
            await self._teller.tell(dialect, task, before)
        finally:
            task.called.set()

    async def _make(self, task: PlayedTask, index: int) -> MadeFile:
        media = await self.make(task.id, index, task.order.makes[index])
        return MadeFile(
            index=index,
            url=f"{task.origin}/media/{task.provider}/{task.id}/{index}.{media.extension}",
            media_type=media.media_type,
            bytes=len(media.content),
            width=media.width,
            height=media.height,
            sha256=hashlib.sha256(media.content).hexdigest(),
        )
