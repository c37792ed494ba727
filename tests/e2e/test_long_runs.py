"""The long runs of `tests.bench`, cut short: kills at random under load, and the ledger that judges them."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg

from tests.bench import fleet
from tests.bench.fleet_ledger import judge
from tests.bench.kills import run
from tests.bench.soak import WAL_LIMIT_BYTES, Sample, growth
from tests.bench.world import Fates, compare, is_at_rest, open_world, settings
from tests.e2e.service import receiver
from tests.support.waiting import until

# What a killed process had under way is free again after a few seconds.
# Longer than a message may take to be made and sent, as the relay asks, where a sink has two seconds.
SHORT_LEASES = (
    "import receiver.loops; receiver.loops.LEASE_GRACE_SECONDS = 8.0; receiver.loops.ASK_SECONDS = 2.0;"
    " from receiver.cli import main; main()"
)


async def test_ten_kills_at_random_under_load_lose_tear_and_double_nothing(tmp_path: Path) -> None:
    figures = await run(tmp_path, kills=10)
    assert figures.is_good, figures.report()
    assert figures.kills == 10
    assert figures.acknowledged > 10


async def test_five_ends_in_good_order_under_load_repeat_nothing_at_all(tmp_path: Path) -> None:
    figures = await run(tmp_path, kills=5, gently=True)
    assert figures.is_good, figures.report()
    assert figures.acknowledged > 5


async def test_a_fleet_that_is_killed_one_by_one_on_a_server_that_restarts_loses_tears_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    plan = fleet.Plan(
        tasks=40,
        kills=4,
        every_seconds=0.6,
        rate=20.0,
        retry_factor=0.05,
        link_seconds=120.0,
        program=("-c", SHORT_LEASES),
        settings={
            "RECEIVER_ASSET_TIMEOUT_SECONDS": "3",
            "RECEIVER_SINK_FILE_TIMEOUT_SECONDS": "2",
            "RECEIVER_SINK_HOOK_TIMEOUT_SECONDS": "2",
        },
    )
    async with fleet.played(tmp_path, plan) as (scene, database):
        figures = judge(scene, database)
        assert figures.is_good, figures.report()
        assert figures.restarts == 2
        assert figures.kills >= 4
        assert figures.acknowledged > 10

        # And the ledger sees what could have been.
        def judged() -> tuple[int, int, int, int]:
            figures = judge(scene, database)
            return len(figures.lost), len(figures.torn), len(figures.doubled), len(figures.strange)

        image = next(path for path in (scene.members[0].data / "assets").rglob("*") if path.is_file())
        whole = image.read_bytes()
        image.write_bytes(whole[:-1])
        assert judged() == (0, 1, 0, 0)
        image.unlink()
        assert judged() == (0, 1, 0, 0)
        image.write_bytes(whole)
        scene.hook.bodies.append(scene.hook.bodies[-1])  # twice, and nothing was killed in between
        scene.hook.times.append(scene.hook.times[-1])
        assert judged() == (0, 0, 1, 0)
        scene.hook.bodies.pop()
        scene.hook.times.pop()
        answered = next(
            task["task_id"]
            for task in scene.truth
            if any(each["status"] == 200 for each in task["callbacks"])
        )
        with psycopg.connect(database, autocommit=True, options="-csearch_path=receiver") as connection:
            connection.execute("DELETE FROM deliveries WHERE task_id = %s", [answered])
            assert judged() == (1, 0, 0, 0)
            connection.execute("UPDATE outbox SET state = 'pending' WHERE number = 1")
            assert judged() == (1, 0, 0, 1)


async def test_the_ledger_sees_whatever_a_kill_could_have_done(tmp_path: Path) -> None:
    tasks = 12
    async with (
        open_world(Fates(fail=0.0, large=0.0)) as world,
        receiver(tmp_path, settings(world, first_poll_seconds=1.0)) as service,
    ):
        world.life = 1
        await asyncio.gather(*(world.play(service, number) for number in range(tasks)))
        await until(lambda: is_at_rest(world, service))
        await service.stop()

        def judged() -> tuple[int, int, int]:
            figures = compare(world, service, lambda _: 1)
            return len(figures.lost), len(figures.torn), len(figures.doubled)

        assert judged() == (0, 0, 0)

        image = service.data / "assets/vidgo/task-1/0.png"
        whole = image.read_bytes()
        image.write_bytes(whole[:-1])
        assert judged() == (0, 1, 0)
        image.write_bytes(whole)
        (service.data / "incoming").mkdir(exist_ok=True)
        left = service.data / "incoming/tmp_1"
        left.touch()
        assert judged() == (0, 1, 0)
        left.unlink()

        life, event_id = world.told[1][0]
        world.told[1].append((life, event_id))  # twice in one life
        assert judged() == (0, 0, 1)
        world.told[1][-1] = (life + 1, event_id)  # it may have been in flight
        assert judged() == (0, 0, 0)
        world.told[1][-1] = (life + 1, "evt_another")
        assert judged() == (0, 0, 1)
        world.told[1].pop()
        world.fetched[1, 0].append(life + 1)  # after its consumers were told
        assert judged() == (0, 0, 1)
        world.fetched[1, 0].pop()

        acknowledged = min(world.acknowledged)
        with closing(sqlite3.connect(service.data / "receiver.db")) as connection:
            connection.execute("DELETE FROM deliveries WHERE task_id = ?", [f"task-{acknowledged}"])
            connection.commit()
        assert judged() == (1, 0, 0)
        events = [line for line in service.lines() if json.loads(line)["data"]["task_id"] != "task-1"]
        (service.data / "events.jsonl").write_bytes(b"\n".join([*events, b""]))
        assert judged() == (2, 0, 0)


def test_what_grows_is_told_and_what_only_wavers_is_not() -> None:
    flat = Sample(rss=100_000_000, descriptors=30, threads=12, wal=16_000_000, tasks=1)
    wavering = [msgspec.structs.replace(flat, rss=flat.rss + number % 7 * 1_000_000) for number in range(200)]
    assert growth(wavering) == []
    leaking = [msgspec.structs.replace(flat, rss=flat.rss + number * 500_000) for number in range(200)]
    assert [line.split()[0] for line in growth(leaking)] == ["rss"]
    opening = [msgspec.structs.replace(flat, descriptors=30 + number // 10) for number in range(200)]
    assert [line.split()[0] for line in growth(opening)] == ["descriptors"]
    assert len(growth([*wavering, msgspec.structs.replace(flat, wal=WAL_LIMIT_BYTES + 1)])) == 1
