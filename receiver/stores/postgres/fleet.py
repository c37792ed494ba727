"""What processes on one record tell each other, and which of them runs what: on a connection of its own.

Never in a transaction that stores: a NOTIFY in it would make all commits of the server wait for each other.
What is told within a moment goes out together, and may get lost; whoever is told has only looked earlier.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import psycopg
import structlog
from psycopg import AsyncConnection

from receiver.clock import Clock
from receiver.errors import Unavailable
from receiver.models import Lane, LaneClaim
from receiver.ports import MISSED
from receiver.stores.postgres.connections import CONNECT_SECONDS, Database
from receiver.stores.postgres.failures import trouble
from receiver.stores.postgres.server_clock import NOW, follow_server, seconds_behind

log = structlog.get_logger()

T = TypeVar("T")
PgAsync = AsyncConnection[tuple[Any, ...]]

TOGETHER_SECONDS = 0.05  # what is told within this time is one message
WORDS_OF_ONE = 100  # a message may have 8,000 bytes
MOST_WORDS = 5_000  # beyond, everybody is told to look at everything
CHECK_SECONDS = 20.0  # a connection that says nothing may have been cut
RECONNECT_SECONDS = 1.0
ANSWER_SECONDS = 4.0
MOST_CHARACTERS = 1000
GIVING_UP = 100  # looks, a hundredth of a second apart, whether what was given up has ended

# Locks are taken in one order. What others hold is not touched.
HOLD = """
INSERT INTO lanes AS l (name, holder, until, state, closed_until)
SELECT name, %(holder)s, now + make_interval(secs => %(seconds)s), state, now + make_interval(secs => closed)
FROM unnest(%(names)s::text[], %(states)s::text[], %(closed)s::float8[]) AS wanted (name, state, closed),
    clock_timestamp() AS now
WHERE NOT EXISTS (SELECT FROM lanes o
    WHERE o.name = wanted.name AND o.holder <> %(holder)s AND o.until > now)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, state = excluded.state,
    closed_until = greatest(l.closed_until, excluded.closed_until)
