"""A server protocol that waits for nobody without end, and answers in one piece and in the API's words."""

import asyncio
import os
import resource
import select
from collections import deque
from collections.abc import Callable
from heapq import nsmallest
from operator import itemgetter
from typing import Any, ClassVar

import httptools
import msgspec
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.problem_types import ProblemType
from receiver.web import problems, streams
from receiver.web.direct import UNUSUAL_HEADERS, DirectDoor, DirectExchange

MAX_HEAD_BYTES = 65_536  # and of all that is neither head nor body: trailers, frames of chunks, blank lines
MAX_HEADERS = 200
LEAST_PIECE, LARGEST_PIECE = 64, 16_384  # bytes that are read at once, where no request's end is known
MOST_IN_PIECE = LEAST_PIECE // 16  # requests; the shortest has 18 bytes
LINGER_SECONDS = 2.0
MOST_CONNECTIONS = 8000
LOOK_SECONDS = 2e-5  # for each connection, between two looks at all: ten times what it takes
RESERVED_DESCRIPTORS = 256  # for the database, files, downloads, sinks and look-ups
LAST_SECONDS = 3.0  # for readers at a stop: less than the server waits before it cuts short what goes on
TELL_SECONDS = 1.0
LEAVE = "receiver.leave"  # among a scope's extensions: what gives its connection up

_TRAILERS: Any = deque(maxlen=0)  # keeps nothing
_VERSIONS = frozenset({"1.1", "1.0"})  # the parser takes a head without one for HTTP/0.9

log = structlog.get_logger()


