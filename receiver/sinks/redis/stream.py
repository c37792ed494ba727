"""Notifications as entries of a Redis stream, each at most once per ``dedupe_key``.

    redis://[user:password@]host[:port][/database]?stream=NAME   rediss:// for TLS

An entry has the fields ``id``, ``type`` and ``event``. The stream is not trimmed: dropping what nobody has
read yet is the consumer's to decide.

The user needs the commands ``eval``, ``exists``, ``set`` and ``xadd`` on the stream and on the keys that
begin with ``{NAME}:seen:`` (``NAME:seen:`` where NAME has a hash tag of its own); ``select`` for a database
other than 0; and ``type``, by which ``receiver doctor`` sees what else is under the stream's key.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Self

from redis import exceptions
from redis.asyncio import Redis

from receiver.errors import Unavailable
from receiver.models import Notification
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.answers import unavailable
from receiver.sinks.redis.server import TLS_OPTIONS, RedisServer, dedupe_seconds

# Add entries, each unless its key was seen; the numbers of those that failed, each before its error. One
# script, because an entry and its mark must happen or neither, and a script that fails half-way is not
# undone. So nothing may fail behind an entry, or each retry would add another one: the first SET writes
# nothing, as there is nothing to overwrite, but is refused wherever the second one would be. And no mark may
# come before its entry: a mark without an entry would be a lost message. An error ends its own entry, and no
# other.
_ADD_EACH_ONCE = """
local function add(seen, id, kind, event)
    if redis.call('EXISTS', seen) == 1 then return end
    redis.call('SET', seen, '1', 'XX', 'EX', ARGV[1])
    redis.call('XADD', KEYS[1], ARGV[2], 'id', id, 'type', kind, 'event', event)
    redis.call('SET', seen, '1', 'EX', ARGV[1])
end
local fields, at = {}, 1
for length in string.gmatch(ARGV[3], '%d+') do
    fields[#fields + 1] = string.sub(ARGV[4], at, at + length - 1)
    at = at + length
end
local failed = {}
for n = 1, #KEYS - 1 do
    local added, err = pcall(add, KEYS[n + 1], fields[3 * n - 2], fields[3 * n - 1], fields[3 * n])
    if not added then
        failed[#failed + 1] = n
        failed[#failed + 1] = type(err) == 'table' and err.err or tostring(err)
    end
end
return failed
"""
# In one call of the script: the server does nothing else meanwhile.
MOST_ENTRIES, MOST_BYTES = 64, 1 << 20
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
            dedupe_seconds=dedupe_seconds(where),
        )

    async def publish(self, notification: Notification) -> None:
        """Return when the server has the entry, from this publish or from an earlier one."""
        async with self._server.asked() as client:
            answer = await client.eval(*self._call_for([notification]))
        (refusal,) = self._ends([notification], answer)
        if refusal is not None:
            raise refusal

    async def publish_many(self, notifications: Sequence[Notification]) -> list[Exception | None]:
        """Add entries in some calls of the script, all of them in the time that one publish has."""
        give_up_at = self._server.give_up_at()
        ends: list[Exception | None] = []
        for calls in _in_round_trips(notifications):
            try:
                async with self._server.asked(give_up_at) as client:
                    answers = await _asked_together(client, [self._call_for(few) for few in calls])
            except Unavailable as exc:
                ends += [exc] * sum(map(len, calls))
            else:
                for few, answer in zip(calls, answers, strict=True):
                    ends += self._ends(few, answer)
        return ends

    async def ping(self) -> None:
        """Prove that the server would add an entry now: go all the way to one that it must refuse."""
        async with self._server.asked() as client:
            answer: Any = await client.eval(*self._call(["ping"], [b"", b"", b""], entry_id=_NO_ID))
            (said,) = _failed(answer).values()
            if _NO_ID not in said:
                raise exceptions.ResponseError(said)
            try:
                kind = await client.type(self._stream)
            except exceptions.NoPermissionError:
                kind = b"none"  # no publish needs to know it
        if kind not in (b"stream", b"none"):
            raise unavailable("WRONGTYPE")

    def _call_for(self, notifications: Sequence[Notification]) -> tuple[Any, ...]:
        fields: list[bytes] = []
        for each in notifications:
            fields += each.event_id.encode(), each.type.value.encode(), each.body
        return self._call([each.dedupe_key for each in notifications], fields, entry_id=_NEXT_ID)

    def _call(self, dedupe_keys: Sequence[str], fields: Sequence[bytes], *, entry_id: str) -> tuple[Any, ...]:
        """What EVAL is told to add these entries."""
        # All fields are one argument: the driver takes as long for an argument as the server for an entry.
        lengths = ",".join([str(len(field)) for field in fields])
        seen = [f"{self._tagged}:seen:{key}" for key in dedupe_keys]
        keys = (1 + len(seen), self._stream, *seen)
        return _ADD_EACH_ONCE, *keys, str(self._dedupe_seconds), entry_id, lengths, b"".join(fields)

    def _ends(self, notifications: Sequence[Notification], answer: Any) -> list[Exception | None]:
        """What became of each, by the script's answer."""
        if isinstance(answer, exceptions.RedisError):
            return [self._server.failure(answer)] * len(notifications)
        ends: list[Exception | None] = [None] * len(notifications)
        for place, error in _failed(answer).items():
            ends[place] = self._server.refusal(error)
        return ends

    async def aclose(self) -> None:
        await self._server.aclose()


async def _asked_together(client: Redis, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What EVAL answers to each of these."""
    if (
        len(calls) == 1
    ):  # the driver gives up a connection that the server ends over it, and in a pipeline not
        return [await client.eval(*calls[0])]
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.eval(*call)
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    return answers


def _failed(answer: list[Any]) -> dict[int, str]:
    """The errors of entries that are not there now, by their places."""
    return {
        number - 1: error.decode(errors="replace")
        for number, error in zip(answer[::2], answer[1::2], strict=True)
    }


def _in_round_trips(notifications: Sequence[Notification]) -> Iterator[list[Sequence[Notification]]]:
    """Calls that are sent together: the server answers one before it does the next, and others' between.

    A message that is too large for the server ends its connection, and all that is sent behind it there, so
    that such a one goes by itself.
    """
    calls: list[Sequence[Notification]] = []
    total = 0
    for few in _in_calls(notifications):
        size = sum([len(each.body) for each in few])
        if calls and total + size > MOST_BYTES:
            yield calls
            calls, total = [], 0
        calls.append(few)
        total += size
    yield calls


def _in_calls(notifications: Sequence[Notification]) -> Iterator[Sequence[Notification]]:
    """As many at a time as one call of the script may add."""
    few: list[Notification] = []
    size = 0
    for each in notifications:
        if few and (len(few) == MOST_ENTRIES or size + len(each.body) > MOST_BYTES):
            yield few
            few, size = [], 0
        few.append(each)
        size += len(each.body)
    yield few
