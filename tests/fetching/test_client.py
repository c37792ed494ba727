import asyncio
import logging
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import httpx2
import pytest

from receiver.errors import FetchFailed
from receiver.fetching.addresses import Target
from receiver.fetching.client import (
    MAX_ADDRESSES,
    GuardedClient,
    SystemResolver,
    authorities,
    is_our_address,
    open_plain_client,
)
from receiver.models import Outcome
from tests.support.fake_world import OTHER_PUBLIC, PUBLIC, FakeWorld, Trust, make_trust
from tests.support.media_host import listening, media_host, says, writes

LOOPBACK = (ip_network("127.0.0.0/8"),)


async def fetch(client: GuardedClient, url: str) -> bytes:
    async with client.get(client.check(url)) as response:
        return b"".join([part async for part in response.parts()])


async def outcome_of(client: GuardedClient, url: str) -> Outcome:
    with pytest.raises(FetchFailed) as caught:
        await fetch(client, url)
    assert "example" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    return caught.value.outcome


@asynccontextmanager
async def closing(client: GuardedClient) -> AsyncIterator[GuardedClient]:
    try:
        yield client
    finally:
        await client.aclose()


def guarded(world: FakeWorld, tls: ssl.SSLContext | None = None) -> GuardedClient:
    return GuardedClient(resolve=world.resolve, dial=world.dial, tls=tls)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("tls"))


# --- what is dialled ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.7"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::a9fe:a9fe"],
        ["fd00:ec2::254"],
        ["fe80::1%eth0"],
        [PUBLIC, "127.0.0.1"],  # one good answer does not make up for a bad one
        [PUBLIC, "::1"],
        [OTHER_PUBLIC, PUBLIC, "192.168.0.1"],
        ["not an address"],
    ],
)
async def test_a_name_with_any_private_address_is_refused_and_nothing_is_dialled(
    addresses: list[str],
) -> None:
    world = FakeWorld({"files.example.com": [addresses]})
    async with closing(guarded(world)) as client:
        assert await outcome_of(client, "https://files.example.com/x") is Outcome.PRIVATE_ADDRESS
    assert world.dialled == []


async def test_the_judged_address_is_dialled_without_asking_again(tls: Trust) -> None:
    async with media_host(tls.server) as host:
        host.put("/x?sig=a%2Bb", says(200, b"bytes"))
        world = FakeWorld({"files.example.com": [[PUBLIC], ["127.0.0.1"]]}, host.port)
        async with closing(guarded(world, tls.client)) as client:
            assert await fetch(client, "https://files.example.com/x?sig=a%2Bb") == b"bytes"
    assert world.resolved == ["files.example.com"]
    assert world.dialled == [PUBLIC]


async def test_a_name_that_turns_private_is_refused_the_second_time(tls: Trust) -> None:
    async with media_host(tls.server) as host:
        host.put("/x", says(200, b"bytes"))
        world = FakeWorld({"files.example.com": [[PUBLIC], ["127.0.0.1"]]}, host.port)
        async with closing(guarded(world, tls.client)) as client:
            assert await fetch(client, "https://files.example.com/x") == b"bytes"
            assert await outcome_of(client, "https://files.example.com/x") is Outcome.PRIVATE_ADDRESS
    assert world.dialled == [PUBLIC]


async def test_a_dead_address_leaves_the_next_its_turn(tls: Trust) -> None:
    async with media_host(tls.server) as host:
        host.put("/x", says(200, b"bytes"))
        world = FakeWorld({"files.example.com": [[OTHER_PUBLIC, PUBLIC]]}, host.port)
        world.dead = {OTHER_PUBLIC}
        async with closing(guarded(world, tls.client)) as client:
            assert await fetch(client, "https://files.example.com/x") == b"bytes"
    assert world.dialled == [OTHER_PUBLIC, PUBLIC]


