"""Notifications as messages of a JetStream stream, each at most once within its window for duplicates.

    nats://[USER:PASSWORD@|TOKEN@]HOST:PORT[,HOST:PORT…]?subject=SUBJECT[&stream=STREAM]   tls:// for TLS

A message has the headers ``Nats-Msg-Id``, by which the stream drops repeats, ``Nats-Expected-Stream`` and
``content-type``. Without ``stream`` the sink asks the server which stream takes the subject.

Behaviour of servers was seen with nats-server 2.15.1 and 2.9.10, that of the driver with nats-py 2.16.0.
"""

import re
from collections.abc import Sequence
from typing import Self, TypeVar

import msgspec
from nats import errors

from receiver.batches import publish_each
from receiver.envelope import content_type
from receiver.errors import Permanent, Unavailable
from receiver.models import Notification, Outcome
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.nats.access import OPTIONS, PORT, Access
from receiver.sinks.nats.connection import Connection, RefusedError
from receiver.sinks.nats.server import NatsServer

RETRY_SPAN_SECONDS = 86_400  # how long retries go on unless a setting says otherwise

_FORM = "nats://HOST:PORT?subject=SUBJECT, or tls://…"
_API = "$JS.API.STREAM"
_TOKENS = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_STREAM_NAME = re.compile(r"[^\s.*>/\\]+")

# What a stream says instead of taking a message, by the server's err_code.
_TOO_LARGE = 10054
_OTHER_STREAM = 10060
_FULL = 10077
_NO_JETSTREAM = (10039, 10076)  # for an account, or at all


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0


class _Answer(msgspec.Struct):
    error: _Error | None = None


AnswerT = TypeVar("AnswerT", bound=_Answer)


class _PubAck(_Answer):
    stream: str = ""


class _Names(_Answer):
    streams: list[str] | None = None


class _Config(msgspec.Struct):
    retention: str = ""
    no_ack: bool = False
    duplicate_window: int = 0  # nanoseconds


class _State(msgspec.Struct):
    consumer_count: int = 0


class _Info(_Answer):
    config: _Config = msgspec.field(default_factory=_Config)
    state: _State = msgspec.field(default_factory=_State)


