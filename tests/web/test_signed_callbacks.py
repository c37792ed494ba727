"""Callbacks that must be signed, from the door to the stored image: by secrets and by public keys."""

import base64
import json
import time
from collections.abc import Mapping

import httpx2
import pytest

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support import signatures
from tests.support.image_bytes import animated
from tests.support.loopback import Answer, post, talk
from tests.support.media_host import MediaHost, says
from tests.support.signatures import ANOTHER_KEY, KEY, OLD_SECRET, SECRET
from tests.support.web_callers import callback_path, log_task, verdicts

FAL = ("x-fal-webhook-", "request-id")


@pytest.fixture
def environment(host: MediaHost) -> dict[str, str]:
    x = base64.urlsafe_b64encode(bytes(KEY.verify_key)).decode().rstrip("=")
    key = {"kty": "OKP", "crv": "Ed25519", "x": x}
    jwks = host.put("/jwks.json", says(200, json.dumps({"keys": [key]}).encode()))
    return {
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "REPLICATE_WEBHOOK_SECRET": f"{SECRET},{OLD_SECRET}",
        "BFL_WEBHOOK_SECRET": SECRET,
        "LEONARDO_WEBHOOK_SECRET": SECRET,
        "KIE_WEBHOOK_SECRET": SECRET,
        "OPENAI_WEBHOOK_SECRET": SECRET,
        "KIE_API_KEY": "a-key-of-the-operator",
        "KIE_BASE_URL": host.url("/kie"),
        "FAL_WEBHOOK_KEYS_URL": jwks,
    }


def now() -> str:
    return str(int(time.time()))


