"""Notifications as entries of a Redis stream, each at most once per ``dedupe_key``.

    redis://[user:password@]host[:port][/database]?stream=NAME   rediss:// for TLS

An entry has the fields ``id``, ``type`` and ``event``. The stream is not trimmed: dropping what nobody has
read yet is the consumer's to decide.

The user needs the commands ``eval``, ``exists``, ``set`` and ``xadd`` on the stream and on the keys that
begin with ``{NAME}:seen:`` (``NAME:seen:`` where NAME has a hash tag of its own); ``select`` for a database
other than 0; and ``type``, by which ``receiver doctor`` sees what else is under the stream's key.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from receiver.errors import Misconfigured, Unavailable, causes, tls_words, wire_outcome, with_words
from receiver.models import Notification, Outcome
from receiver.options import PluginOptions

CONNECTIONS = 16
DEDUPE_SECONDS = 7 * 86_400  # longer than retries go on, so that none of them is told twice

# Add an entry unless its key was seen. One script, because both must happen or neither, and a script that
# fails half-way is not undone. So nothing may fail behind the entry, or each retry would add another one: the
# first SET writes nothing, as there is nothing to overwrite, but is refused wherever the second one would be.
# And no mark may come before the entry: a mark without an entry would be a lost message.
_ADD_ONCE = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('SET', KEYS[2], '1', 'XX', 'EX', ARGV[1])
redis.call('XADD', KEYS[1], ARGV[5], 'id', ARGV[2], 'type', ARGV[3], 'event', ARGV[4])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
return 1
"""
_NEXT_ID = "*"
# No entry can have this id, so the server checks all that it checks before a command, and adds nothing.
_NO_ID = "0-0"

# What is said of a server's answers, by their code.
_ANSWERS: dict[str, tuple[Outcome, str]] = {
    "NOAUTH": (Outcome.REFUSED, "does not accept our user and password"),
    "WRONGPASS": (Outcome.REFUSED, "does not accept our user and password"),
    "NOPERM": (
        Outcome.REFUSED,
        "does not permit this to our user, who needs +eval +exists +set +xadd +type and the stream's keys",
    ),
    "WRONGTYPE": (
        Outcome.REFUSED,
        "has something that is not a stream under the stream's key: rename it, or choose another ?stream=",
    ),
    "MOVED": (Outcome.REFUSED, "keeps this stream on another node of its cluster"),
    "CROSSSLOT": (Outcome.REFUSED, "keeps the stream and the keys beside it on two nodes of its cluster"),
    "ASK": (Outcome.UNAVAILABLE, "is moving this stream to another node of its cluster"),
    "TRYAGAIN": (Outcome.UNAVAILABLE, "is moving this stream to another node of its cluster"),
    "CLUSTERDOWN": (Outcome.UNAVAILABLE, "has a cluster that is down"),
    "MASTERDOWN": (Outcome.UNAVAILABLE, "is a replica that has lost its master"),
    "LOADING": (Outcome.UNAVAILABLE, "is still loading its data"),
    "OOM": (Outcome.UNAVAILABLE, "is at its memory limit"),
    "READONLY": (Outcome.UNAVAILABLE, "is a read-only replica"),
    "NOREPLICAS": (Outcome.UNAVAILABLE, "has too few replicas to write"),
    "MISCONF": (Outcome.UNAVAILABLE, "cannot write to its disk"),
    "BUSY": (Outcome.UNAVAILABLE, "is busy with a script"),
}
# Answers whose code is a mere ERR: inside a script permission is denied in other words than outside.
_PHRASES = {
    "The user executing the script can't": "NOPERM",
    "ACL failure in script": "NOPERM",
}
# The driver cuts the code off answers that it has classes for; only since release 7.2 it shows it elsewhere.
_CLASSES: dict[type[Exception], str] = {
    exceptions.AuthenticationError: "WRONGPASS",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
}
# Before Redis 7 a script's error is told as a text around the answer that it got.
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z]{2,}) ")

_STREAM_NAME = re.compile(r"[^{}]*(\{[^{}]+\}[^{}]*)?")
_KNOWN_OPTIONS = ("stream", "dedupe_seconds", "ssl_cert_reqs", "ssl_ca_certs")


