import asyncio
import gzip
import hashlib
import os
import resource
import tracemalloc
import zlib
from datetime import UTC, datetime
from email.utils import format_datetime
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from receiver.errors import FetchFailed
from receiver.fetching.client import GuardedClient
from receiver.fetching.connection import BUFFER_BYTES
from receiver.fetching.download import Downloaded, DownloadLimits, DownloadThreads, download
from receiver.models import Outcome
from receiver.testing import TurnableClock
from tests.support.fake_world import PUBLIC, FakeWorld, make_trust
from tests.support.media_host import Answer, MediaHost, media_host, picture, redirects, repeats, says, writes
from tests.support.waiting import until

LIMITS = DownloadLimits(max_bytes=5_000_000, deadline_seconds=60, min_bytes_per_second=1000, max_redirects=3)
IMPATIENT = msgspec.structs.replace(LIMITS, window_seconds=0.2)


class Getter:
    """Downloads into one folder and looks what is left there."""

    def __init__(self, client: GuardedClient, folder: Path) -> None:
        self.client = client
        self.path = folder / "file"
        self.clock = TurnableClock()
        self.threads = DownloadThreads()
        self.taken: list[int] = []

    async def get(
        self, url: str, limits: DownloadLimits = LIMITS, *, hosts: tuple[str, ...] = ()
    ) -> Downloaded:
        got, looked_at = await download(
            self.client,
            url,
            self.path,
            limits,
            clock=self.clock,
            take=self.taken.append,
            look=lambda path: path.stat().st_size,
            threads=self.threads,
            hosts=hosts,
        )
        assert looked_at == got.bytes
        return got

    async def fail(
        self, url: str, limits: DownloadLimits = LIMITS, *, hosts: tuple[str, ...] = ()
    ) -> FetchFailed:
        with pytest.raises(FetchFailed) as caught:
            await self.get(url, limits, hosts=hosts)
        assert not self.path.exists()
        for secret in ("127.0.0.1", "http:", "/x", "secret"):
            assert secret not in str(caught.value)
        return caught.value


@pytest.fixture
def getter(client: GuardedClient, tmp_path: Path) -> Getter:
    return Getter(client, tmp_path)


# --- what arrives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES + 7])
async def test_a_file_arrives_whole_and_is_hashed(host: MediaHost, getter: Getter, size: int) -> None:
    body = os.urandom(size)
    got = await getter.get(host.put("/x", says(200, body)))
    assert got == Downloaded(bytes=size, sha256=hashlib.sha256(body).hexdigest())
    assert getter.path.read_bytes() == body


