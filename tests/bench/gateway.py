"""What the gateway costs an order and a status question, beside asking the provider directly.

    python -m tests.bench.gateway

A provider in a process of its own answers after 50 ms. Orders go to it directly and through the service, by
turns: one after the other, then 32 at once. Status is that of tasks which have ended, told from the record.
Uploads of 100 MiB go directly and through, too, and through a process that passes on what comes, unread: how
near the service may come at all. Callbacks come at a fixed pace, alone and beside 100 orders a
second; what counts is how many were acknowledged within a second. Rules and price are processor time alone.
Load, service and provider share the machine. Takes some three minutes. Exits 1 when a target is missed, an
order is not bound, or the provider was asked about a task that had ended.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from receiver.gateway.catalog import load_catalogs
from receiver.gateway.quotes import Quotes
from receiver.models import GatewayCheck
from receiver.testing import sample_callback
from tests.bench.lean_client import LeanClient, lean_client
from tests.bench.quotes import KINDS, MOST
from tests.bench.quotes import measure as measure_quote
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.bench.start import resident_mib
from tests.e2e.service import ADMIN_TOKEN, Receiver, bearer, receiver
from tests.support.sink_hosts import free_port
from tests.support.waiting import until

DELAY_SECONDS = 0.05
AT_ONCE = 32
KEY = "key-of-the-benchmark"
DIRECT, THROUGH = "/api/generate/submit", "/gateway/vidgo/api/generate/submit"
STATUS = "/gateway/vidgo/api/generate/status/"
UPLOAD = "/api/common/upload/stream"
PIECE = b"\0" * 65_536
PIECES = 1_600  # 100 MiB
ORDERS_A_SECOND = 100
CALLBACKS_A_SECOND = 200
BESIDE_SECONDS = 4.0
IN_TIME_SECONDS = 1.0

Call = Callable[[int], Awaitable[None]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=60, help="of each kind in a round, one after the other")
    add_json(parser)
    chosen = parser.parse_args()
    wait_for_quiet()
    with tempfile.TemporaryDirectory(prefix="receiver-gateway-") as folder, foreign() as cores:
        found, holds = uvloop.run(measure(Path(folder), chosen.rounds, chosen.orders))
        quotes = Quotes(load_catalogs(None), GatewayCheck.WARN)
        found["rules"] = [
            max(
                measure_quote(quotes, name, fields, 1000)
                for name in load_catalogs(None)
                for fields in KINDS.values()
            )
            for _ in range(chosen.rounds)
        ]
    print(f"{chosen.rounds} rounds; others took {cores[0]:.2f} cores", file=sys.stderr)
    return report(Result(rows=rows(found), foreign_cores=cores[0], holds=holds), as_json=chosen.json)


def rows(found: dict[str, list[float]]) -> list[Row]:
    one, many = "one at a time", f"{AT_ONCE} at once"
    return [
        Row(
            measure=f"order, {one}, {name}",
            unit="ms",
            ours=found[f"through {one} {name}"],
            yardstick="direct",
            theirs=found[f"direct {one} {name}"],
            target=target,
            at_most=True,
        )
        for name, target in (("p50", 1.10), ("p99", 1.5))
    ] + [
        Row(
            measure=f"order, {one}, p50 over direct",
            unit="ms",
            ours=[
                our - their
                for our, their in zip(found[f"through {one} p50"], found[f"direct {one} p50"], strict=True)
            ],
            target=5.0,
            at_most=True,
        ),
        Row(
            measure=f"order, {many}, p50",
            unit="ms",
            ours=found[f"through {many} p50"],
            yardstick="direct",
            theirs=found[f"direct {many} p50"],
            target=1.4,
            at_most=True,
        ),
        Row(measure=f"orders, {many}", unit="/s", ours=found[f"through {many} rate"], target=400),
        Row(measure="status, p50", unit="ms", ours=found["status p50"], target=3.0, at_most=True),
        Row(measure=f"status, {many}", unit="/s", ours=found["status rate"], target=2000),
        Row(
            measure=f"callbacks beside {ORDERS_A_SECOND} orders/s",
            unit="/s",
            ours=found["callbacks beside"],
            yardstick="alone",
            theirs=found["callbacks alone"],
            target=0.95,
        ),
        Row(measure="orders beside callbacks", unit="/s", ours=found["orders beside"]),
        Row(
            measure="upload of 100 MiB",
            unit="MiB/s",
            ours=found["upload through"],
            yardstick="direct",
            theirs=found["upload direct"],
            target=0.7,
        ),
        Row(
            measure="upload, beside a bare relay",
            unit="MiB/s",
            ours=found["upload through"],
            yardstick="bare relay",
            theirs=found["upload relayed"],
        ),
        Row(
            measure="upload, memory on top",
            unit="MiB",
            ours=found["upload memory through"],
            target=16.0,
            at_most=True,
        ),
        Row(
            measure="rules and price, dearest kind",
            unit="us",
            ours=found["rules"],
            target=MOST,
            at_most=True,
        ),
    ]


async def measure(folder: Path, rounds: int, orders: int) -> tuple[dict[str, list[float]], bool]:
    """The figures of every round, and whether each order that was taken is bound."""
    found: dict[str, list[float]] = {}
    async with process("provider") as base_url, process("relay", base_url) as relay_url:
        settings = {
            "RECEIVER_GATEWAY": "true",
            "VIDGO_BASE_URL": base_url,
            "VIDGO_API_KEY": KEY,
            "RECEIVER_LOG_LEVEL": "warning",
        }
        async with (
            receiver(folder, settings) as service,
            client(base_url) as direct,
            client(service.url) as through,
            client(relay_url) as relayed,
            lean_client(base_url, bearer(KEY)) as lean_direct,
            lean_client(service.url, bearer(KEY)) as lean_through,
        ):
            numbers = itertools.count()
            for _ in range(rounds):
                await _order(found, "direct", lean_direct, DIRECT, numbers, orders)
                await _order(found, "through", lean_through, THROUGH, numbers, orders)
            asked = await _questions(direct)
            await _ask(found, service, lean_through)
            is_unasked = await _questions(direct) == asked
            beside = 0
            for _ in range(rounds):
                beside += await _call_back(found, service, through, numbers)
                await _upload(found, "direct", direct, UPLOAD, service.pid)
                await _upload(found, "relayed", relayed, UPLOAD, service.pid)
                await _upload(found, "through", through, f"/gateway/vidgo{UPLOAD}", service.pid)
            bound = await _all_bound(service, rounds * (orders + 10 * AT_ONCE) + beside)
            return found, bound and is_unasked


async def _order(
    found: dict[str, list[float]],
    name: str,
    http: LeanClient,
    path: str,
    numbers: "itertools.count[int]",
    orders: int,
) -> None:
    async def order(_: int) -> None:
        await http.post(path, json.dumps(_wish(numbers)).encode())

    seconds, _ = await _timed(order, orders, 1)
    _keep(found, f"{name} one at a time", seconds)
    seconds, rate = await _timed(order, 10 * AT_ONCE, AT_ONCE)
    _keep(found, f"{name} {AT_ONCE} at once", seconds)
    found.setdefault(f"{name} {AT_ONCE} at once rate", []).append(rate)


def _wish(numbers: "itertools.count[int]") -> dict[str, object]:
    return {"model": "gpt-image-2", "input": {"prompt": f"number {next(numbers)}"}}


async def _ask(found: dict[str, list[float]], service: Receiver, http: LeanClient) -> None:
    """Ask for the status of a task that has ended."""
    await service.submit("ended")
    (await service.http.post(service.callback_path(), content=sample_callback("vidgo", "ended", error="no")))

    async def ask(_: int) -> None:
        await http.get(f"{STATUS}ended")

    for _ in range(3):
        seconds, _rate = await _timed(ask, 300, 1)
        found.setdefault("status p50", []).append(1000 * statistics.median(seconds))
        _, rate = await _timed(ask, 1000, AT_ONCE)
        found.setdefault("status rate", []).append(rate)


async def _questions(provider: httpx2.AsyncClient) -> int:
    """How many status questions the provider has had."""
    return int((await provider.get("/questions")).text)


async def _call_back(
    found: dict[str, list[float]],
    service: Receiver,
    through: httpx2.AsyncClient,
    numbers: "itertools.count[int]",
) -> int:
    """Callbacks alone and beside orders, acknowledged in time; how many orders there were."""
    count = int(CALLBACKS_A_SECOND * BESIDE_SECONDS)
    tasks = [f"called {next(numbers)}" for _ in range(2 * count)]
    for task_id in tasks:
        await service.submit(task_id)
    path = service.callback_path()

    async def acknowledged(task_id: str) -> bool:
        began = time.perf_counter()
        answer = await service.http.post(path, content=sample_callback("vidgo", task_id, error="no"))
        return answer.is_success and time.perf_counter() - began <= IN_TIME_SECONDS

    async def order(_: str) -> bool:
        return (await through.post(THROUGH, json=_wish(numbers))).is_success

    alone = await _paced(acknowledged, tasks[:count], CALLBACKS_A_SECOND)
    orders = [""] * int(ORDERS_A_SECOND * BESIDE_SECONDS)
    beside, ordered = await asyncio.gather(
        _paced(acknowledged, tasks[count:], CALLBACKS_A_SECOND), _paced(order, orders, ORDERS_A_SECOND)
    )
    for name, rate in (("callbacks alone", alone), ("callbacks beside", beside), ("orders beside", ordered)):
        found.setdefault(name, []).append(rate)
    return len(orders)


async def _paced(call: Callable[[str], Awaitable[bool]], each: Sequence[str], a_second: int) -> float:
    """Begin so many calls a second, however long they take; how many a second went well."""
    began, calls = time.perf_counter(), []
    for number, one in enumerate(each):
        await asyncio.sleep(max(0.0, began + number / a_second - time.perf_counter()))
        calls.append(asyncio.ensure_future(call(one)))
    return sum(await asyncio.gather(*calls)) / (time.perf_counter() - began)


async def _upload(
    found: dict[str, list[float]], name: str, http: httpx2.AsyncClient, path: str, pid: int
) -> None:
    """MiB a second of an upload, and how much more memory the service took meanwhile.

    The sender looks at that on either way, as it takes a twentieth of its time.
    """
    before, most = resident_mib(pid), 0.0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal most
        for number in range(PIECES):
            if number % 50 == 0:
                most = max(most, resident_mib(pid) - before)
            yield PIECE

    mib = PIECES * len(PIECE) / 2**20
    headers = {"content-length": str(PIECES * len(PIECE)), "content-type": "application/octet-stream"}
    began = time.perf_counter()
    (await http.post(path, content=pieces(), headers=headers)).raise_for_status()
    found.setdefault(f"upload {name}", []).append(mib / (time.perf_counter() - began))
    found.setdefault(f"upload memory {name}", []).append(most)


async def _timed(call: Call, count: int, at_once: int) -> tuple[Sequence[float], float]:
    """The seconds of each of so many calls, and how many there were a second."""
    seconds: list[float] = []
    left = iter(range(count))

    async def lane() -> None:
        for number in left:
            began = time.perf_counter()
            await call(number)
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    return seconds, count / (time.perf_counter() - began)


def _keep(found: dict[str, list[float]], name: str, seconds: Sequence[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    found.setdefault(f"{name} p50", []).append(1000 * cuts[49])
    found.setdefault(f"{name} p99", []).append(1000 * cuts[98])


async def _all_bound(service: Receiver, count: int) -> bool:
    answer = await service.http.get("/stats", headers=bearer(ADMIN_TOKEN))
    unbound = sum(answer.json()["unbound"].values())
    metrics = (await service.http.get("/metrics")).text
    return (
        not unbound and f'receiver_orders_total{{provider="vidgo",state="bound"}} {float(count)}' in metrics
    )


@asynccontextmanager
async def client(base_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_keepalive_connections=AT_ONCE, max_connections=AT_ONCE)
    async with httpx2.AsyncClient(
        base_url=base_url, headers=bearer(KEY), trust_env=False, limits=limits, timeout=30.0
    ) as http:
        yield http


@asynccontextmanager
async def process(what: str, *arguments: str) -> AsyncIterator[str]:
    """The provider, or what passes on to it, in a process of its own; its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.gateway", what, str(port), *arguments], env=os.environ
    )
    try:
        async with httpx2.AsyncClient(trust_env=False) as http:

            async def answers() -> bool:
                try:
                    return (await http.post(f"http://127.0.0.1:{port}/")).is_success
                except httpx2.TransportError:
                    return False

            await until(answers, 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


_tasks = itertools.count()
_questions_asked: list[str] = []


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Take an order, 50 ms late, or an upload at once; and say how many questions there were."""
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/questions":
        await _send(send, b"%d" % len(_questions_asked))
        return
    if scope["method"] == "GET":
        _questions_asked.append(scope["path"])
    if scope["path"] != UPLOAD:
        await asyncio.sleep(DELAY_SECONDS)
    task_id = f"task-unified-{next(_tasks)}"
    body = json.dumps({"code": 200, "data": {"task_id": task_id, "status": "not_started"}}).encode()
    await _send(send, body)


async def _send(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Passing(asyncio.Protocol):
    """One end of a connection that is passed on, as fast as the other end takes."""

    def __init__(self, target: int, other: "Passing | None" = None) -> None:
        self._target = target  # where a caller is passed on to
        self._other = other
        self._early: list[bytes] = []  # before the other end is there
        self._transport: Any
        self._opening: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self._other is None:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._other = await loop.create_connection(
            lambda: Passing(self._target, self), "127.0.0.1", self._target
        )
        self._other._transport.write(b"".join(self._early))

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other._transport.write(data)

    def pause_writing(self) -> None:
        assert self._other is not None
        self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._other is not None
        self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other._transport.close()


async def relay(port: int, target: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Passing(target), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["provider"]:
        uvicorn.run(answer, host="127.0.0.1", port=int(sys.argv[2]), lifespan="off", log_level="critical")
    elif sys.argv[1:2] == ["relay"]:
        uvloop.run(relay(int(sys.argv[2]), int(sys.argv[3].rpartition(":")[2])))
    else:
        sys.exit(main())