async def deliver(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    return Answer(await talk(port, post(path, body, *(f"{name}: {text}" for name, text in headers.items()))))


async def ended(backend: httpx2.AsyncClient, provider: str) -> str:
    answer = await backend.get(f"/tasks/{provider}/t1?wait=10")
    return str(answer.json()["state"])


def headers_of(provider: str, body: bytes) -> Mapping[str, str]:
    match provider:
        case "replicate":
            return signatures.standard(body, OLD_SECRET, now())
        case "bfl":
            return signatures.bfl(body)
        case "fal":
            return signatures.by_key(*FAL, body, KEY, now())
        case _:
            return signatures.kie("t1", SECRET, now())


@pytest.mark.parametrize("provider", ["replicate", "bfl", "fal"])
@pytest.mark.parametrize("has_token", [True, False])
async def test_a_signed_callback_of_a_logged_task_becomes_a_stored_image(
    port: int,
    runtime: Runtime,
    backend: httpx2.AsyncClient,
    host: MediaHost,
    provider: str,
    *,
    has_token: bool,
) -> None:
    link = host.put("/0.png", says(200, animated("PNG", 1)))
    await log_task(backend, "t1", provider=provider)
    body = sample_callback(provider, "t1", files=[link])
    path = callback_path(runtime, provider) if has_token else f"/callbacks/{provider}"

    answer = await deliver(port, path, body, headers_of(provider, body))

    assert (answer.status, json.loads(answer.body)["status"]) == (200, "accepted")
    assert await ended(backend, provider) == "completed"


async def test_a_signature_that_leaves_the_body_out_is_confirmed_by_a_question(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient, host: MediaHost
) -> None:
    true = host.put("/true.png", says(200, animated("PNG", 1)))
    task = {"taskId": "t1", "state": "success", "resultJson": json.dumps({"resultUrls": [true]})}
    answer = json.dumps({"code": 200, "data": task}).encode()
    host.put("/kie/api/v1/jobs/recordInfo?taskId=t1", says(200, answer, "connection: close"))
    await log_task(backend, "t1", provider="kie")
    lie = sample_callback("kie", "t1", files=[host.url("/lie.png")])

    said = await deliver(port, "/callbacks/kie", lie, headers_of("kie", lie))

    assert said.status == 200
    assert await ended(backend, "kie") == "completed"
    asked = [head.split(" ")[1] for head in host.requests]
    assert "/true.png" in asked
    assert "/lie.png" not in asked


async def test_at_one_url_for_a_whole_account_each_task_is_its_owners_and_a_strangers_is_nobodys(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient, host: MediaHost
) -> None:
    link = host.put("/0.png", says(200, animated("PNG", 1)))
    for task_id, owner in (("t1", "ann"), ("t2", "bob")):
        await log_task(backend, task_id, provider="leonardo", owner=owner)
    key = {"authorization": f"Bearer {SECRET}"}
    for task_id in ("t1", "t2", "of-nobody"):
        body = sample_callback("leonardo", task_id, files=[link])
        assert (await deliver(port, "/callbacks/leonardo", body, key)).status == 200

    for task_id, owner in (("t1", "ann"), ("t2", "bob")):
        task = (await backend.get(f"/tasks/leonardo/{task_id}?wait=10")).json()
        assert (task["state"], task["owner"]) == ("completed", owner)
    assert (await verdicts(runtime)) == {"accepted": 2, "early": 1}
    assert (await deliver(port, "/callbacks/leonardo", body, {"authorization": "Bearer no"})).status == 401


async def test_a_thin_event_to_one_url_for_a_whole_project_ends_its_owners_task_without_files(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    """No token tells whose it is, nor which task: the id in the signed body does, logged before or after."""
    await log_task(backend, "resp_1", provider="openai", owner="ann")
    for task_id, error in (("resp_1", None), ("resp_2", "refused"), ("resp_of_nobody", None)):
        body = sample_callback("openai", task_id, error=error)
        headers = signatures.standard(body, SECRET, now())
        assert (await deliver(port, "/callbacks/openai", body, headers)).status == 200
    await log_task(backend, "resp_2", provider="openai", owner="bob")

    for task_id, owner, state in (("resp_1", "ann", "completed"), ("resp_2", "bob", "failed")):
        task = (await backend.get(f"/tasks/openai/{task_id}?wait=10")).json()
        assert (task["state"], task["owner"], task["assets"]) == (state, owner, [])
    assert await verdicts(runtime) == {"accepted": 2, "early": 1}
    wrong = signatures.wavespeed(body)  # the same names of headers
    assert (await deliver(port, "/callbacks/openai", body, wrong)).status == 401


@pytest.mark.parametrize("provider", ["replicate", "bfl", "kie", "fal"])
async def test_what_is_not_signed_right_is_a_401_with_any_token_and_leaves_nothing(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient, host: MediaHost, provider: str
) -> None:
    submission = await log_task(backend, "t1", provider=provider)
    body = sample_callback(provider, "t1")
    right = headers_of(provider, body)
    wrong = [{}, dict(list(right.items())[:-1])]
    wrong += [{**right, name: text[:-1]} for name, text in right.items()]
    own = str(submission["callback_url"]).removeprefix("https://receiver.test")
    for path in (f"/callbacks/{provider}", callback_path(runtime, provider), own):
        for headers in wrong:
            assert (await deliver(port, path, body, headers)).status == 401, (path, headers)
    assert await verdicts(runtime) == {}
    told = (await backend.get("/metrics")).text
    for by_token, times in (("false", len(wrong)), ("true", 2 * len(wrong))):
        counted = f'{{by_token="{by_token}",provider="{provider}"}} {times:.1f}'
        assert f"receiver_callbacks_unsigned_total{counted}" in told


async def test_strangers_make_us_fetch_keys_once_and_never_without_the_form_of_a_signature(
    port: int, runtime: Runtime, host: MediaHost
) -> None:
    body = sample_callback("fal", "t1")
    forged = signatures.by_key(*FAL, body, ANOTHER_KEY, now())
    old = signatures.by_key(*FAL, body, ANOTHER_KEY, "1600000000")
    for headers in ({}, old, {**forged, "x-fal-webhook-signature": "00"}):
        assert (await deliver(port, "/callbacks/fal", body, headers)).status == 401
    assert host.requests == []
    statuses = [(await deliver(port, "/callbacks/fal", body, forged)).status for _ in range(5)]
    assert (statuses, len(host.requests)) == ([401] * 5, 1)


async def test_while_there_are_no_keys_yet_the_sender_is_told_to_come_again(
    port: int, host: MediaHost
) -> None:
    host.put("/jwks.json", says(503))
    body = sample_callback("fal", "t1")
    answer = await deliver(port, "/callbacks/fal", body, headers_of("fal", body))
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
