"""Notifications as entries of a Redis stream, each at most once per ``dedupe_key``.

    redis://[user:password@]host[:port][/database]?stream=NAME   rediss:// for TLS

An entry has the fields ``id``, ``type`` and ``event``. The stream is not trimmed: dropping what nobody has
read yet is the consumer's to decide.

The user needs the commands ``eval``, ``exists``, ``set`` and ``xadd`` on the stream and on the keys that
begin with ``{NAME}:seen:`` (``NAME:seen:`` where NAME has a hash tag of its own); ``select`` for a database
other than 0; and ``type``, by which ``receiver doctor`` sees what else is under the stream's key.
"""

import re
from typing import Self

from redis import exceptions
from redis.asyncio import Redis

from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.answers import unavailable
from receiver.sinks.redis.server import TLS_OPTIONS, RedisServer

DEDUPE_SECONDS = 7 * 86_400  # longer than retries go on, so that none of them is told twice
MOST_DEDUPE_SECONDS = 10 * 365 * 86_400

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

_STREAM_NAME = re.compile(r"[^{}]*(\{[^{}]+\}[^{}]*)?")
_KNOWN_OPTIONS = ("stream", "dedupe_seconds", *TLS_OPTIONS)
_FORM = "redis://HOST:PORT/DATABASE?stream=NAME"
_NEEDS = "+eval +exists +set +xadd +type and the stream's keys"


class RedisSink:
    """Adds each notification to a stream; done when the server acknowledged it.

    A repeat within ``dedupe_seconds`` (a week) adds nothing. Whatever the server answers instead of
    taking it is Unavailable, as every such answer is about the server and not about the message.
    """

    def __init__(self, server: RedisServer, *, stream: str, dedupe_seconds: int) -> None:
        self._server = server
        self._stream = stream
        # The stream's own hash tag, or all of its name as one, puts the keys beside it in a cluster.
        self._tagged = stream if "{" in stream else f"{{{stream}}}"
        self._dedupe_seconds = dedupe_seconds

    @classmethod
    def from_url(cls, url: str, options: PluginOptions) -> Self:
        """``?stream=NAME&dedupe_seconds=N``; for rediss also ``ssl_cert_reqs`` and ``ssl_ca_certs``."""
        where = SinkUrl.read(options.name, url, form=_FORM, known=_KNOWN_OPTIONS)
        stream = where.options.get("stream", "receiver")
        if not _STREAM_NAME.fullmatch(stream):
            raise where.wrong(
                "braces in the name of a stream must enclose one hash tag, as in {images}:events"
            )
        return cls(
            RedisServer.from_url(where, options, form=_FORM, needs=_NEEDS),
            stream=stream,
            dedupe_seconds=where.whole_number(
                "dedupe_seconds", default=DEDUPE_SECONDS, least=1, most=MOST_DEDUPE_SECONDS
            ),
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the server has the entry, from this publish or from an earlier one."""
        async with self._server.asked() as client:
            await self._add(
                client,
                notification.dedupe_key,
                notification.event_id,
                notification.type.value,
                notification.body,
                entry_id=_NEXT_ID,
            )

    async def ping(self) -> None:
        """Prove that the server would add an entry now: go all the way to one that it must refuse."""
        async with self._server.asked() as client:
            try:
                await self._add(client, "ping", "", "", b"", entry_id=_NO_ID)
            except exceptions.ResponseError as exc:
                if _NO_ID not in str(exc):
                    raise
            try:
                kind = await client.type(self._stream)
            except exceptions.NoPermissionError:
                kind = b"none"  # no publish needs to know it
        if kind not in (b"stream", b"none"):
            raise unavailable("WRONGTYPE")

    async def _add(
        self, client: Redis, dedupe_key: str, event_id: str, event_type: str, body: bytes, *, entry_id: str
    ) -> None:
        await client.eval(
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
        await self._server.aclose()