@pytest.mark.parametrize(
    "answer",
    [
        writes(b"HTTP/1.1 200 X\r\n\r\nbytes"),
        writes(b"HTTP/1.0 200 X\r\n\r\nby", b"tes"),
        writes(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nby\r\n3\r\ntes\r\n0\r\n\r\n"),
        writes(
            b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n",
            b"transfer-encoding: chunked\r\n\r\n5\r\nbytes\r\n0\r\n\r\n",
        ),
        writes(b"HTTP/1.1 200 X\r\ncontent-length: 5, 5\r\ncontent-encoding: identity\r\n\r\nbytes"),
        writes(b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 X\r\n\r\nbytes"),
    ],
)
async def test_every_way_to_frame_a_body_is_understood(
    host: MediaHost, getter: Getter, answer: Answer
) -> None:
    assert (await getter.get(host.put("/x", answer))).bytes == 5
    assert getter.path.read_bytes() == b"bytes"


async def test_a_large_file_passes_through_a_small_memory(host: MediaHost, getter: Getter) -> None:
    limits = DownloadLimits(max_bytes=100_000_000, deadline_seconds=60)
    url = host.put("/x", repeats(b"x" * 500_000, times=100))
    await getter.get(host.put("/warm-up", says(200, b"x" * BUFFER_BYTES)), limits)
    getter.path.unlink()
    tracemalloc.start()
    try:
        assert (await getter.get(url, limits)).bytes == 50_000_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


async def test_an_existing_file_is_not_overwritten(host: MediaHost, getter: Getter) -> None:
    getter.path.write_bytes(b"another's")
    with pytest.raises(FetchFailed) as caught:
        await getter.get(host.put("/x", says(200, b"bytes")))
    assert caught.value.outcome is Outcome.STORAGE_FAILED
    assert getter.path.read_bytes() == b"another's"


# --- limits ---------------------------------------------------------------------------------------


async def test_a_declared_length_beyond_the_limit_is_refused_before_the_body(
    host: MediaHost, getter: Getter
) -> None:
    url = host.put("/x", says(200, b"", length=LIMITS.max_bytes + 1))
    assert (await getter.fail(url)).outcome is Outcome.TOO_LARGE


async def test_the_limit_itself_is_allowed(host: MediaHost, getter: Getter) -> None:
    limits = DownloadLimits(max_bytes=1000, deadline_seconds=5)
    assert (await getter.get(host.put("/x", says(200, b"x" * 1000)), limits)).bytes == 1000
    getter.path.unlink()
    assert (await getter.fail(host.put("/x", says(200, b"x" * 1001)), limits)).outcome is Outcome.TOO_LARGE


@pytest.mark.parametrize("framing", [b"HTTP/1.1 200 X\r\n\r\n", None])
async def test_an_endless_body_is_cut_off_at_the_limit(
    host: MediaHost, getter: Getter, framing: bytes | None
) -> None:
    async def chunks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()

    url = host.put("/x", repeats(b"x" * 65536) if framing else chunks)
    assert (await getter.fail(url)).outcome is Outcome.TOO_LARGE


async def test_a_body_that_trickles_is_too_slow(host: MediaHost, getter: Getter) -> None:
    url = host.put("/x", repeats(b"x", pause_seconds=0.02))
    assert (await getter.fail(url, IMPATIENT)).outcome is Outcome.TOO_SLOW


async def test_a_fast_start_does_not_buy_a_slow_rest(host: MediaHost, getter: Getter) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 1_000_000)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert (await getter.fail(host.put("/x", answer), IMPATIENT)).outcome is Outcome.TOO_SLOW


async def test_a_small_file_may_be_slow_within_one_window(host: MediaHost, getter: Getter) -> None:
    pieces = writes(b"HTTP/1.1 200 X\r\n\r\n", *[b"x"] * 5, pause_seconds=0.01)
    assert (await getter.get(host.put("/x", pieces))).bytes == 5


async def test_the_deadline_covers_everything(host: MediaHost, getter: Getter) -> None:
    limits = DownloadLimits(max_bytes=5_000_000, deadline_seconds=0.2, min_bytes_per_second=1)
    url = host.put("/x", repeats(b"x" * 1000, pause_seconds=0.02))
    assert (await getter.fail(url, limits)).outcome is Outcome.TIMEOUT


async def test_a_host_that_stalls_is_a_timeout(host: MediaHost, tmp_path: Path) -> None:
    async def stall(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\nbegun")
        await asyncio.sleep(30)

    client = GuardedClient(opened=(ip_network("127.0.0.0/8"),), read_seconds=0.1)
    try:
        failure = await Getter(client, tmp_path).fail(host.put("/x", stall))
    finally:
        await client.aclose()
    assert failure.outcome is Outcome.TIMEOUT


# --- lengths and encodings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        says(200, b"half", length=8),
        writes(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf"),
        writes(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        says(200, b"x" * 1_000_000, length=1_010_000),
    ],
)
async def test_a_body_shorter_than_promised_is_interrupted(
    host: MediaHost, getter: Getter, answer: Answer
) -> None:
    assert (await getter.fail(host.put("/x", answer))).outcome is Outcome.INTERRUPTED


async def test_a_reset_in_the_middle_is_interrupted(host: MediaHost, getter: Getter) -> None:
    async def reset(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 990_000)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    assert (await getter.fail(host.put("/x", reset))).outcome is Outcome.INTERRUPTED


async def test_a_body_longer_than_promised_is_cut_where_it_was_promised_to_end(
    host: MediaHost, getter: Getter
) -> None:
    # And the rest is not taken for the answer to the next request.
    url = host.put("/x", says(200, b"bytes and more", length=5))
    assert (await getter.get(url)).bytes == 5
    getter.path.unlink()
    assert (await getter.get(url)).bytes == 5


@pytest.mark.parametrize(
    "lines",
    [
        *(
            [f"content-encoding: {label}"]
            for label in ("base64", "UTF-8", "binary", "none", "aws-chunked", "identity", "utf-8, binary", "")
        ),
        ["content-encoding: base64", "content-encoding: none"],
        ["content-encoding: gzip"],  # which it is not, as its first bytes show
    ],
)
async def test_a_label_that_is_no_coding_leaves_the_bytes_as_they_are(
    host: MediaHost, getter: Getter, lines: list[str]
) -> None:
    body = picture()
    assert (await getter.get(host.put("/x", says(200, body, *lines)))).bytes == len(body)
    assert getter.path.read_bytes() == body


@pytest.mark.parametrize("label", ["gzip", "X-GZIP", "deflate", "gzip, identity", "aws-chunked,gzip"])
async def test_a_packed_body_is_unpacked_and_hashed_as_it_is_then(
    host: MediaHost, getter: Getter, label: str
) -> None:
    body = os.urandom(100) * 30_000
    packed = zlib.compress(body) if label == "deflate" else gzip.compress(body)
    got = await getter.get(host.put("/x", says(200, packed, f"content-encoding: {label}")))
    assert got == Downloaded(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    assert getter.path.read_bytes() == body


async def test_the_limit_is_of_unpacked_bytes_and_a_bomb_takes_little_memory(
    host: MediaHost, getter: Getter
) -> None:
    limits = DownloadLimits(max_bytes=20_000_000, deadline_seconds=60)
    within, beyond = gzip.compress(b"\0" * 20_000_000), gzip.compress(b"\0" * 200_000_000)
    label = "content-encoding: gzip"
    assert (await getter.get(host.put("/x", says(200, within, label)), limits)).bytes == 20_000_000
    getter.path.unlink()
    url = host.put("/x", says(200, beyond, label))
    tracemalloc.start()
    try:
        assert (await getter.fail(url, limits)).outcome is Outcome.TOO_LARGE
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


async def test_packed_bytes_that_come_to_nothing_count_against_the_limit(
    host: MediaHost, getter: Getter
) -> None:
    url = host.put(
        "/x", writes(b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\n\r\n", *[gzip.compress(b"") * 5000] * 100)
    )
    limits = DownloadLimits(max_bytes=1_000_000, deadline_seconds=60)
    assert (await getter.fail(url, limits)).outcome is Outcome.TOO_LARGE


async def test_a_length_counts_the_bytes_as_they_come(host: MediaHost, getter: Getter) -> None:
    packed = gzip.compress(b"x" * 100_000)
    label = "content-encoding: gzip"
    assert (await getter.get(host.put("/x", says(200, packed, label)))).bytes == 100_000
    getter.path.unlink()
    url = host.put("/x", says(200, packed, label, length=len(packed) + 1))
    assert (await getter.fail(url)).outcome is Outcome.INTERRUPTED
    url = host.put("/x", says(200, packed, label, length=len(packed) - 1))
    assert (await getter.fail(url)).outcome is Outcome.TRUNCATED


@pytest.mark.parametrize("label", ["br", "zstd", "compress", "dcb", "dcz", "gzip, gzip", "gzip, br"])
async def test_a_coding_that_is_not_unpacked_is_refused_in_words(
    host: MediaHost, getter: Getter, label: str
) -> None:
    failure = await getter.fail(host.put("/x", says(200, b"packed", f"content-encoding: {label}")))
    assert failure.outcome is Outcome.NOT_AN_IMAGE
    assert "packed" in str(failure)


# --- malformed lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["X-Frame-Options : DENY", "HTTP/1.1 200 OK", "X Powered By: PHP", "no colon", ": x", "X-\xe9: y"]
)
async def test_a_malformed_line_that_decides_nothing_is_passed_over(
    host: MediaHost, getter: Getter, line: str
) -> None:
    bad = f"{line}\r\n".encode("latin-1")
    body = b"%s\r\n\r\n%s" % (bad, bad)  # as it is
    interim = b"HTTP/1.1 103 X\r\n%s\r\n" % bad
    head = b"HTTP/1.1 200 X\r\n%scontent-length: %d\r\n%s\r\n" % (bad, len(body), bad)
    for answer in (says(200, body, line), writes(interim + head + body), writes(interim, head, body)):
        assert (await getter.get(host.put("/x", answer))).bytes == len(body)
        assert getter.path.read_bytes() == body
        getter.path.unlink()
    host.put("/y", says(200, b"bytes"))
    assert (await getter.get(host.put("/x", says(302, b"", line, "location: /y")))).bytes == 5


@pytest.mark.parametrize(
    "line",
    [
        *("Content-Length : 5", "Transfer-Encoding : chunked", "Content-Encoding : gzip", "Location : /y"),
        *(
            " Content-Length: 5",
            "Content Length: 5",
            "X: y\rContent-Length: 5",
            "X : y\r\n Content-Length: 5",
        ),
        *("content-length: 5x", "content-length: -5", "transfer-encoding: x", "X: a\0b"),
    ],
)
async def test_a_malformed_line_that_could_decide_is_the_end_of_it(
    host: MediaHost, getter: Getter, line: str
) -> None:
    url = host.put("/x", writes(f"HTTP/1.1 200 X\r\n{line}\r\n\r\nbytes and more".encode()))
    assert (await getter.fail(url)).outcome is Outcome.INTERRUPTED


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Outcome.GONE) for status in (400, 401, 403, 404, 410)),
        (429, Outcome.RATE_LIMITED),
        *((status, Outcome.HTTP_ERROR) for status in (402, 408, 409, 421, 423, 425, 500, 502, 503, 504, 599)),
        *((status, Outcome.HTTP_ERROR) for status in (202, 204, 205, 206, 226, 300, 304)),
        *((status, Outcome.REFUSED) for status in (405, 406, 412, 414, 416, 419, 451, 498)),
    ],
)
async def test_a_status_is_an_outcome(host: MediaHost, getter: Getter, status: int, outcome: Outcome) -> None:
    body = b"" if status in (204, 205, 304) else b"<html>secret</html>"
    assert (await getter.fail(host.put("/x", says(status, body)))).outcome is outcome


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("9" * 400, 86_400.0),
        (format_datetime(datetime(2026, 1, 1, 0, 2, tzinfo=UTC), usegmt=True), 120.0),
        ("soon", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [202, 429, 503])
