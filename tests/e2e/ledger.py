"""A backend that never gives up, and the ledger: what its providers really did, minus what is on record."""

import asyncio
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import httpx2

from receiver.tokens import Tokens
from tests.e2e.service import ADMIN_TOKEN, API_TOKEN, SECRET, Receiver, bearer

PROVIDERS = ("vidgo", "apidot", "apixo", "reapi")
PATIENCE_SECONDS = 120.0
TYPES = {"completed": "task.completed", "failed": "task.failed"}


def key_of(provider: str) -> str:
    return f"CANARY-key-of-{provider}"


def asking(simulator_url: str, *, first_poll_seconds: float, polls_per_minute: int) -> dict[str, str]:
    """Settings with which the service asks the played providers."""
    return {
        f"{name.upper()}_{option}": value
        for name in PROVIDERS
        for option, value in {
            "API_KEY": key_of(name),
            "BASE_URL": f"{simulator_url}/{name}",
            "FIRST_POLL_SECONDS": f"{first_poll_seconds:g}",
            "POLLS_PER_MINUTE": str(polls_per_minute),
        }.items()
    }


class Door(Protocol):
    """Where the service is reached: a process, or what stands before several."""

    @property
    def url(self) -> str: ...
    @property
    def http(self) -> httpx2.AsyncClient: ...


class Shop:
    """Orders images at the played providers, and logs every order at a service that may die at any moment."""

    def __init__(self, service: Door, providers: httpx2.AsyncClient) -> None:
        self._service = service
        self._providers = providers
        self._tokens = Tokens([SECRET])

    async def order_many(self, count: int, *, at_once: int = 24) -> None:
        """``count`` tasks, spread over the providers and over both ways to log them."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self.order(number)

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def order(self, number: int) -> None:
        """One task, at the provider and in the way that its number decides."""
        provider = PROVIDERS[number % len(PROVIDERS)]
        row = {"provider": provider, "owner": f"user-{number % 7}", "model": _MODELS[provider]}
        if provider == "reapi" or number % 3 == 0:
            # Everybody who has a provider's URL may lie through it; a task's own URL is nobody else's.
            lie: dict[str, object] = (
                {"simulate": {"forge": True}} if provider != "reapi" and number % 5 == 0 else {}
            )
            task_id = await self._submit(provider, number, self._provider_url(provider), lie)
            await self.ask("POST", "/submissions", json=row | {"task_id": task_id})
            return
        reserved = await self.ask("POST", "/submissions", json=row)
        task_id = await self._submit(provider, number, reserved["callback_url"])
        await self.ask("PATCH", f"/submissions/{reserved['id']}", json={"task_id": task_id})

    def _provider_url(self, provider: str) -> str:
        return f"{self._service.url}/callbacks/{provider}/{self._tokens.for_provider(provider)}"

    async def _submit(
        self, provider: str, number: int, callback_url: str, fate: dict[str, object] | None = None
    ) -> str:
        path, body = _order(provider, number, callback_url)
        answer = await self._providers.post(path, json=body | (fate or {}), headers=bearer(key_of(provider)))
        answer.raise_for_status()
        document = answer.json()
        data = document.get("data", document)
        task_id: str = data.get("task_id") or data.get("taskId") or data["id"]
        return task_id

    async def ask(self, method: str, path: str, token: str = API_TOKEN, **content: Any) -> Any:
        """A good answer of the service, however often it has to be asked."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            try:
                answer = await self._service.http.request(method, path, headers=bearer(token), **content)
                if answer.status_code < 500:
                    answer.raise_for_status()
                    return answer.json()
            except httpx2.TransportError:
                pass
            assert asyncio.get_running_loop().time() < deadline, f"{method} {path}: never answered"
            await asyncio.sleep(0.1)

    async def is_at_rest(self, count: int) -> bool:
        """Whether all ``count`` tasks have ended, and every sink has been told."""
        stats = await self.ask("GET", "/stats", ADMIN_TOKEN)
        ended = sum(stats["tasks"].get(state, 0) for state in ("completed", "partial", "failed"))
        pending = sum(sink.get("pending", 0) for sink in stats["outbox"].values())
        return bool(ended == count and pending == 0)

    async def truth(self) -> list[dict[str, Any]]:
        """What the simulator says that really happened."""
        truth: list[dict[str, Any]] = (await self._providers.get("/truth")).json()
        return truth

    async def tasks(self) -> dict[str, dict[str, Any]]:
        """Every task on record, by ``provider/task_id``."""
        found: dict[str, dict[str, Any]] = {}
        cursor: str | None = None
        while True:
            query = {"limit": "200"} | ({"cursor": cursor} if cursor else {})
            page = await self.ask("GET", "/tasks", params=query)
            found |= {f"{row['provider']}/{row['task_id']}": row for row in page["tasks"]}
            cursor = page["next_cursor"]
            if cursor is None:
                return found


