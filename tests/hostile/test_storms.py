"""Many callbacks at once, in the wrong order, and from strangers: one effect each, and one answer for all."""

import asyncio
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator

import httpx2
import pytest
from starlette.types import ASGIApp

from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.e2e.service import API_TOKEN, bearer
from tests.hostile.service import Target, running
from tests.support.loopback import Answer, post, talk
from tests.support.waiting import until
from tests.support.web_callers import callback_path, caller, log_task, progress_callback, verdicts


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running(tmp_path_factory.mktemp("storms"), {"RECEIVER_EARLY_LIMIT": "100000"}) as target:
        yield target


async def submit(target: Target, task_id: str, **fields: str) -> str:
    """Log a task; the path of its own callbacks."""
    async with httpx2.AsyncClient(
        base_url=target.receiver.url, trust_env=False, verify=False, timeout=60.0
    ) as http:
        row = {"provider": "vidgo", "owner": "user-17", "task_id": task_id, **fields}
        answer = await http.post("/submissions", json=row, headers=bearer(API_TOKEN))
    answer.raise_for_status()
    url: str = answer.json()["callback_url"]
    return url[url.index("/callbacks/") :]


def said(raw: bytes) -> str:
    answer = Answer(raw)
    word = json.loads(answer.body).get("status") if answer.status == 200 else answer.status
    return str(word)


async def test_five_hundred_at_once_are_one_event_and_one_row(target: Target) -> None:
    await submit(target, "stormy")
    request = post(target.path, sample_callback("vidgo", "stormy", error="nsfw"))
    answers = await asyncio.gather(*(talk(target.port, request) for _ in range(500)))
    assert Counter(map(said, answers)) == {"accepted": 1, "duplicate": 499}
    assert target.rows("SELECT verdict, seen FROM deliveries WHERE task_id = 'stormy'") == [("accepted", 500)]
    assert target.rows("SELECT count(*) FROM tasks WHERE task_id = 'stormy' AND state = 'failed'") == [(1,)]
    await until(lambda: "stormy" in target.receiver.told())
    await asyncio.sleep(0.3)
    assert target.receiver.told().count("stormy") == 1


async def test_fifty_thousand_a_minute_are_answered_in_time_and_all_kept(target: Target) -> None:
    """833 a second for four seconds over 16 connections, of which every third is a repeat."""
    rate, seconds, connections = 833, 4, 16
    count = rate * seconds // connections
    latencies: list[float] = []
    began = time.monotonic()

    async def send(sender: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        for number in range(count):
            due = began + (number * connections + sender) / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            body = sample_callback("vidgo", f"minute-{sender}-{number - (number % 3 == 2)}", error="no")
            head = f"POST {target.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            asked = time.monotonic()
            writer.write(head.encode() + body)
            status = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}")
            latencies.append(time.monotonic() - asked)
            assert status.startswith(b"HTTP/1.1 200 ")
        writer.close()

    await asyncio.gather(*(send(sender) for sender in range(connections)))
    assert len(latencies) == connections * count
    assert statistics.median(latencies) < 0.5  # 3 ms on an idle machine: the bounds are for busy ones
    assert sorted(latencies)[int(len(latencies) * 0.99)] < 3  # the shortest patience of a provider is 10 s
    rows = target.rows("SELECT sum(seen), count(*) FROM deliveries WHERE task_id LIKE 'minute-%'")
    distinct = sum(number % 3 != 2 for number in range(count)) * connections
    assert rows == [(connections * count, distinct)]
    assert target.faults() == []


def lyrics_callback(task_id: str) -> bytes:
    """A success that ends its task at once: nothing is to be fetched."""
    data = {"task_id": task_id, "status": "finished", "files": [{"title": "a song", "text": "la la"}]}
    return json.dumps({"code": 200, "data": data}).encode()


async def test_whatever_the_order_of_two_ends_the_first_one_wins_and_the_other_is_kept(
    target: Target,
) -> None:
    """Progress, success and failure of one task, in every order and at once."""
    order = random.Random(0)
    for number in range(30):
        task = f"order-{number}"
        await submit(target, task)
        bodies = [
            lyrics_callback(task),
            sample_callback("vidgo", task, error="nsfw"),
            progress_callback(task),
            lyrics_callback(task),
        ]
        order.shuffle(bodies)
        answers = await asyncio.gather(*(talk(target.port, post(target.path, body)) for body in bodies))
        words = Counter(map(said, answers))
        assert words in (
            {"accepted": 1, "conflict": 1, "duplicate": 1, "progress": 1},
            {"accepted": 1, "conflict": 2, "progress": 1},
        ), words
        first = bodies[[said(raw) for raw in answers].index("accepted")]
        kept = dict(target.rows("SELECT body, verdict FROM deliveries WHERE task_id = ?", task))
        assert [body for body, verdict in kept.items() if verdict == "accepted"] == [first]
        assert set(kept) == set(bodies)
    ended = target.rows(
        "SELECT count(*) FROM tasks WHERE task_id LIKE 'order-%' AND state IN ('completed', 'failed')"
    )
    assert ended == [(30,)]


