"""`receiver serve` as a child process, to be asked, stopped and killed; and a consumer for its sinks."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from receiver.cli.demo.service import service_environment
from receiver.testing import sample_callback
from receiver.tokens import Tokens
from tests.e2e.forked import Life, Request, parent
from tests.support.sink_hosts import free_port
from tests.support.waiting import everyone_in, until

SECRET = "CANARY-the-key-of-all-tokens"
API_TOKEN = "CANARY-bearer-of-a-backend"
ADMIN_TOKEN = "CANARY-bearer-of-an-admin"

READY_SECONDS = END_SECONDS = 60.0  # where many others run on few cores
STOP_SECONDS = 10.0  # what the service promises


class Receiver:
    """One data folder and its settings; started and ended as often as a test likes."""

    is_forked = False  # from a process that has imported it, in place of a new interpreter

    def __init__(
        self, folder: Path, settings: Mapping[str, str], command: Sequence[str] = ("serve",)
    ) -> None:
        self.command = command
        self.program: Sequence[str] = ("-m", "receiver")
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.AsyncClient(base_url=self.url, trust_env=False, verify=False, timeout=60.0)
        self._output = folder / f"output-{self.port}.log"
        self._process: subprocess.Popen[bytes] | Life | None = None
        self.environment = service_environment(os.environ, self.data, self.port) | {
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_API_TOKENS": API_TOKEN,
            "RECEIVER_ADMIN_TOKENS": ADMIN_TOKEN,
            "PYTHONWARNINGS": "default",  # what is left open shows in the output
            **settings,
        }

    # --- the process ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        await until(self.is_ready, READY_SECONDS)

    def launch(self) -> None:
        """Start it, whatever becomes of it."""
        if self.is_forked:
            request = Request(environment=self.environment, output=str(self._output), command=self.command)
            self._process = parent().begin(request)
            return
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self.program, *self.command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def process(self) -> "subprocess.Popen[bytes] | Life":
        assert self._process is not None, "it was never started"
        return self._process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = END_SECONDS) -> int:
        """Its exit code, which must come in time."""
        return await asyncio.to_thread(self.process.wait, seconds)

    async def stop(self) -> float:
        """SIGTERM, as platforms do it; how many seconds the end took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        # uvicorn raises the signal again once all is in order.
        assert await self.ended() in {0, -signal.SIGTERM}, self.output()
        return time.monotonic() - began

    async def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.process.kill()
        await self.ended()

    def output(self) -> str:
        """All that it wrote on stdout and stderr, over all its lives."""
        return self._output.read_text()

    def discard(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(END_SECONDS)

    async def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output()
        if self.command[0] == "work":  # nobody asks it anything
            return "service.working" in self.output()
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    # --- its doors ------------------------------------------------------------------------------------

    async def submit(
        self, task_id: str | None = None, *, provider: str = "vidgo", **fields: Any
    ) -> dict[str, Any]:
        """Log a submission, or reserve one; the row."""
        wanted = {"provider": provider, "owner": "user-17", "task_id": task_id, **fields}
        answer = await self.http.post("/submissions", json=wanted, headers=bearer(API_TOKEN))
        answer.raise_for_status()
        row: dict[str, Any] = answer.json()
        return row

    def callback_path(self, provider: str = "vidgo") -> str:
        """Where every callback of a provider may come."""
        return f"/callbacks/{provider}/{Tokens([SECRET]).for_provider(provider)}"

    async def call_back(self, task_id: str, *files: str, provider: str = "vidgo") -> str:
        """The provider says that a task is done, or without ``files`` that it failed; the verdict."""
        body = sample_callback(provider, task_id, files=files, error=None if files else "nsfw")
        answer = await self.http.post(self.callback_path(provider), content=body)
        assert answer.status_code == 200, answer.text
        verdict: str = answer.json()["status"]
        return verdict

    async def finish(self, task_id: str, *files: str, provider: str = "vidgo") -> None:
        """One owned task from its submission to its only callback."""
        await self.submit(task_id, provider=provider)
        assert await self.call_back(task_id, *files, provider=provider) == "accepted"

    async def task(self, task_id: str, provider: str = "vidgo") -> dict[str, Any]:
        answer = await self.http.get(f"/tasks/{provider}/{task_id}", headers=bearer(API_TOKEN))
        answer.raise_for_status()
        task: dict[str, Any] = answer.json()
        return task

    async def parts(self) -> dict[str, str]:
        """What readiness says of each part, with the status under ``""``."""
        answer = await self.http.get("/readyz", headers=bearer(ADMIN_TOKEN))
        return {"": str(answer.status_code), **answer.json()["parts"]}

    def events(self, file: str = "events.jsonl") -> list[dict[str, Any]]:
        """What the sink's file holds, complete lines only."""
        return [json.loads(line) for line in self.lines(file)]

    def lines(self, file: str = "events.jsonl") -> list[bytes]:
        path = self.data / file
        return path.read_bytes().split(b"\n")[:-1] if path.exists() else []

    def told(self, file: str = "events.jsonl") -> list[str]:
        """The tasks that the sink's file tells of, sorted."""
        return sorted(event["data"]["task_id"] for event in self.events(file))


@asynccontextmanager
async def receiver(folder: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[Receiver]:
    """A service that is ready; nothing of it runs on afterwards."""
    async with unstarted_receiver(folder, settings) as service:
        await service.start()
        yield service


@asynccontextmanager
async def unstarted_receiver(
    folder: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Receiver]:
    """A service to be started; nothing of it runs on afterwards."""
    service = Receiver(folder, settings or {})
    service.is_forked = True
    try:
        async with service.http:
            yield service
    finally:
        service.discard()


class Consumer:
    """An HTTP destination of notifications that answers as told, and keeps when and what it was sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.head = b"HTTP/1.1 200 X"  # status line and headers of every answer from now on
        self.silent = False
        self.bodies: list[bytes] = []
        self.heads: list[str] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await everyone_in()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def told(self) -> list[str]:
        return sorted(json.loads(body)["data"]["task_id"] for body in self.bodies)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while True:
                await self._answer_one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16":  # TLS, which is not spoken here
            raise ConnectionResetError
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = (line.partition(":") for line in head.lower().split("\r\n"))
        length = next((int(value) for name, _, value in lines if name == "content-length"), 0)
        self.bodies.append(await reader.readexactly(length))
        self.heads.append(head)
        self.times.append(time.monotonic())
        self.most_at_once = max(self.most_at_once, len(self._open))
        while self.silent:
            if reader.at_eof():
                raise ConnectionResetError
            await asyncio.sleep(0.02)
        writer.write(self.head + b"\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def consumer() -> AsyncIterator[Consumer]:
    """A consumer that is not there yet; ``start`` it."""
    host = Consumer()
    try:
        yield host
    finally:
        await host.stop()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
