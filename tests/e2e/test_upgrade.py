"""A data folder of an earlier release under today's service, while callbacks come all along."""

import asyncio
import hashlib
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import httpx2

from receiver.testing import sample_callback
from tests.e2e.service import Receiver, unstarted_receiver
from tests.support.earlier_releases import make_third_release
from tests.support.media_host import media_host, picture, says
from tests.support.waiting import until

PICTURE = picture()
OLD, NEW = 20_000, 200  # tasks that were told long ago, and such whose callbacks come now
SINKS = {
    "RECEIVER_SINK_ALL": "jsonl:all.jsonl",
    "RECEIVER_SINK_FAILURES": "jsonl:failures.jsonl",
    "RECEIVER_SINK_FAILURES_FILTER": "type=task.failed",
}
UNDER_WAY = {
    "vidgo/told",
    "vidgo/untold",
    "vidgo/fetching",
    "vidgo/refetched",
}  # what the sample left to tell

# What the earlier release would have written, had it had more to do.
MORE = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :old + :new)
INSERT INTO submissions (id, provider, owner, task_id, metadata, created_at, bound_at)
SELECT printf('sub_%032x', i), 'vidgo', 'ann', iif(i <= :old, 'old-', 'new-') || i, '{}', :then, :then FROM n
"""
TOLD = """
INSERT INTO events (number, id, via, fingerprint, received_at, type, ended_at, error_code)
SELECT number, 'evt_' || lower(hex(randomblob(16))), 'callback', 'x', :then, 'task.failed', :then, 'nsfw'
FROM submissions WHERE task_id GLOB 'old-*'
"""
DELIVERED = """
INSERT INTO outbox (event, sink, revision, state, outcome, attempts, due_at, created_at, settled_at)
SELECT number, 'all', 1, 'delivered', 'delivered', 1, :then, :then, :then
FROM submissions WHERE task_id GLOB 'old-*'
"""
HERE = """
UPDATE assets SET url = replace(url, 'https://cdn.test', :host), deadline_at = '2099-01-01T00:00:00.000Z'
WHERE state = 'pending'
"""


def make_folder(data: Path, host: str) -> None:
    data.mkdir(mode=0o700)
    make_third_release(data / "receiver.db")
    values = {"old": OLD, "new": NEW, "then": "2026-11-21T10:00:00.000Z", "host": host}
    with closing(sqlite3.connect(data / "receiver.db")) as connection:
        for statement in (MORE, TOLD, DELIVERED, HERE):
            connection.execute(statement, values)
        connection.commit()


def ids_of_events(data: Path) -> dict[str, str]:
    with closing(sqlite3.connect(data / "receiver.db")) as connection:
        return dict(connection.execute("SELECT task_id, event_id FROM tasks WHERE event_id IS NOT NULL"))


class Provider:
    """Calls back about one task after the other, each until it is answered with 200."""

    def __init__(self, service: Receiver, file: str) -> None:
        self.answers: dict[str, str] = {}
        self.failures = 0
        self._service = service
        self._file = file
        self._tasks = iter(range(OLD + 1, OLD + NEW + 1))

    async def send_all(self) -> None:
        await asyncio.gather(*(self._send() for _ in range(8)))

    async def _send(self) -> None:
        for number in self._tasks:
            while not await self._is_taken(f"new-{number}"):
                self.failures += 1
                await asyncio.sleep(0.02)

    async def _is_taken(self, task_id: str) -> bool:
        body = sample_callback("vidgo", task_id, files=[self._file])
        try:
            answer = await self._service.http.post(self._service.callback_path(), content=body)
        except httpx2.TransportError:
            return False
        if answer.status_code == 200:
            self.answers[task_id] = answer.json()["status"]
        return answer.status_code == 200


async def test_an_upgrade_while_callbacks_come_loses_none_and_keeps_the_id_of_every_event(
    tmp_path: Path,
) -> None:
    async with media_host() as host, unstarted_receiver(tmp_path, SINKS) as service:
        host.otherwise = says(200, PICTURE)
        make_folder(service.data, host.url("").rstrip("/"))
        known = ids_of_events(service.data)
        provider = Provider(service, host.url("/0.png"))
        sending = asyncio.create_task(provider.send_all())
        await until(lambda: provider.failures > 8)  # it is down for the upgrade

        await service.start()
        await sending

        assert Counter(provider.answers.values()) == {"accepted": NEW}
        await until(lambda: len(service.events("all.jsonl")) >= NEW + len(UNDER_WAY))
        await until(lambda: len(service.events("failures.jsonl")) == 2)
        told = {event["subject"]: event for event in service.events("all.jsonl")}
        assert Counter(event["subject"] for event in service.events("all.jsonl")).most_common(1)[0][1] == 1
        assert told.keys() == UNDER_WAY | {f"vidgo/{task_id}" for task_id in provider.answers}
        for task_id in provider.answers:
            event = told[f"vidgo/{task_id}"]
            assert event["id"] == event["data"]["submission_id"].replace("sub_", "evt_")
            assert event["data"]["assets"][0]["sha256"] == hashlib.sha256(PICTURE).hexdigest()
        assert {event["subject"] for event in service.events("failures.jsonl")} == {
            "vidgo/untold",
            "vidgo/refetched",
        }
        await service.stop()
        assert ids_of_events(service.data).items() >= known.items()