# --- strangers --------------------------------------------------------------------------------------


async def test_a_tenants_own_url_ends_no_task_but_his_own(
    app: ASGIApp, runtime: Runtime, backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    mine = await log_task(backend, "mine", owner="me")
    await log_task(backend, "his", owner="him")
    path = mine["callback_url"].removeprefix("https://receiver.test")
    for task in ("his", "nobodys", "guessed-1", "guessed-2"):
        answer = await stranger.post(path, content=sample_callback("vidgo", task, error="no"))
        assert answer.status_code == 409
    assert (await backend.get("/tasks/vidgo/his")).json()["state"] == "submitted"
    assert (await verdicts(runtime)) == {"refused": 4}
    assert (await backend.get("/tasks/vidgo/guessed-1")).status_code == 404


async def test_guessed_ids_with_a_providers_url_make_no_event_and_no_request(
    runtime: Runtime, backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    for number in range(50):
        body = sample_callback("vidgo", f"guessed-{number}")
        answer = await stranger.post(callback_path(runtime), content=body)
        assert answer.json()["status"] == "early"
    assert (await backend.get("/tasks")).json()["tasks"] == []
    stats = await runtime.store.count_stats()
    assert not any(sum(states.values()) for states in stats.outbox.values())
    assert not any(stats.assets.values())
    assert stats.deliveries["early"] == 50


async def test_a_stranger_learns_neither_from_answers_nor_from_time_what_is_known_here(
    app: ASGIApp, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    """Known and unknown task, known and unknown submission, almost right and wholly wrong token."""
    row = await log_task(backend, "known")
    right = runtime.tokens.for_provider("vidgo")
    own = runtime.tokens.for_submission("vidgo", row["id"])
    wrong = "A" if own[-1] != "A" else "B"
    forged = runtime.tokens.for_submission("vidgo", "sub_" + "0" * len(row["id"][4:]))
    asked = {
        "known task, wrong token": (f"p.{'A' * 32}", "known"),
        "unknown task, wrong token": (f"p.{'A' * 32}", "other"),
        "known task, last character wrong": (right[:-1] + ("A" if right[-1] != "A" else "B"), "known"),
        "known submission, last character wrong": (own[:-1] + wrong, "known"),
        "unknown submission, last character wrong": (
            forged[:-1] + ("A" if forged[-1] != "A" else "B"),
            "known",
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    answers = set()
    async with caller(app) as client:
        for _ in range(150):  # in turn, so that what else the machine does meets all alike
            for name, (token, task) in asked.items():
                body = sample_callback("vidgo", task)
                began = time.perf_counter()
                answer = await client.post(f"/callbacks/vidgo/{token}", content=body)
                times[name].append(time.perf_counter() - began)
                answers.add((answer.status_code, answer.content, tuple(answer.headers.items())))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 401
    medians = {name: statistics.median(each) for name, each in times.items()}
    pairs = (
        ("known task, wrong token", "unknown task, wrong token"),
        ("known task, wrong token", "known task, last character wrong"),
        ("known submission, last character wrong", "unknown submission, last character wrong"),
    )
    for left, right_ in pairs:
        assert abs(medians[left] - medians[right_]) < 0.25 * medians[left], medians


async def test_links_and_bearers_that_are_wrong_are_wrong_alike(
    stranger: httpx2.AsyncClient, backend: httpx2.AsyncClient
) -> None:
    await log_task(backend, "known")
    far = int(time.time()) + 1000
    links = {
        (answer.status_code, answer.content)
        for task in ("known", "unknown")
        for query in (
            f"expires={far}&signature={'A' * 32}",
            "expires=1&signature=x",
            "expires=x&signature=\ud800",
        )
        for answer in [
            await stranger.get(f"/assets/vidgo/{task}/0?{query.encode(errors='replace').decode()}")
        ]
    }
    assert {status for status, _ in links} == {403}
    assert len(links) == 1
    bearers = {
        (answer.status_code, answer.content)
        for path in ("/tasks/vidgo/known", "/tasks/vidgo/unknown", "/submissions/x", "/stats", "/replays")
        for token in ("", "x", "é", API_TOKEN[:-1], API_TOKEN + "x")
        for answer in [
            await stranger.get(path, headers=[(b"authorization", f"Bearer {token}".encode("latin-1"))])
        ]
    }
    assert len(bearers) == 1
    assert next(iter(bearers))[0] == 401
