"""Who calls the doors in tests, and what they send."""

import json
from collections.abc import MutableMapping, MutableSequence
from typing import Any

import httpx2
from starlette.types import ASGIApp

from receiver.plugins import names
from receiver.runtime import Runtime
from receiver.testing import sample_callback

LogLines = MutableSequence[MutableMapping[str, Any]]

PROVIDERS = ", ".join(sorted(names("providers")))  # as refusals list them

API_TOKEN = "a-backend-of-the-tests"
ADMIN_TOKEN = "an-admin-of-the-tests"


def caller(app: ASGIApp, token: str | None = None) -> httpx2.AsyncClient:
    """A client that speaks to the app in this process, with a token if one is given."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app), base_url="http://receiver.test", headers=headers
    )


def callback_path(runtime: Runtime, provider: str = "vidgo") -> str:
    """Where every callback of a provider may go."""
    return f"/callbacks/{provider}/{runtime.tokens.for_provider(provider)}"


def progress_callback(task_id: str) -> bytes:
    """Vidgo says that it still works."""
    return json.dumps({"code": 200, "data": {"task_id": task_id, "status": "running"}}).encode()


async def log_task(client: httpx2.AsyncClient, task_id: str, **fields: Any) -> dict[str, Any]:
    """Log a task of Vidgo's as submitted; the submission."""
    answer = await client.post(
        "/submissions", json={"provider": "vidgo", "owner": "user-17", "task_id": task_id, **fields}
    )
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


async def fail_task(client: httpx2.AsyncClient, runtime: Runtime, task_id: str, **fields: Any) -> None:
    """Log a task of Vidgo's and have it fail: an event without files, so it goes to the sinks at once."""
    await log_task(client, task_id, **fields)
    body = sample_callback("vidgo", task_id, error="no")
    (await client.post(callback_path(runtime), content=body)).raise_for_status()


async def verdicts(runtime: Runtime) -> dict[str, int]:
    """How many deliveries of each verdict are recorded; those with none are left out."""
    stats = await runtime.store.count_stats()
    return {name: count for name, count in stats.deliveries.items() if count}
