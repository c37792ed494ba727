"""A real server around an app on a free loopback port, and raw sockets to talk to it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from receiver.web.connections import MOST_CONNECTIONS, BoundedHttpProtocol, Patience
from tests.support.waiting import until


@asynccontextmanager
async def serving(
    app: ASGIApp,
    *,
    lifespan: Literal["on", "off"] = "off",
    patience: Patience = BoundedHttpProtocol.patience,
    most: int = MOST_CONNECTIONS,
) -> AsyncIterator[int]:
    """The port on which ``app`` is served as `receiver serve` does it, until left."""
    protocol = type("Protocol", (BoundedHttpProtocol,), {"patience": patience, "most": most})
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http=protocol,
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = asyncio.create_task(server.serve([listener]))
        await until(lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        await running


class Answer:
    """One HTTP answer, taken apart."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status_line.split(" ")[1]) if status_line else 0  # 0: closed without an answer
        self.headers = {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}


async def talk(port: int, *pieces: bytes, pause_seconds: float = 0.0, timeout_seconds: float = 60.0) -> bytes:
    """Send the pieces, one after the other, and read until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(reader.read())
    try:
        for piece in pieces:
            if reading.done():
                break
            writer.write(piece)
            await asyncio.sleep(pause_seconds)
        async with asyncio.timeout(timeout_seconds):
            return await reading
    except ConnectionError:  # closed on us in the middle, as it may be
        return b""
    finally:
        reading.cancel()
        writer.transport.abort()  # a close waits for what is unsent, which the other side may never take


def post(path: str, body: bytes, *lines: str, version: str = "1.1") -> bytes:
    """A whole request that asks for the connection to be closed after it."""
    given = "".join(f"{line}\r\n" for line in lines)
    return (
        f"POST {path} HTTP/{version}\r\nHost: receiver.test\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n{given}\r\n"
    ).encode("latin-1") + body
