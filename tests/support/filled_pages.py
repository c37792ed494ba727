"""A record with something of everything for the admin pages, some of it hostile, some of it secret."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import quote

import httpx2
import msgspec
from PIL import Image
from starlette.types import Receive, Scope, Send

from receiver.models import (
    Basis,
    Budget,
    BudgetPeriod,
    BudgetScope,
    NewOrder,
    Outcome,
    Price,
    Quote,
    Settlement,
)
from receiver.runtime import Runtime
from receiver.testing import sample_callback
from tests.support.factories import submission
from tests.support.loopback import serving
from tests.support.waiting import until
from tests.support.web_callers import callback_path, log_task

SINK_SECRET = "whsec_Q0FOQVJZLWNhbmFyeS1DQU5BUlktY2FuYXJ5"
SINK_TOKEN = "CANARYofasink"
KEY = "CANARYkeyofaprovider"
PROMPT = "CANARYprompt a lighthouse in a storm"
LINK_TOKEN = "CANARYofalink"
IN_METADATA = {
    "order": 7,
    "api_token": "CANARYtokeninmetadata",
    "picture": f"https://shop.example/{LINK_TOKEN}/in.png?sig={LINK_TOKEN}",
    "prompt": PROMPT,
}
ENVIRONMENT = {
    "RECEIVER_GATEWAY": "true",
    "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
    "RECEIVER_SINK_APP": f"http://127.0.0.1:9/hook?token={SINK_TOKEN}",
    "RECEIVER_SINK_APP_SECRET": SINK_SECRET,
    "RECEIVER_SINK_LOG": "jsonl:events.jsonl",
    "RECEIVER_CONFIRM": "never",
    "VIDGO_API_KEY": KEY,
    "VIDGO_BASE_URL": "http://127.0.0.1:9",
}
# What nobody may read on any page.
CANARIES = (SINK_SECRET, SINK_TOKEN, KEY, LINK_TOKEN, "CANARYtokeninmetadata")

MARKUP = "<script>alert(1)</script>"
HOSTILE_TASK = "a/b\"'><svg onload=alert(2)>&amp;{{7*7}}%2e%2e"
HOSTILE_OWNER = f"{MARKUP}\u202egnp.exe"
HOSTILE_MODEL = '"><img src=x onerror=alert(3)> javascript:alert(4)'
MICROS = 12_345_678  # of an order: as wide as a sum gets
DONE = "task-unified-1757165031-uyujaw3d"


def picture(width: int, height: int) -> bytes:
    """A PNG of some colours."""
    shades = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (shades, shades.rotate(180), Image.new("L", (width, height), 140)))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@asynccontextmanager
async def media() -> AsyncIterator[str]:
    """A provider's file host: pictures at paths that end in .png, drawings elsewhere."""
    tall, wide = picture(300, 420), picture(640, 360)

    async def host(scope: Scope, _receive: Receive, send: Send) -> None:
        body = b"<svg/>"
        if scope["path"].endswith(".png"):
            body = wide if scope["path"].endswith("1.png") else tall
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with serving(host) as port:
        yield f"http://127.0.0.1:{port}/{LINK_TOKEN}"


async def fill(runtime: Runtime, backend: httpx2.AsyncClient, admin: httpx2.AsyncClient) -> None:
    """Tasks in every state, callbacks that did not count, a reservation, costs, dead letters and a replay."""
    async with media() as host:
        where = callback_path(runtime)
        request = {"prompt": PROMPT}

        async def call(task_id: str, *names: str, error: str | None = None) -> None:
            files = [f"{host}/{name}?sig={LINK_TOKEN}" for name in names]
            body = sample_callback("vidgo", task_id, files=files, error=error)
            (await backend.post(where, content=body)).raise_for_status()

        await log_task(backend, DONE, model="gpt-image-2", metadata=IN_METADATA, request=request)
        await call(DONE, "0.png", "1.png")
        await log_task(backend, "task-partial-1", model="flux", owner="user-9")
        await call("task-partial-1", "0.png", "drawing")
        await log_task(backend, HOSTILE_TASK, model=HOSTILE_MODEL, owner=HOSTILE_OWNER)
        await call(HOSTILE_TASK, "0.png")
        await log_task(backend, "task-failed-1", owner="user-9", request=request)
        await call("task-failed-1", error=f"the prompt was refused: {PROMPT} {host}/x")
        for number in range(3):
            await log_task(backend, f"task-open-{number}", model="flux", owner=f"user-{number}")
        for task_id in (DONE, HOSTILE_TASK):
            await _ended(backend, task_id)
    await _odd(runtime, backend)
    asked = {"stage": "notify", "filter": {"state": "failed"}, "sinks": ["log"]}
    (await admin.post("/replays", json=asked)).raise_for_status()
    await _give_up(runtime)
    await _spend(runtime)


async def _ended(backend: httpx2.AsyncClient, task_id: str) -> None:
    async def is_completed() -> bool:
        shown = (await backend.get(f"/tasks/vidgo/{quote(task_id, safe='')}")).json()
        return bool(shown["state"] == "completed")

    await until(is_completed)


async def _odd(runtime: Runtime, backend: httpx2.AsyncClient) -> None:
    """What did not count: early, not understood, by another task's URL; and a reservation."""
    where = callback_path(runtime)
    await backend.post(where, content=sample_callback("vidgo", "task-early-1", error="no"))
    strange = {"code": 200, "data": {"task_id": "task-open-0", "status": f"{MARKUP} {LINK_TOKEN}://x"}}
    await backend.post(where, content=json.dumps(strange).encode())
    reserved = {"provider": "vidgo", "owner": "user-17", "model": "flux"}
    for _ in range(2):
        made = (await backend.post("/submissions", json=reserved)).json()
    path = made["callback_url"].partition("receiver.test")[2] or made["callback_url"].partition("://")[2]
    path = path[path.index("/callbacks/") :]
    await backend.post(path, content=sample_callback("vidgo", "task-bound-1", error="no"))
    await backend.post(path, content=sample_callback("vidgo", "task-other-1", error="no"))


async def _give_up(runtime: Runtime) -> None:
    now = runtime.clock.now()
    settlement = Settlement(
        outcome=Outcome.CONNECT_FAILED, started_at=now, settled_at=now, detail="nobody listens"
    )

    async def given_up() -> bool:
        later = now + timedelta(hours=1)
        return bool(await runtime.store.give_up_outbox("app", later, settlement, 100))

    await until(given_up)


async def _spend(runtime: Runtime) -> None:
    """Orders with a price and without, of hostile names too, and a budget that one of them uses up."""
    now = runtime.clock.now()
    price = Price(micros=MICROS, credits="8", basis=Basis.EXACT, tier="4K", as_of="2026-11-28")
    for number, (owner, model, priced) in enumerate(
        (("user-17", "gpt-image-2", price), (HOSTILE_OWNER, HOSTILE_MODEL, None))
    ):
        row = msgspec.structs.replace(
            submission(None, id_=f"sub_priced{number}", owner=owner), model=model, created_at=now
        )
        new = NewOrder(
            submission=row,
            credential="c",
            upstream_key="k",
            guard=None,
            digest="d",
            guard_since=now,
            lease_until=now + timedelta(seconds=150),
            quote=Quote(price=priced),
        )
        await runtime.store.reserve_order(new)
    for name in ("user-17", HOSTILE_OWNER):
        bound = Budget(
            scope=BudgetScope.OWNER,
            name=name,
            period=BudgetPeriod.MONTH,
            micros=MICROS,
            is_hard=True,
            set_at=now,
        )
        await runtime.store.set_budget(bound)
