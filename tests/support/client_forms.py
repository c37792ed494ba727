"""The client's two forms behind one face, so that one suite asks both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from receiver.client import Asset, AsyncReceiver, Receiver, Submission, Task, TaskSummary


class InThread:
    """A ``Receiver``, called as an ``AsyncReceiver`` is: each call in a thread."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def reserve(self, *args: Any, **more: Any) -> Submission:
        return await asyncio.to_thread(self._receiver.reserve, *args, **more)

    @asynccontextmanager
    async def submission(self, *args: Any, **more: Any) -> AsyncIterator[Submission]:
        manager = self._receiver.submission(*args, **more)
        submission = await asyncio.to_thread(manager.__enter__)
        try:
            yield submission
        except Exception as exc:
            await asyncio.to_thread(manager.__exit__, type(exc), exc, exc.__traceback__)
            raise
        await asyncio.to_thread(manager.__exit__, None, None, None)

    async def track(self, *args: Any, **more: Any) -> Submission:
        return await asyncio.to_thread(self._receiver.track, *args, **more)

    async def bind(self, submission: Submission, task_id: str) -> None:
        await asyncio.to_thread(self._receiver.bind, submission, task_id)

    async def withdraw(self, submission: Submission) -> None:
        await asyncio.to_thread(self._receiver.withdraw, submission)

    async def task(self, provider: str, task_id: str) -> Task:
        return await asyncio.to_thread(self._receiver.task, provider, task_id)

    async def wait(self, *args: Any, **more: Any) -> Task:
        return await asyncio.to_thread(self._receiver.wait, *args, **more)

    async def tasks(self, **filter_: str) -> AsyncIterator[TaskSummary]:
        for row in await asyncio.to_thread(lambda: [*self._receiver.tasks(**filter_)]):
            yield row

    async def download(self, asset: Asset, path: Path) -> None:
        await asyncio.to_thread(self._receiver.download, asset, path)


Client = AsyncReceiver | InThread


@asynccontextmanager
async def connected(form: str, url: str, token: str, timeout_seconds: float = 10.0) -> AsyncIterator[Client]:
    """One of the two forms, ``sync`` or ``async``, until left."""
    if form == "async":
        async with AsyncReceiver(url, token, timeout=timeout_seconds) as receiver:
            yield receiver
    else:
        with Receiver(url, token, timeout=timeout_seconds) as receiver:
            yield InThread(receiver)