async def test_a_wish_to_be_left_alone_is_passed_on(
    host: MediaHost, getter: Getter, value: str, seconds: float | None, status: int
) -> None:
    failure = await getter.fail(host.put("/x", says(status, b"", f"retry-after: {value}")))
    assert failure.retry_after_seconds == seconds


async def test_only_those_answers_may_ask_for_time(host: MediaHost, getter: Getter) -> None:
    failure = await getter.fail(host.put("/x", says(404, b"", "retry-after: 7")))
    assert failure.retry_after_seconds is None


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(host: MediaHost, getter: Getter, status: int) -> None:
    host.put("/y", says(200, b"bytes"))
    assert (await getter.get(host.put("/x", redirects("/y", status)))).bytes == 5


@pytest.mark.parametrize("location", ["y?a=%2B", "./y?a=%2B", "/y?a=%2B#part", "//127.0.0.1:{port}/y?a=%2B"])
async def test_a_relative_redirect_starts_from_where_it_was_found(
    host: MediaHost, getter: Getter, location: str
) -> None:
    host.put("/y?a=%2B", says(200, b"bytes"))
    assert (await getter.get(host.put("/x", redirects(location.format(port=host.port))))).bytes == 5


async def test_a_redirect_in_raw_utf_8_is_understood(host: MediaHost, getter: Getter) -> None:
    host.put("/%E5%9B%BE", says(200, b"bytes"))
    url = host.put("/x", redirects("/图".encode().decode("latin-1")))
    assert (await getter.get(url)).bytes == 5


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/my image (1).png", "/my%20image%20(1).png"),
        ("my image.png?a b#c d", "/my%20image.png?a%20b"),
        ("  /y \t", "/y"),
        ('/"<y>"', "/%22%3Cy%3E%22"),
        ("/caf\xe9.png", "/caf%E9.png"),  # in Latin-1
        ("/\u3000y".encode().decode("latin-1"), "/%E3%80%80y"),
    ],
)
async def test_a_redirect_is_taken_as_hosts_write_it(
    host: MediaHost, getter: Getter, location: str, path: str
) -> None:
    host.put(path, says(200, b"bytes"))
    assert (await getter.get(host.put("/x", redirects(location)))).bytes == 5


