"""What hostile hosts answer, and what it may cost us."""

import asyncio
import gzip
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import anyio
import h11
import httpcore2
import msgspec
import pytest

from receiver.blobs.local import LocalBlobs
from receiver.fetching import media
from receiver.fetching.client import GuardedClient
from receiver.fetching.connection import SocketStream
from receiver.fetching.download import FREE_PIECES, DownloadLimits
from receiver.fetching.fetcher import AssetLimits, Fetcher
from receiver.models import Outcome
from receiver.testing import TurnableClock
from tests.hostile.certificates import CERTIFICATES, make_authority, make_server
from tests.hostile.corpus import NO_TRUST
from tests.support.factories import asset_work, no_bodies
from tests.support.fake_world import PUBLIC, FakeWorld
from tests.support.media_host import Answer, MediaHost, media_host, picture, repeats, says, writes

OK = b"HTTP/1.1 200 X\r\n"
PNG = picture("PNG")
LIMITS = AssetLimits(
    download=DownloadLimits(max_bytes=300_000, deadline_seconds=60, min_bytes_per_second=1000),
    max_task_bytes=10_000_000,
    max_pixels=1_000_000,
    kinds=frozenset({media.IMAGE}),
)


@pytest.fixture
async def client() -> AsyncIterator[GuardedClient]:
    client = GuardedClient(opened=(ip_network("127.0.0.0/8"),), tls=NO_TRUST)
    yield client
    await client.aclose()


@pytest.fixture
def fetcher(client: GuardedClient, tmp_path: Path) -> Fetcher:
    return fetcher_of(client, tmp_path)


# Nobody else is hurried: a busy machine may be slower than a hostile host.
HURRIED = {Outcome.TIMEOUT: {"deadline_seconds": 1.5}, Outcome.TOO_SLOW: {"window_seconds": 0.1}}


def fetcher_of(client: GuardedClient, folder: Path, expected: Outcome = Outcome.STORED) -> Fetcher:
    hurried = msgspec.structs.replace(LIMITS.download, **HURRIED.get(expected, {}))
    blobs = LocalBlobs(folder / "assets")
    return Fetcher(
        client=client,
        blobs=blobs,
        clock=TurnableClock(),
        staging=folder / "staging",
        limits=msgspec.structs.replace(LIMITS, download=hurried),
        bodies=no_bodies,
    )


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


async def flood(writer: asyncio.StreamWriter) -> None:
    """Chunks without end."""
    writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
    while True:
        writer.write(chunked(b"x" * 60_000))
        await writer.drain()


