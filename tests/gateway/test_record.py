"""What the record keeps of an order's body: all but the images in it, or only what its price goes by."""

import hashlib
import json
from typing import Any

import httpx2
import pytest

from receiver.gateway.kept import MAX_KEPT_BYTES
from receiver.runtime import Runtime
from tests.support.order_host import OrderHost, tells
from tests.support.places import SAMPLES

SUBMIT = "/gateway/vidgo/api/generate/submit"
ANSWER = (SAMPLES / "vidgo-submit-response.json").read_bytes()
IMAGE = "data:image/png;base64,AAAA"


@pytest.fixture
def gateway_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"RECEIVER_GATEWAY_KEEP_REQUESTS": getattr(request, "param", "true")}


async def kept(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, prompt: str, **wishes: Any
) -> object:
    """What is kept of an order with this prompt and one image."""
    upstream.answers.append(tells(ANSWER))
    body = {
        "model": "gpt-image-2-edit",
        "input": {"prompt": prompt, "image_urls": [IMAGE], "seed": 1.5, **wishes},
    }
    answer = await client.post(SUBMIT, content=json.dumps(body))
    assert upstream.orders[0].document["input"] == body["input"]
    submission = await runtime.store.get_submission(answer.headers["x-receiver-submission"])
    assert submission is not None
    return submission.request


async def test_an_order_is_kept_without_the_images_in_it(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    image = {"bytes": len(IMAGE), "sha256": hashlib.sha256(IMAGE.encode()).hexdigest()}
    assert await kept(client, upstream, runtime, "a lighthouse") == {
        "model": "gpt-image-2-edit",
        "input": {"prompt": "a lighthouse", "image_urls": [image], "seed": 1.5},
    }


async def test_an_order_that_is_too_large_to_keep_goes_out_all_the_same(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    assert await kept(client, upstream, runtime, "x" * MAX_KEPT_BYTES) is None


@pytest.mark.parametrize("gateway_settings", ["false"], indirect=True)
async def test_only_what_the_price_goes_by_is_kept_where_no_more_is_wanted(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    wishes: dict[str, Any] = {"size": "16:9", "n": 1, "quality": {"a": "secret"}, "resolution": "4K" * 50}
    assert await kept(client, upstream, runtime, "a lighthouse", **wishes) == {
        "input": {"size": "16:9", "n": 1}
    }
