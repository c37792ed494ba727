"""Trap 4: a provider closes its idle connections just as orders go out, and none is unknown for that."""

import asyncio
from contextlib import suppress

import pytest

from receiver.gateway.upstream import CONNECTIONS, IDLE_SECONDS, Upstream, UpstreamAnswer, UpstreamRequest
from tests.support.media_host import listening
from tests.support.waiting import until

AT_ONCE = 250
ROUNDS = 1  # behind a first one: a thousand orders in all, by both hosts


@pytest.mark.parametrize("closes_after", [IDLE_SECONDS + 0.1, IDLE_SECONDS + 0.5])
async def test_trap_4_no_order_is_lost_on_a_connection_that_its_provider_closes(closes_after: float) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                async with asyncio.timeout(closes_after):
                    await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}")
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with listening(serve) as port:
        upstream = Upstream(f"http://127.0.0.1:{port}")

        async def order(after_seconds: float) -> type:
            await asyncio.sleep(after_seconds)
            return type(await upstream.send(UpstreamRequest(method="POST", target="/", headers={})))

        found = set()
        for edge in (0, *[closes_after - 0.03] * ROUNDS):
            waits = (edge + 0.06 * number / AT_ONCE if edge else 0 for number in range(AT_ONCE))
            found |= set(await asyncio.gather(*map(order, waits)))
        await upstream.aclose()
    assert found == {UpstreamAnswer}
    assert connections > CONNECTIONS


async def test_orders_share_connections_and_wait_for_one_where_all_are_taken() -> None:
    connections = at_once = most = 0
    may_answer = asyncio.Event()
    may_answer.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, at_once, most
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                at_once += 1
                most = max(most, at_once)
                await may_answer.wait()
                at_once -= 1
                writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async with listening(serve) as port:
        upstream = Upstream(f"http://127.0.0.1:{port}")
        request = UpstreamRequest(method="POST", target="/", headers={})
        for _ in range(20):
            assert isinstance(await upstream.send(request), UpstreamAnswer)
        assert connections == 1
        may_answer.clear()
        sending = asyncio.gather(*(upstream.send(request) for _ in range(2 * CONNECTIONS)))
        await until(lambda: at_once >= CONNECTIONS)
        await asyncio.sleep(0.05)  # one more would come now
        may_answer.set()
        sent = await sending
        await upstream.aclose()
    assert {type(each) for each in sent} == {UpstreamAnswer}
    assert (most, connections) == (CONNECTIONS, CONNECTIONS)


async def test_what_comes_behind_an_answer_is_not_taken_for_the_next_orders() -> None:
    connections = 0
    smuggled = b"HTTP/1.1 200 X\r\ncontent-length: 8\r\n\r\nsmuggled"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}" + smuggled)
        writer.close()

    async with listening(serve) as port:
        upstream = Upstream(f"http://127.0.0.1:{port}")
        for _ in range(3):
            sent = await upstream.send(UpstreamRequest(method="POST", target="/", headers={}))
            assert isinstance(sent, UpstreamAnswer)
            assert sent.body == b"{}"
        await upstream.aclose()
    assert connections == 3