async def test_a_link_is_taken_as_hosts_write_it(host: MediaHost, getter: Getter) -> None:
    url = host.put("/my%20image%20(1).png?a%20b", says(200, b"bytes"))
    written = url.replace("%20", " ")
    for link in (written, f" {written}", f"\r\n{written}\n"):
        assert (await getter.get(link)).bytes == 5
        getter.path.unlink()


async def test_three_redirects_are_followed_and_a_fourth_is_not(host: MediaHost, getter: Getter) -> None:
    for number in range(4):
        host.put(f"/{number}", redirects(f"/{number + 1}"))
    host.put("/4", says(200, b"bytes"))
    assert (await getter.get(host.url("/1"))).bytes == 5
    getter.path.unlink()
    assert (await getter.fail(host.url("/0"))).outcome is Outcome.BAD_REDIRECT


async def test_a_redirect_loop_ends(host: MediaHost, getter: Getter) -> None:
    assert (await getter.fail(host.put("/x", redirects("/x")))).outcome is Outcome.BAD_REDIRECT
    assert len(host.requests) == 4


@pytest.mark.parametrize(
    ("location", "outcome"),
    [
        ("http://169.254.169.254/latest/meta-data/", Outcome.PRIVATE_ADDRESS),
        ("https://10.0.0.1/", Outcome.PRIVATE_ADDRESS),
        ("//10.0.0.1/", Outcome.PRIVATE_ADDRESS),
        ("http://[::ffff:169.254.169.254]/", Outcome.PRIVATE_ADDRESS),
        ("https://[::1]/", Outcome.PRIVATE_ADDRESS),
        ("http://2852039166/", Outcome.BAD_REDIRECT),
        ("https://user:secret@127.0.0.1/", Outcome.BAD_REDIRECT),
        ("http://8.8.8.8/", Outcome.BAD_REDIRECT),
        ("file:///etc/passwd", Outcome.BAD_REDIRECT),
        ("gopher://127.0.0.1:6379/_FLUSHALL", Outcome.BAD_REDIRECT),
        ("data:image/png;base64,AAAA", Outcome.BAD_REDIRECT),
        ("https://[", Outcome.BAD_REDIRECT),
        ("https://exa mple.com/", Outcome.BAD_REDIRECT),
        ("\x00", Outcome.INTERRUPTED),
        ("//exam\xffple.com/", Outcome.BAD_REDIRECT),
        ("/a\tb", Outcome.BAD_REDIRECT),
        ("/\x85\tb", Outcome.BAD_REDIRECT),
        ("/a\\b", Outcome.BAD_REDIRECT),
        ("", Outcome.BAD_REDIRECT),
        ("/" + "a" * 10_000, Outcome.BAD_REDIRECT),
    ],
)
async def test_a_redirect_is_judged_like_a_link(
    host: MediaHost, getter: Getter, location: str, outcome: Outcome
) -> None:
    assert (await getter.fail(host.put("/x", redirects(location)))).outcome is outcome
    assert len(host.requests) == 1