async def test_a_target_that_nobody_checked_is_still_judged_when_dialled() -> None:
    world = FakeWorld({"files.example.com": [[PUBLIC]]})
    async with closing(guarded(world)) as client:
        for target in (
            Target(scheme="https", host="127.0.0.1", port=443, path="/"),
            Target(scheme="http", host="10.0.0.1", port=80, path="/"),
            Target(scheme="https", host="::1", port=443, path="/"),
        ):
            with pytest.raises(FetchFailed) as caught:
                async with client.get(target):
                    pass
            assert caught.value.outcome is Outcome.PRIVATE_ADDRESS
        with pytest.raises(FetchFailed) as caught:
            async with client.get(Target(scheme="http", host="files.example.com", port=80, path="/")):
                pass
        assert caught.value.outcome is Outcome.BAD_URL
    assert world.dialled == []


# --- our own addresses ----------------------------------------------------------------------------


def test_this_machines_own_addresses_are_known() -> None:
    assert is_our_address("127.0.0.1")
    for address in (PUBLIC, OTHER_PUBLIC, "10.99.99.99", "not an address"):
        assert not is_our_address(address)


async def test_an_own_public_address_is_refused_unless_its_network_is_open() -> None:
    async with media_host() as host:
        host.put("/x", says(200, b"bytes"))
        world = FakeWorld({"files.example.com": [[PUBLIC]]}, host.port)
        async with closing(
            GuardedClient(resolve=world.resolve, dial=world.dial, is_ours={PUBLIC}.__contains__)
        ) as client:
            assert await outcome_of(client, "https://files.example.com/x") is Outcome.PRIVATE_ADDRESS
        assert world.dialled == []
        opened = (ip_network(f"{PUBLIC}/32"),)
        async with closing(
            GuardedClient(opened=opened, dial=world.dial, is_ours={PUBLIC}.__contains__)
        ) as client:
            assert await fetch(client, f"http://{PUBLIC}/x") == b"bytes"
        assert world.dialled == [PUBLIC]


# --- opened networks ------------------------------------------------------------------------------


async def test_an_opened_network_is_reached_by_name_and_by_address() -> None:
    async with media_host() as host:
        host.put("/x", says(200, b"bytes"))
        async with closing(GuardedClient(opened=LOOPBACK)) as client:
            assert await fetch(client, host.url("/x")) == b"bytes"
        world = FakeWorld({"media.test": [["127.0.0.1"]]}, host.port)
        async with closing(GuardedClient(opened=LOOPBACK, resolve=world.resolve, dial=world.dial)) as client:
            assert await fetch(client, host.url("/x", "media.test")) == b"bytes"
    assert host.requests[1].splitlines()[1] == f"Host: media.test:{host.port}"


@pytest.mark.parametrize(
    ("url", "address", "outcome"),
    [
        ("http://files.example.com/x", PUBLIC, Outcome.BAD_URL),
        ("https://files.example.com:8443/x", PUBLIC, Outcome.BAD_URL),
        ("https://metadata.google.internal/x", PUBLIC, Outcome.BAD_URL),
        ("https://minio/x", PUBLIC, Outcome.BAD_URL),
        ("http://minio:9000/x", "10.0.0.1", Outcome.PRIVATE_ADDRESS),
        ("https://metadata.google.internal/x", "169.254.169.254", Outcome.PRIVATE_ADDRESS),
    ],
)
async def test_an_opened_network_opens_http_and_ports_for_itself_alone(
    url: str, address: str, outcome: Outcome
) -> None:
    world = FakeWorld(
        {name: [[address]] for name in ("files.example.com", "minio", "metadata.google.internal")}
    )
    async with closing(GuardedClient(opened=LOOPBACK, resolve=world.resolve, dial=world.dial)) as client:
        assert await outcome_of(client, url) is outcome
    assert world.dialled == []


# --- names that do not resolve --------------------------------------------------------------------


@pytest.mark.parametrize("addresses", [[], [f"8.8.{n // 256}.{n % 256}" for n in range(5000)]])
async def test_no_address_and_too_many_addresses_are_dns_failures(addresses: list[str]) -> None:
    world = FakeWorld({"files.example.com": [addresses]})
    async with closing(guarded(world)) as client:
        assert await outcome_of(client, "https://files.example.com/x") is Outcome.DNS_FAILED


