"""The loops: what is due runs, what fails is survived, what runs is finished."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.worker import Chore, Lane, Worker


class Shelf:
    """Work in memory, leased as a store would."""

    def __init__(self, *names: str) -> None:
        self.due = list(names)
        self.leases = 0

    async def lease(self, now: datetime, until: datetime, limit: int) -> list[str]:
        self.leases += 1
        taken, self.due = self.due[:limit], self.due[limit:]
        return taken

    async def next_due_at(self) -> datetime | None:
        return Clock().now() - timedelta(seconds=1) if self.due else None


def lane(shelf: Shelf, run: Callable[[str], object], *, concurrency: int = 2) -> Lane[str]:
    return Lane(
        "assets",
        lease=shelf.lease,
        run=run,  # type: ignore[arg-type]
        next_due_at=shelf.next_due_at,
        concurrency=concurrency,
        lease_seconds=30,
        clock=Clock(),
    )


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


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
    await until(lambda: done == ["new"], seconds=1)
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


async def test_a_crashed_loop_is_counted_shown_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.worker.RESTART_SECONDS", 0.05)
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

    worker = Worker([Chore("upkeep", run=run, every_seconds=60)], count_restart=count)
    worker.start()
    await until(lambda: rounds == 2)

    assert restarts == ["upkeep"]
    assert shown == ["restarting after ZeroDivisionError"]
    assert worker.status() == {"upkeep": "running"}
    await worker.drain(1)


async def test_a_loop_waits_for_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("receiver.worker.RESTART_SECONDS", 0.05)
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

    one = Lane(
        "assets", lease=shelf.lease, run=run, next_due_at=next_due_at,
        concurrency=1, lease_seconds=30, clock=Clock(),
    )  # fmt: skip
    worker = Worker([one], count_restart=restarts.append)
    worker.start()
    await asyncio.sleep(0.02)
    assert worker.status()["assets"] == "waiting: the database cannot be read now"
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

    stopped = Lane(
        "sink x", lease=shelf.lease, run=run, next_due_at=shelf.next_due_at, concurrency=1,
        lease_seconds=30, clock=Clock(), stopped=lambda: "it asked us to stop",
    )  # fmt: skip
    worker = Worker([stopped], count_restart=lambda name: None)
    worker.start()
    await asyncio.sleep(0.05)

    assert shelf.due == ["a"]
    assert worker.status() == {"sink x": "it asked us to stop"}
    await worker.drain(1)
