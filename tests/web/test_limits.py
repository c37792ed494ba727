"""What a request may cost: bytes, seconds, places."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from receiver.config.settings import load_settings
from receiver.errors import Misconfigured, Rejected, Unavailable
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from receiver.web import problems
from receiver.web.app import ENDPOINTS, OPENAPI
from receiver.web.callbacks import CallbackDoor
from receiver.web.connections import Patience
from receiver.web.endpoints import Endpoint
from receiver.web.limits import BodyLimiter, Limits
from tests.support.loopback import Answer, post, serving, talk
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, callback_path


def sends(*chunks: bytes, ends: bool = True) -> Receive:
    """A server that hands over these chunks, and then the end or nothing at all."""
    messages: list[Message] = [{"type": "http.request", "body": each, "more_body": True} for each in chunks]
    if ends:
        messages[-1]["more_body"] = False

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return receive


LIMITS = Limits(body_timeout_seconds=0.05, max_requests=1, max_waiting_bytes=10)
MAX_BYTES = 10
ROOMY = Limits(body_timeout_seconds=10)


async def read(
    receive: Receive,
    headers: dict[str, str] | None = None,
    *,
    intake: BodyLimiter | None = None,
    token: str = "a",
) -> bytes:
    intake = intake or BodyLimiter(LIMITS)
    intake.check(headers or {}, MAX_BYTES)
    with intake.reserve(token, MAX_BYTES) as waiting:
        return await waiting.read(receive)


async def refusal(receive: Receive, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(Rejected) as caught:
        await read(receive, headers)
    return problems.status_of(caught.value)


async def test_chunks_are_put_together() -> None:
    assert await read(sends(b"12345", b"", b"67890")) == b"1234567890"


@pytest.mark.parametrize("chunks", [[b"12345678901"], [b"12345", b"678901"], [b"1"] * 11])
async def test_one_byte_too_many_is_refused(chunks: Sequence[bytes]) -> None:
    assert await refusal(sends(*chunks)) == 413


@pytest.mark.parametrize("length", ["11", "99999999999999999999", "00000000000000000000"])
async def test_an_announced_excess_is_refused_without_reading(length: str) -> None:
    assert await refusal(sends(b"", ends=False), {"content-length": length}) == 413


@pytest.mark.parametrize("length", ["", "-1", "+1", "1_0", " 5", "5, 5", "\u0665", "0x5", "1e1"])
async def test_a_length_that_is_none_is_refused(length: str) -> None:
    assert await refusal(sends(b"12345"), {"content-length": length}) == 400


async def test_a_body_that_stalls_is_given_up() -> None:
    assert await refusal(sends(b"12345", ends=False)) == 408


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "unheard-of"])
async def test_a_compressed_body_is_refused(coding: str) -> None:
    assert await refusal(sends(b"12345"), {"content-encoding": coding}) == 415


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity, chunked", ""])
async def test_a_transfer_coding_beside_chunks_is_refused(coding: str) -> None:
    assert await refusal(sends(b"12345"), {"transfer-encoding": coding}) == 415
    assert await read(sends(b"12345"), {"transfer-encoding": " Chunked"}) == b"12345"


async def test_identity_is_no_compression() -> None:
    assert await read(sends(b"12345"), {"content-encoding": "Identity"}) == b"12345"


async def test_a_sender_that_left_has_sent_nothing() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await read(receive)


async def test_only_so_many_requests_wait_at_once() -> None:
    intake = BodyLimiter(LIMITS)
    with intake.reserve("a", MAX_BYTES), pytest.raises(Unavailable):
        intake.reserve("b", MAX_BYTES)
    with intake.reserve("b", MAX_BYTES):
        pass


async def test_only_so_many_bytes_wait_at_once_and_all_are_given_back() -> None:
    intake = BodyLimiter(msgspec.structs.replace(LIMITS, max_requests=2))
    for _ in range(3):
        with intake.reserve("a", MAX_BYTES) as first, intake.reserve("b", MAX_BYTES) as second:
            await first.read(sends(b"123456"))
            with pytest.raises(Unavailable):
                await second.read(sends(b"12345"))
            await second.read(sends(b"1234"))


@pytest.mark.parametrize(
    ("others", "limits"),
    [("abcd", {"max_waiting_bytes": 20}), ("aaaa", {"max_token_bytes": 20})],
    ids=["all the room there is", "a token's share"],
)
async def test_the_body_that_was_awaited_longest_makes_room_for_bytes(
    others: str, limits: dict[str, int]
) -> None:
    intake = BodyLimiter(msgspec.structs.replace(ROOMY, **limits))
    slow = [await begun(intake, token, b"12345") for token in others]
    assert await read(sends(b"1234567890"), intake=intake) == b"1234567890"
    assert [await ending(each) for each in slow[:2]] == [Unavailable] * 2
    assert not any(each.done() for each in slow[2:])
    await abandon(*slow)


@pytest.mark.parametrize(
    ("others", "limits"),
    [("abc", {"max_requests": 3}), ("aaa", {"max_token_requests": 3})],
    ids=["all the places there are", "a token's share"],
)
async def test_the_body_that_was_awaited_longest_makes_room_for_a_request(
    others: str, limits: dict[str, int]
) -> None:
    intake = BodyLimiter(msgspec.structs.replace(ROOMY, **limits))
    slow = [await begun(intake, token) for token in others]
    assert await read(sends(b"12345"), intake=intake) == b"12345"
    assert await ending(slow[0]) is Unavailable
    assert not any(each.done() for each in slow[1:])
    await abandon(*slow)


async def test_who_asks_for_more_and_was_awaited_longest_gives_way_himself() -> None:
    intake = BodyLimiter(msgspec.structs.replace(ROOMY, max_token_bytes=10))
    more = asyncio.Event()
    slow = await begun(intake, "a", b"12345", more=more)
    other = await begun(intake, "a", b"12345")
    more.set()
    assert await ending(slow) is Unavailable
    assert not other.done()
    await abandon(other)


async def test_one_token_takes_its_share_and_no_more() -> None:
    intake = BodyLimiter(msgspec.structs.replace(ROOMY, max_token_bytes=10, max_token_requests=2))
    with intake.reserve("a", MAX_BYTES) as first, intake.reserve("a", MAX_BYTES):
        await first.read(sends(b"1234567890"))  # it is here, and waits to be recorded
        with pytest.raises(Unavailable):
            await read(sends(b"1"), intake=intake, token="a")
        assert await read(sends(b"1234567890"), intake=intake, token="b")
    assert await read(sends(b"1234567890"), intake=intake, token="a")


async def test_whoever_gave_way_is_told_so_though_its_time_ran_out_meanwhile() -> None:
    intake = BodyLimiter(msgspec.structs.replace(ROOMY, max_requests=1, body_timeout_seconds=0.5))
    slow = await begun(intake, "a")
    with intake.reserve("b", MAX_BYTES):
        time.sleep(0.6)  # the loop is late
        assert await ending(slow) is Unavailable


async def test_whoever_was_late_and_gives_way_before_it_hears_of_that_is_told_so_too() -> None:
    intake = BodyLimiter(msgspec.structs.replace(ROOMY, max_requests=1, body_timeout_seconds=0.5))
    slow = await begun(intake, "a")
    time.sleep(0.6)  # the loop is late
    for _ in range(2):  # its time is looked at, and it was not told yet
        await asyncio.sleep(0)
    with intake.reserve("b", MAX_BYTES):
        assert await ending(slow) is Unavailable


def test_no_setting_lets_one_body_take_more_than_an_eighth() -> None:
    limits = Limits(body_timeout_seconds=1)
    most = limits.max_waiting_bytes // 8
    assert load_settings({"RECEIVER_MAX_BODY_BYTES": str(most)}).max_body_bytes == most
    with pytest.raises(Misconfigured):
        load_settings({"RECEIVER_MAX_BODY_BYTES": str(most + 1)})
    assert max(endpoint.max_body_bytes for endpoint in ENDPOINTS) <= most
    assert limits.max_token_bytes <= limits.max_waiting_bytes // 2


async def begun(
    intake: BodyLimiter, token: str, *chunks: bytes, more: asyncio.Event | None = None
) -> asyncio.Task[bytes]:
    """A body that has come as far as these chunks; one more byte follows once ``more`` is set."""

    async def receive() -> Message:
        if chunks_left:
            return {"type": "http.request", "body": chunks_left.pop(0), "more_body": True}
        here.set()
        await (more or asyncio.Event()).wait()
        return {"type": "http.request", "body": b"1", "more_body": True}

    chunks_left, here = list(chunks), asyncio.Event()
    reading = asyncio.create_task(read(receive, intake=intake, token=token))
    await here.wait()
    return reading


async def ending(reading: asyncio.Task[bytes]) -> type[Exception]:
    with pytest.raises((Rejected, Unavailable)) as caught:
        await reading
    return caught.type


async def abandon(*readings: asyncio.Task[bytes]) -> None:
    for reading in readings:
        reading.cancel()
    await asyncio.gather(*readings, return_exceptions=True)


async def test_a_refused_body_leaves_its_place_to_others() -> None:
    intake = BodyLimiter(LIMITS)
    for _ in range(5):
        with pytest.raises(Rejected):
            await read(sends(b"12345", b"678901"), intake=intake)
    assert await read(sends(b"1234567890"), intake=intake) == b"1234567890"


async def test_a_cancelled_read_is_cancelled_and_not_late() -> None:
    cancelled = 0
    for delay_seconds in (0.0, 0.01, 0.049, 0.0501, 0.0525):  # the last about when it is given up
        reading = asyncio.create_task(read(sends(b"1", ends=False)))
        await asyncio.sleep(delay_seconds)
        is_in_time = reading.cancel()
        with pytest.raises(asyncio.CancelledError if is_in_time else Rejected):
            await reading
        cancelled += is_in_time
    assert cancelled >= 1


async def test_whoever_read_in_time_is_not_interrupted_later() -> None:
    async def read_and_go_on() -> bytes:
        body = await read(sends(b"12345"))
        await asyncio.sleep(0.15)
        return body

    assert await asyncio.gather(*(read_and_go_on() for _ in range(3))) == [b"12345"] * 3


async def test_each_read_has_a_deadline_of_its_own() -> None:
    intake = BodyLimiter(msgspec.structs.replace(LIMITS, max_requests=9))
    started = asyncio.get_running_loop().time()
    late: list[float] = []

    async def stall(after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        with pytest.raises(Rejected):
            await read(sends(b"1", ends=False), intake=intake)
        late.append(asyncio.get_running_loop().time() - started - after_seconds)

    await asyncio.gather(*(stall(number * 0.02) for number in range(6)))
    assert len(late) == 6
    assert all(0.04 <= seconds < 10 for seconds in late)


# --- before anything is decoded ---------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{"RECEIVER_GATEWAY": "true"}], ids=[""])
@pytest.mark.parametrize(
    "endpoint",
    [each for each in ENDPOINTS if each.method != "GET"],
    ids=lambda each: f"{each.method} {each.path}",
)
async def test_every_door_has_a_bound_of_its_own_for_bodies(
    admin: httpx2.AsyncClient, endpoint: Endpoint[Any]
) -> None:
    with_filters = dict.fromkeys(("/plans", "/replays", "/dead-letters/requeue"), 2**20)
    most = {"/submissions": 2**18, **with_filters}.get(endpoint.path, 2**17)
    path = endpoint.path.replace("{id}", "1")
    answer = await admin.request(endpoint.method, path, content=b"[]," * (most // 3 + 1))
    assert (answer.status_code, answer.json()["title"]) == (413, "Body too large")
    answer = await admin.request(endpoint.method, path, content=b"[" + b" " * (most - 2) + b"]")
    assert answer.status_code == 400  # it is read, and is no object


@pytest.mark.parametrize("environment", [{"RECEIVER_MAX_BODY_BYTES": "1024"}])
async def test_the_bound_for_callbacks_is_no_bound_for_backends(backend: httpx2.AsyncClient) -> None:
    """All that may be logged may be, in escapes too: those of Cyrillic take three times as much."""
    new = {"provider": "vidgo", "owner": "Ада", "request": "ж" * 32_000, "metadata": {"имя": "ж" * 2000}}
    answer = await backend.post("/submissions", content=json.dumps(new, indent=4))
    assert answer.status_code == 201


async def test_a_thousand_long_ids_are_a_filter(admin: httpx2.AsyncClient) -> None:
    ids = [f"{number:04}-{'x' * 507}" for number in range(1000)]
    wanted = {"stage": "notify", "filter": {"task_ids": ids}, "dry_run": True}
    answer = await admin.post("/replays", json=wanted)
    assert (answer.status_code, answer.json()["matched"]) == (200, 0)


async def test_what_has_to_be_read_with_care_is_refused_where_it_is_wide(backend: httpx2.AsyncClient) -> None:
    wide = b'{"provider": "vidgo", "owner": "u", "request": ["\\ud800", %b 1]}' % (b"[]," * 30_000)
    answer = await backend.post("/submissions", content=wide)
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad body")


async def test_a_stranger_has_no_long_query_read(stranger: httpx2.AsyncClient) -> None:
    answer = await stranger.get(f"/assets/vidgo/t1/0?{'a&' * 30_000}")
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad query")
    assert (await stranger.get(f"/readyz?{'a&' * 30_000}")).status_code == 200  # which takes none


# --- over real connections --------------------------------------------------------------------------


patient = pytest.mark.parametrize("environment", [{"RECEIVER_BODY_TIMEOUT_SECONDS": "60"}], ids=[""])
short_head = pytest.mark.parametrize("patience", [Patience(head=0.5)])
short_unread = pytest.mark.parametrize("patience", [Patience(unread=1.0)])


@short_head
@pytest.mark.parametrize("start", [b"", b"POST /callbacks/vid", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_connection_whose_request_never_comes_is_closed(port: int, start: bytes) -> None:
    assert await talk(port, start, timeout_seconds=8) == b""  # less than the usual deadline


@short_head
async def test_a_trickle_of_headers_does_not_extend_the_deadline(port: int) -> None:
    trickle = [b"X: 1\r\n"] * 150  # for longer than it may take, however slow the machine is
    async with asyncio.timeout(10):
        assert await talk(port, b"GET /healthz HTTP/1.1\r\n", *trickle, pause_seconds=0.1) == b""


@short_head
async def test_a_second_request_on_a_connection_has_its_deadline_too(port: int) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with asyncio.timeout(8):  # less than the usual deadline
        raw = await talk(port, whole, b"GET /hea", pause_seconds=0.1)
    assert raw.count(b"HTTP/1.1 200 OK") == 1


@short_head
@patient
async def test_the_deadline_for_headers_leaves_slow_bodies_alone(port: int, runtime: Runtime) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    answer = Answer(await talk(port, request[:-9], request[-9:], pause_seconds=0.7))
    assert answer.status == 200


@short_head
async def test_blank_lines_after_a_request_do_not_keep_a_connection_open(port: int) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with asyncio.timeout(10):
        raw = await talk(port, whole, *[b"\r\n"] * 150, pause_seconds=0.1)
    assert raw.count(b"HTTP/1.1 200 OK") == 1


async def test_a_body_in_chunks_of_one_byte_is_copied_once_for_each_read(
    port: int, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    hand_on = HttpToolsProtocol.on_body

    def counting(self: HttpToolsProtocol, body: bytes) -> None:
        pieces.append(len(body))
        hand_on(self, body)

    monkeypatch.setattr(HttpToolsProtocol, "on_body", counting)
    body = sample_callback("vidgo", "t1") + b" " * 40_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = f"POST {callback_path(runtime)} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    twice = 2 * (head.encode() + b"\r\n" + chunks + b"0\r\n\r\n")
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    raw = await talk(port, twice + last)
    assert [raw.count(text) for text in (b" 200 OK", b'"early"')] == [3, 2]
    assert sum(pieces) == 2 * len(body)
    assert len(pieces) < 200


async def test_a_pipeline_is_read_alike_wherever_it_is_cut(port: int, runtime: Runtime) -> None:
    """Bodies with blank lines in them, whole and in chunks, between heads that are short and blank lines.

    Some of the short ones want another protocol, of which nothing comes.
    """
    body = sample_callback("vidgo", "t1") + b"\r\n\r\n" * 40
    head = f"POST {callback_path(runtime)} HTTP/1.1\r\nHost: x\r\n".encode()
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:]))
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nA: b\r\n\r\n"
    short = b"GET / HTTP/1.1\r\n\r\n"
    wishing = b"GET / HTTP/1.1\r\nUpgrade:x\r\nConnection:upgrade\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    raw = short + wishing + wishing + short + short + whole + b"\r\n\r\n" + chunked + short + whole + last

    async def answers(cut: int) -> list[bytes]:
        told = await talk(port, raw[:cut], raw[cut:], pause_seconds=0.005)
        return re.findall(rb"HTTP/1\.1 (\d+)", told)

    for got in await asyncio.gather(*map(answers, range(0, len(raw), 17))):
        assert got == [*[b"404"] * 5, b"200", b"200", b"404", b"200", b"200"]


async def test_what_comes_behind_the_body_is_no_header(port: int) -> None:
    body = json.dumps({"provider": "vidgo", "owner": "user-17"}).encode()
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(body), body)
    token = f"Authorization: Bearer {API_TOKEN}\r\n".encode()
    head = b"POST /submissions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    assert Answer(await talk(port, head + token + b"\r\n" + chunks + b"\r\n")).status == 201
    assert Answer(await talk(port, head + b"\r\n" + chunks + token + b"\r\n")).status == 401


@short_unread
async def test_a_reader_that_takes_nothing_is_let_go(port: int) -> None:
    many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 300
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, ("127.0.0.1", port))
        await loop.sock_sendall(reader, many)
        await asyncio.sleep(2.5)
        got = 0
        with suppress(ConnectionResetError):
            while piece := await loop.sock_recv(reader, 65_536):
                got += len(piece)
    assert 0 < got < 300 * len(OPENAPI)  # all that it had not taken is gone


@short_unread
async def test_a_reader_that_takes_little_is_served(port: int) -> None:
    many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 40 + b"GET /healthz HTTP/1.0\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(many)
    raw = b""
    while piece := await reader.read(65_536):
        raw += piece
        await asyncio.sleep(0.015)
    assert raw.count(b"HTTP/1.1 200 OK") == 41
    writer.close()


async def test_endless_headers_are_cut_off(port: int) -> None:
    line = b"X-Filler: " + b"x" * 8000 + b"\r\n"
    answer = Answer(await talk(port, b"GET /healthz HTTP/1.1\r\n", *([line] * 60), pause_seconds=0.002))
    assert answer.status in {0, 400}


@patient
async def test_hundreds_of_slow_senders_do_not_stop_a_real_callback(port: int, runtime: Runtime) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    before = _descriptors()
    async with asyncio.TaskGroup() as senders:
        slow = [senders.create_task(talk(port, request[:-9], timeout_seconds=60)) for _ in range(300)]
        await until(lambda: _descriptors() >= before + 2 * len(slow))  # both ends are ours
        assert Answer(await talk(port, request)).status == 200
        assert not any(sender.done() for sender in slow)
        for sender in slow:
            sender.cancel()


async def test_hundreds_of_slow_senders_are_all_told_in_the_end(port: int, runtime: Runtime) -> None:
    request = post(callback_path(runtime), sample_callback("vidgo", "t1"))
    answers = await asyncio.gather(*(talk(port, request[:-9], timeout_seconds=60) for _ in range(300)))
    assert {Answer(raw).status for raw in answers} == {408}


@pytest.mark.parametrize(
    "environment", [{"RECEIVER_MAX_BODY_BYTES": "2097152", "RECEIVER_BODY_TIMEOUT_SECONDS": "10"}]
)
async def test_one_callback_url_with_slow_megabytes_shuts_nobody_out(port: int, runtime: Runtime) -> None:
    slow = post(callback_path(runtime), b" " * 2_097_152)[:-1]
    log_one = json.dumps({"provider": "vidgo", "owner": "u"}).encode()
    async with asyncio.TaskGroup() as senders:
        holding = [senders.create_task(talk(port, slow)) for _ in range(33)]
        await until(lambda: sum(each.done() for each in holding) >= 17)  # the others fill the share
        answers = [
            Answer(await talk(port, request))
            for request in (
                post(callback_path(runtime), sample_callback("vidgo", "t1")),
                post(callback_path(runtime, "apidot"), sample_callback("apidot", "t2")),
                post("/submissions", log_one, f"Authorization: Bearer {API_TOKEN}"),
            )
        ]
        held = [each for each in holding if not each.done()]
        for each in held:
            each.cancel()
    assert [answer.status for answer in answers] == [200, 200, 201]
    assert len(held) <= 16
    gave_way = [Answer(each.result()) for each in holding if each not in held]
    assert {(answer.status, answer.headers["retry-after"]) for answer in gave_way} == {(503, "1")}


@patient
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/callbacks/vidgo", 401),
        ("POST", "/callbacks/vidgo/p.wrong", 401),
        ("POST", "/callbacks/nobody/x", 404),
        ("PUT", "/callbacks/vidgo", 405),
        ("PUT", "/callbacks/vidgo/p.wrong", 405),
        ("PUT", "/callbacks/nobody/x", 404),
    ],
)
@pytest.mark.parametrize("announced", ["Content-Length: 500", "Transfer-Encoding: chunked"])
async def test_a_stranger_is_answered_before_the_body_and_then_cut_off(
    port: int, method: str, path: str, status: int, announced: str
) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{announced}\r\n\r\n"
    answer = Answer(await talk(port, head.encode()))  # less than a body may take
    assert (answer.status, answer.headers["connection"]) == (status, "close")


@patient
@pytest.mark.parametrize(
    ("request_line", "status"),
    [("POST /submissions", 401), ("GET /tasks", 401), ("DELETE /tasks", 405), ("POST /nowhere", 404)],
)
async def test_every_other_door_cuts_off_an_unread_body_too(
    port: int, request_line: str, status: int
) -> None:
    head = f"{request_line} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
    answer = Answer(await talk(port, head.encode()))
    assert (answer.status, answer.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("path", ["/callbacks/vidgo/p.wrong", "/submissions", "/nowhere"])
async def test_a_refusal_with_nothing_left_to_read_keeps_the_connection(port: int, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert (await talk(port, head, last)).count(b"HTTP/1.1 ") == 2


async def test_a_stranger_needs_no_place_and_so_takes_none(runtime: Runtime) -> None:
    full = BodyLimiter(msgspec.structs.replace(LIMITS, max_requests=0))
    async with serving(CallbackDoor(runtime, full)) as port:
        stranger = Answer(await talk(port, post("/callbacks/vidgo/p.wrong", b"{}")))
        sender = Answer(await talk(port, post(callback_path(runtime), b"{}")))
    assert (stranger.status, sender.status) == (401, 503)


async def test_hundreds_of_strangers_keep_nobody_out(runtime: Runtime) -> None:
    narrow = BodyLimiter(msgspec.structs.replace(ROOMY, max_requests=1, max_waiting_bytes=9000))
    request = post("/callbacks/vidgo/p.wrong", b" " * 9000)[:-1]
    async with serving(CallbackDoor(runtime, narrow)) as port:
        strangers = [asyncio.create_task(talk(port, request)) for _ in range(200)]
        await asyncio.sleep(0)
        sender = Answer(await talk(port, post(callback_path(runtime), sample_callback("vidgo", "t1"))))
        await asyncio.gather(*strangers)
    assert sender.status == 200


async def test_an_endless_body_does_not_grow_memory(port: int, runtime: Runtime) -> None:
    head = f"POST {callback_path(runtime)} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    before = _resident_bytes()
    await asyncio.gather(*(talk(port, head, *([chunk] * 20), pause_seconds=0.01) for _ in range(10)))
    assert _resident_bytes() - before < 50 * 2**20


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
