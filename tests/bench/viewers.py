"""What callbacks lose while people look at the admin pages, and what the pictures there cost.

    python -m tests.bench.viewers [--seconds 10] [--rounds 3] [--json]

The service runs on one core and takes callbacks from ``wrk`` (64 connections) as in ``tests.bench.ingest``:
by turns alone, and beside five viewers who load the overview every ten seconds and one who opens a grid of 48
tasks of which no picture was ever made. The process that draws them shares the service's core; the viewers
are on the other one, with the load. The grid may be there after it: how long it takes is told. Before
that, without load, it is measured what a cold grid takes: seconds, bytes, the service's memory, and the peak
of the process that draws. Afterwards the ledger is checked.

Needs ``wrk`` and Pillow. Exits 1 when a target is missed, a picture is, or the ledger does not agree.
"""

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2

from receiver.simulator.images import draw
from receiver.testing import sample_callback
from tests.bench.ingest import (
    CONNECTIONS,
    Load,
    Server,
    callback_path,
    count_accepted,
    load,
    log_submissions,
    pinned,
    receiver_process,
    silent_media_host,
    write_load,
)
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.media_host import media_host, says
from tests.support.page_callers import OURS, log_in
from tests.support.waiting import until

VIEWERS = 5
LOAD_SECONDS = 10.0  # between two loads of the overview by one viewer
TILES = 48
AT_ONCE = 6  # as browsers ask one host
VIEWER_TOKEN = "a-viewer-of-the-benchmark"
API_TOKEN = "a-backend-of-the-benchmark"
GRID = "/admin/tasks?view=grid&owner=of-pictures"
MIB = 2**20


class Opened(NamedTuple):
    """A grid with all of its pictures."""

    seconds: float
    bytes: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of each of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    add_json(parser)
    chosen = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install wrk", file=sys.stderr)
        return 2
    wait_for_quiet()
    with foreign() as cores, tempfile.TemporaryDirectory(prefix="receiver-bench-") as folder:
        rows, holds = asyncio.run(compare(Path(folder), chosen.seconds, chosen.rounds))
    return report(Result(rows=rows, foreign_cores=cores[0], holds=holds), as_json=chosen.json)


