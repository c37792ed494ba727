"""Results without a link: base64 in a provider's answer, and ``data:`` URLs in a callback, become files."""

import base64
import json
import time
from hashlib import sha256

import httpx2
import pytest

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support import signatures
from tests.support.engines import on_both_engines
from tests.support.image_bytes import animated
from tests.support.loopback import Answer, post, talk
from tests.support.media_host import MediaHost, says
from tests.support.signatures import SECRET
from tests.support.web_callers import callback_path, log_task, verdicts

PICTURES = [animated("PNG", 1), animated("GIF", 2)]


@pytest.fixture
def environment(host: MediaHost) -> dict[str, str]:
    return {
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "OPENAI_WEBHOOK_SECRET": SECRET,
        "OPENAI_API_KEY": "a-key-of-the-operator",
        "OPENAI_BASE_URL": host.url("/openai"),
    }


def answers(host: MediaHost, response: str, pictures: list[bytes], *, beside: str = "") -> None:
    """What the provider says of a response, with its images in it."""
    calls = [
        {"type": "image_generation_call", "status": "completed", "result": base64.b64encode(each).decode()}
        for each in pictures
    ]
    text = {"type": "message", "content": [{"type": "output_text", "text": f"Here you are.{beside}"}]}
    told = {"id": response, "object": "response", "status": "completed", "output": [*calls, text]}
    host.put(f"/openai/v1/responses/{response}", says(200, json.dumps(told).encode(), "connection: close"))


async def tell(port: int, response: str) -> int:
    body = sample_callback("openai", response)
    headers = signatures.standard(body, SECRET, str(int(time.time())))
    lines = (f"{name}: {text}" for name, text in headers.items())
    return Answer(await talk(port, post("/callbacks/openai", body, *lines))).status


@on_both_engines
async def test_the_images_in_the_answer_about_a_thin_event_are_stored(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient, host: MediaHost
) -> None:
    answers(host, "resp_1", PICTURES, beside="x" * 100_000)  # large: it is kept no longer than it is needed
    await log_task(backend, "resp_1", provider="openai")

    assert await tell(port, "resp_1") == 200

    task = (await backend.get("/tasks/openai/resp_1?wait=10")).json()
    assert task["state"] == "completed"
    assert [each["sha256"] for each in task["assets"]] == [sha256(each).hexdigest() for each in PICTURES]
    assert [each["media_type"] for each in task["assets"]] == ["image/png", "image/gif"]
    assert await verdicts(runtime) == {"accepted": 2}  # the event, and the answer that says the same
    (event, answer) = await runtime.store.list_end_bodies("openai", "resp_1")
    assert {json.loads(event).get("type"), json.loads(answer).get("type")} == {None, "response.completed"}
    assert b"base64" not in event + answer
    assert len(event + answer) < 1_000  # what was unpacked is dropped


@on_both_engines
async def test_a_response_of_mere_text_ends_without_files(
    port: int, backend: httpx2.AsyncClient, host: MediaHost
) -> None:
    answers(host, "resp_1", [])
    await log_task(backend, "resp_1", provider="openai")
    assert await tell(port, "resp_1") == 200
    task = (await backend.get("/tasks/openai/resp_1?wait=10")).json()
    assert (task["state"], task["assets"], task["error"]) == ("completed", [], None)


async def test_a_data_url_where_any_provider_has_links_is_a_file(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient, host: MediaHost
) -> None:
    inside = "data:image/png;base64," + base64.b64encode(PICTURES[0]).decode()
    linked = host.put("/1.gif", says(200, PICTURES[1]))
    await log_task(backend, "t1", provider="vidgo")
    body = sample_callback("vidgo", "t1", files=[inside, linked])

    assert Answer(await talk(port, post(callback_path(runtime, "vidgo"), body))).status == 200

    task = (await backend.get("/tasks/vidgo/t1?wait=10")).json()
    assert [each["sha256"] for each in task["assets"]] == [sha256(each).hexdigest() for each in PICTURES]
    assert (await runtime.store.list_links("vidgo", "t1"))[0].startswith("inline:")
