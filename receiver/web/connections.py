"""A server protocol that gives up on connections whose request never comes, and answers in one piece."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 65_536
HEAD_TIMEOUT_SECONDS = 10.0


class ImpatientProtocol(HttpToolsProtocol):
    """uvicorn's own, with a deadline and a size limit for the request line and headers.

    uvicorn waits without end for the first request of a connection and for the rest of its headers,
    and keeps headers however long they are. Bodies have their limits in ``limits``; the pause between
    two requests is uvicorn's ``timeout_keep_alive``.
    """

    _head_deadline: asyncio.TimerHandle | None = None
    _head_bytes: int | None = None  # set while a head is half here

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Together(transport, self.loop))  # type: ignore[arg-type]
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._stop_deadline()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("Request line and headers are too long.")
        elif self._head_deadline is None:
            self._start_deadline()

    def _start_deadline(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


class Together:
    """A transport whose small writes of one moment leave as one packet.

    uvicorn writes head and body of an answer apart, and each would cost a system call, a packet and a
    wake-up at the other end: more than verifying a callback does.
    """

    __slots__ = ("_loop", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(b"".join(pieces))
