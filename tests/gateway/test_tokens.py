"""Gateway tokens: bound to providers, models and an owner, shown once, revoked for good."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.models import Act, AuditFilter
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.times import to_text
from tests.gateway.conftest import KEY
from tests.gateway.test_orders import ANSWER, TASK, all_orders, order
from tests.support.cli_callers import run
from tests.support.engines import on_both_engines
from tests.support.order_host import OrderHost, tells
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, caller

STATUS = f"/gateway/vidgo/api/generate/status/{TASK}"


@pytest.fixture
def gateway_settings() -> dict[str, str]:
    return {"RECEIVER_GATEWAY_KEYS": "hold"}


async def make(admin: httpx2.AsyncClient, name: str, **bounds: Any) -> str:
    answer = await admin.post("/gateway-tokens", json={"name": name, **bounds})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@asynccontextmanager
async def holder(app: ASGIApp, admin: httpx2.AsyncClient, name: str, **bounds: Any) -> AsyncIterator[Any]:
    async with caller(app, await make(admin, name, **bounds)) as client:
        yield client


@on_both_engines
async def test_a_token_stands_for_the_providers_key_and_is_kept_as_a_hash(
    app: ASGIApp, admin: httpx2.AsyncClient, runtime: Runtime, upstream: OrderHost
) -> None:
    upstream.answers = [tells(ANSWER)]
    token = await make(admin, "ci", providers=["vidgo"], models=["gpt-image-2"], owner="user-17")
    async with caller(app, token) as client:
        assert (await order(client)).status_code == 200
    assert upstream.sent[0].headers["authorization"] == f"Bearer {KEY}"
    assert [each.owner for each in await all_orders(runtime)] == ["user-17"]
    assert [each["token"] for each in (await admin.get("/costs?by=token")).json()["costs"]] == ["ci"]
    (row,) = (await admin.get("/gateway-tokens")).json()["tokens"]
    assert (row["name"], row["providers"], row["models"], row["owner"]) == (
        "ci",
        ["vidgo"],
        ["gpt-image-2"],
        "user-17",
    )
    (kept,) = await runtime.store.list_gateway_tokens()
    assert token not in repr(kept) + json.dumps(row)
    assert token.startswith("rgw_")


@pytest.mark.parametrize(
    ("bounds", "headers", "words"),
    [
        ({"providers": ["apixo"]}, {}, "not for Vidgo"),
        ({"models": ["another-model"]}, {}, "other models"),
        ({"owner": "user-17"}, {"x_receiver_owner": "user-18"}, "other owners"),
    ],
)
async def test_what_a_token_is_not_for_is_refused_in_the_providers_form(
    app: ASGIApp,
    admin: httpx2.AsyncClient,
    upstream: OrderHost,
    bounds: dict[str, Any],
    headers: dict[str, str],
    words: str,
) -> None:
    async with holder(app, admin, "ci", **bounds) as client:
        refused = await order(client, **headers)
    document = refused.json()
    assert (refused.status_code, document["code"], document["error"]["type"]) == (
        403,
        403,
        "authentication_error",
    )
    assert words in document["message"]
    assert upstream.sent == []


async def test_reapis_form_of_it_is_99403(
    app: ASGIApp, admin: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    async with holder(app, admin, "ci", providers=["vidgo"]) as client:
        refused = await client.post("/gateway/reapi/api/v1/images/generations", json={"model": "m"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, 99403)
    assert upstream.sent == []


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_one_that_is_revoked_or_over_lets_nobody_in(
    app: ASGIApp, admin: httpx2.AsyncClient, runtime: Runtime, upstream: OrderHost
) -> None:
    upstream.otherwise = tells(ANSWER)
    now = runtime.clock.now()
    async with (
        holder(app, admin, "revoked") as revoked,
        holder(app, admin, "other", expires_at=to_text(now + timedelta(days=1))) as other,
    ):
        assert (await order(revoked)).status_code == 200
        assert (await admin.delete("/gateway-tokens/revoked")).status_code == 204
        assert (await order(revoked)).status_code == 401
        assert (await order(other)).status_code == 200
    assert (await admin.delete("/gateway-tokens/revoked")).status_code == 404
    again = await admin.post("/gateway-tokens", json={"name": "revoked"})
    assert (again.status_code, again.json()["type"]) == (409, "urn:receiver:problem:token-named")
    past = await admin.post(
        "/gateway-tokens", json={"name": "past", "expires_at": to_text(now - timedelta(seconds=1))}
    )
    assert past.status_code == 400
    (token,) = [each for each in await runtime.store.list_gateway_tokens() if each.name == "other"]
    assert not token.is_good(now + timedelta(days=1))
    noted = await runtime.store.list_audit(AuditFilter(act=Act.GATEWAY_TOKEN_REVOKED), 10, None)
    assert [entry.target for entry in noted.entries] == ["token revoked"]


async def test_trap_8_another_tokens_task_another_owners_and_a_guessed_id_are_the_same_404(
    app: ASGIApp,
    admin: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    runtime: Runtime,
    upstream: OrderHost,
) -> None:
    upstream.answers = [tells(ANSWER)]
    await backend.post("/submissions", json={"provider": "vidgo", "owner": "default", "task_id": "logged"})
    async with holder(app, admin, "mine") as mine, holder(app, admin, "other") as other:
        await order(mine, x_receiver_owner="user-17")
        token = runtime.tokens.for_provider("vidgo")
        callback = sample_callback("vidgo", TASK, error="no")
        assert (await backend.post(f"/callbacks/vidgo/{token}", content=callback)).status_code == 200
        assert (await mine.get(STATUS)).status_code == 200
        assert (await mine.get(STATUS, headers={"x-receiver-owner": "user-17"})).status_code == 200
        for client in (mine, other, backend):
            client.headers["user-agent"] = "a-client"
        answers = [
            await other.get(STATUS),
            await backend.get(STATUS),
            await mine.get(STATUS, headers={"x-receiver-owner": "user-18"}),
            *[
                await mine.get(f"/gateway/vidgo/api/generate/status/{guess}")
                for guess in (
                    "task-unified-1757165031-guessed0",
                    "logged",
                    "a%2Fb",
                    "..%2F..%2Fuser",
                    "%2e%2e",
                    "a%00b",
                    "x" * 2000,
                )
            ],
        ]
    assert {answer.status_code for answer in answers} == {404}
    assert {answer.json()["error"]["type"] for answer in answers} == {"not_found"}
    words = {answer.json()["message"] for answer in answers[:5]}
    assert words == {"receiver: there is no such task"}
    asked = [each for each in upstream.sent if each.method == "GET"]
    assert "a-client" not in {each.headers.get("user-agent") for each in asked}  # but for our own polls


async def test_trap_12_no_key_and_no_token_is_in_the_record_the_metrics_or_the_log(
    app: ASGIApp,
    admin: httpx2.AsyncClient,
    backend: httpx2.AsyncClient,
    web_settings: Settings,
    upstream: OrderHost,
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream.otherwise = tells(ANSWER)
    token = await make(admin, "ci")
    async with caller(app, token) as client:
        await order(client)
        await order(client, x_receiver_owner="user-18", x_receiver_again="yes")
        wrong = await order(client, authorization=f"Bearer {token}x")
    await order(backend, x_receiver_again="yes")
    files = [each.read_bytes() for each in web_settings.data_dir.rglob("*") if each.is_file()]
    told = (await admin.get("/metrics")).text + "".join(capsys.readouterr()) + wrong.text
    assert any(b"gateway_tokens" in each for each in files)
    for secret in (KEY, token, API_TOKEN, ADMIN_TOKEN):
        assert secret not in told
        assert not any(secret.encode() in each for each in files)


async def test_api_tokens_order_too_and_are_bound_to_nothing(
    backend: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.answers = [tells(ANSWER)]
    assert (await order(backend)).status_code == 200
    assert upstream.sent[0].headers["authorization"] == f"Bearer {KEY}"
    assert API_TOKEN not in repr(upstream.sent)


async def test_tokens_that_cannot_be_read_let_nobody_in(
    app: ASGIApp,
    admin: httpx2.AsyncClient,
    runtime: Runtime,
    upstream: OrderHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with holder(app, admin, "ci") as client:

        async def fails() -> None:
            raise Unavailable("the disk is gone")

        monkeypatch.setattr(runtime.store, "list_gateway_tokens", fails)
        refused = await order(client)
    assert (refused.status_code, refused.json()["error"]["type"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "1"
    assert upstream.sent == []


async def test_status_questions_do_not_read_tokens_anew(
    app: ASGIApp, admin: httpx2.AsyncClient, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = runtime.store.list_gateway_tokens

    async def counted() -> object:
        nonlocal reads
        reads += 1
        return await read()

    async with holder(app, admin, "ci") as client:
        monkeypatch.setattr(runtime.store, "list_gateway_tokens", counted)
        for guess in range(20):
            assert (await client.get(f"/gateway/vidgo/api/generate/status/t{guess}")).status_code == 404
            wrong = await client.get(STATUS, headers={"authorization": f"Bearer rgw_{guess}"})
            assert wrong.status_code == 401
    assert reads <= 2  # on a slow machine more than two seconds may have passed


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "has blanks in it"},
        {"name": "ci", "providers": ["kie"]},
        {"name": "ci", "owner": "all*"},
        {"name": "ci", "expires_at": "tomorrow"},
        {"name": "ci", "budgets": 5},
    ],
)
async def test_what_no_token_can_be_bound_to_is_refused(
    admin: httpx2.AsyncClient, wrong: dict[str, object]
) -> None:
    assert (await admin.post("/gateway-tokens", json=wrong)).status_code == 400
    assert (await admin.get("/gateway-tokens")).json()["tokens"] == []


async def test_one_that_is_made_at_the_command_line_has_its_budget_and_its_costs_are_told_by_its_name(
    port: int, app: ASGIApp, admin: httpx2.AsyncClient, upstream: OrderHost
) -> None:
    upstream.otherwise = tells(ANSWER)
    typed = ("gateway", "tokens", "add", "ci", "--budget", "0.01", "--expires", "12h")
    service = {"RECEIVER_URL": f"http://127.0.0.1:{port}", "RECEIVER_TOKEN": ADMIN_TOKEN}
    made = await asyncio.to_thread(run, *typed, **service)
    (token,) = [word for word in made.stdout.split() if word.startswith("rgw_")]  # beside the service's log
    async with caller(app, token) as client:
        assert (await order(client)).status_code == 200
        assert (await order(client)).status_code == 402
    assert len(upstream.orders) == 1
    (row,) = (await admin.get("/costs?by=token")).json()["costs"]
    assert (row["token"], row["orders"]) == ("ci", 1)
    again = await asyncio.to_thread(run, *typed, **service)
    assert (again.exit_code, "rgw_" in again.stdout) == (1, False)


async def test_only_admins_make_list_and_revoke_them(backend: httpx2.AsyncClient) -> None:
    assert (await backend.post("/gateway-tokens", json={"name": "ci"})).status_code == 403
    assert (await backend.get("/gateway-tokens")).status_code == 403
    assert (await backend.delete("/gateway-tokens/ci")).status_code == 403