async def compare(folder: Path, seconds: int, rounds: int) -> tuple[list[Row], bool]:
    tasks = 14_000 * seconds * rounds * 2
    print(f"logging {tasks:,} submissions ...", file=sys.stderr, flush=True)
    data = folder / "data"
    await log_submissions(data, tasks)
    settings = {"RECEIVER_VIEWER_TOKENS": VIEWER_TOKEN, "RECEIVER_API_TOKENS": API_TOKEN}
    with ExitStack() as stack:
        media = stack.enter_context(silent_media_host())
        server = stack.enter_context(receiver_process(data, "info", settings))
        if pinned():
            os.sched_setaffinity(0, {1})  # nobody looks from the service's core
        await fill(server)
        async with people(server, VIEWERS + 1) as viewers:
            memory = await cold_memory(server, data, viewers)
            alone: list[Load] = []
            beside: list[Load] = []
            grids: list[Opened] = []
            for number in range(2 * rounds):
                script = write_load(folder, media, number * tasks // (2 * rounds))
                if number % 2:
                    done, opened = await looked_at(server, data, script, seconds, viewers)
                    beside.append(done)
                    grids.append(opened)
                else:
                    alone.append(await asyncio.to_thread(load, server.url + callback_path(), script, seconds))
        await asyncio.sleep(0.5)  # what was under way when wrk stopped is answered all the same
    answered = TILES + sum(each.answered for each in (*alone, *beside))
    recorded = await asyncio.to_thread(count_accepted, data)
    holds = answered <= recorded <= answered + CONNECTIONS * 2 * rounds
    print(f"answered 200: {answered:,}; accepted in the file: {recorded:,}", file=sys.stderr)
    late = Row(measure="  that grid", unit="s", ours=[each.seconds for each in grids])
    return [*rows_of(alone, beside), late, *memory], holds


async def fill(server: Server) -> None:
    """Tasks with a picture each, stored."""
    headers = {"authorization": f"Bearer {API_TOKEN}"}
    async with (
        media_host() as host,
        httpx2.AsyncClient(base_url=server.url, trust_env=False, headers=headers) as backend,
    ):
        for number in range(TILES):
            task_id = f"picture-{number}"
            link = host.put(f"/{number}", says(200, draw(task_id, 0).content))
            order = {"provider": "vidgo", "owner": "of-pictures", "task_id": task_id}
            (await backend.post("/submissions", json=order)).raise_for_status()
            body = sample_callback("vidgo", task_id, files=[link])
            (await backend.post(callback_path(), content=body)).raise_for_status()

        async def all_stored() -> bool:
            found = await backend.get("/tasks?owner=of-pictures&state=completed&limit=100")
            return len(found.json()["tasks"]) == TILES

        await until(all_stored, 60)


@asynccontextmanager
async def people(server: Server, count: int) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """So many browsers that are logged in."""
    limits = httpx2.Limits(max_connections=AT_ONCE)
    headers = {**OURS, "accept-encoding": "gzip"}
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            person = httpx2.AsyncClient(
                base_url=server.url, trust_env=False, limits=limits, headers=headers, timeout=60
            )
            found.append(await stack.enter_async_context(person))
            assert (await log_in(person, VIEWER_TOKEN)).status_code == 303
        yield found


async def looked_at(
    server: Server, data: Path, script: Path, seconds: int, viewers: Sequence[httpx2.AsyncClient]
) -> tuple[Load, Opened]:
    """One run of load, beside viewers, and the grid that one of them opened."""
    shutil.rmtree(data / "thumbs", ignore_errors=True)
    *overview, grid = viewers
    looking = [asyncio.create_task(_looks(person, place)) for place, person in enumerate(overview)]
    opening = asyncio.create_task(open_grid(grid))
    try:
        done = await asyncio.to_thread(load, server.url + callback_path(), script, seconds)
    finally:
        for task in looking:
            task.cancel()
        opened = await opening  # raises where a picture is missing
    return done, opened


async def _looks(person: httpx2.AsyncClient, place: int) -> None:
    await asyncio.sleep(place * LOAD_SECONDS / VIEWERS)
    while True:
        (await person.get("/admin/")).raise_for_status()
        await asyncio.sleep(LOAD_SECONDS)


async def open_grid(person: httpx2.AsyncClient) -> Opened:
    """The grid and all of its pictures, as a browser does that is scrolled to the end at once."""
    began = time.perf_counter()
    page = (await person.get(GRID)).raise_for_status()
    places = re.findall(r'src="(/admin/thumbs/[^"]+)"', page.text)
    answers = await asyncio.gather(*(person.get(place) for place in places))
    assert len(places) == TILES == sum(answer.status_code == 200 for answer in answers)
    sizes = [int(answer.headers["content-length"]) for answer in (page, *answers)]
    return Opened(time.perf_counter() - began, sum(sizes))


async def cold_memory(server: Server, data: Path, viewers: Sequence[httpx2.AsyncClient]) -> list[Row]:
    """What one cold grid takes when nothing else happens."""
    for person in viewers:
        await person.get("/admin/")
        await person.get(GRID)
    before = memory_mib(server.pid, "VmRSS")
    shutil.rmtree(data / "thumbs", ignore_errors=True)
    opened = await open_grid(viewers[-1])
    after = memory_mib(server.pid, "VmRSS")
    (drawing,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    peak = memory_mib(int(drawing), "VmHWM")
    return [
        Row(measure="cold grid of 48, alone", unit="s", ours=[opened.seconds]),
        Row(measure="  over the wire", unit="kB", ours=[opened.bytes / 1000], target=1200, at_most=True),
        Row(
            measure="  memory of the service", unit="MiB more", ours=[after - before], target=10, at_most=True
        ),
        Row(measure="  peak of what draws", unit="MiB", ours=[peak], target=320, at_most=True),
    ]


def memory_mib(pid: int, which: str) -> float:
    found = re.search(rf"^{which}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / MIB


def rows_of(alone: Sequence[Load], beside: Sequence[Load]) -> list[Row]:
    rate = Row(
        measure="callbacks beside viewers and a cold grid",
        unit="acks/s",
        ours=[each.rate for each in beside],
        yardstick="alone",
        theirs=[each.rate for each in alone],
        target=0.97,
    )
    late = Row(
        measure="  99th percentile",
        unit="ms",
        ours=[each.p99_ms for each in beside],
        yardstick="alone",
        theirs=[each.p99_ms for each in alone],
        target=1.03,
        at_most=True,
    )
    return [rate, late]


if __name__ == "__main__":
    sys.exit(main())
