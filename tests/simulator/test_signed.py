"""The simulator's signed providers: adapters understand and believe them, unless they sign wrongly."""

import base64
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from receiver import payload
from receiver.clock import Clock
from receiver.models import Callback, Report, ReportState, SigningKeys
from receiver.plugins import load_providers
from receiver.simulator import SECRETS, Faults, SimulatorOptions
from tests.support.playing import QUICK, Backend, playing
from tests.support.waiting import until

ORDERED_SECRET = "secret-of-this-order"
ADAPTERS = load_providers()
SIGNED = ("replicate", "wavespeed", "kie", "bfl", "piapi", "fal")


def an_order(provider: str, url: str, count: int = 1) -> tuple[str, dict[str, Any]]:
    """As each provider documents it."""
    wanted: dict[str, object] = {"prompt": "hills"}
    match provider:
        case "replicate":
            asked = {"version": "owner/model", "input": wanted | {"num_outputs": count}, "webhook": url}
            return "/replicate/v1/predictions", asked
        case "wavespeed":
            path = f"/wavespeed/api/v3/wavespeed-ai/flux-dev?webhook={quote(url, safe='')}"
            return path, wanted | {"num_images": count}
        case "kie":
            asked = {"model": "seedream", "callBackUrl": url, "input": wanted | {"max_images": count}}
            return "/kie/api/v1/jobs/createTask", asked
        case "fal":
            path = f"/fal/fal-ai/flux/dev?fal_webhook={quote(url, safe='')}"
            return path, wanted | {"num_images": count}
        case "bfl":
            return "/bfl/v1/flux-pro", wanted | {"webhook_url": url, "webhook_secret": ORDERED_SECRET}
        case _:
            hook = {"webhook_config": {"endpoint": url, "secret": ORDERED_SECRET}}
            asked = {"model": "flux", "input": wanted | {"batch_size": count}, "config": hook}
            return "/piapi/api/v1/task", asked


async def ordered(backend: Backend, provider: str, count: int = 1, **simulate: object) -> str:
    """Order there; the task's id, as the truth has it."""
    path, body = an_order(provider, backend.callback_url, count)
    answer = await backend.http.post(path, json=body | {"simulate": simulate})
    assert answer.status_code == 200, answer.text
    task_id: str = (await backend.truth())["task_id"]
    assert task_id in answer.text
    return task_id


async def believed(provider: str, backend: Backend, number: int = 0) -> bool:
    """Whether the adapter takes a callback as it came for signed."""
    callback = Callback(
        provider=provider,
        token=None,
        body=backend.bodies[number],
        headers=backend.headers[number],
        received_at=Clock().now(),
    )
    keys = SigningKeys(secrets=(SECRETS.get(provider, ORDERED_SECRET),))
    if provider == "fal":
        (shown,) = (await backend.http.get("/fal/.well-known/jwks.json")).json()["keys"]
        assert (shown["kty"], shown["crv"]) == ("OKP", "Ed25519")
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(shown["x"] + "="))
        keys = SigningKeys(fits=partial(_fits, public))
    return ADAPTERS[provider].verify(callback, keys)


