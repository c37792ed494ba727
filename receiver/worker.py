"""The loops: lease due work, run it, sleep until more is due or until a wake-up.

A wake-up is a hint, the store is the truth: a lost wake-up costs at most the fallback interval. A loop
that crashes is started again and shows in ``status``; one that cannot reach the store waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Generic, Protocol, TypeVar

import structlog

from receiver.clock import Clock, Drift
from receiver.errors import Unavailable

log = structlog.get_logger()

T = TypeVar("T")

FALLBACK_SECONDS = 5.0
EMPTY_SECONDS = 0.05  # after finding nothing where something was due
BREATH_SECONDS = 0.01  # after an empty look: a storm of wake-ups is one more in this time
RESTART_SECONDS = 1.0
USUAL_WAIT = timedelta(hours=1)  # hardly anything is planned for later than that
RUNNING = "running"
STANDBY = "standby"  # another process runs it


class Wake(Protocol):
    """Wakes loops by the beginning of their names, as ``Worker.wake`` does."""

    def __call__(self, kind: str, *, is_due: bool = False) -> None: ...


class Loop(Protocol):
    """A loop that the worker keeps running."""

    name: str

    def wake(self, *, is_due: bool = False) -> None:
        """Look for work now; where it ``is_due``, there is some."""

    def stopped(self) -> str | None:
        """Why it takes no more work, if it does not."""

    def note(self) -> str | None:
        """What people should know of it though it runs."""

    async def loop(self) -> None:
        """Work until cancelled; what is running goes on after that, see ``drain``."""

    async def drain(self, timeout_seconds: float) -> int:
        """Give running work its time, then cancel it; return how much was cancelled."""


class LeaseLoop(Generic[T]):
    """One kind of leased work, and how much of it runs at once."""

    def __init__(  # noqa: PLR0913 - by keyword, each a thing of its own
        self,
        name: str,
        *,
        lease: Callable[[datetime, datetime, int], Awaitable[list[T]]],
        run: Callable[[T], Awaitable[object]],
        next_due_at: Callable[[], Awaitable[datetime | None]],
        concurrency: int,
        lease_seconds: float,
        clock: Clock,
        stopped: Callable[[], str | None] = lambda: None,
        note: Callable[[], str | None] = lambda: None,
        breath_seconds: float = BREATH_SECONDS,
        empty_seconds: float = EMPTY_SECONDS,
        has_more: Callable[[list[T]], bool] = lambda _: False,
    ) -> None:
        """``has_more`` says whether a lease that left a place free may have left due work, too."""
        self.name = name
        self._breath_seconds = breath_seconds
        self._empty_seconds = empty_seconds
        self._has_more = has_more
        self._lease = lease
        self._run = run
        self._next_due_at = next_due_at
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._stopped = stopped
        self._note = note
        self._setbacks = Setbacks(clock)
        self._running: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._is_told = False  # that work is due, since the last look
        self._had_work = True  # at the last lease
        self._later: asyncio.TimerHandle | None = None  # when it looks what the end of some work has planned

    def wake(self, *, is_due: bool = False) -> None:
        if not self._is_full():  # else it looks when there is room, whoever has said so
            self._is_told |= is_due
            self._awake.set()

    def stopped(self) -> str | None:
        return self._stopped()

    def note(self) -> str | None:
        return self._note()

    async def loop(self) -> None:
        while True:
            self._awake.clear()
            wait_seconds = await self._turn()
            if not wait_seconds:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._awake.wait()

    async def drain(self, timeout_seconds: float) -> int:
        # The leases of the cancelled stay on their rows and are free again at the next start.
        if not self._running:
            return 0
        _, late = await asyncio.wait(self._running, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    async def _turn(self) -> float:
        """Start due work as far as there is room; return the seconds until the next look."""
        self._setbacks.look()
        if self._is_full():
            return FALLBACK_SECONDS
        due_by, wait_seconds = None, FALLBACK_SECONDS
        # Who says so is right as a rule: then asking when something is due would be a step for nothing.
        is_believed, self._is_told = self._is_told and self._had_work, False
        if is_believed and not self._stopped():
            await asyncio.sleep(0)  # first the answer leaves that the callback's sender waits for
            due_by = self._clock.now()
        elif not self._stopped():
            due_by, wait_seconds = await self._look()
        if due_by is None:
            await asyncio.sleep(min(self._breath_seconds, wait_seconds))
            return wait_seconds
        leased = await self._start_due(due_by)
        if not leased and not is_believed:
            await asyncio.sleep(self._empty_seconds)  # due, yet not to be had: looking could go on for ever
        if self._is_full():
            return FALLBACK_SECONDS
        # All that is due was leased, as a rule, and more of it is told of.
        return self._breath_seconds if leased and not self._has_more(leased) else 0.0

    async def _look(self) -> tuple[datetime | None, float]:
        """By when work is due now, if any is, and how many seconds there are until the next is."""
        due_at = await self._next_due_at()
        if due_at is None:
            return None, FALLBACK_SECONDS
        now = self._clock.now()
        late = self._setbacks.lateness(due_at, now)
        wait_seconds = (due_at - late - now).total_seconds()
        return (now + late, 0.0) if wait_seconds <= 0 else (None, min(FALLBACK_SECONDS, wait_seconds + 0.001))

    async def _start_due(self, due_by: datetime) -> list[T]:
        until = self._clock.now() + timedelta(seconds=self._lease_seconds)
        leased = await self._lease(due_by, until, self._concurrency - len(self._running))
        self._had_work = bool(leased)
        for work in leased:
            self._start(work)
        return leased

    def _is_full(self) -> bool:
        return len(self._running) >= self._concurrency

    def _start(self, work: T) -> None:
        task = asyncio.create_task(self._run_one(work))
        self._running.add(task)
        task.add_done_callback(self._done)

    async def _run_one(self, work: T) -> None:
        try:
            await self._run(work)
        except Unavailable as exc:  # the store could not settle it: the lease runs out, and again
            log.warning("work.unsettled", loop=self.name, reason=str(exc))
        except Exception as exc:  # one poisonous piece of work must not stop the loop
            log.exception("work.crashed", loop=self.name, error=type(exc).__name__)

    def _done(self, task: asyncio.Task[None]) -> None:
        was_full = self._is_full()
        self._running.discard(task)
        if was_full:
            self._is_told = True
            self._awake.set()
        elif self._later is None:  # it may be planned again: one look for all that ends in a breath
            self._later = asyncio.get_running_loop().call_later(self._breath_seconds, self._look_later)

    def _look_later(self) -> None:
        self._later = None
        self._awake.set()


class Setbacks:
    """Notices that the wall clock was set back, so that what was planned before does not come late.

    It compares a clock that only runs forward. A setback of less than two usual waits is ignored: it makes
    nothing much later than a wait for the next attempt does. One before the start is not noticed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._drift = Drift(clock)
        self._lost = timedelta()
        self._shown = clock.now()  # before it was set back

    def look(self) -> None:
        """Compare the clocks; to be called every few seconds."""
        lost = -self._drift.look()
        if lost >= 2 * USUAL_WAIT:
            self._lost, self._shown = lost, self._clock.now() + lost
            log.warning("clock.set_back", seconds=round(self._lost.total_seconds()))

    def lateness(self, due_at: datetime, now: datetime) -> timedelta:
        """By how much the earliest of all waiting work is planned too late."""
        # Until then, nothing planned now by a usual wait can be mistaken for something planned before.
        is_told_apart = now + USUAL_WAIT < self._shown
        return self._lost if is_told_apart and due_at > now + USUAL_WAIT else timedelta()


