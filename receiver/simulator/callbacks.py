"""Telling a callback URL what became of a task: at once, late, twice, in disorder, and falsely."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from receiver.clock import Clock
from receiver.simulator.model import CallAttempt, Dialect, PlayedTask, Retries, Snapshot
from receiver.simulator.sender import Caller

OVERTAKEN_WITHIN_SECONDS = 2.0  # so long a reordered callback waits to be overtaken by a later task's
LIAR = Retries(waits_seconds=(), timeout_seconds=10.0)  # whoever lies does not insist


class Teller:
    """Sends a task's callbacks, each noted on the task. A task without a callback URL is told to nobody."""

    def __init__(self, caller: Caller, clock: Clock) -> None:
        self._caller = caller
        self._clock = clock
        self._held: dict[int, asyncio.Event] = {}  # by number: those that wait to be overtaken

    async def lie(self, dialect: Dialect, task: PlayedTask) -> None:
        """Play somebody who got hold of the callback URL: the task is done, and its files are his."""
        url, retries = task.order.callback_url, dialect.retries
        if url is None or retries is None:
            return
        body = msgspec.json.encode(dialect.callback(task.lie(self._clock.now())))
        await self._caller.call(url, body, LIAR, task.forgeries.append)

    async def tell(self, dialect: Dialect, task: PlayedTask, before: Snapshot) -> None:
        """Tell the end of a task; ``before`` is how it was while it ran, to be told too late."""
        url, retries, fate = task.order.callback_url, dialect.retries, task.fate
        if url is None or retries is None or fate.drop_callback:
            return
        body = msgspec.json.encode(dialect.callback(task.snapshot(self._told_at(task))))
        await asyncio.sleep(fate.late_seconds)
        if fate.reorder and not fate.call_before_answer:
            await self._let_another_pass(task)
        await self._send_copies(task, url, body, retries)
        if fate.reorder:
            late = msgspec.json.encode(dialect.callback(before))
            await self._caller.call(url, late, retries, task.late_progress.append)

    def _told_at(self, task: PlayedTask) -> datetime:
        """When its links were given out: so long ago, where they must be dead on arrival, that they are."""
        now = self._clock.now()
        return now - task.links.life - timedelta(seconds=1) if task.links and task.fate.dead_links else now

    async def _send_copies(self, task: PlayedTask, url: str, body: bytes, retries: Retries) -> None:
        """All that there are. Later is when the provider tries again, as if it had not got the answer."""
        note, last = self._noting(task), task.fate.duplicate
        at_once, later_seconds = last - task.fate.repeated_later, (*retries.waits_seconds, 0.0)[0]
        waits = ((copy, later_seconds if copy > at_once else 0.0) for copy in range(1, last + 1))
        await asyncio.gather(
            *(
                self._caller.call(url, body, retries, note, copy=copy, wait_seconds=seconds)
                for copy, seconds in waits
            )
        )

    def _noting(self, task: PlayedTask) -> Callable[[CallAttempt], None]:
        def note(attempt: CallAttempt) -> None:
            task.calls.append(attempt)
            task.called.set()
            for number, passed in self._held.items():
                if number < task.number:
                    passed.set()

        return note

    async def _let_another_pass(self, task: PlayedTask) -> None:
        passed = self._held[task.number] = asyncio.Event()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(OVERTAKEN_WITHIN_SECONDS):
                    await passed.wait()
        finally:
            del self._held[task.number]
