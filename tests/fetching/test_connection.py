"""What a connection for downloads promises, on both event loops that the service may run on."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpcore2
import pytest
import uvloop

from receiver.fetching.connection import BUFFER_BYTES, SocketStream, dial_by_name, dial_directly, dial_first
from tests.support.fake_world import Trust, make_trust
from tests.support.media_host import listening
from tests.support.waiting import until

Run = Callable[[Coroutine[Any, Any, None]], None]

BODY = os.urandom(3 * BUFFER_BYTES + 1001)


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    given: Run = request.param
    return given


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return make_trust(tmp_path_factory.mktemp("tls"))


async def connect(port: int, tls: ssl.SSLContext | None = None) -> SocketStream:
    stream = await dial_directly("127.0.0.1", port, 5)
    return stream if tls is None else await stream.start_tls(tls, "files.example.com", 5)


async def send_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(BODY)
        await writer.drain()
        writer.close()


async def read_to_end(stream: SocketStream) -> bytes:
    got = b""
    while part := await stream.fill(BUFFER_BYTES, 60):
        got += part
    assert stream.is_over
    return got


@pytest.mark.parametrize("is_secure", [False, True])
def test_every_byte_comes_once_and_in_order(run: Run, trust: Trust, is_secure: bool) -> None:
    async def check() -> None:
        async with listening(send_body, trust.server if is_secure else None) as port:
            stream = await connect(port, trust.client if is_secure else None)
            first = await stream.read(10, 60)
            assert len(first) == 10
            assert first + await read_to_end(stream) == BODY
            await stream.aclose()

    run(check())


def test_a_buffer_is_filled_to_the_brim_before_anybody_is_woken(run: Run) -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for n in range(0, len(BODY), 50_000):
            writer.write(BODY[n : n + 50_000])
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.close()

    async def check() -> None:
        async with listening(trickle) as port:
            stream = await connect(port)
            sizes = []
            while part := await stream.fill(len(BODY), 60):
                sizes.append(len(part))
            assert sizes == [BUFFER_BYTES] * 3 + [1001]
            await stream.aclose()

    run(check())


@pytest.mark.parametrize("is_secure", [False, True])
def test_who_takes_nothing_is_sent_no_more_than_a_buffer(run: Run, trust: Trust, is_secure: bool) -> None:
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while True:
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000

    async def check() -> None:
        async with listening(pour, trust.server if is_secure else None) as port:
            stream = await connect(port, trust.client if is_secure else None)
            part = await stream.fill(BUFFER_BYTES, 60)
            part[:] = b"x" * len(part)
            before = -1
            while before != sent:  # until the kernel's own buffers are full
                before = sent
                await asyncio.sleep(0.2)
            assert bytes(part) == b"x" * BUFFER_BYTES  # nobody writes into what was handed out
            await stream.aclose()

    run(check())


def test_what_has_come_when_the_time_is_up_is_handed_out(run: Run) -> None:
    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"begun")
        await asyncio.sleep(30)

    async def check() -> None:
        async with listening(stall) as port:
            stream = await connect(port)
            while not (part := await stream.fill(1000, 0.05)):
                pass
            assert bytes(part) == b"begun"
            assert not await stream.fill(1000, 0.05)
            assert not stream.is_over
            with pytest.raises(httpcore2.ReadTimeout):
                await stream.read(1000, 0.05)
            await stream.aclose()

    run(check())


def test_a_reset_is_told_from_an_end_after_what_came_before_it(run: Run) -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"begun")
        await writer.drain()
        for _ in range(20):  # each is a turn of the loop, in which the reader takes what has come
            await asyncio.sleep(0.002)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def check() -> None:
        async with listening(reset) as port:
            stream = await connect(port)
            assert bytes(await stream.fill(1000, 60)) == b"begun"
            with pytest.raises(httpcore2.ReadError):
                await stream.fill(1000, 60)
            with pytest.raises(httpcore2.WriteError):
                await stream.write(b"more")
            await stream.aclose()

    run(check())


def test_a_cancelled_reader_leaves_the_connection_to_be_closed(run: Run) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    async def check() -> None:
        async with listening(wait) as port:
            stream = await connect(port)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.fill(1000, 30), 0.05)
            await stream.aclose()
            await until(ended.is_set)

    run(check())


def test_a_handshake_that_nobody_answers_is_given_up(run: Run, trust: Trust) -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def check() -> None:
        async with listening(ignore) as port:
            stream = await connect(port)
            with pytest.raises(httpcore2.ConnectTimeout):
                await stream.start_tls(trust.client, "files.example.com", 0.05)

    run(check())


def test_a_certificate_for_another_name_ends_the_connection(run: Run, trust: Trust) -> None:
    async def check() -> None:
        async with listening(send_body, trust.server) as port:
            stream = await connect(port)
            with pytest.raises(httpcore2.ConnectError) as caught:
                await stream.start_tls(trust.client, "other.example.com", 5)
            assert isinstance(caught.value.args[0], ssl.SSLCertVerificationError)

    run(check())


def test_nobody_listening_is_a_failed_connection(run: Run) -> None:
    async def check() -> None:
        async with listening(send_body) as port:
            pass
        with pytest.raises(httpcore2.ConnectError):
            await dial_directly("127.0.0.1", port, 5)

    run(check())


@pytest.mark.parametrize("is_secure", [False, True])
def test_who_writes_goes_no_faster_than_the_other_side_takes(run: Run, trust: Trust, is_secure: bool) -> None:
    takes, taken, written = asyncio.Event(), 0, 0

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await takes.wait()
        while part := await reader.read(2**20):
            taken += len(part)
        writer.close()

    async def check() -> None:
        nonlocal written
        async with listening(take, trust.server if is_secure else None) as port:
            stream = await connect(port, trust.client if is_secure else None)

            async def pour() -> None:
                nonlocal written
                for _ in range(400):
                    await stream.write(bytes(100_000))
                    written += 100_000

            pouring = asyncio.create_task(pour())
            before = -1
            while before != written:  # until the kernel's own buffers are full
                before = written
                await asyncio.sleep(0.2)
            assert written < 20_000_000
            takes.set()
            await pouring
            await until(lambda: taken == written == 40_000_000)
            await stream.aclose()

    run(check())


def test_who_waits_to_write_is_let_go_when_the_other_side_hangs_up(run: Run) -> None:
    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.transport.abort()

    async def check() -> None:
        async with listening(leave) as port:
            stream = await connect(port)

            async def pour() -> None:
                while True:
                    await stream.write(bytes(100_000))

            with pytest.raises(httpcore2.WriteError):
                await asyncio.wait_for(pour(), 5)
            await stream.aclose()

    run(check())


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("says", [b"unasked", b""])
def test_what_nobody_waits_for_is_seen(run: Run, trust: Trust, is_secure: bool, says: bytes) -> None:
    goes_on = asyncio.Event()

    async def host(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        writer.write(says)
        if not says:
            writer.close()
        await asyncio.sleep(30)

    async def check() -> None:
        async with listening(host, trust.server if is_secure else None) as port:
            stream = await connect(port, trust.client if is_secure else None)
            stream.watch()
            await asyncio.sleep(0.05)  # a session ticket is not for the reader
            assert not stream.get_extra_info("is_readable")
            goes_on.set()
            await until(lambda: stream.get_extra_info("is_readable"))
            assert await stream.read(1000, 5) == says
            await stream.aclose()

    run(check())


def test_what_has_come_and_the_loop_has_not_seen_counts_as_readable(run: Run) -> None:
    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            stream = await connect(server.getsockname()[1])
            stream.watch()
            theirs, _ = server.accept()
            with theirs:
                assert not stream.get_extra_info("is_readable")
                theirs.send(b"unasked")
                assert stream.get_extra_info("is_readable")
            await stream.aclose()

    run(check())


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@contextlib.contextmanager
def silent_host(port: int) -> Iterator[str]:
    """An address of this machine that answers no packet of a new connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.3", port))
        server.listen(0)
        for _ in range(3):
            waits = stack.enter_context(socket.socket())
            waits.setblocking(False)
            waits.connect_ex(("127.0.0.3", port))
        yield "127.0.0.3"


