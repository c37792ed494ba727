"""The clients: a guarded one for links from callbacks, a plain one for configured addresses.

The guarded one resolves a name at connect time, judges every answer, and dials a judged address, so a
name that changes its mind in between (DNS rebinding) gains nothing. TLS server name, certificate and
Host stay on the name.
"""

import asyncio
import functools
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, suppress

import h11
import httpcore2
import httpx2

from receiver import __version__
from receiver.errors import FetchFailed, tls_words, with_words
from receiver.fetching.addresses import (
    Network,
    Standing,
    Target,
    admit,
    bad_url,
    check_url,
    destination,
    is_literal,
)
from receiver.fetching.connection import SocketStream, dial_directly
from receiver.fetching.exchange import Answer, ask
from receiver.fetching.heads import TidyStream
from receiver.models import Outcome

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Ask = Callable[[str, int], list[str]]
Dial = Callable[[str, int, float], Awaitable[SocketStream]]
IsOurs = Callable[[str], bool]

MAX_LOOKUPS = 16  # threads that a dead resolver can hold
MAX_ADDRESSES = 64  # more answers than any honest name has
MAX_DIALS = 4  # of them are tried before the host counts as down
USER_AGENT = f"receiver/{__version__}"

_HEADERS = (
    ("User-Agent", USER_AGENT),
    ("Accept", "*/*"),
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)


