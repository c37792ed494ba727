"""Run the simulator on real loopback ports, inside a program that does other things meanwhile."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from receiver.errors import Misconfigured, Unavailable
from receiver.simulator.app import DIALECTS, create_simulator
from receiver.simulator.lost_answers import HANG_UP
from receiver.simulator.model import SimulatorOptions
from receiver.simulator.requests import is_loopback


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the simulator listens."""

    combined: str  # each provider is below its name, and ``/truth`` beside them
    roots: Mapping[str, str]  # by provider: where it is alone, at the root


@asynccontextmanager
async def serve_simulator(
    host: str = "127.0.0.1", port: int = 0, options: SimulatorOptions | None = None
) -> AsyncIterator[str]:
    """``serve_providers`` for callers that need only the URL below which all providers are."""
    async with serve_providers(host, port, options=options) as addresses:
        yield addresses.combined


@asynccontextmanager
async def serve_providers(
    host: str = "127.0.0.1",
    port: int = 0,
    own_ports: Sequence[int] = (),
    options: SimulatorOptions | None = None,
) -> AsyncIterator[Addresses]:
    """Serve until the block is left. ``own_ports`` are the providers', in the order of their names here.

    Port 0, or none, takes a free one. Signals are left to the caller. Raises Misconfigured for a host that is
    not loopback and missing Pillow, and Unavailable for a port that is taken.
    """
    names = [dialect.name for dialect in DIALECTS]
    with ExitStack() as listening:
        wanted = (port, *(own_ports or [0] * len(names)))
        listeners = [listening.enter_context(_listen(host, each)) for each in wanted]
        ports = [listener.getsockname()[1] for listener in listeners]
        app = create_simulator(options, own_ports=dict(zip(ports[1:], names, strict=True)))
        config = uvicorn.Config(
            app,
            http=_Protocol,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            timeout_keep_alive=(options or SimulatorOptions()).close_idle_after,  # type: ignore[arg-type] # uvicorn takes fractions, too
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=listeners))
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers a flag, no event
                await asyncio.sleep(0.01)
            if not server.started:
                await serving
                raise Unavailable("The simulator did not start.")
            shown = f"[{host}]" if ":" in host else host
            combined, *roots = (f"http://{shown}:{each}" for each in ports)
            yield Addresses(combined=combined, roots=dict(zip(names, roots, strict=True)))
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
        raise Unavailable(f"The simulator cannot listen on {host} port {port}: {exc.strerror}.") from exc
    # Else the second packet of an answer waits for a delayed acknowledgement of its first: 40 ms each time.
    # Connections inherit it; asyncio sets it only on sockets that name their protocol, and this one does not.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Protocol(H11Protocol):
    """Writes names of headers as they are given, and can be told to close a connection unanswered."""

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.app = self._with_way_out

    async def _with_way_out(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[HANG_UP] = self.transport.close
        await self.config.loaded_app(scope, receive, send)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program around us, which has more than this to stop."""
        yield
