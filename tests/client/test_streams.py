"""Events of a Redis stream, consumed beside a real server: once, in spite of kills, faults and company."""

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from receiver.client import Event, Seen, SqliteSeen, StreamFailed, arun, streams
from receiver.testing import sample_notification
from tests.support.manual import CHAPTERS
from tests.support.sink_hosts import RedisCluster, RedisServer, program_of
from tests.support.waiting import until, wait_until

SECONDS = 60.0

Handler = Callable[[Event], object]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that take a minute in earnest."""
    monkeypatch.setattr(streams, "TRY_SECONDS", (0.01,) * 4)
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(streams, "BLOCK_MS", 100)
    monkeypatch.setattr(streams, "AWAY_SECONDS", (0.05, 0.2))


class Told:
    """A handler that remembers; its form says whether it is a coroutine function."""

    def __init__(self, form: str = "sync", fault: Callable[[Event], None] = lambda _: None) -> None:
        self.ids: list[str] = []
        self._form = form
        self._fault = fault

    @property
    def handler(self) -> Handler:
        async def handle(event: Event) -> None:
            self(event)

        return self if self._form == "sync" else handle

    def __call__(self, event: Event) -> None:
        self._fault(event)
        self.ids.append(event.id)


def add(redis: RedisServer, *ids: str, stream: str = "images", **replay: str) -> None:
    with redis.client() as client:
        for id_ in ids:
            body = sample_notification(id_).body
            if replay:
                body = body.replace(b'"data":', b'"replayid":"' + replay["replay_id"].encode() + b'","data":')
            client.xadd(stream, {"id": id_, "type": "task.completed", "event": body})


def url(redis: RedisServer, name: str = "one") -> str:
    """As the sink has it, and a name."""
    return f"redis://127.0.0.1:{redis.port}/0?stream=images&dedupe_seconds=600&consumer={name}"


@asynccontextmanager
async def consuming(
    redis: RedisServer,
    handler: Handler,
    *,
    name: str = "one",
    group: str = "app",
    seen: Seen | None = None,
    concurrency: int = 1,
) -> AsyncIterator["asyncio.Task[None]"]:
    running = asyncio.create_task(
        arun(url(redis, name), handler, group=group, seen=seen, concurrency=concurrency)
    )
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def left(redis: RedisServer, group: str = "app") -> tuple[int, int]:
    """How many entries are in the stream, and how many of them somebody has in hand."""
    with redis.client() as client:
        try:
            return client.xlen("images"), client.xpending("images", group)["pending"]
        except ResponseError:  # nobody has joined yet, or has again
            return -1, -1


def set_aside(redis: RedisServer) -> list[dict[bytes, bytes]]:
    with redis.client() as client:
        return [fields for _, fields in client.xrange("images:failed")]


def nothing_left(redis: RedisServer) -> Callable[[], bool]:
    return lambda: left(redis) == (0, 0)


# --- each once ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_each_event_is_handled_in_order_and_nothing_is_left(redis: RedisServer, form: str) -> None:
    told = Told(form)
    add(redis, "evt_1", "evt_2")
    async with consuming(redis, told.handler):
        await until(lambda: len(told.ids) == 2, SECONDS)
        add(redis, "evt_3")
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1", "evt_2", "evt_3"]


@pytest.mark.parametrize("kind", [set, SqliteSeen])
async def test_repeats_are_dropped_and_replays_are_not(
    redis: RedisServer, tmp_path: Path, kind: type[Seen]
) -> None:
    seen: Seen = SqliteSeen(tmp_path / "seen.db") if kind is SqliteSeen else set()
    told = Told()
    add(redis, "evt_1", "evt_1", "evt_1.2")
    add(redis, "evt_1", replay_id="rpl_1")
    add(redis, "evt_1", replay_id="rpl_1")
    async with consuming(redis, told, seen=seen):
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1", "evt_1.2", "evt_1"]
    if isinstance(seen, SqliteSeen):
        seen.close()
        again = SqliteSeen(tmp_path / "seen.db")
        assert "evt_1" in again
        assert "evt_2" not in again
        again.close()


async def test_two_consumers_share_the_events(redis: RedisServer) -> None:
    first, second = Told(fault=lambda _: time.sleep(0.005)), Told(fault=lambda _: time.sleep(0.005))
    ids = [f"evt_{number}" for number in range(40)]
    add(redis, *ids)
    async with consuming(redis, first, name="one"), consuming(redis, second, name="two", concurrency=3):
        await until(nothing_left(redis), SECONDS)
    assert Counter(first.ids + second.ids) == Counter(ids)
    assert first.ids
    assert second.ids


async def test_no_more_are_handled_at_once_than_is_allowed(redis: RedisServer) -> None:
    at_once, most, alone = 0, 0, threading.Lock()

    def handle(_: Event) -> None:
        nonlocal at_once, most
        with alone:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with alone:
            at_once -= 1

    add(redis, *(f"evt_{number}" for number in range(12)))
    async with consuming(redis, handle, concurrency=3):
        await until(nothing_left(redis), SECONDS)
    assert most == 3


async def test_two_groups_get_all_of_it_each_and_neither_deletes_what_the_other_wants(
    redis: RedisServer,
) -> None:
    first, second = Told(), Told()
    add(redis, "evt_1", "evt_2")
    with redis.client() as client:
        client.xgroup_create("images", "other", id="0")
    async with consuming(redis, first):
        await until(lambda: len(first.ids) == 2, SECONDS)
        await until(lambda: left(redis) == (2, 0), SECONDS)
    async with consuming(redis, second, group="other"):
        await until(lambda: len(second.ids) == 2 and left(redis, "other") == (2, 0), SECONDS)
    assert first.ids == second.ids == ["evt_1", "evt_2"]


# --- what fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_what_fails_five_times_is_set_aside_and_holds_up_nobody(redis: RedisServer, form: str) -> None:
    tries: list[str] = []

    def fault(event: Event) -> None:
        tries.append(event.id)
        if event.id == "evt_1":
            raise RuntimeError("a secret of the handler's")

    told = Told(form, fault)
    add(redis, "evt_1", "evt_2")
    async with consuming(redis, told.handler):
        await until(nothing_left(redis), SECONDS)
    assert tries == ["evt_1"] * 5 + ["evt_2"]
    (kept,) = set_aside(redis)
    assert (kept[b"id"], kept[b"why"], kept[b"group"]) == (b"evt_1", b"RuntimeError", b"app")
    assert kept[b"event"] == sample_notification("evt_1").body


async def test_what_fails_twice_and_then_does_not_is_handled(redis: RedisServer) -> None:
    faults = iter([ValueError(), ValueError()])

    def fault(_: Event) -> None:
        if error := next(faults, None):
            raise error

    told = Told(fault=fault)
    add(redis, "evt_1")
    async with consuming(redis, told):
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1"]
    assert set_aside(redis) == []


async def test_what_is_no_event_is_set_aside_at_once(redis: RedisServer) -> None:
    told = Told()
    with redis.client() as client:
        client.xadd("images", {"event": b"{}"})
        client.xadd("images", {"something": b"else"})
    add(redis, "evt_1")
    async with consuming(redis, told):
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1"]
    assert [b"form" in kept[b"why"] for kept in set_aside(redis)] == [True, True]


async def test_what_ended_its_consumer_five_times_is_not_begun_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_MS", 50)
    told = Told()
    add(redis, "evt_1", "evt_2")
    with redis.client() as client:
        client.xgroup_create("images", "app", id="0")
        ((_, ((entry, _),)),) = client.xreadgroup("app", "dead", {"images": ">"}, count=1)
        client.xclaim("images", "app", "dead", 0, [entry], retrycount=5)
    async with consuming(redis, told):
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_2"]
    assert [kept[b"id"] for kept in set_aside(redis)] == [b"evt_1"]


async def test_an_entry_that_was_deleted_while_it_was_in_hand_is_passed_over(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_MS", 50)
    told = Told()
    add(redis, "evt_1", "evt_2", "evt_3")
    with redis.client() as client:
        client.xgroup_create("images", "app", id="0")
        for name in ("one", "dead"):  # ours, and another's
            ((_, ((entry, _),)),) = client.xreadgroup("app", name, {"images": ">"}, count=1)
            client.xdel("images", entry)
    async with consuming(redis, told):
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_3"]


# --- kills ----------------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sys
from receiver.client import SqliteSeen, run, streams

streams.BLOCK_MS = 100

def die():
    if not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

def on_event(event):
    with open("told.txt", "a") as told:
        print(event.id, file=told)
    {in_handler}

{before}
run({url!r}, on_event, group="app", seen={seen})
"""


