"""The played providers, and a note of when each of their files was fetched and each question was asked."""

import asyncio
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.simulator import SimulatorOptions, create_simulator
from tests.support.waiting import until

MINUTE_SECONDS = 60.0
KEPT_SECONDS = 60  # a connection that is idle: on a slow machine callers come back late
_BESIDE = frozenset({"", "truth", "forged", "uploads"})  # what is no provider's own


class WatchedProviders:
    """An app around theirs. Moments are ``time.monotonic``."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.fetched: defaultdict[str, list[float]] = defaultdict(list)  # "provider/task/name" -> when
        self.asked: defaultdict[str, list[float]] = defaultdict(list)  # provider -> when
        self.turned_away: Counter[str] = Counter()  # provider -> questions that were answered with 429
        self._app: ASGIApp = create_simulator(options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        place, _, rest = scope["path"].removeprefix("/").partition("/")

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(place, rest, message["status"])
            await send(message)

        await self._app(scope, receive, note)

    def _note(self, place: str, rest: str, status: int) -> None:
        if place == "media":
            if status == 200:
                self.fetched[rest].append(time.monotonic())
        elif place not in _BESIDE:
            self.asked[place].append(time.monotonic())
            self.turned_away[place] += status == 429


def most_in_a_minute(moments: Iterable[float]) -> int:
    """The most of ``moments``, which are in order, that lie within one minute, whenever it begins."""
    most, window = 0, deque[float]()
    for moment in moments:
        window.append(moment)
        while window[0] <= moment - MINUTE_SECONDS:
            window.popleft()
        most = max(most, len(window))
    return most


@asynccontextmanager
async def watched_providers(options: SimulatorOptions) -> AsyncIterator[tuple[str, WatchedProviders]]:
    """The URL below which all of them are, each under its name, and what is noted."""
    watched = WatchedProviders(options)
    config = uvicorn.Config(
        watched,
        http="h11",  # as the simulator itself is served
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEPT_SECONDS,
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        running = asyncio.create_task(server.serve([listener]))
        try:
            await until(lambda: server.started or running.done())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", watched
        finally:
            server.should_exit = True
            await running


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program around it: it would go on without its providers."""
        yield
