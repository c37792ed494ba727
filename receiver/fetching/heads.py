"""What comes before an answer's body, without malformed lines that decide nothing.

Many hosts send some line that is no HTTP (``X-Frame-Options : DENY``, a second status line, a name with a
blank), which browsers and curl pass over and a strict parser takes for the end of all. Where such a line
could say how long the body is, how it is packed or where to go on, it is left for the parser to refuse:
nobody should guess at that.
"""

import re
import ssl
from typing import Any

import httpcore2

from receiver.fetching.connection import SocketStream

MAX_HEAD_BYTES = 64 * 1024  # of all that comes before a body; honest hosts send a few hundred bytes
READ_BYTES = 16 * 1024  # at once, of a head; what comes behind it is copied once more

_DECIDING = (b"contentlength", b"transferencoding", b"contentencoding", b"location")
_FIELD = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\0\r\n\v\f]*")  # RFC 9112, section 5, as lenient as h11
_END = re.compile(rb"\n\r?\n")
_INTERIM = re.compile(rb"HTTP/[0-9]\.[0-9] 1(?!01)[0-9][0-9][ \r\n]")


def tidy_head(head: bytes) -> bytes:
    """A status line and the fields behind it, without those that are malformed and decide nothing."""
    status, *lines = head.split(b"\n")
    fields: list[list[bytes]] = []  # each line with those that continue it (obsolete line folding)
    for line in lines:
        if fields and line.startswith((b" ", b"\t")):
            fields[-1].append(line)
        else:
            fields.append([line])
    kept = [status]
    for field in fields:
        whole = b" ".join(line.removesuffix(b"\r") for line in field)
        is_well_formed = not whole or _FIELD.fullmatch(whole)  # the empty one is the head's end
        if is_well_formed or _may_decide(field):
            kept += field
    return b"\n".join(kept)


def _may_decide(field: list[bytes]) -> bool:
    """Whether some reader could see in it what decides; a NUL or a bare CR may hide anything."""
    for line in field:
        text = line.removesuffix(b"\r").lower()
        name, colon, _ = re.sub(rb"\A[^a-z0-9]+", b"", text).partition(b":")
        letters = re.sub(rb"[^a-z0-9]", b"", name)
        if b"\0" in text or b"\r" in text or letters in _DECIDING:
            return True
        if not colon and letters.startswith(_DECIDING):
            return True
    return False


class TidyStream(httpcore2.AsyncNetworkStream):
    """A connection whose answers have tidy heads; bodies pass through untouched, and never beside a head.

    Each request that is written begins a head. The driver bounds each interim answer (1xx), but not how
    many there are; a host that sends nothing else would keep us parsing for ever, so they all count.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._is_head = True
        self._head_bytes = 0
        self._held = bytearray()  # of a head that is not whole yet
        self._searched = 0  # so much of it holds no end

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> bytes:
        while self._is_head:
            end = _END.search(self._held, self._searched)
            if end:
                head = self._take(end.end())
                self._is_head = _INTERIM.match(head) is not None
                return tidy_head(head)
            self._searched = max(0, len(self._held) - 2)
            if self._head_bytes >= MAX_HEAD_BYTES:
                raise httpcore2.RemoteProtocolError("headers without end")
            part = await self._stream.read(READ_BYTES, timeout)
            self._head_bytes += len(part)
            self._held += part
            if not part or self._held[0] <= 0x20:  # cut short, or no HTTP: for the parser to refuse
                self._is_head = False
                return self._take(len(self._held))
        return self.take_rest() or await self._stream.read(max_bytes, timeout)

    @property
    def has_rest(self) -> bool:
        """Whether something has come that nobody has read."""
        return bool(self._held)

    def take_rest(self) -> bytes:
        """What has come of a body behind its head; the driver has seen nothing of it yet."""
        return self._take(len(self._held))

    def _take(self, length: int) -> bytes:
        taken = bytes(self._held[:length])
        del self._held[:length]
        self._searched = 0
        return taken

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> None:
        self._is_head, self._head_bytes = True, 0
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
    ) -> "TidyStream":
        return TidyStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    @property
    def socket(self) -> SocketStream:
        """The connection itself, for a reader that needs no help with a body."""
        if not isinstance(self._stream, SocketStream):
            raise TypeError("the driver opened this one")
        return self._stream

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
