"""A server protocol that gives up on connections whose request never comes."""

import asyncio

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
        super().connection_made(transport)
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
