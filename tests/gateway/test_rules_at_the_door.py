"""Rules at the gateway's door: named in header, log and metrics, and refused in the provider's own form."""

import json

import httpx2
import pytest
from structlog.testing import capture_logs

from receiver.models import OrderFilter
from receiver.runtime import Runtime
from tests.support.order_host import OrderHost, tells
from tests.support.places import SAMPLES

VIDGO = "/gateway/vidgo/api/generate/submit"
REAPI = "/gateway/reapi/api/v1/images/generations"
APIXO = "/gateway/apixo/api/v1/generateTask/gpt-image-2"
ANSWER = (SAMPLES / "vidgo-submit-response.json").read_bytes()


@pytest.fixture
def gateway_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"RECEIVER_GATEWAY_CHECK": getattr(request, "param", "warn")}


def checking(word: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("gateway_settings", [word], indirect=True)


async def order(client: httpx2.AsyncClient, path: str = VIDGO, /, **fields: object) -> httpx2.Response:
    wishes = {"prompt": "a secret lighthouse", **fields}
    body = {"model": "gpt-image-2", **wishes} if path == REAPI else {"model": "gpt-image-2", "input": wishes}
    return await client.post(path, json=body)


async def count_orders(runtime: Runtime) -> int:
    return len((await runtime.store.list_orders(OrderFilter(), 100, None)).orders)


async def test_an_order_that_breaks_rules_goes_out_and_they_are_named(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    with capture_logs() as logged:
        answer = await order(client, resolution="4k", n=1)
    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert answer.headers["x-receiver-warnings"] == "resolution, auto-is-1k, n"
    (sent,) = [line for line in logged if line["event"] == "order.sent"]
    assert sent["rules"] == ["resolution", "auto-is-1k", "n"]
    assert "secret" not in json.dumps(logged, default=str)
    metrics = (await client.get("/metrics")).text
    broken = 'receiver_gateway_broken_rules_total{model="gpt-image-2",provider="vidgo",rule="%s"} 1.0'
    assert all(broken % rule in metrics for rule in ("resolution", "auto-is-1k", "n"))
    # The provider took it, as S says, and as H and D do not.
    verdict = 'receiver_gateway_rule_verdicts_total{agreed="%s",rule="%s"} 1.0'
    assert verdict % ("true", "auto-is-1k") in metrics
    assert verdict % ("false", "n") in metrics


async def test_a_provider_that_refuses_agrees_with_the_rule(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers.append(tells({"code": 400}, 400))
    answer = await order(client, n=1)
    assert (answer.status_code, answer.headers["x-receiver-warnings"]) == (400, "n")
    metrics = (await client.get("/metrics")).text
    assert 'receiver_gateway_rule_verdicts_total{agreed="true",rule="n"} 1.0' in metrics


async def test_an_order_that_breaks_no_rule_has_no_warnings(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers.append(tells(ANSWER))
    assert "x-receiver-warnings" not in (await order(client)).headers


@checking("refuse")
async def test_what_the_provider_refuses_is_not_sent_and_not_recorded(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    answer = await order(client, size="1024x1000", resolution="2K")
    assert answer.status_code == 400
    assert answer.headers["x-receiver-warnings"] == "custom-16"
    said = "receiver: custom-16: both edges of `input.size` must be multiples of 16"
    assert answer.json() == {
        "code": 400,
        "message": said,
        "error": {"type": "invalid_request", "message": said},
        "detail": said,
    }
    assert (
        (await order(client, APIXO, aspect_ratio="5:7")).json()["data"]["error"].startswith("receiver: size:")
    )
    assert (await order(client, REAPI, n=2)).json()["error"]["code"] == 99400
    assert upstream.sent == []
    assert await count_orders(runtime) == 0
    upstream.answers.append(tells(ANSWER))  # S is sent
    assert (await order(client, resolution="4K")).headers["x-receiver-warnings"] == "auto-is-1k"
    assert len(upstream.sent) == 1


@checking("strict")
async def test_strict_refuses_what_is_drawn_otherwise_than_asked_but_nothing_doubtful(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    assert (await order(client, resolution="4K")).status_code == 400
    missing = await order(client, REAPI, prompt="")
    assert (missing.status_code, missing.json()["error"]["code"]) == (400, 20002)
    assert upstream.sent == []
    upstream.answers.append(tells(ANSWER))
    assert (await order(client, size="1:1", resolution="2k")).headers["x-receiver-warnings"] == "resolution"
    assert len(upstream.sent) == 1


@checking("off")
async def test_off_names_nothing(client: httpx2.AsyncClient, upstream: OrderHost) -> None:
    upstream.answers.append(tells(ANSWER))
    assert "x-receiver-warnings" not in (await order(client, n=1)).headers


@checking("strict")
async def test_an_unknown_model_passes_unchecked_and_is_counted_without_its_name(
    client: httpx2.AsyncClient, admin: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers.append(tells(ANSWER))
    answer = await client.post(VIDGO, json={"model": "seedream-5.0-lite", "input": {"n": 3}})
    assert answer.status_code == 200
    assert "x-receiver-warnings" not in answer.headers
    metrics = (await client.get("/metrics")).text
    assert 'receiver_gateway_unknown_models_total{provider="vidgo"} 1.0' in metrics
    assert "seedream" not in metrics
    (sums,) = (await admin.get("/costs?by=model")).json()["costs"]
    assert (sums["orders"], sums["images"], sums["unpriced"]) == (1, 3, 1)
