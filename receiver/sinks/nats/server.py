"""NATS servers that a sink sends to: a connection to one of them, one deadline for all that is asked."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from nats import errors

from receiver.errors import Permanent, Unavailable, unreachable
from receiver.models import Outcome
from receiver.sinks.nats.access import Access, CredentialsError
from receiver.sinks.nats.connection import Connection, NoTlsError, RefusedError

_FAILURES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Outcome, str], ...] = (
    (TimeoutError, Outcome.TIMEOUT, "nats did not answer in time"),
    (
        NoTlsError,
        Outcome.TLS_FAILED,
        "nats wants no TLS there, so nothing is sent to it: the URL begins with tls://",
    ),
    (
        RefusedError,
        Outcome.REFUSED,
        "nats does not permit our user to publish there, or to subscribe to _INBOX.>",
    ),
    (
        (errors.ConnectionClosedError, errors.OutboundBufferLimitError, errors.StaleConnectionError),
        Outcome.INTERRUPTED,
        "nats ended the connection",
    ),
    (
        CredentialsError,
        Outcome.REFUSED,
        "the file that creds names in the sink's URL holds no JWT and seed of a user",
    ),
)


class NatsServer:
    """Connects once something is sent, in the background, and again when a connection has ended."""

    def __init__(self, access: Access, *, timeout_seconds: float) -> None:
        self._access = access
        self.timeout_seconds = timeout_seconds
        self._connecting: asyncio.Task[Connection] | None = None

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Connection]:
        """A connection; set one deadline for all, and put the driver's errors in our words."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                yield await self._connected()
        except (errors.Error, OSError, ValueError) as exc:  # the deadline's TimeoutError is an OSError
            raise failure(exc) from exc

    async def aclose(self) -> None:
        if (task := self._connecting) is not None:
            task.cancel()  # no harm to one that is done
            await asyncio.wait([task])
        if (connection := self._last()) is not None:
            await connection.aclose()

    async def _connected(self) -> Connection:
        task, last = self._connecting, self._last()
        if task is None or (task.done() and (last is None or last.is_over)):
            task = self._connecting = asyncio.create_task(self._connect(last))
            task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be waiting
        # Who gives up leaves it to those who come later: a host that is silent takes all the time of one.
        return await asyncio.shield(task)

    def _last(self) -> Connection | None:
        """What the last attempt came to, if it has succeeded."""
        task = self._connecting
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        return task.result()

    async def _connect(self, before: Connection | None) -> Connection:
        if before is not None:
            await before.aclose()  # what ended it here may have left it open at the server
        *others, last = random.sample(self._access.hosts, len(self._access.hosts))
        for host in others:
            with suppress(errors.Error, OSError, ValueError):
                return await Connection.open(host, self._access, self.timeout_seconds)
        return await Connection.open(last, self._access, self.timeout_seconds)


def failure(exc: Exception) -> Unavailable | Permanent:
    """An error of the driver or of the wire in our words."""
    if isinstance(exc, errors.MaxPayloadError):
        return Permanent("nats takes no message as large as this one (max_payload)")
    for kind, outcome, words in _FAILURES:
        if isinstance(exc, kind):
            return Unavailable(words, outcome=outcome)
    if isinstance(exc, OSError):
        return unreachable("nats", exc)
    if any(word in str(exc).lower() for word in ("authorization", "authentication")):
        return Unavailable("nats does not accept our user", outcome=Outcome.REFUSED)
    return Unavailable("nats refuses the connection, or is no nats")
