"""An order through the gateway: recorded, sent once, answered as its provider did, and never forgotten."""

import asyncio
import json
from typing import Any, cast

import httpx2
import msgspec
import pytest
from starlette.types import ASGIApp

from receiver.gateway.upstream import Upstream
from receiver.models import GatewayCallbacks, Order, OrderFilter, OrderState
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from tests.gateway.conftest import KEY
from tests.support.engines import on_both_engines
from tests.support.loopback import post
from tests.support.media_host import listening, redirects, says
from tests.support.order_host import OrderHost, hangs_up, tells
from tests.support.places import SAMPLES
from tests.support.waiting import until
from tests.support.web_callers import caller

SUBMIT = "/gateway/vidgo/api/generate/submit"
BODY = (
    b'{ "model":"gpt-image-2", "input": {"prompt":"a lighthouse", "seed":12345678901234567890123, "x":1.0}}'
)
ANSWER = (SAMPLES / "vidgo-submit-response.json").read_bytes()
TASK = "task-unified-1757165031-uyujaw3d"


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {"RECEIVER_GATEWAY_ANSWER_SECONDS": "1"}


async def order(client: httpx2.AsyncClient, body: bytes = BODY, /, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(SUBMIT, content=body, headers={"content-type": "application/json", **named})


async def all_orders(runtime: Runtime) -> list[Order]:
    return [*(await runtime.store.list_orders(OrderFilter(), 100, None)).orders]


async def state_of(runtime: Runtime) -> OrderState:
    (only,) = await all_orders(runtime)
    return only.state


async def calls_back(client: httpx2.AsyncClient, upstream: OrderHost, task_id: str = TASK) -> httpx2.Response:
    """The provider calls the URL of the first order that it got."""
    url = upstream.orders[0].document["callback_url"]
    return await client.post(
        url.removeprefix("https://receiver.test"), content=sample_callback("vidgo", task_id, error="no")
    )


@on_both_engines
async def test_an_order_goes_out_with_our_callback_url_and_its_answer_comes_back_as_it_was(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    answer = await order(client, X_Receiver_Owner="user-17", X_Receiver_Metadata='{"order":7}')
    assert (answer.status_code, answer.content) == (200, ANSWER)
    assert answer.headers["x-receiver-state"] == "bound"
    (sent,) = upstream.sent
    token = runtime.tokens.for_submission("vidgo", answer.headers["x-receiver-submission"])
    url = f"https://receiver.test/callbacks/vidgo/{token}"
    assert sent.body == BODY.replace(b"{", b'{"callback_url":"%s",' % url.encode(), 1)
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    submission = await runtime.store.get_submission(answer.headers["x-receiver-submission"])
    assert submission is not None
    assert (submission.owner, submission.model, submission.task_id) == ("user-17", "gpt-image-2", TASK)
    assert submission.metadata == {"order": 7}
    (kept,) = await all_orders(runtime)
    assert (kept.state, kept.said_task_id, kept.status) == (OrderState.BOUND, TASK, 200)


async def test_only_named_headers_go_up_and_come_down(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers.append(
        tells(ANSWER, 200, "set-cookie: a=b", "x-request-id: r1", "server: x", "x-ratelimit-left: 3")
    )
    answer = await order(
        client,
        Cookie="a=b",
        X_Forwarded_For="1.2.3.4",
        X_Receiver_Owner="user-17",
        Via="1.1 x",
        X_Request_Id="mine",
        Connection="x-request-id",
        Accept_Encoding="gzip",
        User_Agent="my-program/1",
    )
    headers = upstream.sent[0].headers
    assert headers["user-agent"] == "my-program/1"
    assert headers["accept-encoding"] == "identity"
    assert headers.keys().isdisjoint({"cookie", "x-forwarded-for", "x-receiver-owner", "via", "x-request-id"})
    assert answer.headers["x-request-id"] == "r1"
    assert answer.headers["x-ratelimit-left"] == "3"
    assert answer.headers.keys().isdisjoint({"set-cookie", "server"})


@pytest.mark.parametrize(
    ("status", "document"),
    [(400, {"code": 400}), (429, {"code": 429}), (200, {"code": 402, "message": "no"})],
)
async def test_trap_5_a_refusal_passes_as_it_is_and_the_reservation_is_withdrawn(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, status: int, document: Any
) -> None:
    upstream.answers.append(tells(document, status, "retry-after: 7"))
    answer = await order(client)
    assert (answer.status_code, answer.json()) == (status, document)
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-receiver-state"] == "refused"
    submission = await runtime.store.get_submission(answer.headers["x-receiver-submission"])
    assert submission is not None
    assert submission.withdrawn_at is not None


@pytest.mark.parametrize("status", [500, 502, 503, 408])
async def test_trap_5_a_broken_answer_passes_and_nobody_is_invited_to_order_again(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, status: int
) -> None:
    upstream.answers.append(says(status, b"<html>bad</html>", "content-type: text/html", "retry-after: 1"))
    answer = await order(client)
    assert (answer.status_code, answer.content) == (status, b"<html>bad</html>")
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert await state_of(runtime) is OrderState.UNKNOWN


@pytest.mark.parametrize(
    "lost",
    [
        hangs_up,
        says(200, b"{", length=100),
        redirects("https://elsewhere.test/"),
        says(200, b"x" * 3_000_000),
    ],
    ids=["no answer", "cut", "redirect", "too large"],
)
async def test_without_an_answer_the_outcome_is_unknown_and_says_which_submission_tells_more(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, lost: Any
) -> None:
    upstream.answers.append(lost)
    answer = await order(client)
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "unknown_outcome"
    assert answer.headers["x-receiver-submission"] in answer.json()["detail"]
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert len(upstream.sent) == 1
    assert await state_of(runtime) is OrderState.UNKNOWN


@on_both_engines
async def test_what_never_left_may_be_sent_again(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    assert runtime.gateway is not None
    cast("dict[str, Upstream]", runtime.gateway.upstreams)["vidgo"] = Upstream("http://127.0.0.1:1")
    for key in ("", "k1"):
        for _ in range(2):
            answer = await order(client, **({"Idempotency_Key": key} if key else {}))
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["x-receiver-state"] == "unsent"
    assert {each.state for each in await all_orders(runtime)} == {OrderState.UNSENT}
    assert upstream.sent == []


async def test_a_callback_binds_an_unknown_order(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(hangs_up)
    assert (await order(client)).status_code == 504
    assert (await calls_back(stranger, upstream)).json()["status"] == "accepted"
    assert await state_of(runtime) is OrderState.BOUND


@on_both_engines
@pytest.mark.usefixtures("no_fallback")
async def test_what_came_for_a_task_before_its_order_was_answered_is_told_at_once(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    woken: list[str] = []

    def noted(loop: str) -> None:
        woken.append(loop)
        runtime.worker.wake(loop)

    monkeypatch.setattr(runtime.ingest, "_wake", noted)
    of_all = f"/callbacks/vidgo/{runtime.tokens.for_provider('vidgo')}"
    early = await stranger.post(of_all, content=sample_callback("vidgo", TASK, error="no"))
    assert early.json()["status"] == "early"
    upstream.answers.append(tells(ANSWER))
    upstream.otherwise = tells(sample_callback("vidgo", TASK, error="no"))  # when it is asked
    assert (await order(client)).headers["x-receiver-state"] == "bound"

    async def is_told() -> bool:
        task = await runtime.store.get_task("vidgo", TASK)
        return task is not None and task.event is not None and task.waiting_on is None

    await until(is_told)
    assert {"assets", "sink", "poll vidgo"} <= set(woken)


@pytest.mark.parametrize("key", [None, "k1"])
async def test_trap_3_who_tries_again_after_a_lost_answer_ends_with_the_first_task_and_one_bill(
    client: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    upstream: OrderHost,
    key: str | None,
) -> None:
    headers = {"Idempotency_Key": key} if key else {}
    upstream.answers.append(hangs_up)
    assert (await order(client, **headers)).status_code == 504
    assert (await order(client, **headers)).status_code == (504 if key else 409)
    await calls_back(stranger, upstream)
    again = await order(client, **headers)
    assert again.status_code == 200
    assert again.json()["data"]["task_id"] == TASK
    assert again.headers["idempotent-replayed"] == "true"
    assert len(upstream.orders) == 1


async def test_the_same_key_has_the_same_answer_and_no_second_bill(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers.append(tells(ANSWER))
    upstream.gate.clear()
    both = asyncio.gather(order(client, Idempotency_Key="k1"), order(client, Idempotency_Key="k1"))
    await until(lambda: upstream.sent)
    upstream.gate.set()
    first, second = sorted(await both, key=lambda answer: "idempotent-replayed" in answer.headers)
    assert (first.content, second.content) == (ANSWER, ANSWER)
    assert second.headers["idempotent-replayed"] == "true"
    other = await order(client, BODY.replace(b"lighthouse", b"boat"), Idempotency_Key="k1")
    assert other.status_code == 422
    assert len(upstream.orders) == 1


async def test_without_a_key_an_answered_order_may_be_repeated_and_a_refused_one_too(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers += [
        tells({"code": 402}, 402),
        tells(ANSWER),
        tells(ANSWER.replace(b"uyujaw3d", b"other")),
    ]
    assert [(await order(client)).status_code for _ in range(3)] == [402, 200, 200]
    assert len(upstream.orders) == 3


async def test_an_equal_order_is_sent_anew_where_that_is_meant(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers += [hangs_up, tells(ANSWER)]
    assert (await order(client)).status_code == 504
    assert (await order(client, X_Receiver_Again="yes")).status_code == 200


@on_both_engines
async def test_trap_1_an_answer_that_comes_when_the_caller_has_left_is_bound(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    upstream.gate.clear()
    answer = await order(client)
    assert answer.status_code == 504
    assert answer.headers["x-receiver-state"] == "sending"
    upstream.gate.set()

    async def bound() -> bool:
        return await state_of(runtime) is OrderState.BOUND

    await until(bound)
    assert len(upstream.sent) == 1


async def test_trap_1_a_caller_who_hangs_up_changes_nothing(
    port: int, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    upstream.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(SUBMIT, BODY, f"Authorization: Bearer {KEY}"))
    await until(lambda: upstream.sent)
    writer.close()
    await asyncio.sleep(0.1)
    upstream.gate.set()

    async def bound() -> bool:
        return await state_of(runtime) is OrderState.BOUND

    await until(bound)


async def test_trap_2_a_callback_before_the_answer_binds_and_another_id_in_the_answer_is_a_conflict(
    client: httpx2.AsyncClient, stranger: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    upstream.gate.clear()
    ordering = asyncio.create_task(order(client))
    await until(lambda: upstream.sent)
    await calls_back(stranger, upstream, "another-id")
    upstream.gate.set()
    assert (await ordering).content == ANSWER
    (kept,) = await all_orders(runtime)
    assert (kept.state, kept.task_id, kept.said_task_id) == (OrderState.BOUND, "another-id", TASK)
    assert kept.is_conflict


async def test_trap_2_two_orders_with_the_same_id_are_one_task(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers += [tells(ANSWER), tells(ANSWER)]
    assert [(await order(client)).status_code for _ in range(2)] == [200, 200]
    second, first = await all_orders(runtime)
    assert (first.task_id, second.task_id, second.said_task_id) == (TASK, None, TASK)


@pytest.mark.parametrize(
    "body", [b'{"model":"a","model":"b"}', b"[]", b"", b"\xef\xbb\xbf{}", b'{"input":{}}', b'{"model":7}']
)
async def test_trap_6_what_is_no_order_is_refused_and_nothing_is_sent(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, body: bytes
) -> None:
    answer = await order(client, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request"
    assert answer.json()["message"].startswith("receiver: ")
    assert upstream.sent == []
    assert await all_orders(runtime) == []


async def test_a_compressed_body_and_one_that_is_too_large_are_refused(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    assert (await order(client, Content_Encoding="gzip")).status_code == 415
    assert (await order(client, b"x" * (33_554_432 + 1))).status_code == 413
    assert upstream.sent == []


async def test_trap_12_a_stranger_gets_nothing_forwarded(app: ASGIApp, upstream: OrderHost) -> None:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://receiver.test") as stranger:
        for headers in (
            {},
            {"authorization": "Bearer another-key"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": "Bearer "},
        ):
            for method, path in (
                ("POST", SUBMIT),
                ("GET", "/gateway/vidgo/api/generate/status/t1"),
                ("GET", "/gateway/vidgo/api/user/balance"),
                ("POST", "/gateway/vidgo/api/common/upload/stream"),
            ):
                answer = await stranger.request(method, path, content=BODY, headers=headers)
                assert answer.status_code == 401
                assert answer.json()["error"]["type"] == "authentication_error"
    assert upstream.sent == []


async def test_other_paths_and_providers_are_not_there(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    assert (await client.post("/gateway/vidgo/v1/chat/completions", content=b"{}")).status_code == 404
    assert (await client.post("/gateway/nobody/api/generate/submit", content=b"{}")).status_code == 404
    assert (await client.post("/gateway/fal/api/generate/submit", content=b"{}")).status_code == 404
    assert upstream.sent == []


@pytest.mark.parametrize(
    ("provider", "path", "body"),
    [
        ("apidot", "api/generate/submit", {"model": "m", "input": {"prompt": "x"}}),
        ("apixo", "api/v1/generateTask/openai%2Fgpt-image-2", {"input": {"prompt": "x"}}),
        ("reapi", "api/v1/images/generations", {"model": "gpt-image-2", "prompt": "x"}),
    ],
)
async def test_the_other_providers_take_orders_in_their_own_form(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime, provider: str, path: str, body: Any
) -> None:
    document = (SAMPLES / f"{provider}-submit-response.json").read_bytes()
    upstream.answers.append(tells(document))
    answer = await client.post(f"/gateway/{provider}/{path}", json=body)
    assert (answer.status_code, answer.content) == (200, document)
    (sent,) = upstream.sent
    assert sent.target == f"/{path}"
    (kept,) = await all_orders(runtime)
    assert kept.state is OrderState.BOUND
    added = {name: sent.document[name] for name in sent.document.keys() - body.keys()}
    url = added.pop("callback_url", "")
    expected: dict[str, dict[str, str]] = {"apixo": {"request_type": "callback"}}
    assert added == expected.get(provider, {})
    assert url.startswith(f"https://receiver.test/callbacks/{provider}/") is (provider != "reapi")
    assert kept.model == {"apidot": "m", "apixo": "openai/gpt-image-2", "reapi": "gpt-image-2"}[provider]


async def test_a_callback_url_of_the_callers_own_may_be_left_to_the_provider(
    upstream: OrderHost, runtime: Runtime
) -> None:
    settings = msgspec.structs.replace(runtime.settings, gateway_callbacks=GatewayCallbacks.KEEP)
    body = b'{"model":"m","callback_url":"https://mine.test/x","input":{}}'
    upstream.answers.append(tells(ANSWER))
    async with caller(build_app(msgspec.structs.replace(runtime, settings=settings)), KEY) as client:
        assert (await order(client, body)).status_code == 200
    assert upstream.sent[0].body == body


async def test_an_owner_may_stand_in_the_path(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    await client.post("/gateway/vidgo/o.user%2017/api/generate/submit", content=BODY)
    (kept,) = await all_orders(runtime)
    assert kept.owner == "user 17"
    assert upstream.sent[0].target == "/api/generate/submit"
    assert json.loads(upstream.sent[0].body)["model"] == "gpt-image-2"


async def test_bad_owners_metadata_and_keys_are_refused(
    client: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    for headers in (
        {"X_Receiver_Owner": "a" * 201},
        {"X_Receiver_Owner": "a%0Ab"},
        {"X_Receiver_Metadata": "[]"},
        {"X_Receiver_Metadata": "{"},
        {"X_Receiver_Metadata": '{"a":"' + "x" * 5000 + '"}'},
        {"Idempotency_Key": "x" * 300},
    ):
        assert (await order(client, **headers)).status_code == 400
    assert upstream.sent == []


async def test_what_is_kept_of_an_order_has_no_image_in_it(
    client: httpx2.AsyncClient, upstream: OrderHost, runtime: Runtime
) -> None:
    upstream.answers.append(tells(ANSWER))
    image = "data:image/png;base64," + "QUJD" * 1000
    answer = await order(client, json.dumps({"model": "m", "input": {"image_urls": [image]}}).encode())
    submission = await runtime.store.get_submission(answer.headers["x-receiver-submission"])
    assert submission is not None
    assert image not in json.dumps(submission.request)
    assert "sha256" in json.dumps(submission.request)
    assert image in upstream.sent[0].body.decode()


@pytest.mark.parametrize(
    "url",
    [
        "http://receiver.test/gateway/vidgo//api/generate/submit",
        "http://receiver.test/below/gateway/vidgo/api/generate/submit/",
        "http://vidgo.gw.test/api/generate/submit",
        "http://VIDGO.gw.test:8443//api/generate/submit",
    ],
)
async def test_trap_11_slashes_a_public_url_with_a_path_and_a_host_of_its_own_lead_to_the_provider(
    upstream: OrderHost, runtime: Runtime, url: str
) -> None:
    settings = msgspec.structs.replace(
        runtime.settings,
        public_url="https://receiver.test/below",
        gateway_hosts={"vidgo": ("vidgo.gw.test",)},
    )
    app = build_app(msgspec.structs.replace(runtime, settings=settings))
    upstream.answers.append(tells(ANSWER))
    async with caller(app, KEY) as elsewhere:
        answer = await elsewhere.post(url, content=BODY)
        assert (answer.status_code, answer.content) == (200, ANSWER)
        other = await elsewhere.get("http://vidgo.gw.test/healthz")
        assert other.status_code == 404
        assert other.json()["error"]["type"] == "not_found"
    assert upstream.sent[0].target == "/api/generate/submit"


async def test_trap_12_no_key_follows_a_redirect_and_nothing_of_an_order_is_logged(
    client: httpx2.AsyncClient, upstream: OrderHost, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = OrderHost()
    async with listening(elsewhere.serve) as elsewhere.port:
        upstream.answers += [redirects(f"{elsewhere.url}/api/generate/submit", 307), tells(ANSWER)]
        assert (await order(client)).status_code == 504
        await order(
            client, b'{"model":"m","callback_url":"https://mine.test/x","input":{"prompt":"my words"}}'
        )
        await order(client, b'{"model":"m","model":"my words"}')
    assert elsewhere.sent == []
    logged = "".join(capsys.readouterr())
    assert "order.sent" in logged
    for secret in (KEY, "my words", "lighthouse", "mine.test", "/callbacks/"):
        assert secret not in logged


PRIVATE = {
    "prompt": "a-prompt-that-is-private",
    "reference": "https://mine.test/reference-that-is-private.png",
    "callback": "https://mine.test/callback-that-is-private",
    "result": "https://10.0.0.1/result-that-is-private.png",
    "metadata": "metadata-that-is-private",
}


@on_both_engines
@pytest.mark.parametrize(
    "gateway_settings",
    [{"RECEIVER_GATEWAY_ANSWER_SECONDS": "1", "RECEIVER_GATEWAY_KEEP_REQUESTS": "false"}],
)
async def test_trap_12_no_prompt_and_no_link_is_in_logs_metrics_or_errors_whatever_becomes_of_an_order(
    client: httpx2.AsyncClient,
    admin: httpx2.AsyncClient,
    upstream: OrderHost,
    runtime: Runtime,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wishes = {"prompt": PRIVATE["prompt"], "image_urls": [PRIVATE["reference"]]}
    body = {"model": "gpt-image-2-edit", "callback_url": PRIVATE["callback"], "input": wishes}
    whose = {"x-receiver-metadata": json.dumps({"note": PRIVATE["metadata"]}), "x-receiver-again": "yes"}
    upstream.answers += [
        tells(ANSWER),
        tells({"code": 402, "message": "no"}),
        hangs_up,
        redirects(PRIVATE["result"], 307),
        says(502, b"<html>bad</html>"),
    ]
    answers = [await client.post(SUBMIT, json=body, headers=whose) for _ in range(5)]
    spoilt = (
        json.dumps(body).replace('"input"', '"model": "x", "input"').encode(),
        json.dumps(body | {"callback_url": 7}).encode(),
        json.dumps(body | {"model": 7}).encode(),
        json.dumps(body).encode()[:-1],
    )
    answers += [await client.post(SUBMIT, content=each, headers=whose) for each in spoilt]
    answers.append(await client.post(SUBMIT, json=body, headers={"x-receiver-metadata": PRIVATE["metadata"]}))
    assert [answer.status_code for answer in answers] == [200, 200, 504, 504, 502, 400, 400, 400, 400, 400]
    url = upstream.orders[0].document["callback_url"].removeprefix("https://receiver.test")
    called = await client.post(url, content=sample_callback("vidgo", TASK, files=[PRIVATE["result"]]))
    assert called.status_code == 200

    async def is_over() -> bool:
        event = await runtime.store.get_event("vidgo", TASK)
        return event is not None and event.type is not None

    await until(is_over)
    errors = "".join(answer.text for answer in answers)
    told = errors + (await admin.get("/metrics")).text + "".join(capsys.readouterr())
    assert "asset.settled" in told
    for private in (KEY, "-that-is-private", "/callbacks/"):
        assert private not in told
    for order_ in await all_orders(runtime):
        submission = await runtime.store.get_submission(order_.submission_id)
        assert submission is not None
        assert "-that-is-private" not in json.dumps(submission.request)
