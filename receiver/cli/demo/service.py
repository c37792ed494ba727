"""The service as a real process of its own: started, awaited, stopped, and never left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import httpx2

from receiver import plugins
from receiver.cli.client import admin_token
from receiver.cli.demo.plan import PROVIDERS, SIGNED
from receiver.config.credentials import ensure_credentials
from receiver.config.settings import Settings
from receiver.errors import Misconfigured, Unavailable
from receiver.ports import Store

HOST = "127.0.0.1"
FIRST_POLL_SECONDS = 3.0  # minutes in earnest
POLLS_PER_MINUTE = 1200  # likewise: the providers' own limits would make it a long demo
KEY = "any-key-will-do-here"  # of every provider: the backend orders with it, and the service asks
READY_SECONDS = 20.0
STOP_SECONDS = 10.0  # what the service promises
TAIL_LINES = 15

# What the caller's shell may have set for a real service, and what hosts set: none of it is meant for ours.
_PREFIXES = ("RECEIVER_", "UVICORN_", *(f"{name.upper()}_" for name in plugins.names("providers")))
_NAMES = {"DATABASE_URL", "PORT", "DYNO", "WEB_CONCURRENCY"}


def service_environment(inherited: Mapping[str, str], data: Path, port: int) -> dict[str, str]:
    """The caller's environment without its settings, and with ours."""
    clean = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(_PREFIXES) and name not in _NAMES
    }
    return clean | {
        "RECEIVER_DATA_DIR": str(data.resolve()),
        "RECEIVER_HOST": HOST,
        "PORT": str(port),
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",  # the simulator's images are on this machine
    }


def asking(providers_url: str, secrets: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Settings with which the service orders from the played providers, asks them, and checks signatures."""
    settings = {f"{name.upper()}_WEBHOOK_SECRET": secrets[name] for name in SIGNED if name in secrets}
    settings["RECEIVER_GATEWAY"] = "true"
    for name in PROVIDERS:
        settings |= {
            f"{name.upper()}_API_KEY": KEY,
            f"{name.upper()}_BASE_URL": f"{providers_url}/{name}",
            f"{name.upper()}_FIRST_POLL_SECONDS": f"{FIRST_POLL_SECONDS:g}",
            f"{name.upper()}_POLLS_PER_MINUTE": str(POLLS_PER_MINUTE),
        }
    return settings


async def open_pages(settings: Settings) -> str:
    """A link that opens the admin pages of the service once; their address where it makes none."""
    async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as http:
        with suppress(httpx2.HTTPError, KeyError, ValueError):
            headers = {"authorization": f"Bearer {admin_token(settings)}"}
            answer = await http.post(f"{settings.url}/sessions", headers=headers)
            return str(answer.json()["url"])
    return f"{settings.url}/admin/"


async def keep_elsewhere(url: str, settings: Settings) -> dict[str, str]:
    """Settings that keep the record at ``url``. Raises Misconfigured where there is one already."""
    store_class: type[Store] = plugins.load("stores", url.partition(":")[0])
    if await store_class.pending_migrations(url, settings.data_dir) is not None:
        raise Misconfigured("--database has a record already: give the demo a database of its own")
    made = await asyncio.to_thread(
        ensure_credentials, settings
    )  # which are made by themselves only for the folder
    return {
        "RECEIVER_DATABASE_URL": url,
        "RECEIVER_SECRET": made.secrets[0],
        "RECEIVER_API_TOKENS": made.api_tokens[0],
        "RECEIVER_ADMIN_TOKENS": made.admin_tokens[0],
    }


def find_port(wanted: int) -> int:
    """``wanted`` if it is free, any free one for 0. Raises Unavailable."""
    try:
        with socket.create_server((HOST, wanted)) as listener:
            port: int = listener.getsockname()[1]
            return port
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        raise Unavailable(f"port {wanted} cannot be used ({reason}): choose another by --port") from exc


class Service:
    """The service's process, or one after another where it is started again."""

    def __init__(self, environment: Mapping[str, str], url: str, log: Path) -> None:
        self._environment = environment
        self._url = url
        self._log = log
        self._started: asyncio.subprocess.Process | None = None
        self._problems: tuple[str, ...] | None = None

    @property
    def _process(self) -> asyncio.subprocess.Process:
        assert self._started is not None, "start comes first"  # noqa: S101
        return self._started

    async def start(self) -> None:
        """Start it, for the first time or again, and wait until it is ready. Raises Unavailable."""
        with self._log.open("ab") as output:
            self._started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "receiver", "serve"),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the service in good order
            )
        self._problems = None
        problem = f"it was not ready within {READY_SECONDS:g} seconds"
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(READY_SECONDS),
                httpx2.AsyncClient(trust_env=False, timeout=2.0) as http,
            ):
                while self._process.returncode is None:
                    with suppress(httpx2.TransportError):
                        if (await http.get(f"{self._url}/readyz")).status_code == 200:
                            return
                    await asyncio.sleep(0.05)
            problem = f"it ended with exit code {self._process.returncode}"
        raise self.failure(f"the service did not start: {problem}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> None:
        """Wait until the process is gone, for whatever reason."""
        await self._process.wait()

    def failure(self, what: str) -> Unavailable:
        """An error that shows what the service said last."""
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return Unavailable("\n".join([what, f"The end of {self._log}:", *(f"  {line}" for line in lines)]))

    async def stop(self) -> tuple[str, ...]:
        """Send SIGTERM and, if that does not help in time, SIGKILL; returns what was wrong with its end.

        A second call only repeats the answer. A cancelled one kills at once.
        """
        if self._problems is None:
            self._problems = await self._stop()
        return self._problems

    async def _stop(self) -> tuple[str, ...]:
        process = self._process
        if process.returncode is not None:
            return (f"it had ended before it was asked to, with exit code {process.returncode}",)
        try:
            with suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                code = await process.wait()
        except TimeoutError:
            return (f"it still ran {STOP_SECONDS:g} seconds after SIGTERM",)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        # A server that puts its house in order may still say that it was the signal that ended it.
        return () if code in {0, -signal.SIGTERM} else (f"it ended with exit code {code}",)


@asynccontextmanager
async def run_service(environment: Mapping[str, str], url: str, log: Path) -> AsyncIterator[Service]:
    """``receiver serve`` with this environment, ready at ``url``; it is stopped afterwards.

    Raises Unavailable if it does not start, and in place of the HTTP client's errors.
    """
    service = Service(environment, url, log)
    try:
        await service.start()
        yield service
    except httpx2.HTTPError as exc:
        raise service.failure(f"the demo cannot go on: no answer ({type(exc).__name__})") from exc
    finally:
        await service.stop()