@contextmanager
def script(
    folder: Path, redis: RedisServer, *, in_handler: str = "pass", before: str = "", seen: str = "None"
) -> Iterator[subprocess.Popen[bytes]]:
    code = SCRIPT.format(url=url(redis), in_handler=in_handler, before=before, seen=seen)
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(folder: Path) -> list[str]:
    path = folder / "told.txt"
    return path.read_text().split() if path.exists() else []


BEFORE_THE_ACK = """
async def settle(*_): die()
if not os.path.exists("died"): streams.Consumer._settle = settle
"""


def test_killed_between_handling_and_acknowledging_it_gets_that_event_again_and_first(
    redis: RedisServer, tmp_path: Path
) -> None:
    add(redis, "evt_1", "evt_2")
    with script(tmp_path, redis, before=BEFORE_THE_ACK) as process:
        assert process.wait(SECONDS) == -signal.SIGKILL
    assert left(redis) == (2, 1)
    with script(tmp_path, redis):
        wait_until(nothing_left(redis), SECONDS)
    assert lines(tmp_path) == ["evt_1", "evt_1", "evt_2"]


def test_what_was_handled_before_the_kill_is_not_handled_again_where_that_was_noted(
    redis: RedisServer, tmp_path: Path
) -> None:
    add(redis, "evt_1", "evt_2")
    seen = "SqliteSeen('seen.db')"
    with script(tmp_path, redis, before=BEFORE_THE_ACK, seen=seen) as process:
        assert process.wait(SECONDS) == -signal.SIGKILL
    with script(tmp_path, redis, seen=seen):
        wait_until(nothing_left(redis), SECONDS)
    assert lines(tmp_path) == ["evt_1", "evt_2"]


