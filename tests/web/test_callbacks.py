"""The providers' door over real HTTP: every row of the table of answers, and what it must survive."""

import asyncio
import gzip
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

import httpx2
import pytest

from receiver.errors import Unavailable
from receiver.problem_types import ProblemType
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web.app import build_app
from tests.support.failing_store import over_failing_store
from tests.support.loopback import Answer, post, serving, talk
from tests.support.waiting import until
from tests.support.web_callers import LogLines, callback_path, log_task, progress_callback, verdicts


async def deliver(port: int, path: str, body: bytes, *lines: str) -> Answer:
    return Answer(await talk(port, post(path, body, *lines)))


def status_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    status: str = json.loads(answer.body)["status"]
    return status


def title_of(answer: Answer, status: int) -> str:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    (kind,) = (kind for kind in ProblemType if kind.uri == problem["type"])
    assert kind.title == problem["title"]
    title: str = problem["title"]
    return title


@contextmanager
def locked(runtime: Runtime) -> Iterator[None]:
    """Another process holds the database."""
    path = runtime.settings.data_dir / "receiver.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


# --- 200 --------------------------------------------------------------------------------------------


async def test_each_kind_of_delivery_is_answered_with_its_status(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    await log_task(backend, "t1")
    path = callback_path(runtime)
    failed = sample_callback("vidgo", "t1", error="no")
    assert status_of(await deliver(port, path, progress_callback("t1"))) == "progress"
    assert status_of(await deliver(port, path, failed)) == "accepted"
    assert status_of(await deliver(port, path, failed)) == "duplicate"
    assert status_of(await deliver(port, path, sample_callback("vidgo", "t1", files=[]))) == "conflict"
    assert status_of(await deliver(port, path, sample_callback("vidgo", "t2"))) == "early"
    assert status_of(await deliver(port, path, b'{"hello": "world"}')) == "unrecognised"


async def test_the_answer_names_the_task(port: int, runtime: Runtime) -> None:
    answer = await deliver(port, callback_path(runtime), sample_callback("vidgo", "t1"))
    assert json.loads(answer.body) == {"status": "early", "task_id": "t1"}


async def test_the_first_callback_binds_the_submission_its_token_names(
    port: int, backend: httpx2.AsyncClient
) -> None:
    reserved = (await backend.post("/submissions", json={"provider": "vidgo", "owner": "user-17"})).json()
    path = reserved["callback_url"].removeprefix("https://receiver.test")
    assert status_of(await deliver(port, path, sample_callback("vidgo", "t1", files=[]))) == "accepted"
    bound = (await backend.get(f"/submissions/{reserved['id']}")).json()
    assert bound["task_id"] == "t1"


async def test_a_percent_encoded_token_is_the_same_token(port: int, runtime: Runtime) -> None:
    token = runtime.tokens.for_provider("vidgo")
    encoded = "".join(f"%{ord(character):02X}" for character in token)
    answer = await deliver(port, f"/callbacks/vidgo/{encoded}", sample_callback("vidgo", "t1"))
    assert status_of(answer) == "early"


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain; charset=utf-16", ""])
async def test_the_content_type_is_not_trusted(port: int, runtime: Runtime, kind: str) -> None:
    body = sample_callback("vidgo", "t1")
    answer = await deliver(port, callback_path(runtime), body, f"Content-Type: {kind}")
    assert status_of(answer) == "early"


class TestUntokened:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_ALLOW_UNTOKENED": "true"}

    @pytest.mark.parametrize("path", ["/callbacks/vidgo", "/callbacks/vidgo/"])
    async def test_no_token_is_needed_where_the_operator_says_so(self, port: int, path: str) -> None:
        assert status_of(await deliver(port, path, sample_callback("vidgo", "t1"))) == "early"

    async def test_a_wrong_token_is_still_wrong(self, port: int) -> None:
        answer = await deliver(port, "/callbacks/vidgo/p.wrong", sample_callback("vidgo", "t1"))
        assert answer.status == 401


# --- 4xx --------------------------------------------------------------------------------------------


NO_DOCUMENT = pytest.mark.parametrize(
    "body",
    [b"", b"{", b"task t1", b"\xef\xbb\xbf{}", b"[NaN]", b"\xff\xfe{}", b'"\xed\xa0\x80"', b"[" * 60_000],
    ids=["empty", "cut", "words", "bom", "nan", "utf-16", "surrogate", "deep"],
)


@NO_DOCUMENT
async def test_what_is_not_json_is_kept_where_its_sender_is_known(
    port: int, runtime: Runtime, body: bytes
) -> None:
    assert status_of(await deliver(port, callback_path(runtime), body)) == "unrecognised"
    assert await verdicts(runtime) == {"unrecognised": 1}


@NO_DOCUMENT
@pytest.mark.parametrize("environment", [{"RECEIVER_ALLOW_UNTOKENED": "true"}])
async def test_what_is_not_json_and_proves_nothing_is_refused_and_not_recorded(
    port: int, runtime: Runtime, body: bytes
) -> None:
    answer = await deliver(port, "/callbacks/vidgo", body)
    assert title_of(answer, 400) == "Not JSON"
    assert await verdicts(runtime) == {}


def wrong_paths() -> list[str]:
    return [
        "/callbacks/vidgo",
        "/callbacks/vidgo/",
        "/callbacks/vidgo/p.AAAA",
        "/callbacks/vidgo/s.sub_1.AAAA",
        "/callbacks/vidgo/%ff%00%0a",
        "/callbacks/vidgo/a/b",
        f"/callbacks/vidgo/{'x' * 5000}",
    ]


@pytest.mark.parametrize("path", wrong_paths())
async def test_without_a_right_token_nothing_is_recorded(port: int, runtime: Runtime, path: str) -> None:
    answer = await deliver(port, path, sample_callback("vidgo", "t1"))
    assert title_of(answer, 401) == "Not authentic"
    assert await verdicts(runtime) == {}


async def test_another_providers_token_is_wrong(port: int, runtime: Runtime) -> None:
    token = runtime.tokens.for_provider("apixo")
    answer = await deliver(port, f"/callbacks/vidgo/{token}", sample_callback("vidgo", "t1"))
    assert answer.status == 401


async def test_the_answer_does_not_tell_a_wrong_token_from_a_missing_one(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    await log_task(backend, "known")
    right = runtime.tokens.for_provider("vidgo")
    answers = [
        await deliver(port, path, sample_callback("vidgo", task))
        for path in (*wrong_paths(), f"/callbacks/vidgo/{right}x", f"/callbacks/vidgo/{right}/x")
        for task in ("known", "unknown")
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert len({tuple((answer.headers | {"date": ""}).items()) for answer in answers}) == 1


async def test_a_submission_token_used_for_another_task_is_refused_and_recorded(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    submission = await log_task(backend, "t1")
    path = submission["callback_url"].removeprefix("https://receiver.test")
    answer = await deliver(port, path, sample_callback("vidgo", "somebody-elses"))
    assert title_of(answer, 409) == "Token of another task"
    assert await verdicts(runtime) == {"refused": 1}


@pytest.mark.parametrize(
    "path", ["/callbacks/nobody", "/callbacks/nobody/token", "/callbacks/", "/callbacks"]
)
async def test_an_unknown_provider_is_not_found(port: int, path: str) -> None:
    answer = await deliver(port, path, b"{}")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_is_allowed(port: int, runtime: Runtime, method: str) -> None:
    request = post(callback_path(runtime), b"").replace(b"POST", method.encode(), 1)
    answer = Answer(await talk(port, request))
    assert title_of(answer, 405) == "Method Not Allowed"
    assert answer.headers["allow"] == "POST"


async def test_a_body_that_does_not_arrive_in_time_is_given_up(port: int, runtime: Runtime) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    answer = Answer(await talk(port, request[:-20], *(b" " for _ in range(10)), pause_seconds=0.2))
    assert title_of(answer, 408) == "Body too slow"
    assert answer.headers["connection"] == "close"
    assert await verdicts(runtime) == {}


async def test_a_body_announced_too_large_is_refused_before_it_is_sent(port: int, runtime: Runtime) -> None:
    head = post(callback_path(runtime), b"").replace(b"Content-Length: 0", b"Content-Length: 131073")
    answer = Answer(await talk(port, head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")))
    assert title_of(answer, 413) == "Body too large"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("length", "status"), [("9" * 18, 413), ("9" * 19, 413), ("9" * 400, 400)])
async def test_an_absurd_length_is_refused(port: int, runtime: Runtime, length: str, status: int) -> None:
    head = post(callback_path(runtime), b"").replace(b"Length: 0", f"Length: {length}".encode())
    assert Answer(await talk(port, head)).status == status


async def test_a_chunked_body_is_refused_once_it_is_too_large(port: int, runtime: Runtime) -> None:
    head = f"POST {callback_path(runtime)} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    answer = Answer(await talk(port, head.encode(), *([chunk] * 50), pause_seconds=0.005))
    assert title_of(answer, 413) == "Body too large"
    assert await verdicts(runtime) == {}


async def test_a_chunked_body_within_the_limit_is_taken(port: int, runtime: Runtime) -> None:
    body = sample_callback("vidgo", "t1")
    head = (
        f"POST {callback_path(runtime)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    pieces = [b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))]
    assert status_of(Answer(await talk(port, head.encode(), *pieces, b"0\r\n\r\n"))) == "early"


async def test_a_compressed_body_is_not_unpacked(port: int, runtime: Runtime) -> None:
    body = gzip.compress(b" " * 1_000_000)
    answer = await deliver(port, callback_path(runtime), body, "Content-Encoding: gzip")
    assert title_of(answer, 415) == "Compressed body"


# --- 503 --------------------------------------------------------------------------------------------


async def test_while_the_database_is_locked_nothing_is_recorded_and_the_sender_told_to_retry(
    port: int, runtime: Runtime
) -> None:
    body = sample_callback("vidgo", "t1")
    with locked(runtime):
        answer = await deliver(port, callback_path(runtime), body)
    assert title_of(answer, 503) == "Unavailable for now"
    assert int(answer.headers["retry-after"]) >= 1
    assert await verdicts(runtime) == {}
    assert status_of(await deliver(port, callback_path(runtime), body)) == "early"


class TestBoundedEarly:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        return {"RECEIVER_EARLY_LIMIT": "2"}

    async def test_more_early_deliveries_than_are_kept_are_put_off(self, port: int, runtime: Runtime) -> None:
        path = callback_path(runtime)
        answers = [await deliver(port, path, sample_callback("vidgo", f"t{n}")) for n in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 503]
        assert "retry-after" in answers[2].headers


# --- what must be survived --------------------------------------------------------------------------


async def test_a_storm_of_the_same_callback_has_one_effect(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient
) -> None:
    await log_task(backend, "t1")
    request = post(callback_path(runtime), sample_callback("vidgo", "t1", error="no"))
    raw = await asyncio.gather(*(talk(port, request) for _ in range(300)))
    assert Counter(status_of(Answer(each)) for each in raw) == {"accepted": 1, "duplicate": 299}
    assert await verdicts(runtime) == {"accepted": 1}


async def test_a_sender_that_leaves_right_after_sending_is_still_recorded(
    port: int, runtime: Runtime
) -> None:
    for number in range(30):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(callback_path(runtime), sample_callback("vidgo", f"t{number}")))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def recorded() -> bool:
        return await verdicts(runtime) == {"early": 30}

    await until(recorded)


async def test_a_sender_that_leaves_in_the_middle_is_not_recorded(
    port: int, runtime: Runtime, log_lines: LogLines
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(callback_path(runtime), sample_callback("vidgo", "t1"))[:-5])
    await writer.drain()
    writer.close()
    await until(lambda: "callback.interrupted" in [line["event"] for line in log_lines])
    assert await verdicts(runtime) == {}


async def test_one_connection_carries_many_callbacks(port: int, runtime: Runtime) -> None:
    def request(task_id: str) -> bytes:
        return post(callback_path(runtime), sample_callback("vidgo", task_id))

    kept_alive = request("t1").replace(b"Connection: close\r\n", b"")
    raw = await talk(port, kept_alive + kept_alive + request("t2"))
    assert raw.count(b"HTTP/1.1 200 OK") == 3
    assert await verdicts(runtime) == {"early": 2}


async def test_an_old_proxy_speaks_http_1_0(port: int, runtime: Runtime) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"), version="1.0")
    assert status_of(Answer(await talk(port, request))) == "early"


async def test_forged_and_doubled_proxy_headers_mean_nothing(port: int, runtime: Runtime) -> None:
    forged = ["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: \xe4", "X-Original-URL: /stats", "Host: evil"]
    answer = await deliver(port, callback_path(runtime), sample_callback("vidgo", "t1"), *forged)
    assert status_of(answer) == "early"
    assert await verdicts(runtime) == {"early": 1}


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: chunked"],
        ["Content-Length: 3"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
    ],
    ids=["both", "doubled", "signed", "listed", "unknown", "not-last"],
)
async def test_two_ways_to_read_the_length_are_refused(port: int, runtime: Runtime, lines: list[str]) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"), *lines)
    answers = await talk(port, request + request)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert Answer(answers).status == 400
    assert await verdicts(runtime) == {}


async def test_bare_line_feeds_do_not_hide_a_header(port: int, runtime: Runtime) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"), "X: a\nTransfer-Encoding: chunked")
    assert Answer(await talk(port, request)).status == 400
    assert await verdicts(runtime) == {}


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": ' + b"1" * 60_000 + b"}",
        b'{"data": {"task_id": "a", "task_id": "b", "status": "finished"}}',
        b'{"data": {"task_id": "\\ud800", "status": "finished"}}',
        b'{"data": {"task_id": "a\\u0000b", "status": "finished"}}',
        b"{" + b",".join(b'"k%d":0' % number for number in range(5000)) + b"}",
        b'{"data": {"status": "finished", "files": ' + b"[" * 500 + b"]" * 500 + b"}}",
        b"[]",
        b"null",
        b'"text"',
        b"1e400",
    ],
    ids=["digits", "repeated", "surrogate", "nul", "wide", "nested", "list", "null", "text", "infinite"],
)
async def test_a_hostile_document_is_kept_and_breaks_nothing(
    port: int, runtime: Runtime, body: bytes
) -> None:
    verdict = status_of(await deliver(port, callback_path(runtime), body))
    assert await verdicts(runtime) == {verdict: 1}
    assert verdict in {"early", "unrecognised"}
    assert status_of(await deliver(port, callback_path(runtime), sample_callback("vidgo", "t"))) == "early"


@pytest.mark.parametrize(
    "task_id",
    [
        "", "x" * 40_000, "a\x00b", "../../etc/passwd", "'; DROP TABLE tasks; --", "%2e%2e%2f", "\u202etxt",
        ["list"], {"__proto__": 1}, "__proto__", 17, 10**30, True, None, 1.5, "a\nb\x1b[31m",
    ],
)  # fmt: skip
async def test_a_hostile_task_id_is_an_ordinary_answer(port: int, runtime: Runtime, task_id: object) -> None:
    body = json.dumps({"code": 200, "data": {"task_id": task_id, "status": "finished", "files": []}})
    answer = await deliver(port, callback_path(runtime), body.encode())
    assert status_of(answer) in {"early", "unrecognised"}


async def test_a_fault_of_our_own_is_a_500_without_internals(runtime: Runtime, log_lines: LogLines) -> None:
    broken = over_failing_store(runtime, RuntimeError("a detail that nobody should see"))
    async with serving(build_app(broken)) as port:
        answer = await deliver(port, callback_path(runtime), sample_callback("vidgo", "t1"))
    assert title_of(answer, 500) == "Internal error"
    assert b"detail that nobody" not in answer.body
    assert [line["event"] for line in log_lines] == ["callback.failed"]


async def test_why_the_store_is_unavailable_is_not_told(runtime: Runtime) -> None:
    full = over_failing_store(runtime, Unavailable("the disk /dev/sda1 is full", retry_after_seconds=1.2))
    async with serving(build_app(full)) as port:
        answer = await deliver(port, callback_path(runtime), sample_callback("vidgo", "t1"))
    assert title_of(answer, 503) == "Unavailable for now"
    assert answer.headers["retry-after"] == "2"
    assert b"sda1" not in answer.body


# --- logs -------------------------------------------------------------------------------------------


async def test_every_request_leaves_one_line_without_its_token(
    port: int, runtime: Runtime, log_lines: LogLines
) -> None:
    token = runtime.tokens.for_provider("vidgo")
    body = sample_callback("vidgo", "t1")
    await deliver(port, f"/callbacks/vidgo/{token}", body)
    await deliver(port, f"/callbacks/vidgo/{token}", b"not json")
    await deliver(port, f"/callbacks/vidgo/{token}x", body)
    await deliver(port, "/callbacks/nobody%0aforged/secret-token", body)
    lines = [line for line in log_lines if line["event"].startswith("callback.")]
    assert [line["event"] for line in lines] == [*["callback.received"] * 2, *["callback.rejected"] * 2]
    received, unread = lines[:2]
    assert (unread["task_id"], unread["verdict"]) == (None, "unrecognised")
    assert received["provider"] == "vidgo"
    assert received["task_id"] == "t1"
    assert received["verdict"] == "early"
    assert received["proof"] == "provider"
    assert received["bytes"] == len(body)
    assert received["seconds"] > 0
    assert [line["status"] for line in lines[2:]] == [401, 404]
    text = repr(log_lines)
    assert token not in text
    assert quote(token) not in text
    assert "secret-token" not in text
    assert "forged" not in text
    assert "media.example" not in text


@pytest.mark.parametrize("environment", [{"RECEIVER_ALLOW_UNTOKENED": "true"}])
async def test_the_log_says_the_proof_in_the_records_own_word(
    port: int, runtime: Runtime, backend: httpx2.AsyncClient, log_lines: LogLines
) -> None:
    own = (await log_task(backend, "t1"))["callback_url"].removeprefix("https://receiver.test")
    for path in ("/callbacks/vidgo", callback_path(runtime), own):
        # What is said in each is new, so that each is a delivery of its own.
        assert (await deliver(port, path, sample_callback("vidgo", "t1", error=path[-9:]))).status == 200

    logged = [line["proof"] for line in log_lines if line["event"] == "callback.received"]
    task = await runtime.store.get_task("vidgo", "t1")
    assert task is not None
    assert logged == [delivery.proof for delivery in task.deliveries] == ["none", "provider", "submission"]
