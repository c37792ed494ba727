"""A backup of a real service in the middle of its work, and a second service started on the copy."""

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from receiver.cli.demo.service import service_environment
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, Receiver, bearer, receiver
from tests.support.media_host import MediaHost, media_host, picture, says
from tests.support.waiting import until

PICTURES = [picture(size=(16 + number, 16)) for number in range(20)]


class Load:
    """Tasks with one file each, submitted and ended one after the other by several senders until stopped."""

    def __init__(self, service: Receiver, host: MediaHost) -> None:
        self.acknowledged: dict[str, bytes] = {}  # the task of every 200, and its picture
        self._service = service
        self._host = host
        self._stopped = False

    async def run(self, senders: int) -> None:
        await asyncio.gather(*(self._send(sender) for sender in range(senders)))

    def stop(self) -> None:
        self._stopped = True

    async def _send(self, sender: int) -> None:
        number = 0
        while not self._stopped:
            task_id, image = f"task-{sender}-{number}", PICTURES[number % len(PICTURES)]
            await self._service.finish(task_id, self._host.put(f"/{task_id}.png", says(200, image)))
            self.acknowledged[task_id] = image
            number += 1


async def back_up(data: Path, target: Path) -> dict[str, Any]:
    """`receiver backup` as a person runs it beside the service; what it says."""

    def run() -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "receiver", "backup", str(target), "--json"]
        environment = service_environment(os.environ, data, 1)
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)

    ended = await asyncio.to_thread(run)
    assert ended.returncode == 0, ended.stderr.decode()
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


async def is_at_rest(service: Receiver) -> bool:
    stats = (await service.http.get("/stats", headers=bearer(ADMIN_TOKEN))).json()
    waiting = stats["assets"].get("pending", 0) + stats["outbox"].get("jsonl", {}).get("pending", 0)
    return bool(waiting == 0)


async def test_a_copy_made_under_load_holds_everything_answered_before_it_and_goes_on(
    tmp_path: Path,
) -> None:
    async with media_host() as host, receiver(tmp_path) as first:
        load = Load(first, host)
        running = asyncio.create_task(load.run(senders=8))
        await until(lambda: len(load.acknowledged) >= 150)
        before = dict(load.acknowledged)

        said = await back_up(first.data, tmp_path / "elsewhere/data")

        meanwhile = len(load.acknowledged) - len(before)
        load.stop()
        await running
        assert meanwhile > 10  # the service was neither stopped nor held up
        assert said["database"]["submissions"] >= len(before)
        assert said["files"]["wrong"] == []
        async with receiver(tmp_path / "elsewhere") as second:
            await until(lambda: is_at_rest(second))
            assert await missing(second, before) == []
            ids = await event_ids(second, before)
            assert {e["id"] for e in second.events() if e["data"]["task_id"] in before} <= ids
            assert await event_ids(first, before) == ids  # consumers see repeats as such
        assert torn(tmp_path / "elsewhere/data") == []
        assert not list((tmp_path / "elsewhere").glob("*.unfinished"))


async def missing(service: Receiver, wanted: dict[str, bytes]) -> list[str]:
    """The ledger: tasks that have not ended as they must, with their very picture, told to the sink."""
    found = []
    for task_id, image in wanted.items():
        task = await service.task(task_id)
        hashes = [asset["sha256"] for asset in task["assets"]]
        told = {each["state"] for each in task["notifications"]}
        good = (task["state"], hashes, told) == (
            "completed",
            [hashlib.sha256(image).hexdigest()],
            {"delivered"},
        )
        if not good:
            found.append(f"{task_id}: {task['state']}, {hashes}, {told}")
    return found


async def event_ids(service: Receiver, wanted: dict[str, bytes]) -> set[str]:
    return {(await service.task(task_id))["event_id"] for task_id in wanted}


def torn(data: Path) -> list[str]:
    """Files that are not what the record says of them, and damage to the record itself."""
    with closing(sqlite3.connect(data / "receiver.db")) as db:
        problems = [text for (text,) in db.execute("PRAGMA integrity_check") if text != "ok"]
        rows = db.execute("SELECT key, sha256 FROM assets WHERE state = 'stored'").fetchall()
    assert len(rows) >= 150
    for key, sha256 in rows:
        if hashlib.sha256((data / "assets" / key).read_bytes()).hexdigest() != sha256:
            problems.append(key)
    return problems


async def test_a_copy_of_what_a_kill_left_is_whole_and_goes_on(tmp_path: Path) -> None:
    async with media_host() as host, receiver(tmp_path) as first:
        for number in range(20):
            url = host.put(f"/{number}.png", says(200, PICTURES[0]))
            await first.finish(f"t{number}", url)
        await first.kill()  # its last commits are in the WAL only
        assert (first.data / "receiver.db-wal").stat().st_size > 0

        said = await back_up(first.data, tmp_path / "elsewhere/data")

        assert said["database"]["events"] == 20
        shutil.rmtree(first.data)
        async with receiver(tmp_path / "elsewhere") as second:
            await until(lambda: is_at_rest(second))
            wanted = {f"t{number}": PICTURES[0] for number in range(20)}
            assert await missing(second, wanted) == []


async def test_what_ended_after_the_backup_ends_under_the_same_id_when_it_was_restored(
    tmp_path: Path,
) -> None:
    async with media_host() as host, receiver(tmp_path) as service:
        url = host.put("/0.png", says(200, PICTURES[0]))
        for task_id in ("completed", "failed"):
            await service.submit(task_id)
        reserved = await service.submit()
        await back_up(service.data, tmp_path / "copy")

        async def end_all() -> dict[str, str]:
            assert await service.call_back("early") == "early"
            path, wanted = f"/submissions/{reserved['id']}", {"task_id": "early"}
            answer = await service.http.patch(path, json=wanted, headers=bearer(API_TOKEN))
            answer.raise_for_status()
            assert await service.call_back("completed", url) == "accepted"
            assert await service.call_back("failed") == "accepted"
            await until(lambda: service.told() == ["completed", "early", "failed"])
            return {event["subject"]: event["id"] for event in service.events()}

        before = await end_all()
        await service.stop()
        shutil.rmtree(service.data)
        shutil.move(tmp_path / "copy", service.data)
        await service.start()
        assert service.told() == []  # nothing of what ended since is known any more

        assert await end_all() == before
        assert len(set(before.values())) == 3
