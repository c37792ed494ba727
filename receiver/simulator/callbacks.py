"""Send callbacks about a task: at once, late, twice, out of order, and forged ones."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import msgspec

from receiver.clock import Clock
from receiver.simulator.model import CallAttempt, Dialect, PlayedTask, Retries, Snapshot
from receiver.simulator.sender import Caller
from receiver.simulator.signing import signer_of

OVERTAKEN_WITHIN_SECONDS = 2.0  # so long a reordered callback waits to be overtaken by a later task's
LIAR = Retries(waits_seconds=(), timeout_seconds=10.0)  # a forged callback is sent once


class Teller:
    """Sends a task's callbacks and notes each on the task. Without a callback URL it sends nothing."""

    def __init__(self, caller: Caller, clock: Clock) -> None:
        self._caller = caller
        self._clock = clock
        self._held: dict[int, asyncio.Event] = {}  # by number: those that wait to be overtaken

    async def lie(self, dialect: Dialect, task: PlayedTask) -> None:
        """Send a forged callback, as who knows the URL alone would: it says that the task is done."""
        url, retries = task.order.simulate.forge_url or task.order.callback_url, dialect.retries
        if url is None or retries is None:
            return
        body = msgspec.json.encode(dialect.callback(task.lie(self._clock.now())))
        await self._caller.call(url, body, LIAR, task.forgeries.append)

    async def tell(self, dialect: Dialect, task: PlayedTask, before: Snapshot) -> None:
        """Send the end of a task; where it is reordered, then also ``before``, a snapshot from its run."""
        url, retries, fate = task.order.callback_url, dialect.retries, task.fate
        if url is None or retries is None or fate.drop_callback:
            return
        given_at = self._clock.now()
        if task.links and fate.dead_links:  # they were given out so long ago that they are dead on arrival
            given_at -= task.links.life + timedelta(seconds=1)
        body = msgspec.json.encode(dialect.callback(task.snapshot(given_at)))
        await asyncio.sleep(fate.late_seconds)
        if fate.reorder and not fate.call_before_answer:
            passed = self._held[task.number] = asyncio.Event()
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(OVERTAKEN_WITHIN_SECONDS):
                        await passed.wait()
            finally:
                del self._held[task.number]
        await self._send_copies(task, url, body, retries)
        if fate.reorder:
            late = msgspec.json.encode(dialect.callback(before))
            await self._caller.call(url, late, retries, task.late_progress.append, sign=signer_of(task))

    async def _send_copies(self, task: PlayedTask, url: str, body: bytes, retries: Retries) -> None:
        """Send every copy: at once, or after the first retry wait, as if the provider had got no answer."""

        def note(attempt: CallAttempt) -> None:
            task.calls.append(attempt)
            task.called.set()
            for number, passed in self._held.items():
                if number < task.number:
                    passed.set()

        last = task.fate.duplicate
        at_once, later_seconds = last - task.fate.repeated_later, (*retries.waits_seconds, 0.0)[0]
        waits = ((copy, later_seconds if copy > at_once else 0.0) for copy in range(1, last + 1))
        await asyncio.gather(
            *(
                self._caller.call(
                    url, body, retries, note, sign=signer_of(task), copy=copy, wait_seconds=seconds
                )
                for copy, seconds in waits
            )
        )
