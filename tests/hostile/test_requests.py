"""What no honest client sends, over real sockets: refused by name, and never taken for more."""

import asyncio
import re
import statistics
import time
from collections.abc import Iterator

import pytest

from receiver.testing import sample_callback
from tests.hostile.requests import REQUESTS, Hostile, body_of, request
from tests.hostile.service import Target, running
from tests.support.loopback import Answer, post, talk
from tests.support.waiting import until

BODY_SECONDS = 2.0
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("requests")
    with running(folder, {"RECEIVER_BODY_TIMEOUT_SECONDS": f"{BODY_SECONDS:g}"}) as target:
        yield target


def statuses(raw: bytes) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw))


async def callback(target: Target, task: str) -> int:
    return Answer(await talk(target.port, post(target.path, body_of(task)))).status


def smuggled(target: Target) -> set[str]:
    """What was recorded of the requests inside others."""
    return {task for task in target.tasks() if task.startswith("smuggled")}


def slug(hostile: Hostile) -> str:
    return re.sub(r"[^\w.]+", "-", hostile.name)[:60]


def test_the_corpus_has_no_name_twice() -> None:
    names = [hostile.name for hostile in REQUESTS]
    assert len(names) == len(set(names))
    assert len(names) > 130


@pytest.mark.parametrize("hostile", REQUESTS, ids=slug)
async def test_a_hostile_request_is_answered_as_the_table_says(target: Target, hostile: Hostile) -> None:
    raw = hostile.raw(target.path)
    answers = await _send(target.port, raw)
    assert statuses(answers) in hostile.statuses, answers[:400]
    if hostile.statuses == ((400,),):
        assert Answer(answers).headers["content-type"] == "application/problem+json"
    assert b"Traceback" not in answers
    assert await callback(target, "honest") == 200
    assert smuggled(target) == set()


async def _send(port: int, raw: bytes) -> bytes:
    """All that is answered; the sending side stays open until the service ends the connection, or is idle."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = b""
    try:
        writer.write(raw)
        async with asyncio.timeout(BODY_SECONDS + 3):
            while True:
                wait = 0.15 if answers and not answers.endswith(b"100 Continue\r\n\r\n") else None
                piece = await asyncio.wait_for(reader.read(65_536), wait)
                if not piece:
                    return answers
                answers += piece
    except (TimeoutError, ConnectionError):
        return answers
    finally:
        writer.transport.abort()  # what is unsent stays so


async def test_nothing_of_it_was_smuggled_in_and_nothing_broke(target: Target) -> None:
    """All of it once more: the service that it was sent to one by one may have been another worker's."""
    carriers = [raw for raw in (hostile.raw(target.path) for hostile in REQUESTS) if b"smuggled-" in raw]
    for raw in carriers:
        await _send(target.port, raw)
    assert len(carriers) > 15
    assert smuggled(target) == set()
    assert target.faults() == []


async def test_every_odd_request_that_was_answered_200_is_recorded(target: Target) -> None:
    wanted = set()
    for hostile in REQUESTS:
        if hostile.is_recorded:
            raw = hostile.raw(target.path)
            await _send(target.port, raw)
            wanted |= set(re.findall(r'"task_id": "(in-[^"]+)"', raw.decode("latin-1")))
    assert len(wanted) == sum(hostile.is_recorded for hostile in REQUESTS) > 15
    assert wanted <= target.tasks()


async def test_after_a_refusal_a_connection_carries_the_next_request_or_ends(target: Target) -> None:
    """Never does the answer to one request arrive for another."""
    path = target.path
    for refused, expected in (
        (request("x", path="/callbacks/vidgo/p.wrong"), (401,)),
        (request("x", path="/nowhere"), (404,)),
        (request("x", "Content-Encoding: gzip"), (415,)),
        (request("x", method="PUT"), (405,)),
        (request("x", body=b"not json"), (200, 200)),
        (request("x", path="/callbacks/vidgo/p.wrong", body=b""), (401, 200)),
    ):
        raw = refused(path)
        assert statuses(await talk(target.port, raw + HEALTH)) == expected
        assert statuses(await talk(target.port, raw, HEALTH, pause_seconds=0.1))[: len(expected)] == expected