class GuardedClient:
    """Fetches links from callbacks: GET only, HTTP/1.1, no redirects, cookies, credentials or proxies.

    No connection is kept for a second request: each name is resolved and judged anew, and leftovers of one
    response cannot be taken for the next. ``resolve`` and ``dial`` reach the network, ``is_ours`` knows this
    machine's own addresses, ``tls`` replaces the system's certificate authorities. Its opener closes it.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each a thing of its own
        self,
        *,
        opened: Sequence[Network] = (),
        resolve_seconds: float = 5.0,
        connect_seconds: float = 10.0,
        read_seconds: float = 30.0,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
        dial: Dial | None = None,
        is_ours: IsOurs | None = None,
    ) -> None:
        self._opened = tuple(opened)
        self.read_seconds = read_seconds
        self._connect_seconds = connect_seconds
        self._tls = _strict(tls) if tls else None  # None: nobody was asked by https so far
        self._dialler = _GuardedDialler(
            self._opened,
            resolve_seconds,
            resolve or SystemResolver(),
            dial or dial_directly,
            is_ours or is_our_address,
        )
        self._streams: set[TidyStream] = set()  # of what is under way

    def check(self, url: str, hosts: Sequence[str] = ()) -> Target:
        """``check_url`` with this client's opened networks."""
        return check_url(url, opened=self._opened, hosts=hosts)

    def get(self, target: Target) -> AbstractAsyncContextManager[Answer]:
        """Send the request and hand out the answer, its body still to come, undecoded.

        Whatever goes wrong on the wire until the block is left is raised as FetchFailed.
        """
        return self._asked("GET", target, _HEADERS, b"")

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body; the status of the answer, of which nothing else is read. Raises FetchFailed.

        A redirect is followed by nobody.
        """
        own = {"User-Agent": USER_AGENT, "Content-Length": str(len(body))}
        async with self._asked("POST", target, tuple({**own, **headers}.items()), body) as answer:
            return answer.status

    @asynccontextmanager
    async def _asked(
        self, method: str, target: Target, headers: Sequence[tuple[str, str]], body: bytes
    ) -> AsyncIterator[Answer]:
        try:
            request = h11.Request(
                method=method, target=target.path, headers=[("Host", target.authority), *headers]
            )
            async with self._connected(target) as stream:
                yield await ask(stream, request, body, self.read_seconds)
        except httpcore2.TimeoutException as exc:
            raise FetchFailed(Outcome.TIMEOUT, "the host did not answer in time") from exc
        except httpcore2.ConnectError as exc:
            # A failed handshake is one, too, and says so by its argument.
            if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in exc.args):
                raise _tls_failed(exc, "the host's certificate is not accepted") from exc
            if any(isinstance(cause, ssl.SSLError) for cause in exc.args):
                raise _tls_failed(exc, "the host does not speak TLS as it should") from exc
            raise FetchFailed(Outcome.CONNECT_FAILED, "the host took no connection") from exc
        except ssl.SSLError as exc:
            raise _tls_failed(exc, "the encrypted connection failed") from exc
        except (h11.LocalProtocolError, UnicodeError) as exc:
            raise bad_url("it makes no valid request") from exc
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            h11.ProtocolError,
            OSError,
            ValueError,
        ) as exc:
            # ValueError: what a parser beneath lets through when a host sends nonsense.
            raise FetchFailed(Outcome.INTERRUPTED, "the host broke off, or sent no valid HTTP") from exc

    @asynccontextmanager
    async def _connected(self, target: Target) -> AsyncIterator[TidyStream]:
        tls = None
        if target.scheme == "https":
            tls = self._tls = self._tls or await _read_authorities()
        connection = await self._dialler.connect(target.host, target.port, self._connect_seconds)
        if tls is not None:
            connection = await connection.start_tls(tls, target.host, self._connect_seconds)
        stream = TidyStream(connection)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            await stream.aclose()

    async def aclose(self) -> None:
        """Break off what is under way."""
        for stream in tuple(self._streams):
            await stream.aclose()


def open_plain_client(*, timeout_seconds: float = 10.0) -> httpx2.AsyncClient:
    """A client for addresses that the operator configured: sinks and the providers' APIs.

    It may reach internal hosts; it follows no redirects and takes no proxy from the environment.
    """
    _hush()
    return httpx2.AsyncClient(
        transport=_PlainTransport(),
        timeout=timeout_seconds,
        trust_env=False,
        follow_redirects=False,
        headers={"User-Agent": USER_AGENT},
    )


async def _read_authorities() -> ssl.SSLContext:
    """What media hosts are checked by. Raises FetchFailed where it cannot be read."""
    try:
        return await asyncio.to_thread(authorities, strict=True)
    except OSError as exc:  # ssl.SSLError is one
        words = "this machine's certificate authorities cannot be read: see SSL_CERT_FILE"
        raise FetchFailed(Outcome.TLS_FAILED, words) from exc


@functools.cache
def authorities(*, strict: bool) -> ssl.SSLContext:
    """The system's certificate authorities: 50 ms of processor time and 3 MiB.

    So they are read once for all clients, when the first host is to be checked by them.
    """
    tls = httpx2.create_ssl_context()
    if strict:
        return _strict(tls)
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def _strict(tls: ssl.SSLContext) -> ssl.SSLContext:
    # RFC 9110, section 4.3.4: a certificate is for the names it lists as such, and its free-text common
    # name is none. OpenSSL would fall back on that.
    tls.hostname_checks_common_name = False
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def _hush() -> None:
    # The drivers log every URL at INFO and every header at DEBUG: links, tokens and keys among them.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _tls_failed(error: Exception, what: str) -> FetchFailed:
    return FetchFailed(Outcome.TLS_FAILED, with_words(what, tls_words(error)))


class SystemResolver:
    """Asks the system's resolver, in threads of its own. For use in one event loop.

    A dead resolver holds a thread far longer than anybody waits for it. With asyncio's threads, disk work
    would run short of them, and the process could not end before they do. ``ask`` is the call that blocks.
    """

    def __init__(self, ask: Ask | None = None, *, max_lookups: int = MAX_LOOKUPS) -> None:
        self._ask = ask or ask_system
        self._free = asyncio.Semaphore(max_lookups)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Every address of the host, after waiting for a free thread.

        Raises OSError or UnicodeError when there is none, FetchFailed when no thread can be started.
        Cancelled, it returns at once; its thread is free again when the system lets go of it.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        lookup = threading.Thread(
            target=self._look_up, args=(loop, answer, host, port), name="receiver-dns", daemon=True
        )
        try:
            lookup.start()
        except RuntimeError as exc:
            self._free.release()
            raise FetchFailed(Outcome.DNS_FAILED, "no thread is left to look up the host's name") from exc
        return await answer

    def _look_up(
        self, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[str]], host: str, port: int
    ) -> None:
        result: list[str] | Exception
        try:
            result = self._ask(host, port)
        except Exception as exc:  # noqa: BLE001 - it is for whoever asked
            result = exc
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._settle, answer, result)

    def _settle(self, answer: asyncio.Future[list[str]], result: list[str] | Exception) -> None:
        self._free.release()
        if answer.done():  # given up meanwhile
            return
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)


def ask_system(host: str, port: int) -> list[str]:
    """Every address the system knows, in its order of preference; blocks. Raises OSError, UnicodeError."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


