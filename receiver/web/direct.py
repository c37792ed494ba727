"""Callbacks that come whole and plain, answered on the HTTP protocol itself: no scope, cycle or app around.

Everything else takes the ordinary way, and so does a callback as soon as anything about it is unusual: its
framing, its path, its server. What a callback is answered is decided in ``CallbackDoor`` for both.

Of 72 us of the loop's time for each callback it saves 9 under ``wrk`` with 64 connections, and 13 of 79 with
256; without sockets 3 to 20 of 44 to 74 (``tests.bench.record``, by turns, on two busy cores).
"""

import asyncio
import re
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from receiver.urls import CALLBACKS
from receiver.web import problems
from receiver.web.callbacks import CallbackDoor, CallbackRequest, Headers
from receiver.web.limits import BodyReader

# What changes how a body is read, or what is answered before it is.
UNUSUAL_HEADERS = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})

# Nothing encoded, no query, no host: a path that means what it says.
_PLAIN_PATH = re.compile(rb"/[\w./~-]+")

log = structlog.get_logger()


class DirectDoor:
    """The way to ``CallbackDoor`` for a server's connections; the app that is served offers it.

    ``from_root`` takes from a path what a public URL has in front of ours.
    """

    def __init__(self, callbacks: CallbackDoor, from_root: Callable[[str], str]) -> None:
        self.callbacks = callbacks
        self.max_bytes = callbacks.max_bytes
        self._from_root = from_root

    def path_of(self, url: bytes) -> str | None:
        """The path of a callback, from our root; None for what is not plainly one."""
        if not _PLAIN_PATH.fullmatch(url):
            return None
        path = self._from_root(url.decode("ascii"))
        return path if path.startswith(CALLBACKS) else None


class DirectExchange:
    """One callback and its answer, in the place of uvicorn's cycle: the protocol looks at what both have."""

    more_body = False
    message_event = asyncio.Event()  # nobody waits for it, as nothing is still to come

    __slots__ = (
        "_body",
        "_door",
        "_headers",
        "_path",
        "_protocol",
        "disconnected",
        "keep_alive",
        "response_complete",
        "response_started",
    )

    def __init__(
        self, protocol: HttpToolsProtocol, door: DirectDoor, path: str, headers: Headers, body: bytes
    ) -> None:
        self._protocol = protocol
        self._door = door
        self._path = path
        self._headers = headers
        self._body = body
        self.keep_alive = protocol.parser.should_keep_alive()
        self.disconnected = self.response_started = self.response_complete = False

    def start(self) -> None:
        """Answer in a task that a stop waits for, as for those of cycles."""
        tasks = self._protocol.tasks
        task = self._protocol.loop.create_task(self._run())
        task.add_done_callback(tasks.discard)
        tasks.add(task)

    async def _run(self) -> None:
        request = CallbackRequest(self._path, self._headers, method="POST", is_plain=True)
        try:
            await self._door.callbacks.exchange(request, self._read, self._answer)
        except asyncio.CancelledError:  # the server stops and waits no longer
            stopping = problems.stopping()
            await self._answer(stopping.status_code, stopping.raw_headers, bytes(stopping.body))
        except Exception:
            log.exception("request.failed", method="POST", route=CALLBACKS)
            self._protocol.transport.close()
        finally:  # a connection may stay idle for long, and hold this
            del self._protocol, self._headers, self._body

    async def _read(self, place: BodyReader) -> bytes:
        if self.disconnected:
            raise ClientDisconnect
        place.hold(len(self._body))
        return self._body

    async def _answer(self, status: int, headers: Headers, body: bytes) -> None:
        protocol = self._protocol
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        if self.disconnected or self.response_started:
            return
        self.response_started = True
        head = [STATUS_LINE[status]]
        has_close = False
        for name, value in (*protocol.server_state.default_headers, *headers):
            head.append(b"%s: %s\r\n" % (name, value))
            has_close = has_close or name == b"connection"  # which we send only to close
        if has_close:
            self.keep_alive = False
        elif not self.keep_alive:
            head.append(b"connection: close\r\n")
        protocol.transport.write(b"".join((*head, b"\r\n", body)))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