def _fits(public: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """By a library that neither side uses."""
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


async def asked(backend: Backend, provider: str, task_id: str) -> Report:
    request = ADAPTERS[provider].status_request(
        task_id, "fal-ai/flux/dev" if provider == "fal" else "seedream"
    )
    assert request is not None
    answer = await backend.http.get(f"/{provider}{request.path}", params=dict(request.query))
    if request.results is not None and answer.json()["status"] == "COMPLETED":
        results = await backend.http.get(f"/{provider}{request.results.path}")
        return ADAPTERS[provider].parse({"answer": answer.json(), "results": results.json()})
    return ADAPTERS[provider].parse(payload.decode(answer.content))


@pytest.mark.parametrize("provider", SIGNED)
async def test_its_callback_is_signed_right_and_says_what_its_status_says(provider: str) -> None:
    count = 1 if provider == "bfl" else 3
    async with playing() as backend:
        task_id = await ordered(backend, provider, count)
        await backend.called(1)
        told = ADAPTERS[provider].parse(payload.decode(backend.bodies[0]))
        assert (told.task_id, told.state, len(told.files)) == (task_id, ReportState.COMPLETED, count)
        answer = await asked(backend, provider, task_id)
        word = {"fal": "COMPLETED"}.get(provider, told.provider_state)  # it has two for the same
        assert answer == msgspec.structs.replace(told, provider_state=word)
        assert await believed(provider, backend)
        assert (await backend.http.get(told.files[0].url)).headers["content-type"].startswith("image/")


@pytest.mark.parametrize("provider", SIGNED)
async def test_a_failure_and_a_running_task_are_told_in_its_words(provider: str) -> None:
    async with playing() as backend:
        await ordered(backend, provider, outcome="failed", error="too dark")
        await backend.called(1)
        told = ADAPTERS[provider].parse(payload.decode(backend.bodies[0]))
        assert (told.state, told.error_message) == (ReportState.FAILED, "too dark")
        running = await ordered(backend, provider, delay_seconds=60)
        assert (await asked(backend, provider, running)).state is ReportState.PROGRESS


@pytest.mark.parametrize("provider", SIGNED)
async def test_a_share_is_signed_wrongly_each_time_and_one_order_may_ask_for_it(provider: str) -> None:
    options = msgspec.structs.replace(QUICK, faults=Faults(bad_signatures=1.0))
    async with playing(options, statuses=[401, 401, 200]) as backend:
        await ordered(backend, provider)
        await backend.called(3)
        assert [await believed(provider, backend, number) for number in range(3)] == [False] * 3
        assert (await backend.truth())["simulate"]["bad_signature"] is True
        await ordered(backend, provider, bad_signature=False)
        await backend.called(4)
        assert await believed(provider, backend, 3)


@pytest.mark.parametrize("provider", SIGNED)
async def test_a_forged_callback_has_no_signature(provider: str) -> None:
    async with playing() as backend:
        await ordered(backend, provider, forge=True)
        await backend.called(2)
        assert [await believed(provider, backend, number) for number in range(2)] == [False, True]


async def test_fal_wants_its_own_word_before_a_key_and_has_results_of_what_has_ended_only() -> None:
    options = msgspec.structs.replace(QUICK, keys={"fal": "k"})
    async with playing(options) as backend:
        path, body = an_order("fal", backend.callback_url)
        as_bearer = await backend.http.post(path, json=body, headers={"Authorization": "Bearer k"})
        assert as_bearer.status_code == 401
        key = {"Authorization": "Key k"}
        slow = body | {"simulate": {"delay_seconds": 60}}
        task_id = (await backend.http.post(path, json=slow, headers=key)).json()["request_id"]
        results = await backend.http.get(f"/fal/fal-ai/flux/requests/{task_id}", headers=key)
        assert (results.status_code, results.json()) == (400, {"detail": "Request is still in progress"})


async def test_another_implementation_believes_replicate_and_not_wavespeed() -> None:
    async with playing() as backend:
        for provider in ("replicate", "wavespeed"):
            await ordered(backend, provider)
            await backend.called(1 + (provider == "wavespeed"))
        Webhook(SECRETS["replicate"]).verify(backend.bodies[0], backend.headers[0])
        assert not await believed("replicate", backend, 1)
        assert not await believed("wavespeed", backend, 0)


async def test_each_attempt_is_signed_for_its_own_time() -> None:
    async with playing(
        SimulatorOptions(task_seconds=0, retry_factor=0.3, picture_pixels=64), [500]
    ) as backend:
        await ordered(backend, "replicate")
        await backend.called(2)
        assert [await believed("replicate", backend, number) for number in range(2)] == [True, True]
        times = [int(headers["webhook-timestamp"]) for headers in backend.headers]
        assert times[1] > times[0]


@pytest.mark.parametrize("provider", SIGNED)
async def test_what_it_refuses_ends_no_task(provider: str) -> None:
    async with playing() as backend:
        path, _ = an_order(provider, backend.callback_url)
        refused = await backend.http.post(path, json={})
        assert refused.status_code == 400
        assert ADAPTERS[provider].parse(refused.json()).state is ReportState.UNCLEAR
        elsewhere, body = an_order(provider, "https://app.example/callbacks/token")
        assert (await backend.http.post(elsewhere, json=body)).status_code == 400


async def test_an_order_without_a_secret_of_its_own_is_not_signed() -> None:
    async with playing() as backend:
        body = {"prompt": "hills", "webhook_url": backend.callback_url}
        assert isinstance(await backend.http.post("/bfl/v1/flux-pro", json=body), httpx2.Response)
        await until(lambda: backend.headers)
        assert "x-bfl-signature" not in backend.headers[0]