async def test_garbage_after_a_request_spoils_neither_its_answer_nor_its_record(target: Target) -> None:
    for number, garbage in enumerate((b"\x00", b"GARBAGE\r\n\r\n", b"0\r\n\r\n", b"}\n", b"GET /\x00 H\r\n")):
        raw = request(f"spoilt-{number}")(target.path) + garbage
        assert statuses(await talk(target.port, raw)) == (200,)
    assert {f"in-spoilt-{number}" for number in range(5)} <= target.tasks()


async def test_a_pipeline_of_callbacks_is_answered_in_order_and_recorded_whole(target: Target) -> None:
    whole = b"".join(request(f"pipe-{number}")(target.path) for number in range(200))
    answers = await talk(target.port, whole + HEALTH)
    named = re.findall(rb'"task_id":"in-pipe-(\d+)"', answers)
    assert [int(number) for number in named] == list(range(200))
    assert statuses(answers) == (200,) * 201


async def test_a_long_body_before_a_request_does_not_count_as_its_headers(target: Target) -> None:
    long = sample_callback("vidgo", "long") + b" " * 180_000
    head = f"POST {target.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(long)}\r\n\r\n".encode()
    answers = await talk(target.port, head + long + HEALTH[:20], HEALTH[20:], pause_seconds=0.2)
    assert statuses(answers) == (200, 200)


async def test_a_sender_that_goes_on_sending_still_sees_why_it_was_refused(target: Target) -> None:
    """A socket that is closed in the middle of a body is reset, and most clients then see no answer."""

    async def send(path: str, size: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // 65_536):
            writer.write(b" " * 65_536)
            await writer.drain()
        answer = Answer(await reader.read())
        writer.transport.abort()
        return answer.status

    assert await asyncio.gather(*(send(target.path, 2**23) for _ in range(8))) == [413] * 8
    assert await asyncio.gather(*(send("/callbacks/vidgo/p.no", 2**20) for _ in range(8))) == [401] * 8


async def test_a_callback_is_recorded_though_its_sender_is_gone(target: Target) -> None:
    async def send_and_leave(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", target.port)
        writer.write(post(target.path, body_of(f"left-{number}")))
        await writer.drain()
        if number % 2:
            writer.transport.abort()  # a reset, and perhaps before the request was read
        writer.close()

    await asyncio.gather(*(send_and_leave(number) for number in range(0, 100, 2)))
    await until(lambda: {f"left-{number}" for number in range(0, 100, 2)} <= target.tasks())
    await asyncio.gather(*(send_and_leave(number) for number in range(1, 100, 2)))
    assert await callback(target, "honest") == 200
    assert target.faults() == []


async def test_endless_and_lying_bodies_leave_memory_and_descriptors_alone(target: Target) -> None:
    before = target.resident_bytes()
    descriptors = target.descriptors()
    head = f"POST {target.path} HTTP/1.1\r\nHost: x\r\n"
    endless = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    lying = f"{head}Content-Length: 2097152\r\n\r\n".encode()
    huge = f"{head}Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n".encode()
    headers = b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 3000
    slow = [talk(target.port, lying + b" " * 1000) for _ in range(100)]
    answers = await asyncio.gather(
        *(talk(target.port, endless, *[chunk] * 40, pause_seconds=0.01) for _ in range(20)),
        *(talk(target.port, huge) for _ in range(50)),
        *(talk(target.port, *[headers] * 40, pause_seconds=0.01) for _ in range(20)),
        *slow,
    )
    met = {status for raw in answers for status in statuses(raw)}
    assert {400, 413} <= met <= {400, 408, 413, 503}  # all have one token, and it has its share
    assert await callback(target, "honest") == 200
    assert target.most_resident_bytes() - before < 100 * 2**20
    await until(lambda: target.descriptors() <= descriptors + 2)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET / RTSP/1.1", b"SOURCE / ICE/1.1"])
async def test_a_flood_of_requests_on_one_connection_is_read_one_by_one(target: Target, line: bytes) -> None:
    """A quarter of a megabyte is fourteen thousand requests, which took 40 MB when they were read at once.

    The parser takes protocols that look like ours for ours.
    """
    before = target.resident_bytes()
    descriptors = target.descriptors()
    flood = (line + b"\r\n\r\n") * 14_000
    senders = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(20)]
    try:
        for _, writer in senders:
            writer.write(flood)
        began = time.monotonic()
        for _ in range(5):
            assert await callback(target, "honest") == 200
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.5)
        assert target.resident_bytes() - before < 50 * 2**20
    finally:
        for _, writer in senders:
            writer.transport.abort()
    await until(lambda: target.descriptors() <= descriptors + 2)
    assert target.faults() == []


