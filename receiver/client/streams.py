"""Consume a Redis stream: each event is handled at least once, by one consumer of its group.

    run("redis://127.0.0.1/0?stream=images", on_event, group="app", seen=SqliteSeen("seen.db"))

The URL is the sink's own; ``consumer=NAME`` in it names this one, else the machine and process do. An entry
is acknowledged once its handler has returned, and deleted where no other group reads the stream. While it is
handled it is kept from looking idle; what lies idle for a minute is a dead consumer's, and is claimed. It
needs Redis 6.2 or later, or Valkey.
"""

import asyncio
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from receiver.client.errors import StreamFailed, VerificationError
from receiver.client.events import Event, read_event
from receiver.client.seen import Seen

try:
    from redis import exceptions
    from redis.asyncio import Redis
except ImportError as missing:
    raise ImportError("streams need the package redis: pip install 'callback-receiver[redis]'") from missing

DEAD_MS = 60_000  # without a sign of life, after which another consumer claims an entry
ALIVE_SECONDS = 20.0
LOOK_SECONDS = 10.0  # between looks for entries of the dead
BLOCK_MS = 1_000  # a read; the driver gives one up after 5 seconds
MOST_TRIES = 5
TRY_SECONDS = (1.0, 2.0, 4.0, 8.0)  # before the second try, and so on
AWAY_SECONDS = (0.5, 15.0)  # between looks whether the server is back, from and up to
DEFAULT_STREAM = "receiver"  # as the sink has it

AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
)

log = logging.getLogger("receiver.client")

T = TypeVar("T")
Handler: TypeAlias = Callable[[Event], object]
Fields: TypeAlias = Mapping[bytes, bytes]

# Acknowledge an entry; with a second key add it there before, once, though this may be sent twice. It is
# deleted unless another group may still want it. Somebody may have deleted the stream meanwhile.
_SETTLE = """
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if pending.err then return end
if #pending > 0 and KEYS[2] then redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3)) end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 1 then redis.call('XDEL', KEYS[1], ARGV[2]) end
"""


def run(url: str, handler: Handler, *, group: str, seen: Seen | None = None, concurrency: int = 1) -> None:
    """Handle the events of a stream until SIGTERM or Ctrl-C, then end after those in hand.

    ``handler`` is called in a thread, up to ``concurrency`` at once; a coroutine function is awaited. What
    fails five times is put into the stream ``STREAM:failed``. Repeats are dropped by ``seen``, which is told
    after the handler: a crash between the two brings that one event again.
    """

    async def consume() -> None:
        consumer = Consumer(url, handler, group=group, seen=seen, concurrency=concurrency)
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread
                asyncio.get_running_loop().add_signal_handler(number, consumer.stop)
        await consumer.run()

    asyncio.run(consume())


async def arun(
    url: str, handler: Handler, *, group: str, seen: Seen | None = None, concurrency: int = 1
) -> None:
    """As ``run``, in a loop of yours, until it is cancelled: what is in hand then comes again."""
    await Consumer(url, handler, group=group, seen=seen, concurrency=concurrency).run()


class Stopped(Exception):
    """It is to end, and something is not done: it stays pending."""