class Patience(msgspec.Struct, kw_only=True):
    """For how many seconds others are waited for."""

    head: float = 10.0  # from the beginning of a connection, or of a request, to the end of its headers
    unread: float = 60.0  # while a reader of ours takes nothing
    # Before one gives way to a newcomer: without a request,
    idle: float = 1.0  # while some places are left,
    idle_when_full: float = 0.1  # and when none is; a request follows its connection sooner.
    body: float = 2.0  # With a request whose body is still to come.
    stuck: float = 5.0  # A reader that takes nothing.


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's own, for connections of strangers.

    The request line and headers have a deadline and a size limit, and so has the reading of answers;
    uvicorn waits for both without end. Bodies have their limits in ``limits``; the pause between two
    requests is uvicorn's ``timeout_keep_alive``. Who asks for another protocol is answered in this one,
    body and all. What is no request is refused as everything else is, and never inside the answer to
    the request before it. Nor is a request read before that is answered: uvicorn makes of a quarter of a
    megabyte, in one step and before anybody is asked who he is, fourteen thousand requests and 40 MB.

    Before there are too many, some of those that have waited longest for a request or its body, or for a
    reader that takes nothing, give way to new ones. Whoever has just come, or is asking, or is being answered
    and listens, does not; where nobody else is left, the new one goes.
    """

    patience: ClassVar[Patience] = Patience()
    most: ClassVar[int] = MOST_CONNECTIONS
    _next_look_at: ClassVar[float] = 0.0  # by the loop's clock, which all loops share

    _head_deadline: asyncio.TimerHandle | None = None
    _asked_at = 0.0  # by the loop's clock: when the newest head was whole
    _is_inside_head = False
    _bytes_beside = 0  # since a head was whole, or a piece of a body came
    _begun = 0  # requests in the piece that is parsed
    _body_left = 0  # where its length was announced
    _unread = b""  # what came behind a request that is not answered yet
    _read_deadline: asyncio.TimerHandle | None = None
    _is_refused = False
    _direct: DirectDoor | None = None
    _held_path: str | None = None  # of a callback that may be taken directly, once all of it is here

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._together = BatchedTransport(transport, self.loop, self._is_half_read, self.patience.unread)
        self._body_pieces: list[bytes] = []
        # No look beyond what is served: whoever put something around our app wants everything to pass there.
        is_usual = not (self.root_path or self.access_log or self.limit_concurrency)
        self._direct = getattr(self.app, "direct", None) if is_usual else None
        super().connection_made(self._together)  # type: ignore[arg-type]
        self._start_deadline()
        self._make_room()
        _WATCH.start(self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        super().connection_lost(exc)  # which resumes writing

    def on_message_begin(self) -> None:
        self._begun += 1
        if self._begun > MOST_IN_PIECE:
            # The parser takes lines of RTSP and ICE, too, which are not looked for where pieces are cut.
            raise ValueError("requests of another protocol")
        self._is_inside_head = True
        super().on_message_begin()
        self.scope["extensions"] = {LEAVE: self.leave}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._is_inside_head = False
        self._bytes_beside = 0
        self._stop_deadline()
        self._asked_at = self.loop.time()
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise ValueError("a head without a version")  # to the parser, which calls it an error of its own
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            # HTTP/1.0 has no chunks: what we take for a body is to a proxy the next request (RFC 9112, 6.1).
            raise ValueError("chunks in HTTP/1.0")
        size, self._body_left, is_plain = len(self.url), 0, version == "1.1"
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"content-length" and value.isdigit():
                self._body_left = int(value[-18:])  # the parser lets no more pass, and no second one
                is_plain &= len(value) <= 18
            elif name in UNUSUAL_HEADERS:
                is_plain = False
        if len(self.headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
            raise ValueError("too long a head, and here at once")
        is_plain &= self._is_idle()  # very short requests are parsed together, and answered in their order
        if is_plain and (direct := self._direct) and 0 < self._body_left <= direct.max_bytes:
            self._held_path = direct.path_of(self.url) if self.parser.get_method() == b"POST" else None
        if self._held_path is None:
            self._begin_cycle()

    def _begin_cycle(self) -> None:
        self._held_path = None
        super().on_headers_complete()
        self.headers = _TRAILERS  # none of what still comes must pass for a header

    def on_body(self, body: bytes) -> None:
        self._bytes_beside = 0
        self._body_left -= len(body)
        self._body_pieces.append(body)

    def on_message_complete(self) -> None:
        if self._held_path is not None and self._direct is not None:
            self._begin_exchange(self._direct, self._held_path)
            return
        if self._body_pieces:
            self._hand_on_body()
        super().on_message_complete()

    def _begin_exchange(self, door: DirectDoor, path: str) -> None:
        self._held_path = None
        pieces, self._body_pieces = self._body_pieces, []
        exchange = DirectExchange(self, door, path, self.headers, b"".join(pieces))
        self.headers = _TRAILERS
        self.cycle = exchange  # type: ignore[assignment]
        exchange.start()

    def _hand_on_body(self) -> None:
        """All that came of a body at once as one piece: uvicorn copies what it has for each that it gets.

        A sender of chunks of one byte would hold the loop for a tenth of a second with every read.
        """
        pieces, self._body_pieces = self._body_pieces, []
        # uvicorn adds a piece to an array, and hands on a copy of that: two new quarters of a megabyte for
        # each read of an upload. Added to no bytes a piece stays itself, and what is bytes is not copied.
        cycle: Any = self.cycle
        if not cycle.body:
            cycle.body = b""
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(b"".join(pieces))

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # the rest of what was refused is read only so that the refusal arrives
        if self._unread:
            self._unread += data
            self.flow.pause_reading()  # whoever asked for a body let it go on
            return
        self._read(data)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        unread, self._unread = self._unread, b""
        if unread and not self.transport.is_closing():
            self._read(unread, is_late=True)

    def _read(self, data: bytes, *, is_late: bool = False) -> None:
        """As far as one request; what ``is_late`` came behind one whose answer is out by now."""
        self._unset_keepalive_if_required()
        start = 0
        while start < len(data) and (self._is_idle() or self.cycle.more_body):  # none waits for its answer
            end = self._end_of_piece(data, start)
            if refusal := self._refusal_of(data[start:end]):
                self._refuse(refusal, is_late=is_late)
                return
            start = end
        if self._held_path is not None:  # the rest of its body may take its time, which has limits elsewhere
            self._begin_cycle()
        if self._body_pieces:
            self._hand_on_body()
        self._unread = data[start:]
        if self._unread:
            self.flow.pause_reading()
        # Blank lines between two requests begin no head, and yet end the pause that uvicorn allows.
        if self._head_deadline is None and (self._is_inside_head or self._is_idle()):
            self._start_deadline()

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Behind what may be the end of a request: few have ended before it, as they take so many bytes."""
        if self._body_left > 0:
            return start + self._body_left
        if not start and data.find(b" HTTP/", data.find(b" HTTP/") + 1) < 0:
            return len(data)  # no second request begins in it: one piece is the usual way, and the cheapest
        blank_line = data.find(b"\r\n\r\n", start + LEAST_PIECE - 4, start + LARGEST_PIECE)
        return blank_line + 4 if blank_line >= 0 else start + LARGEST_PIECE

    def _refusal_of(self, piece: bytes) -> str | None:
        """Have it parsed; what is wrong with it."""
        self._bytes_beside += len(piece)
        self._begun = 0
        try:
            self._feed(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # neither is the other
            return "This cannot be read as a request of HTTP 1.0 or 1.1."
        if self._bytes_beside > MAX_HEAD_BYTES or (self._is_inside_head and len(self.headers) > MAX_HEADERS):
            return "Request line and headers, or trailers, are too long."
        return None

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                raise
            # The parser takes what follows for the other protocol, and it is the body: so another one gets
            # the head again, without the wish (RFC 9110, 7.8, lets a server pass it over). This one would
            # pass over it behind a request after which the connection is to end.
            version = self.parser.get_http_version().encode()
            first = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version)
            kept = [b"%s: %s\r\n" % pair for pair in self.scope["headers"] if pair[0] != b"upgrade"]
            head = b"".join((first, *kept, b"\r\n"))
            self._begun -= 1
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(head)
            self._feed(data[upgrade.args[0] :])

    def _should_upgrade(self) -> bool:
        return True  # so that uvicorn leaves the request alone until it comes again

    def _refuse(self, reason: str, *, is_late: bool) -> None:
        """What cannot be read, as a problem document; a whole request before it is answered first.

        Behind one that is answered already it is only an end: who sends a line too many would take a second
        answer for that to his next request.
        """
        log.warning("request.malformed", reason=reason)
        cycle = self.cycle
        if not self._is_idle() and (cycle.response_started or not cycle.more_body):
            cycle.keep_alive = False
            self.flow.pause_reading()
            return
        if not self.pipeline and not is_late:  # else others are answered before, and it would seem theirs
            response = problems.closing(problems.problem(ProblemType.MALFORMED_REQUEST, reason))
            headers = [*self.server_state.default_headers, *response.raw_headers]
            lines = [b"%s: %s\r\n" % pair for pair in headers]
            self.transport.write(b"".join((b"HTTP/1.1 400 Bad Request\r\n", *lines, b"\r\n", response.body)))
        self._is_refused = True
        self.transport.close()
        if not self._is_idle():  # it reads a body that never comes whole
            cycle.disconnected = True
            cycle.message_event.set()

    def pause_writing(self) -> None:
        self._read_deadline = self.loop.call_later(self.patience.unread, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None
        super().resume_writing()

    def _make_room(self) -> None:
        most, count = most_connections(self.most), len(self.connections) + len(streams.STREAMS)
        if count <= most * 7 // 8:  # the last eighth is for those who come while others have their time
            return
        is_full = count > most
        leaving = self._longest_waiting(self.patience.idle_when_full if is_full else self.patience.idle)
        if leaving or is_full:
            _CROWD.count(self.loop, closed=len(leaving), refused=not leaving)
            for each in leaving or [self]:
                each.leave()

    def _longest_waiting(self, wait_seconds: float) -> list["BoundedHttpProtocol"]:
        now, count = self.loop.time(), len(self.connections)
        if now < self._next_look_at:
            return []
        others = (
            each for each in self.connections if each is not self and isinstance(each, BoundedHttpProtocol)
        )
        ends = ((each.wait_ends_at(wait_seconds), each) for each in others)
        waiting = [(end, each) for end, each in ends if end is not None and end <= now]
        # Some at once, or every newcomer would have all of them looked through.
        room = 1 + count // 32
        if len(waiting) < 2 * room:
            BoundedHttpProtocol._next_look_at = now + LOOK_SECONDS * count
        longest = nsmallest(min(room, (len(waiting) + 1) // 2), waiting, key=itemgetter(0))
        return [each for _, each in longest if not each.is_asking()]

    def wait_ends_at(self, wait_seconds: float) -> float | None:
        """When, by the loop's clock, it may give way; None while somebody has asked or is answered."""
        if (stuck_since := self._together.stuck_since()) is not None:
            return stuck_since + self.patience.stuck
        if self._together.is_closing():
            return self._together.closing_since + wait_seconds
        if not self._is_idle():
            is_read = not self.cycle.more_body or self.cycle.response_started
            return None if is_read else self._asked_at + self.patience.body
        if self._head_deadline is not None:
            return self._head_deadline.when() - self.patience.head + wait_seconds
        pause = self.timeout_keep_alive_task
        return pause.when() - self.timeout_keep_alive + wait_seconds if pause is not None else None

    def is_asking(self) -> bool:
        """Whether a request, or more of one, has come and was not read yet."""
        if self._together.is_closing() or not self._is_idle():
            return False  # then nothing is read, or not as a request
        unread = select.poll()
        unread.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(unread.poll(0))

    def shutdown(self) -> None:
        """At a stop: who has not taken all of his answer in a while gets no more of it.

        The server would cut it short by another answer, and wait for him to take that.
        """
        super().shutdown()
        self.loop.call_later(LAST_SECONDS, self._leave_unread)

    def _leave_unread(self) -> None:
        if self._together.stuck_since() is not None:
            self.leave()

    def leave(self) -> None:
        """Give the connection up at once."""
        self.connections.discard(self)  # it counts no more; that it is lost comes a moment later
        self.transport.abort()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_half_read(self) -> bool:
        """Whether what was answered last is perhaps still being sent."""
        if self._is_refused:
            return True
        return self.cycle is not None and self.cycle.response_complete and self.cycle.more_body

    def _start_deadline(self) -> None:
        self._head_deadline = self.loop.call_later(self.patience.head, self.transport.close)

    def _stop_deadline(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None


class ConnectionCounts:
    """Counts connections that had to go, and says so now and then."""

    def __init__(self, *, every_seconds: float = TELL_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._closed = self._refused = 0
        self._told_at = 0.0  # or to be told at, by the loop's clock

    def count(self, loop: asyncio.AbstractEventLoop, *, closed: int, refused: int) -> None:
        self._closed += closed
        self._refused += refused
        if loop.time() >= self._told_at:
            self._told_at = loop.time() + self._every_seconds
            loop.call_at(self._told_at, self._tell)

    def _tell(self) -> None:
        if not self._closed and not self._refused:
            return  # a late line before this one has told of them
        log.warning("connections.crowded", closed=self._closed, refused=self._refused)
        self._closed = self._refused = 0


class DescriptorWatch:
    """Says once when no descriptor is left, so that nobody can be accepted, and once when there are again.

    uvloop closes whoever comes then without a word.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_short = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look once a second from now on, on the first loop and on every other that follows it."""
        if self._loop is not loop:
            self._loop = loop
            self._tick(loop)

    def look(self) -> None:
        shortage = None
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as exc:
            shortage = exc.strerror
        was_short, self._is_short = self._is_short, shortage is not None
        if shortage and not was_short:
            log.error("connections.not_accepted", reason=shortage, files_sent=len(streams.STREAMS))
        elif was_short and not shortage:
            log.info("connections.accepted_again")

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        loop.call_later(TELL_SECONDS, self._tick, loop)


_CROWD = ConnectionCounts()  # one process has one limit of descriptors
_WATCH = DescriptorWatch()


def most_connections(most: int = MOST_CONNECTIONS) -> int:
    """As many as the process may have descriptors for, and still do its work, but no more than ``most``."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return most
    return min(most, limit - min(RESERVED_DESCRIPTORS, limit * 3 // 4))


def most_streams() -> int:
    """As many files as may be sent at once; each takes two descriptors, its own and its reader's."""
    return min(streams.STREAMS.most, max(1, most_connections() // 4))


class BatchedTransport:
    """A transport whose small writes of one moment leave as one packet, and that is closed with care.

    uvicorn writes head and body of an answer apart, and each would cost a system call, a packet and a
    wake-up at the other end: more than verifying a callback does.

    A socket closed while the sender is still sending is reset, and most senders then never see the
    answer that says why: so the rest is read for a moment, and thrown away.
    """

    __slots__ = (
        "_is_half_read",
        "_loop",
        "_moved_at",
        "_pieces",
        "_transport",
        "_unread_seconds",
        "_unsent",
        "closing_since",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        is_half_read: Callable[[], bool],
        unread_seconds: float,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._is_half_read = is_half_read
        self._unread_seconds = unread_seconds
        self.closing_since = 0.0  # by the loop's clock; 0: not by us
        self._pieces: list[bytes] = []
        self._unsent = 0  # when it was last looked at
        self._moved_at = 0.0

    def write(self, data: bytes) -> None:
        self._moved_at = self._loop.time()
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        if self.is_closing():
            return
        self._flush()
        self.closing_since = self._loop.time()
        if self._is_half_read():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(LINGER_SECONDS, self._end)
        else:
            self._end()

    def is_closing(self) -> bool:
        return self.closing_since > 0 or self._transport.is_closing()

    def stuck_since(self) -> float | None:
        """Since when, by the loop's clock, nothing is seen to have left; None if all has."""
        unsent = sum(map(len, self._pieces)) + self._transport.get_write_buffer_size()
        if not unsent:
            return None
        if unsent != self._unsent:
            self._unsent, self._moved_at = unsent, self._loop.time()
        return self._moved_at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _end(self) -> None:
        self._transport.close()
        if self._transport.get_write_buffer_size():  # and perhaps nobody ever reads it
            self._loop.call_later(self._unread_seconds, self._transport.abort)

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self.is_closing():
            self._transport.write(b"".join(pieces))
