"""A callback URL of the caller's own is told of its task's end by us: once, guarded, with our links."""

import asyncio
import base64
import json

import httpx2
import pytest

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.gateway.test_status import ANSWER, BODY, PNG, TASK
from tests.support.engines import on_both_engines
from tests.support.media_host import MediaHost, says
from tests.support.order_host import OrderHost, order_host, tells
from tests.support.waiting import until

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "RECEIVER_GATEWAY_CALLBACK_SECRET": f"whsec_{KEY}",
    }


async def ordered(client: httpx2.AsyncClient, upstream: OrderHost, callback_url: str) -> str:
    """Order with a callback URL of one's own; the path of ours, which the provider got."""
    upstream.answers.append(tells(ANSWER))
    body = {**BODY, "callback_url": callback_url}
    answer = await client.post("/gateway/vidgo/api/generate/submit", json=body)
    assert answer.status_code == 200
    url: str = upstream.orders[-1].document["callback_url"]
    assert url.startswith("https://receiver.test/callbacks/vidgo/")
    return url.removeprefix("https://receiver.test")


@on_both_engines
async def test_trap_11_the_callers_url_is_called_once_though_the_provider_calls_three_times(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost, host: MediaHost
) -> None:
    host.put("/a.png", says(200, PNG))
    async with order_host() as mine:
        mine.otherwise = tells({}, 200)
        mine.answers = [tells({}, 503)]
        path = await ordered(client, upstream, f"{mine.url}/hook?token=1")
        for _ in range(3):
            await stranger.post(path, content=sample_callback("vidgo", TASK, files=[host.url("/a.png")]))
        await until(lambda: len(mine.sent) == 2)  # the first was refused, and is told again
        await asyncio.sleep(2.5)
        assert len(mine.sent) == 2
        told = mine.sent[1]
        assert told.target == "/hook?token=1"
        assert told.headers["webhook-id"].startswith("evt_")
        assert told.headers["webhook-signature"].startswith("v1,")
        document = json.loads(told.body)["data"]
        assert (document["task_id"], document["status"]) == (TASK, "finished")
        assert document["files"][0]["file_url"].startswith("https://receiver.test/assets/vidgo/")


@pytest.mark.parametrize("url", ["https://10.0.0.1/hook", "http://10.0.0.1/hook", "ftp://x.test/hook"])
async def test_trap_11_nobody_is_called_where_nothing_may_be_fetched_from(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    upstream: OrderHost,
    capsys: pytest.CaptureFixture[str],
    url: str,
) -> None:
    path = await ordered(client, upstream, url)
    await stranger.post(path, content=sample_callback("vidgo", TASK, error="no"))
    logged = ""

    def is_over() -> bool:
        nonlocal logged
        logged += "".join(capsys.readouterr())
        return "order.relayed" in logged

    await until(is_over)
    assert "is_over=True" in logged
    assert "/hook" not in logged


async def test_an_order_that_is_refused_calls_nobody(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells({"code": 402}, 402))
    await client.post("/gateway/vidgo/api/generate/submit", json={**BODY, "callback_url": "https://x.test/"})
    assert await runtime.store.lease_relays(runtime.clock.now(), runtime.clock.now(), 10) == []