class Consumer:
    """One consumer of a group. ``run`` once."""

    def __init__(
        self, url: str, handler: Handler, *, group: str, seen: Seen | None = None, concurrency: int = 1
    ) -> None:
        place, self._stream, self._name = _read_url(url)
        self._redis = Redis.from_url(place, protocol=2)  # whose answers have one form in all releases
        self._handler = handler
        self._group = group
        self._seen = seen
        self._concurrency = concurrency
        self._stopping = asyncio.Event()
        self._mine: deque[bytes] = deque()  # entries that it had in hand when it last ended
        self._in_hand: set[bytes] = set()
        self._cursor: bytes | str = "0-0"  # how far it has looked for entries of the dead
        self._look_at = 0.0

    def stop(self) -> None:
        """Let ``run`` return after what is in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Raises StreamFailed where waiting cannot help: a wrong password, missing rights."""
        beating = asyncio.create_task(self._stay_alive())
        refused: Exception | None = None
        try:
            with suppress(Stopped):
                await self._consume()
        except* exceptions.RedisError as several:
            refused = several.exceptions[0]
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await self._redis.aclose()
        if refused is not None:  # raised above, Python 3.11 would put it into a group
            raise StreamFailed(f"redis refuses it: {refused}") from refused

    async def _consume(self) -> None:
        await self._steadily(self._join)
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._concurrency):
                workers.create_task(self._work())
        await self._leave()

    # --- the group ------------------------------------------------------------------------------------

    async def _join(self) -> None:
        with suppress(exceptions.ResponseError):  # the group is there, else reading says what is wrong
            await self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        found = await self._pending("-", "+", 10_000)
        self._mine = deque(entry["message_id"] for entry in found)

    async def _leave(self) -> None:
        """Leave no name behind that nobody has any more; with something pending it stays to be claimed."""
        with suppress(exceptions.RedisError):
            if not await self._pending("-", "+", 1):
                await self._redis.xgroup_delconsumer(self._stream, self._group, self._name)

    async def _pending(self, first: bytes | str, last: bytes | str, count: int) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = await self._redis.xpending_range(
                self._stream, self._group, first, last, count, consumername=self._name
            )
        except exceptions.ResponseError as exc:
            if not _is_deleted(exc):
                raise
            return []
        return found

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            with suppress(exceptions.RedisError):
                await _unless_cancelled(self._show_life)

    async def _show_life(self) -> None:
        for entry in [*self._in_hand]:
            if await self._pending(entry, entry, 1):  # and not claimed while this machine slept
                await self._redis.xclaim(self._stream, self._group, self._name, 0, [entry], justid=True)

    # --- one after the other --------------------------------------------------------------------------

    async def _work(self) -> None:
        with suppress(Stopped):
            while not self._stopping.is_set():
                taken = await self._steadily(self._take)
                if taken is None:
                    continue
                entry, fields, tries = taken
                self._in_hand.add(entry)
                try:
                    await self._handle(entry, fields, tries)
                finally:
                    self._in_hand.discard(entry)

    async def _take(self) -> tuple[bytes, Fields, int] | None:
        """The next entry, its fields, and how often it was begun; None where there is none now."""
        try:
            return await self._next()
        except exceptions.ResponseError as exc:
            if not _is_deleted(exc):
                raise
            await self._join()
            return None

    async def _next(self) -> tuple[bytes, Fields, int] | None:
        """Our own, the dead's, then a new one."""
        while self._mine:
            entry = self._mine.popleft()
            try:
                again = await self._begin_again(entry)
            except exceptions.RedisError:
                self._mine.appendleft(entry)
                raise
            if again is not None:
                return again
        if claimed := await self._claim():
            return claimed
        found: Any = await self._redis.xreadgroup(
            self._group, self._name, {self._stream: ">"}, count=1, block=BLOCK_MS
        )
        for _, entries in found:
            for entry, fields in entries:
                return entry, fields, 1
        return None

    async def _claim(self) -> tuple[bytes, Fields, int] | None:
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return None
        answer: Any = await self._redis.xautoclaim(
            self._stream, self._group, self._name, DEAD_MS, self._cursor, count=1
        )
        self._cursor = answer[0]
        for entry, fields in answer[1]:
            if fields is None:  # it was deleted while it was pending
                await self._settle(entry)
            elif entry not in self._in_hand:  # it may be, after the server was away
                return entry, fields, await self._count(entry)
        if self._cursor in {b"0-0", "0-0"}:
            self._look_at = now + LOOK_SECONDS
        return None

    async def _begin_again(self, entry: bytes) -> tuple[bytes, Fields, int] | None:
        """An entry of our own once more; None where it is ours no more, or there is none."""
        if not await self._pending(entry, entry, 1):
            return None
        claimed: Any = await self._redis.xclaim(self._stream, self._group, self._name, 0, [entry])
        for id_, fields in claimed:
            if fields is not None:
                return id_, fields, await self._count(id_)
        await self._settle(entry)  # it was deleted
        return None

    async def _count(self, entry: bytes) -> int:
        found = await self._pending(entry, entry, 1)
        return int(found[0]["times_delivered"]) if found else 1

    # --- one entry ------------------------------------------------------------------------------------

    async def _handle(self, entry: bytes, fields: Fields, tries: int) -> None:
        try:
            event = read_event(fields.get(b"event", b""))
        except VerificationError as exc:
            return await self._set_aside(entry, fields, f"no event: {exc}")
        if tries > MOST_TRIES:
            return await self._set_aside(entry, fields, f"begun {tries - 1} times and never ended")
        while error := await self._try(event):
            log.warning("event %s failed, try %d of %d", event.id, tries, MOST_TRIES, exc_info=error)
            if tries >= MOST_TRIES:
                return await self._set_aside(entry, fields, type(error).__name__)
            await self._pause(TRY_SECONDS[tries - 1])
            again = await self._steadily(lambda: self._begin_again(entry))
            if again is None:  # another consumer has it
                return None
            tries = max(tries + 1, again[2])
        return await self._steadily(lambda: self._settle(entry))

    async def _try(self, event: Event) -> Exception | None:
        """Have an event handled, unless it was; the error if that fails."""
        try:
            if self._seen is not None and await asyncio.to_thread(self._seen.__contains__, event.dedupe_key):
                return None
            if iscoroutinefunction(self._handler):
                await self._handler(event)
            else:
                result = await asyncio.to_thread(self._handler, event)
                if isinstance(result, Awaitable):
                    await result
            if self._seen is not None:
                await asyncio.to_thread(self._seen.add, event.dedupe_key)
        except Exception as exc:  # noqa: BLE001 - whatever it is, others still want to be handled
            return exc
        return None

    async def _set_aside(self, entry: bytes, fields: Fields, why: str) -> None:
        log.error("entry %s is set aside in %s:failed (%s)", entry.decode(), self._stream, why)
        kept = {**fields, b"entry": entry, b"group": self._group.encode(), b"why": why.encode()}
        await self._steadily(lambda: self._settle(entry, kept))

    async def _settle(self, entry: bytes, kept: Fields | None = None) -> None:
        keys = [self._stream] if kept is None else [self._stream, f"{self._stream}:failed"]
        flat = [part for pair in (kept or {}).items() for part in pair]
        await self._redis.eval(_SETTLE, len(keys), *keys, self._group, entry, *flat)

    # --- waiting --------------------------------------------------------------------------------------

    async def _steadily(self, command: Callable[[], Awaitable[T]]) -> T:
        """What a command comes to, tried again while the server is away. Raises Stopped."""
        seconds, most = AWAY_SECONDS
        while True:
            try:
                return await _unless_cancelled(command)
            except exceptions.AuthenticationError:
                raise
            except AWAY as exc:
                log.warning("redis is away (%s)", type(exc).__name__)
                await self._pause(seconds)
                seconds = min(2 * seconds, most)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
            raise Stopped


def _is_deleted(exc: exceptions.ResponseError) -> bool:
    """Whether somebody deleted the stream, and with it the group."""
    return str(exc).startswith(("NOGROUP", "UNBLOCKED"))


async def _unless_cancelled(command: Callable[[], Awaitable[T]]) -> T:
    """What a command comes to; CancelledError where its task was cancelled meanwhile.

    On Python 3.11 the driver may swallow that: it sends by ``asyncio.wait_for``, which there returns instead
    if what it waits for has just ended (redis-py 8.1.0; CPython before 3.12).
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await command()
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


def _read_url(url: str) -> tuple[str, str, str]:
    """The server's URL as the driver takes it, the stream, and the consumer's name."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.pop("dedupe_seconds", None)  # is the sink's
    stream = query.pop("stream", DEFAULT_STREAM)
    name = query.pop("consumer", f"{socket.gethostname()}-{os.getpid()}")
    return parts._replace(query=urlencode(query)).geturl(), stream, name
