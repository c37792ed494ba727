"""The bytes of stored files, as a browser or a backend fetches them."""

import asyncio
import hashlib
import re
import sqlite3
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.asset_keys import asset_key, disposition
from receiver.record import lists
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.loopback import serving, talk
from tests.support.waiting import until
from tests.support.web_callers import API_TOKEN, callback_path, caller, log_task

# A scan of a table that has grown for years, and longer.
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

TASK = "a/b ü%"  # whatever an id holds, its file is found
PATH = f"/assets/vidgo/{quote(TASK, safe='')}/0"


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    # Level 0, so that the file is large enough to come in several pieces.
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PNG = _png(600, 600)
ETAG = f'"{hashlib.sha256(PNG).hexdigest()}"'


@pytest.fixture
def environment() -> dict[str, str]:
    return {"RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8"}


@pytest.fixture
async def media_port() -> AsyncIterator[int]:
    """A provider's file host: an image at ``/0.png``, a drawing at every other path."""

    async def host(scope: Scope, _receive: Receive, send: Send) -> None:
        body = PNG if scope["path"] == "/0.png" else b"<svg/>"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with serving(host) as port:
        yield port


@pytest.fixture
async def task(
    backend: httpx2.AsyncClient, stranger: httpx2.AsyncClient, runtime: Runtime, media_port: int
) -> dict[str, Any]:
    """A task of two files, of which the first is stored and the second is no image."""
    files = [f"http://127.0.0.1:{media_port}/{name}" for name in ("0.png", "1.png")]
    await log_task(backend, TASK)
    answer = await stranger.post(callback_path(runtime), content=sample_callback("vidgo", TASK, files=files))
    assert answer.json()["status"] == "accepted"

    async def ended() -> dict[str, Any] | None:
        shown: dict[str, Any] = (await backend.get(f"/tasks/vidgo/{quote(TASK, safe='')}")).json()
        return shown if shown["state"] == "partial" else None

    return await until(ended)


@pytest.mark.usefixtures("task")
async def test_a_backend_gets_the_bytes_and_all_that_keeps_them_harmless(
    backend: httpx2.AsyncClient,
) -> None:
    answer = await backend.get(PATH)
    assert answer.status_code == 200
    assert answer.content == PNG
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(PNG))
    assert answer.headers["etag"] == ETAG
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"] == 'inline; filename="a-b-0.png"'


async def test_a_file_under_another_tasks_key_has_its_own_name(
    backend: httpx2.AsyncClient, runtime: Runtime, task: dict[str, Any]
) -> None:
    place = runtime.settings.data_dir / "receiver.db"
    with closing(sqlite3.connect(place, isolation_level=None)) as record:
        record.execute("UPDATE assets SET key = 'vidgo/first/3.png' WHERE state = 'stored'")
    (runtime.settings.data_dir / "assets/vidgo/first").mkdir()
    (runtime.settings.data_dir / f"assets/{task['assets'][0]['key']}").rename(
        runtime.settings.data_dir / "assets/vidgo/first/3.png"
    )
    answer = await backend.get(PATH)
    assert answer.content == PNG
    assert answer.headers["content-disposition"] == 'inline; filename="a-b-0.png"'


