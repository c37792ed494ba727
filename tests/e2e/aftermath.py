"""A burst of callbacks that its service does not outlive, and what lies on the disk afterwards."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import httpx2

from receiver.testing import sample_callback
from tests.e2e.service import Receiver


def temporary_files(service: Receiver) -> list[Path]:
    folders = (service.data / "incoming", service.data / "assets/.incoming")
    return [path for folder in folders for path in folder.glob("*")]


def stored_files(service: Receiver) -> list[bytes]:
    return [path.read_bytes() for path in (service.data / "assets").rglob("*.png")]


def recorded(service: Receiver) -> set[str]:
    """Every task that a delivery in the file names, read once the service is gone."""
    with closing(sqlite3.connect(service.data / "receiver.db")) as connection:
        return {row[0] for row in connection.execute("SELECT task_id FROM deliveries")}


async def burst(
    service: Receiver, end: Callable[[], Awaitable[object]], *, after: int
) -> tuple[set[str], list[int]]:
    """Callbacks from many senders until nobody listens; ``end`` is called after so many answers.

    The tasks that a 200 was seen for, and every other status.
    """
    acknowledged: set[str] = set()
    refusals: list[int] = []
    path = service.callback_path()
    enough = asyncio.Event()

    async def send(sender: int) -> None:
        for number in range(100_000):
            task_id = f"task-{sender}-{number}"
            answer = await service.http.post(path, content=sample_callback("vidgo", task_id))
            if answer.status_code == 200:
                acknowledged.add(task_id)
            else:
                refusals.append(answer.status_code)
            if len(acknowledged) >= after:
                enough.set()

    senders = [asyncio.create_task(send(number)) for number in range(20)]
    async with asyncio.timeout(30):
        await enough.wait()
        await end()
        ends = await asyncio.gather(*senders, return_exceptions=True)
    assert all(isinstance(each, httpx2.TransportError) for each in ends), ends
    return acknowledged, refusals
