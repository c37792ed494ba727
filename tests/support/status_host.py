"""The providers' APIs on loopback, each answer told by the test, and a client that talks to them."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from receiver.models import Access
from receiver.plugins import load_providers
from receiver.polling.status_client import StatusClient
from receiver.testing import TurnableClock
from tests.support.media_host import Answer, MediaHost, says

KEY = "key-of-the-test"
PER_MINUTE = 60
MODEL = "vendor/gpt-image-2"  # with an owner, as some providers want it


def access(host: MediaHost, *, key: str | None = KEY, per_minute: int = PER_MINUTE) -> Access:
    return Access(
        api_keys=(key,) if key else (),
        base_url=host.url(""),
        polls_per_minute=per_minute,
        first_poll_seconds=300.0,
    )


@asynccontextmanager
async def asking(
    host: MediaHost,
    clock: TurnableClock,
    *,
    key: str | None = KEY,
    per_minute: int = PER_MINUTE,
    timeout_seconds: float = 10.0,
    max_answer_bytes: int = 10_000,
) -> AsyncIterator[StatusClient]:
    """Asks every provider at ``host``."""
    providers = load_providers()
    # Verifies nothing, as nothing here is encrypted: reading the system's authorities takes a while.
    async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
        yield StatusClient(
            providers=providers,
            accesses={name: access(host, key=key, per_minute=per_minute) for name in providers},
            http=http,
            clock=clock,
            timeout_seconds=timeout_seconds,
            max_answer_bytes=max_answer_bytes,
        )


def tells(document: object, *lines: str, status: int = 200) -> Answer:
    """A document, or bytes as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return says(status, body, "connection: close", *lines)


def status_path(provider: str, task_id: str, model: str = "gpt-image-2") -> str:
    """Where a provider is asked about a task of such a model."""
    request = load_providers()[provider].status_request(task_id, model)
    assert request is not None
    url = httpx2.URL(request.path, params=dict(request.query) or None)
    return url.raw_path.decode()


def running(task_id: str = "t1") -> dict[str, object]:
    """What Vidgo says of a task that has not ended."""
    return {"code": 200, "data": {"task_id": task_id, "status": "running", "files": []}}