async def cut_off_at_99_percent(writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"content-length: %d\r\n\r\n" % len(PNG) + PNG[: len(PNG) * 99 // 100])
    await writer.drain()
    await asyncio.sleep(0.02)
    writer.transport.abort()


def with_type(body: bytes, media_type: str = "image/png") -> Answer:
    return says(200, body, f"content-type: {media_type}")


def encoded(body: bytes, encoding: str) -> Answer:
    return says(200, body, f"content-encoding: {encoding}", "content-type: image/png")


# name -> (answer, outcome)
RESPONSES: dict[str, tuple[Answer, Outcome]] = {
    # 82
    "an endless body": (repeats(b"x" * 60_000), Outcome.TOO_LARGE),
    "an endless body in chunks": (flood, Outcome.TOO_LARGE),
    "an endless body that starts as an image": (
        writes(OK + b"\r\n" + PNG, *[b"\0" * 60_000] * 20),
        Outcome.TOO_LARGE,
    ),
    # 83
    "a gzip bomb": (encoded(gzip.compress(b"\0" * 10_000_000), "gzip"), Outcome.TOO_LARGE),
    "a gzip bomb that starts as an image": (
        encoded(gzip.compress(PNG + b"\0" * 10_000_000), "gzip"),
        Outcome.TOO_LARGE,
    ),
    "a gzip of nothing without end": (
        writes(OK + b"content-encoding: gzip\r\n\r\n", *[gzip.compress(b"") * 3000] * 20),
        Outcome.TOO_LARGE,
    ),
    "a deflate bomb": (encoded(zlib.compress(b"\0" * 10_000_000), "deflate"), Outcome.TOO_LARGE),
    "a packed image": (encoded(gzip.compress(PNG), "gzip"), Outcome.STORED),
    "half a packed image": (encoded(gzip.compress(PNG)[:-500], "gzip"), Outcome.TRUNCATED),
    "a packed page": (encoded(gzip.compress(b"<!doctype html>"), "gzip"), Outcome.NOT_AN_IMAGE),
    "a brotli bomb": (encoded(b"\xcf\xff\xff\x7f\xf8\x27\x00" * 1000, "br"), Outcome.NOT_AN_IMAGE),
    "a zstd bomb": (encoded(b"\x28\xb5\x2f\xfd" + b"\0" * 1000, "zstd"), Outcome.NOT_AN_IMAGE),
    "a bomb in a bomb": (
        encoded(gzip.compress(gzip.compress(b"\0" * 10_000_000)), "gzip, gzip"),
        Outcome.NOT_AN_IMAGE,
    ),
    "an image that says it is packed": (encoded(PNG, "gzip"), Outcome.STORED),
    "an image with a label of nothing": (encoded(PNG, "base64"), Outcome.STORED),
    "a bomb that says nothing of it": (with_type(gzip.compress(b"\0" * 10_000_000)), Outcome.NOT_AN_IMAGE),
    "a bomb as a transfer encoding": (
        writes(OK + b"transfer-encoding: gzip, chunked\r\n\r\n" + chunked(gzip.compress(b"\0" * 1000))),
        Outcome.INTERRUPTED,
    ),
    # 84
    "a length that is too long": (says(200, PNG, length=len(PNG) + 1), Outcome.INTERRUPTED),
    "a length far too long": (says(200, PNG, length=299_999), Outcome.INTERRUPTED),
    "a length beyond the limit": (says(200, PNG, length=10**15), Outcome.TOO_LARGE),
    "a length of 5,000 digits": (
        writes(OK + b"content-length: " + b"9" * 5000 + b"\r\n\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    "a length that is too short": (says(200, PNG, length=len(PNG) - 1), Outcome.TRUNCATED),
    "a length of nothing": (says(200, PNG, length=0), Outcome.TRUNCATED),
    "a negative length": (writes(OK + b"content-length: -1\r\n\r\n" + PNG), Outcome.INTERRUPTED),
    "two lengths": (
        writes(OK + b"content-length: 1\r\ncontent-length: %d\r\n\r\n" % len(PNG) + PNG),
        Outcome.INTERRUPTED,
    ),
    "a chunk that is too long": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % (len(PNG) + 1) + PNG),
        Outcome.INTERRUPTED,
    ),
    "a chunk of 10^19 bytes": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    "chunks without their end": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n" + chunked(PNG)),
        Outcome.INTERRUPTED,
    ),
    "a reset at 99 %": (cut_off_at_99_percent, Outcome.INTERRUPTED),
    "half an image and no length": (writes(OK + b"\r\n" + PNG[: len(PNG) // 2]), Outcome.TRUNCATED),
    # 85
    "one byte at a time": (repeats(b"x", pause_seconds=0.02), Outcome.TOO_SLOW),
    "one byte at a time in chunks": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 50, pause_seconds=0.02),
        Outcome.TOO_SLOW,
    ),
    "one byte of a header at a time": (writes(OK, *[b"x"] * 200, pause_seconds=0.02), Outcome.TIMEOUT),
    "a body that never begins": (writes(OK + b"content-length: 5\r\n\r\n", pause_seconds=5), Outcome.TIMEOUT),
    "nothing at all": (writes(b"", pause_seconds=5), Outcome.TIMEOUT),
    # 86
    "HTML as an image": (with_type(b"<!doctype html><title>Sign in</title>"), Outcome.NOT_AN_IMAGE),
    "JSON as an image": (with_type(b'{"error": "expired"}'), Outcome.NOT_AN_IMAGE),
    "XML as an image": (with_type(b"<?xml version='1.0'?><Error/>"), Outcome.NOT_AN_IMAGE),
    "SVG as an image": (with_type(b"<svg onload='alert(1)'/>", "image/svg+xml"), Outcome.NOT_AN_IMAGE),
    "part of an image": (says(206, PNG, f"content-range: bytes 0-9/{len(PNG)}"), Outcome.HTTP_ERROR),
    "an expired link": (says(403, b"<Error>expired</Error>"), Outcome.GONE),
    "an upgrade": (
        writes(b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    # 87
    "a header of 3 MB": (writes(OK + b"x: " + b"a" * 3_000_000 + b"\r\n\r\n" + PNG), Outcome.INTERRUPTED),
    "a hundred headers of 30 kB": (
        writes(OK + (b"x: " + b"a" * 30_000 + b"\r\n") * 100 + b"\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    "200,000 headers": (writes(OK + b"x: y\r\n" * 200_000 + b"\r\n" + PNG), Outcome.INTERRUPTED),
    "10,000 headers": (writes(OK + b"x: y\r\n" * 10_000 + b"\r\n" + PNG), Outcome.STORED),
    "a status line of 1 MB": (writes(b"HTTP/1.1 200 " + b"X" * 1_000_000 + b"\r\n\r\n"), Outcome.INTERRUPTED),
    "interim answers without end": (
        writes(b"HTTP/1.1 100 X\r\n\r\n" * 50_000, OK + b"\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    "large interim answers without end": (
        writes((b"HTTP/1.1 103 X\r\n" + b"link: x\r\n" * 100 + b"\r\n") * 1000, OK + b"\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    "a chunk for every byte": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 160_000 + b"0\r\n\r\n"),
        Outcome.TOO_SLOW,
    ),
    "a chunk extension for every byte": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n" + (b"1;" + b"e" * 90 + b"\r\nx\r\n") * 10_000),
        Outcome.TOO_SLOW,
    ),
    "a chunk extension of 1 MB": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n1;" + b"e" * 1_000_000 + b"\r\nx\r\n0\r\n\r\n"),
        Outcome.INTERRUPTED,
    ),
    "trailers without end": (
        writes(OK + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 200_000),
        Outcome.INTERRUPTED,
    ),
    "another protocol": (writes(b"220 smtp.example ready\r\n"), Outcome.INTERRUPTED),
    "HTTP 0.9": (writes(PNG), Outcome.INTERRUPTED),
    "HTTP 2": (writes(b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18), Outcome.INTERRUPTED),
    "NUL in a header": (writes(OK + b"x: a\0b\r\n\r\n" + PNG), Outcome.INTERRUPTED),
    "malformed lines": (
        writes(OK + b"X-Frame-Options : DENY\r\nno colon\r\nHTTP/1.1 200 OK\r\n\r\n" + PNG),
        Outcome.STORED,
    ),
    "60 kB of malformed lines": (writes(OK + b"x : y\r\n" * 8_500 + b"\r\n" + PNG), Outcome.STORED),
    "a length with a blank before its colon": (
        writes(OK + b"Content-Length : 5\r\n\r\n" + PNG),
        Outcome.INTERRUPTED,
    ),
    "bare line ends": (writes(b"HTTP/1.1 200 X\n\n" + PNG), Outcome.STORED),
    "folded headers": (writes(OK + b"x: a\r\n b\r\n\r\n" + PNG), Outcome.STORED),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_what_a_hostile_host_answers_is_an_outcome(
    host: MediaHost, client: GuardedClient, tmp_path: Path, name: str
) -> None:
    answer, outcome = RESPONSES[name]
    fetcher = fetcher_of(client, tmp_path, outcome)
    settlement = await fetcher.fetch(asset_work(host.put("/x", answer)))
    assert settlement.outcome is outcome, settlement.detail
    assert list((tmp_path / "staging").iterdir()) == []
    files = [path for path in (tmp_path / "assets").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in files] == ([PNG] if outcome is Outcome.STORED else [])
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    "name",
    [
        "interim answers without end",
        "large interim answers without end",
        "a chunk for every byte",
        "a chunk extension for every byte",
        "200,000 headers",
    ],
)
async def test_a_megabyte_of_nothing_takes_little_time(host: MediaHost, fetcher: Fetcher, name: str) -> None:
    url = host.put("/x", RESPONSES[name][0])
    seconds = []
    for _ in range(3):
        began = time.process_time()
        await fetcher.fetch(asset_work(url))
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.4  # a tenth of that here; without bounds up to two seconds


@pytest.mark.parametrize(
    "answer",
    [
        writes(OK + b"transfer-encoding: chunked\r\n\r\n" + chunked(*[bytes([b]) for b in PNG[:1000]]),
               chunked(PNG[1000:], b"")),
        writes(OK + b"transfer-encoding: chunked\r\n\r\n"
               + chunked(*[PNG[n : n + 300] for n in range(0, len(PNG), 300)], b"")),
        writes(b"HTTP/1.1 103 X\r\nlink: </x>; rel=preload\r\n\r\n" * 50, OK + b"\r\n" + PNG),
        writes(OK, *[b"x-%d: y\r\n" % n for n in range(50)], b"\r\n" + PNG),
    ],
    ids=["a thousand single bytes", "small chunks", "fifty early hints", "headers one by one"],
)  # fmt: skip
async def test_an_odd_but_honest_host_is_served(host: MediaHost, fetcher: Fetcher, answer: Answer) -> None:
    assert len(PNG) < 300_000
    assert FREE_PIECES > 1000
    assert (await fetcher.fetch(asset_work(host.put("/x", answer)))).outcome is Outcome.STORED


# --- certificates ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("authority")
    return folder, make_authority(folder)


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_only_a_good_certificate_is_taken(
    authority: tuple[Path, ssl.SSLContext], tmp_path: Path, name: str
) -> None:
    folder, trust = authority
    async with media_host(make_server(folder, CERTIFICATES[name])) as host:
        host.otherwise = says(200, PNG)
        world = FakeWorld({}, host.port, otherwise=[PUBLIC])
        client = GuardedClient(resolve=world.resolve, dial=world.dial, tls=trust)
        settlement = await fetcher_of(client, tmp_path).fetch(
            asset_work("https://files.example.com/secret.png")
        )
        await client.aclose()
    assert settlement.outcome is (Outcome.STORED if name == "good" else Outcome.TLS_FAILED)
    assert CERTIFICATES[name].words in (settlement.detail or "")
    assert "example" not in (settlement.detail or "")
    assert "93.184" not in (settlement.detail or "")
    assert len(host.requests) == (name == "good")  # nobody unproven ever sees the link


# --- failures that are not the HTTP client's own --------------------------------------------------


class Broken:
    """A world in which asking for a name, or dialling, fails in some way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        raise self.error

    async def dial(self, address: str, port: int, timeout_seconds: float) -> SocketStream:
        raise self.error


ERRORS: list[tuple[Exception, Outcome]] = [
    (OSError(24, "Too many open files at https://files.example.com/secret"), Outcome.INTERRUPTED),
    (ConnectionResetError(104, "reset"), Outcome.INTERRUPTED),
    (TimeoutError("late"), Outcome.INTERRUPTED),
    (UnicodeError("label empty or too long"), Outcome.BAD_URL),
    (ValueError("secret"), Outcome.INTERRUPTED),
    (ssl.SSLError("secret"), Outcome.TLS_FAILED),
    (httpcore2.ConnectError("secret"), Outcome.CONNECT_FAILED),
    (httpcore2.ReadError("secret"), Outcome.INTERRUPTED),
    (httpcore2.PoolTimeout("secret"), Outcome.TIMEOUT),
    (h11.LocalProtocolError("secret"), Outcome.BAD_URL),
    (h11.RemoteProtocolError("secret"), Outcome.INTERRUPTED),
    (anyio.BrokenResourceError("secret"), Outcome.CRASHED),
    (EOFError("secret"), Outcome.CRASHED),
    (RuntimeError("secret"), Outcome.CRASHED),
    (KeyError("secret"), Outcome.CRASHED),
    (RecursionError("secret"), Outcome.CRASHED),
    (MemoryError("secret"), Outcome.CRASHED),
    (ExceptionGroup("secret", [OSError("secret")]), Outcome.CRASHED),
]


@pytest.mark.parametrize(("error", "outcome"), ERRORS, ids=lambda value: type(value).__name__)
async def test_any_exception_from_the_wire_is_an_outcome_that_tells_no_secret(
    tmp_path: Path, error: Exception, outcome: Outcome
) -> None:
    client = GuardedClient(dial=Broken(error).dial, tls=NO_TRUST)
    settlement = await fetcher_of(client, tmp_path).fetch(asset_work(f"https://{PUBLIC}/secret"))
    await client.aclose()
    assert settlement.outcome is outcome
    assert "secret" not in (settlement.detail or "")


@pytest.mark.parametrize(("error", "outcome"), ERRORS, ids=lambda value: type(value).__name__)
async def test_any_exception_from_the_resolver_is_an_outcome_that_tells_no_secret(
    tmp_path: Path, error: Exception, outcome: Outcome
) -> None:
    client = GuardedClient(resolve=Broken(error).resolve, tls=NO_TRUST)
    settlement = await fetcher_of(client, tmp_path).fetch(asset_work("https://files.example.com/secret"))
    await client.aclose()
    said = Outcome.DNS_FAILED if isinstance(error, OSError | UnicodeError) else outcome
    assert settlement.outcome is said
    assert "secret" not in (settlement.detail or "")
