"""Where tasks live: started by a submission, ended after a while, then told to whoever asked."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Self

import msgspec

from receiver.clock import Clock
from receiver.simulator.calling import Caller
from receiver.simulator.plot import (
    CallAttempt,
    Dialect,
    MadeFile,
    Order,
    Picture,
    PlayedTask,
    SimulatorOptions,
)

Draw = Callable[[str, int], Picture]


class Stage:
    """Every task of this run, in memory; images are not kept but drawn again when asked for."""

    def __init__(self, options: SimulatorOptions, clock: Clock, draw: Draw) -> None:
        self._options = options
        self._clock = clock
        self._draw = draw
        self._caller = Caller(clock, options.retry_factor)
        self._tasks: dict[tuple[str, str], PlayedTask] = {}
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

    def start(self, dialect: Dialect, order: Order, origin: str) -> PlayedTask:
        """Accept an order; from now on the task plays by itself."""
        task = PlayedTask(
            task_id=dialect.new_id(order, self._clock),
            provider=dialect.name,
            order=order,
            origin=origin,
            created_at=self._clock.now(),
        )
        task.seconds = self._seconds(order)
        self._tasks[task.provider, task.id] = task
        playing = asyncio.create_task(self._play(dialect, task))
        self._running.add(playing)
        playing.add_done_callback(self._running.discard)
        return task

    def find(self, provider: str, task_id: str) -> PlayedTask | None:
        return self._tasks.get((provider, task_id))

    def truth(self) -> list[dict[str, object]]:
        """What happened to every task, in the order of submission."""
        return [task.truth() for task in self._tasks.values()]

    async def picture(self, provider: str, task_id: str, name: str) -> Picture | None:
        """The image that a task's link named ``name`` leads to, if there is one."""
        task = self.find(provider, task_id)
        for file in task.files if task else ():
            if file.url.endswith(f"/{name}"):
                return await asyncio.to_thread(self._draw, task_id, file.index)
        return None

    def _seconds(self, order: Order) -> float:
        if order.simulate.delay_seconds is not None:
            return order.simulate.delay_seconds
        return 0.0 if order.simulate.call_before_answer else self._options.task_seconds

    async def _play(self, dialect: Dialect, task: PlayedTask) -> None:
        try:
            await asyncio.sleep(task.seconds)
            if task.order.simulate.outcome == "completed":
                task.files = tuple([await self._make(task, index) for index in range(task.order.count)])
            task.ended_at = self._clock.now()
            await self._call_back(dialect, task)
        finally:
            task.called.set()

    async def _make(self, task: PlayedTask, index: int) -> MadeFile:
        picture = await asyncio.to_thread(self._draw, task.id, index)
        return MadeFile(
            index=index,
            url=f"{task.origin}/media/{task.provider}/{task.id}/{index}.{picture.extension}",
            media_type=picture.media_type,
            bytes=len(picture.content),
            width=picture.width,
            height=picture.height,
            sha256=hashlib.sha256(picture.content).hexdigest(),
        )

    async def _call_back(self, dialect: Dialect, task: PlayedTask) -> None:
        url, retries, simulate = task.order.callback_url, dialect.retries, task.order.simulate
        if url is None or retries is None or simulate.drop_callback:
            return
        body = msgspec.json.encode(dialect.callback(task))

        def note(attempt: CallAttempt) -> None:
            task.calls.append(attempt)
            task.called.set()

        copies = range(1, simulate.duplicate + 1)
        await asyncio.gather(*(self._caller.call(url, body, retries, copy, note) for copy in copies))
