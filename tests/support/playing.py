"""The simulator on a free port, and a user of the providers who submits, asks and is called back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from receiver import payload
from receiver.models import Report, ReportState
from receiver.ports import Provider
from receiver.providers.apidot import Apidot
from receiver.providers.apixo import Apixo
from receiver.providers.reapi import Reapi
from receiver.providers.vidgo import Vidgo
from receiver.simulator import SimulatorOptions, serve_simulator
from tests.support.waiting import until

PROVIDERS: dict[str, Provider] = {
    "vidgo": Vidgo(),
    "apidot": Apidot(),
    "apixo": Apixo(),
    "reapi": Reapi(),
}
PUSHING = ("vidgo", "apidot", "apixo")
MODELS = {
    "vidgo": "gpt-4o-image",
    "apidot": "flux-2",
    "apixo": "gpt-image-1",
    "reapi": "gpt-image-2-official",
}
QUICK = SimulatorOptions(task_seconds=0.0, retry_factor=0.01, picture_pixels=64)


class Backend:
    """What a user of the providers has: a client, and a callback endpoint that answers by a script."""

    def __init__(self, http: httpx2.AsyncClient, callback_url: str, statuses: list[int]) -> None:
        self.http = http
        self.callback_url = callback_url
        self.statuses = statuses  # the answers to come; 200 when used up
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []  # of the same, by their names in lower case

    async def submit(
        self,
        provider: str,
        *,
        model: str | None = None,
        count: int = 1,
        callback: bool = True,
        **simulate: object,
    ) -> httpx2.Response:
        model = model or MODELS[provider]
        url = self.callback_url if callback and provider in PUSHING else None
        path, body = submission(provider, model, count, url)
        return await self.http.post(path, json=body | {"simulate": simulate})

    async def ask(self, provider: str, task_id: str) -> httpx2.Response:
        request = PROVIDERS[provider].status_request(task_id, MODELS[provider])
        assert request is not None
        return await self.http.get(f"/{provider}{request.path}", params=dict(request.query))

    async def ended(self, provider: str, task_id: str) -> Report:
        """Poll until the task has ended, reading the answers as the receiver does."""

        async def end() -> Report | None:
            answer = await self.ask(provider, task_id)
            report = PROVIDERS[provider].parse(payload.decode(answer.content))
            return None if report.state is ReportState.PROGRESS else report

        return await until(end)

    async def called(self, times: int) -> list[bytes]:
        """The bodies of the callbacks, once so many have come."""
        await until(lambda: len(self.bodies) >= times)
        return self.bodies

    async def truth(self, is_ready: Callable[[dict[str, Any]], object] = bool) -> dict[str, Any]:
        """What the simulator tells of the last task, once it is as wanted."""

        async def last() -> dict[str, Any] | None:
            task: dict[str, Any] = (await self.http.get("/truth")).json()[-1]
            return task if is_ready(task) else None

        return await until(last)


def submission(provider: str, model: str, count: int, url: str | None) -> tuple[str, dict[str, Any]]:
    """A request as each provider documents it; the number of images only where more than one is wanted."""
    if provider == "reapi":
        many: dict[str, Any] = {"n": count} if count > 1 else {}
        return "/reapi/api/v1/images/generations", {"model": model, "prompt": "hills"} | many
    if provider == "apixo":
        wanted = {"mode": "text-to-image", "prompt": "hills"} | ({"num_images": count} if count > 1 else {})
        kind = {"request_type": "callback", "callback_url": url} if url else {"request_type": "async"}
        return f"/apixo/api/v1/generateTask/{model}", kind | {"input": wanted}
    wanted = {"prompt": "hills"} | ({"n": count} if count > 1 else {})
    return f"/{provider}/api/generate/submit", {"model": model, "callback_url": url, "input": wanted}


def id_in(provider: str, answer: httpx2.Response) -> str:
    document = answer.json()
    task_id = {
        "vidgo": lambda: document["data"]["task_id"],
        "apidot": lambda: document["data"]["task_id"],
        "apixo": lambda: document["data"]["taskId"],
        "reapi": lambda: document["id"],
    }[provider]()
    assert isinstance(task_id, str)
    return task_id


@asynccontextmanager
async def playing(
    options: SimulatorOptions = QUICK, statuses: Sequence[int] = (), headers: dict[str, str] | None = None
) -> AsyncIterator[Backend]:
    """The simulator on one port and a callback endpoint on another."""
    async with (
        serve_simulator(options=options) as url,
        httpx2.AsyncClient(
            base_url=url, trust_env=False, verify=False, headers=headers, timeout=60.0
        ) as http,
    ):
        backend = Backend(http, "", list(statuses))
        async with callback_endpoint(backend) as callback_url:
            backend.callback_url = callback_url
            yield backend


@asynccontextmanager
async def callback_endpoint(backend: Backend) -> AsyncIterator[str]:
    """Takes every callback, and at the end none that was not sent as providers send them."""
    odd: list[bytes] = []  # an assertion that fails in ``answer`` would only be logged

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        pairs = (line.decode("latin-1").split(": ", 1) for line in head.split(b"\r\n")[1:-2])
        fields = {name.lower(): value for name, value in pairs}
        backend.bodies.append(await reader.readexactly(int(fields["content-length"])))
        backend.headers.append(fields)
        is_json = fields.get("content-type") == "application/json"
        if not (is_json and head.startswith(b"POST /callbacks/token HTTP/1.1\r\n")):
            odd.append(head)
        status = backend.statuses.pop(0) if backend.statuses else 200
        body = b'{"status": "accepted"}'
        writer.write(
            b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        )
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callbacks/token"
    assert odd == []
