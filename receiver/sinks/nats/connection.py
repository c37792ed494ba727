"""One connection to a NATS server: requests, each with its own reply, all told at once when it ends."""

import asyncio
import itertools
from contextlib import suppress
from math import ceil
from typing import Any, Self

from nats import errors
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg

from receiver.sinks.nats.access import Access, read_credentials

PING_SECONDS = 10  # a connection on which two of these get no answer has ended
CLOSE_SECONDS = 1.0

_NO_RESPONDERS = "503"
_HEAD = len(b"NATS/1.0\r\n\r\n")
_LINE = len(b": \r\n")


class NoTlsError(errors.Error):
    """The server wants no TLS, and the URL does."""


class RefusedError(errors.Error):
    """Our user may not publish to this subject, or not read replies."""


class Connection:
    """Open until ``is_over``; it is not opened anew: what was under way is then the sender's to repeat.

    So nothing that was given up is sent later, as the driver would when it reconnects by itself.
    """

    def __init__(self, access: Access) -> None:
        self._end_reason: errors.Error | None = None
        self._access = access
        self._credentials = access.creds and RawCredentials(read_credentials(access.creds))
        self._client = _Client()
        self._is_open = False
        self._inbox = ""
        self._numbers = itertools.count()
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg | errors.Error]]] = {}

    @property
    def is_over(self) -> bool:
        return self._end_reason is not None

    @classmethod
    async def open(cls, host: str, access: Access, seconds: float) -> Self:
        """Connect to one host. Raises the driver's errors, OSError, ValueError."""
        connection = cls(access)
        try:
            await connection._connect(host, seconds)
        except BaseException:
            await connection.aclose()
            raise
        return connection

    async def request(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        """Send a message, and wait for the first reply to it. Raises the driver's errors."""
        if self._end_reason is not None:
            raise self._end_reason
        head = sum(len(name) + len(value.encode()) + _LINE for name, value in (headers or {}).items())
        # The driver counts the body alone, and the server ends the connection with all that is under way.
        if _HEAD + head + len(body) > self._client.max_payload:
            raise errors.MaxPayloadError
        reply = f"{self._inbox}.{next(self._numbers)}"
        replied = asyncio.get_running_loop().create_future()
        self._waiting[reply] = (subject, replied)
        try:
            await self._client.publish(subject, body, reply, headers)
            answer: Msg | errors.Error = await replied
        finally:
            del self._waiting[reply]
        if isinstance(answer, errors.Error):
            raise answer
        if not answer.data and (answer.headers or {}).get("Status") == _NO_RESPONDERS:
            raise errors.NoRespondersError
        return answer.data

    async def aclose(self) -> None:
        """Let go of it, in a second at most: what it has not sent yet may never be taken."""
        self._end()
        with suppress(errors.Error, OSError):  # a TimeoutError is one
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.close()

    async def _connect(self, host: str, seconds: float) -> None:
        access = self._access
        is_token = access.user is not None and access.password is None
        await self._client.connect(
            [f"nats://{host}"],
            name="receiver",
            error_cb=self._on_error,
            closed_cb=self._on_close,
            allow_reconnect=False,
            pending_size=0,  # nothing is kept for later
            ping_interval=PING_SECONDS,
            connect_timeout=ceil(seconds),
            tls=access.tls,
            # Asked for when TLS is up, if it will be.
            user=None if is_token else self._guarded(access.user),
            password=self._guarded(access.password),
            token=self._guarded(access.user) if is_token else None,
            user_credentials=self._credentials,
        )
        self._check_tls()
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_reply)
        self._is_open = True

    def _guarded(self, secret: str | None) -> Any:
        def tell() -> str | None:
            self._check_tls()
            return secret

        return None if secret is None else tell

    def _check_tls(self) -> None:
        # The driver goes by what the server says, whatever the scheme is: anybody between could say so.
        if self._access.needs_tls and not self._client.is_encrypted:
            raise NoTlsError

    async def _on_reply(self, message: Msg) -> None:
        self._settle(message.subject, message)

    async def _on_error(self, exc: Exception) -> None:
        if not self._is_open:
            raise exc  # else the driver would try again for ever
        text = str(exc)  # in small letters, as the driver hands it on
        if "permissions violation for subscription" in text:
            self._end(RefusedError())  # nobody would hear of a reply
        elif "permissions violation" in text:
            for reply, (subject, _) in list(self._waiting.items()):
                if f'"{subject.lower()}"' in text:
                    self._settle(reply, RefusedError())
        elif isinstance(exc, (errors.StaleConnectionError, OSError)):
            self._end()

    async def _on_close(self) -> None:
        self._end()

    def _end(self, reason: errors.Error | None = None) -> None:
        self._end_reason = self._end_reason or reason or errors.ConnectionClosedError()
        for reply in list(self._waiting):
            self._settle(reply, self._end_reason)

    def _settle(self, reply: str, answer: Msg | errors.Error) -> None:
        _, replied = self._waiting.get(reply, ("", None))
        if replied is not None and not replied.done():
            replied.set_result(answer)


class _Client(Client):
    """One that notes whether TLS was begun."""

    is_encrypted = False

    @property
    def ssl_context(self) -> Any:
        self.is_encrypted = True  # it is asked for at the handshake, and nothing is sent before that is done
        return super().ssl_context