def asks(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n".encode()


async def ask_and_leave(port: int, path: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(asks(path))
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()


@pytest.mark.usefixtures("task")
async def test_a_file_waits_neither_for_lists_nor_they_for_those_whose_readers_left(
    backend: httpx2.AsyncClient, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[bool] = []
    ended: list[bool] = []

    def scan_without_end(db: sqlite3.Cursor, *_: object) -> None:
        began.append(True)
        try:
            db.execute(ENDLESS).fetchone()
        finally:
            ended.append(True)

    with monkeypatch.context() as slow:
        slow.setattr(lists, "list_tasks", scan_without_end)
        stays = asyncio.create_task(talk(port, asks("/tasks"), timeout_seconds=60))
        await until(lambda: began)
        await asyncio.gather(*(ask_and_leave(port, "/tasks") for _ in range(40)))
        assert (await backend.get(PATH)).content == PNG
        assert not stays.done()
        # One thread is left to all the others, each of which ended with its reader or was never begun.
        await until(lambda: len(began) - len(ended) == 1)
    assert (await backend.get("/tasks")).status_code == 200
    assert not stays.done()
    stays.cancel()
    await until(lambda: len(began) == len(ended))


@pytest.mark.usefixtures("task")
async def test_a_slash_in_the_id_may_be_plain(backend: httpx2.AsyncClient) -> None:
    assert (await backend.get("/assets/vidgo/a/b%20%C3%BC%25/0")).content == PNG


@pytest.mark.parametrize("index", ["9" * 5000, "1234567", "-1", "x", "%D9%A0", "1_0", "0x0", "0%0A"])
async def test_an_index_that_is_none_is_an_unknown_file(backend: httpx2.AsyncClient, index: str) -> None:
    answer = await backend.get(f"/assets/a/b/{index}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_task_links_to_its_stored_file_and_says_why_the_other_is_not(
    task: dict[str, Any], stranger: httpx2.AsyncClient
) -> None:
    first, second = task["assets"]
    assert first["url"].startswith(f"https://receiver.test{PATH}?expires=")
    assert (await stranger.get(link_of(task))).content == PNG
    assert second["url"] is None
    assert (second["state"], second["outcome"]) == ("failed", "not_an_image")


def link_of(task: dict[str, Any]) -> str:
    return str(task["assets"][0]["url"]).removeprefix("https://receiver.test")


async def test_no_copy_outlives_the_link_that_it_was_fetched_by(
    task: dict[str, Any], stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    def kept_for(answer: httpx2.Response) -> int:
        match = re.fullmatch(r"private, max-age=(\d+), immutable", answer.headers["cache-control"])
        assert match is not None
        return int(match[1])

    soon = int(datetime.now(UTC).timestamp()) + 60
    short = f"{PATH}?expires={soon}&signature={runtime.tokens.sign_link('vidgo', TASK, 0, soon)}"
    assert 0 < kept_for(await stranger.get(short)) <= 60
    assert kept_for(await stranger.get(link_of(task))) == 86_400  # of a week
    assert kept_for(await stranger.get(short, headers={"if-none-match": ETAG})) <= 60


async def test_a_link_that_is_wrong_or_dead_or_of_another_file_gets_one_answer(
    task: dict[str, Any], stranger: httpx2.AsyncClient, runtime: Runtime
) -> None:
    link = link_of(task)
    query = urlsplit(link).query
    past = int(datetime.now(UTC).timestamp()) - 1
    dead = f"{PATH}?expires={past}&signature={runtime.tokens.sign_link('vidgo', TASK, 0, past)}"
    links = [
        dead,
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        link.replace("expires=", "expires=1"),
        link.replace("expires=", "expires=-"),
        link.replace("expires=", "expires=%D9%A1"),
        link.replace("expires=", f"expires={'9' * 5000}"),
        f"{PATH}?expires=x&signature=%ff%00",
        f"/assets/vidgo/{quote(TASK, safe='')}/1?{query}",
        f"/assets/vidgo/unknown/0?{query}",
        f"/assets/apixo/{quote(TASK, safe='')}/0?{query}",
    ]
    answers = [await stranger.get(each) for each in links]
    assert {answer.status_code for answer in answers} == {403}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("query", ["", "?expires=99999999999", "?signature=x"])
async def test_without_token_or_link_it_is_unauthorised(stranger: httpx2.AsyncClient, query: str) -> None:
    answers = [await stranger.get(path + query) for path in (PATH, "/assets/vidgo/unknown/0")]
    assert {answer.status_code for answer in answers} == {401}
    assert answers[0].content == answers[1].content


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("path", ["vidgo/unknown/0", "nobody/x/0", f"vidgo/{quote(TASK, safe='')}/9"])
async def test_what_is_not_known_is_not_found(backend: httpx2.AsyncClient, path: str) -> None:
    assert (await backend.get(f"/assets/{path}")).status_code == 404


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("index", ["x", "-1", "", "0x0", "1e0", "0.png", "9" * 30])
async def test_an_index_that_is_none_is_not_found(backend: httpx2.AsyncClient, index: str) -> None:
    assert (await backend.get(f"/assets/vidgo/{quote(TASK, safe='')}/{index}")).status_code == 404


@pytest.mark.usefixtures("task")
async def test_a_file_that_could_not_be_had_says_why(backend: httpx2.AsyncClient) -> None:
    answer = await backend.get(f"/assets/vidgo/{quote(TASK, safe='')}/1")
    assert answer.status_code == 404
    assert "not_an_image" in answer.json()["detail"]


@pytest.mark.usefixtures("task")
async def test_a_file_that_vanished_from_the_disk_is_not_found(
    backend: httpx2.AsyncClient, runtime: Runtime
) -> None:
    (stored,) = (runtime.settings.data_dir / "assets").rglob("0.png")
    stored.unlink()
    assert (await backend.get(PATH)).status_code == 404
    assert (await backend.head(PATH)).status_code == 200  # what is recorded of it


@pytest.mark.usefixtures("task")
async def test_head_answers_without_the_bytes(app: ASGIApp, backend: httpx2.AsyncClient) -> None:
    head, get = await backend.head(PATH), await backend.get(PATH)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers == get.headers
    assert (await backend.head(PATH, headers={"range": "bytes=0-9"})).headers == get.headers
    async with serving(app) as port, httpx2.AsyncClient(headers=backend.headers) as client:
        assert (await client.head(f"http://127.0.0.1:{port}{PATH}")).headers["etag"] == ETAG


@pytest.mark.usefixtures("task")
async def test_a_real_server_streams_it(app: ASGIApp, backend: httpx2.AsyncClient) -> None:
    async with serving(app) as port, httpx2.AsyncClient(headers=backend.headers) as client:
        assert (await client.get(f"http://127.0.0.1:{port}{PATH}")).content == PNG
        async with client.stream("GET", f"http://127.0.0.1:{port}{PATH}") as answer:
            async for _ in answer.aiter_raw(1000):
                break  # leaves in the middle
        assert (await client.get(f"http://127.0.0.1:{port}{PATH}")).content == PNG


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("tag", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"])
async def test_what_the_caller_has_is_not_sent_again(backend: httpx2.AsyncClient, tag: str) -> None:
    answer = await backend.get(PATH, headers={"if-none-match": tag})
    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == ETAG


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("tag", ['"other"', "nonsense", ""])
async def test_what_the_caller_lacks_is_sent(backend: httpx2.AsyncClient, tag: str) -> None:
    assert (await backend.get(PATH, headers={"if-none-match": tag})).content == PNG


SIZE = len(PNG)


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=1-99", 1, 99),
        ("bytes=100-", 100, SIZE - 1),
        ("bytes=-10", SIZE - 10, SIZE - 1),
        (f"bytes={SIZE - 1}-{SIZE + 99}", SIZE - 1, SIZE - 1),
        (f"bytes=1-{'9' * 18}", 1, SIZE - 1),
    ],
)
async def test_a_range_is_sent_as_a_part(
    backend: httpx2.AsyncClient, wanted: str, start: int, end: int
) -> None:
    answer = await backend.get(PATH, headers={"range": wanted})
    assert answer.status_code == 206
    assert answer.content == PNG[start : end + 1]
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start + 1)


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize(
    "wanted",
    ["", "bytes", "bytes=-", "bytes=5-1", "bytes=0-1,5-6", "items=0-1", "bytes=a-b", "bytes=0-1;q=1"],
)
async def test_what_is_no_single_range_gets_the_whole(backend: httpx2.AsyncClient, wanted: str) -> None:
    answer = await backend.get(PATH, headers={"range": wanted})
    assert (answer.status_code, answer.content) == (200, PNG)


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 1}", "bytes=-0"])
async def test_a_range_beyond_the_end_cannot_be_satisfied(backend: httpx2.AsyncClient, wanted: str) -> None:
    answer = await backend.get(PATH, headers={"range": wanted})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.usefixtures("task")
async def test_a_range_of_all_bytes_is_a_part_too(backend: httpx2.AsyncClient) -> None:
    answer = await backend.get(PATH, headers={"range": "bytes=0-"})
    assert (answer.status_code, answer.content) == (206, PNG)
    assert answer.headers["content-range"] == f"bytes 0-{SIZE - 1}/{SIZE}"


@pytest.mark.usefixtures("task")
@pytest.mark.parametrize(
    ("tag", "status"),
    [(ETAG, 206), ('"other"', 200), (f"W/{ETAG}", 200), ("Sat, 21 Nov 2026 10:00:00 GMT", 200)],
)
async def test_a_range_of_a_changed_file_gets_the_whole(
    backend: httpx2.AsyncClient, tag: str, status: int
) -> None:
    answer = await backend.get(PATH, headers={"range": "bytes=0-9", "if-range": tag})
    assert (answer.status_code, answer.content) == (status, PNG[:10] if status == 206 else PNG)


@pytest.mark.parametrize(
    ("task_id", "media_type", "key", "expected"),
    [
        ("t1", "image/webp", "vidgo/t1/3.webp", 'inline; filename="t1-3.webp"'),
        ("t1", "image/jxl", "vidgo/t1/3.jxl", 'inline; filename="t1-3.jxl"'),
        ("t1", "video/mp4", "vidgo/t1/3.mp4", 'attachment; filename="t1-3.mp4"'),
        ("t1", "model/obj", "vidgo/t1/3.obj", 'attachment; filename="t1-3.obj"'),
        ("t1", "model/gltf+json", "vidgo/t1/3.gltf", 'attachment; filename="t1-3.gltf"'),
        ("t1", "image/svg+xml", "vidgo/t1/3.svg", 'attachment; filename="t1-3.svg"'),
        ("t1", "text/html", "vidgo/t1/3.html", 'attachment; filename="t1-3.html"'),
        ("../..", "image/png", None, 'inline; filename="file-3.png"'),
        ('a"; x="\r\nSet-Cookie: b', "image/png", None, 'inline; filename="a-x-Set-Cookie-b-3.png"'),
        ("日本", "image/png", None, 'inline; filename="file-3.png"'),
        ("x" * 300, "image/png", None, f'inline; filename="{"x" * 80}-3.png"'),
        ("t1", "image/png", 'x/3.p"ng', 'inline; filename="x-3.png"'),
    ],
)
def test_only_images_are_shown_and_every_file_name_is_harmless(
    task_id: str, media_type: str, key: str | None, expected: str
) -> None:
    assert disposition(key or asset_key("vidgo", task_id, 3, "png"), media_type) == expected


async def test_a_valid_token_wins_over_a_wrong_link(app: ASGIApp, task: dict[str, Any]) -> None:
    async with caller(app, API_TOKEN) as client:
        assert (await client.get(f"{PATH}?expires=1&signature=x")).status_code == 200
        assert task["assets"][0]["bytes"] == SIZE