def is_our_address(address: str) -> bool:
    """Whether an address is this machine's own: the system lets us bind it. Sends nothing.

    Some systems let us bind any address (``ip_nonlocal_bind``); there, no address counts as our own.
    """
    family, nobodys = (socket.AF_INET6, "2001:db8::1") if ":" in address else (socket.AF_INET, "192.0.2.1")
    return _can_bind(family, address) and not _can_bind(family, nobodys)


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


class _GuardedDialler:
    """Opens every connection of the guarded client, after judging every address it could go to."""

    def __init__(
        self,
        opened: Sequence[Network],
        resolve_seconds: float,
        resolve: Resolve,
        dial: Dial,
        is_ours: IsOurs,
    ) -> None:
        self._opened = opened
        self._resolve_seconds = resolve_seconds
        self._resolve = resolve
        self._dial = dial
        self._is_ours = is_ours

    async def connect(self, host: str, port: int, seconds: float) -> SocketStream:
        addresses = [host] if is_literal(host) else await self._look_up(host, port)
        for address in addresses:
            is_public = admit(address, host, port, self._opened) is Standing.PUBLIC
            # A public address of this machine is reached from within: past the firewall, and taken for a
            # neighbour by whatever else listens there.
            if is_public and self._is_ours(destination(address)):
                raise FetchFailed(Outcome.PRIVATE_ADDRESS, "the address is this machine's own")
        addresses = addresses[:MAX_DIALS]
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        for place, address in enumerate(addresses[:-1]):
            # A dead first address must leave the others their share of the time.
            share = (give_up_at - loop.time()) / (len(addresses) - place)
            try:
                return await self._dial(address, port, share)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._dial(addresses[-1], port, max(give_up_at - loop.time(), 0.1))

    async def _look_up(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(self._resolve_seconds):
                addresses = list(dict.fromkeys(await self._resolve(host, port)))
        except TimeoutError as exc:
            raise FetchFailed(Outcome.DNS_FAILED, "the host's name was not resolved in time") from exc
        except (OSError, UnicodeError) as exc:
            raise FetchFailed(Outcome.DNS_FAILED, "the host's name was not resolved") from exc
        if not 0 < len(addresses) <= MAX_ADDRESSES:
            raise FetchFailed(Outcome.DNS_FAILED, f"the host has {len(addresses)} addresses")
        return addresses


class PlainBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to any host, without judging its addresses."""

    def __init__(self) -> None:
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> TidyStream:
        return TidyStream(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _PlainTransport(httpx2.AsyncBaseTransport):
    """The client's own transport, but over our connection pool: the client's takes none from outside.

    The pool is made for the first request. Many services have nobody to send one to, and reading the
    certificate authorities is a tenth of a start.
    """

    def __init__(self) -> None:
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        asked = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with as_the_clients_own():
            answer = await (await self._open_pool()).handle_async_request(asked)
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_PlainBody(answer),
            extensions=answer.extensions,
        )

    async def _open_pool(self) -> httpcore2.AsyncConnectionPool:
        if self._pool is None:
            tls = await asyncio.to_thread(authorities, strict=False)
            # Another request may have been quicker. How much runs at once is for whoever leases the work: a
            # bound here would let one consumer that never answers use up the connections of all others.
            self._pool = self._pool or httpcore2.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=None,
                max_keepalive_connections=100,
                keepalive_expiry=5.0,
                network_backend=PlainBackend(),
            )
        return self._pool

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()


class _PlainBody(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with as_the_clients_own():
            async with aclosing(self._answer.aiter_stream()) as parts:
                async for part in parts:
                    yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextmanager
def as_the_clients_own() -> Iterator[None]:
    """Raise the pool's errors as the client's errors of the same names."""
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as exc:
        raise getattr(httpx2, type(exc).__name__)(str(exc)) from exc
    except httpcore2.UnsupportedProtocol as exc:
        raise httpx2.UnsupportedProtocol(str(exc)) from exc