async def test_the_same_address_many_times_counts_once(tls: Trust) -> None:
    async with media_host(tls.server) as host:
        host.put("/x", says(200, b"bytes"))
        world = FakeWorld({"files.example.com": [[PUBLIC] * (MAX_ADDRESSES + 1)]}, host.port)
        async with closing(guarded(world, tls.client)) as client:
            assert await fetch(client, "https://files.example.com/x") == b"bytes"


async def test_a_slow_resolver_is_not_waited_for() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(30)
        return [PUBLIC]

    async with closing(GuardedClient(resolve=resolve, resolve_seconds=0.05)) as client:
        assert await outcome_of(client, "https://files.example.com/x") is Outcome.DNS_FAILED


@pytest.mark.parametrize("error", [OSError(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_resolver_that_fails_is_an_outcome(error: Exception) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise error

    async with closing(GuardedClient(resolve=resolve)) as client:
        assert await outcome_of(client, "https://files.example.com/x") is Outcome.DNS_FAILED


async def test_the_system_resolver_knows_localhost() -> None:
    async with media_host() as host:
        host.put("/x", says(200, b"bytes"))
        opened = (*LOOPBACK, ip_network("::1/128"))
        async with closing(GuardedClient(opened=opened)) as client:
            assert await fetch(client, host.url("/x", "localhost")) == b"bytes"


# --- the system's resolver ------------------------------------------------------------------------


class DeadResolver:
    """Answers nobody until it is let go; then with a public address."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: list[threading.Thread] = []
        self.let_go = threading.Event()

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        self.threads.append(threading.current_thread())
        self.let_go.wait(30)
        return [PUBLIC]


@pytest.fixture
def dead() -> Iterator[DeadResolver]:
    dead = DeadResolver()
    yield dead
    dead.let_go.set()


async def test_a_dead_resolver_holds_a_few_threads_of_its_own_and_no_more(dead: DeadResolver) -> None:
    resolve = SystemResolver(dead, max_lookups=2)
    async with closing(GuardedClient(resolve=resolve, resolve_seconds=0.05)) as client:
        urls = [f"https://files{n}.example.com/x" for n in range(6)]
        outcomes = await asyncio.gather(*(outcome_of(client, url) for url in urls))
    assert outcomes == [Outcome.DNS_FAILED] * 6
    assert len(dead.asked) == 2
    assert all(thread.daemon and thread.name == "receiver-dns" for thread in dead.threads)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 5) == "done"


async def test_a_resolver_that_is_back_is_asked_again(dead: DeadResolver) -> None:
    resolve = SystemResolver(dead, max_lookups=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolve("files.example.com", 443), 0.05)
    dead.let_go.set()
    assert await asyncio.wait_for(resolve("files.example.com", 443), 5) == [PUBLIC]


async def test_more_lookups_than_threads_take_turns() -> None:
    def ask(host: str, port: int) -> list[str]:
        time.sleep(0.001)
        return [host]

    resolve = SystemResolver(ask, max_lookups=3)
    names = [f"files{n}.example.com" for n in range(50)]
    assert await asyncio.gather(*(resolve(name, 443) for name in names)) == [[name] for name in names]


@pytest.mark.parametrize("error", [OSError(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_what_the_system_says_of_a_name_is_raised_and_frees_the_thread(error: Exception) -> None:
    def ask(host: str, port: int) -> list[str]:
        raise error

    resolve = SystemResolver(ask, max_lookups=1)
    for _ in range(3):
        with pytest.raises(type(error)):
            await asyncio.wait_for(resolve("files.example.com", 443), 5)


async def test_no_thread_for_a_lookup_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolve = SystemResolver(lambda host, port: [PUBLIC], max_lookups=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(FetchFailed) as caught:
            await resolve("files.example.com", 443)
    assert caught.value.outcome is Outcome.DNS_FAILED
    assert await asyncio.wait_for(resolve("files.example.com", 443), 5) == [PUBLIC]


def test_an_answer_that_comes_after_the_loop_was_closed_disturbs_nobody(dead: DeadResolver) -> None:
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(SystemResolver(dead)("files.example.com", 443), 0.05)

    asyncio.run(give_up())
    dead.let_go.set()
    (thread,) = dead.threads
    thread.join(5)  # an exception in it would be a warning, and warnings are errors
    assert not thread.is_alive()


EXIT_DURING_A_LOOKUP = """
import asyncio, time
from receiver.errors import FetchFailed
from receiver.fetching.client import GuardedClient, SystemResolver

async def main():
    resolve = SystemResolver(lambda host, port: time.sleep(60))
    client = GuardedClient(resolve=resolve, resolve_seconds=0.05)
    try:
        async with client.get(client.check("https://files.example.com/x")):
            pass
    except FetchFailed as exc:
        print(exc.outcome)
    await client.aclose()

asyncio.run(main())
"""


def test_a_lookup_that_hangs_does_not_hold_up_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT_DURING_A_LOOKUP], capture_output=True, text=True, timeout=30, check=True
    )
    assert (done.stdout, done.stderr) == ("dns_failed\n", "")


# --- TLS ------------------------------------------------------------------------------------------


async def test_a_certificate_for_another_name_is_refused(tls: Trust) -> None:
    async with media_host(tls.server) as host:
        host.put("/x", says(200, b"bytes"))
        world = FakeWorld({"other.example.com": [[PUBLIC]]}, host.port)
        async with closing(guarded(world, tls.client)) as client:
            assert await outcome_of(client, "https://other.example.com/x") is Outcome.TLS_FAILED
        assert host.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls: Trust) -> None:
    async with media_host(tls.server) as host:
        world = FakeWorld({"files.example.com": [[PUBLIC]]}, host.port)
        async with closing(guarded(world)) as client:
            assert await outcome_of(client, "https://files.example.com/x") is Outcome.TLS_FAILED


async def test_authorities_are_read_for_the_first_host_and_again_where_that_failed(
    tls: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorities.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    try:
        async with media_host(tls.server) as host:
            host.put("/x", says(200, b"bytes"))
            world = FakeWorld({"files.example.com": [[PUBLIC]] * 2}, host.port)
            async with closing(guarded(world)) as client:
                with pytest.raises(FetchFailed, match="see SSL_CERT_FILE") as caught:
                    await fetch(client, "https://files.example.com/x")
                assert caught.value.outcome is Outcome.TLS_FAILED
                (tmp_path / "authorities.pem").write_bytes(tls.certificate)
                assert await fetch(client, "https://files.example.com/x") == b"bytes"
    finally:
        authorities.cache_clear()


async def test_a_host_that_does_not_speak_tls_is_an_outcome() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ready\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        world = FakeWorld({"files.example.com": [[PUBLIC]]}, server.sockets[0].getsockname()[1])
        async with closing(guarded(world)) as client:
            with pytest.raises(FetchFailed, match=r"does not speak TLS as it should: (wrong version|record)"):
                await fetch(client, "https://files.example.com/x")


# --- the wire -------------------------------------------------------------------------------------


async def test_a_request_carries_nothing_of_ours() -> None:
    async with media_host() as host, closing(GuardedClient(opened=LOOPBACK)) as client:
        host.put("/set", says(200, b"", "set-cookie: track=1; path=/"))
        host.put("/x", says(200, b"bytes"))
        await fetch(client, host.url("/set"))
        await fetch(client, host.url("/x"))
        names = {line.split(":")[0].lower() for line in host.requests[1].splitlines()[1:] if line}
    assert names == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert "Accept-Encoding: identity" in host.requests[1]


async def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with media_host() as host:
        host.put("/x", says(200, b"bytes"))
        async with closing(GuardedClient(opened=LOOPBACK)) as client:
            assert await fetch(client, host.url("/x")) == b"bytes"
        async with open_plain_client() as plain:
            assert (await plain.get(host.url("/x"))).content == b"bytes"


async def test_nobody_listening_is_a_failed_connection() -> None:
    async with media_host() as host:
        url = host.url("/x")
    async with closing(GuardedClient(opened=LOOPBACK)) as client:
        assert await outcome_of(client, url) is Outcome.CONNECT_FAILED


async def test_a_silent_host_is_a_timeout() -> None:
    async def silence(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with media_host() as host, closing(GuardedClient(opened=LOOPBACK, read_seconds=0.05)) as client:
        assert await outcome_of(client, host.put("/x", silence)) is Outcome.TIMEOUT


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"220 smtp.example ready\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: 10\r\ncontent-length: 20\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 X\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 X\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 X\r\nx: " + b"a" * 3_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 X\r\n" + b"x: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x00\xff" * 100_000,
    ],
    ids=len,
)
async def test_a_host_that_sends_nonsense_is_an_outcome(nonsense: bytes) -> None:
    async with media_host() as host, closing(GuardedClient(opened=LOOPBACK)) as client:
        assert await outcome_of(client, host.put("/x", writes(nonsense))) is Outcome.INTERRUPTED


async def test_the_drivers_log_no_links(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with media_host() as host, open_plain_client() as plain:
        await plain.get(host.put("/secret-link", says(200)))
        async with closing(GuardedClient(opened=LOOPBACK)) as client:
            await fetch(client, host.url("/secret-link"))
    assert "secret-link" not in caplog.text


async def test_the_plain_client_follows_no_redirects() -> None:
    async with media_host() as host, open_plain_client() as plain:
        answer = await plain.get(host.put("/x", says(302, b"", "location: /y")))
        assert answer.status_code == 302
    assert len(host.requests) == 1


async def test_many_fetches_at_once_do_not_wait_for_each_other() -> None:
    arrived = 0
    everybody = asyncio.Event()

    async def together(writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 40:
            everybody.set()
        await everybody.wait()
        await says(200, b"bytes")(writer)

    async with media_host() as host, closing(GuardedClient(opened=LOOPBACK)) as client:
        url = host.put("/x", together)
        assert await asyncio.gather(*(fetch(client, url) for _ in range(40))) == [b"bytes"] * 40


async def test_the_plain_client_passes_over_malformed_lines_and_keeps_its_connection() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 100 X\r\nbad\r\n\r\nHTTP/1.1 200 X\r\nX-Frame-Options : DENY\r\n")
                writer.write(b"content-length: 7\r\n\r\nbad : x")
        writer.close()

    async with listening(serve) as port, open_plain_client() as http:
        for _ in range(3):
            answer = await http.post(f"http://127.0.0.1:{port}/")
            assert (answer.status_code, answer.text) == (200, "bad : x")
            assert "x-frame-options" not in answer.headers
    assert connections == 1


async def test_what_goes_wrong_under_the_plain_client_is_said_in_its_own_errors() -> None:
    async with media_host() as host, open_plain_client(timeout_seconds=0.2) as http:
        host.put("/late", writes(b"HTTP/1.1 200 X\r\ncontent-length: 5\r\n\r\n", pause_seconds=5))
        host.put("/short", says(200, b"", length=5))
        host.put("/length", writes(b"HTTP/1.1 200 X\r\nContent-Length : 5\r\n\r\nbytes"))
        host.put("/endless", writes(*[b"HTTP/1.1 100 X\r\n\r\n" * 500] * 20))
        for path, error in {
            "/late": httpx2.ReadTimeout,
            "/short": httpx2.RemoteProtocolError,
            "/length": httpx2.RemoteProtocolError,
            "/endless": httpx2.RemoteProtocolError,
        }.items():
            with pytest.raises(error):
                await http.get(host.url(path))
        with pytest.raises(httpx2.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1/")
    with pytest.raises(httpx2.ConnectError):
        async with open_plain_client() as http:
            await http.get(host.url("/late"))