async def test_a_redirect_without_a_location_leads_nowhere(host: MediaHost, getter: Getter) -> None:
    assert (await getter.fail(host.put("/x", says(302)))).outcome is Outcome.BAD_REDIRECT


async def test_a_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    trust = make_trust(tmp_path)
    async with media_host(trust.server) as host:
        host.put("/x", redirects("http://127.0.0.1:8080/y"))
        world = FakeWorld({"files.example.com": [[PUBLIC]]}, host.port)
        client = GuardedClient(
            opened=(ip_network("127.0.0.0/8"),), tls=trust.client, resolve=world.resolve, dial=world.dial
        )
        failure = await Getter(client, tmp_path).fail("https://files.example.com/x")
        await client.aclose()
    assert failure.outcome is Outcome.BAD_REDIRECT
    assert world.dialled == [PUBLIC]


async def test_a_redirect_must_stay_on_the_list_of_hosts(host: MediaHost, getter: Getter) -> None:
    url = host.put("/x", redirects("https://elsewhere.example/"))
    assert (await getter.fail(url, hosts=("127.0.0.1",))).outcome is Outcome.HOST_NOT_ALLOWED
    assert (await getter.fail(url, hosts=("files.example.com",))).outcome is Outcome.HOST_NOT_ALLOWED
    assert len(host.requests) == 1


async def test_a_refresh_header_is_no_redirect(host: MediaHost, getter: Getter) -> None:
    url = host.put(
        "/x", says(200, b"bytes", "refresh: 0; url=http://10.0.0.1/", "location: http://10.0.0.1/")
    )
    assert (await getter.get(url)).bytes == 5


# --- our own side ---------------------------------------------------------------------------------


async def test_a_cancelled_download_leaves_no_file(host: MediaHost, getter: Getter) -> None:
    begun = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        for _ in range(30):
            writer.write(b"x" * 100_000)
            await writer.drain()
        begun.set()
        await asyncio.sleep(30)

    task = asyncio.create_task(getter.get(host.put("/x", answer)))
    await begun.wait()
    await until(getter.path.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(getter.threads.writing.shutdown)  # what was being written has been
    assert not getter.path.exists()


async def test_no_place_to_write_is_our_own_failure(
    host: MediaHost, client: GuardedClient, tmp_path: Path
) -> None:
    failure = await Getter(client, tmp_path / "missing").fail(host.put("/x", says(200, b"bytes")))
    assert failure.outcome is Outcome.STORAGE_FAILED


async def test_a_disk_that_takes_no_more_is_our_own_failure(host: MediaHost, getter: Getter) -> None:
    url = host.put("/x", says(200, b"x" * 3_000_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        failure = await getter.fail(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.outcome is Outcome.STORAGE_FAILED
