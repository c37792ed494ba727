"""Several real processes on one PostgreSQL record: they do everything once, and each can go at any time."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.e2e.fleet import fleet, lines
from tests.e2e.service import API_TOKEN, Consumer, Receiver, bearer, consumer
from tests.support.media_host import MediaHost, media_host, picture, says
from tests.support.postgres import scratch_database
from tests.support.status_host import running, tells
from tests.support.waiting import until

DOOR, WORKER = ("serve", "--no-work"), ("work",)
SHORT_LEASES = "import receiver.loops; receiver.loops.LEASE_GRACE_SECONDS = 0.5"
PICTURE, OTHER_PICTURE = picture(), picture(size=(48, 48))
TAKEN_OVER_SECONDS = 15.0  # what is promised
AT_ONCE_SECONDS = 8.0  # less than a lane lasts that nobody leaves, or than a wait that nobody ends
BUSY_SECONDS = 60.0  # seven processes and a database on two cores


@pytest.fixture
def database() -> Iterator[str]:
    with scratch_database() as url:
        yield url


async def waited_for(door: Receiver, task_id: str) -> tuple[str, float]:
    """The state that a waiting request was answered, and when."""
    answer = await door.http.get(f"/tasks/vidgo/{task_id}?wait=15", headers=bearer(API_TOKEN))
    return answer.json()["state"], time.monotonic()


class Gate:
    """Answers half of one picture, and the rest of it once it is opened; who asks again has another."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.asked = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        if self.asked > 1:
            await says(200, OTHER_PICTURE)(writer)
            return
        half = len(PICTURE) // 2
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n" % len(PICTURE) + PICTURE[:half])
        await writer.drain()
        await self.opened.wait()
        writer.write(PICTURE[half:])


async def test_everything_is_done_once_and_each_process_can_go(database: str, tmp_path: Path) -> None:
    async with media_host() as host, consumer() as hook:
        await hook.start()
        host.otherwise = tells(running())
        settings = {
            "RECEIVER_SINK_HOOK": hook.url,
            "RECEIVER_ASSET_TIMEOUT_SECONDS": "1",
            "RECEIVER_CONFIRM": "never",
            "VIDGO_API_KEY": "any",
            "VIDGO_BASE_URL": host.url(""),
            "VIDGO_FIRST_POLL_SECONDS": "1",
        }
        relays, others = ("work", "--only", "relay"), ("work", "--only", "poll", "--only", "assets")
        async with fleet(tmp_path, settings, database, DOOR, DOOR, relays, others) as (whole, members):
            door = members[0]
            assert (await door.parts())["work"] == "none"
            await until(partial(says_of, door, "sink hook", "elsewhere: running"))
            await a_task_goes_through_several_processes(members, host, hook)
            members += [
                whole.add("work", "--only", "relay", "--only", "poll", "--only", "upkeep"),
                whole.add("work", "--only", "assets"),
            ]
            await whole.start(members[4])
            assert whole.holder("poll vidgo") not in {None, whole.holder("sink hook")}
            await others_do_what_two_no_longer_do(members, host, hook)
            # Those that end in good order hand on at once.
            once_frozen, last = members[3:5]
            before = len(lines(once_frozen, "lane.taken"))
            last.signal(signal.SIGTERM)
            await until(lambda: lines(last, "worker.drained"), BUSY_SECONDS)
            await until(lambda: len(lines(once_frozen, "lane.taken")) == before + 2, AT_ONCE_SECONDS)
            assert await last.ended() == 0
            assert hook.told() == ["t1", "t2", "t3"]
            # Nobody is left who does it, which a door tells, ready as it is.
            await until(partial(says_of, door, "sink hook", "elsewhere: no process does it now"))
            assert 'receiver_sink_trouble{sink="hook"} 1.0' in (await door.http.get("/metrics")).text


async def says_of(door: Receiver, part: str, state: str) -> bool:
    parts = await door.parts()
    return parts[""] == "200" and parts.get(part) == state


async def a_task_goes_through_several_processes(
    members: Sequence[Receiver], host: MediaHost, hook: Consumer
) -> None:
    """Logged at one door, called back at the other, fetched by one worker, told by another."""
    a, b, _, others = members
    await a.submit("t1")
    waiting = asyncio.create_task(waited_for(a, "t1"))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    assert await b.call_back("t1", host.put("/t1.png", says(200, PICTURE))) == "accepted"
    state, answered = await waiting
    assert (state, answered - began < AT_ONCE_SECONDS) == ("completed", True)
    await until(lambda: hook.told() == ["t1"], AT_ONCE_SECONDS)
    await a.submit("p1")
    await until(lambda: asked_by(others) == ["p1"], BUSY_SECONDS)


