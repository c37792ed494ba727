"""What one callback costs in processor time, at the door and in the record.

    python -m tests.bench.record

No load generator and no socket: bytes are fed to the server's protocols over a store that keeps nothing, in
waves, and callbacks to a store on a disk in memory where there is one, in waves and alone. Each figure is the
least of several rounds, in microseconds for each callback: two trees are compared by running it in each, by
turns.
"""

import argparse
import asyncio
import io
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import msgspec
import uvicorn
import uvloop

from receiver.clock import Clock
from receiver.config.settings import load_settings
from receiver.ingest import Ingest
from receiver.logs import configure_logs
from receiver.models import (
    Proof,
    Receipt,
    Recording,
    RemoteFile,
    Report,
    ReportState,
    Submission,
    Verdict,
    Via,
)
from receiver.options import StoreOptions
from receiver.ports import Store
from receiver.runtime import Runtime, open_runtime
from receiver.stores.sqlite import SqliteStore
from receiver.testing import sample_callback
from receiver.web.app import build_app
from receiver.web.connections import BoundedHttpProtocol
from tests.bench.ingest import benchmark_task

CALLBACKS = 480  # in a round: few, so that some round meets no other work
WAVE = 48
MEMORY = "/dev/shm"


class ForgetfulStore:
    """Accepts everything and keeps nothing."""

    async def record(self, recording: Recording) -> Receipt:
        return Receipt(status=Verdict.ACCEPTED, task_id=recording.report.task_id)


class DeafTransport(asyncio.Transport):
    """Takes answers as they come, and counts them."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 9), "sockname": ("127.0.0.1", 8080)})
        self.answers = 0

    def write(self, data: object) -> None:
        assert cast("bytes", data).startswith(b"HTTP/1.1 200 "), data
        self.answers += 1

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


async def measure_door(folder: Path, rounds: int, *, of_submissions: bool) -> float:
    """Seconds for one callback that is read, checked, answered and logged, and not kept."""
    settings = load_settings({"RECEIVER_DATA_DIR": str(folder), "RECEIVER_SECRET": "only-for-this-bench"})
    async with open_runtime(settings) as runtime:
        ingest = Ingest(
            store=cast("Store", ForgetfulStore()),
            providers=runtime.providers,
            tokens=runtime.tokens,
            allow_untokened=False,
            wake=lambda _loops: None,
        )
        app = build_app(msgspec.structs.replace(runtime, ingest=ingest))
        config = uvicorn.Config(
            app,
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            lifespan="off",
        )
        config.load()
        transports = [DeafTransport() for _ in range(WAVE)]
        protocols = [BoundedHttpProtocol(config, uvicorn.server.ServerState(), {}) for _ in transports]
        for protocol, transport in zip(protocols, transports, strict=True):
            protocol.connection_made(transport)
        requests = [request(runtime, of_submissions=of_submissions) for _ in range(CALLBACKS)]
        spent: list[float] = []
        for round_ in range(rounds):
            before = time.thread_time()
            for first in range(0, CALLBACKS, WAVE):
                for protocol, data in zip(protocols, requests[first : first + WAVE], strict=True):
                    protocol.data_received(data)
                while any(
                    each.answers < round_ * CALLBACKS // WAVE + first // WAVE + 1 for each in transports
                ):
                    await asyncio.sleep(0)
            spent.append(time.thread_time() - before)
        for protocol in protocols:
            protocol.connection_lost(None)
        return min(spent) / CALLBACKS


def request(runtime: Runtime, *, of_submissions: bool) -> bytes:
    tokens, id_ = runtime.tokens, runtime.clock.new_id("sub")
    token = tokens.for_submission("vidgo", id_) if of_submissions else tokens.for_provider("vidgo")
    body = sample_callback("vidgo", f"task-unified-{id_}", files=["https://files.example/0.png"])
    head = (
        f"POST /callbacks/vidgo/{token} HTTP/1.1\r\nHost: receiver.example\r\nAccept: */*\r\n"
        "User-Agent: provider/1.0\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def measure_record(folder: Path, rounds: int, wave: int, *, of_submissions: bool) -> float:
    """Seconds for one callback that ends its task with one file, each with a share of its commit."""
    clock = Clock()
    store = await SqliteStore.open("sqlite:record.db", StoreOptions(data_dir=folder, clock=clock))
    spent: list[float] = []
    for round_ in range(rounds):
        numbers = range(round_ * CALLBACKS, (round_ + 1) * CALLBACKS)
        logged = [benchmark_task(clock, clock.now(), number) for number in numbers]
        await asyncio.gather(*(store.log_submission(each) for each in logged))
        recordings = [recording(each, of_submissions=of_submissions) for each in logged]
        before = time.process_time()
        for together in in_waves(recordings, wave):
            receipts = await asyncio.gather(*map(store.record, together))
            assert all(receipt.status is Verdict.ACCEPTED for receipt in receipts)
        spent.append((time.process_time() - before) / CALLBACKS)
    await store.aclose()
    return min(spent)


def in_waves(recordings: Sequence[Recording], wave: int) -> Iterator[Sequence[Recording]]:
    return (recordings[first : first + wave] for first in range(0, len(recordings), wave))


def recording(submission: Submission, *, of_submissions: bool) -> Recording:
    files = (RemoteFile(url=f"https://files.example/{submission.id}.png", kind="image"),)
    return Recording(
        provider="vidgo",
        via=Via.CALLBACK,
        proof=Proof.SUBMISSION if of_submissions else Proof.PROVIDER,
        submission_id=submission.id if of_submissions else None,
        body=sample_callback("vidgo", submission.task_id or "", files=[files[0].url]),
        digest=submission.id[-32:],
        fingerprint=submission.id[-32:],
        report=Report(task_id=submission.task_id, state=ReportState.COMPLETED, files=files),
        received_at=submission.created_at,
        links_die_at=submission.created_at,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="of each figure")
    rounds = parser.parse_args().rounds
    configure_logs("info", "json", io.TextIOWrapper(open(os.devnull, "wb")))  # noqa: SIM115, PTH123 - to the end
    with tempfile.TemporaryDirectory(
        prefix="receiver-record-", dir=MEMORY if Path(MEMORY).is_dir() else None
    ) as name:
        folder = Path(name)
        for of_submissions in (True, False):
            kind = "submission" if of_submissions else "provider"
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as `receiver serve` has it
                door = measure_door(folder / "door", rounds, of_submissions=of_submissions)
                show(f"door, waves of {WAVE}, {kind}'s token", runner.run(door))
        for wave in (WAVE, 1):
            for of_submissions in (True, False):
                kind = "submission" if of_submissions else "provider"
                where = folder / f"{wave}-{kind}"
                seconds = asyncio.run(measure_record(where, rounds, wave, of_submissions=of_submissions))
                show(f"record, {f'waves of {wave}' if wave > 1 else 'alone'}, {kind}'s token", seconds)


def show(what: str, seconds: float) -> None:
    print(f"{what:44} {seconds * 1e6:6.1f} us", flush=True)


if __name__ == "__main__":
    main()