class NatsSink:
    """Publishes each notification; done when the stream has acknowledged it.

    What the stream answers instead is Unavailable, but for a message that is too large: Permanent. A stream
    that would not keep it (``no_ack``, or interest without a consumer) gets none.
    """

    def __init__(self, server: NatsServer, *, subject: str, stream: str | None, content_type: str) -> None:
        self._server = server
        self._subject = subject
        self._stream = stream
        self._content_type = content_type
        self._checked: tuple[Connection, str] | None = None  # a stream that keeps what it acknowledges

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``?subject=SUBJECT&stream=STREAM&creds=FILE``; for TLS also ``ssl_ca_certs=FILE``."""
        known = ("subject", "stream", *OPTIONS)
        urls = SinkUrl.read_hosts(options.name, url, form=_FORM, known=known, port=PORT)
        first = urls[0]
        if first.path.strip("/") or not all(each.host for each in urls):
            raise first.wrong(f"write {_FORM}")
        if not _TOKENS.fullmatch(first.required("subject")):
            raise first.wrong("subject must be words joined by dots, without blanks, * and >")
        if "stream" in first.options and not _STREAM_NAME.fullmatch(first.options["stream"]):
            raise first.wrong("stream is no name of a stream")
        return cls(
            NatsServer(Access.read(urls, options), timeout_seconds=options.timeout_seconds),
            subject=first.options["subject"],
            stream=first.options.get("stream"),
            content_type=content_type(options.format),
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the stream has it, from this publish or from an earlier one."""
        async with self._server.asked() as connection:
            stream = await self._stream_there(connection)
            headers = {
                "Nats-Msg-Id": notification.dedupe_key,
                "Nats-Expected-Stream": stream,
                "content-type": self._content_type,  # in small letters, as FastStream looks for it
            }
            if notification.traceparent:
                headers["traceparent"] = notification.traceparent
            try:
                told = await connection.request(self._subject, notification.body, headers)
            except errors.NoRespondersError as exc:
                self._checked = None  # it may have another name when it is back
                raise self._no_stream() from exc
        ack = _read(told, _PubAck)
        if ack is not None and ack.error is not None:
            self._checked = None
            raise _refusal(ack.error, stream)
        if ack is None or ack.stream != stream:  # the first reply counts, whoever sent it
            raise Unavailable(
                f"something else than the stream {stream} answers what is sent to this subject",
                outcome=Outcome.REFUSED,
            )

    async def publish_many(self, notifications: Sequence[Notification]) -> list[Exception | None]:
        """Publish each, many at a time, all of them in the time that one publish has."""
        return await publish_each(self.publish, notifications, self._server.timeout_seconds)

    async def ping(self) -> str | None:
        """Prove that a stream takes the subject, and that it keeps what it acknowledges."""
        async with self._server.asked() as connection:
            stream = await self._find(connection)
            info = await self._info(connection, stream)
        if info is None:
            return f"our user may not see how the stream {stream} is set up ({_API}.INFO.{stream})"
        _check(info, stream)
        said = []
        if info.config.retention == "interest":
            said.append("it keeps an event only for consumers that it has then")
        window = info.config.duplicate_window // 1_000_000_000
        if window < RETRY_SPAN_SECONDS:
            said.append(
                f"it drops repeats for {window} s (duplicate_window), and a retry may come a day later: "
                "consumers drop by id what they have seen"
            )
        return f"the stream {stream}: {'; '.join(said)}" if said else None

    async def aclose(self) -> None:
        await self._server.aclose()

    async def _stream_there(self, connection: Connection) -> str:
        """The stream that takes the subject, looked at once for each connection."""
        if self._checked is None or self._checked[0] is not connection:
            stream = self._stream or await self._find(connection)
            info = await self._info(connection, stream)
            if info is not None:
                _check(info, stream)
            self._checked = (connection, stream)
        return self._checked[1]

    async def _find(self, connection: Connection) -> str:
        """The stream that takes the subject: the one that the URL names, if any."""
        body = msgspec.json.encode({"subject": self._subject})
        try:
            names = _read(await connection.request(f"{_API}.NAMES", body), _Names)
        except RefusedError as exc:
            if connection.is_over:  # it is the replies that our user may not read
                raise
            if self._stream:
                return self._stream
            raise Unavailable(
                f"our user may not ask nats for a stream ({_API}.NAMES): name it in the sink's URL",
                outcome=Outcome.REFUSED,
            ) from exc
        except errors.NoRespondersError as exc:
            raise _no_jetstream() from exc
        if names is not None and names.error is not None:
            raise _api_failure(names.error)
        found = names.streams if names else None
        if not found or self._stream not in (None, *found):
            raise self._no_stream()
        return self._stream or found[0]

    async def _info(self, connection: Connection, stream: str) -> _Info | None:
        """How a stream is set up; None where our user may not know."""
        try:
            info = _read(await connection.request(f"{_API}.INFO.{stream}", b""), _Info)
        except (RefusedError, errors.NoRespondersError):
            return None
        if info is not None and info.error is not None:
            raise self._no_stream() if info.error.code == 404 else _api_failure(info.error)
        return info

    def _no_stream(self) -> Unavailable:
        which = f"the stream {self._stream} does not take" if self._stream else "no stream takes"
        return Unavailable(f"{which} the subject of the sink's URL", outcome=Outcome.REFUSED)


def _read(told: bytes, kind: type[AnswerT]) -> AnswerT | None:
    """An answer of the server; None where it is none: anybody may answer what is sent to a subject."""
    try:
        return msgspec.json.decode(told, type=kind)
    except ValueError:
        return None


def _check(info: _Info, stream: str) -> None:
    """Raises Unavailable where a stream would not keep an event, or never say so."""
    if info.config.no_ack:
        raise Unavailable(f"the stream {stream} acknowledges nothing (no_ack)", outcome=Outcome.REFUSED)
    if info.config.retention == "interest" and not info.state.consumer_count:
        raise Unavailable(
            f"the stream {stream} has no consumer, and drops what none waits for (retention interest)",
            outcome=Outcome.REFUSED,
        )


def _api_failure(error: _Error) -> Unavailable:
    if error.err_code in _NO_JETSTREAM:
        return _no_jetstream()
    return Unavailable(f"nats cannot say now which stream takes the subject (error {error.err_code})")


def _no_jetstream() -> Unavailable:
    return Unavailable("nats has no JetStream for our user", outcome=Outcome.REFUSED)


def _refusal(error: _Error, stream: str) -> Unavailable | Permanent:
    if error.err_code == _TOO_LARGE:
        return Permanent(f"the stream {stream} takes no message as large as this one (max_msg_size)")
    if error.err_code == _OTHER_STREAM:
        return Unavailable(f"the subject is another stream's, not that of {stream}", outcome=Outcome.REFUSED)
    if error.err_code == _FULL or error.code == 503:
        return Unavailable(f"the stream {stream} is full, or has no leader now (error {error.err_code})")
    return Unavailable(f"the stream {stream} answered error {error.err_code}", outcome=Outcome.REFUSED)
