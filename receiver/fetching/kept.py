"""Connections to one host that are kept for the next request; the one that was used last is used next.

The HTTP library's own pool looks at all of them, before each request and behind it, and its client turns each
request and answer into objects of its own, twice. At 32 requests at once that costs several times what the
exchange does.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import h11
import httpcore2
import httpx2

from receiver.fetching.client import as_the_clients_own, authorities
from receiver.fetching.connection import dial_by_name
from receiver.fetching.exchange import Answer, Body, ask
from receiver.fetching.heads import TidyStream


class KeptConnections:
    """At most ``most`` connections to a URL's host, which may be any; beyond it a request waits for one.

    One that was idle for more than ``idle_seconds`` is not used again, nor one that its host has closed.
    """

    def __init__(self, url: httpx2.URL, *, most: int, idle_seconds: float, connect_seconds: float) -> None:
        self._url = url
        self._idle_seconds = idle_seconds
        self._connect_seconds = connect_seconds
        self._places = asyncio.Semaphore(most)
        self._idle: deque[tuple[float, TidyStream]] = deque()  # and since when

    @asynccontextmanager
    async def ask(
        self, request: h11.Request, body: Body, leaves: Callable[[], None]
    ) -> AsyncIterator[Answer]:
        """Send a request once, and hand out the answer, its body still to come, undecoded.

        ``leaves`` is called right before the first byte is written. Whatever goes wrong on the wire until the
        block is left is raised as the HTTP client's own errors, as h11.ProtocolError or as OSError.
        """
        with as_the_clients_own():
            await self._take_place()
            stream = answer = None
            try:
                stream = await self._recent() or await self._connect()
                leaves()
                answer = await ask(stream, request, body, None)
                yield answer
            finally:
                self._places.release()
                if answer is not None and answer.is_reusable:
                    answer.stream.socket.watch()
                    self._idle.append((time.monotonic(), answer.stream))
                elif stream is not None:
                    await stream.aclose()

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop()[1].aclose()

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._connect_seconds):
                await self._places.acquire()
        except TimeoutError as exc:
            raise httpcore2.PoolTimeout from exc

    async def _recent(self) -> TidyStream | None:
        while self._idle and time.monotonic() > self._idle[0][0] + self._idle_seconds:
            await self._idle.popleft()[1].aclose()
        while self._idle:
            _, stream = self._idle.pop()
            if not stream.get_extra_info("is_readable"):  # nobody asked: its host has closed it
                return stream
            await stream.aclose()
        return None

    async def _connect(self) -> TidyStream:
        host, seconds = self._url.raw_host.decode("ascii"), self._connect_seconds
        tls = await asyncio.to_thread(authorities, strict=False) if self._url.scheme == "https" else None
        stream = TidyStream(await dial_by_name(host, self._url.port or (443 if tls else 80), seconds))
        if tls is not None:
            stream = await stream.start_tls(tls, host, seconds)
        stream.socket.watch()
        return stream