@pytest.mark.parametrize("trailers", [b"A: b\r\n" * 10_000, b"a" * 60_000], ids=["many", "one without end"])
async def test_endless_trailers_after_a_body_leave_memory_alone(target: Target, trailers: bytes) -> None:
    """They come after the answer, too, and had no limit: 70 MB of one stopped the service for 7 seconds."""
    before = target.resident_bytes()
    descriptors = target.descriptors()
    chunked = b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    answers = await talk(target.port, chunked, b"A: ", *[trailers] * 800)
    assert target.resident_bytes() - before < 20 * 2**20
    assert set(statuses(answers)) <= {200, 400}  # as many as come before it is cut off
    await until(lambda: target.descriptors() <= descriptors + 2)
    assert await callback(target, "honest") == 200
    assert target.faults() == []


async def test_five_hundred_slow_connections_do_not_stop_a_real_callback(target: Target) -> None:
    """Heads and bodies that come by the byte or not at all, a chunk that stalls: a deadline ends each."""
    descriptors = await target.descriptors_at_rest()
    head = f"POST {target.path} HTTP/1.1\r\nHost: x\r\n"
    body = f"{head}Content-Length: 500\r\n\r\n".encode()
    stalled = f"{head}Transfer-Encoding: chunked\r\n\r\n100\r\nabc".encode()
    trickle = {"pause_seconds": 0.5}
    slow = [
        *(talk(target.port, head.encode(), *[b"X: y\r\n"] * 30, **trickle) for _ in range(100)),
        *(talk(target.port, b"") for _ in range(50)),
        *(talk(target.port, HEALTH[:9]) for _ in range(50)),
        *(
            talk(target.port, HEALTH.replace(b"close", b"keep-alive"), *[b"\r\n"] * 30, **trickle)
            for _ in range(50)
        ),
        *(talk(target.port, body, *[b" "] * 30, **trickle) for _ in range(150)),
        *(talk(target.port, stalled) for _ in range(100)),
    ]
    tasks = [asyncio.create_task(each) for each in slow]
    await until(lambda: target.descriptors() >= descriptors + len(slow))
    waits = []
    for number in range(50):
        began = time.monotonic()
        assert await callback(target, f"amid-{number}") == 200
        waits.append(time.monotonic() - began)
    assert statistics.median(waits) < 1  # of so many; a busy machine makes one wait
    answers = await asyncio.gather(*tasks)
    assert [statuses(raw) for raw in answers] == [()] * 200 + [(200,)] * 50 + [(408,)] * 250
    await until(lambda: target.descriptors() <= descriptors + 2)


async def test_readers_that_never_read_keep_nobody_out(target: Target) -> None:
    """See test_web_limits for the deadline that ends them."""
    many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400
    descriptors = await target.descriptors_at_rest()
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", target.port, limit=1)
        writer.write(many)
        writers.append(writer)
    await until(lambda: target.descriptors() >= descriptors + len(writers))
    assert await callback(target, "honest") == 200
    for writer in writers:
        writer.transport.abort()


def test_it_all_left_no_fault_in_the_log(target: Target) -> None:
    assert target.faults() == []