class RedisSink:
    """Adds each notification to a stream; done when the server acknowledged it.

    A repeat within ``dedupe_seconds`` (a week) adds nothing. Whatever the server answers instead of
    taking it is Unavailable, as every such answer is about the server and not about the message.
    """

    def __init__(self, client: Redis, *, stream: str, dedupe_seconds: int, timeout_seconds: float) -> None:
        self._client = client
        self._stream = stream
        # The stream's own hash tag, or all of its name as one, puts the keys beside it in a cluster.
        self._tagged = stream if "{" in stream else f"{{{stream}}}"
        self._dedupe_seconds = dedupe_seconds
        self._timeout_seconds = timeout_seconds
        # Bounded here and not by the driver's blocking pool: a publish that is cancelled while it gives
        # its connection back would take that place out of the pool for good.
        self._places = asyncio.Semaphore(CONNECTIONS)

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``?stream=NAME&dedupe_seconds=N``; for rediss also ``ssl_cert_reqs`` and ``ssl_ca_certs``."""
        try:
            parts = urlsplit(url)
            is_known = parts.scheme in ("redis", "rediss") and parts.port != 0 and not parts.fragment
        except ValueError:
            is_known = False
        # The driver passes over a database that is not a number, and would write to number 0. Raised without
        # a cause: the library's message may repeat part of the URL, which may hold a password.
        if not is_known or not (parts.path.strip("/") or "0").isdecimal():
            raise Misconfigured(f"sink {options.name}: write redis://HOST:PORT/DATABASE?stream=NAME")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(query.keys() - set(_KNOWN_OPTIONS))
        if unknown:
            known = ", ".join(_KNOWN_OPTIONS)
            raise Misconfigured(
                f"sink {options.name}: its URL has the unknown option {unknown[0]}; known are {known}"
            )
        if "" in query.values():
            raise Misconfigured(f"sink {options.name}: an option in its URL is empty")
        seconds = query.get("dedupe_seconds", str(DEDUPE_SECONDS))
        if not (seconds.isdecimal() and 0 < int(seconds) <= 10 * 365 * 86_400):
            raise Misconfigured(
                f"sink {options.name}: dedupe_seconds must be a whole number above 0, below ten years"
            )
        pool = _pool(parts, query, options)
        return cls(
            Redis.from_pool(pool),
            stream=_stream(query.get("stream", "receiver"), options.name),
            dedupe_seconds=int(seconds),
            timeout_seconds=options.timeout_seconds,
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the server has the entry, from this publish or from an earlier one."""
        async with self._translated():
            await self._add(
                notification.dedupe_key,
                notification.event_id,
                notification.type.value,
                notification.body,
                entry_id=_NEXT_ID,
            )

    async def ping(self) -> None:
        """Prove that the server would add an entry now: go all the way to one that it must refuse."""
        async with self._translated():
            try:
                await self._add("ping", "", "", b"", entry_id=_NO_ID)
            except exceptions.ResponseError as exc:
                if _NO_ID not in str(exc):
                    raise
            try:
                kind = await self._client.type(self._stream)
            except exceptions.NoPermissionError:
                kind = b"none"  # no publish needs to know it
        if kind not in (b"stream", b"none"):
            raise _unavailable("WRONGTYPE")

    async def _add(
        self, dedupe_key: str, event_id: str, event_type: str, body: bytes, *, entry_id: str
    ) -> None:
        await self._client.eval(
            _ADD_ONCE,
            2,
            self._stream,
            f"{self._tagged}:seen:{dedupe_key}",
            str(self._dedupe_seconds),
            event_id,
            event_type,
            body,
            entry_id,
        )

    async def aclose(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Take a place, set one deadline for all, and put the driver's errors in our words."""
        try:
            async with asyncio.timeout(self._timeout_seconds), self._places:
                yield
        except (exceptions.RedisError, OSError) as exc:  # the deadline's TimeoutError is an OSError
            raise _failure(exc) from exc


def _pool(parts: SplitResult, query: dict[str, str], options: PluginOptions) -> ConnectionPool:
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


def _stream(text: str, name: str) -> str:
    if _STREAM_NAME.fullmatch(text):
        return text
    raise Misconfigured(
        f"sink {name}: braces in the name of a stream must enclose one hash tag, as in {{images}}:events"
    )


def _failure(exc: Exception) -> Unavailable:
    if isinstance(exc, (TimeoutError, exceptions.TimeoutError)):
        return Unavailable("redis did not answer in time", outcome=Outcome.TIMEOUT)
    code = _code(exc)
    if isinstance(exc, exceptions.MovedError):
        return _unavailable(code, f"; put {exc.host}:{exc.port} in the sink's URL")
    if code in _ANSWERS:
        return _unavailable(code)
    if isinstance(exc, exceptions.ResponseError):
        return Unavailable(f"redis answered {code or 'an error'}", outcome=Outcome.REFUSED)
    is_refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes(exc))
    outcome = wire_outcome(exc) or (Outcome.CONNECT_FAILED if is_refused else Outcome.INTERRUPTED)
    what = with_words(f"redis could not be reached ({outcome})", tls_words(exc))
    return Unavailable(what, outcome=outcome)


def _code(exc: Exception) -> str:
    """The code of a server's answer; the rest of the answer may repeat what was sent."""
    text = str(exc)
    if code := next((code for phrase, code in _PHRASES.items() if phrase in text), None):
        return code
    if found := _IN_SCRIPT.search(text):
        return found[1]
    by_class = next((code for kind, code in _CLASSES.items() if isinstance(exc, kind)), None)
    code = getattr(exc, "status_code", None) or by_class or text.partition(" ")[0]
    return code if code.isalpha() and code.isupper() else ""


def _unavailable(code: str, advice: str = "") -> Unavailable:
    outcome, words = _ANSWERS[code]
    return Unavailable(f"redis {words}{advice}", outcome=outcome)
