"""Every secret is changed under traffic: both work for a while, then only the new; nothing fails."""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from receiver.testing import sample_callback
from receiver.tokens import Tokens
from tests.e2e.service import Consumer, Receiver, bearer, consumer, receiver
from tests.support.waiting import until

OLD_SECRET, NEW_SECRET = "the-old-key-of-all-tokens", "the-new-key-of-all-tokens"
OLD_API, NEW_API = "the-old-token-of-a-backend", "the-new-token-of-a-backend"
OLD_ADMIN, NEW_ADMIN = "the-old-token-of-an-admin", "the-new-token-of-an-admin"
OLD_HOOK, NEW_HOOK = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))

PHASES = {
    "old": (OLD_SECRET, OLD_API, OLD_ADMIN, OLD_HOOK),
    "both": tuple(
        f"{new},{old}"
        for new, old in (
            (NEW_SECRET, OLD_SECRET), (NEW_API, OLD_API), (NEW_ADMIN, OLD_ADMIN), (NEW_HOOK, OLD_HOOK),
        )
    ),
    "new": (NEW_SECRET, NEW_API, NEW_ADMIN, NEW_HOOK),
}  # fmt: skip


def settings(phase: str, hook: str) -> dict[str, str]:
    secret, api, admin, hook_secret = PHASES[phase]
    return {
        "RECEIVER_SECRET": secret,
        "RECEIVER_API_TOKENS": api,
        "RECEIVER_ADMIN_TOKENS": admin,
        "RECEIVER_SINK_HOOK": hook,
        "RECEIVER_SINK_HOOK_SECRET": hook_secret,
    }


class Traffic:
    """Providers and backends that ask again where nobody listens, and note every other answer."""

    def __init__(self, service: Receiver) -> None:
        self._service = service
        self.secret, self.api, self.admin = OLD_SECRET, OLD_API, OLD_ADMIN
        self.seen: Counter[tuple[str, int]] = Counter()
        self.acknowledged: set[str] = set()
        self._number = 0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        kinds = (self._submit_and_finish, self._submit_and_finish, self._list_stats, self._fetch_by_link)
        tasks = [asyncio.create_task(self._forever(kind)) for kind in kinds]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    async def _forever(self, ask: Callable[[], Awaitable[None]]) -> None:
        while True:
            with suppress(httpx2.TransportError):  # it is being started again
                await ask()
            await asyncio.sleep(0.01)

    async def _submit_and_finish(self) -> None:
        self._number += 1
        task_id = f"task-{self._number}"
        row = {"provider": "vidgo", "owner": "user-17", "task_id": task_id}
        answer = await self._service.http.post("/submissions", json=row, headers=bearer(self.api))
        self._note("submit", answer)
        path = f"/callbacks/vidgo/{Tokens([self.secret]).for_provider('vidgo')}"
        answer = await self._service.http.post(path, content=sample_callback("vidgo", task_id, error="no"))
        self._note("callback", answer)
        if answer.json()["status"] == "accepted":
            self.acknowledged.add(task_id)

    async def _list_stats(self) -> None:
        self._note("admin", await self._service.http.get("/stats", headers=bearer(self.admin)))

    async def _fetch_by_link(self) -> None:
        expires = int(time.time()) + 60
        signature = Tokens([self.secret]).sign_link("vidgo", "x", 0, expires)
        answer = await self._service.http.get(f"/assets/vidgo/x/0?expires={expires}&signature={signature}")
        self._note("link", answer)  # 404: allowed to look, and there is no such file

    def _note(self, kind: str, answer: httpx2.Response) -> None:
        if answer.status_code != 503:  # interrupted by the stop, and told to ask again
            self.seen[kind, answer.status_code] += 1

    async def more(self) -> None:
        """Until each kind was answered a few times more."""
        goal = {kind: self._count(kind) + 5 for kind in ("submit", "callback", "admin", "link")}
        await until(lambda: all(self._count(kind) >= wanted for kind, wanted in goal.items()))

    def _count(self, kind: str) -> int:
        return sum(count for (name, _), count in self.seen.items() if name == kind)


@pytest.fixture
async def hook() -> AsyncIterator[Consumer]:
    async with consumer() as host:
        await host.start()
        yield host


async def test_every_secret_is_rotated_and_no_request_is_refused_meanwhile(
    tmp_path: Path, hook: Consumer
) -> None:
    async with receiver(tmp_path, settings("old", hook.url)) as service:
        traffic = Traffic(service)
        async with traffic.flowing():
            await traffic.more()
            await _restart(service, settings("both", hook.url))
            await traffic.more()  # nobody else has changed yet
            traffic.secret, traffic.api, traffic.admin = NEW_SECRET, NEW_API, NEW_ADMIN
            await traffic.more()
            mark = len(hook.bodies)
            await traffic.more()
            await until(lambda: len(hook.bodies) > mark)
            assert _signed_by(hook, mark, OLD_HOOK)
            assert _signed_by(hook, mark, NEW_HOOK)
            await _restart(service, settings("new", hook.url))
            await traffic.more()
        assert set(traffic.seen) == {("submit", 201), ("callback", 200), ("admin", 200), ("link", 404)}
        await until(lambda: traffic.acknowledged <= set(hook.told()))
        assert _signed_by(hook, len(hook.bodies) - 1, NEW_HOOK)
        assert not _signed_by(hook, len(hook.bodies) - 1, OLD_HOOK)
        assert await _old_ones(service) == [401, 401, 403, 401, 401]


async def _restart(service: Receiver, changed: dict[str, str]) -> None:
    await service.stop()
    service.environment |= changed
    await service.start()


def _signed_by(hook: Consumer, index: int, secret: str) -> bool:
    """Whether a consumer with this secret takes the notification for ours."""
    lines = (line.partition(": ") for line in hook.heads[index].split("\r\n"))
    try:
        Webhook(secret).verify(hook.bodies[index], {name.lower(): value for name, _, value in lines})
    except WebhookVerificationError:
        return False
    return True


async def _old_ones(service: Receiver) -> list[int]:
    """What an old callback URL, submission URL, link, backend and admin are answered."""
    old = Tokens([OLD_SECRET])
    expires = int(time.time()) + 60
    link = f"/assets/vidgo/x/0?expires={expires}&signature={old.sign_link('vidgo', 'x', 0, expires)}"
    body = sample_callback("vidgo", "x")
    http = service.http
    answers = [
        await http.post(f"/callbacks/vidgo/{old.for_provider('vidgo')}", content=body),
        await http.post(f"/callbacks/vidgo/{old.for_submission('vidgo', 'sub_x')}", content=body),
        await http.get(link),
        await http.get("/tasks", headers=bearer(OLD_API)),
        await http.get("/stats", headers=bearer(OLD_ADMIN)),
    ]
    return [answer.status_code for answer in answers]
