"""A task queue on a Redis server: a job is a few commands, done together and at most once.

What a push may fail with before it has changed anything is found out first, in the same script: no right to
one of the commands (told by servers since Redis 7), no memory, a replica, a disk that is full.
"""

from collections.abc import Sequence
from typing import Any, Self

from redis import exceptions
from redis.asyncio import Redis

from receiver.errors import Unavailable
from receiver.models import Notification, Outcome, SinkTest
from receiver.options import PluginOptions
from receiver.sink_urls import SinkUrl
from receiver.sinks.redis.answers import unavailable
from receiver.sinks.redis.server import TLS_OPTIONS, RedisServer, dedupe_seconds

Command = tuple[str | bytes, ...]  # its name, its key, its arguments

OPTIONS = ("task", "queue", "dedupe_seconds", *TLS_OPTIONS)
# In place of a notification, where it is only to be seen whether one would be taken.
PROBE = Notification(event_id="ping", dedupe_key="ping", type=SinkTest.TEST, subject="", body=b"null")

# KEYS: the mark, then those of the commands. ARGV: how long the mark lives; "push", or "check" to stop before
# the first command; a stream that a consumer group must read, or nothing; the commands, each behind its
# length. The mark comes last, and the command that hands over the job just before it: a script that fails
# half-way is not undone, and until then a retry only writes the same again. SET XX writes nothing, as there
# is nothing to overwrite, but is refused wherever the commands behind it would be.
_PUSH_ONCE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 'seen' end
redis.call('SET', KEYS[1], '1', 'XX', 'EX', ARGV[1])
local commands, at = {}, 4
while ARGV[at] do
  local length = tonumber(ARGV[at])
  commands[#commands + 1] = {unpack(ARGV, at + 1, at + length)}
  at = at + length + 1
end
if redis.acl_check_cmd then
  for _, command in ipairs(commands) do
    if not redis.acl_check_cmd(unpack(command)) then return redis.error_reply('NOPERM ' .. command[1]) end
  end
end
if ARGV[3] ~= '' then
  if redis.call('EXISTS', ARGV[3]) == 0 then return 'unread' end
  if #redis.call('XINFO', 'GROUPS', ARGV[3]) == 0 then return 'unread' end
end
if ARGV[2] == 'check' then return 'checked' end
for _, command in ipairs(commands) do redis.call(unpack(command)) end
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return 'pushed'
"""
_KINDS = {
    "LPUSH": b"list",
    "RPUSH": b"list",
    "HSET": b"hash",
    "SADD": b"set",
    "ZADD": b"zset",
    "XADD": b"stream",
}


class JobQueue:
    """Where jobs are pushed. Marks are ``{KEY}:seen:...``: a cluster keeps them beside ``key``, the queue."""

    def __init__(self, server: RedisServer, *, key: str, dedupe_seconds: int, group_needed: bool) -> None:
        self._server = server
        self._key = key
        self._dedupe_seconds = dedupe_seconds
        self._read_stream = key if group_needed else ""

    @classmethod
    def from_url(
        cls,
        url: SinkUrl,
        options: PluginOptions,
        *,
        form: str,
        key: str,
        commands: str,
        group_needed: bool = False,
    ) -> Self:
        """``commands`` are those that a push needs of its own, for the advice to a user without them."""
        needs = f"+eval +exists +set +type {commands} and the queue's keys"
        return cls(
            RedisServer.from_url(url, options, form=form, needs=needs),
            key=key,
            dedupe_seconds=dedupe_seconds(url),
            group_needed=group_needed,
        )

    async def push(self, dedupe_key: str, commands: Sequence[Command]) -> None:
        """Return when the server has the job, from this push or from an earlier one.

        The last command must be the one by which a worker finds the job. Raises Unavailable.
        """
        async with self._server.asked() as client:
            answer = await self._run(client, dedupe_key, commands, "push")
        _check_read(answer)

    async def check(self, commands: Sequence[Command]) -> None:
        """Prove that these commands would be taken now, and send none of them. Raises Unavailable."""
        async with self._server.asked() as client:
            answer = await self._run(client, PROBE.dedupe_key, commands, "check")
            kinds = [(_KINDS.get(str(name)), await _kind(client, key)) for name, key, *_ in commands]
        _check_read(answer)
        if any(wanted and found not in (wanted, b"none") for wanted, found in kinds):
            raise unavailable("WRONGTYPE")

    async def aclose(self) -> None:
        await self._server.aclose()

    async def _run(self, client: Redis, dedupe_key: str, commands: Sequence[Command], mode: str) -> bytes:
        keys = (f"{{{self._key}}}:seen:{dedupe_key}", *(command[1] for command in commands))
        flat = [part for command in commands for part in (str(len(command)), *command)]
        answer: bytes = await client.eval(
            _PUSH_ONCE, len(keys), *keys, str(self._dedupe_seconds), mode, self._read_stream, *flat
        )
        return answer


class JobSink:
    """What the sinks of all job queues do alike: each notification is a job, once per ``dedupe_key``."""

    def __init__(self, jobs: JobQueue) -> None:
        self._jobs = jobs

    async def publish(self, notification: Notification) -> None:
        """Return when the job is in the queue, from this publish or from an earlier one."""
        await self._jobs.push(notification.dedupe_key, self.commands(notification))

    async def ping(self) -> None:
        """Prove that a job would be taken; whether a worker knows its task, only a worker knows."""
        await self._jobs.check(self.commands(PROBE))

    async def aclose(self) -> None:
        await self._jobs.aclose()

    def commands(self, notification: Notification) -> list[Command]:
        """The job as its queue writes it."""
        raise NotImplementedError


def _check_read(answer: bytes) -> None:
    if answer == b"unread":
        raise Unavailable(
            "no worker has ever read this stream, and the first one would pass over what is in it:"
            " start a worker once",
            outcome=Outcome.REFUSED,
        )


async def _kind(client: Redis, key: str | bytes) -> bytes:
    try:
        kind: Any = await client.type(key)
    except exceptions.NoPermissionError:
        return b"none"  # no push needs to know it
    return bytes(kind)
