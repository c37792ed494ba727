"""One request on a connection that nobody else uses, and what comes back.

A pool would find, queue, lock and trace a connection that serves once, for nothing.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import h11
import httpcore2

from receiver.fetching.heads import MAX_HEAD_BYTES, TidyStream

READ_BYTES = 64 * 1024  # at once, of a body

Body = bytes | AsyncIterator[bytes]


class Answer:
    """An answer whose head is here; its body is still to come, undecoded. Whoever asked closes the stream."""

    def __init__(
        self,
        head: h11.Response | h11.InformationalResponse,
        connection: h11.Connection,
        stream: TidyStream,
        read_seconds: float | None,
    ) -> None:
        self.status = head.status_code
        self.headers: list[tuple[bytes, bytes]] = head.headers.raw_items()
        self.stream = stream
        self._connection = connection
        self._read_seconds = read_seconds

    @property
    def is_reusable(self) -> bool:
        """Whether both sides have said all, and agree that another request may follow."""
        ends = self._connection.our_state, self._connection.their_state
        # What comes behind an answer belongs to none that was asked for.
        return ends == (h11.DONE, h11.DONE) and not (
            self._connection.trailing_data[0] or self.stream.has_rest
        )

    async def parts(self) -> AsyncGenerator[bytes]:
        """The body, as it comes."""
        while True:
            event = await _next_event(self._connection, self.stream, self._read_seconds)
            if type(event) is not h11.Data:  # its end
                return
            yield bytes(event.data)


async def ask(stream: TidyStream, request: h11.Request, body: Body, read_seconds: float | None) -> Answer:
    """Send the request; its answer, once that has a head.

    Raises h11.ProtocolError where that is no HTTP, and what reading the stream raises.
    """
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    with suppress(httpcore2.WriteError):  # some hosts answer a request, and close, before they have all of it
        if isinstance(body, bytes):
            events = request, h11.Data(body), h11.EndOfMessage()
            await stream.write(b"".join(connection.send(event) or b"" for event in events))
        else:
            await _send_parts(stream, connection, request, body)
    while True:
        head = await _next_event(connection, stream, read_seconds)
        # What is only on its way (1xx) has no say, but for a change to what we do not speak.
        if type(head) is h11.Response or getattr(head, "status_code", None) == 101:
            return Answer(head, connection, stream, read_seconds)


async def _send_parts(
    stream: TidyStream, connection: h11.Connection, request: h11.Request, parts: AsyncIterator[bytes]
) -> None:
    """Send a body as it comes, and as fast as it is taken."""
    await stream.write(connection.send(request) or b"")
    async for part in parts:
        for piece in connection.send_with_data_passthrough(h11.Data(part)) or ():
            await stream.write(piece)
    await stream.write(connection.send(h11.EndOfMessage()) or b"")


async def _next_event(connection: h11.Connection, stream: TidyStream, read_seconds: float | None) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await stream.read(READ_BYTES, read_seconds))
    return event
