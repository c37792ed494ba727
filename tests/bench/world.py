"""A whole world on loopback for long runs: backends, a provider, its media host and a consumer, all counting.

Every task has a fate that only its number decides, so a run repeats. The service may die at any moment; the
world tries again as real ones do, and notes in which life of the service each thing happened. ``problems``
compares what happened here with what the service has on record, in its sinks and on its disk.
"""

import asyncio
import hashlib
import json
import random
import sqlite3
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from receiver.loops import BATCHES_AT_ONCE
from receiver.sink_circuit import MOST_IN_BATCH
from receiver.testing import sample_callback
from receiver.tokens import Tokens
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, SECRET, Receiver, bearer
from tests.support.media_host import listening, picture

PROVIDER = "vidgo"
AT_ONCE = 8  # downloads, and publishes to one sink: what may be in flight when the service dies
LINES_AT_ONCE = BATCHES_AT_ONCE * MOST_IN_BATCH  # to the file
STATUS = "/api/generate/status/"
SINKS = ("file", "hook")


class Fates(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of tasks or of files, from 0 to 1, to which something happens."""

    fail: float = 0.1
    drop: float = 0.1  # the callback never comes: the task has to be asked about
    duplicate: float = 0.1
    early: float = 0.1  # the callback comes before the submission is logged
    dead: float = 0.05  # the first link of a file answers 403
    large: float = 0.01  # a file of more than is held in memory
    slow: float = 0.3  # files: the halves come up to ``slow_seconds`` apart
    slow_seconds: float = 0.1
    broken: float = 0.0  # files: the first answer breaks off
    busy: float = 0.0  # questions that are answered with 429


class World:
    """Plays everybody but the service. ``life`` is raised with each start of the service."""

    def __init__(self, fates: Fates) -> None:
        self.life = 0
        self.port = 0
        self.is_away = False  # the consumer answers 503
        self.started = 0
        self.finished = 0
        self.acknowledged: dict[int, str] = {}  # task -> the first verdict its provider saw
        self.verdicts: Counter[str] = Counter()
        self.told: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)  # task -> life, event id
        self.fetched: defaultdict[tuple[int, int], list[int]] = defaultdict(list)  # file -> lives
        self.asked = 0
        self._fates = fates
        self._broken: set[str] = set()
        self._tokens = Tokens([SECRET])

    def has(self, fate: str, number: int, index: int = 0) -> bool:
        share: float = getattr(self._fates, fate)
        return random.Random(f"{fate}/{number}/{index}").random() < share

    def files(self, number: int) -> int:
        """How many files a task has; none where it failed."""
        return 0 if self.has("fail", number) else 1 + number % 2

    def content(self, number: int, index: int) -> bytes:
        """Each file is another one, and a real image."""
        return _numbered(self.has("large", number, index), number, index)

    def body(self, number: int, *, fresh: bool) -> bytes:
        """What the provider says of a task; its status answers name links that live."""
        if self.has("fail", number):
            return sample_callback(PROVIDER, task_id(number), error="nsfw")
        links = [self._link(number, index, fresh=fresh) for index in range(self.files(number))]
        return sample_callback(PROVIDER, task_id(number), files=links)

    def _link(self, number: int, index: int, *, fresh: bool) -> str:
        expired = "?expired" if self.has("dead", number, index) and not fresh else ""
        return f"http://127.0.0.1:{self.port}/media/{number}/{index}.png{expired}"

    async def play(self, service: Receiver, number: int) -> None:
        """One task: logged in one of two ways, its callback sent until somebody answers for it."""
        self.started += 1
        row = {"provider": PROVIDER, "owner": f"user-{number % 7}"}
        path = f"/callbacks/{PROVIDER}/{self._tokens.for_provider(PROVIDER)}"
        if self.has("early", number):
            await self._call_back(service, number, path)
            await self._log(service, row | {"task_id": task_id(number)})
        elif number % 2:
            await self._log(service, row | {"task_id": task_id(number)})
            await self._call_back(service, number, path)
        else:
            reserved = await self._log(service, row)
            path = reserved["callback_url"].removeprefix(service.url)
            await self._call_back(service, number, path)
            if self.has("drop", number):  # nobody else binds it
                await self._ask(
                    service, "PATCH", f"/submissions/{reserved['id']}", json={"task_id": task_id(number)}
                )
        self.finished += 1

    async def _log(self, service: Receiver, row: dict[str, str]) -> Any:
        return await self._ask(service, "POST", "/submissions", json=row)

    async def _call_back(self, service: Receiver, number: int, path: str) -> None:
        if self.has("drop", number):
            return
        for _ in range(1 + self.has("duplicate", number)):
            answer = await self._ask(service, "POST", path, content=self.body(number, fresh=False))
            self.verdicts[answer["status"]] += 1
            self.acknowledged.setdefault(number, answer["status"])

    async def _ask(self, service: Receiver, method: str, path: str, **content: Any) -> Any:
        """A good answer, however often it has to be asked."""
        while True:
            with suppress(httpx2.TransportError):
                answer = await service.http.request(method, path, headers=bearer(API_TOKEN), **content)
                if answer.status_code != 503:
                    answer.raise_for_status()
                    return answer.json()
            await asyncio.sleep(0.05)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = (line.partition(": ") for line in head.lower().split("\r\n"))
                length = next((int(value) for name, _, value in lines if name == "content-length"), 0)
                body = await reader.readexactly(length)
                await self._answer(head.split(" ")[1], body, writer)
                await writer.drain()
        writer.close()

    async def _answer(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        _, kind, *rest = path.split("/")
        if path.endswith("?expired"):
            writer.write(_head(403, 0))
        elif kind == "hook":
            self._hear(body, writer)
        elif kind == "media":
            await self._send_file(int(rest[0]), int(rest[1].removesuffix(".png")), writer)
        else:
            self._tell_state(int(path.removeprefix(STATUS).removeprefix("task-")), writer)

    def _hear(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        if self.is_away:
            writer.write(_head(503, 0))
            return
        event = json.loads(body)
        self.told[number_of(event["data"]["task_id"])].append((self.life, event["id"]))
        writer.write(_head(200, 0))

    async def _send_file(self, number: int, index: int, writer: asyncio.StreamWriter) -> None:
        content = self.content(number, index)
        middle = len(content) // 2
        name = f"{number}/{index}"
        writer.write(_head(200, len(content)) + content[:middle])
        if self.has("broken", number, index) and name not in self._broken:
            self._broken.add(name)
            raise ConnectionResetError
        # Now and not at the end: by then the one that asked may be dead, and the next one alive.
        self.fetched[number, index].append(self.life)
        if self.has("slow", number, index):
            await writer.drain()
            await asyncio.sleep(random.Random(name).random() * self._fates.slow_seconds)
        writer.write(content[middle:])

    def _tell_state(self, number: int, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.has("busy", self.asked):
            writer.write(_head(429, 0, "retry-after: 1"))
            return
        body = self.body(number, fresh=True)
        writer.write(_head(200, len(body)) + body)


@asynccontextmanager
async def open_world(fates: Fates) -> AsyncIterator[World]:
    world = World(fates)
    async with listening(world.serve) as world.port:
        yield world


def settings(world: World, *, first_poll_seconds: float) -> dict[str, str]:
    """What the service has to know of this world."""
    return {
        "VIDGO_API_KEY": "any-key-will-do-here",
        "VIDGO_BASE_URL": f"http://127.0.0.1:{world.port}",
        "VIDGO_FIRST_POLL_SECONDS": f"{first_poll_seconds:g}",
        "VIDGO_POLLS_PER_MINUTE": "6000",
        "RECEIVER_SINK_FILE": "jsonl:events.jsonl",
        "RECEIVER_SINK_HOOK": f"http://127.0.0.1:{world.port}/hook",
        "RECEIVER_ASSET_CONCURRENCY": str(AT_ONCE),
        "RECEIVER_SINK_FILE_CONCURRENCY": str(AT_ONCE),
        "RECEIVER_SINK_HOOK_CONCURRENCY": str(AT_ONCE),
    }


def task_id(number: int) -> str:
    return f"task-{number}"


def number_of(task: str) -> int:
    return int(task.removeprefix("task-"))


def _head(status: int, length: int, *lines: str) -> bytes:
    extra = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{extra}\r\n".encode()


@cache
def _noise(large: bool) -> bytes:
    return picture(size=(800, 600) if large else (48, 32))


def _numbered(large: bool, number: int, index: int) -> bytes:
    """The same noise with another comment before its end."""
    whole = _noise(large)
    end = whole.rindex(b"IEND") - 4
    comment = b"tEXt" + f"Comment\0{number}/{index}".encode()
    chunk = struct.pack(">I", len(comment) - 4) + comment + struct.pack(">I", zlib.crc32(comment))
    return whole[:end] + chunk + whole[end:]


class Figures(msgspec.Struct, kw_only=True):
    """What a run came to. Each list names what must not be, and is empty where all is well."""

    kills: int = 0
    tasks: int = 0
    acknowledged: int = 0
    lost: list[str] = []
    torn: list[str] = []
    doubled: list[str] = []
    told_again: int = 0  # in a later life, as promised
    fetched_again: int = 0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.torn or self.doubled)

    def report(self) -> str:
        worst = [f"  {line}" for line in [*self.lost, *self.torn, *self.doubled][:20]]
        return "\n".join(
            [
                f"kills                                   {self.kills:>8,}",
                f"tasks                                   {self.tasks:>8,}",
                f"callbacks acknowledged                  {self.acknowledged:>8,}",
                f"lost                                    {len(self.lost):>8,}",
                f"torn, strange or left-over files        {len(self.torn):>8,}",
                f"doubles beyond the promise              {len(self.doubled):>8,}",
                f"told again, in flight at a kill         {self.told_again:>8,}",
                f"fetched again, in flight at a kill      {self.fetched_again:>8,}",
                f"minutes                                 {self.seconds / 60:>8.1f}",
                *worst,
            ]
        )


async def is_at_rest(world: World, service: Receiver) -> bool:
    """Whether every task has ended and every sink has been told."""
    try:
        answer = await service.http.get("/stats", headers=bearer(ADMIN_TOKEN))
    except httpx2.TransportError:
        return False
    if answer.status_code != 200:
        return False
    stats = answer.json()
    ended = sum(stats["tasks"].get(state, 0) for state in ("completed", "partial", "failed"))
    pending = sum(sink.get("pending", 0) for sink in stats["outbox"].values())
    return bool(ended == world.started and pending == 0)


def compare(world: World, service: Receiver, lives_of_lines: Callable[[int], int]) -> Figures:
    """The ledger, read once the service is gone. ``lives_of_lines``: from a line's place to its life."""
    lines = _lines(service, lives_of_lines)
    ids = {number: {event for _, event in world.told[number]} for number in range(world.started)}
    figures = Figures(tasks=world.started, acknowledged=len(world.acknowledged))
    with closing(sqlite3.connect(service.data / "receiver.db")) as connection:
        figures.lost += _not_on_record(world, connection)
    for number in range(world.started):
        for sink, told in (("hook", world.told[number]), ("file", lines[number])):
            if not told:
                figures.lost.append(f"task {number}: {sink} was never told")
        ids[number] |= {event for _, event in lines[number]}
        if len(ids[number]) > 1:
            figures.doubled.append(f"task {number} is told by {len(ids[number])} ids")
    figures.torn += _bad_files(world, service)
    for by_task, most in ((world.told, AT_ONCE), (lines, LINES_AT_ONCE)):
        lives = {number: [life for life, _ in each] for number, each in by_task.items()}
        figures.told_again += repeats(lives, figures.doubled, "told", most=most)
    figures.fetched_again = repeats(world.fetched, figures.doubled, "fetched")
    figures.doubled += _fetched_after_the_end(world)
    return figures


def _not_on_record(world: World, connection: sqlite3.Connection) -> Iterator[str]:
    deliveries = {
        row[0] for row in connection.execute("SELECT task_id FROM deliveries WHERE via = 'callback'")
    }
    ends = dict(
        connection.execute("SELECT task_id, type FROM submissions JOIN events USING (number)").fetchall()
    )
    for number in world.acknowledged:
        if task_id(number) not in deliveries:
            yield f"task {number}: its callback was answered for and is not on record"
    for number in range(world.started):
        wanted = "task.completed" if world.files(number) else "task.failed"
        if ends.get(task_id(number)) != wanted:
            yield f"task {number} is {ends.get(task_id(number))}, not {wanted}"
    for row in connection.execute("PRAGMA integrity_check"):
        if row != ("ok",):
            yield f"the database: {row[0]}"


def _bad_files(world: World, service: Receiver) -> Iterator[str]:
    wanted = {
        f"{PROVIDER}/{task_id(number)}/{index}.png": (number, index)
        for number in range(world.started)
        for index in range(world.files(number))
    }
    folder = service.data / "assets"
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    for name in wanted.keys() - there.keys():
        yield f"{name} is missing"
    for name in there.keys() - wanted.keys():
        yield f"{name} is nobody's"
    for name in wanted.keys() & there.keys():
        if not is_whole(world, there[name], *wanted[name]):
            yield f"{name} is torn, or another's"
    for path in (service.data / "incoming").glob("*"):
        yield f"{path.name} was left over"


def is_whole(world: World, path: Path, number: int, index: int) -> bool:
    """Whether a file that is there is the one that was sent."""
    wanted = hashlib.sha256(world.content(number, index)).digest()
    return hashlib.sha256(path.read_bytes()).digest() == wanted


def _lines(
    service: Receiver, lives_of_lines: Callable[[int], int]
) -> defaultdict[int, list[tuple[int, str]]]:
    """What the file was told, by task; a line that a kill cut short tells nobody anything."""
    told: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    place = 0
    for line in (service.data / "events.jsonl").read_bytes().split(b"\n"):
        with suppress(ValueError):
            event = json.loads(line)
            told[number_of(event["data"]["task_id"])].append((lives_of_lines(place), event["id"]))
        place += len(line) + 1
    return told


def repeats(lives: Any, doubled: list[str], what: str, *, most: int = AT_ONCE) -> int:
    """How often something happened again in a later life; beyond that it is noted in ``doubled``.

    Each kill may have met only what was in flight, and that is ``most`` at a time.
    """
    met: Counter[int] = Counter()
    for thing, each in lives.items():
        if len(set(each)) < len(each):
            doubled.append(f"{thing} was {what} twice in one life: {each}")
        met.update(sorted(set(each))[:-1])
    for life, count in met.items():
        if count > most:
            doubled.append(f"{count} things {what} in life {life} were {what} again")
    return met.total()


def _fetched_after_the_end(world: World) -> Iterator[str]:
    for (number, index), lives in world.fetched.items():
        ends = [life for life, _ in world.told[number]]
        if ends and max(lives) > min(ends):
            yield f"file {number}/{index} was fetched in life {max(lives)}, told of in life {min(ends)}"
