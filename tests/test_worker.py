"""The loops: what is due runs, what fails is survived, what runs is finished."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.testing import TurnableClock
from receiver.worker import BREATH_SECONDS, LeaseLoop, PeriodicLoop, Worker
from tests.support.waiting import until


class Shelf:
    """Work in memory, leased as a store would."""

    def __init__(self, *names: str) -> None:
        self.due = list(names)
        self.leases = 0
        self.looks = 0

    async def lease(self, now: datetime, until: datetime, limit: int) -> list[str]:
        self.leases += 1
        taken, self.due = self.due[:limit], self.due[limit:]
        return taken

    async def next_due_at(self) -> datetime | None:
        self.looks += 1
        return Clock().now() - timedelta(seconds=1) if self.due else None


def lane(
    shelf: Shelf,
    run: Callable[[str], object],
    *,
    concurrency: int = 2,
    breath_seconds: float = BREATH_SECONDS,
) -> LeaseLoop[str]:
    return LeaseLoop(
        "assets",
        lease=shelf.lease,
        run=run,  # type: ignore[arg-type]
        next_due_at=shelf.next_due_at,
        concurrency=concurrency,
        lease_seconds=30,
        clock=Clock(),
        breath_seconds=breath_seconds,
    )


async def test_everything_due_is_run_a_few_at_a_time() -> None:
    shelf = Shelf(*"abcdefg")
    done: list[str] = []
    at_once: list[int] = []
    running = 0

    async def run(name: str) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0.01)
        running -= 1
        done.append(name)

    worker = Worker([lane(shelf, run)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: len(done) == 7)
    await worker.drain(1)

    assert sorted(done) == list("abcdefg")
    assert max(at_once) == 2


@pytest.mark.usefixtures("no_fallback")
async def test_a_wake_up_starts_work_long_before_the_fallback() -> None:
    shelf = Shelf()
    done: list[str] = []

    async def run(name: str) -> None:
        done.append(name)

    worker = Worker([lane(shelf, run)], count_restart=lambda name: None)
    worker.start()
    await asyncio.sleep(0.05)
    shelf.due.append("new")
    worker.wake()
    await until(lambda: done == ["new"])
    await worker.drain(1)


async def test_a_lane_that_has_work_does_not_pause_between_its_pieces() -> None:
    shelf = Shelf(*"abcdefg")
    done: list[str] = []

    async def run(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)

    worker = Worker([lane(shelf, run, breath_seconds=3600.0)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: len(done) == 7)
    await worker.drain(1)


@pytest.mark.usefixtures("no_fallback")
async def test_an_idle_lane_looks_in_the_moment_in_which_it_is_woken() -> None:
    shelf = Shelf()
    done: list[str] = []

    async def run(name: str) -> None:
        done.append(name)

    worker = Worker([lane(shelf, run, breath_seconds=0.05)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: shelf.looks == 1)
    await asyncio.sleep(0.2)  # it has had its breath, and waits to be woken
    shelf.due.append("new")
    worker.wake()
    await until(lambda: done == ["new"])
    await worker.drain(1)


async def test_what_is_said_to_be_due_is_leased_without_a_look_until_that_was_wrong() -> None:
    shelf = Shelf()
    done: list[str] = []

    async def run(name: str) -> None:
        done.append(name)

    async def tell(*names: str) -> tuple[int, int]:
        """How often it leased, and asked when work is due, before it had what it was told of."""
        leases, looks = shelf.leases, shelf.looks
        shelf.due += names
        worker.wake(is_due=True)
        await until(lambda: (shelf.leases, shelf.looks) != (leases, looks) and not shelf.due)
        before = shelf.leases - leases, shelf.looks - looks
        await asyncio.sleep(0.1)  # now it has looked once more, and waits
        return before

    worker = Worker([lane(shelf, run, concurrency=9)], count_restart=lambda name: None)
    worker.start()
    await asyncio.sleep(0.1)

    assert await tell("a") == (1, 0)
    assert await tell("b") == (1, 0)
    assert (await tell())[0] == 1
    assert await tell("c") == (1, 1)
    assert await tell("d") == (1, 0)
    assert done == ["a", "b", "c", "d"]
    await worker.drain(1)


async def test_what_a_lease_may_have_left_is_had_at_once() -> None:
    shelf = Shelf(*"abcdefg")
    done: list[str] = []

    async def run(name: str) -> None:
        done.append(name)

    async def lease(now: datetime, until: datetime, limit: int) -> list[str]:
        return await shelf.lease(now, until, 1)

    one_by_one = LeaseLoop(
        "sink", lease=lease, run=run, next_due_at=shelf.next_due_at,
        concurrency=9, lease_seconds=30, clock=Clock(), breath_seconds=3600.0, has_more=lambda _: True,
    )  # fmt: skip
    worker = Worker([one_by_one], count_restart=lambda name: None)
    worker.start()
    await until(lambda: len(done) == 7)
    await worker.drain(1)


async def test_what_ends_at_about_the_same_time_leads_to_one_look_at_what_is_planned() -> None:
    shelf = Shelf(*"abcdef")
    ended = asyncio.Event()

    async def run(_: str) -> None:
        await ended.wait()

    worker = Worker([lane(shelf, run, concurrency=9, breath_seconds=0.05)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: shelf.looks == 2)
    await asyncio.sleep(0.2)
    ended.set()
    await until(lambda: shelf.looks == 3)
    await asyncio.sleep(0.2)
    assert shelf.looks == 3
    await worker.drain(1)


async def test_a_storm_of_wake_ups_with_nothing_due_is_one_look_in_a_while() -> None:
    shelf = Shelf()

    async def run(name: str) -> None:
        raise AssertionError(name)

    worker = Worker([lane(shelf, run, breath_seconds=3600.0)], count_restart=lambda name: None)
    worker.start()
    for _ in range(1000):
        worker.wake()
        await asyncio.sleep(0)
    assert shelf.looks == 1
    await worker.drain(1)


async def test_a_storm_of_wake_ups_while_a_lane_is_full_is_passed_over_and_nothing_is_lost() -> None:
    shelf = Shelf("a", "b")
    done: list[str] = []
    go = asyncio.Event()

    class CountingClock(Clock):
        readings = 0

        def uptime(self) -> timedelta:
            self.readings += 1
            return super().uptime()

    async def run(name: str) -> None:
        await go.wait()
        done.append(name)

    clock = CountingClock()
    full = LeaseLoop(
        "assets", lease=shelf.lease, run=run, next_due_at=shelf.next_due_at, concurrency=1,
        lease_seconds=30, clock=clock,
    )  # fmt: skip
    worker = Worker([full], count_restart=lambda name: None)
    worker.start()
    await until(lambda: shelf.leases == 1)
    before = clock.readings
    for _ in range(1000):
        worker.wake()
        await asyncio.sleep(0)
    assert clock.readings == before
    go.set()
    await until(lambda: done == ["a", "b"])
    await worker.drain(1)


async def test_a_poisonous_piece_of_work_does_not_stop_its_lane() -> None:
    shelf = Shelf("poison", "good")
    done: list[str] = []

    async def run(name: str) -> None:
        if name == "poison":
            raise KeyError(name)
        done.append(name)

    worker = Worker([lane(shelf, run, concurrency=1)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: done == ["good"])
    assert worker.status() == {"assets": "running"}
    await worker.drain(1)


async def test_a_crashed_loop_is_counted_shown_and_started_again() -> None:
    rounds = 0
    restarts: list[str] = []
    shown: list[str] = []

    async def run() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise ZeroDivisionError

    def count(name: str) -> None:
        restarts.append(name)
        shown.append(worker.status()["upkeep"])

    worker = Worker(
        [PeriodicLoop("upkeep", run=run, every_seconds=60)], count_restart=count, restart_seconds=0.05
    )
    worker.start()
    await until(lambda: rounds == 2)

    assert restarts == ["upkeep"]
    assert shown == ["restarting after ZeroDivisionError"]
    assert worker.status() == {"upkeep": "running"}
    await worker.drain(1)


async def test_a_loop_that_a_stranger_cancels_is_counted_and_started_again() -> None:
    shelf = Shelf()
    restarts: list[str] = []
    done: list[str] = []

    async def run(name: str) -> None:
        done.append(name)

    worker = Worker([lane(shelf, run)], count_restart=restarts.append, restart_seconds=0.05)
    worker.start()
    await until(lambda: worker.status() == {"assets": "running"})
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "assets")
    task.cancel()
    await until(lambda: restarts == ["assets"])
    assert worker.status() == {"assets": "restarting after CancelledError"}
    shelf.due.append("a")
    await until(lambda: done == ["a"])
    assert worker.status() == {"assets": "running"}
    await worker.drain(1)
    assert task.done()


class Plan:
    """Work that each time is planned for some seconds later by the clock, until it has run often enough."""

    def __init__(self, clock: TurnableClock, *waits_seconds: float, due_in_seconds: float = 0.0) -> None:
        self._clock = clock
        self._waits = list(waits_seconds)
        self.due_at: datetime | None = clock.now() + timedelta(seconds=due_in_seconds)
        self.leases_until: list[datetime] = []
        self.looks = 0

    async def lease(self, now: datetime, until: datetime, limit: int) -> list[str]:
        if self.due_at is None or self.due_at > now:
            return []
        self.leases_until.append(until)
        self.due_at = until
        return ["work"]

    async def next_due_at(self) -> datetime | None:
        self.looks += 1
        return self.due_at

    async def run(self, name: str) -> None:
        wait = self._waits.pop(0) if self._waits else None
        self.due_at = None if wait is None else self._clock.now() + timedelta(seconds=wait)

    def worker(self) -> Worker:
        lane = LeaseLoop(
            "sink x", lease=self.lease, run=self.run, next_due_at=self.next_due_at,
            concurrency=1, lease_seconds=30, clock=self._clock,
        )  # fmt: skip
        return Worker([lane], count_restart=lambda name: None)


async def looked(worker: Worker, planned: Plan) -> None:
    """The loop has looked at the clock and at its work since, and what was due has run."""
    for _ in range(2):
        before = planned.looks
        worker.wake()
        await until(lambda before=before: planned.looks > before)  # type: ignore[misc]
        await asyncio.sleep(0.02)


DAY_SECONDS = 86_400.0


@pytest.mark.parametrize("due_in_seconds", [-600.0, 30.0])
async def test_a_clock_set_back_by_a_day_does_not_put_off_by_a_day_what_was_planned_before(
    due_in_seconds: float,
) -> None:
    clock = TurnableClock()
    planned = Plan(clock, due_in_seconds=30.0)
    worker = planned.worker()
    worker.start()
    await looked(worker, planned)
    planned.due_at = clock.now() + timedelta(seconds=due_in_seconds)  # work that had to queue is overdue
    clock.turn(-DAY_SECONDS)
    await looked(worker, planned)
    assert len(planned.leases_until) == (due_in_seconds < 0)  # not a moment too early either
    clock.turn(31)
    await looked(worker, planned)
    assert planned.leases_until == [clock.now() + timedelta(seconds=30 if due_in_seconds > 0 else -1)]
    await worker.drain(1)


async def test_after_a_clock_was_set_back_the_next_attempts_keep_their_waits() -> None:
    clock = TurnableClock()
    planned = Plan(clock, 10.0, 3600.0, 10.0, due_in_seconds=30.0)
    worker = planned.worker()
    worker.start()
    await looked(worker, planned)
    clock.turn(-DAY_SECONDS)
    await looked(worker, planned)
    clock.turn(31)
    await looked(worker, planned)
    attempts = [1]
    for seconds in (9, 2, 3599, 2, 9, 2):
        clock.turn(seconds)
        await looked(worker, planned)
        attempts.append(len(planned.leases_until))
    assert attempts == [1, 1, 2, 2, 3, 3, 4]
    await worker.drain(1)


async def test_a_clock_set_forward_by_a_day_makes_one_attempt_early_and_no_more() -> None:
    clock = TurnableClock()
    planned = Plan(clock, *[60.0] * 100, due_in_seconds=30.0)
    worker = planned.worker()
    worker.start()
    await looked(worker, planned)
    clock.turn(DAY_SECONDS)
    await looked(worker, planned)
    await looked(worker, planned)
    assert len(planned.leases_until) == 1
    await worker.drain(1)


async def test_a_loop_waits_for_a_store_that_is_away() -> None:
    shelf = Shelf("a")
    done: list[str] = []
    restarts: list[str] = []
    away = True

    async def next_due_at() -> datetime | None:
        if away:
            raise Unavailable("the database cannot be read now")
        return await shelf.next_due_at()

    async def run(name: str) -> None:
        done.append(name)

    one = LeaseLoop(
        "assets", lease=shelf.lease, run=run, next_due_at=next_due_at,
        concurrency=1, lease_seconds=30, clock=Clock(),
    )  # fmt: skip
    worker = Worker([one], count_restart=restarts.append, restart_seconds=0.05)
    worker.start()
    await until(lambda: worker.status()["assets"] == "waiting: the database cannot be read now")
    away = False
    await until(lambda: done == ["a"])
    assert restarts == []
    await worker.drain(1)


async def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    shelf = Shelf("a", "b", "c")
    done: list[str] = []

    async def run(name: str) -> None:
        await asyncio.sleep(0.1)
        done.append(name)

    worker = Worker([lane(shelf, run, concurrency=1)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: shelf.leases == 1)
    await worker.drain(5)

    assert done == ["a"]
    assert shelf.due == ["b", "c"]


async def test_draining_cuts_short_what_takes_too_long() -> None:
    shelf = Shelf("endless")
    cancelled = asyncio.Event()

    async def run(name: str) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    worker = Worker([lane(shelf, run)], count_restart=lambda name: None)
    worker.start()
    await until(lambda: shelf.leases > 0)
    async with asyncio.timeout(5):
        await worker.drain(0.05)

    assert cancelled.is_set()


async def test_a_stopped_lane_takes_no_work_and_says_why() -> None:
    shelf = Shelf("a")

    async def run(name: str) -> None:
        raise AssertionError(name)

    stopped = LeaseLoop(
        "sink x", lease=shelf.lease, run=run, next_due_at=shelf.next_due_at, concurrency=1,
        lease_seconds=30, clock=Clock(), stopped=lambda: "it asked us to stop",
    )  # fmt: skip
    worker = Worker([stopped], count_restart=lambda name: None)
    worker.start()
    await asyncio.sleep(0.05)

    assert shelf.due == ["a"]
    assert worker.status() == {"sink x": "it asked us to stop"}
    await worker.drain(1)


async def test_a_note_shows_beside_a_loop_that_runs_and_goes_with_its_reason() -> None:
    shelf = Shelf("a", "b")
    done: list[str] = []
    trouble: str | None = "its key is refused"

    async def run(name: str) -> None:
        done.append(name)

    noted = LeaseLoop(
        "poll vidgo", lease=shelf.lease, run=run, next_due_at=shelf.next_due_at, concurrency=1,
        lease_seconds=30, clock=Clock(), note=lambda: trouble,
    )  # fmt: skip
    worker = Worker([noted], count_restart=lambda name: None)
    assert worker.status() == {"poll vidgo": "not started"}
    worker.start()
    await until(lambda: done == ["a", "b"])

    assert worker.status() == {"poll vidgo": "running, but its key is refused"}
    trouble = None
    assert worker.status() == {"poll vidgo": "running"}
    await worker.drain(1)


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("kind", ["poll vidgo", "poll", ""])
async def test_a_wake_up_reaches_every_loop_whose_name_begins_so(kind: str) -> None:
    shelves = {name: Shelf() for name in ("poll vidgo", "assets")}
    done: list[str] = []

    async def run(name: str) -> None:
        done.append(name)

    lanes = [
        LeaseLoop(
            name, lease=shelf.lease, run=run, next_due_at=shelf.next_due_at, concurrency=1,
            lease_seconds=30, clock=Clock(),
        )
        for name, shelf in shelves.items()
    ]  # fmt: skip
    worker = Worker(lanes, count_restart=lambda name: None)
    worker.start()
    await asyncio.sleep(0.05)
    for name, shelf in shelves.items():
        shelf.due.append(name)
    worker.wake(kind)
    await until(lambda: "poll vidgo" in done)
    if kind:
        await asyncio.sleep(0.05)
        assert "assets" not in done
    else:
        await until(lambda: "assets" in done)
    await worker.drain(1)


async def test_work_that_is_due_and_cannot_be_leased_is_not_asked_for_without_a_pause() -> None:
    leases = 0

    async def lease(now: datetime, until: datetime, limit: int) -> list[str]:
        nonlocal leases
        leases += 1
        worker.wake()  # a storm of wake-ups changes nothing
        return []

    async def next_due_at() -> datetime | None:
        return Clock().now() - timedelta(seconds=1)

    async def run(name: str) -> None:
        raise AssertionError(name)

    empty = LeaseLoop(
        "poll vidgo", lease=lease, run=run, next_due_at=next_due_at,
        concurrency=4, lease_seconds=30, clock=Clock(),
    )  # fmt: skip
    worker = Worker([empty], count_restart=lambda name: None)
    worker.start()
    await asyncio.sleep(0.5)
    await worker.drain(1)

    assert 1 < leases <= 11
