"""How many callbacks a second one core acknowledges, beside a bare endpoint that only reads the body.

    python -m tests.bench.ingest [--against COMMIT] [--json]

All servers are uvicorn in one process, pinned to one core (where the machine has two or more; the load
generator gets the others), and take the same load from ``wrk`` with 64 connections and with 256, in turn, so
that the ratio holds on a noisy machine. Every request of the receiver's share is another task's first
finished callback with one file: token check, parsing and the whole record transaction (delivery, owner,
event, asset) with an fsynced commit. Downloads are held back by a media host that never answers.
Afterwards the ledger is checked: as many accepted deliveries in the file as answers of 200. Processor time is
the system's count for each thread, over answers of 200; beside the event loop's there are the writer's and
the log's.

``--against`` adds the receiver of another commit, from a work tree of its own. Needs ``wrk``. Exits 1 when a
ratio is under its target or the ledger does not agree.
"""

import argparse
import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx2

from receiver.clock import Clock
from receiver.models import Submission
from receiver.options import StoreOptions
from receiver.stores.sqlite import SqliteStore
from receiver.tokens import Tokens
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet

CONNECTIONS = 64
TARGETS = {CONNECTIONS: 0.80, 256: 0.85}  # by the number of connections
ROOT = Path(__file__).parents[2]

# Another commit's own code makes its file, and reads it.
LOG_THERE = """
import asyncio, sys
from pathlib import Path
from tests.bench.ingest import log_submissions
asyncio.run(log_submissions(Path(sys.argv[1]), int(sys.argv[2])))
"""
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


class Server(NamedTuple):
    """One that takes the load."""

    url: str
    pid: int


class Measured(NamedTuple):
    """What came of one run."""

    rate: float  # answers of 200 a second
    loop_us: float  # of processor time for each, in the event loop's thread
    other_us: float  # in all others


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each server")
    parser.add_argument("--log-level", default="info", help="of the receiver; info logs every callback")
    parser.add_argument("--against", metavar="COMMIT", help="a receiver of this commit, too")
    add_json(parser)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    wait_for_quiet()
    with foreign() as cores, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="receiver-bench-")))
        trees = {"receiver": ROOT}
        if chosen.against:
            trees[chosen.against] = stack.enter_context(work_tree(chosen.against, folder / "tree"))
        rows, holds = compare(folder, trees, chosen.seconds, chosen.rounds, chosen.log_level)
    return report(Result(rows=rows, foreign_cores=cores[0], holds=holds), as_json=chosen.json)


def compare(
    folder: Path, trees: Mapping[str, Path], seconds: int, rounds: int, log_level: str
) -> tuple[list[Row], bool]:
    tasks = 14_000 * seconds * rounds * len(TARGETS)
    runs: dict[tuple[str, int], list[Measured]] = {}
    answered = 0
    for name, tree in trees.items():
        print(f"{name}: logging {tasks:,} submissions ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-c", LOG_THERE, str(folder / name), str(tasks)]
        subprocess.run(command, check=True, cwd=tree)
    with ExitStack() as stack:
        media = stack.enter_context(silent_media_host())
        servers = {"bare": stack.enter_context(bare_server())}
        for name, tree in trees.items():
            servers[name] = stack.enter_context(receiver_process(folder / name, log_level, tree=tree))
        for number in range(rounds):
            for place, connections in enumerate(TARGETS):
                first = (number * len(TARGETS) + place) * tasks // (rounds * len(TARGETS))
                script = write_load(folder, media, first)
                for name, server in servers.items():
                    measured, count = measure(server, script, seconds, connections)
                    runs.setdefault((name, connections), []).append(measured)
                    answered += count if name == "receiver" else 0
        time.sleep(0.5)  # what was under way when wrk stopped is answered, though wrk does not count it
    recorded = count_accepted(folder / "receiver")
    holds = answered <= recorded <= answered + sum(TARGETS) * rounds
    agreement = "agrees" if holds else "DIFFERS"
    print(f"answered 200: {answered:,}; accepted in the file: {recorded:,} ({agreement})", file=sys.stderr)
    return [row for connections in TARGETS for row in rows_of(runs, connections, [*trees][1:])], holds


