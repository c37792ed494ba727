"""Requests that two readers could read as two: refused, and nothing of them is sent on."""

import asyncio
import json

import pytest

from tests.gateway.conftest import KEY
from tests.gateway.test_orders import BODY, SUBMIT
from tests.hostile import requests
from tests.hostile.requests import MALFORMED, REQUESTS, TAKEN, Hostile
from tests.support.loopback import Answer, post, talk
from tests.support.order_host import OrderHost

LENGTH = f"Content-Length: {len(BODY)}"
AUTHORIZATION = f"Authorization: Bearer {KEY}"


def request(line: str, *headers: str) -> bytes:
    head = "\r\n".join([line, "Host: receiver.test", "Connection: close", *headers, "", ""])
    return head.encode("latin-1") + BODY


@pytest.mark.parametrize(
    "sent",
    [
        request(f"POST {SUBMIT} HTTP/1.1", AUTHORIZATION, LENGTH, "Transfer-Encoding: chunked"),
        request(f"POST {SUBMIT} HTTP/1.1", AUTHORIZATION, f"Content-Length: +{len(BODY)}"),
        request(f"POST {SUBMIT} HTTP/1.1", AUTHORIZATION, LENGTH, "Content-Length: 1"),
        request(f"POST {SUBMIT} HTTP/1.1", AUTHORIZATION, "Authorization: Bearer other", LENGTH),
        request(f"POST {SUBMIT} HTTP/1.1", AUTHORIZATION, LENGTH, "Transfer-Encoding: gzip, chunked"),
        request(f"POST {SUBMIT} HTTP/1.1", f"{AUTHORIZATION}\r\n folded", LENGTH),
        request("POST /gateway/vidgo/../vidgo/api/generate/submit HTTP/1.1", AUTHORIZATION, LENGTH),
        request("POST /gateway/vidgo/%2e%2e/api/generate/submit HTTP/1.1", AUTHORIZATION, LENGTH),
        request("POST /gateway/vidgo%2fapi/generate/submit HTTP/1.1", AUTHORIZATION, LENGTH),
        request("POST https://elsewhere.test/api/generate/submit HTTP/1.1", AUTHORIZATION, LENGTH),
        request("CONNECT elsewhere.test:443 HTTP/1.1", AUTHORIZATION, LENGTH),
        request(f"GET {SUBMIT} HTTP/1.1", AUTHORIZATION, "Upgrade: websocket", "Connection: Upgrade"),
    ],
)
async def test_trap_12_nothing_ambiguous_reaches_the_provider(
    port: int, upstream: OrderHost, sent: bytes
) -> None:
    answer = Answer(await talk(port, sent))
    assert answer.status == 0 or 400 <= answer.status < 500
    assert upstream.sent == []


async def test_trap_12_connection_cannot_name_the_key_away(port: int, upstream: OrderHost) -> None:
    sent = post(SUBMIT, BODY, AUTHORIZATION, "Connection: authorization")
    assert Answer(await talk(port, sent)).status == 404  # the provider's
    assert upstream.sent[0].headers["authorization"] == f"Bearer {KEY}"
    assert (
        "connection" not in upstream.sent[0].headers
        or "authorization" not in upstream.sent[0].headers["connection"]
    )


def an_order(prompt: str) -> bytes:
    return json.dumps({"model": "gpt-image-2", "input": {"prompt": prompt}}).encode()


def with_key(raw: bytes) -> bytes:
    """The same from who has the key, in the requests inside it, too."""
    return raw.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\n%s\r\n" % AUTHORIZATION.encode())


async def test_trap_12_the_corpus_of_hostile_requests_orders_nothing(
    port: int, upstream: OrderHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "body_of", an_order)

    async def is_sent(hostile: Hostile) -> bytes:
        return await talk(port, with_key(hostile.raw(SUBMIT)), timeout_seconds=1)

    malformed = [each for each in REQUESTS if each.statuses == MALFORMED]
    answers = await asyncio.gather(*map(is_sent, malformed))
    assert {Answer(answer).status for answer in answers} <= {0, *range(400, 500)}
    assert len(malformed) > 50
    assert upstream.sent == []

    taken = [each for each in REQUESTS if each.statuses == TAKEN]
    await asyncio.gather(*map(is_sent, taken), return_exceptions=True)  # their connections stay open
    prompts = [sent.document["input"]["prompt"] for sent in upstream.orders]
    assert len(prompts) == len(set(prompts)) > 15
    assert not [prompt for prompt in prompts if prompt.startswith("smuggled")]
