"""How many callbacks a second one core acknowledges, beside a bare endpoint that only reads the body.

    python -m tests.bench.ingest

Both servers are uvicorn in one process, pinned to one core (where the machine has two or more; the load
generator gets the others), and take the same load from ``wrk`` with 64 connections in turn, so that the
ratio holds on a noisy machine. Every request of the receiver's share is another task's first finished
callback with one file: token check, parsing and the whole record transaction (delivery, owner, event,
asset) with an fsynced commit. Downloads are held back by a media host that never answers. Afterwards the
ledger is checked: as many accepted deliveries in the file as answers of 200.

Needs ``wrk``. Exits 1 when the ratio is under 0.5 or the ledger does not agree.
"""

import argparse
import asyncio
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx2

from receiver.clock import Clock
from receiver.models import Submission
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.tokens import Tokens

TARGET = 0.5
CONNECTIONS = 64
SECRET = "a-secret-only-for-this-benchmark"

BARE = """
import sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def read(request):
    await request.body()
    return JSONResponse({"status": "ok"})

uvicorn.run(Starlette(routes=[Route("/{rest:path}", read, methods=["POST"])]), host="127.0.0.1",
    port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
"""

# Each connection's thread has its own range of task ids: none is sent twice.
LOAD = """
local thread_count = 0
function setup(thread) thread:set("first", thread_count * RANGE); thread_count = thread_count + 1 end
function init(args) number = first end
function request()
  number = number + 1
  local body = string.format('{"code":200,"data":{"task_id":"task-unified-%d-benchmark",' ..
    '"status":"finished","files":[{"file_url":"http://127.0.0.1:MEDIA/generated/image-%d.jpg",' ..
    '"file_type":"image"}],"created_time":"2025-11-12T10:30:00","progress":100,"error_message":null}}',
    number, number)
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server")
    parser.add_argument("--log-level", default="info", help="of the receiver; info logs every callback")
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        return compare(Path(folder), chosen.seconds, chosen.rounds, chosen.log_level)


def compare(folder: Path, seconds: int, rounds: int, log_level: str) -> int:
    tasks = 12_000 * seconds * rounds
    print(f"logging {tasks} submissions ...", flush=True)
    asyncio.run(log_submissions(folder, tasks))
    pairs: list[tuple[float, float]] = []
    answered = 0
    with silent_media_host() as media, bare_server() as bare, receiver_server(folder, log_level) as receiver:
        for number in range(rounds):
            first = number * tasks // rounds
            script = write_load(folder, media, first)
            bare_rate = load(f"{bare}/callbacks/vidgo/x", script, seconds).rate
            done = load(receiver + callback_path(), script, seconds)
            rate = done.rate
            answered += done.answered
            pairs.append((rate, bare_rate))
            print(
                f"round {number + 1}: receiver {rate:,.0f}/s, bare {bare_rate:,.0f}/s, {rate / bare_rate:.2f}"
            )
        time.sleep(0.5)  # what was under way when wrk stopped is answered, though wrk does not count it
    recorded = count_accepted(folder)
    ratio = statistics.median(rate / bare_rate for rate, bare_rate in pairs)
    ledger = answered <= recorded <= answered + CONNECTIONS * rounds
    agreement = "agrees" if ledger else "DIFFERS"
    print(f"answered 200: {answered:,}; accepted in the file: {recorded:,} ({agreement})")
    print(f"median ratio {ratio:.2f} (target {TARGET})")
    return 0 if ratio >= TARGET and ledger else 1


async def log_submissions(folder: Path, count: int) -> None:
    clock = Clock()
    store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=folder, clock=clock))
    now = clock.now()
    for first in range(0, count, 5000):
        rows = [benchmark_task(clock, now, n + 1) for n in range(first, min(first + 5000, count))]
        await asyncio.gather(*(store.log_submission(row) for row in rows))
    await store.aclose()


def benchmark_task(clock: Clock, now: datetime, number: int) -> Submission:
    return Submission(
        id=clock.new_id("sub"),
        provider="vidgo",
        owner="user-17",
        task_id=f"task-unified-{number}-benchmark",
        model="gpt-image-2",
        request=None,
        metadata={},
        created_at=now,
        bound_at=now,
    )


def write_load(folder: Path, media: int, first: int) -> Path:
    script = folder / "load.lua"
    text = LOAD.replace("MEDIA", str(media)).replace("thread_count * RANGE", str(first))
    script.write_text(text)
    return script


class Load(NamedTuple):
    """What came of some seconds of load."""

    rate: float  # requests a second that were answered by 200
    answered: int  # by 200
    p50_ms: float
    p99_ms: float


def callback_path() -> str:
    return f"/callbacks/vidgo/{Tokens([SECRET]).for_provider('vidgo')}"


def load(url: str, script: Path, seconds: int, connections: int = CONNECTIONS) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run([*pinned_away(), *command], check=True, capture_output=True, text=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    if bad:
        print(f"  {bad[0]}", file=sys.stderr)
    total = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])  # type: ignore[index]
    refused = int(bad[1]) if bad else 0
    share = (total - refused) / max(total, 1)
    return Load(rate * share, total - refused, latency_ms(out, 50), latency_ms(out, 99))


def latency_ms(out: str, percent: int) -> float:
    number, unit = re.search(rf" {percent}%\s+([\d.]+)(us|ms|s)", out).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


@contextmanager
def bare_server() -> Iterator[str]:
    port = free_port()
    with served([sys.executable, "-c", BARE, str(port)], dict(os.environ), port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def receiver_server(
    folder: Path, log_level: str, settings: Mapping[str, str] = {}, *, is_pinned: bool = True
) -> Iterator[str]:
    """A receiver with its data in this folder, and more settings by their names."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
    environ = kept | {
        "RECEIVER_DATA_DIR": str(folder),
        "RECEIVER_SECRET": SECRET,
        "RECEIVER_HOST": "127.0.0.1",
        "PORT": str(port),
        "RECEIVER_ALLOW_NETWORKS": "127.0.0.0/8",
        "RECEIVER_ASSET_CONCURRENCY": "1",
        "RECEIVER_ASSET_TIMEOUT_SECONDS": "3600",
        "RECEIVER_LOG_LEVEL": log_level,
    }
    environ |= settings
    with served([sys.executable, "-m", "receiver", "serve"], environ, port, is_pinned=is_pinned):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def served(
    command: list[str], environ: dict[str, str], port: int, *, is_pinned: bool = True
) -> Iterator[None]:
    # The log goes to a file, as it would on a machine of one's own.
    with tempfile.TemporaryFile() as output:
        core = pinned() if is_pinned else []
        child = subprocess.Popen([*core, *command], env=environ, stdout=output, stderr=output)
        try:
            wait_for(port, child)
            yield
        finally:
            child.terminate()
            child.wait(timeout=20)


def wait_for(port: int, child: "subprocess.Popen[bytes]") -> None:
    for _ in range(200):
        if child.poll() is not None:
            raise SystemExit(f"{child.args!r} ended with {child.returncode}")
        try:
            httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("a server did not start within 10 s")


@contextmanager
def silent_media_host() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def pinned() -> list[str]:
    return ["taskset", "-c", "0"] if (os.cpu_count() or 1) > 1 and shutil.which("taskset") else []


def pinned_away() -> list[str]:
    return ["taskset", "-c", "1"] if pinned() else []


def count_accepted(folder: Path) -> int:
    async def count() -> int:
        store = await SqliteStore.open("sqlite:receiver.db", StoreOptions(data_dir=folder, clock=Clock()))
        stats = await store.count_stats()
        await store.aclose()
        return stats.deliveries.get("accepted", 0)

    return asyncio.run(count())


if __name__ == "__main__":
    sys.exit(main())