async def test_another_consumer_goes_on_with_what_a_dead_one_had_in_hand(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(redis, "evt_1")
    with script(tmp_path, redis, in_handler="die()") as process:
        assert await asyncio.to_thread(process.wait, SECONDS) == -signal.SIGKILL
    told = Told()
    monkeypatch.setattr(streams, "DEAD_MS", 60_000)
    async with consuming(redis, told, name="two"):
        await asyncio.sleep(0.4)
        assert told.ids == []  # not yet: it may live
    monkeypatch.setattr(streams, "DEAD_MS", 100)
    async with consuming(redis, told, name="two"):
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1"]


async def test_what_takes_long_is_not_taken_away(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.05)
    may_end, idle = threading.Event(), [0]

    def shows_life() -> bool:
        """Nobody takes what has not been idle for long: again and again, what takes long is not idle."""
        (entry,) = client.xpending_range("images", "app", "-", "+", 1)
        idle.append(entry["time_since_delivered"])
        return sum(later < before for before, later in pairwise(idle)) >= 5

    def handle(_: Event) -> None:
        may_end.wait(SECONDS)

    told = Told(fault=handle)
    add(redis, "evt_1")
    with redis.client() as client:
        async with consuming(redis, told):
            await until(lambda: left(redis) == (1, 1), SECONDS)
            await until(shows_life, SECONDS)
            may_end.set()
            await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_what_is_in_hand_and_begins_nothing(
    redis: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    add(redis, "evt_1", "evt_2")
    slowly = "import time; time.sleep(0.5); open('done', 'w').close()"
    with script(tmp_path, redis, in_handler=slowly) as process:
        wait_until(lambda: lines(tmp_path), SECONDS)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0, (tmp_path / "log.txt").read_text()
    assert (tmp_path / "done").exists()
    assert lines(tmp_path) == ["evt_1"]
    assert left(redis) == (1, 0)
    with redis.client() as client:
        assert client.xinfo_consumers("images", "app") == []  # no name is left behind


# --- other servers --------------------------------------------------------------------------------


@pytest.fixture(params=["redis 8", "valkey", "cluster"])
def another(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of another kind, or the node of a cluster that keeps the stream of this test."""
    if request.param == "cluster":
        cluster = RedisCluster(tmp_path)
        try:
            cluster.start()
            yield cluster.owner("{images}:events")[0]
        finally:
            cluster.stop()
    else:
        server = RedisServer(tmp_path, program=program_of(request.param))
        server.start()
        yield server
        server.stop()


async def test_servers_of_other_kinds_do_the_same(
    another: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_MS", 50)
    stream = "{images}:events"
    add(another, "evt_1", "evt_2", "evt_3", "evt_4", stream=stream)
    with another.client() as client:
        client.xgroup_create(stream, "app", id="0")
        ((_, ((gone, _),)),) = client.xreadgroup("app", "dead", {stream: ">"}, count=1)
        client.xdel(stream, gone)
        client.xreadgroup("app", "dead", {stream: ">"}, count=1)
        told = Told(fault=lambda event: json.loads("no JSON") if event.id == "evt_3" else None)
        place = f"redis://127.0.0.1:{another.port}/0?stream={stream}"
        running = asyncio.create_task(arun(place, told, group="app"))
        await until(
            lambda: client.xlen(stream) == 0 and not client.xpending(stream, "app")["pending"], SECONDS
        )
        running.cancel()
        assert sorted(told.ids) == ["evt_2", "evt_4"]
        assert client.xlen(f"{stream}:failed") == 1


# --- the server -----------------------------------------------------------------------------------


async def test_a_server_that_is_away_is_waited_for(redis: RedisServer) -> None:
    told = Told(fault=lambda event: redis.stop() if event.id == "evt_1" and not told.ids else None)
    add(redis, "evt_1", "evt_2")
    async with consuming(redis, told) as running:
        await until(lambda: told.ids, SECONDS)
        await asyncio.sleep(0.2)
        assert not running.done()
        await asyncio.to_thread(redis.start)
        await until(nothing_left(redis), SECONDS)
    assert told.ids == ["evt_1", "evt_2"]


async def test_a_stream_that_somebody_deleted_is_made_again(redis: RedisServer) -> None:
    told = Told()
    async with consuming(redis, told):
        add(redis, "evt_1")
        await until(nothing_left(redis), SECONDS)
        with redis.client() as client:
            client.delete("images")
        add(redis, "evt_2")
        await until(lambda: told.ids == ["evt_1", "evt_2"], SECONDS)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_stream_that_is_deleted_while_an_event_is_in_hand_is_made_again(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.0)  # each time it looks for entries of the dead first

    def fault(event: Event) -> None:
        if event.id == "evt_1":
            with redis.client() as client:
                client.delete("images")
            if fails:
                raise ValueError

    told = Told(fault=fault)
    async with consuming(redis, told):
        add(redis, "evt_1")
        await until(lambda: left(redis) == (0, 0), SECONDS)
        add(redis, "evt_2")
        await until(lambda: "evt_2" in told.ids, SECONDS)
    assert told.ids == (["evt_2"] if fails else ["evt_1", "evt_2"])


async def test_a_wrong_password_ends_it_at_once(redis: RedisServer) -> None:
    with redis.client() as client:
        client.config_set("requirepass", "the-right-one")
    wrong = url(redis).replace("redis://", "redis://:wrong@")
    with pytest.raises(StreamFailed):
        await asyncio.wait_for(arun(wrong, Told(), group="app"), SECONDS)


async def test_a_user_with_what_the_manual_names_and_nothing_else_is_enough(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DEAD_MS", 50)
    (rights,) = re.findall(r"^ACL SETUSER backend (.*)$", CHAPTERS["client"], re.MULTILINE)
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "backend", *rights.split())
        add(redis, "evt_1", "evt_2", "evt_3")
        client.xgroup_create("images", "other", id="0")
        client.xgroup_destroy("images", "other")
        client.xgroup_create("images", "app", id="0")
        client.xreadgroup("app", "dead", {"images": ">"}, count=1)
    told = Told(fault=lambda event: json.loads("no JSON") if event.id == "evt_2" else None)
    place = url(redis).replace("redis://", "redis://backend:PASSWORD@")
    running = asyncio.create_task(arun(place, told, group="app"))
    await until(nothing_left(redis), SECONDS)
    assert not running.done()
    running.cancel()
    assert sorted(told.ids) == ["evt_1", "evt_3"]
    assert [kept[b"why"] for kept in set_aside(redis)] == [b"JSONDecodeError"]


async def test_a_user_who_may_not_acknowledge_is_told_so(redis: RedisServer) -> None:
    with redis.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "backend", "on", ">PASSWORD", "~images", "+xgroup", "+xpending"
        )
    place = url(redis).replace("redis://", "redis://backend:PASSWORD@")
    with pytest.raises(StreamFailed, match="permissions"):
        await asyncio.wait_for(arun(place, Told(), group="app"), SECONDS)


async def test_a_cancelled_consumer_ends_whatever_it_was_doing(redis: RedisServer) -> None:
    moments = random.Random(0)
    for _ in range(60):
        running = asyncio.create_task(arun(url(redis), Told(), group="app"))
        await asyncio.sleep(moments.random() * 0.03)
        running.cancel()
        await asyncio.wait({running}, timeout=SECONDS)
        assert running.cancelled()


async def test_a_key_of_another_kind_ends_it_at_once(redis: RedisServer) -> None:
    with redis.client() as client:
        client.set("images", "no stream")
    with pytest.raises(StreamFailed, match="WRONGTYPE"):
        await asyncio.wait_for(arun(url(redis), Told(), group="app"), SECONDS)
