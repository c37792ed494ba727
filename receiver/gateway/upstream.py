"""One request to a provider's API, and whether it left: the difference between unsent and unknown."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import h11
import httpx2
import msgspec

from receiver.errors import FetchFailed
from receiver.fetching.client import USER_AGENT
from receiver.fetching.codings import Unpacker, coding_of
from receiver.fetching.exchange import Answer, Body
from receiver.fetching.kept import KeptConnections
from receiver.polling.answers import unreached

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0
# A host closes idle connections without asking, and a request that goes out at that moment is lost without a
# trace. So one is used again only for as long as any host keeps it.
IDLE_SECONDS = 2.0
CONNECTIONS = 64  # to one provider
MAX_ANSWER_BYTES = 2 * 2**20

# Of the provider's headers, those that say something to a caller. What is between it and us is left out.
_PASSED_DOWN = frozenset({"content-type", "retry-after", "x-request-id", "request-id"})
_PASSED_DOWN_BEGINNINGS = ("x-ratelimit-", "ratelimit")

Headers = Sequence[tuple[str, str]]


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent; ``target`` is path and query as they go out, below the base URL."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: Body = b""
    seconds: float = ANSWER_SECONDS  # until the end of the answer


class UpstreamAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer, unpacked; ``headers`` are those that a caller gets."""

    status: int
    headers: Headers
    body: bytes

    @property
    def media_type(self) -> str | None:
        return next((value for name, value in self.headers if name == "content-type"), None)


class NoAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """There is no whole answer; ``has_left`` says whether anything may have arrived."""

    has_left: bool
    outcome: str


class Upstream:
    """One provider's API, by connections of its own. Nothing is sent twice, and no redirect followed."""

    def __init__(self, base_url: str) -> None:
        url = httpx2.URL(base_url)
        self._host = url.netloc
        self._root = url.raw_path.rstrip(b"/")
        self._connections = KeptConnections(
            url, most=CONNECTIONS, idle_seconds=IDLE_SECONDS, connect_seconds=CONNECT_SECONDS
        )

    async def aclose(self) -> None:
        await self._connections.aclose()

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer | NoAnswer:
        """Send once, and read the answer to its end. Whatever goes wrong is told, not raised."""
        departure = _Departure()
        try:
            async with asyncio.timeout(request.seconds):
                return await self._exchange(request, departure)
        except (TimeoutError, httpx2.TimeoutException):
            return NoAnswer(has_left=departure.has_left, outcome="timeout")
        except FetchFailed as exc:
            return NoAnswer(has_left=departure.has_left, outcome=exc.outcome.value)
        except (httpx2.HTTPError, h11.ProtocolError, OSError, ValueError) as exc:
            return NoAnswer(has_left=departure.has_left, outcome=unreached(exc).outcome.value)

    async def _exchange(self, request: UpstreamRequest, departure: "_Departure") -> UpstreamAnswer:
        asked = h11.Request(
            method=request.method,
            target=self._root + request.target.encode("ascii"),
            headers=self._headers(request),
        )
        async with self._connections.ask(asked, request.body, departure.leave) as answer:
            return UpstreamAnswer(
                status=answer.status,
                headers=_passed_down(answer),
                body=await _whole(answer),
            )

    def _headers(self, request: UpstreamRequest) -> list[tuple[bytes, bytes]]:
        headers = {"accept": "*/*", "user-agent": USER_AGENT, **request.headers}
        if isinstance(request.body, bytes):
            if request.body or request.method != "GET":
                headers["content-length"] = str(len(request.body))
        elif "content-length" not in headers:
            headers["transfer-encoding"] = "chunked"
        ours = (b"host", self._host), (b"accept-encoding", b"identity"), (b"connection", b"keep-alive")
        return [*ours, *((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())]


class _Departure:
    """Whether the request's first byte was about to be written.

    By the kind of an exception this could not be told: a reset comes before and after it.
    """

    def __init__(self) -> None:
        self.has_left = False

    def leave(self) -> None:
        self.has_left = True


async def _whole(answer: Answer) -> bytes:
    """The body, unpacked where it was packed though plain bytes were asked for. Raises FetchFailed."""
    labels = [
        value.decode("latin-1") for name, value in answer.headers if name.lower() == b"content-encoding"
    ]
    coding = coding_of(",".join(labels)) if labels else None
    unpacker = Unpacker(coding) if coding else None
    body = bytearray()
    async with aclosing(answer.parts()) as pieces:
        async for piece in pieces:
            for part in unpacker.feed(piece) if unpacker else (piece,):
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise h11.RemoteProtocolError("the answer is too large")
    if unpacker:
        body += unpacker.finish()
    return bytes(body)


def _passed_down(answer: Answer) -> Headers:
    named = [(name.decode("ascii").lower(), value) for name, value in answer.headers]
    return tuple(
        (name, value.decode("latin-1"))
        for name, value in named
        if name in _PASSED_DOWN or name.startswith(_PASSED_DOWN_BEGINNINGS)
    )
