"""Backends look at tasks, and admins at the counts."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from receiver.record import history
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.times import to_text
from tests.support.engines import on_both_engines
from tests.support.loopback import Answer, talk
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, PROVIDERS, callback_path, log_task, progress_callback

ODD_IDS = [
    "a/b",
    "/a//b/",
    "a%2Fb",
    "100%",
    "a?b=c#d",
    "a b+c",
    "bild-ü-日本-\U0001f5bc",
    "..",
    "../../etc/passwd",
    ".",
    "a;b,c&d=e",
    "\u202egnp",
    "0",
    "x" * 512,
]


@pytest.fixture
def environment() -> dict[str, str]:
    """Vidgo could be asked, though not before a test is long over; nobody else can be."""
    closed = {"VIDGO_API_KEY": "a-key-for-tests", "VIDGO_BASE_URL": "http://127.0.0.1:9"}
    return closed | {"RECEIVER_CONFIRM": "never", "RECEIVER_METADATA_INDEX": "order_id"}


async def listed(client: httpx2.AsyncClient, **params: str) -> list[str]:
    answer = await client.get("/tasks", params=params)
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json()["tasks"]]


async def test_a_submitted_task_waits_for_its_result(backend: httpx2.AsyncClient) -> None:
    submission = await log_task(backend, "t1", model="gpt-image-2", metadata={"order": 7})
    task = (await backend.get("/tasks/vidgo/t1")).json()
    assert task["state"] == "submitted"
    assert task["waiting_on"]
    assert task["submission_id"] == submission["id"]
    assert task["submitted_at"] == submission["created_at"]
    assert (task["owner"], task["model"], task["metadata"]) == ("user-17", "gpt-image-2", {"order": 7})
    assert task["event_id"] is None
    assert task["error"] is None
    assert task["assets"] == task["deliveries"] == task["notifications"] == task["attempts"] == []
    poll = task["poll"]
    assert (poll["asked"], poll["outcome"], poll["asked_at"]) == (0, None, None)
    assert poll["due_at"] > submission["created_at"]


async def test_a_task_whose_provider_cannot_be_asked_says_so(backend: httpx2.AsyncClient) -> None:
    await log_task(backend, "t1", provider="apixo")
    task = (await backend.get("/tasks/apixo/t1")).json()
    assert "APIXO_API_KEY" in task["waiting_on"]
    assert task["poll"]["due_at"] is None


async def test_a_task_to_which_nothing_will_come_says_so(backend: httpx2.AsyncClient) -> None:
    await log_task(backend, "t1", provider="reapi")
    waiting_on = (await backend.get("/tasks/reapi/t1")).json()["waiting_on"]
    assert waiting_on.endswith("it cannot be asked: no REAPI_API_KEY is set, and reAPI sends no callbacks")


async def test_what_a_long_history_leaves_out_is_at_its_own_door(
    backend: httpx2.AsyncClient,
    stranger: httpx2.AsyncClient,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of a task whose id ends as the path of another door would."""
    monkeypatch.setattr(history, "MOST_SHOWN", 2)
    for task_id in ("a", "a/deliveries"):
        await log_task(backend, task_id)
        for number in range(4):
            body = progress_callback(task_id) + b" " * number
            await stranger.post(callback_path(runtime), content=body)
        await stranger.post(callback_path(runtime), content=sample_callback("vidgo", task_id, error="nsfw"))
        path = quote(task_id, safe="")

        task = (await backend.get(f"/tasks/vidgo/{path}")).json()
        first = (await backend.get(f"/deliveries/vidgo/{path}?limit=3")).json()
        cursor = {"cursor": first["next_cursor"]}
        rest = (await backend.get(f"/deliveries/vidgo/{path}", params=cursor)).json()

        assert task["left_out"]["deliveries"] == 3
        every = first["deliveries"] + rest["deliveries"]
        assert [row["verdict"] for row in every] == ["accepted", *["progress"] * 4]
        assert rest["next_cursor"] is None
        assert task["deliveries"] == [every[-1], every[0]]
    for noun in ("deliveries", "notifications", "attempts"):
        assert (await backend.get(f"/{noun}/vidgo/nobodys")).status_code == 404
        assert (await backend.get(f"/{noun}/vidgo/a?cursor=x")).status_code == 400
        assert (await stranger.get(f"/{noun}/vidgo/a")).status_code == 401


