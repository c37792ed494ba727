"""What was turned away is counted by hour and reason, and nothing of what strangers sent is kept."""

import asyncio
from collections import Counter

import httpx2
import pytest

from receiver.models import Signing
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.engines import on_both_engines
from tests.support.page_callers import OURS, browser, log_in
from tests.support.signatures import SECRET
from tests.support.web_callers import ADMIN_TOKEN, callback_path, log_task

SAID = "CANARY-of-a-stranger"
Seen = tuple[str, int, str, str]


@pytest.fixture
def environment() -> dict[str, str]:
    return {"BFL_WEBHOOK_SECRET": SECRET}


async def listed(admin: httpx2.AsyncClient, runtime: Runtime, query: str = "") -> dict[Seen, int]:
    await runtime.time_series.write()
    answer = await admin.get(f"/refusals{query}")
    assert answer.status_code == 200, answer.text
    return {
        (row["provider"], row["status"], row["reason"], row["scheme"]): row["count"]
        for row in answer.json()["refusals"]
    }


@on_both_engines
async def test_each_reason_is_counted_and_told_apart(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    body = sample_callback("vidgo", "t1")
    right = callback_path(runtime)
    await stranger.post("/callbacks/vidgo/wrong", content=body)
    await stranger.post("/callbacks/vidgo/wrong-again", content=body)
    await stranger.post("/callbacks/vidgo", content=body)
    await stranger.post(f"/callbacks/{SAID}/x", content=body)
    await stranger.get(right)
    await stranger.post(right, content=b"1" * 200_000)
    await stranger.post(right, content=body, headers={"content-encoding": "br"})

    assert await listed(admin, runtime) == {
        ("vidgo", 401, "token_wrong", "none"): 2,
        ("vidgo", 401, "token_missing", "none"): 1,
        ("unknown", 404, "unknown_provider", "none"): 1,
        ("vidgo", 405, "method", "none"): 1,
        ("vidgo", 413, "too_large", "none"): 1,
        ("vidgo", 415, "bad_request", "none"): 1,
    }
    assert set(await listed(admin, runtime, "?provider=unknown")) == {
        ("unknown", 404, "unknown_provider", "none")
    }
    assert len(await listed(admin, runtime, "?reason=method&since=2026-01-01T00:00:00Z")) == 1
    assert (await admin.get("/refusals?reason=other")).status_code == 400


async def test_a_wrong_secret_is_told_apart_from_a_wrong_url(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    body = sample_callback("bfl", "t1")
    unsigned = {"x-bfl-signature": "sha256=" + "0" * 64}
    await stranger.post(callback_path(runtime, "bfl"), content=body, headers=unsigned)
    await stranger.post("/callbacks/bfl", content=body, headers=unsigned)
    await stranger.post("/callbacks/bfl/wrong", content=body, headers=unsigned)

    scheme = runtime.providers["bfl"].facts.signing.value
    assert scheme != Signing.NONE
    assert await listed(admin, runtime) == {
        ("bfl", 401, "signature_wrong_token_right", scheme): 1,
        ("bfl", 401, "signature_wrong", scheme): 1,
        ("bfl", 401, "token_wrong", "none"): 1,
    }


async def test_a_url_of_another_task_is_counted_though_it_is_recorded(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    url = httpx2.URL((await log_task(admin, "t1"))["callback_url"])
    await stranger.post(url.path, content=sample_callback("vidgo", "t2"))
    assert await listed(admin, runtime) == {("vidgo", 409, "token_of_another_task", "none"): 1}


async def test_whatever_strangers_send_there_are_few_rows_and_none_of_their_words(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    methods = ("POST", "GET", "PUT", "PATCH")
    await asyncio.gather(
        *(
            stranger.request(
                methods[number % 4],
                f"/callbacks/{name}/{SAID}{number}",
                content=SAID.encode(),
                headers={"user-agent": SAID, "x-forwarded-for": SAID},
            )
            for number in range(100)
            for name in ("vidgo", "apixo", f"{SAID}-{number}")
        )
    )
    rows = await listed(admin, runtime)
    assert sum(rows.values()) == 300
    assert len(rows) == 5  # a wrong token and a wrong method, at either provider, and no provider at all
    files = runtime.settings.data_dir.rglob("*")
    assert not any(SAID.encode() in file.read_bytes() for file in files if file.is_file())


@on_both_engines
async def test_pages_of_them_go_on_where_the_one_before_ended(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    for provider in ("vidgo", "apixo", "apidot", "reapi", "fal"):
        await stranger.post(f"/callbacks/{provider}/wrong", content=b"{}")
    await runtime.time_series.write()
    seen: Counter[str] = Counter()
    query = "?limit=2"
    for _ in range(3):
        page = (await admin.get(f"/refusals{query}")).json()
        seen.update(row["provider"] for row in page["refusals"])
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert set(seen.values()) == {1}
    assert len(seen) == 5
    assert (await admin.get("/refusals?cursor=mine")).status_code == 400


async def test_people_see_them_with_what_to_do(
    app: object, admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await stranger.post("/callbacks/vidgo/wrong", content=b"{}")
    await runtime.time_series.write()
    async with browser(app) as client:  # type: ignore[arg-type]
        await log_in(client, ADMIN_TOKEN)
        client.headers.update(OURS)
        page = (await client.get("/admin/deliveries?verdict=turned-away")).text
        assert "token_wrong" in page
        assert "RECEIVER_SECRET changed" in page
        assert (
            "None was turned away"
            in (await client.get("/admin/deliveries?verdict=turned-away&until=1d")).text
        )
        wrong = await client.get("/admin/deliveries?verdict=turned-away&since=yesterday")
        assert wrong.status_code == 400
        assert "since must be a span" in wrong.text
