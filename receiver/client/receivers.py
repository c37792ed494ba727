"""The client's two forms, with ``async`` and without: each does the calls' requests, and nothing else.

No proxy of the environment is used: a backend's receiver is near it, and gets a token.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from receiver.client import calls
from receiver.client.calls import (
    Access,
    Answer,
    Fetch,
    Pause,
    Request,
    Step,
    Steps,
    Submission,
    Task,
    TaskSummary,
)
from receiver.client.errors import ReceiverError, Unavailable
from receiver.client.events import JSON, Asset

T = TypeVar("T")

_NONE: Mapping[str, JSON] = {}


class Receiver:
    """A running receiver, for code without ``async``. ``AsyncReceiver`` is the same with it.

    Where it is, and the token, come from ``RECEIVER_URL`` and ``RECEIVER_TOKEN`` unless they are given;
    ``timeout`` is in seconds, for one request. Threads may share one. Close it, or use it in a ``with``.
    """

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout: float = 10.0) -> None:
        self._access = Access.of(url, token)
        self._timeout = timeout
        self._http = httpx2.Client(timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def reserve(
        self,
        provider: str,
        owner: str,
        *,
        model: str | None = None,
        metadata: Mapping[str, JSON] = _NONE,
        key: str | None = None,
    ) -> Submission:
        """Log a task before it is ordered; the same ``key`` is the same reservation.

        Raises NotSent where that could not be done, and Rejected.
        """
        return self._do(calls.reserve(provider, owner, model, metadata, key))

    @contextmanager
    def submission(
        self,
        provider: str,
        owner: str,
        *,
        model: str | None = None,
        metadata: Mapping[str, JSON] = _NONE,
        key: str | None = None,
    ) -> Iterator[Submission]:
        """Reserve, and tell what became of the order in the block: ``bind`` or ``refused``.

        An error that leaves the block withdraws nothing, as a time-out says nothing about an order; NotSent
        alone does. Raises UnknownOutcome before the block where an order with this ``key`` may have left, and
        after it where neither was said, or where a bound task could not be told. Else as ``reserve``.
        """
        submission = self._do(calls.begin(provider, owner, model, metadata, key))
        try:
            yield submission
        except BaseException as exc:
            self._do(calls.end(submission, exc))
            raise
        self._do(calls.end(submission, None))

    def track(self, provider: str, task_id: str, owner: str, *, model: str | None = None) -> Submission:
        """Log a task after it was ordered; again changes nothing. Raises Rejected and Unavailable."""
        return self._do(calls.track(provider, task_id, owner, model))

    def bind(self, submission: Submission, task_id: str) -> None:
        """Say as which task the order of a reservation was taken. Raises UnknownOutcome and Rejected."""
        self._do(calls.bind(submission.id, task_id))
        submission.bind(task_id)

    def withdraw(self, submission: Submission) -> None:
        """Say that the order of a reservation was refused. Raises Rejected and Unavailable."""
        self._do(calls.withdraw(submission.id))

    def task(self, provider: str, task_id: str) -> Task:
        """The task as it stands. Raises Rejected and Unavailable."""
        return self._do(calls.task(provider, task_id))

    def wait(self, provider: str, task_id: str, *, timeout: float = 600) -> Task:
        """The task once it has ended, however: look at its ``type``. Raises TimeoutError and Rejected.

        A receiver that is away meanwhile is waited for.
        """
        return self._do(calls.wait(provider, task_id, timeout))

    def tasks(self, **filter: str) -> Iterator[TaskSummary]:  # noqa: A002 - the word for it
        """Tasks, the newest first, by ``state=``, ``owner=``, ``since=`` and the rest of ``GET /tasks``."""
        cursor = None
        while True:
            rows, cursor = self._do(calls.page(filter, cursor))
            yield from rows
            if cursor is None:
                return

    def download(self, asset: Asset, path: Path) -> None:
        """Write a file to ``path``: beside it first, renamed when its SHA-256 is the stored one's.

        Raises DownloadFailed, Rejected and Unavailable.
        """
        self._do(calls.download(asset, path, self._access))

    def _do(self, steps: Steps[T]) -> T:
        with closing(steps):
            try:
                step = next(steps)
                while True:
                    try:
                        answer = self._take(step)
                    except (httpx2.HTTPError, ReceiverError) as exc:
                        step = steps.throw(_expected(exc))
                    else:
                        step = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result

    def _take(self, step: Step) -> Answer | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        if isinstance(step, Fetch):
            with self._http.stream("GET", step.url, headers=step.headers) as response:
                if response.status_code != 200:
                    return Answer(response.status_code, response.read())
                for chunk in response.iter_bytes():
                    step.write(chunk)
                return Answer(200, b"")
        return _answer(self._http.request(**_arguments(self._access, step, self._timeout)))


class AsyncReceiver:
    """A running receiver; each method is as ``Receiver`` has it."""

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout: float = 10.0) -> None:
        self._access = Access.of(url, token)
        self._timeout = timeout
        self._http = httpx2.AsyncClient(timeout=timeout, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def reserve(
        self,
        provider: str,
        owner: str,
        *,
        model: str | None = None,
        metadata: Mapping[str, JSON] = _NONE,
        key: str | None = None,
    ) -> Submission:
        return await self._do(calls.reserve(provider, owner, model, metadata, key))

    @asynccontextmanager
    async def submission(
        self,
        provider: str,
        owner: str,
        *,
        model: str | None = None,
        metadata: Mapping[str, JSON] = _NONE,
        key: str | None = None,
    ) -> AsyncIterator[Submission]:
        submission = await self._do(calls.begin(provider, owner, model, metadata, key))
        try:
            yield submission
        except BaseException as exc:
            await self._do(calls.end(submission, exc))
            raise
        await self._do(calls.end(submission, None))

    async def track(self, provider: str, task_id: str, owner: str, *, model: str | None = None) -> Submission:
        return await self._do(calls.track(provider, task_id, owner, model))

    async def bind(self, submission: Submission, task_id: str) -> None:
        await self._do(calls.bind(submission.id, task_id))
        submission.bind(task_id)

    async def withdraw(self, submission: Submission) -> None:
        await self._do(calls.withdraw(submission.id))

    async def task(self, provider: str, task_id: str) -> Task:
        return await self._do(calls.task(provider, task_id))

    async def wait(self, provider: str, task_id: str, *, timeout: float = 600) -> Task:  # noqa: ASYNC109 - its name in both forms
        return await self._do(calls.wait(provider, task_id, timeout))

    async def tasks(self, **filter: str) -> AsyncIterator[TaskSummary]:  # noqa: A002 - the word for it
        cursor = None
        while True:
            rows, cursor = await self._do(calls.page(filter, cursor))
            for row in rows:
                yield row
            if cursor is None:
                return

    async def download(self, asset: Asset, path: Path) -> None:
        await self._do(calls.download(asset, path, self._access))

    async def _do(self, steps: Steps[T]) -> T:
        with closing(steps):
            try:
                step = next(steps)
                while True:
                    try:
                        answer = await self._take(step)
                    except (httpx2.HTTPError, ReceiverError) as exc:
                        step = steps.throw(_expected(exc))
                    else:
                        step = steps.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result

    async def _take(self, step: Step) -> Answer | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Fetch):
            async with self._http.stream("GET", step.url, headers=step.headers) as response:
                if response.status_code != 200:
                    return Answer(response.status_code, await response.aread())
                async for chunk in response.aiter_bytes():
                    step.write(chunk)
                return Answer(200, b"")
        return _answer(await self._http.request(**_arguments(self._access, step, self._timeout)))


def _arguments(access: Access, request: Request, seconds: float) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": f"{access.url}{request.path}",
        "params": dict(request.query),
        "json": request.document,
        "headers": access.headers,
        "timeout": httpx2.Timeout(seconds, read=seconds + request.patience),
    }


def _answer(response: httpx2.Response) -> Answer:
    return Answer(response.status_code, response.content, response.headers.get("retry-after"))


def _expected(exc: httpx2.HTTPError | ReceiverError) -> ReceiverError:
    """What a call is told of an error. One on the wire is told by its kind: its words may hold an address."""
    if isinstance(exc, ReceiverError):
        return exc
    error = Unavailable(f"the receiver did not answer ({type(exc).__name__})")
    error.__cause__ = exc
    return error
