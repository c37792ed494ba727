"""An admin follows what is told to sinks, and nobody else does."""

import json
from typing import Any

import httpx2
import pytest

from receiver.runtime import Runtime
from tests.support.engines import on_both_engines
from tests.support.waiting import until
from tests.support.web_callers import fail_task


async def events(admin: httpx2.AsyncClient, **query: Any) -> tuple[list[dict[str, Any]], str]:
    document = (await admin.get("/events", params=query)).raise_for_status().json()
    return document["events"], document["next_cursor"]


@on_both_engines
async def test_it_is_what_a_sink_is_told(admin: httpx2.AsyncClient, runtime: Runtime) -> None:
    found, cursor = await events(admin)
    assert found == []
    await fail_task(admin, runtime, "t1", owner="ann", metadata={"order": 7})
    await fail_task(admin, runtime, "t2", owner="bob")

    async def written() -> list[str] | None:
        file = runtime.settings.data_dir / "events.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return lines if len(lines) == 2 else None

    found, after = await events(admin, cursor=cursor)
    assert found == [json.loads(line) for line in await until(written)]
    assert await events(admin, cursor=after) == ([], after)
    of_bob, _ = await events(admin, cursor=cursor, owner="bob", provider="vidgo", type="task.failed")
    assert [event["data"]["task_id"] for event in of_bob] == ["t2"]
    last, _ = await events(admin, last=1)
    assert [event["data"]["task_id"] for event in last] == ["t2"]


async def test_only_admins_follow(stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient) -> None:
    answers = [await client.get("/events") for client in (stranger, backend)]
    assert [answer.status_code for answer in answers] == [401, 403]


@pytest.mark.parametrize(
    "query",
    [{"provider": "nobody"}, {"cursor": "made-up"}, {"type": "task.begun"}, {"last": 201}, {"since": "1h"}],
)
async def test_what_makes_no_sense_is_refused(admin: httpx2.AsyncClient, query: dict[str, Any]) -> None:
    assert (await admin.get("/events", params=query)).status_code == 400
