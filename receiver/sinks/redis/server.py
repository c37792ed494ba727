"""A Redis server that a sink sends to: its URL, its connections, one deadline for all that is asked of it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from receiver.errors import Unavailable
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.answers import failure

CONNECTIONS = 16
DEDUPE_SECONDS = 7 * 86_400  # longer than retries go on, so that none of them is told twice
MOST_DEDUPE_SECONDS = 10 * 365 * 86_400
TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs")


class LiveConnection(Connection):
    """The driver's connection, but nothing is written once it is known to be lost.

    asyncio's own loop (where there is no uvloop) of Python 3.12, and of 3.13 and 3.14 as released until
    October 2025, keeps waiting to do such a write, by the number of a socket that is closed by then; who
    connects next is given that number, and never told of being connected (cpython issue 136234). So a server
    that ends a connection could cost the next publish all of its time. TLS is not concerned: it writes in
    another way.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if self._writer is not None and self._writer.is_closing():
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError("the server ended the connection")
        await super().send_packed_command(command, check_health)


class RedisServer:
    """Where commands go. ``needs`` says which commands and keys our user needs there."""

    def __init__(self, client: Redis, *, needs: str, timeout_seconds: float) -> None:
        self.client = client
        self._needs = needs
        self._timeout_seconds = timeout_seconds
        # Bounded here and not by the driver's blocking pool: a publish that is cancelled while it gives
        # its connection back would take that place out of the pool for good.
        self._places = asyncio.Semaphore(CONNECTIONS)

    @classmethod
    def from_url(cls, url: SinkUrl, options: PluginOptions, *, form: str, needs: str) -> Self:
        """Of a URL whose scheme ends in ``redis`` or ``rediss``; ``form`` shows how to write it.

        Its path is the number of a database. For TLS it may have ``TLS_OPTIONS``. Raises Misconfigured.
        """
        # The driver passes over a database that is not a number, and would write to number 0.
        if not url.host or not (url.path.strip("/") or "0").isdecimal():
            raise url.wrong(f"write {form}")
        client = Redis.from_pool(_pool(url, options))
        return cls(client, needs=needs, timeout_seconds=options.timeout_seconds)

    @asynccontextmanager
    async def asked(self, give_up_at: float | None = None) -> AsyncIterator[Redis]:
        """Take a place, set one deadline for all, and put the driver's errors in our words."""
        try:
            async with asyncio.timeout_at(give_up_at or self.give_up_at()), self._places:
                yield self.client
        except (exceptions.RedisError, OSError) as exc:  # the deadline's TimeoutError is an OSError
            raise self.failure(exc) from exc

    def give_up_at(self) -> float:
        """The deadline of what begins now, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout_seconds

    def refusal(self, answer: str) -> Unavailable:
        """In our words, what a script was told when it tried something."""
        return self.failure(exceptions.ResponseError(answer))

    def failure(self, exc: exceptions.RedisError | OSError) -> Unavailable:
        """An error of the driver in our words."""
        return failure(exc, self._needs)

    async def aclose(self) -> None:
        await self.client.aclose(close_connection_pool=True)


def dedupe_seconds(url: SinkUrl) -> int:
    """For how long repeats are told apart. Raises Misconfigured."""
    return url.whole_number("dedupe_seconds", default=DEDUPE_SECONDS, least=1, most=MOST_DEDUPE_SECONDS)


def _pool(url: SinkUrl, options: PluginOptions) -> ConnectionPool:
    tls: dict[str, Any] = {key: value for key, value in url.options.items() if key in TLS_OPTIONS}
    scheme = url.scheme.rpartition("+")[2]
    if tls and scheme != "rediss":
        raise url.wrong("ssl_ options need a rediss:// URL")
    if tls.get("ssl_cert_reqs", "none") not in ("none", "optional", "required"):
        raise url.wrong("ssl_cert_reqs must be none, optional or required")
    if (authorities := url.authorities(options.data_dir)) is not None:
        tls["ssl_ca_certs"] = str(authorities)
    return ConnectionPool.from_url(
        # Without the query, in which the driver would look for options of its own.
        scheme + url.location.removeprefix(url.scheme),
        connection_class=LiveConnection,  # for rediss the driver puts its own in this place
        max_connections=10_000,  # bounded by the server's places
        protocol=2,  # also spoken by servers before Redis 6, and nothing here needs more
        # There is one deadline for all of it. The driver's own for a write goes through wait_for,
        # which until Python 3.12 can swallow our cancellation, and the wait would be twice as long.
        socket_timeout=None,
        socket_connect_timeout=options.timeout_seconds,
        socket_keepalive=True,
        # Once more on a connection that turns out dead, as all do after a server's restart: what is sent
        # adds nothing twice. Not after a timeout, which has used up the time there is.
        retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        **tls,
    )
