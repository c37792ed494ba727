"""Lanes: what only one of several processes runs, and whether that is this one now.

A lane is had for LANE_SECONDS and kept by asking for it again. A process that is killed asks no more, and
another has its lanes in less than 15 s; one that stops in good order leaves them at once.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.models import LaneClaim
from receiver.polling.turns import SharedTurns
from receiver.ports import SharedRecord
from receiver.worker import RUNNING, STANDBY, Loop

log = structlog.get_logger()

LANE_SECONDS = 10.0
AGAIN_SECONDS = 3.0  # from one asking to the next: two may fail
# It ends earlier here than at the server, for clocks do not run equally fast.
MARGIN_SECONDS = 1.0
NOWHERE = "no process does it now"
LEFT = "lanes"  # the word that tells others to ask now


class Lanes:
    """The loop that keeps this process's lanes; all that it knows is counted in ``Clock.uptime``.

    ``names`` are the lanes that this process may have, ``states`` tells how its loops are.
    """

    name = "lanes"

    def __init__(
        self,
        record: SharedRecord,
        names: Sequence[str],
        clock: Clock,
        turns: SharedTurns,
        states: Callable[[], Mapping[str, str]],
    ) -> None:
        self._record = record
        self._names = names
        self._clock = clock
        self._turns = turns
        self._states = states
        self._ends: Mapping[str, timedelta] = {}
        self._told: Mapping[str, str | None] | None = None  # unset before the first look, and without one
        self._asked = asyncio.Condition()
        self._awake = asyncio.Event()

    def wake(self, *, is_due: bool = False) -> None:
        pass  # work that is due makes no lane free

    def look(self) -> None:
        """Ask now: another process has left lanes."""
        self._awake.set()

    def stopped(self) -> str | None:
        return None

    def note(self) -> str | None:
        return None

    async def loop(self) -> None:
        self._told = None
        while True:
            self._awake.clear()
            # Counted from before the server is asked, it is over here before another one has it.
            end = self._clock.uptime() + timedelta(seconds=LANE_SECONDS - MARGIN_SECONDS)
            held = await self._record.hold_lanes(self._claims(), LANE_SECONDS)
            self._turns.learn(held)
            async with self._asked:
                self._ends = dict.fromkeys(held, end)
                self._asked.notify_all()
            self._told = await self._record.list_lanes()
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._awake.wait()

    async def drain(self, timeout_seconds: float) -> int:  # noqa: ARG002 - each lane is left by its loop
        return 0

    def holds(self, name: str) -> bool:
        """Whether this process has a lane now."""
        return self._left(name) > 0

    def elsewhere(self, names: Collection[str]) -> dict[str, str]:
        """What others say of those of these lanes that they have, or NOWHERE; as far as is known."""
        told = self._told
        if told is None:
            return {}
        return {name: told.get(name) or NOWHERE for name in names if not self.holds(name)}

    async def until_held(self, name: str) -> None:
        """Wait for a lane."""
        async with self._asked:
            await self._asked.wait_for(lambda: self.holds(name))

    async def until_lost(self, name: str) -> None:
        """Wait until a lane is another's, or may be."""
        async with self._asked:
            while (left := self._left(name)) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._asked.wait()

    async def leave(self, name: str) -> None:
        """Let another have a lane, if this process has it."""
        if self.holds(name):
            with suppress(Unavailable):  # then it runs out
                await self._record.leave_lanes([name])
                self._record.tell(LEFT)

    def _claims(self) -> list[LaneClaim]:
        states = self._states()
        return [
            LaneClaim(
                name=name,
                state=states[name] if self.holds(name) else RUNNING,
                closed_seconds=self._turns.closed_seconds(name),
            )
            for name in self._names
        ]

    def _left(self, name: str) -> float:
        end = self._ends.get(name)
        return 0.0 if end is None else (end - self._clock.uptime()).total_seconds()


class LaneLoop:
    """Runs a loop only while this process has the lane of its name."""

    def __init__(self, loop: Loop, lanes: Lanes) -> None:
        self.name = loop.name
        self._loop = loop
        self._lanes = lanes

    def wake(self, *, is_due: bool = False) -> None:
        self._loop.wake(is_due=is_due)

    def stopped(self) -> str | None:
        return self._loop.stopped() if self._lanes.holds(self.name) else STANDBY

    def note(self) -> str | None:
        return self._loop.note() if self._lanes.holds(self.name) else None

    async def loop(self) -> None:
        while True:
            await self._lanes.until_held(self.name)
            log.info("lane.taken", lane=self.name)
            running = asyncio.create_task(self._loop.loop(), name=self.name)
            lost = asyncio.create_task(self._lanes.until_lost(self.name))
            try:
                await asyncio.wait({running, lost}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ended = running.done()
                for task in (running, lost):
                    task.cancel()
                await asyncio.wait({running, lost})
            if ended:
                running.result()  # raises what ended it
            # Frozen, or cut off from the database: another one is at it, and what is settled here is void.
            cut = await self._loop.drain(0.0)
            log.warning("lane.lost", lane=self.name, cut_short=cut)

    async def drain(self, timeout_seconds: float) -> int:
        cut = await self._loop.drain(timeout_seconds)
        await self._lanes.leave(self.name)
        return cut