_MODELS = {
    "vidgo": "gpt-4o-image",
    "apidot": "flux-2",
    "apixo": "gpt-image-1",
    "reapi": "gpt-image-2-official",
}


def _order(provider: str, number: int, callback_url: str) -> tuple[str, dict[str, object]]:
    prompt, images, model = f"Number {number}", 1 + number % 2, _MODELS[provider]
    if provider == "reapi":
        return "/reapi/api/v1/images/generations", {"model": model, "prompt": prompt, "n": images}
    if provider == "apixo":
        wanted = {"mode": "text-to-image", "prompt": prompt, "num_images": images}
        body: dict[str, object] = {
            "request_type": "callback",
            "callback_url": callback_url,
            "input": wanted,
        }
        return f"/apixo/api/v1/generateTask/{model}", body
    order: dict[str, object] = {"model": model, "callback_url": callback_url}
    return f"/{provider}/api/generate/submit", order | {"input": {"prompt": prompt, "n": images}}


async def differences(shop: Shop, service: Receiver, sinks: Mapping[str, str]) -> list[str]:
    """The ledger: all that is not as it really happened. ``sinks``: from name to file in the data folder."""
    truth = {f"{task['provider']}/{task['task_id']}": task for task in await shop.truth()}
    events = {sink: service.events(file) for sink, file in sinks.items()}
    return [*told_wrongly(truth, await shop.tasks(), events), *_bytes(truth, service)]


def told_wrongly(
    truth: Mapping[str, Any], tasks: Mapping[str, Any], events: Mapping[str, list[dict[str, Any]]]
) -> list[str]:
    """What record and sinks tell otherwise than it happened. ``events``: by sink, what it was told."""
    found = list(_states(truth, tasks))
    for sink, told in events.items():
        found += [f"sink {sink}: {problem}" for problem in _events(truth, told)]
    return found


def _states(truth: Mapping[str, Any], tasks: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(truth.keys() | tasks.keys()):
        here, there = tasks.get(name, {}).get("state"), truth.get(name, {}).get("state")
        if here != there:
            yield f"{name} is {here}, at its provider {there}"
        if truth.get(name, {}).get("forged_fetches"):
            yield f"{name}: a forged link was fetched"


def _bytes(truth: Mapping[str, Any], service: Receiver) -> Iterator[str]:
    """Whole files, all of them, and nothing else: no torn one, none of a forgery, no leftovers."""
    wanted = Counter(file["sha256"] for task in truth.values() for file in task["files"])
    folder = service.data / "assets"
    there = Counter(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    )
    if missing := wanted - there:
        yield f"{missing.total()} images are missing"
    if strange := there - wanted:
        yield f"{strange.total()} files are nobody's"


def _events(truth: Mapping[str, Any], events: list[dict[str, Any]]) -> Iterator[str]:
    told: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        told[event["subject"]].append(event)
    for name in sorted(truth.keys() | told.keys()):
        ids = {event["id"].removesuffix(f".{event['revision']}") for event in told[name]}
        if len(ids) != 1 or name not in truth:
            yield f"{name} is told by {len(ids)} ids"
            continue
        last = max(told[name], key=lambda event: event["revision"])
        if last["type"] != TYPES[truth[name]["state"]]:
            yield f"{name} is told as {last['type']}: {json.dumps(last['data']['error'])}"
        hashes = [asset.get("sha256") for asset in last["data"]["assets"]]
        if hashes != [file["sha256"] for file in truth[name]["files"]]:
            yield f"{name}: its files are told wrongly"