def rows_of(
    runs: Mapping[tuple[str, int], Sequence[Measured]], connections: int, others: Sequence[str]
) -> Iterator[Row]:
    ours, bare = runs["receiver", connections], runs["bare", connections]
    yield Row(
        measure=f"callbacks, {connections} connections",
        unit="acks/s",
        ours=[each.rate for each in ours],
        yardstick="bare Starlette",
        theirs=[each.rate for each in bare],
        target=TARGETS[connections],
    )
    yield Row(
        measure=f"processor, {connections} connections",
        unit="us/ack",
        ours=[each.loop_us + each.other_us for each in ours],
        yardstick="bare Starlette",
        theirs=[each.loop_us + each.other_us for each in bare],
    )
    yield Row(measure="  event loop", unit="us/ack", ours=[each.loop_us for each in ours])
    yield Row(measure="  other threads", unit="us/ack", ours=[each.other_us for each in ours])
    for name in others:
        theirs = runs[name, connections]
        yield Row(
            measure=f"callbacks, {connections}, to {name}",
            unit="acks/s",
            ours=[each.rate for each in ours],
            yardstick=name,
            theirs=[each.rate for each in theirs],
        )
        yield Row(
            measure=f"processor, {connections}, to {name}",
            unit="us/ack",
            ours=[each.loop_us + each.other_us for each in ours],
            yardstick=name,
            theirs=[each.loop_us + each.other_us for each in theirs],
        )


def measure(server: Server, script: Path, seconds: int, connections: int) -> tuple[Measured, int]:
    """One run, and how many answers of 200 it had."""
    loop_before, others_before = spent_us(server.pid)
    done = load(server.url + callback_path(), script, seconds, connections)
    loop, others = spent_us(server.pid)
    count = max(done.answered, 1)
    return Measured(done.rate, (loop - loop_before) / count, (others - others_before) / count), done.answered


def spent_us(pid: int) -> tuple[float, float]:
    """Processor time so far, of a process's first thread and of all others (``/proc/PID/task/*``)."""
    by_thread = {
        int(task.name): int((task / "schedstat").read_text().split()[0]) / 1000
        for task in Path(f"/proc/{pid}/task").iterdir()
    }
    return by_thread[pid], sum(by_thread.values()) - by_thread[pid]


@contextmanager
def work_tree(commit: str, place: Path) -> Iterator[Path]:
    """Another commit's files."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], check=True)
    try:
        yield place
    finally:
        subprocess.run([*git, "remove", "--force", str(place)], check=True)


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
def bare_server() -> Iterator[Server]:
    port = free_port()
    with served([sys.executable, "-c", BARE, str(port)], dict(os.environ), port) as pid:
        yield Server(f"http://127.0.0.1:{port}", pid)


@contextmanager
def receiver_server(
    folder: Path, log_level: str, settings: Mapping[str, str] = {}, *, is_pinned: bool = True
) -> Iterator[str]:
    """The URL of a receiver with its data in this folder, and more settings by their names."""
    with receiver_process(folder, log_level, settings, is_pinned=is_pinned) as server:
        yield server.url


@contextmanager
def receiver_process(
    folder: Path,
    log_level: str,
    settings: Mapping[str, str] = {},
    *,
    is_pinned: bool = True,
    tree: Path = ROOT,
    python: str = sys.executable,
) -> Iterator[Server]:
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
    command = [python, "-m", "receiver", "serve"]
    with served(command, environ, port, is_pinned=is_pinned, cwd=tree) as pid:
        yield Server(f"http://127.0.0.1:{port}", pid)


@contextmanager
def served(
    command: list[str], environ: dict[str, str], port: int, *, is_pinned: bool = True, cwd: Path = ROOT
) -> Iterator[int]:
    """The process's id, once it listens."""
    # The log goes to a file, as it would on a machine of one's own.
    with tempfile.TemporaryFile() as output:
        core = pinned() if is_pinned else []
        child = subprocess.Popen([*core, *command], env=environ, stdout=output, stderr=output, cwd=cwd)
        try:
            wait_for(port, child)
            yield child.pid
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
