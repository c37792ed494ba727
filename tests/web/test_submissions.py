"""Backends log, bind and look up submissions."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.engines import on_both_engines
from tests.support.messages import TRACEPARENT
from tests.support.waiting import until
from tests.support.web_callers import ADMIN_TOKEN, API_TOKEN, PROVIDERS, callback_path, caller, log_task

FULL = {
    "provider": "vidgo",
    "owner": "user-17",
    "model": "gpt-image-2",
    "task_id": "t1",
    "request": {"prompt": "a lighthouse", "n": [1, 2.5, None, True]},
    "metadata": {"order": 7},
}
KEYED = {"provider": "vidgo", "owner": "user-17", "key": "job-7"}


async def refused(client: httpx2.AsyncClient, status: int, document: Any) -> str:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer = await client.post("/submissions", content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail


@on_both_engines
async def test_a_submission_is_logged_with_all_it_says(backend: httpx2.AsyncClient, runtime: Runtime) -> None:
    answer = await backend.post("/submissions", json=FULL)
    assert answer.status_code == 201
    document = answer.json()
    assert {name: document[name] for name in FULL} == FULL
    assert document["id"].startswith("sub_")
    assert document["created_at"].endswith("Z")
    assert document["bound_at"] == document["created_at"]
    token = runtime.tokens.for_submission("vidgo", document["id"])
    assert document["callback_url"] == f"https://receiver.test/callbacks/vidgo/{token}"
    assert len(document["callback_url"]) < 200
    assert (await backend.get(f"/submissions/{document['id']}")).json() == document


@on_both_engines
async def test_the_trace_of_a_request_is_kept_and_goes_on_in_the_event(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    answer = await backend.post("/submissions", json=FULL, headers={"traceparent": TRACEPARENT})
    assert answer.json()["traceparent"] == TRACEPARENT
    assert (await backend.get(f"/submissions/{answer.json()['id']}")).json() == answer.json()
    again = await backend.post("/submissions", json=FULL, headers={"traceparent": TRACEPARENT[:-2] + "00"})
    assert again.json() == answer.json()


@pytest.mark.parametrize("header", ["", "00-zz", TRACEPARENT.upper(), "é" * 55])
async def test_a_broken_trace_is_passed_over_and_never_an_error(
    backend: httpx2.AsyncClient, header: str
) -> None:
    answer = await backend.post("/submissions", json=FULL, headers={b"traceparent": header.encode()})
    assert (answer.status_code, answer.json()["traceparent"]) == (201, None)


async def test_what_is_left_out_is_null_or_empty(backend: httpx2.AsyncClient) -> None:
    document = (await backend.post("/submissions", json={"provider": "reapi", "owner": "u"})).json()
    left_out = ("model", "task_id", "request", "bound_at")
    assert {name: document[name] for name in left_out} == dict.fromkeys(left_out)
    assert document["metadata"] == {}


async def test_every_reservation_is_a_new_one(backend: httpx2.AsyncClient) -> None:
    answers = [await backend.post("/submissions", json={"provider": "vidgo", "owner": "u"}) for _ in "123"]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 3


@on_both_engines
async def test_the_same_key_is_the_same_reservation_also_once_it_is_bound(
    backend: httpx2.AsyncClient,
) -> None:
    first = await backend.post("/submissions", json=KEYED)
    again = await backend.post("/submissions", json=KEYED)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    await backend.patch(f"/submissions/{first.json()['id']}", json={"task_id": "t1"})
    bound = await backend.post("/submissions", json=KEYED)
    assert (bound.status_code, bound.json()["task_id"]) == (200, "t1")
    assert bound.json()["id"] == first.json()["id"]


@on_both_engines
async def test_a_key_given_twenty_times_at_once_makes_one_reservation(backend: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(backend.post("/submissions", json=KEYED) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    "other", [{"model": "b"}, {"owner": "x"}, {"provider": "apixo"}, {"request": [1]}, {"metadata": {"a": 1}}]
)
async def test_a_key_with_another_order_is_refused_and_changes_nothing(
    backend: httpx2.AsyncClient, other: dict[str, Any]
) -> None:
    first = (await backend.post("/submissions", json=KEYED)).json()
    await backend.delete(f"/submissions/{first['id']}")
    assert "key" in await refused(backend, 422, KEYED | other)
    assert (await backend.get(f"/submissions/{first['id']}")).json()["withdrawn_at"] is not None


@on_both_engines
async def test_a_withdrawn_reservation_waits_for_its_task_again_when_its_key_comes_again(
    backend: httpx2.AsyncClient,
) -> None:
    first = (await backend.post("/submissions", json=KEYED)).json()
    await backend.delete(f"/submissions/{first['id']}")
    again = await backend.post("/submissions", json=KEYED)
    assert (again.status_code, again.json()) == (201, first)
    (row,) = (await backend.get("/submissions", params={"bound": "false"})).json()["submissions"]
    assert (row["id"], row["withdrawn_at"]) == (first["id"], None)


async def test_two_callers_may_use_the_same_key(backend: httpx2.AsyncClient, app: ASGIApp) -> None:
    async with caller(app, ADMIN_TOKEN) as other:
        mine, theirs = [await each.post("/submissions", json=KEYED) for each in (backend, other)]
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]


async def test_the_same_task_of_the_same_owner_again_is_the_same_submission(
    backend: httpx2.AsyncClient,
) -> None:
    first = await backend.post("/submissions", json=FULL)
    again = await backend.post("/submissions", json={**FULL, "model": "another"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


async def test_a_task_logged_for_another_owner_is_refused_without_naming_him(
    backend: httpx2.AsyncClient,
) -> None:
    await log_task(backend, "t1", owner="secretive")
    assert "secretive" not in await refused(backend, 409, FULL)


@on_both_engines
async def test_logging_at_the_same_instant_makes_one_submission(backend: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(backend.post("/submissions", json=FULL) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"provider": "nobody"}, PROVIDERS),
        ({"provider": None}, "provider"),
        ({"owner": ""}, "owner"),
        ({"owner": "x" * 201}, "owner"),
        ({"owner": "a\nb"}, "owner"),
        ({"owner": 17}, "owner"),
        ({"model": "a\x00b"}, "model"),
        ({"task_id": ""}, "task_id"),
        ({"task_id": "x" * 513}, "task_id"),
        ({"task_id": "a\x00b"}, "task_id"),
        ({"task_id": "a\x85b"}, "task_id"),
        ({"task_id": ["t1"]}, "task_id"),
        ({"metadata": []}, "metadata"),
        ({"metadata": None}, "metadata"),
        ({"metadata": {"x": "y" * 4096}}, "metadata"),
        ({"request": "y" * 65_536}, "request"),
        ({"request": json.loads("[" * 40 + "]" * 40)}, "request"),
        ({"metadata": json.loads('{"a":' * 40 + "1" + "}" * 40)}, "metadata"),
        ({"key": ""}, "key"),
        ({"key": "x" * 201}, "key"),
        ({"key": "k1"}, "task_id"),
        ({"ownr": "typo"}, "ownr"),
    ],
)
async def test_a_wrong_field_is_named(
    backend: httpx2.AsyncClient, change: dict[str, object], words: str
) -> None:
    assert words in await refused(backend, 400, {**FULL, **change})


@pytest.mark.parametrize("field", ["provider", "owner"])
async def test_a_missing_field_is_named(backend: httpx2.AsyncClient, field: str) -> None:
    assert field in await refused(backend, 400, {name: FULL[name] for name in FULL if name != field})


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"[" * 50_000, b'{"owner": "\\ud800"}', b'{"owner": NaN}']
)
async def test_what_is_not_json_is_refused(backend: httpx2.AsyncClient, body: bytes) -> None:
    await refused(backend, 400, body)


@on_both_engines
async def test_an_answer_moves_no_cursor_and_says_the_same(backend: httpx2.AsyncClient) -> None:
    """The manual shows answers as curl prints them."""
    said = "\x1b[2J\x7f\u009b31m\u202e"
    log = {"provider": "vidgo", "owner": "u", "request": {"prompt": said}}
    answer = await backend.post("/submissions", json=log)
    assert answer.text.isprintable()
    assert answer.json()["request"] == {"prompt": said}
    refused = await backend.post("/submissions", json={"provider": said, "owner": "u"})
    assert (refused.status_code, refused.text.isprintable()) == (400, True)


@on_both_engines
async def test_half_a_surrogate_pair_is_read_as_in_callbacks(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    body = (
        b'{"provider": "vidgo", "owner": "user-17", "task_id": "t1",'
        b' "request": {"prompt": "a cat \\ud83d", "guidance": 7.25, "\\ude00": ["\\ude00\\ud83d"]},'
        b' "metadata": {"note": "\\ud83d!"}}'
    )
    answer = await backend.post("/submissions", content=body)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert document["request"] == {
        "prompt": "a cat \ufffd",
        "guidance": 7.25,
        "\ufffd": ["\ufffd\ufffd"],
    }
    assert document["metadata"] == {"note": "\ufffd!"}
    assert (await backend.get(f"/submissions/{document['id']}")).json() == document
    failed = sample_callback("vidgo", "t1", error="no")
    assert (await backend.post(callback_path(runtime), content=failed)).json()["status"] == "accepted"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"owner": "Ada \ud83d"}, "`owner` holds half a surrogate pair, which is no character"),
        ({"model": "\ude00"}, "`model` holds half a surrogate pair, which is no character"),
        ({"task_id": "t\ud83d"}, "`task_id` holds half a surrogate pair, which is no character"),
        ({"own\ud83d": 1}, "own\ufffd"),
        ({"metadata": "\ud83d"}, "metadata"),
        ({"metadata": {"x": "\ud83d" * 1366}}, "metadata"),
    ],
)
async def test_half_a_surrogate_pair_is_refused_with_its_place_where_names_are(
    backend: httpx2.AsyncClient, change: dict[str, object], words: str
) -> None:
    assert words in await refused(backend, 400, {**FULL, **change})


async def test_what_is_wrong_beside_half_a_surrogate_pair_is_named(backend: httpx2.AsyncClient) -> None:
    said = await refused(backend, 400, b'{"request": "\\ud83d", "owner": 17, "provider": "vidgo"}')
    assert "owner" in said
    assert "malformed" in await refused(backend, 400, b'{"request": "\\ud83d", "owner": }')


async def test_bodies_pass_the_same_limits_as_callbacks(backend: httpx2.AsyncClient) -> None:
    await refused(backend, 413, b" " * 262_145)
    answer = await backend.post("/submissions", content=b"{}", headers={"content-encoding": "gzip"})
    assert answer.status_code == 415


async def test_a_long_wrong_value_is_not_echoed_in_full(backend: httpx2.AsyncClient) -> None:
    assert len(await refused(backend, 400, {**FULL, "x" * 10_000: 1})) <= 400


async def test_a_reservation_is_bound_to_no_half_surrogate_pair(backend: httpx2.AsyncClient) -> None:
    reserved = (await backend.post("/submissions", json={"provider": "vidgo", "owner": "u"})).json()
    answer = await backend.patch(f"/submissions/{reserved['id']}", content=b'{"task_id": "t\\ud83d"}')
    assert answer.status_code == 400
    assert "`task_id` holds half a surrogate pair" in answer.json()["detail"]


# --- binding ----------------------------------------------------------------------------------------


@pytest.fixture
async def reserved(backend: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await backend.post("/submissions", json={"provider": "vidgo", "owner": "user-17"})
    document: dict[str, Any] = answer.json()
    return document


@on_both_engines
async def test_a_reserved_submission_is_bound_once_and_the_same_task_again_changes_nothing(
    backend: httpx2.AsyncClient, reserved: dict[str, Any]
) -> None:
    path = f"/submissions/{reserved['id']}"
    first = await backend.patch(path, json={"task_id": "t1"})
    again = await backend.patch(path, json={"task_id": "t1"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert first.json()["task_id"] == "t1"
    assert first.json()["bound_at"] is not None
    other = await backend.patch(path, json={"task_id": "t2"})
    assert other.status_code == 409
    assert (await backend.get(path)).json()["task_id"] == "t1"


async def test_a_task_that_another_submission_has_cannot_be_bound(
    backend: httpx2.AsyncClient, reserved: dict[str, Any]
) -> None:
    await log_task(backend, "t1")
    answer = await backend.patch(f"/submissions/{reserved['id']}", json={"task_id": "t1"})
    assert answer.status_code == 409


@pytest.mark.parametrize("body", [{}, {"task_id": ""}, {"task_id": None}, {"task_id": "t", "owner": "x"}])
async def test_a_wrong_binding_is_refused(
    backend: httpx2.AsyncClient, reserved: dict[str, Any], body: dict[str, object]
) -> None:
    answer = await backend.patch(f"/submissions/{reserved['id']}", json=body)
    assert answer.status_code == 400


async def test_an_unknown_submission_is_not_found(backend: httpx2.AsyncClient) -> None:
    assert (await backend.get("/submissions/sub_nothing")).status_code == 404
    assert (await backend.patch("/submissions/sub_nothing", json={"task_id": "t"})).status_code == 404


@on_both_engines
@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("is_reserved", [True, False])
async def test_a_callback_that_came_early_finds_its_owner_before_the_loops_look_by_themselves(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime, is_reserved: bool
) -> None:
    body = sample_callback("vidgo", "t1", error="nsfw")
    early = await stranger.post(callback_path(runtime), content=body)
    assert early.json()["status"] == "early"
    if is_reserved:
        answer = await backend.post("/submissions", json={"provider": "vidgo", "owner": "user-17"})
        await backend.patch(f"/submissions/{answer.json()['id']}", json={"task_id": "t1"})
    else:
        await log_task(backend, "t1")

    async def told() -> dict[str, Any] | None:
        task: dict[str, Any] = (await backend.get("/tasks/vidgo/t1")).json()
        return task if [each["state"] for each in task["notifications"]] == ["delivered"] else None

    task = await until(told)
    assert task["state"] == "failed"
    assert [delivery["verdict"] for delivery in task["deliveries"]] == ["accepted"]


# --- lists ------------------------------------------------------------------------------------------


@on_both_engines
async def test_the_newest_submissions_are_listed_and_filtered(backend: httpx2.AsyncClient) -> None:
    for number in range(3):
        await log_task(backend, f"t{number}", owner=f"user-{number}")
        await asyncio.sleep(0.002)
    await backend.post("/submissions", json={"provider": "apixo", "owner": "user-0"})
    rows = (await backend.get("/submissions")).json()["submissions"]
    assert [row["task_id"] for row in rows] == [None, "t2", "t1", "t0"]
    assert "callback_url" not in rows[0]
    rows = (await backend.get("/submissions?provider=vidgo&owner=user-0")).json()["submissions"]
    assert [row["task_id"] for row in rows] == ["t0"]
    assert len((await backend.get("/submissions?limit=2")).json()["submissions"]) == 2


@on_both_engines
async def test_submissions_are_filtered_by_when_they_were_logged(backend: httpx2.AsyncClient) -> None:
    logged = []
    for number in range(3):
        logged.append(await log_task(backend, f"t{number}"))
        await asyncio.sleep(0.002)
    middle = logged[1]["created_at"]

    async def listed(**params: str) -> list[str]:
        answer = await backend.get("/submissions", params=params)
        return [row["task_id"] for row in answer.json()["submissions"]]

    assert await listed(since=middle) == ["t2", "t1"]
    assert await listed(until=middle) == ["t0"]
    assert await listed(since=middle, until=logged[2]["created_at"]) == ["t1"]
    assert await listed(since=middle, bound="false") == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "limit=", "ownr=x", "since=now", "until=2026-01-01"]
)
async def test_a_wrong_parameter_is_named(backend: httpx2.AsyncClient, query: str) -> None:
    answer = await backend.get(f"/submissions?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["detail"]


# --- who may ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {API_TOKEN}", API_TOKEN,
        f"Bearer {API_TOKEN[:-1]}", f"Bearer {API_TOKEN}x", "Bearer \xe4", "Bearer " + "x" * 9000,
    ],
)  # fmt: skip
async def test_without_a_right_token_the_answer_is_always_the_same(app: ASGIApp, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    async with caller(app) as client:
        missing = await client.post("/submissions", json=FULL)
        answer = await client.post("/submissions", json=FULL, headers=headers)
    assert answer.status_code == 401
    assert answer.content == missing.content
    assert answer.headers == missing.headers
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_read_in_any_case(app: ASGIApp, scheme: str) -> None:
    async with caller(app) as client:
        headers = {"authorization": f"{scheme} {API_TOKEN}"}
        assert (await client.get("/submissions", headers=headers)).status_code == 200


async def test_an_admin_may_do_what_a_backend_may(admin: httpx2.AsyncClient) -> None:
    assert (await admin.post("/submissions", json=FULL)).status_code == 201


class TestSeveralTokens:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_API_TOKENS": "the-first-backend,the-second-backend"}

    @pytest.mark.parametrize("token", ["the-first-backend", "the-second-backend"])
    async def test_each_of_them_is_right(self, app: ASGIApp, token: str) -> None:
        async with caller(app, token) as client:
            assert (await client.get("/submissions")).status_code == 200


@on_both_engines
async def test_a_reservation_that_no_task_is_bound_to_is_listed_counted_and_withdrawn(
    backend: httpx2.AsyncClient, admin: httpx2.AsyncClient, runtime: Runtime
) -> None:
    reserved = (await backend.post("/submissions", json={"provider": "vidgo", "owner": "u"})).json()
    await log_task(backend, "t1")

    async def unbound() -> list[str]:
        rows = (await backend.get("/submissions?bound=false")).json()["submissions"]
        return [row["id"] for row in rows]

    assert await unbound() == [reserved["id"]]
    assert (await admin.get("/stats")).json()["unbound"] == {"under_1h": 1, "under_24h": 0, "older": 0}
    assert 'receiver_unbound_submissions{age="under_1h"} 1.0' in (await admin.get("/metrics")).text
    for _ in "12":  # again changes nothing
        answer = await backend.delete(f"/submissions/{reserved['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
    assert await unbound() == []
    assert (await backend.get(f"/submissions/{reserved['id']}")).json()["withdrawn_at"] is not None
    bound = await backend.post(reserved["callback_url"], content=sample_callback("vidgo", "t2"))
    assert bound.json()["status"] == "accepted"  # the order had not failed after all


async def test_what_is_bound_or_unknown_is_not_withdrawn(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    bound = await log_task(backend, "t1")
    for id_, status in ((bound["id"], 409), ("sub_nothing", 404)):
        answer = await backend.delete(f"/submissions/{id_}")
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (await stranger.delete(f"/submissions/{bound['id']}")).status_code == 401
    assert (await backend.get(f"/submissions/{bound['id']}")).json()["withdrawn_at"] is None
