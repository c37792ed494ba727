"""Running the simulator on a real loopback port, inside a program that goes on with other things."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from receiver.errors import Misconfigured, Unavailable
from receiver.simulator.app import create_simulator
from receiver.simulator.orders import is_loopback
from receiver.simulator.plot import SimulatorOptions


@asynccontextmanager
async def serve_simulator(
    host: str = "127.0.0.1", port: int = 0, options: SimulatorOptions | None = None
) -> AsyncIterator[str]:
    """Serve until the block is left; gives the URL that the providers' paths hang below.

    Port 0 takes a free one. Signals are left to the caller. Raises Misconfigured for a host that is not
    loopback, a port that is taken, and missing Pillow.
    """
    app = create_simulator(options)
    with _listen(host, port) as listener:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", ws="none", timeout_graceful_shutdown=2
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _started(server, serving)
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


def _listen(host: str, port: int) -> socket.socket:
    if not is_loopback(host):
        raise Misconfigured(f"The simulator listens on loopback only; {host} is not a loopback address.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as exc:
        raise Misconfigured(f"The simulator cannot listen on {host} port {port}: {exc.strerror}.") from exc
    # Else the second packet of an answer waits for a delayed acknowledgement of its first: 40 ms each time.
    # Connections inherit it; asyncio sets it only on sockets that name their protocol, and this one does not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program around us, which has more than this to stop."""
        yield


async def _started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers a flag, no event
        await asyncio.sleep(0.01)
    if not server.started:
        await serving
        raise Unavailable("The simulator did not start.")
