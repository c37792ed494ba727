"""MB/s of files that go into a bucket through the asset store, beside the bare driver, and the memory for it.

    python -m tests.bench.s3 --files 32 --mib 20

On a SeaweedFS of its own, by turns in one run; both read the same files of the disk, so many at a time. The
growth of memory is of a process of its own, from before the first upload to the most that it ever had.
"""

import argparse
import asyncio
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import S3Store

from receiver.blobs.s3 import UPLOADS_AT_ONCE, S3Blobs
from receiver.fetching.client import open_plain_client
from receiver.options import AwsAccess, PluginOptions
from tests.bench.rows import Result, Row, add_json, foreign, report, wait_for_quiet
from tests.support.s3 import BUCKET, seaweedfs

MIB = 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--mib", type=int, default=20, help="of each file")
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    args = parser.parse_args()
    wait_for_quiet()
    with foreign() as cores, tempfile.TemporaryDirectory() as name, seaweedfs(Path(name)) as server:
        folder = Path(name)
        whole = folder / "whole"
        whole.write_bytes(os.urandom(args.mib * MIB))
        ours, bare = [], []
        for _ in range(args.rounds):
            ours.append(_through_us(server.access, folder, whole, args.files))
            bare.append(_bare(server.store(), folder, whole, args.files))
        growth = _growth(server.access, folder, whole, args.files)
    rows = [
        Row(
            measure=f"uploads to S3, {args.files} x {args.mib} MiB",
            unit="MB/s",
            ours=ours,
            yardstick="the bare driver",
            theirs=bare,
            target=0.85,
        ),
        Row(
            measure=f"memory over idle, {args.files} x {args.mib} MiB to S3",
            unit="MiB",
            ours=[growth / MIB],
            target=96,
            at_most=True,
        ),
    ]
    return report(Result(rows=rows, foreign_cores=cores[0]), as_json=args.json)


def _growth(access: AwsAccess, folder: Path, whole: Path, count: int) -> int:
    """Bytes, of a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours_end, theirs = context.Pipe()
    process = context.Process(target=_measure_growth, args=(access, folder, whole, count, theirs))
    process.start()
    growth: int = ours_end.recv()
    process.join()
    return growth


def _copies(folder: Path, whole: Path, count: int) -> list[Path]:
    """Files to be uploaded, as downloads leave them."""
    paths = [folder / f"copy-{number}" for number in range(count)]
    for path in paths:
        shutil.copyfile(whole, path)
    return paths


def _through_us(access: AwsAccess, folder: Path, whole: Path, count: int) -> float:
    return asyncio.run(_put_all(access, folder, _copies(folder, whole, count)))


async def _put_all(access: AwsAccess, folder: Path, paths: list[Path]) -> float:
    size = sum(path.stat().st_size for path in paths)
    async with open_plain_client() as http:
        options = PluginOptions(name="RECEIVER_ASSETS_URL", data_dir=folder, http=http, aws=access)
        blobs = S3Blobs.from_url(f"s3://{BUCKET}", options)
    began = time.monotonic()
    await asyncio.gather(*(blobs.put(f"bench/{path.name}/0.png", path, "image/png") for path in paths))
    seconds = time.monotonic() - began
    await blobs.aclose()
    return size / seconds / 1e6


def _bare(store: S3Store, folder: Path, whole: Path, count: int) -> float:
    paths = _copies(folder, whole, count)
    began = time.monotonic()
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        list(pool.map(lambda path: obstore.put(store, f"bare/{path.name}", path), paths))
    seconds = time.monotonic() - began
    return count * whole.stat().st_size / seconds / 1e6


def _measure_growth(
    access: AwsAccess,
    folder: Path,
    whole: Path,
    count: int,
    told: "multiprocessing.connection.Connection[int, int]",
) -> None:
    before = _status("VmRSS")
    asyncio.run(_put_all(access, folder, _copies(folder, whole, count)))
    told.send(_status("VmHWM") - before)


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