@on_both_engines
async def test_a_task_shows_its_whole_history(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await log_task(backend, "t1")
    bodies = [progress_callback("t1"), *[sample_callback("vidgo", "t1", error="nsfw")] * 2]
    for body in bodies:
        await stranger.post(callback_path(runtime), content=body)
    task = await ended(backend, "t1")
    assert task["state"] == "failed"
    assert task["type"] == "task.failed"
    assert task["error"]["message"] == "nsfw"
    assert task["event_id"].startswith("evt_")
    assert task["via"] == "callback"
    assert task["submitted_at"] <= task["received_at"] <= task["ended_at"]
    assert [(d["verdict"], d["proof"], d["seen"]) for d in task["deliveries"]] == [
        ("progress", "provider", 1),
        ("accepted", "provider", 2),
    ]
    assert [n["state"] for n in task["notifications"]] == ["delivered"]
    assert [a["outcome"] for a in task["attempts"]] == ["delivered"]
    assert task["waiting_on"] is None
    assert task["poll"] is None


async def ended(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    """The task, once its event has arrived at every sink."""

    async def told() -> dict[str, Any] | None:
        task: dict[str, Any] = (await client.get(f"/tasks/vidgo/{task_id}")).json()
        return task if {each["state"] for each in task["notifications"]} == {"delivered"} else None

    return await until(told)


@on_both_engines
@pytest.mark.parametrize("task_id", ODD_IDS)
async def test_any_task_id_finds_its_task(backend: httpx2.AsyncClient, port: int, task_id: str) -> None:
    await log_task(backend, task_id)
    encoded = "".join(f"%{byte:02x}" for byte in task_id.encode())
    request = f"GET /tasks/vidgo/{encoded} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    answer = Answer(await talk(port, f"{request}Authorization: Bearer {API_TOKEN}\r\n\r\n".encode()))
    assert answer.status == 200, answer.body
    assert (await backend.get(f"/tasks/vidgo/{encoded}")).json()["task_id"] == task_id


async def test_an_encoded_slash_and_a_plain_one_are_the_same_id(backend: httpx2.AsyncClient) -> None:
    await log_task(backend, "a/b")
    for path in ("a/b", "a%2Fb", "a%2fb"):
        assert (await backend.get(f"/tasks/vidgo/{path}")).json()["task_id"] == "a/b"
    assert (await backend.get(f"/tasks/vidgo/{quote('a%2Fb', safe='')}")).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["vidgo/unknown", "apixo/t1", "nobody/t1", "vidgo/", "vidgo/t1/", "vidgo/%ff", "vidgo"],
)
async def test_an_unknown_task_is_not_found(backend: httpx2.AsyncClient, path: str) -> None:
    await log_task(backend, "t1")
    answer = await backend.get(f"/tasks/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_strangers_early_task_is_not_shown(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await stranger.post(callback_path(runtime), content=sample_callback("vidgo", "t1"))
    unknown, early = await backend.get("/tasks/vidgo/t0"), await backend.get("/tasks/vidgo/t1")
    assert early.status_code == 404
    assert early.content == unknown.content


# --- lists ------------------------------------------------------------------------------------------


@pytest.fixture
async def five(backend: httpx2.AsyncClient) -> list[str]:
    """Five tasks, the newest first."""
    for number in range(5):
        await log_task(backend, f"t{number}", owner=f"user-{number % 2}")
        await asyncio.sleep(0.003)
    return ["t4", "t3", "t2", "t1", "t0"]


@on_both_engines
async def test_tasks_are_listed_the_newest_first(backend: httpx2.AsyncClient, five: list[str]) -> None:
    assert await listed(backend) == five


@on_both_engines
@pytest.mark.usefixtures("five")
async def test_tasks_are_filtered(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await stranger.post(callback_path(runtime), content=sample_callback("vidgo", "t3", error="no"))
    assert await listed(backend, owner="user-1") == ["t3", "t1"]
    assert await listed(backend, state="failed") == ["t3"]
    assert await listed(backend, state="submitted", owner="user-1", provider="vidgo") == ["t1"]
    assert await listed(backend, provider="apixo") == []


@on_both_engines
@pytest.mark.usefixtures("five")
async def test_tasks_are_filtered_by_when_they_were_submitted(backend: httpx2.AsyncClient) -> None:
    middle = (await backend.get("/tasks/vidgo/t2")).json()["submitted_at"]
    assert await listed(backend, since=middle) == ["t4", "t3", "t2"]
    assert await listed(backend, until=middle) == ["t1", "t0"]
    future = to_text(datetime.now(UTC) + timedelta(days=1))
    assert await listed(backend, since=future) == []


@on_both_engines
async def test_a_task_is_found_by_what_its_backend_has(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    logged = await log_task(backend, "t1", metadata={"order_id": 7, "user": "ann"})
    await log_task(backend, "t2", metadata={"order_id": "7b"})
    await stranger.post(callback_path(runtime), content=sample_callback("vidgo", "t1", error="no"))
    task = (await backend.get("/tasks/vidgo/t1")).json()
    for name, value in (
        ("event_id", task["event_id"]),
        ("event_id", f"{task['event_id']}.1"),
        ("submission_id", logged["id"]),
        ("delivery_id", task["deliveries"][0]["id"]),
        ("notification_id", task["notifications"][0]["id"]),
        ("task_id", "t1"),
        ("metadata.order_id", "7"),
    ):
        assert await listed(backend, **{name: value}) == ["t1"], name
        assert await listed(backend, **{name: value, "state": "submitted"}) == []
    assert await listed(backend, event_id="evt_unknown") == []
    assert await listed(backend, **{"metadata.order_id": "7b", "owner": "user-17"}) == ["t2"]


@on_both_engines
@pytest.mark.parametrize("number", ["100000000000000000001", "1.5", "-7", "1e20", "0"])
async def test_a_number_in_metadata_is_found_as_it_is_written(
    backend: httpx2.AsyncClient, number: str
) -> None:
    await log_task(backend, "t1", metadata={"order_id": json.loads(number)})
    await log_task(backend, "t2", metadata={"order_id": 100000000000000000002})
    assert await listed(backend, **{"metadata.order_id": number}) == ["t1"]


async def test_a_key_of_metadata_without_an_index_is_refused_with_what_to_set(
    backend: httpx2.AsyncClient,
) -> None:
    answer = await backend.get("/tasks?metadata.user=ann")
    assert (answer.status_code, answer.json()["title"]) == (400, "Not indexed")
    assert "RECEIVER_METADATA_INDEX" in answer.json()["detail"]
    assert "order_id" in answer.json()["detail"]


@on_both_engines
async def test_pages_follow_each_other_while_tasks_are_added(
    backend: httpx2.AsyncClient, five: list[str]
) -> None:
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await backend.get("/tasks", params={"limit": "2", **cursor})).json()
        seen += [task["task_id"] for task in page["tasks"]]
        await log_task(backend, f"new-{len(seen)}")
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == five


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=-1", "limit=ten", "state=done", "state=",
        "since=yesterday", "since=2026-01-01", "since=2026-01-01T00:00:00",
        "since=0001-01-01T00:00:00%2B14:00", "until=9999-12-31T23:59:59-14:00",
        "until=2026-13-01T00:00:00Z", "cursor=nonsense", "cursor=%00", "order=asc",
        "metadata=x", "metadata.=x", "metadata.user=ann", "event_id=",
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_named(backend: httpx2.AsyncClient, query: str) -> None:
    answer = await backend.get(f"/tasks?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["detail"].lower()


# --- counts, and who may see what -------------------------------------------------------------------


@on_both_engines
async def test_an_admin_sees_the_counts(
    admin: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    await log_task(admin, "t1")
    await stranger.post(callback_path(runtime), content=sample_callback("vidgo", "t9"))
    stats = (await admin.get("/stats")).json()
    assert stats["submissions"] == 1
    assert stats["tasks"]["submitted"] == 1
    assert stats["deliveries"]["early"] == 1


async def test_a_backends_token_is_not_enough_for_the_counts(backend: httpx2.AsyncClient) -> None:
    assert (await backend.get("/stats")).status_code == 403


@pytest.mark.parametrize("path", ["/tasks", "/tasks/vidgo/t1", "/stats", "/submissions/sub_1"])
async def test_strangers_see_nothing(
    stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient, path: str
) -> None:
    await log_task(backend, "t1")
    assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/tasks", {"GET", "HEAD"}),
        ("PUT", "/submissions", {"GET", "HEAD", "POST"}),
        ("POST", "/submissions/sub_1", {"DELETE", "GET", "HEAD", "PATCH"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    backend: httpx2.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = await backend.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert answer.headers["content-type"] == "application/problem+json"


# --- filters that nothing can match -----------------------------------------------------------------


@pytest.mark.parametrize("path", ["/tasks", "/submissions"])
async def test_a_misspelt_provider_is_refused_and_the_known_ones_are_named(
    backend: httpx2.AsyncClient, path: str
) -> None:
    answer = await backend.get(f"{path}?provider=vigdo")
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"A provider must be one of: {PROVIDERS}."


async def test_a_span_that_ends_before_it_begins_is_refused(backend: httpx2.AsyncClient) -> None:
    answer = await backend.get("/tasks?since=2026-11-21T11:00:00Z&until=2026-11-21T10:00:00Z")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("nothing can match: `since` must be before `until`")