class PeriodicLoop:
    """Work that is repeated by the clock."""

    def __init__(
        self,
        name: str,
        *,
        run: Callable[[], Awaitable[object]],
        every_seconds: float,
        note: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.name = name
        self._run = run
        self._every_seconds = every_seconds
        self._note = note

    def wake(self, *, is_due: bool = False) -> None:
        pass  # it keeps to the clock

    def stopped(self) -> str | None:
        return None

    def note(self) -> str | None:
        return self._note()

    async def loop(self) -> None:
        while True:
            await self._run()
            await asyncio.sleep(self._every_seconds)

    async def drain(self, timeout_seconds: float) -> int:  # noqa: ARG002 - a round is short and repeatable
        return 0


class Worker:
    """Keeps every loop running until it is drained."""

    def __init__(
        self,
        loops: Sequence[Loop],
        *,
        count_restart: Callable[[str], None],
        restart_seconds: float = RESTART_SECONDS,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._loops = loops
        self._tell = tell
        self._count_restart = count_restart
        self._restart_seconds = restart_seconds
        self._states: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self._kinds: dict[str, list[Loop]] = {}  # the few that are ever woken: every callback wakes two

    def start(self) -> None:
        """Start every loop."""
        for loop in self._loops:
            self._start(loop)

    def wake(self, kind: str = "", *, is_due: bool = False) -> None:
        """Tell every loop whose name starts with ``kind`` that there may be work, in other processes, too.

        ``is_due``: there is, as far as the caller knows.
        """
        self.wake_here(kind, is_due=is_due)
        if self._tell is not None:
            self._tell(kind)

    def wake_here(self, kind: str, *, is_due: bool = False) -> None:
        """Tell those of this process."""
        loops = self._kinds.get(kind)
        if loops is None:
            loops = self._kinds[kind] = [loop for loop in self._loops if loop.name.startswith(kind)]
        for loop in loops:
            loop.wake(is_due=is_due)

    def status(self) -> Mapping[str, str]:
        """Each loop by name: ``running``, ``running, but`` and what people should know, or what is wrong."""
        states = {}
        for loop in self._loops:
            state, note = loop.stopped() or self._states.get(loop.name, "not started"), loop.note()
            states[loop.name] = f"{state}, but {note}" if note and state == RUNNING else state
        return states

    async def drain(self, timeout_seconds: float) -> None:
        """Take no more work, finish what runs, within the time given."""
        self._is_draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        cut = await asyncio.gather(*(loop.drain(timeout_seconds) for loop in self._loops))
        log.info("worker.drained", cut_short=sum(cut))

    def _start(self, loop: Loop) -> None:
        if not self._is_draining:
            task = asyncio.create_task(self._keep(loop), name=loop.name)
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, loop))

    def _ended(self, loop: Loop, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._is_draining:
            # Cancelled by a stranger's mistake. Not caught where it is raised, and started again only
            # after a while: where everything is cancelled, as at the end of the program, it must end.
            self._note_crash(loop, asyncio.CancelledError())
            asyncio.get_running_loop().call_later(self._restart_seconds, self._start, loop)

    async def _keep(self, loop: Loop) -> None:
        while True:
            self._states[loop.name] = RUNNING
            try:
                await loop.loop()
            except Unavailable as exc:
                self._states[loop.name] = f"waiting: {exc}"
            except Exception as exc:  # noqa: BLE001 - a loop must survive what nobody foresaw
                self._note_crash(loop, exc)
            await asyncio.sleep(self._restart_seconds)

    def _note_crash(self, loop: Loop, exc: BaseException) -> None:
        self._states[loop.name] = f"restarting after {type(exc).__name__}"
        self._count_restart(loop.name)
        log.error("loop.crashed", loop=loop.name, error=type(exc).__name__, exc_info=exc)
