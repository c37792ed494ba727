"""The page of one sink and of one provider: why it fails, since when, what to do, and one try by hand."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from receiver.models import SinkState
from receiver.runtime import Runtime
from tests.support.engines import on_both_engines
from tests.support.loopback import serving
from tests.support.page_callers import VIEWER_TOKEN, submit
from tests.support.sink_hosts import HttpServer
from tests.support.waiting import until
from tests.support.web_callers import LogLines, fail_task, log_task

PASSWORD = "CANARYinaurl"


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[HttpServer]:
    server = HttpServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def provider() -> AsyncIterator[str]:
    """Refuses one key, and knows no task."""

    async def host(scope: Scope, _receive: Receive, send: Send) -> None:
        is_good = dict(scope["headers"])[b"authorization"] == b"Bearer good-key"
        await send({"type": "http.response.start", "status": 404 if is_good else 401, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async with serving(host) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def environment(consumer: HttpServer, provider: str) -> dict[str, str]:
    return {
        "RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN,
        "RECEIVER_SINK_WELL": consumer.url,
        "RECEIVER_SINK_ILL": f"{consumer.root.replace('//', f'//user:{PASSWORD}@')}/status/401",
        "RECEIVER_CONFIRM": "never",
        "VIDGO_API_KEY": "bad-key",
        "VIDGO_BASE_URL": provider,
        "APIXO_API_KEY": "good-key",
        "APIXO_BASE_URL": provider,
    }


@on_both_engines
async def test_a_sink_that_refuses_says_since_when_what_waits_and_what_to_do(
    runtime: Runtime, backend: httpx2.AsyncClient, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient
) -> None:
    await fail_task(backend, runtime, "task-1")

    async def is_failing() -> bool:
        return runtime.relay.state("ill") is not SinkState.OK

    await until(is_failing)
    for who in (person, viewer):
        page = (await who.get("/admin/sinks/ill")).text
        for words in ("refused", ", first <time", "Waiting: 1", "To do:", "RECEIVER_SINK_ILL"):
            assert words in page
        assert PASSWORD not in page
    assert "Send a test event" not in (await viewer.get("/admin/sinks/ill")).text
    well = (await person.get("/admin/sinks/well")).text
    assert "To do:" not in well
    assert "No event waits" in well
    assert (await person.get("/admin/sinks/nobody")).status_code == 404


async def test_a_test_event_is_sent_once_in_ten_seconds_and_its_answer_is_shown(
    person: httpx2.AsyncClient, viewer: httpx2.AsyncClient, consumer: HttpServer, log_lines: LogLines
) -> None:
    answer = await submit(person, "/admin/sinks/well/test", {})
    assert answer.status_code == 200
    assert 'mark good">delivered' in answer.text
    again = await submit(person, "/admin/sinks/well/test", {})
    assert again.status_code == 429
    assert 1 <= int(again.headers["retry-after"]) <= 10
    assert [json.loads(body)["type"] for body in consumer.received()] == ["receiver.test"]
    refused = (await submit(person, "/admin/sinks/ill/test", {})).text
    assert 'mark bad">refused' in refused
    assert "To do:" in refused
    assert PASSWORD not in refused
    assert (await submit(viewer, "/admin/sinks/well/test", {})).status_code == 403
    assert (await submit(person, "/admin/sinks/nobody/test", {})).status_code == 404
    assert [line["sink"] for line in log_lines if line["event"] == "sink.tested"] == ["well", "ill"]


@on_both_engines
async def test_a_provider_says_which_tasks_wait_longest(
    backend: httpx2.AsyncClient, viewer: httpx2.AsyncClient, person: httpx2.AsyncClient
) -> None:
    for number in range(12):
        await log_task(backend, f"task-{number}", provider="apixo")
    page = (await viewer.get("/admin/providers/apixo")).text
    assert "key not tried yet" in page
    assert "task-9</span>" in page
    assert "task-10" not in page
    assert page.index("task-0<") < page.index("task-9<")
    assert "Plan to ask" not in page
    assert "Plan to ask about all now" in (await person.get("/admin/providers/apixo")).text
    without = (await viewer.get("/admin/providers/reapi")).text
    assert "no key is set" in without
    assert "REAPI_API_KEY" in without
    assert (await viewer.get("/admin/providers/nobody")).status_code == 404


async def test_a_probe_says_whether_the_key_is_good_and_nothing_else_goes_by_it(
    runtime: Runtime, person: httpx2.AsyncClient, viewer: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    good = await submit(person, "/admin/providers/apixo/probe", {})
    assert "the key works" in good.text
    bad = await submit(person, "/admin/providers/vidgo/probe", {})
    assert "it cannot be asked" in bad.text
    assert "VIDGO_API_KEY" in bad.text
    assert runtime.status_client.problem("vidgo") is None
    again = await submit(person, "/admin/providers/vidgo/probe", {})
    assert again.status_code == 429
    assert (await submit(person, "/admin/providers/reapi/probe", {})).status_code == 409
    assert (await submit(viewer, "/admin/providers/apixo/probe", {})).status_code == 403
    probed = [line for line in log_lines if line["event"] == "provider.probed"]
    assert [line["provider"] for line in probed] == ["apixo", "vidgo"]
    assert {line["said_name"] for line in probed} == {"on call"}
