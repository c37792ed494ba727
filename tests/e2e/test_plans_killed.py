"""The service is killed between a plan and its doing, and while it is done: once, or not at all."""

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.service import ADMIN_TOKEN, Receiver, bearer, receiver
from tests.support.waiting import until

ADMIN = bearer(ADMIN_TOKEN)
TASKS = 20
# Seconds after the request was sent; the last is long after its answer.
MOMENTS = (0.0, 0.004, 0.5)


async def filled(service: Receiver) -> None:
    """Tasks that ended and were told."""
    for number in range(TASKS):
        await service.finish(f"t{number}")
    await until(lambda: len(service.told()) == TASKS)


async def ask(service: Receiver, method: str, path: str, document: Any = None) -> Any:
    answer = await service.http.request(method, path, json=document, headers=ADMIN)
    assert answer.status_code in {200, 202}, answer.text
    return answer.json()


async def killed_at(service: Receiver, seconds: float, body: dict[str, Any]) -> bool:
    """Send it, and kill the service after so long; whether it was answered."""
    sent = asyncio.ensure_future(service.http.post("/replays", json=body, headers=ADMIN))
    await asyncio.sleep(seconds)
    await service.kill()
    answer = (await asyncio.gather(sent, return_exceptions=True))[0]
    return isinstance(answer, httpx2.Response) and answer.status_code == 202


@pytest.mark.parametrize("seconds", MOMENTS)
async def test_a_replay_that_was_planned_is_begun_once_whenever_the_service_is_killed(
    tmp_path: Path, seconds: float
) -> None:
    async with receiver(tmp_path, {}) as service:
        await filled(service)
        planned = await ask(service, "POST", "/plans", {"act": "notify", "filter": {}})
        assert planned["count"] == TASKS
        await service.kill()
        await service.start()
        assert (await ask(service, "GET", "/replays"))["replays"] == []  # a plan changes nothing

        was_answered = await killed_at(service, seconds, planned["then"]["body"] | {"reason": "INC-77"})
        await service.start()
        begun = (await ask(service, "GET", "/replays"))["replays"]
        noted = (await ask(service, "GET", f"/audit?target={planned['id']}"))["audit"]
        assert [row["id"] for row in begun] == [row["target"] for row in noted]  # both, or neither
        assert len(begun) == 1 or not was_answered

        for _ in range(2):  # as whoever got no answer does
            await ask(service, "POST", "/replays", planned["then"]["body"] | {"reason": "INC-77"})
        (row,) = (await ask(service, "GET", f"/audit?target={planned['id']}"))["audit"]
        assert (row["planned"], row["reason"]) == (TASKS, "INC-77")
        await until(lambda: len(service.told()) >= 2 * TASKS)
        (replay,) = (await ask(service, "GET", "/replays"))["replays"]
        assert (replay["id"], replay["matched"]) == (planned["id"], TASKS)
