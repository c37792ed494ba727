"""What a user's backend does: order through the gateway, or log a submission, order, and bind the two."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from receiver.cli.callback_url import provider_url
from receiver.cli.demo.plan import PROVIDERS, Job
from receiver.cli.demo.service import KEY
from receiver.config.credentials import read_credentials
from receiver.config.settings import Settings
from receiver.errors import Unavailable
from receiver.tokens import Tokens
from receiver.urls import path_part

TIMEOUT_SECONDS = 30.0


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it was submitted."""

    job: Job
    task_id: str
    submission_id: str

    @property
    def name(self) -> str:
        return f"{self.job.provider}/{self.task_id}"


class Backend:
    """Submits jobs in every way that there is, and asks about them.

    Every method raises Unavailable for a bad answer, and the HTTP client's own errors for none.
    """

    def __init__(
        self,
        *,
        service: httpx2.AsyncClient,
        admin_token: str,
        providers: httpx2.AsyncClient,
        callback_urls: Mapping[str, str],
    ) -> None:
        self._service = service
        self._admin_token = admin_token
        self._providers = providers
        self._callback_urls = callback_urls

    async def submit(self, job: Job) -> Handed:
        """Order through the gateway; else log first, then order, and early jobs the other way round."""
        if job.by_gateway:
            return await self._order_by_gateway(job)
        new = {
            "provider": job.provider,
            "owner": job.owner,
            "model": job.model,
            "metadata": job.metadata,
            "request": {"prompt": job.prompt, "images": job.images},
        }
        if job.early:
            task_id = await self._order(job, self._callback_urls[job.provider])
            submission = await self._ask("POST", "/submissions", json=new | {"task_id": task_id})
        else:
            submission = await self._ask("POST", "/submissions", json=new)
            task_id = await self._order(job, submission["callback_url"])
            await self._ask("PATCH", f"/submissions/{submission['id']}", json={"task_id": task_id})
        return Handed(job=job, task_id=task_id, submission_id=submission["id"])

    async def _order_by_gateway(self, job: Job) -> Handed:
        """Order as from the provider itself: no callback URL, and nothing to log.

        The lie about a task comes from whoever knows its provider's URL, which names no task.
        """
        path, body = _order_for(job)
        fate = job.simulate | ({"forge_url": self._callback_urls[job.provider]} if job.forged else {})
        whose = {"x-receiver-owner": job.owner, "x-receiver-metadata": json.dumps(job.metadata)}
        answer = await self._service.post(
            f"/gateway{path}", json=body | {"simulate": fate}, headers=_bearer(KEY) | whose
        )
        task_id = _task_id(job, answer)
        return Handed(job=job, task_id=task_id, submission_id=answer.headers["x-receiver-submission"])

    async def _order(self, job: Job, callback_url: str) -> str:
        path, body = _order_by_hand(job, callback_url)
        answer = await self._providers.post(path, json=body | {"simulate": job.simulate})
        return _task_id(job, answer)

    async def forge(self, victim: Handed) -> int:
        """Say that a Vidgo task failed, as a stranger with another provider's token; the answer's status."""
        token = self._callback_urls["apidot"].rpartition("/")[2]
        lie = {"task_id": victim.task_id, "status": "failed", "files": [], "error_message": "a lie"}
        answer = await self._service.post(
            f"/callbacks/vidgo/{token}", json={"code": 200, "data": lie}, headers={"authorization": ""}
        )
        return answer.status_code

    async def stats(self) -> dict[str, Any]:
        """Counts of everything the service holds; for admins alone."""
        return await self._ask("GET", "/stats", headers=_bearer(self._admin_token))

    async def task(self, handed: Handed) -> dict[str, Any]:
        """One task with its whole history."""
        return await self._ask("GET", f"/tasks/{handed.job.provider}/{path_part(handed.task_id)}")

    async def truth(self) -> bytes:
        """What really happened, as the simulator tells it."""
        answer = await self._providers.get("/truth")
        return answer.content

    async def open_link(self, url: str) -> httpx2.Response:
        """Open a link as anybody who holds it can: no token goes with it."""
        return await self._providers.get(url)

    async def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        return _document(await self._service.request(method, path, **content), f"{method} {path}")


@asynccontextmanager
async def open_backend(settings: Settings, providers_url: str) -> AsyncIterator[Backend]:
    """A backend of the service with these settings, and a customer of the providers at this URL."""
    credentials = read_credentials(settings.data_dir)
    if credentials is None:
        raise Unavailable(f"the service left no credentials in {settings.data_dir}")
    tokens = Tokens((credentials.secret,))
    async with (
        httpx2.AsyncClient(
            base_url=settings.url,
            headers=_bearer(credentials.api_token),
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        ) as service,
        httpx2.AsyncClient(base_url=providers_url, timeout=TIMEOUT_SECONDS, trust_env=False) as providers,
    ):
        yield Backend(
            service=service,
            admin_token=credentials.admin_token,
            providers=providers,
            callback_urls={name: provider_url(settings, tokens, name) for name in PROVIDERS},
        )


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _order_for(job: Job) -> tuple[str, dict[str, object]]:
    """Path and body as the provider documents them, without a callback."""
    wanted: dict[str, object]
    match job.provider:
        case "apixo":
            wanted = {"mode": "text-to-image", "prompt": job.prompt, "num_images": job.images}
            return f"/apixo/api/v1/generateTask/{job.model}", {"request_type": "async", "input": wanted}
        case "reapi":
            wanted = {"model": job.model, "prompt": job.prompt, "n": job.images}
            return "/reapi/api/v1/images/generations", wanted
        case _:
            wanted = {"prompt": job.prompt} | ({"n": job.images} if job.images > 1 else {})
            return f"/{job.provider}/api/generate/submit", {"model": job.model, "input": wanted}


def _order_by_hand(job: Job, callback_url: str) -> tuple[str, dict[str, object]]:
    """The same for a provider that is called back at a URL of ours."""
    wanted: dict[str, object]
    if job.provider == "replicate":
        wanted = {"prompt": job.prompt, "num_outputs": job.images}
        hook = {"webhook": callback_url, "webhook_events_filter": ["completed"]}
        return "/replicate/v1/predictions", {"version": job.model, "input": wanted, **hook}
    wanted = {"prompt": job.prompt, "num_images": job.images}
    return f"/wavespeed/api/v3/{job.model}?webhook={quote(callback_url, safe='')}", wanted


def _task_id(job: Job, answer: httpx2.Response) -> str:
    """The id in a provider's answer to an order."""
    document = _document(answer, f"an order at {job.provider}")
    task_id: str
    match job.provider:
        case "reapi" | "replicate":
            task_id = document["id"]
        case "wavespeed":
            task_id = document["data"]["id"]
        case "apixo":
            task_id = document["data"]["taskId"]
        case _:
            task_id = document["data"]["task_id"]
    return task_id


def _document(answer: httpx2.Response, what: str) -> dict[str, Any]:
    if answer.status_code >= 400:
        raise Unavailable(f"{what} was answered with {answer.status_code}")
    document: dict[str, Any] = answer.json()
    return document