def test_of_several_addresses_the_first_that_takes_it_has_the_connection(run: Run) -> None:
    async def check() -> None:
        async with listening(hang_up) as port:
            with silent_host(port) as silent:
                began = time.monotonic()
                for dead in (silent, "127.0.0.2"):  # where nobody listens
                    stream = await dial_first([dead, "127.0.0.1"], port, 20)
                    assert stream.get_extra_info("peername") == ("127.0.0.1", port)
                    await stream.aclose()
                assert time.monotonic() - began < 10
                assert len(asyncio.all_tasks()) == 1  # nobody dials on

    run(check())


def test_a_host_is_found_by_its_name(run: Run) -> None:
    async def check() -> None:
        async with listening(hang_up) as port:
            await (await dial_by_name("localhost", port, 5)).aclose()

    run(check())


def test_a_host_none_of_whose_addresses_takes_it_is_a_failed_connection(run: Run) -> None:
    async def check() -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            port = unheard.getsockname()[1]
            with pytest.raises(httpcore2.ConnectError):
                await dial_first(["127.0.0.2", "127.0.0.1"], port, 5)
            with silent_host(port) as silent, pytest.raises(httpcore2.ConnectTimeout):
                await dial_first([silent], port, 0.2)
        with pytest.raises(httpcore2.ConnectError):
            await dial_first([], port, 5)

    run(check())
