"""Notifications as entries of a Redis stream, each at most once per ``dedupe_key``.

    redis://[user:password@]host[:port][/database]?stream=NAME   rediss:// for TLS

An entry has the fields ``id``, ``type`` and ``event``. The stream is not trimmed: dropping what nobody has
read yet is the consumer's to decide.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from receiver.errors import Misconfigured, Unavailable, causes, tls_words, wire_outcome, with_words
from receiver.models import Notification
from receiver.options import PartOptions
from receiver.words import Outcome

CONNECTIONS = 16
DEDUPE_SECONDS = 7 * 86_400  # longer than retries go on, so that none of them is told twice

# Add an entry unless its key was seen. One script, because both must happen or neither; in this order,
# because a script that fails half-way is not undone: a key without an entry would be a lost message.
_ADD_ONCE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('XADD', KEYS[1], '*', 'id', ARGV[2], 'type', ARGV[3], 'event', ARGV[4])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
return 1
"""

# What is said of the driver's errors. The first that fits counts: a server that is still loading is a
# ConnectionError to the driver.
_ANSWERS: tuple[tuple[tuple[type[Exception], ...], Outcome, str], ...] = (
    ((TimeoutError, exceptions.TimeoutError), Outcome.TIMEOUT, "did not answer in time"),
    ((exceptions.AuthenticationError,), Outcome.REFUSED, "does not accept our user and password"),
    ((exceptions.NoPermissionError,), Outcome.REFUSED, "does not permit this to our user"),
    ((exceptions.BusyLoadingError,), Outcome.UNAVAILABLE, "is still loading its data"),
    ((exceptions.OutOfMemoryError,), Outcome.UNAVAILABLE, "is at its memory limit"),
    ((exceptions.ReadOnlyError,), Outcome.UNAVAILABLE, "is a read-only replica"),
)

_KNOWN_OPTIONS = ("stream", "dedupe_seconds", "ssl_cert_reqs", "ssl_ca_certs")


class RedisSink:
    """Adds each notification to a stream; done when the server acknowledged it.

    A repeat within ``dedupe_seconds`` (a week) adds nothing. Whatever the server answers instead of
    taking it is Unavailable, as every such answer is about the server and not about the message.
    """

    def __init__(self, client: Redis, *, stream: str, dedupe_seconds: int, timeout_seconds: float) -> None:
        self._client = client
        self._stream = stream
        self._dedupe_seconds = dedupe_seconds
        self._timeout_seconds = timeout_seconds
        # Bounded here and not by the driver's blocking pool: a publish that is cancelled while it gives
        # its connection back would take that place out of the pool for good.
        self._places = asyncio.Semaphore(CONNECTIONS)

    @classmethod
    def from_url(cls, url: str, options: PartOptions) -> Self:
        """``?stream=NAME&dedupe_seconds=N``; for rediss also ``ssl_cert_reqs`` and ``ssl_ca_certs``."""
        parts = _parts(url, options.name)
        query = _query(parts, options.name)
        pool = _pool(parts, query, options)
        return cls(
            Redis.from_pool(pool),
            stream=query.get("stream", "receiver"),
            dedupe_seconds=_whole(query.get("dedupe_seconds", str(DEDUPE_SECONDS)), options.name),
            timeout_seconds=options.timeout_seconds,
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the server has the entry, from this publish or from an earlier one."""
        async with self._translated():
            await self._client.eval(
                _ADD_ONCE,
                2,
                self._stream,
                # The braces put the key beside the stream on servers that spread keys over shards.
                f"{{{self._stream}}}:seen:{notification.dedupe_key}",
                str(self._dedupe_seconds),
                notification.event_id,
                notification.type.value,
                notification.body,
            )

    async def ping(self) -> None:
        """Prove that the server answers us and that the stream's key is free or a stream."""
        async with self._translated():
            kind = await self._client.type(self._stream)
        if kind not in (b"stream", b"none"):
            raise _wrong_type()

    async def aclose(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """A place, a deadline for all of it, and the driver's errors in our words."""
        try:
            async with asyncio.timeout(self._timeout_seconds), self._places:
                yield
        except (exceptions.RedisError, OSError) as exc:  # the deadline's TimeoutError is an OSError
            raise _failure(exc) from exc


def _parts(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("redis", "rediss") and parts.port != 0 and not parts.fragment
    except ValueError:
        known = False
    # The driver passes over a database that is not a number, and would write to number 0. Raised without
    # a cause: the library's message may repeat part of the URL, which may hold a password.
    if not known or not (parts.path.strip("/") or "0").isdecimal():
        raise Misconfigured(f"sink {name}: write redis://HOST:PORT/DATABASE?stream=NAME")
    return parts


def _query(parts: SplitResult, name: str) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(query.keys() - set(_KNOWN_OPTIONS))
    if unknown:
        raise Misconfigured(
            f"sink {name}: its URL has the unknown option {unknown[0]}; known are {', '.join(_KNOWN_OPTIONS)}"
        )
    if "" in query.values():
        raise Misconfigured(f"sink {name}: an option in its URL is empty")
    return query


def _pool(parts: SplitResult, query: dict[str, str], options: PartOptions) -> ConnectionPool:
    tls: dict[str, Any] = {key: value for key, value in query.items() if key.startswith("ssl_")}
    if tls and parts.scheme != "rediss":
        raise Misconfigured(f"sink {options.name}: ssl_ options need a rediss:// URL")
    if tls.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise Misconfigured(f"sink {options.name}: ssl_cert_reqs must be none, optional or required")
    return ConnectionPool.from_url(
        # Without the query, in which the driver would look for options of its own.
        parts._replace(query="").geturl(),
        max_connections=10_000,  # bounded by the sink
        protocol=2,  # also spoken by servers before Redis 6, and nothing here needs more
        # The sink has one deadline for all of it. The driver's own for a write goes through wait_for,
        # which until Python 3.12 can swallow our cancellation, and the wait would be twice as long.
        socket_timeout=None,
        socket_connect_timeout=options.timeout_seconds,
        socket_keepalive=True,
        # Once more on a connection that turns out dead, as all do after a server's restart: the script
        # adds nothing twice. Not after a timeout, which has used up the time there is.
        retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        **tls,
    )


def _whole(text: str, name: str) -> int:
    if text.isdecimal() and 0 < int(text) <= 10 * 365 * 86_400:
        return int(text)
    raise Misconfigured(f"sink {name}: dedupe_seconds must be a whole number above 0, below ten years")


def _failure(exc: Exception) -> Unavailable:
    for kinds, outcome, what in _ANSWERS:
        if isinstance(exc, kinds):
            return Unavailable(f"redis {what}", outcome=outcome)
    if isinstance(exc, exceptions.ResponseError):
        return _refusal(exc)
    is_refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes(exc))
    outcome = wire_outcome(exc) or (Outcome.CONNECT_FAILED if is_refused else Outcome.INTERRUPTED)
    what = with_words(f"redis could not be reached ({outcome})", tls_words(exc))
    return Unavailable(what, outcome=outcome)


def _refusal(exc: exceptions.ResponseError) -> Unavailable:
    code = str(exc).partition(" ")[0]  # the rest may repeat what was sent
    if code == "WRONGTYPE":
        return _wrong_type()
    return Unavailable(f"redis answered {code if code.isupper() else 'an error'}", outcome=Outcome.REFUSED)


def _wrong_type() -> Unavailable:
    return Unavailable(
        "the stream's key holds something that is not a stream: rename it, or choose another ?stream=",
        outcome=Outcome.REFUSED,
    )