WHERE l.holder = excluded.holder OR l.until <= clock_timestamp()
RETURNING name, turns, extract(epoch FROM closed_until - clock_timestamp())::float8
"""
LIST = "SELECT name, CASE WHEN until > clock_timestamp() THEN state END FROM lanes"
LEAVE = """
UPDATE lanes SET holder = '', until = '-infinity' WHERE holder = %(holder)s AND name = ANY(%(names)s)
RETURNING name
"""
TAKE_TURN = """
INSERT INTO lanes AS l (name, turns, turn_at) VALUES (%(name)s, 1, clock_timestamp() + %(gap)s)
ON CONFLICT (name) DO UPDATE SET turns = l.turns + 1, turn_at = excluded.turn_at
WHERE greatest(l.turn_at, l.closed_until) <= clock_timestamp()
RETURNING name
"""
CLOSE = """
INSERT INTO lanes AS l (name, closed_until) VALUES (%(name)s, clock_timestamp() + %(time)s)
ON CONFLICT (name) DO UPDATE SET closed_until = greatest(l.closed_until, excluded.closed_until)
RETURNING name
"""
NOTIFY = "SELECT pg_notify(%(channel)s, message) FROM unnest(%(messages)s::text[]) AS message"

LIMITS = "SET LOCAL lock_timeout = 2000; SET LOCAL statement_timeout = 3000"


class Fleet:
    """One process's side of it. Nothing is connected before the first use."""

    def __init__(self, database: Database, holder: str, clock: Clock) -> None:
        self._database = database
        self._holder = holder
        self._clock = clock
        self._checked_at = clock.uptime()
        self._connection: PgAsync | None = None
        self._channel = ""
        self._is_pooled = False
        self._alone = asyncio.Lock()
        self._words: dict[str, None] = {}
        self._stirred = asyncio.Event()
        self._is_closing = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def tell(self, word: str) -> None:
        if len(self._words) < MOST_WORDS:
            self._words[word] = None
        else:
            self._words = {MISSED: None}
        self._stirred.set()

    def listen(self, heard: Callable[[str], None]) -> None:
        self._start(self._converse(heard))

    async def hold_lanes(self, claims: Sequence[LaneClaim], seconds: float) -> dict[str, Lane]:
        rows = await self._ask(
            HOLD,
            holder=self._holder,
            seconds=seconds,
            names=[claim.name for claim in claims],
            states=[_storable(claim.state) for claim in claims],
            closed=[claim.closed_seconds for claim in claims],
        )
        return {name: Lane(turns=turns, closed_seconds=left) for name, turns, left in rows}

    async def list_lanes(self) -> dict[str, str | None]:
        return dict(await self._ask(LIST))

    async def leave_lanes(self, names: Sequence[str]) -> None:
        await self._ask(LEAVE, holder=self._holder, names=list(names))

    async def take_turn(self, lane: str, gap_seconds: float) -> bool:
        return bool(await self._ask(TAKE_TURN, name=lane, gap=timedelta(seconds=gap_seconds)))

    async def close_lane(self, lane: str, seconds: float) -> None:
        await self._ask(CLOSE, name=lane, time=timedelta(seconds=seconds))

    async def aclose(self) -> None:
        """Send what is still to be told, if that is quick; close."""
        self._is_closing = True
        self._stirred.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ANSWER_SECONDS)
        for task in list(self._tasks):
            await _give_up(task)
        if self._connection is not None:
            await self._connection.close()

    async def _converse(self, heard: Callable[[str], None]) -> None:
        """Send and hear until cancelled, over as many connections as it takes."""
        problem: str | None = None
        while not self._is_closing:
            try:
                async with self._listening() as readable:
                    heard(MISSED)
                    if problem:
                        log.info("signals.recovered", after=problem)
                    problem = None
                    while self._words or not self._is_closing:
                        await self._exchange(heard)
                        await self._wait(readable)
            except (psycopg.Error, OSError, Unavailable) as exc:
                if problem is None:
                    problem = trouble(exc) or str(exc)
                    log.warning("signals.failed", reason=problem, consequence="looking every few seconds")
                await asyncio.sleep(RECONNECT_SECONDS)

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the connection may have something for us."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        async with self._using() as connection:
            if self._is_pooled:
                log.warning(
                    "signals.unheard",
                    reason="a pooler is between this process and the database, and lets nobody listen",
                    consequence="looking every few seconds",
                )
            else:
                await connection.execute(f'LISTEN "{self._channel}"'.encode())
            # Another descriptor of the same socket: the driver looks at its own only while it waits.
            descriptor = os.dup(connection.fileno())
        loop.add_reader(descriptor, readable.set)
        try:
            yield readable
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def _wait(self, readable: asyncio.Event) -> None:
        """Until there is something to hear or to tell, or the connection has to be looked at."""
        waits = [asyncio.ensure_future(event.wait()) for event in (readable, self._stirred)]
        try:
            done, _ = await asyncio.wait(waits, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not done or (self._clock.uptime() - self._checked_at).total_seconds() > CHECK_SECONDS:
            await self._check()
        readable.clear()

    async def _check(self) -> None:
        """Whether the connection lives, and the clocks agree."""
        before = self._clock.now()
        [(there,)] = await self._ask(NOW)
        follow_server(self._clock, seconds_behind(there, before, self._clock.now()))
        self._checked_at = self._clock.uptime()

    async def _exchange(self, heard: Callable[[str], None]) -> None:
        async with self._using() as connection:
            own = connection.info.backend_pid
            messages = [note.payload async for note in connection.notifies(timeout=0) if note.pid != own]
        for message in messages:
            with suppress(msgspec.DecodeError):  # a user of the database said something of its own
                for word in msgspec.json.decode(message, type=list[str]):
                    heard(word)
        if self._words:
            await self._send()
            await asyncio.sleep(TOGETHER_SECONDS)

    async def _send(self) -> None:
        if not self._is_closing:  # then it goes on without a pause
            self._stirred.clear()
        words, self._words = list(self._words), {}
        parts = [words[start : start + WORDS_OF_ONE] for start in range(0, len(words), WORDS_OF_ONE)]
        messages = [msgspec.json.encode(part).decode() for part in parts]
        # Nothing of it need last.
        await self._run(
            NOTIFY, "SET LOCAL synchronous_commit = off", channel=self._channel, messages=messages
        )

    async def _ask(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement in a transaction of its own. Raises Unavailable."""
        task = self._start(self._run(sql, "SET LOCAL synchronous_commit = on", **values))
        # Whoever is cancelled here need not wait for a server that says nothing.
        await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        if not task.done():
            await _give_up(task)
            raise Unavailable("the database cannot be reached (no answer in time)")
        return task.result()

    async def _run(self, sql: str, setting: str, **values: Any) -> list[tuple[Any, ...]]:
        try:
            async with self._using() as connection, connection.transaction():
                await connection.execute(f"{self._database.there}; {LIMITS}; {setting}".encode())
                return await (await connection.execute(sql.encode(), values)).fetchall()
        except psycopg.Error as exc:
            raise Unavailable(f"the database cannot be reached ({trouble(exc)})") from exc

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[PgAsync]:
        """The connection, open, for one at a time; closed where what is done with it fails."""
        async with self._alone:
            try:
                yield self._connection or await self._connect()
            except BaseException:
                if self._connection is not None:
                    await self._connection.close()
                self._connection = None
                raise

    async def _connect(self) -> PgAsync:
        connection: PgAsync
        # At once, or whoever gives up on what follows would leave it open.
        self._connection = connection = await AsyncConnection.connect(
            self._database.conninfo,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="receiver",
            prepare_threshold=None,
        )
        async with connection.transaction():
            await connection.execute(self._database.there.encode())
            cursor = await connection.execute("SELECT current_schema(), pg_backend_pid()")
            schema, process = await cursor.fetchone() or ("", 0)
        # A channel is the whole database's, and its name has 63 bytes at most.
        self._channel = f"receiver_{hashlib.blake2b(schema.encode(), digest_size=16).hexdigest()}"
        # A pooler makes up the number of the process that it says it is.
        self._is_pooled = process != connection.info.backend_pid
        return connection

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _storable(text: str) -> str:
    """What a text column takes: it may quote what a consumer answered."""
    return text.replace("\0", "").encode(errors="replace").decode()[:MOST_CHARACTERS]


async def _give_up(task: "asyncio.Task[Any]") -> None:
    """Cancel for good: the driver answers the first cancellation by asking the server to stop, and waits."""
    for _ in range(GIVING_UP):
        if task.done():
            break
        task.cancel()
        await asyncio.wait({task}, timeout=0.01)
    if task.done() and not task.cancelled():
        task.exception()  # looked at