async def others_do_what_two_no_longer_do(
    members: Sequence[Receiver], host: MediaHost, hook: Consumer
) -> None:
    """One worker is killed, and one frozen in the middle of a file."""
    a, b, killed, frozen, third, fetching = members
    gate = Gate()
    await a.submit("t2")
    await b.call_back("t2", host.put("/t2.png", gate))
    await until(lambda: gate.asked, BUSY_SECONDS)
    frozen.signal(signal.SIGSTOP)
    await killed.kill()
    began = time.monotonic()
    fetching.launch()
    await a.submit("p2")
    await b.finish("t3")
    await until(lambda: taken(third) >= {"poll vidgo", "sink hook"}, TAKEN_OVER_SECONDS)
    assert time.monotonic() - began < TAKEN_OVER_SECONDS
    await until(lambda: hook.told() == ["t1", "t2", "t3"], BUSY_SECONDS)
    assert gate.asked == 2

    # What the frozen one had under way changes nothing, and it does not go on where it was.
    gate.opened.set()
    frozen.signal(signal.SIGCONT)
    settled = partial(lines, frozen, "asset.settled")
    await until(lambda: [line["settled"] for line in settled()] == [True, False], BUSY_SECONDS)
    await until(lambda: {line["lane"] for line in lines(frozen, "lane.lost")} >= {"poll vidgo"}, BUSY_SECONDS)
    (path,) = (a.data / "assets/vidgo/t2").iterdir()
    assert path.read_bytes() == OTHER_PICTURE
    assert (await a.task("t2"))["assets"][0]["sha256"] == sha256(OTHER_PICTURE).hexdigest()
    await until(lambda: "p2" in asked_by(third), BUSY_SECONDS)
    assert "p2" not in asked_by(frozen)


async def test_without_a_data_folder_everything_works_but_what_lies_in_it(
    database: str, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    async with media_host() as host, consumer() as hook:
        await hook.start()
        settings = {
            "RECEIVER_DATA_DIR": "/proc/receiver",  # where nobody can make a folder
            "RECEIVER_ASSETS_URL": f"file://{tmp_path}/assets",
            "RECEIVER_SINK_HOOK": hook.url,
            "TMPDIR": str(tmp_path / "tmp"),
        }
        async with fleet(tmp_path, settings, database, ("serve",)) as (whole, (service,)):
            await service.finish("t1", host.put("/t1.png", says(200, PICTURE)))
            await until(lambda: hook.told() == ["t1"], BUSY_SECONDS)
            (asset,) = (await service.task("t1"))["assets"]
            assert asset["state"] == "stored"
            answer = await service.http.get("/assets/vidgo/t1/0", headers=bearer(API_TOKEN))
            assert answer.content == PICTURE

            examined = await asyncio.to_thread(whole.run, "doctor", "--json")
            checks = {each["name"]: each for each in json.loads(examined.stdout)["checks"]}
            assert {name for name, each in checks.items() if each["state"] == "fail"} == set()
            assert checks["wake-ups"]["state"] == checks["database clock"]["state"] == "ok"
            assert "sqlite" not in checks
            await service.stop()
    assert list((tmp_path / "tmp").iterdir()) == []


def taken(member: Receiver) -> set[str]:
    """The lanes that a process has had."""
    return {line["lane"] for line in lines(member, "lane.taken")}


def asked_by(member: Receiver) -> list[str]:
    """The tasks that a process asked about, in order."""
    return [line["task_id"] for line in lines(member, "poll.settled")]


@pytest.mark.parametrize("command", [("work",), ("serve", "--no-work")], ids=" ".join)
def test_sqlite_is_for_one_process(tmp_path: Path, command: Sequence[str]) -> None:
    told = CliRunner().invoke(main, command, env={"RECEIVER_DATA_DIR": str(tmp_path / "data")})
    assert told.exit_code == 2
    assert "set RECEIVER_DATABASE_URL=postgresql://" in " ".join(told.stderr.split())
    assert not (tmp_path / "data").exists()
