"""Backends wait for a task's end with one request: what it costs, and whom it holds up."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from receiver import task_waiters
from receiver.errors import Unavailable
from receiver.runtime import Runtime
from receiver.task_waiters import TaskWaiters
from receiver.testing import sample_callback
from tests.support.factories import failed, recording
from tests.support.media_host import media_host, picture, says
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, callback_path, log_task

WAIT = "/tasks/vidgo/t1?wait=60"


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8", "RECEIVER_CONFIRM": "never"}


@pytest.fixture(autouse=True)
def _seldom(runtime: Runtime) -> None:
    """Nobody is woken but by who ends the task."""
    runtime.task_waiters.fallback_seconds = 3600


async def waiting(
    runtime: Runtime, client: httpx2.AsyncClient, path: str = WAIT
) -> asyncio.Task[httpx2.Response]:
    asked = asyncio.create_task(client.get(path, timeout=90))
    await until(lambda: runtime.task_waiters.places or asked.done())
    return asked


async def test_a_wait_ends_when_the_task_does(backend: httpx2.AsyncClient, runtime: Runtime) -> None:
    await log_task(backend, "t1")
    asked = await waiting(runtime, backend)
    assert not asked.done()
    await backend.post(callback_path(runtime), content=sample_callback("vidgo", "t1", error="no"))
    answer = await asyncio.wait_for(asked, 10)
    assert (answer.status_code, answer.json()["state"]) == (200, "failed")
    assert runtime.task_waiters.places == 0
    assert (await asyncio.wait_for(backend.get(WAIT), 10)).json()[
        "state"
    ] == "failed"  # it has ended: at once


async def test_a_task_has_not_ended_before_its_files_are_stored(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    async with media_host() as host:
        url = host.put("/t1.png", says(200, picture()))
        await log_task(backend, "t1")
        asked = await waiting(runtime, backend)
        await backend.post(callback_path(runtime), content=sample_callback("vidgo", "t1", files=[url]))
        task = (await asyncio.wait_for(asked, 10)).json()
    assert (task["state"], task["type"]) == ("completed", "task.completed")
    assert task["assets"][0]["url"]


async def test_an_end_that_the_provider_tells_when_asked_is_an_end_too(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await log_task(backend, "t1")
    asked = await waiting(runtime, backend)
    await runtime.ingest.accept_answer("vidgo", failed("t1"), b"{}", runtime.clock.now())
    assert (await asyncio.wait_for(asked, 10)).json()["via"] == "poll"


async def test_when_the_time_is_up_the_task_is_told_as_it_stands(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await log_task(backend, "t1")
    started = time.monotonic()
    answer = await backend.get("/tasks/vidgo/t1?wait=0.2")
    assert time.monotonic() - started >= 0.2
    assert (answer.status_code, answer.json()["state"]) == (200, "submitted")
    assert runtime.task_waiters.places == 0


@pytest.mark.parametrize("wait", ["60.5", "-1", "nan", "inf", "1m", ""])
async def test_nobody_waits_longer_than_a_minute(backend: httpx2.AsyncClient, wait: str) -> None:
    await log_task(backend, "t1")
    answer = await backend.get(f"/tasks/vidgo/t1?wait={wait}")
    assert answer.status_code == 400
    assert "`wait`" in answer.json()["detail"]


async def test_nobody_waits_for_what_is_not_there(backend: httpx2.AsyncClient) -> None:
    assert (await asyncio.wait_for(backend.get(WAIT), 10)).status_code == 404


async def test_whoever_leaves_gives_back_the_place(
    backend: httpx2.AsyncClient, runtime: Runtime, port: int
) -> None:
    await log_task(backend, "t1")
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET {WAIT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {API_TOKEN}\r\n\r\n"
    writer.write(head.encode())
    await until(lambda: runtime.task_waiters.places == 1)
    writer.close()
    await until(lambda: runtime.task_waiters.places == 0)


async def test_beyond_so_many_the_next_is_told_to_come_again_and_all_else_is_answered(
    backend: httpx2.AsyncClient, admin: httpx2.AsyncClient, runtime: Runtime
) -> None:
    runtime.task_waiters.most_of_one = 1
    await log_task(backend, "t1")
    first = await waiting(runtime, backend)
    second = await asyncio.wait_for(backend.get(WAIT), 10)
    assert (second.status_code, second.headers["retry-after"]) == (503, "5")
    assert (await backend.get("/tasks/vidgo/t1")).status_code == 200
    another = asyncio.create_task(admin.get(WAIT, timeout=90))  # with a token of its own
    await until(lambda: runtime.task_waiters.places == 2)
    runtime.task_waiters.most_waiting = 2
    assert (await asyncio.wait_for(admin.get(WAIT), 10)).status_code == 503
    await backend.post(callback_path(runtime), content=sample_callback("vidgo", "t1", error="no"))
    answers = await asyncio.wait_for(asyncio.gather(first, another), 10)
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_those_who_wait_hold_no_reader_and_look_again_only_when_their_task_may_have_ended() -> None:
    registry, looks = TaskWaiters(), dict.fromkeys(range(50), 0)

    def look(number: int) -> Callable[[], Awaitable[bool]]:
        async def has_ended() -> bool:
            looks[number] += 1
            return looks[number] > 1

        return has_ended

    asked = {
        number: asyncio.create_task(registry.wait(("vidgo", f"t{number}"), "me", 60, look(number)))
        for number in looks
    }
    await until(lambda: sum(looks.values()) == 50)
    registry.notify("vidgo", "t7")
    registry.notify("vidgo", "t8-of-nobody")
    registry.notify("apixo", "t9")
    await asyncio.wait_for(asked.pop(7), 10)
    assert looks == dict.fromkeys(range(50), 1) | {7: 2}
    registry.stop()
    await asyncio.wait_for(asyncio.gather(*asked.values()), 10)
    assert registry.places == 0
    assert sum(looks.values()) == 51  # nobody looked again only to end


async def test_an_end_that_nobody_told_of_is_seen_by_looking(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    runtime.task_waiters.fallback_seconds = 0.05
    await log_task(backend, "t1")
    asked = await waiting(runtime, backend)
    await runtime.store.record(recording(failed("t1")))  # as a replay does
    assert (await asyncio.wait_for(asked, 10)).json()["state"] == "failed"


async def test_a_full_house_is_no_crowd_of_one() -> None:
    registry = TaskWaiters()

    async def never() -> bool:
        return False

    asked = [
        asyncio.create_task(registry.wait(("vidgo", "t1"), "one", 60, never))
        for _ in range(task_waiters.MOST_OF_ONE)
    ]
    await until(lambda: registry.places == task_waiters.MOST_OF_ONE)
    with pytest.raises(Unavailable):
        await registry.wait(("vidgo", "t1"), "one", 60, never)
    another = asyncio.create_task(registry.wait(("vidgo", "t1"), "another", 60, never))
    await until(lambda: registry.places == task_waiters.MOST_OF_ONE + 1)
    registry.stop()
    await asyncio.wait_for(asyncio.gather(another, *asked), 10)
